"""A small solve as one CPU function: asked for where it is known to work, the same results, nothing else."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxopt_lectures as jol
from jaxopt_lectures.solvers import one_kernel

A = np.random.default_rng(0).normal(size=(12, 4))
ORDER = np.array([2, 0, 3, 1])
START = np.linspace(0.5, 1.0, 4)
LARGE = np.ones((64, 64))

SIMPLE = {
    "elementwise": lambda x: jnp.sum(jnp.tanh(x) ** 2 + jnp.exp(-x) + jnp.log1p(x * x) + jnp.sqrt(1 + x * x)),
    "trigonometric": lambda x: jnp.sum(jnp.sin(x) + jnp.cos(2 * x) + jnp.arctan2(x, 2 + x * x) + x * x),
    "special": lambda x: jnp.sum(jax.scipy.special.erf(x) + jax.scipy.special.gammaln(x * x + 1) + x * x),
    "powers": lambda x: jnp.sum((1 + x * x) ** 0.75 + x**4 + jnp.cbrt(1 + x * x)),
    "least squares": lambda x: jnp.sum((jnp.asarray(A, x.dtype) @ x - 1) ** 2),
    "logsumexp": lambda x: jax.nn.logsumexp(jnp.asarray(A, x.dtype) @ x) + jnp.sum(x * x),
    "parts": lambda x: (x[0] - 1) ** 2 + jnp.sum((x[1:] - x[:-1] ** 2) ** 2) + jnp.max(x) ** 2,
    "sums": lambda x: jnp.sum(jnp.cumsum(x) ** 2) + jnp.prod(x) + jnp.sum(jnp.where(x > 0, x, 2 * x) ** 2),
    "scan": lambda x: jax.lax.scan(lambda c, v: (0.5 * c + v * v, None), 0 * x[0], x)[0] + jnp.sum((x - 1) ** 2),
}
NOT_SIMPLE = {
    "sort": lambda x: jnp.sum(jnp.sort(x) * jnp.arange(4.0)) + jnp.sum(x * x),
    "gather": lambda x: jnp.sum((x[ORDER] - 1) ** 2),
    "solve": lambda x: jnp.sum(jnp.linalg.solve(jnp.eye(4) + jnp.outer(x, x), jnp.ones(4)) ** 2),
    "cholesky": lambda x: jnp.sum(jnp.linalg.cholesky(jnp.eye(4) + jnp.outer(x, x))),
    "fft": lambda x: jnp.sum(jnp.abs(jnp.fft.rfft(x) + 1) ** 2),
    "matrix product": lambda x: jnp.sum(jnp.tanh(jnp.asarray(A, x.dtype) @ (x[:, None] * jnp.ones((4, 3)))) ** 2),
    "long sum": lambda x: jnp.sum((jnp.asarray(LARGE, x.dtype) * x[0] - 1) ** 2) + jnp.sum(x * x),
}


def text(fun, x, **arguments):
    """The program of a direct call, as `minimize` makes it."""
    solve = jax.jit(lambda x: jol.minimize(fun, x, **arguments).x)
    return solve.lower(x).as_text()


@pytest.fixture
def alone(monkeypatch):
    """As if there were one device, which is what users have."""
    monkeypatch.setattr(jax, "device_count", lambda: 1)


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("name", SIMPLE)
def test_is_the_plain_loop_in_one_function(name, dtype):
    """The two round differently where sums are ordered differently, so they end within what gtol leaves open."""
    with jax.enable_x64(dtype == jnp.float64):
        x, fun = jnp.asarray(START, dtype), SIMPLE[name]
        one = jax.jit(lambda x: jol.minimize(fun, x, gtol=1e-4))
        assert one.lower(x).as_text().count("xla_cpu_small_call") == 1
        plain = jol.minimize(fun, x, gtol=1e-4, callback=lambda result: False)  # a callback cannot be inside
        result = one(x)
        assert int(result.status) == int(plain.status) == 0
        np.testing.assert_allclose(result.fun, plain.fun, rtol=1e-5, atol=1e-7)


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize("name", NOT_SIMPLE)
def test_what_is_not_known_to_work_is_left_alone(name):
    assert "xla_cpu_small_call" not in text(NOT_SIMPLE[name], jnp.asarray(START, jnp.float32))


@pytest.mark.usefixtures("alone")
def test_sizes_and_methods_that_do_not_fit():
    def fun(x):
        return jnp.sum((x - 1) ** 2)

    assert text(fun, jnp.ones(1000)).count("xla_cpu_small_call") == 1
    assert "xla_cpu_small_call" not in text(fun, jnp.ones(1500))  # 11 rows of it are more than 16384 elements
    assert "xla_cpu_small_call" not in text(fun, jnp.ones(200), method="bfgs")
    assert "xla_cpu_small_call" not in text(fun, jnp.ones(4), method="lbfgsb")


def test_with_several_devices_a_traced_point_is_left_alone():
    assert jax.device_count() == 8
    assert "xla_cpu_small_call" not in text(SIMPLE["parts"], jnp.asarray(START, jnp.float32))


@pytest.mark.usefixtures("alone", "x64")
def test_lanes_are_their_single_solves_bit_for_bit():
    fun = SIMPLE["parts"]
    starts = jnp.asarray(np.random.default_rng(1).normal(size=(6, 4)))
    solve = jax.jit(lambda x: jol.minimize(fun, x))
    together = jax.jit(jax.vmap(solve))(starts)
    nested = jax.jit(jax.vmap(jax.vmap(solve)))(starts.reshape(2, 3, 4))
    for lane in range(6):
        alone = solve(starts[lane])
        np.testing.assert_array_equal(together.x[lane], alone.x)
        np.testing.assert_array_equal(nested.x[lane // 3, lane % 3], alone.x)
        assert int(together.nfev[lane]) == int(alone.nfev)


@pytest.mark.usefixtures("alone", "x64")
def test_has_derivatives():
    """The minimum of (x - a)^2 summed is a."""
    jacobian = jax.jacobian(lambda a: jol.minimize(lambda x, a: jnp.sum((x - a) ** 2), jnp.zeros(3), (a,)).x)
    np.testing.assert_allclose(jacobian(jnp.asarray([1.0, 2.0, 3.0])), np.eye(3), atol=1e-12)


def test_sharded_constants_are_seen():
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    data = jax.device_put(jnp.ones(8), jax.NamedSharding(mesh, jax.P("data")))
    assert not one_kernel.fits(jax.make_jaxpr(lambda x: jnp.sum(data * x))(1.0))
    assert one_kernel.fits(jax.make_jaxpr(lambda x: jnp.sum(jnp.ones(8) * x))(1.0))
