"""A trajectory is what the loop over single steps does, for every kind of optimizer, tree and batch."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import jaxopt_lectures as jol
from jaxopt_lectures.diagnostics import trajectory

CURVATURES = np.array([1.0, 10.0])
START = np.array([1.0, -2.0])
# float64: each step rounds a handful of times, errors of 1 ulp = 1.1e-16 of numbers <= 10 in size. The methods contract
# or at worst keep an error, so 30 steps of 10 roundings stay below 30 * 10 * 10 * 1.1e-16 = 3.3e-13.
TOLERANCE = 4e-13


def valley(w):
    return jnp.sum(jnp.asarray(CURVATURES, w.dtype) * w**2) / 2


def numpy_descent(rate, steps):
    w, points, values = START.copy(), [START.copy()], []
    for _ in range(steps):
        values.append(np.sum(CURVATURES * w**2) / 2)
        w = w - rate * CURVATURES * w
        points.append(w.copy())
    return np.array(points), np.array(values)


def numpy_nesterov(rate, gamma, steps):
    """The lecture's form: gradient at w - gamma v."""
    w, v, points, values = START.copy(), np.zeros(2), [START.copy()], []
    for _ in range(steps):
        ahead = w - gamma * v
        values.append(np.sum(CURVATURES * ahead**2) / 2)
        v = gamma * v + rate * CURVATURES * ahead
        w = w - v
        points.append(w.copy())
    return np.array(points), np.array(values)


def python_loop(tx, fun, params, steps, batches=None):
    """Step by step, each step compiled: what the scan must repeat."""

    @jax.jit
    def step(params, state, *batch):
        point = jol.gradient_point(state, params)
        value, gradient = jax.value_and_grad(fun)(point, *batch)
        updates, state = tx.update(gradient, state, params)
        return optax.apply_updates(params, updates), state, value

    state = tx.init(params)
    points, values = [jol.eval_params(state, params)], []
    for index in range(steps):
        batch = () if batches is None else (jax.tree.map(lambda leaf, i=index: leaf[i], batches),)
        params, state, value = step(params, state, *batch)
        points.append(jol.eval_params(state, params))
        values.append(value)
    return jax.tree.map(lambda *rows: jnp.stack(rows), *points), jnp.stack(values), params, state


def test_descent_is_the_formula(x64):
    points, values = numpy_descent(0.15, 30)
    found = trajectory(jol.sgd(0.15), valley, jnp.asarray(START), 30)
    np.testing.assert_allclose(found.points, points, rtol=0, atol=TOLERANCE)
    np.testing.assert_allclose(found.values, values, rtol=0, atol=10 * TOLERANCE)  # |grad f| <= 20, but w is <= 2 early
    np.testing.assert_array_equal(found.params, found.points[-1])


@pytest.mark.parametrize("lookahead", [False, True])
def test_nesterov_in_both_forms(x64, lookahead):
    """Points are w, values are taken at w - gamma v, whichever of the two the parameters are."""
    points, values = numpy_nesterov(0.05, 0.8, 30)
    tx = jol.nesterov(0.05, 0.8, lookahead=lookahead)
    found = trajectory(tx, valley, jnp.asarray(START), 30)
    np.testing.assert_allclose(found.points, points, rtol=0, atol=TOLERANCE)
    np.testing.assert_allclose(found.values, values, rtol=0, atol=10 * TOLERANCE)
    held = found.params - found.points[-1]  # phi - w = -gamma v, not 0, in the form that holds phi
    assert (np.abs(held).max() > 1e-3) != lookahead


@pytest.mark.parametrize(
    "tx",
    [
        jol.momentum(0.05),
        jol.adam(0.1),
        jol.chain(jol.clip_by_global_norm(1.0), jol.nesterov(jol.linear_schedule(0.1, 0.01, 10))),
        optax.adamw(0.1),
        optax.chain(optax.clip_by_global_norm(1.0), optax.sgd(0.1, momentum=0.9, nesterov=True)),
    ],
    ids=["momentum", "adam", "clip-nesterov", "optax-adamw", "optax-chain"],
)
def test_equals_a_python_loop(x64, tx):
    """The same program compiled once as a loop and once as a step: equal to TOLERANCE (fused differently)."""
    with jax.numpy_dtype_promotion("standard"):  # optax mixes dtypes
        points, values, params, state = python_loop(tx, valley, jnp.asarray(START), 30)
        found = trajectory(tx, valley, jnp.asarray(START), 30)
    np.testing.assert_allclose(found.points, points, rtol=0, atol=TOLERANCE)
    np.testing.assert_allclose(found.values, values, rtol=0, atol=10 * TOLERANCE)
    np.testing.assert_allclose(found.params, params, rtol=0, atol=TOLERANCE)
    for mine, its in zip(jax.tree.leaves(found.state), jax.tree.leaves(state), strict=True):
        np.testing.assert_allclose(mine, its, rtol=0, atol=100 * TOLERANCE)  # second moments: squares of up to 20


def test_vmap_over_rates_equals_single_runs():
    """A multiplication is the same in a batch: products and sums of two numbers, no reduction over the batch axis."""
    rates = jnp.array([0.01, 0.1, 0.15])
    start = jnp.asarray(START, jnp.float32)

    def run(rate):
        return trajectory(jol.adam(rate), valley, start, 20)

    together = jax.jit(jax.vmap(run))(rates)
    assert together.points.shape == (3, 21, 2)
    for index, rate in enumerate(rates):
        alone = run(rate)
        # float32, 20 steps of about 20 roundings of numbers <= 2: 20 * 20 * 2 * 6e-8
        np.testing.assert_allclose(together.points[index], alone.points, rtol=0, atol=5e-5)
        np.testing.assert_allclose(together.values[index], alone.values, rtol=0, atol=1e-3)  # times |grad| <= 20


def test_batches_are_given_in_turn(x64):
    """On f = (w - b)^2 / 2 with rate 1 the next point is the batch itself, exactly."""
    batches = {"b": jnp.array([[3.0], [5.0], [-1.0]])}
    found = trajectory(
        jol.sgd(1.0), lambda w, batch: jnp.sum((w - batch["b"]) ** 2) / 2, jnp.zeros(1), 3, batches=batches
    )
    np.testing.assert_array_equal(found.points[:, 0], [0.0, 3.0, 5.0, -1.0])
    np.testing.assert_array_equal(found.values, [4.5, 2.0, 18.0])


def test_state_of_a_network(x64):
    model = nnx.Linear(3, 2, rngs=nnx.Rngs(0), param_dtype=jnp.float64)
    graph, params = nnx.split(model, nnx.Param)
    x = jax.random.normal(jax.random.key(1), (7, 5, 3))

    def loss(state, batch):
        return jnp.mean((nnx.merge(graph, state)(batch) - 1) ** 2)

    for tx in (jol.adam(0.1), jol.nesterov(0.1)):
        points, values, last, _ = python_loop(tx, loss, params, 7, x)
        found = trajectory(tx, loss, params, 7, batches=x)
        assert jax.tree.structure(found.params) == jax.tree.structure(params)
        pairs = zip(jax.tree.leaves(found[:3]), jax.tree.leaves((points, values, last)), strict=True)
        for mine, its in pairs:
            # 7 steps, values below 10; Adam divides by root v >= 1e-3 here, which may enlarge a rounding a thousandfold
            np.testing.assert_allclose(mine, its, rtol=0, atol=7e-12)


def test_keep(x64):
    whole = trajectory(jol.sgd(0.1), valley, jnp.asarray(START), 5)
    first = trajectory(jol.sgd(0.1), valley, jnp.asarray(START), 5, keep=lambda w: {"x": w[0]})
    np.testing.assert_array_equal(first.points["x"], whole.points[:, 0])
    assert trajectory(jol.sgd(0.1), valley, jnp.asarray(START), 5, keep=lambda w: ()).points == ()


@pytest.mark.parametrize("unroll", [2, 7, 30, 100])
def test_unrolled_it_is_the_same_path(x64, unroll):
    """Steps written out are fused otherwise: equal to TOLERANCE, whether 30 is a multiple of their number or not."""
    rates = jnp.linspace(0.02, 0.15, 30)  # a step taken twice or left out would show

    def fun(w, rate):
        return valley(w) * rate / 0.15

    plain, found = (
        trajectory(jol.momentum(0.05), fun, jnp.asarray(START), 30, batches=rates, unroll=n) for n in (1, unroll)
    )
    assert found.points.shape == (31, 2)
    for mine, its in zip(jax.tree.leaves(found), jax.tree.leaves(plain), strict=True):
        np.testing.assert_allclose(mine, its, rtol=0, atol=10 * TOLERANCE)
    for options in ({}, {"unroll": unroll}):
        program = jax.make_jaxpr(lambda w, o=options: trajectory(jol.sgd(0.1), valley, w, 30, **o).params)(jnp.ones(2))
        (scan,) = (equation for equation in program.eqns if equation.primitive.name == "scan")
        assert scan.params["unroll"] == options.get("unroll", 1)


def test_line_search_is_given_what_it_needs(x64):
    """optax's L-BFGS searches along its direction: on a quadratic of two variables it is done within ten steps."""
    with jax.numpy_dtype_promotion("standard"):
        found = trajectory(optax.lbfgs(), valley, jnp.asarray(START), 10)
    assert found.values[-1] < 1e-20 * found.values[0]


def test_no_steps():
    found = trajectory(jol.sgd(0.1), valley, jnp.asarray(START, jnp.float32), 0)
    assert found.points.shape == (1, 2)
    assert found.values.shape == (0,)


def test_numbers_as_parameters():
    found = trajectory(jol.sgd(0.25), lambda p: p["a"] ** 2, {"a": 1.0}, 2)
    np.testing.assert_array_equal(found.points["a"], [1.0, 0.5, 0.25])  # powers of two: exact
    assert found.points["a"].dtype == jnp.float32


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: trajectory(jol.sgd(0.1), valley, jnp.array([1, 2]), 3), TypeError, "int32"),
        (lambda: trajectory(jol.sgd(0.1), lambda w: w, jnp.ones(2), 3), TypeError, r"float32 of shape \(2,\)"),
        (lambda: trajectory(jol.sgd(0.1), lambda w: (w.sum(), w), jnp.ones(2), 3), TypeError, "got tuple"),
        (lambda: trajectory(jol.sgd(0.1), valley, {}, 3), ValueError, "at least one leaf"),
        (lambda: trajectory(jol.sgd(0.1), valley, jnp.ones(2), -1), ValueError, "steps must be at least 0, got -1"),
        (lambda: trajectory(jol.sgd(0.1), valley, jnp.ones(2), 3.0), TypeError, "steps must be an integer"),
        (lambda: trajectory(jol.sgd(0.1), valley, jnp.ones(2), 3, unroll=0), ValueError, "unroll must be at least 1"),
        (lambda: trajectory(jol.sgd(0.1), valley, jnp.ones(2), 3, unroll=2.0), TypeError, "unroll must be an integer"),
        (lambda: trajectory(jol.sgd(0.1), valley, jnp.ones(2), 3, unroll=True), TypeError, "unroll must be an integer"),
        (lambda: trajectory(jol.sgd, valley, jnp.ones(2), 3), TypeError, "call the factory first"),
        (
            lambda: trajectory(
                jol.sgd(0.1), lambda w, b: w.sum(), jnp.ones(2), 3, batches={"x": jnp.ones((3, 1)), "y": jnp.ones(4)}
            ),
            ValueError,
            r"batches\['y'\] has shape \(4,\): its leading axis must be the number of steps, 3",
        ),
        (
            lambda: trajectory(jol.sgd(0.1), lambda w, b: w.sum(), jnp.ones(2), 3, batches=1.0),
            ValueError,
            r"batches has shape \(\)",
        ),
    ],
)
def test_bad_input(call, error, message):
    with pytest.raises(error, match=message):
        call()
