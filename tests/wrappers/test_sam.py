"""SAM: by hand, against its oracle, its limits, its errors, and in a training loop."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import jaxopt_lectures as jol
from jaxopt_lectures.training.program import make_step, start
from jaxopt_lectures.wrappers.sam import uphill
from tests.conformance.cases import same_type
from tests.oracles import oracle
from tests.training.tiny import BATCH, TASK, plane

CURVATURE = np.array([1.0, 3.0, 0.5])
START = np.array([1.0, -2.0, 0.5])


def loss(w):
    """A quadratic and a quartic."""
    return jnp.sum(CURVATURE * w**2) / 2 + jnp.sum(w**4) / 4


def drive(tx, w, steps, loss=loss):
    def step(carry, _):
        w, state = carry
        updates, state = tx.update(jax.grad(loss)(w), state, w, value_fn=loss)
        w = optax.apply_updates(w, updates)
        return (w, state), w

    _, path = jax.jit(lambda c: jax.lax.scan(step, c, length=steps))((w, tx.init(w)))
    return path


def test_a_quadratic_by_hand(x64):
    """f = (w_1^2 + w_2^2) / 2 at (3, 4): the gradient is taken 1/10 further out, at (3.06, 4.08)."""
    w = jnp.array([3.0, 4.0])
    value = lambda w: jnp.sum(w**2) / 2  # noqa: E731
    tx = jol.sam(jol.sgd(0.5), rho=0.1)
    updates, _ = tx.update(jax.grad(value)(w), tx.init(w), w, value_fn=value)
    np.testing.assert_allclose(updates, [-1.53, -2.04], rtol=1e-14)
    tx = jol.sam(jol.sgd(0.5), rho=0.1, adaptive=True)  # |w g| = |(9, 16)|, e = 0.1 (27, 64) / |(9, 16)|
    updates, _ = tx.update(jax.grad(value)(w), tx.init(w), w, value_fn=value)
    np.testing.assert_allclose(updates, -0.5 * (w + 0.1 * np.array([27, 64]) / np.sqrt(337)), rtol=1e-14)


@pytest.mark.parametrize("adaptive", [False, True])
def test_oracle(adaptive, x64):
    path = drive(jol.sam_sgd(0.05, 0.8, 0.1, adaptive=adaptive), jnp.asarray(START), 20)
    slope = lambda w: CURVATURE * w + w**3  # noqa: E731
    truth = oracle("sam_sgd")(START, [slope] * 20, 0.05, 0.8, 0.1, adaptive)
    np.testing.assert_allclose(path, truth, rtol=0, atol=1e-13)


@pytest.mark.parametrize("tx", [jol.adam(0.1), optax.adam(0.1), jol.nesterov(0.1, lookahead=True)])
def test_rho_0_is_the_inner_one(tx):
    """The gradient is then taken twice at one point, for a method that looks ahead at its own."""
    w = jnp.asarray(START, jnp.float32)

    def value(w):
        return jnp.sum(jnp.float32(CURVATURE) * w**2) / 2

    def ends(tx):
        state, p = tx.init(w), w
        for _ in range(5):
            g = jax.grad(value)(jol.gradient_point(state, p))
            updates, state = optax.with_extra_args_support(tx).update(g, state, p, value_fn=value)
            p = optax.apply_updates(p, updates)
        return p

    with jax.numpy_dtype_promotion("standard"):
        np.testing.assert_array_equal(ends(jol.sam(tx, 0.0)), ends(tx))


def test_nothing_to_climb():
    """Where the slope is 0 the point stays, whatever rho; the largest and the smallest slopes have a direction."""
    w = {"a": jnp.ones(2), "b": jnp.ones(2, jnp.bfloat16)}
    zero = jax.tree.map(jnp.zeros_like, w)
    for adaptive in (False, True):
        same_type(uphill(w, zero, 0.1, adaptive), w)
        np.testing.assert_array_equal(uphill(w, zero, 0.1, adaptive)["a"], 1.0)
    for size in (1e-40, 1e-30, 1e30, 3e38):
        moved = uphill(jnp.zeros(2), jnp.array([size, 0.0]), 0.1)
        np.testing.assert_allclose(moved, [0.1 if size > 1e-38 else moved[0], 0.0], rtol=1e-6)
    np.testing.assert_allclose(uphill(jnp.zeros(2), jnp.array([jnp.inf, 1.0]), 0.1), [0.1, 0.0], atol=1e-9)
    assert np.isnan(uphill(jnp.zeros(2), jnp.array([jnp.nan, 1.0]), 0.1)).all()


def test_rho_may_be_traced_and_swept(x64):
    def end(rho):
        return drive(jol.sam_sgd(0.05, rho=rho), jnp.asarray(START), 5)[-1]

    rhos = jnp.array([0.0, 0.1, 0.2])
    np.testing.assert_allclose(jax.jit(jax.vmap(end))(rhos), [end(float(rho)) for rho in rhos], rtol=1e-12)


def test_says_what_is_missing():
    tx, w = jol.sam(jol.adam(0.1)), jnp.ones(2)
    with pytest.raises(ValueError, match=r"second gradient.*value_fn=loss"):
        tx.update(w, tx.init(w), w)
    with pytest.raises(ValueError, match=r"reads the parameters.*value_fn=loss"):
        tx.update(w, tx.init(w), value_fn=jnp.sum)
    with pytest.raises(TypeError, match="sam's argument must be a transformation"):
        jol.sam(jol.adam)
    with pytest.raises(TypeError, match=r"rho must be a number or a scalar array.*no count"):
        jol.sam(jol.adam(0.1), lambda t: 0.1)
    with pytest.raises(ValueError, match=r"rho must lie in \[0, inf\), got -0.1"):
        jol.sam_sgd(0.1, rho=-0.1)


def test_declares_what_it_is():
    tx = jol.sam_sgd(0.1)
    assert set(tx.hypers) >= {"learning_rate", "momentum", "rho"}
    assert tx.couples == "tree"
    w = {"w": jnp.ones(8)}
    assert jol.store(tx, "int8", min_size=1).init(w).trace["w"].codes.dtype == jnp.uint8
    same_type(tx.init(w), jol.sgd(0.1, 0.9).init(w))
    assert jol.registry.get("sam_sgd") in jol.registry.solvers()


def test_in_nnx_and_in_the_training_step():
    """The step's own loss is what is climbed."""
    model = nnx.Linear(2, 1, rngs=nnx.Rngs(0))
    x = jnp.ones((4, 2))
    graph = nnx.graphdef(model)
    optimizer = nnx.Optimizer(model, jol.sam_sgd(0.05), wrt=nnx.Param)

    def of(params):
        return jnp.mean((nnx.merge(graph, params)(x) - 1.0) ** 2)

    values = []
    for _ in range(30):
        value, grads = jax.value_and_grad(of)(nnx.state(model, nnx.Param))
        optimizer.update(model, grads, value_fn=of)
        values.append(float(value))
    assert values[-1] < 0.1 * values[0]

    data = plane().train
    x, y = jnp.asarray(data.x[:BATCH]), jnp.asarray(data.y[:BATCH])
    before = start(TASK, jol.sam(jol.sgd(0.1), 0.2))
    after, _ = jax.jit(make_step(TASK, jol.sam(jol.sgd(0.1), 0.2)))(before, x, y)
    graph = nnx.graphdef(TASK.model(0))
    slope = jax.grad(lambda p: TASK.loss(nnx.merge(graph, p), x, y))
    second = slope(uphill(before.params, slope(before.params), 0.2))
    for mine, p, g in zip(*map(jax.tree.leaves, (after.params, before.params, second)), strict=True):
        np.testing.assert_allclose(mine, p - jnp.float32(0.1) * g, rtol=1e-5, atol=1e-6)
