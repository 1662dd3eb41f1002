"""Weights in 16 bits: what is added is what was meant, on average or with its remainder; plain addition is exact."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxopt_lectures as jol
from tests.conformance.cases import build as built
from tests.conformance.cases import equal, every_card, gradients, same_type, standard, tree

DOWN = optax.GradientTransformation(lambda p: optax.EmptyState(), lambda g, s, p=None: (g, s))
"""Returns the gradients as updates."""
WAYS = {"round_stochastic": jol.round_stochastic, "compensate": jol.compensate}
every_way = pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)


def ran(tx, params, gradient, count):
    """Parameters and state after `count` steps with `gradient(params)`, added by optax, in one program."""

    def step(carry, _):
        params, state = carry
        updates, state = tx.update(gradient(params), state, params)
        return (optax.apply_updates(params, updates), state), None

    with standard():
        return jax.jit(lambda p, s: jax.lax.scan(step, (p, s), length=count)[0])(params, tx.init(params))


def mean(w):
    return float(jnp.mean(w.astype(jnp.float32)))


def test_a_hundred_small_steps():
    """Of -1e-3 on 1000 weights of 1: to 0.9; rounded to nearest they do not move."""
    ones = jnp.ones(1000, jnp.bfloat16)

    def after(tx):
        return mean(ran(tx, ones, lambda w: jnp.full(1000, -1e-3), 100)[0])

    assert after(DOWN) == 1
    # each weight does 100 draws of at most 2^-8 (1/256) up or down; the mean of 1000: 5 standard errors
    assert abs(after(jol.round_stochastic(DOWN)) - 0.9) < 5 * np.sqrt(100 / 1000) * 2.0**-9
    # weight and remainder are 0.9 to 16 digits; the weight alone to its own 8
    assert abs(after(jol.compensate(DOWN)) - 0.9) <= 2.0**-9


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
@pytest.mark.parametrize(
    "tx",
    [
        lambda: jol.round_stochastic(jol.adam(1e-3)),
        lambda: jol.compensate(jol.adam(1e-3)),
        lambda: jol.round_stochastic(optax.adam(1e-3)),
        lambda: jol.round_stochastic(jol.store(jol.adam(1e-3), "int8", min_size=1)),
        lambda: jol.compensate(jol.store(optax.adam(1e-3), "int8", min_size=1, nonnegative="nu")),
    ],
    ids=["random", "remainder", "optax", "int8", "optax in int8"],
)
def test_a_quadratic(dtype, tx):
    """64 dimensions, Adam at 1e-3, 3000 steps from a loss near 400; without either nothing moves in bfloat16."""
    rng = np.random.default_rng(0)
    curvatures = jnp.asarray(rng.uniform(10, 30, 64), jnp.float32)
    first = jnp.asarray(rng.choice([-1, 1], 64) * rng.uniform(0.6, 1, 64), dtype)

    def loss(w):
        return jnp.sum(curvatures * w.astype(jnp.float32) ** 2) / 2

    def end(tx):
        return float(loss(ran(tx, first, jax.grad(loss), 3000)[0]))

    assert 350 < float(loss(first)) < 450
    assert end(tx()) <= 5e-3
    if dtype == jnp.bfloat16:
        assert end(jol.adam(1e-3)) == float(loss(first))


@every_way
def test_optax_adds_exactly(way):
    """The update is a difference of two narrow weights: 100,000 pairs."""
    rng = np.random.default_rng(0)
    w = jnp.asarray(rng.normal(size=100_000), jnp.bfloat16)
    u = jnp.asarray(rng.normal(size=100_000) * 10 ** rng.uniform(-6, 0, 100_000), jnp.float32)
    updates, _ = way(DOWN).update(u, way(DOWN).init(w), w)
    assert updates.dtype == jnp.float32
    with standard():
        new = optax.apply_updates(w, updates)
    assert (np.asarray(new != w)).mean() > 0.3
    np.testing.assert_array_equal(new.astype(jnp.float32), w.astype(jnp.float32) + updates)
    wide = np.asarray(w, np.float64) + np.asarray(u, np.float64)
    # up or down to a neighbour: less than one unit, 2^-7 of the sum, and half of one to nearest
    units = 1 if way is jol.round_stochastic else 0.5
    assert (np.abs(np.asarray(new, np.float64) - wide) <= units * 2.0**-7 * np.abs(wide) + 1e-7).all()


def test_remainder():
    """Weight and remainder together follow the sum in float32 to 16 digits."""
    rng = np.random.default_rng(0)
    w = jnp.asarray(rng.normal(size=1000), jnp.bfloat16)
    steps = jnp.asarray(rng.normal(size=(500, 1000)) * 1e-3, jnp.float32)
    tx = jol.compensate(DOWN)

    def step(carry, u):
        params, state = carry
        updates, state = tx.update(u, state, params)
        return (jol.apply_updates(params, updates), state), None

    (end, state), _ = jax.jit(lambda w: jax.lax.scan(step, (w, tx.init(w)), steps))(w)
    assert state.remainder.dtype == jnp.bfloat16
    exact = np.asarray(w, np.float64) + np.asarray(steps, np.float64).sum(axis=0)
    kept = np.asarray(end, np.float64) + np.asarray(state.remainder, np.float64)
    # each step rounds the remainder, at most half a unit of weights of at most 4, to 8 digits: 2^-7 2^-9 of it
    bound = 500 * 4 * 2.0**-8 * 2.0**-9
    assert np.abs(kept - exact).max() < bound
    assert np.abs(kept - exact).mean() < bound / 100
    assert np.abs(np.asarray(end, np.float64) - exact).max() <= 2.0**-7 * 4


@every_way
def test_wide_weights_are_left_alone(way):
    params = {"wide": jnp.ones(5), "narrow": jnp.ones(5, jnp.bfloat16)}
    g = {"wide": jnp.full(5, 0.1), "narrow": jnp.full(5, 0.1, jnp.bfloat16)}
    updates, state = jax.jit(way(jol.adam(1e-3)).update)(g, way(jol.adam(1e-3)).init(params), params)
    plain, _ = jax.jit(jol.adam(1e-3).update)(g, jol.adam(1e-3).init(params), params)
    np.testing.assert_array_equal(updates["wide"], plain["wide"])
    if way is jol.compensate:
        assert (state.remainder["wide"].shape, state.remainder["narrow"].shape) == ((), (5,))


@every_card
@every_way
def test_every_card(card, way):
    """Slots are float32 though the weights are not, types stay through a scan, and a resumed run repeats."""
    w = tree(jnp.bfloat16)
    tx = way(built(card))
    state = tx.init(w)
    assert {leaf.dtype for leaf in jax.tree.leaves(state.inner_state) if leaf.ndim} <= {jnp.dtype(jnp.float32)}
    step = jax.jit(lambda g, s, p: tx.update(g, s, p))
    path = []
    for gradient in gradients(w, 3):
        updates, state = step(gradient, state, w)
        w = jol.apply_updates(w, updates)
        path.append((w, state))
    same_type(tx.init(w), state)
    again = step(gradients(w, 3)[2], path[1][1], path[1][0])
    equal((jol.apply_updates(path[1][0], again[0]), again[1]), path[2])


def test_other_keys_other_bits():
    w, g = jnp.ones(1000, jnp.bfloat16), jnp.full(1000, -1e-3)
    first, second, third = (
        jol.round_stochastic(DOWN, key).update(g, jol.round_stochastic(DOWN).init(w), w)[0]
        for key in (None, jax.random.key(0), jax.random.key(1))
    )
    np.testing.assert_array_equal(first, second)
    assert (np.asarray(first) != np.asarray(third)).any()


def test_inside_the_chain():
    """Clips and schedules before it; the parts are seen through, and the repr says so."""
    tx = jol.round_stochastic(jol.chain(jol.clip(1.0), jol.store(jol.adam(1e-3), "int8")))
    assert repr(tx).startswith("round_stochastic(chain(clip(")
    assert (
        jol.store(jol.round_stochastic(jol.adam(1e-3)), "int8")
        .init({"w": jnp.ones(5000)})
        .inner_state.mu["w"]
        .scale.shape
    )


# ---- adding by oneself


def test_apply_updates():
    """To nearest it is optax's function, for every dtype; None stays None."""
    params = {"a": jnp.float32([1, 2]), "b": jnp.bfloat16([1, 2]), "n": None, "i": jnp.int32([1, 2])}
    updates = {"a": jnp.float32([0.1, 0.2]), "b": jnp.bfloat16([0.1, 0.2]), "n": None, "i": jnp.int32([1, 1])}
    equal(jol.apply_updates(params, updates), optax.apply_updates(params, updates))
    with standard():
        wide = {**updates, "b": jnp.float32([0.1, 0.2])}
        equal(jol.apply_updates(params, wide), optax.apply_updates(params, wide))


def test_small_float16_weights():
    """Below 2^-14 float16 is spaced evenly by 2^-24: such weights are kept, and reached from 0, in every way."""
    w, nothing = jnp.float16([3e-5, 1e-6, -(2.0**-24), 0]), jnp.zeros(4, jnp.float16)
    np.testing.assert_array_equal(jol.apply_updates(w, nothing), w)
    np.testing.assert_array_equal(jax.jit(jol.apply_updates)(w, nothing), w)
    for way in (lambda tx: tx, jol.round_stochastic, jol.compensate):
        end, _ = ran(way(DOWN), jnp.zeros(100, jnp.float16), lambda w: jnp.full(100, -1e-5), 50)
        # each of 50 sums is wrong by half a unit of 2^-24, or less on average
        assert abs(mean(end) + 5e-4) <= 50 * 2.0**-25
        still, _ = ran(way(DOWN), w, lambda w: jnp.zeros(4), 3)
        np.testing.assert_array_equal(still, w)


def test_float16_is_rounded_as_numpy_does():
    rng = np.random.default_rng(0)
    total = np.float32(rng.normal(size=20_000) * 10.0 ** rng.uniform(-9, 5, 20_000))
    with np.errstate(over="ignore"):
        wanted = total.astype(np.float16)
    found = jax.jit(jol.apply_updates)(jnp.zeros(20_000, jnp.float16), jnp.asarray(total))
    np.testing.assert_array_equal(found, wanted)


def test_what_has_no_rule_steps_in_float32():
    """A solver of ours keeps its vectors in float32 though the weights are not."""
    state = jol.round_stochastic(jol.lbfgs(1e-3)).init(jnp.ones(8, jnp.bfloat16))
    assert {leaf.dtype for leaf in jax.tree.leaves(state) if jnp.issubdtype(leaf.dtype, jnp.floating)} == {
        jnp.dtype(jnp.float32)
    }


def test_apply_updates_at_random():
    w = jnp.ones(10_000, jnp.bfloat16)
    new = jol.apply_updates(w, jnp.full(10_000, -1e-3), rounding="stochastic", key=jax.random.key(1))
    # a share 1e-3 / 2^-8 moves by 2^-8: 5 standard errors of a binomial share
    share = 1e-3 / 2.0**-8
    assert abs(float(jnp.mean(new != w)) - share) < 5 * np.sqrt(share * (1 - share) / 10_000)
    wide = jnp.ones(5)
    np.testing.assert_array_equal(jol.apply_updates(wide, wide, rounding="stochastic", key=jax.random.key(1)), 2 * wide)


def test_bad_input():
    w = jnp.ones(3, jnp.bfloat16)
    with pytest.raises(ValueError, match="rounding must be 'nearest' or 'stochastic', got 'up'"):
        jol.apply_updates(w, w, rounding="up")
    with pytest.raises(ValueError, match="stochastic rounding needs a key"):
        jol.apply_updates(w, w, rounding="stochastic")
    for way in WAYS.values():
        with pytest.raises(ValueError, match="reads the parameters"):
            way(jol.adam(1e-3)).update(w, way(jol.adam(1e-3)).init(w))
        with pytest.raises(TypeError, match="must be a transformation"):
            way(jol.adam)
