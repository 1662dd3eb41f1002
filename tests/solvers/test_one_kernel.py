"""A solve as one CPU function changes nothing but the time: what goes in compiles, what does not is known, and results
are those of the plain loop.

Direct calls with concrete arrays go that way; with the eight devices of these tests, calls under `jit` and `vmap` do
not, unless a test says that there is one device.
"""

import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import NamedSharding, PartitionSpec

import jaxopt_lectures as jol
from jaxopt_lectures.solvers import one_kernel
from jaxopt_lectures.solvers.one_kernel import as_one_kernel, fits
from jaxopt_lectures.solvers.solve import solve
from tests.problems import rosenbrock

MINIMIZE = sys.modules["jaxopt_lectures.solvers.minimize"]
NOTE = "xla_cpu_small_call"


@pytest.fixture
def one_device(monkeypatch):
    """As on a machine with one device, where traced arrays are known to lie on it."""
    monkeypatch.setattr(jax, "device_count", lambda: 1)


@pytest.fixture
def lowered(monkeypatch):
    """The lowered texts of the solves that are asked for with concrete arrays."""
    texts = []

    def recorded(*arguments):
        if any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(arguments[2:])):
            return solve(*arguments)
        program = solve.lower(*arguments)
        texts.append(program.as_text())
        return program.compile()(*arguments[2:])  # the first two are part of the program

    monkeypatch.setattr(MINIMIZE, "solve", recorded)
    return texts


@pytest.fixture
def text_of(monkeypatch):
    """`jol.minimize`, but what it returns is the lowered text: nothing is compiled."""
    monkeypatch.setattr(MINIMIZE, "solve", lambda *arguments: solve.lower(*arguments).as_text())
    return jol.minimize


# ---- all that is let in compiles, and computes the same

X = np.random.default_rng(1).uniform(-1.5, 1.5, 6)
A = np.random.default_rng(0).normal(size=(5, 6))


def number(v, x):
    return jnp.asarray(v, x.dtype)


def elementary(x):
    y, z = x * x + 1, x / 9
    value = jnp.sin(x) * jnp.cos(x) + jnp.tan(z) + jnp.asin(z) + jnp.acos(z) + jnp.atan(x) + jnp.atan2(x, y)
    value += jnp.sinh(x) + jnp.cosh(x) + jnp.tanh(x) + jnp.asinh(x) + jnp.acosh(y + 1) + jnp.atanh(z)
    value += jnp.exp(x) + jnp.exp2(x) + jnp.expm1(x) + jnp.log(y) + jnp.log1p(y) + jnp.cbrt(x)
    return jnp.sum(value + lax.rsqrt(y) + jnp.sqrt(y) + jnp.power(y, x) + x**3 + jnp.square(x) - jax.nn.sigmoid(x))


def special(x):
    y = x * x + 1
    value = lax.erf(x) + lax.erfc(x) + lax.erf_inv(x / 9) + lax.lgamma(y) + lax.digamma(lax.stop_gradient(y)) * x
    return jnp.sum(value + jax.nn.softplus(x) + jax.nn.gelu(x) + jax.nn.relu(x)) + jax.nn.logsumexp(x)


def stepped(x):
    """Comparisons, integers, bits, roundings."""
    i = jnp.arange(6, dtype=jnp.int32)
    j, k = (i ^ 3) & 5 | ~i, lax.rem(i, jnp.int32(4)) - lax.neg(i) * lax.abs(i)
    mask = (x > 0) & (x < 2) | ~(x >= 1) ^ (x <= 0.5)
    value = jnp.where(mask, x * x, -x) + jnp.where(x == 1, x, 2 * x) + jnp.where(x != 1, x, 3 * x)
    value += (
        lax.clamp(number(-1, x), x, number(1, x))
        + jnp.maximum(x, 0.5)
        + jnp.minimum(x, 0.5)
        + jnp.abs(x)
        + lax.rem(x, number(1.3, x))
    )
    value += jnp.floor(x) + jnp.ceil(x) + jnp.round(x) + jnp.sign(x) + (j * k).astype(x.dtype) * x
    still = lax.stop_gradient(x)
    bits = lax.bitcast_convert_type(still, jnp.int32 if x.dtype == jnp.float32 else jnp.int64)
    value += x * (jnp.nextafter(still, number(9, x)) + lax.bitcast_convert_type(bits, x.dtype))
    good = jnp.all(jnp.isfinite(x)) & ~jnp.any(x > 9)
    return jnp.where(good, jnp.sum(value), 0)


def shaped(x):
    m, (a, b) = x.reshape(2, 3), jnp.split(x, 2)
    value = jnp.sum(jnp.pad(m, ((1, 1), (0, 2))) ** 2) + jnp.sum(jnp.concatenate([a, b[::-1]]) ** 2)
    value += jnp.sum(jnp.flip(m, 0)[:, 1:] ** 3) + jnp.sum(x[None, ::2, None] * 2) + jnp.sum(jnp.roll(x, 1) * x)
    value += jnp.sum(m.T * number(np.arange(6.0).reshape(3, 2), x)) + x[0] * x[-1] + jnp.squeeze(x[:1])
    i = lax.convert_element_type(jnp.floor(lax.stop_gradient(x[0])), jnp.int32) + 3
    value += lax.dynamic_index_in_dim(x, i, keepdims=False) ** 2
    return value + jnp.sum(lax.dynamic_update_slice(x, x[:2] * 2, (i,)) ** 2)


def reduced(x):
    m = x.reshape(2, 3)
    value = (
        jnp.max(x)
        + jnp.min(x)
        + x[0] * jnp.prod(lax.stop_gradient(x))
        + jnp.mean(x)
        + jnp.var(x)
        + jnp.sum(jnp.cumsum(m, axis=1) ** 2)
    )
    return value + jnp.sum(jnp.prod(m, axis=1)) + jnp.sum(jnp.max(m, axis=0) ** 2) + jnp.linalg.norm(x)


@jax.custom_vjp
def own_gradient(x):
    return jnp.sum(x * x)


own_gradient.defvjp(lambda x: (own_gradient(x), x), lambda x, g: (2 * g * x,))


def looped(x):
    value = lax.scan(lambda a, b: (a / 2 + b * b, a), number(0, x), x)[0]
    value += jnp.sum(lax.fori_loop(0, 4, lambda i, a: a / 2 + jnp.sin(a) * i.astype(a.dtype), x))
    still = lax.stop_gradient(x)
    value += x[0] * jnp.sum(lax.while_loop(lambda a: jnp.sum(a) < 50, lambda a: 2 * a + 1, still * still))
    value += x[1] * lax.cond(still[0] > 0, jnp.sum, jnp.prod, still) + own_gradient(x)
    return value + jnp.sum(jnp.where(value > 0, x, x * x)) + jnp.sum(lax.map(lambda a: jnp.sin(a) * a, x))


def multiplied(x):
    """Products with a vector: A x, x A', and outer ones."""
    r = number(A, x) @ x - 1
    return jnp.sum(r * r) + jnp.sum((x @ number(A.T, x)) ** 2) + jnp.sum(jnp.outer(x, x) * number(np.eye(6), x))


COMPILED = {f.__name__: f for f in (elementary, special, stepped, shaped, reduced, looped, multiplied)}
# Words of other versions of JAX, and of copies, which no function here makes.
UNREACHED = {"copy", "closed_call", "pjit"}


def names(jaxpr, found):
    """The primitives of a program and of the programs in it."""
    for equation in jaxpr.eqns:
        found.add(equation.primitive.name)
        for part in jax.tree.leaves(list(equation.params.values()), is_leaf=lambda p: hasattr(p, "eqns")):
            if hasattr(part, "eqns"):
                names(getattr(part, "jaxpr", part), found)
    return found


def both(fun):
    """Value and gradient at a few points, one after the other in a loop: as one function, and plainly."""
    valued = jax.value_and_grad(fun)

    def run(x):
        def turn(i, carry):
            value, gradient = valued(x * (1 - i.astype(x.dtype) / 8))
            return carry[0].at[i].set(value), carry[1].at[i].set(gradient)

        return lax.fori_loop(0, 3, turn, (jnp.zeros(3, x.dtype), jnp.zeros((3, *x.shape), x.dtype)))

    return jax.jit(as_one_kernel(run)), jax.jit(run)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", COMPILED)
def test_what_is_let_in_compiles_and_computes_the_same(name, dtype):
    with jax.enable_x64(dtype == "float64"):
        x = jnp.asarray(X, dtype)
        assert fits(jax.make_jaxpr(jax.value_and_grad(COMPILED[name]))(x))
        one, plain = both(COMPILED[name])
        assert one.lower(x).as_text().count(NOTE) == 1
        assert NOTE not in plain.lower(x).as_text()
        for found, expected in zip(one(x), plain(x), strict=True):
            # The same operations; sums of up to 30 terms may be taken in another order, products and sums fused.
            scale = float(jnp.max(jnp.abs(expected)))
            np.testing.assert_allclose(found, expected, rtol=0, atol=30 * float(jnp.finfo(dtype).eps) * scale)


def test_every_word_is_compiled_by_one_of_these():
    found = set()
    for fun in COMPILED.values():
        names(jax.make_jaxpr(jax.value_and_grad(fun))(jnp.asarray(X, jnp.float32)).jaxpr, found)
    assert (one_kernel._SIMPLE | one_kernel._NESTED) - found <= UNREACHED


# ---- what is refused

INDEX = np.array([0, 2, 2, 5])
REFUSED = {
    "sort": lambda x: jnp.sum(jnp.sort(x) * jnp.arange(6.0)),
    "median": lambda x: jnp.median(x),
    "gather": lambda x: jnp.sum(x[INDEX] ** 2),  # its gradient is a scatter
    "solve": lambda x: jnp.sum(jnp.linalg.solve(jnp.eye(6) + jnp.outer(x, x), x)),
    "cholesky": lambda x: jnp.sum(jnp.linalg.cholesky(jnp.eye(6) + jnp.outer(x, x))),
    "fft": lambda x: jnp.sum(jnp.abs(jnp.fft.rfft(x)) ** 2),
    "matmul": lambda x: jnp.sum((x.reshape(2, 3) @ x.reshape(3, 2)) ** 2),
    "batched": lambda x: jnp.sum(jnp.einsum("bi,bij->bj", x.reshape(2, 3), jnp.ones((2, 3, 2))) ** 2),
    "convolution": lambda x: jnp.sum(jnp.convolve(x, jnp.ones(3)) ** 2),
    "long_sum": lambda x: jnp.sum(x[0] * jnp.ones(2049)),
    "large": lambda x: jnp.max(x[0] * jnp.ones(16385)),
    "random": lambda x: jnp.sum(x * jax.random.normal(jax.random.key(0), (6,))),
    "callback": lambda x: jax.pure_callback(lambda: np.float32(1), jax.ShapeDtypeStruct((), jnp.float32)) * x[0],
    "inside_a_loop": lambda x: lax.fori_loop(0, 3, lambda i, a: jnp.sort(a), x)[0],
    "inside_a_branch": lambda x: lax.cond(x[0] > 0, lambda: jnp.sort(x)[0], lambda: x[1]),
    "inside_a_function": lambda x: jax.jit(jnp.sort)(x)[0],
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_work_is_refused(name):
    x = jnp.asarray(X, jnp.float32)
    program = REFUSED[name] if name in ("callback", "inside_a_loop") else jax.value_and_grad(REFUSED[name])
    assert not fits(jax.make_jaxpr(program)(x))


def test_sizes_are_let_in_up_to_their_limits():
    x = jnp.asarray(X, jnp.float32)
    assert fits(jax.make_jaxpr(lambda x: jnp.sum(x[0] * jnp.ones(2048)))(x))
    assert fits(jax.make_jaxpr(lambda x: x[0] * jnp.ones(16384))(x))
    for size, expected in ((16384, True), (16385, False)):
        assert fits(jax.make_jaxpr(jnp.sin)(jax.ShapeDtypeStruct((size,), jnp.float32))) == expected
        assert one_kernel.small({"a": jax.ShapeDtypeStruct((size,), jnp.float32)}) == expected


def test_arrays_on_several_devices_are_refused():
    """As what a function closes over, and as what it is given."""
    mesh = jax.make_mesh((4,), ("a",))
    spread = jax.device_put(jnp.ones(8), NamedSharding(mesh, PartitionSpec("a")))
    x = jnp.asarray(X, jnp.float32)
    assert not fits(jax.make_jaxpr(lambda x: jnp.sum(x) * jnp.max(spread))(x))
    assert fits(jax.make_jaxpr(lambda x: jnp.sum(x) * jnp.max(jnp.ones(8)))(x))
    assert not one_kernel.on_one_device({"a": spread})
    assert one_kernel.on_one_device({"a": x, "b": np.ones(3), "c": 2.0})
    seen = []
    jax.jit(lambda x: seen.append(one_kernel.on_one_device(x)))(x)
    assert seen == [False]  # of a traced array that is not known here


# ---- whole solves


def parabola(x, centre):
    return jnp.sum((x - centre) ** 2 * (1 + jnp.arange(x.size).astype(x.dtype)))


def sorted_parabola(x, centre):
    return parabola(x, centre) + 0 * jnp.sort(x)[0]


CENTRE = np.array([1.0, -2.0, 3.0], np.float32)
START = np.zeros(3, np.float32)


def test_a_small_solve_is_marked_once_and_others_are_not(text_of):
    for fun, method, expected in (
        (parabola, "lbfgs", 1),
        (parabola, "newton_cg", 1),
        (sorted_parabola, "lbfgs", 0),
        (parabola, "lbfgsb", 0),  # its linear algebra is a library's
    ):
        assert text_of(fun, START, (CENTRE,), method).count(NOTE) == expected, (fun, method)
    told = text_of(parabola, START, (CENTRE,), callback=lambda result: None)
    assert NOTE not in told  # such a function cannot call out


def test_a_large_solve_is_not_marked(text_of):
    """L-BFGS remembers eleven rows of s, and as many of y: 11 n elements are held."""
    for n, expected in ((1489, 1), (1490, 0)):
        assert text_of(lambda x: jnp.max(jnp.abs(x)), np.ones(n, np.float32)).count(NOTE) == expected, n


def least_squares(x, A, b):
    r = A @ x - b
    return jnp.sum(r * r) + jnp.sum(x**4)


def pendulum(x, steps):
    """A scan: half a swing, started with an angle and a speed."""

    def step(state, h):
        angle, speed = state
        speed = speed - h * jnp.sin(angle)
        return (angle + h * speed, speed), angle

    (angle, speed), angles = lax.scan(step, (x[0], x[1]), steps)
    return (angle - 1) ** 2 + speed**2 + jnp.sum(angles**2) / 10


def huber(x, centre):
    d = x - centre
    return jnp.sum(jnp.where(jnp.abs(d) < 1, d * d / 2, jnp.abs(d) - 0.5))


def looked_up(x, place):
    return (lax.dynamic_index_in_dim(x, place, keepdims=False) - 2) ** 2 + jnp.sum(x * x)


def log_sum(x, centre):
    return jax.nn.logsumexp(x - centre) + jnp.sum((x - centre) ** 2) / 2


SOLVED = {
    "elementwise": (rosenbrock(6).fun, rosenbrock(6).start, ()),
    "least_squares": (least_squares, np.zeros(6), (A, np.arange(5.0))),
    "scan": (pendulum, np.array([0.5, 0.5]), (np.full(20, 0.1),)),
    "where": (huber, np.zeros(3), (np.array([0.5, 5.0, -5.0]),)),
    "dynamic_index": (looked_up, np.ones(3), (np.int32(1),)),
    "logsumexp": (log_sum, np.zeros(4), (np.arange(4.0),)),
}


@pytest.mark.parametrize("name", SOLVED)
def test_one_function_solves_as_the_plain_loop_does(name, lowered, x64):
    """Step for step, with the same values but for a few roundings."""
    fun, start, args = SOLVED[name]
    one = jol.minimize(fun, start, args, trace=12, gtol=1e-8)
    assert NOTE in lowered[-1]
    plain = jax.jit(lambda start, args: jol.minimize(fun, start, args, trace=12, gtol=1e-8))(start, args)
    assert int(one.status) == int(plain.status) == 0
    # Here they agree to the last bit, or to a rounding or two in each value. Roundings grow along the way: a little in
    # the first steps, and in the end no more than the gradient that is left, 1e-8, allows where curvature is above 0.1.
    np.testing.assert_allclose(one.trace.fun[:5], plain.trace.fun[:5], rtol=1e-12)
    np.testing.assert_allclose(one.trace.step[1:5], plain.trace.step[1:5], rtol=1e-9)
    np.testing.assert_allclose(one.x, plain.x, rtol=0, atol=2e-7)
    assert abs(int(one.nit) - int(plain.nit)) <= 1 + int(plain.nit) // 10


def lanes(starts, centres):
    return jax.vmap(lambda start, centre: jol.minimize(log_sum, start, (centre,), gtol=1e-4))(starts, centres)


def test_lanes_are_single_solves_to_the_last_bit(one_device, lowered):
    """Of as many iterations as each needs; and so are the lanes of lanes."""
    rng = np.random.default_rng(3)
    starts = (10.0 ** rng.integers(-2, 3, (6, 1)) * rng.normal(size=(6, 4))).astype(np.float32)
    centres = rng.normal(size=(6, 4)).astype(np.float32)
    singles = [
        jol.minimize(log_sum, start, (centre,), gtol=1e-4) for start, centre in zip(starts, centres, strict=True)
    ]
    assert lowered[-1].count(NOTE) == 1
    batch = jax.jit(lanes)(starts, centres)
    nested = jax.jit(jax.vmap(lanes))(starts.reshape(2, 3, 4), centres.reshape(2, 3, 4))
    assert len({int(r.nit) for r in singles}) > 1
    for field in ("x", "fun", "grad", "nit", "nfev", "status"):
        expected = np.stack([getattr(r, field) for r in singles])
        np.testing.assert_array_equal(getattr(batch, field), expected, err_msg=field)
        found = np.asarray(getattr(nested, field))
        np.testing.assert_array_equal(found.reshape(expected.shape), expected, err_msg=field)


def test_only_what_is_batched_has_lanes(one_device):
    """Starts with lanes and data without, and the other way round."""
    starts = np.array([[0, 0, 0, 0], [3, 2, 1, 0]], np.float32)
    centre = np.arange(4, dtype=np.float32)
    one = jax.vmap(lambda start: jol.minimize(log_sum, start, (centre,)).x)(starts)
    other = jax.vmap(lambda centre: jol.minimize(log_sum, starts[0], (centre,)).x)(np.stack([centre, centre + 1]))
    np.testing.assert_array_equal(one[0], other[0])
    # at the minimum softmax(d) + d = 0 for d = x - centre, whatever the centre
    d = np.asarray(other) - np.stack([centre, centre + 1])
    np.testing.assert_allclose(jax.nn.softmax(d) + d, 0, atol=1e-5)  # gtol


def test_derivatives_go_through(one_device, x64):
    """Of the solution by the data: x = centre of a parabola moves with it, and by the weight of x^2 against (x - c)^2.

    x = c / (1 + w), so dx/dc = 1 / (1 + w) and dx/dw = -c / (1 + w)^2.
    """

    def fun(x, c, w):
        return jnp.sum((x - c) ** 2 + w * x * x)

    def found(c, w):
        return jnp.sum(jol.minimize(fun, jnp.zeros(3), (c, w), gtol=1e-10).x)

    c = jnp.array([1.0, 2.0, 3.0])
    by_c, by_w = jax.grad(found, argnums=(0, 1))(c, jnp.asarray(0.5))
    np.testing.assert_allclose(by_c, np.full(3, 1 / 1.5), rtol=1e-9)
    np.testing.assert_allclose(by_w, -6 / 1.5**2, rtol=1e-9)
    each = jax.vmap(jax.grad(found), in_axes=(None, 0))(c, jnp.array([0.0, 1.0]))
    np.testing.assert_allclose(each, [[1.0] * 3, [0.5] * 3], rtol=1e-9)


# ---- parameters that nothing uses

UNUSED = """
import jax, jax.numpy as jnp, numpy as np
import jaxopt_lectures as jol

def fun(x, never, only_its_shape, times_zero, nothing):
    return jnp.sum((x - 1) ** 2) * only_its_shape.size + (times_zero * 0).astype(x.dtype) + jnp.sum(nothing)

args = np.ones(2, np.float32), np.ones(3, np.float32), np.int32(3), np.ones(0, np.float32)
print(np.asarray(jol.minimize(fun, np.zeros(3, np.float32), args).x))
"""


def test_parameters_that_nothing_uses_do_no_harm():
    """XLA aborts the process on a parameter of such a function that is never read, so this one has its own."""
    ended = subprocess.run([sys.executable, "-c", UNUSED], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr[:500]
    assert ended.stdout.strip() == "[1. 1. 1.]"
