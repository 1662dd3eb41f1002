"""Averages of the weights against loops in NumPy; the updates are those of the wrapped transformation."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxopt_lectures as jol
from tests.conformance.cases import equal, same_type, standard

W = {"a": jnp.float32([1.0, -2.0, 0.5]), "none": None, "b": jnp.bfloat16([1.0, 2.0])}


def walked(tx, count, params=W):
    """Weights as float64, weights and state after each step, by one program."""

    def one(carry, k):
        params, state = carry
        gradient = jax.tree.map(lambda p: jnp.sin(k.astype(p.dtype) + 3 * p), params)
        updates, state = tx.update(gradient, state, params)
        params = optax.apply_updates(params, updates)
        return (params, state), (params, state)

    _, path = jax.jit(lambda c: jax.lax.scan(one, c, jnp.arange(count)))((params, tx.init(params)))
    return [jax.tree.map(lambda x, k=k: x[k], path) for k in range(count)]


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.999])
def test_ema(decay):
    path = walked(jol.average(jol.sgd(0.1, momentum=0.9), decay=decay), 8)
    for name in ("a", "b"):
        mean, weight = 0.0, 0.0
        for params, state in path:
            mean = decay * mean + (1 - decay) * np.asarray(params[name], np.float64)
            weight = 1 - decay * (1 - weight)
            # 8 steps of a mean in float32 of numbers near 1
            np.testing.assert_allclose(np.asarray(state.mean[name], np.float64), mean / weight, rtol=2e-6, atol=2e-7)
            asked = jol.eval_params(state, params)[name]
            assert asked.dtype == W[name].dtype
            np.testing.assert_array_equal(asked, state.mean[name].astype(W[name].dtype))
    np.testing.assert_allclose(path[-1][1].weight, 1 - decay**8, rtol=1e-6)


def test_is_optax_ema():
    """Of the weights, with bias correction."""
    path = walked(jol.average(jol.adam(0.1), decay=0.9), 5)
    ema = optax.ema(0.9, debias=True)
    state = ema.init(W["a"])
    for params, ours in path:
        with standard():
            theirs, state = ema.update(params["a"], state)
        np.testing.assert_allclose(ours.mean["a"], theirs, rtol=2e-6)


@pytest.mark.parametrize(
    ("kind", "start", "every", "counted"),
    [
        ("polyak", 0, 1, {1: [1], 3: [1, 2, 3], 8: range(1, 9)}),
        ("polyak", 3, 1, {3: [], 4: [4], 8: range(4, 9)}),
        ("swa", 0, 3, {2: [], 3: [3], 8: [3, 6]}),
        ("swa", 2, 2, {3: [], 4: [4], 8: [4, 6, 8]}),
        ("ema", 2, 1, {2: [], 3: [3]}),
    ],
)
def test_which_iterates_count(kind, start, every, counted):
    path = walked(jol.average(jol.sgd(0.1, momentum=0.9), kind, start=start, every=every), 8)
    for step, chosen in counted.items():
        params, state = path[step - 1]
        asked = jol.eval_params(state, params)
        assert int(state.averaged) == len(chosen)
        if not chosen:
            equal(asked, params)
            continue
        mean = np.mean([np.asarray(path[k - 1][0]["a"], np.float64) for k in chosen], axis=0)
        np.testing.assert_allclose(asked["a"], mean, rtol=1e-6)


def test_a_schedule_of_the_decay():
    """0 for the first iterate, 1/2 for the second, 2/3 for the third: the uniform mean."""
    ema = walked(jol.average(jol.sgd(0.1), decay=lambda n: n / (1 + n)), 5)
    polyak = walked(jol.average(jol.sgd(0.1), "polyak"), 5)
    np.testing.assert_allclose(ema[-1][1].mean["a"], polyak[-1][1].mean["a"], rtol=1e-6)


@pytest.mark.parametrize(
    "decay", [lambda n: jnp.where(n < 2, 1.0, 0.5), lambda n: jnp.float32(0.99999999), lambda n: 1.5]
)
def test_a_decay_that_rounds_to_1(decay):
    """In float32 0.99999999 is 1: as near below as there is, the uniform mean at first, and never 0/0."""
    path = walked(jol.average(jol.sgd(0.1), decay=decay), 3)
    seen = [np.asarray(params["a"], np.float64) for params, _ in path]
    np.testing.assert_allclose(path[0][1].mean["a"], seen[0], rtol=1e-6)
    np.testing.assert_allclose(path[1][1].mean["a"], (seen[0] + seen[1]) / 2, rtol=1e-5)
    assert np.isfinite(path[2][1].mean["a"]).all()


@pytest.mark.parametrize("kind", ["ema", "polyak", "swa"])
def test_updates_are_those_of_the_inner(kind):
    bare, averaged = walked(jol.adam(0.1), 4), walked(jol.average(jol.adam(0.1), kind), 4)
    for (p, s), (q, t) in zip(bare, averaged, strict=True):
        np.testing.assert_allclose(p["a"], q["a"], rtol=1e-6)
        same_type((p, s), (q, t.inner_state))


def test_what_is_evaluated_is_averaged():
    """Around a method that steps other weights than it evaluates."""
    inner = jol.nesterov(0.1, 0.8)
    for params, state in walked(jol.average(inner, decay=0.0), 3):
        for a, b in zip(
            jax.tree.leaves(jol.eval_params(state, params)),
            jax.tree.leaves(jol.eval_params(state.inner_state, params)),
            strict=True,
        ):
            np.testing.assert_allclose(np.float32(a), np.float32(b), rtol=1e-6)


def test_narrow_weights_are_averaged_as_they_are():
    """Of bfloat16 weights that round_stochastic steps."""
    w = {"w": jnp.ones(64, jnp.bfloat16)}
    with standard():  # a float32 update to a bfloat16 weight
        path = walked(jol.average(jol.round_stochastic(jol.sgd(1e-3)), "polyak"), 4, w)
    mean = np.mean([np.asarray(params["w"], np.float64) for params, _ in path], axis=0)
    np.testing.assert_allclose(path[-1][1].mean["w"], mean, rtol=1e-6)
    assert jol.eval_params(path[-1][1], path[-1][0])["w"].dtype == jnp.bfloat16


def test_float64(x64):
    w = {"w": jnp.float64([1.0])}
    (params, state), *_ = walked(jol.average(jol.sgd(0.1)), 1, w)
    assert state.mean["w"].dtype == jnp.float64
    np.testing.assert_allclose(state.mean["w"], params["w"], rtol=1e-14)


@pytest.mark.parametrize("every", [1, 2])
def test_donated_and_in_lanes(every):
    tx = jol.average(jol.adam(0.1), every=every)
    step = jax.jit(tx.update, donate_argnums=(0, 1))
    state = tx.init(W)
    for _ in range(3):
        _, state = step(jax.tree.map(jnp.ones_like, W), state, W)
    same_type(state, tx.init(W))
    w = {"a": jnp.float32([[1.0, 2.0], [3.0, 4.0]])}
    lanes = jax.vmap(lambda w: tx.update(w, tx.init(w), w)[1])(w)
    asked = jax.vmap(jol.eval_params)(lanes, w)
    np.testing.assert_allclose(asked["a"], w["a"] - (0.1 if every == 1 else 0), rtol=1e-5)
    with pytest.raises(ValueError, match=r"one of \(2,\) runs: use jax.vmap"):
        jol.eval_params(lanes, w)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"kind": "mean"}, ValueError, "kind must be one of 'ema', 'polyak', 'swa', got 'mean'"),
        ({"decay": 1.0}, ValueError, r"decay must lie in \[0, 1\), got 1.0"),
        ({"start": -1}, ValueError, "start must be at least 0"),
        ({"every": 0.5}, TypeError, "every must be an integer"),
    ],
)
def test_bad_input(arguments, error, message):
    with pytest.raises(error, match=message):
        jol.average(jol.sgd(0.1), **arguments)


def test_parameters_are_needed():
    tx = jol.average(jol.sgd(0.1))
    with pytest.raises(ValueError, match=r"average reads the parameters: call update\(gradients, state, params\)"):
        tx.update(W, tx.init(W))
