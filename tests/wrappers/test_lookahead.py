"""Lookahead against its algorithm in NumPy and against optax's, which holds both weights in a type of its own."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxopt_lectures as jol
from tests.conformance.cases import equal, same_type, standard

W = {"a": jnp.float32([1.0, -2.0, 0.5]), "none": None, "b": jnp.bfloat16([1.0, 2.0])}


def gradient(p):
    return jax.tree.map(lambda x: jnp.sin(3 * x) + x, p)


def walked(tx, count, params=W):
    state, path = tx.init(params), []

    @jax.jit
    def step(params, state):
        updates, state = tx.update(gradient(params), state, params)
        return optax.apply_updates(params, updates), state

    for _ in range(count):
        params, state = step(params, state)
        path.append((params, state))
    return path


def test_by_hand():
    path = walked(jol.lookahead(jol.sgd(0.1), 3, 0.25), 7, {"a": W["a"]})
    fast = slow = np.asarray(W["a"], np.float64)
    for step, (params, state) in enumerate(path, 1):
        fast = fast - 0.1 * (np.sin(3 * fast) + fast)
        if step % 3 == 0:
            fast = slow = slow + 0.25 * (fast - slow)
        np.testing.assert_allclose(params["a"], fast, rtol=2e-6)
        np.testing.assert_allclose(jol.eval_params(state, params)["a"], slow, rtol=2e-6)


def test_is_optax_lookahead():
    ours = walked(jol.lookahead(jol.adam(0.1), 2, 0.5), 6, {"a": W["a"]})
    theirs = optax.lookahead(jol.adam(0.1), 2, 0.5)
    params = optax.LookaheadParams.init_synced({"a": W["a"]})
    state = theirs.init(params)
    with standard():
        for mine, mine_state in ours:
            updates, state = theirs.update(gradient(params.fast), state, params)
            params = optax.apply_updates(params, updates)
            np.testing.assert_allclose(mine["a"], params.fast["a"], rtol=1e-5)
            np.testing.assert_allclose(jol.eval_params(mine_state, mine)["a"], params.slow["a"], rtol=1e-5)


def test_limits():
    """The whole way is the optimizer alone; none at all stays where it began."""
    for (p, _), (q, _) in zip(walked(jol.lookahead(jol.adam(0.1), 2, 1.0), 4), walked(jol.adam(0.1), 4), strict=True):
        np.testing.assert_allclose(p["a"], q["a"], rtol=1e-6)
    path = walked(jol.lookahead(jol.adam(0.1), 2, 0.0), 4)
    np.testing.assert_allclose(path[1][0]["a"], W["a"], rtol=1e-6)
    equal(jol.eval_params(path[-1][1], path[-1][0]), W)


def test_slow_weights_are_float32():
    """Of bfloat16 weights: slow steps of less than their spacing add up."""
    w = {"w": jnp.ones(1, jnp.bfloat16)}
    tx = jol.lookahead(jol.sgd(1.0), 1, 0.01)
    step, state = jax.jit(tx.update), tx.init(w)
    for _ in range(3):  # fast goes to 1 - 2^-6, slow 1/100 of the way, which bfloat16 does not see
        updates, state = step({"w": jnp.full(1, 2.0**-6, jnp.bfloat16)}, state, w)
    assert updates["w"].dtype == jnp.bfloat16
    # the fast weights are back at 1 each time
    np.testing.assert_allclose(state.slow["w"], [1 - (1 - 0.99**3) * 2.0**-6], rtol=1e-7)


def test_a_schedule():
    """Of the synchronisations: none of the way, then all of it."""
    path = walked(jol.lookahead(jol.sgd(0.1), 2, lambda k: jnp.float32([0.0, 1.0])[k]), 4)
    np.testing.assert_allclose(path[1][0]["a"], W["a"], rtol=1e-6)
    assert (np.abs(path[3][1].slow["a"] - W["a"]) > 1e-3).all()


def test_donated_in_lanes_and_its_type():
    tx = jol.lookahead(jol.adam(0.1), 2)
    step = jax.jit(tx.update, donate_argnums=1)
    updates, state = step(jax.tree.map(jnp.ones_like, W), tx.init(W), W)
    same_type(state, tx.init(W))
    same_type(updates, W)
    lanes = jax.vmap(lambda a: tx.update(W, tx.init(W), W)[0]["a"] * a)(jnp.ones(2))
    np.testing.assert_allclose(lanes[0], updates["a"] * jnp.sign(W["a"]), rtol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((0,), ValueError, "sync_period must be at least 1, got 0"),
        ((2.5,), TypeError, "sync_period must be an integer"),
        ((2, 1.5), ValueError, r"slow_step_size must lie in \[0, 1\], got 1.5"),
    ],
)
def test_bad_input(arguments, error, message):
    with pytest.raises(error, match=message):
        jol.lookahead(jol.sgd(0.1), *arguments)


def test_parameters_are_needed():
    tx = jol.lookahead(jol.sgd(0.1))
    with pytest.raises(ValueError, match="lookahead reads the parameters"):
        tx.update(W, tx.init(W))
