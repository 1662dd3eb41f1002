"""Every clip against NumPy and optax; then what breaks clips: zeros, infinities, overflowing norms, odd trees."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxopt_lectures as jol
from tests.conformance.cases import equal, mixed_tree, same_type, standard, tree
from tests.oracles import clipping as oracle

U32, U64 = 2.0**-24, 2.0**-53  # half a unit in the last place at 1: the largest relative error of one rounding

# name: (clip from a threshold, optax's, the oracle on a dict of arrays, name of the threshold)
CLIPS = {
    "value": (jol.clip, optax.clip, lambda g, w, c: {k: oracle.clip(g[k], c) for k in g}, "max_delta"),
    "global": (
        jol.clip_by_global_norm,
        optax.clip_by_global_norm,
        lambda g, w, c: dict(zip(g, oracle.clip_by_global_norm(list(g.values()), c), strict=True)),
        "max_norm",
    ),
    "rms": (
        jol.clip_by_block_rms,
        optax.clip_by_block_rms,
        lambda g, w, c: {k: oracle.clip_by_block_rms(g[k], c) for k in g},
        "threshold",
    ),
    "adaptive": (
        jol.adaptive_grad_clip,
        optax.adaptive_grad_clip,
        lambda g, w, c: {k: oracle.adaptive_grad_clip(g[k], w[k], c) for k in g},
        "clipping",
    ),
}
every_clip = pytest.mark.parametrize("name", CLIPS)
# Clipped and not clipped, each: of normal gradients about 300 elements, norm 17, rms 1, norm of the weights as large.
LEVELS = [0.3, 1.0, 50.0]


def once(tx, g, w=None, jit=True):
    """Updates and state after one step."""
    w = g if w is None else w
    return (jax.jit(tx.update) if jit else tx.update)(g, tx.init(w), w)


@functools.partial(jax.jit, static_argnums=0)
def clipped(factory, level, g, w):
    """Updates at a traced threshold: one program for all levels."""
    tx = factory(level)
    return tx.update(g, tx.init(w), w)[0]


def full(dtype=jnp.float32, seed=0):
    """A scalar, a matrix and a vector of 257: of the conformance suite's tree, what the oracles have a mean for."""
    found = tree(dtype, seed)
    return {name: found[name] for name in ("scalar", "matrix", "odd")}


def pair(m, v, dtype=jnp.float32):
    """A matrix and a vector: one shape for all special values, so that they share the compiled programs."""
    return {"m": jnp.asarray(np.reshape(m, (2, 2)), dtype), "v": jnp.asarray(np.reshape(v, (4,)), dtype)}


ONES = pair(np.ones(4), np.ones(4))


def as_numpy(g):
    return {k: np.asarray(v, np.float64) for k, v in g.items()}


# ---- truth


@every_clip
@pytest.mark.parametrize("level", LEVELS)
def test_float64(name, level, x64):
    ours, theirs, truth, _ = CLIPS[name]
    g, w = full(jnp.float64, 1), full(jnp.float64, 2)
    updates = clipped(ours, level, g, w)
    with standard():
        twin = clipped(theirs, level, g, w)
    for key, expected in truth(as_numpy(g), as_numpy(w), level).items():
        # elements below 5; a norm of 300 squares in any order is off by 300 U64 at most: 5 * 300 * 2^-53 = 2e-13
        np.testing.assert_allclose(updates[key], expected, rtol=0, atol=1e-12)
        np.testing.assert_allclose(updates[key], twin[key], rtol=0, atol=1e-12)


@every_clip
@pytest.mark.parametrize("level", LEVELS)
def test_float32(name, level):
    ours, theirs, truth, _ = CLIPS[name]
    g, w = full(seed=1), full(seed=2)
    updates = clipped(ours, level, g, w)
    with standard():
        twin = clipped(theirs, level, g, w)
    for key, expected in truth(as_numpy(g), as_numpy(w), level).items():
        # half of the relative error of a sum of n <= 300 squares in any order, n U32 / 2, and 6 roundings beside it
        bound = (150 + 6) * U32
        np.testing.assert_allclose(updates[key], expected, rtol=bound, atol=0)
        np.testing.assert_allclose(updates[key], twin[key], rtol=2 * bound, atol=0)


@every_clip
def test_eager_is_jit(name):
    ours, *_ = CLIPS[name]
    g, w = ({"wide": full(seed=k), "narrow": tree(jnp.bfloat16, k)["short"], "nothing": None} for k in (1, 2))
    eager, _ = once(ours(0.3), g, w, jit=False)
    jitted, state = once(ours(0.3), g, w)
    same_type(eager, g)
    same_type(state, ours(0.3).init(w))
    for a, b in zip(jax.tree.leaves(eager), jax.tree.leaves(jitted), strict=True):
        # XLA may sum in another order when it sees the whole step; bfloat16 may then round to the other side
        bound = 312 * U32 if a.dtype == jnp.float32 else 2.0**-7
        np.testing.assert_allclose(np.asarray(a, np.float64), np.asarray(b, np.float64), rtol=bound, atol=0)


def test_exact():
    """(3, 4) at norm 1 is (0.6, 0.8) to the last place; what lies below the threshold keeps its bits."""
    g = {"w": jnp.float32([3.0, 4.0])}
    updates, state = once(jol.clip_by_global_norm(1.0), g)
    np.testing.assert_allclose(updates["w"], np.float32([0.6, 0.8]), rtol=2 * U32)
    assert float(state.norm) == 5.0
    for tx in (jol.clip(4.0), jol.clip_by_global_norm(5.0), jol.clip_by_block_rms(3.6), jol.adaptive_grad_clip(1.0)):
        equal(once(tx, g)[0], g)


def test_clip_by_value_is_clip():
    assert jol.clip_by_value is jol.clip


# ---- adaptive clipping: what a unit is

SHAPES = [(), (1,), (7,), (1, 7), (3, 5), (2, 3, 4), (1, 3, 4), (2, 3, 4, 5), (1, 1, 1, 5), (2, 2, 2, 2, 3)]


def test_adaptive_units(x64):
    rng = np.random.default_rng(3)
    g = {str(shape): jnp.asarray(rng.normal(size=shape)) for shape in SHAPES}
    w = {str(shape): jnp.asarray(rng.normal(size=shape)) for shape in SHAPES}
    updates, _ = once(jol.adaptive_grad_clip(0.4), g, w)
    with standard():
        twin, _ = once(optax.adaptive_grad_clip(0.4), g, w)
    for key in g:
        expected = oracle.adaptive_grad_clip(g[key], w[key], 0.4)
        assert (expected != np.asarray(g[key])).any(), "clips something"
        np.testing.assert_allclose(updates[key], expected, rtol=0, atol=1e-12)
        np.testing.assert_allclose(updates[key], twin[key], rtol=0, atol=1e-12)


@pytest.mark.parametrize("axis", [0, 1, -1, (0, 1), (-1, 0)], ids=str)
def test_adaptive_axis(axis, x64):
    rng = np.random.default_rng(4)
    g, w = rng.normal(size=(3, 5)), rng.normal(size=(3, 5))
    updates, _ = once(jol.adaptive_grad_clip(0.4, axis=axis), {"w": jnp.asarray(g)}, {"w": jnp.asarray(w)})
    with standard():
        twin, _ = once(optax.adaptive_grad_clip(0.4, axis=axis), {"w": jnp.asarray(g)}, {"w": jnp.asarray(w)})

    def norm(a):
        return np.sqrt(np.sum(a * a, axis=axis, keepdims=True))

    expected = g * np.minimum(1, 0.4 * norm(w) / norm(g))
    np.testing.assert_allclose(updates["w"], expected, rtol=0, atol=1e-14)  # 15 elements below 4, as above
    np.testing.assert_allclose(updates["w"], twin["w"], rtol=0, atol=1e-14)


def test_adaptive_least_weight():
    """Weights of 0 count as eps long, so that they can start to move: 0.5 * 1e-3, and 0.5 * 0.2."""
    g, w = {"w": jnp.float32([3.0, 4.0])}, {"w": jnp.zeros(2)}
    for eps in (1e-3, 0.2):
        updates, _ = once(jol.adaptive_grad_clip(0.5, eps), g, w)
        np.testing.assert_allclose(updates["w"], 0.5 * eps * np.array([0.6, 0.8]), rtol=8 * U32)


def test_adaptive_needs_parameters():
    tx, g = jol.adaptive_grad_clip(0.1), {"w": jnp.ones(2)}
    with pytest.raises(
        ValueError, match=r"adaptive_grad_clip reads the parameters: call update\(gradients, state, params\)"
    ):
        tx.update(g, tx.init(g))


# ---- zeros, infinities, NaN, overflow


@every_clip
@pytest.mark.parametrize("level", [0.0, 1.0])
def test_zeros_stay_zeros(name, level):
    ours, *_ = CLIPS[name]
    g = jax.tree.map(jnp.zeros_like, mixed_tree())
    equal(clipped(ours, level, g, g), g)


@every_clip
def test_threshold_of_zero_takes_everything(name):
    ours, *_ = CLIPS[name]
    updates = clipped(ours, 0.0, pair([3.0, -4.0, 1e-30, 0.0], [1.0, -3e38, 5.0, jnp.inf]), ONES)
    np.testing.assert_array_equal(updates["m"], np.zeros((2, 2)))
    np.testing.assert_array_equal(updates["v"], np.zeros(4))


INFINITE = {  # what the clip of (1, 2, h, 0) to 0.5 tends to as h grows, and whether another array keeps its bits
    "value": ([0.5, 0.5, 0.5, 0.0], True),
    "global": ([0.0, 0.0, 0.5, 0.0], False),
    "rms": ([0.0, 0.0, 0.5 * 2, 0.0], True),
    "adaptive": ([0.0, 0.0, 0.5 * 2, 0.0], True),  # half of |w| = 2
}


@every_clip
@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_one_infinity_takes_the_direction(name, sign, dtype, x64):
    g = pair([0.25, 0.5, 0.125, 0.25], [1.0, 2.0, sign * jnp.inf, 0.0], dtype)
    updates = clipped(CLIPS[name][0], 0.5, g, pair(np.ones(4), np.ones(4), dtype))
    limit, spared = INFINITE[name]
    # dividing by the largest number leaves others at 1e-38 or less; two roundings beside it
    np.testing.assert_allclose(updates["v"], np.array([1, 1, sign, 1]) * limit, rtol=4 * U32, atol=1e-37)
    np.testing.assert_allclose(updates["m"], g["m"] if spared else np.zeros((2, 2)), rtol=0, atol=1e-37)


def test_two_infinities_share_the_direction():
    g = {"w": jnp.float32([jnp.inf, 1.0, -jnp.inf])}
    updates, state = once(jol.clip_by_global_norm(1.0), g)
    np.testing.assert_allclose(updates["w"], [0.5**0.5, 0.0, -(0.5**0.5)], rtol=4 * U32, atol=1e-37)
    assert float(state.norm) == np.inf, "the norm in the state does not hide it"
    _, state = once(jol.clip_by_global_norm(1.0), {"w": jnp.float32([1.0, jnp.inf])})
    assert float(state.norm) == np.inf


def test_nan_stays_nan():
    """And spoils only what is scaled together: the element, everything, the array, the column."""
    g = pair([1.0, jnp.nan, 2.0, 3.0], np.ones(4))
    poisoned = {"value": [1], "global": range(8), "rms": range(4), "adaptive": [1, 3]}
    for name, (ours, *_) in CLIPS.items():
        for level in (0.0, 0.5, 100.0):
            updates = clipped(ours, level, g, ONES)
            found = np.concatenate([np.ravel(u) for u in jax.tree.leaves(updates)])
            np.testing.assert_array_equal(np.flatnonzero(np.isnan(found)), list(poisoned[name]), err_msg=name)
    assert np.isnan(float(once(jol.clip_by_global_norm(1.0), g)[1].norm))
    g = {"w": jnp.float32([jnp.inf, jnp.nan])}
    assert np.isnan(once(jol.clip_by_global_norm(1.0), g)[0]["w"]).all(), "an inf beside it does not hide it"


def test_float16_whose_norm_overflows():
    """Ten times 300: the norm is 949, its square does not fit float16."""
    g = {"w": jnp.full((10,), 300, jnp.float16)}
    w = {"w": jnp.ones((10,), jnp.float16)}
    updates, state = once(jol.clip_by_global_norm(1.0), g, w)
    assert state.norm.dtype == jnp.float32
    np.testing.assert_allclose(state.norm, 300 * np.sqrt(10), rtol=10 * U32)
    for tx, size in ((jol.clip_by_global_norm(1.0), 0.1**0.5), (jol.clip_by_block_rms(1.0), 1.0)):
        updates, _ = once(tx, g, w)
        assert updates["w"].dtype == jnp.float16
        np.testing.assert_allclose(np.float64(updates["w"]), size, rtol=2.0**-11)  # one rounding to float16
    updates, _ = once(jol.adaptive_grad_clip(1.0), g, w)
    np.testing.assert_allclose(np.float64(updates["w"]), 1.0, rtol=2.0**-11)


@every_clip
def test_bfloat16(name):
    """Computed in float32 and rounded once."""
    ours, _, truth, _ = CLIPS[name]
    g, w = full(jnp.bfloat16, 1), full(jnp.bfloat16, 2)
    updates = clipped(ours, 0.3, g, w)
    for key, expected in truth(as_numpy(g), as_numpy(w), 0.3).items():
        assert updates[key].dtype == jnp.bfloat16
        # one rounding to 8 digits, 2^-8 at most, and the 156 of float32 before it
        np.testing.assert_allclose(np.float64(updates[key]), expected, rtol=2.0**-8 + 156 * U32, atol=0)


@every_clip
@pytest.mark.parametrize("big", [1e25, 8e37, 1e38, 3e38])
def test_float32_whose_norm_overflows(name, big):
    """Also where the norm itself does not fit (3e38 twice), and where 1 / big is not a normal number (above 8.5e37)."""
    ours, _, truth, _ = CLIPS[name]
    g = pair([big, 0.5 * big, big, -1.0], [0.0, -big, 0.25 * big, 7.0])
    updates = clipped(ours, 0.5, g, ONES)
    for key, expected in truth(as_numpy(g), as_numpy(ONES), 0.5).items():
        # sums of 8 squares and a handful of roundings; 1 beside 1e25 and more may flush to 0
        np.testing.assert_allclose(updates[key], expected, rtol=16 * U32, atol=1e-24, err_msg=key)


@every_clip
def test_float32_whose_squares_vanish(name):
    """1e-30 is not 0: at a threshold of 1e-30 its norm is measured, not lost."""
    ours, _, truth, _ = CLIPS[name]
    g = pair([3e-30, -4e-30, 1e-31, 5e-30], [3e-30, -4e-30, 0.0, 2e-30])
    updates = clipped(ours, 1e-30, g, ONES)
    for key, expected in truth(as_numpy(g), as_numpy(ONES), 1e-30).items():
        np.testing.assert_allclose(updates[key], expected, rtol=16 * U32, atol=0)


# ---- odd trees


@every_clip
def test_odd_trees(name):
    """Empty arrays, scalars, None and empty trees: kept as they are, and of no weight."""
    ours, _, truth, _ = CLIPS[name]
    plain = {"scalar": jnp.float32(3.0), "matrix": jnp.float32([[1.0, -2.0], [0.5, 4.0]])}
    odd = plain | {"none": None, "nothing": {}, "empty": jnp.zeros((0,)), "flat": jnp.zeros((0, 3)), "thin": ()}
    updates, state = once(ours(0.5), odd)
    same_type(updates, odd)
    same_type(state, ours(0.5).init(odd))
    for key, expected in truth(as_numpy(plain), as_numpy(plain), 0.5).items():
        np.testing.assert_allclose(updates[key], expected, rtol=16 * U32)
    for nothing in ({}, (), {"a": None}, {"a": jnp.zeros((0, 3))}):
        same_type(clipped(ours, 0.5, nothing, nothing), nothing)


def test_norm_of_nothing_is_zero():
    for nothing in ({}, {"a": None}, {"a": jnp.zeros((0, 3))}):
        _, state = once(jol.clip_by_global_norm(0.5), nothing)
        assert float(state.norm) == 0.0


# ---- thresholds


@every_clip
def test_threshold_under_vmap(name):
    ours, *_ = CLIPS[name]
    g, w = pair([3.0, -4.0, 0.1, 2.0], [1.0, 0.0, -7.0, 0.5]), pair([1.0, 2.0, 0.0, 3.0], [1.0, 1.0, 4.0, 2.0])
    levels = jnp.float32([0.0, 0.3, 1.0, 50.0])
    swept = jax.jit(jax.vmap(lambda c: ours(c).update(g, ours(c).init(w), w)[0]))(levels)
    for lane, level in enumerate(levels):
        alone = clipped(ours, level, g, w)
        for key in g:
            np.testing.assert_allclose(swept[key][lane], alone[key], rtol=16 * U32, atol=0)  # sums of 8 squares


@every_clip
def test_threshold_from_a_schedule(name):
    ours, _, _, _ = CLIPS[name]
    g = pair([3.0, -4.0, 0.1, 2.0], [1.0, 0.0, -7.0, 0.5])
    levels = [0.1, 2.0, 0.0, 0.5]
    tx = ours(lambda count: jnp.float32(levels)[count])
    step, state = jax.jit(tx.update), tx.init(ONES)
    for level in levels:
        updates, state = step(g, state, ONES)
        for key, alone in clipped(ours, level, g, ONES).items():
            np.testing.assert_allclose(updates[key], alone, rtol=16 * U32, atol=0)
    assert int(state.clip_count) == 4


@every_clip
def test_traced_once(name):
    """New gradients and new thresholds find the program of the first."""
    ours, *_ = CLIPS[name]
    chex.clear_trace_counter()
    step = jax.jit(chex.assert_max_traces(lambda g, s, w, c: ours(c).update(g, s, w), n=1))
    state = ours(1.0).init(ONES)
    for k in range(3):
        _, state = step(jax.tree.map(lambda x, k=k: k * x, ONES), state, ONES, jnp.float32(0.1 * k))
    assert int(state.clip_count) == 3


def test_norm_is_kept_in_the_state():
    """Of the gradients before clipping; found by name in a chain."""
    tx = jol.chain(jol.clip_by_global_norm(1.0), jol.sgd(0.1))
    w = {"a": jnp.zeros(2), "b": jnp.zeros(())}
    state = tx.init(w)
    assert float(optax.tree_utils.tree_get(state, "norm")) == 0.0
    for scale in (1.0, 0.1):
        g = {"a": scale * jnp.float32([2.0, -3.0]), "b": scale * jnp.float32(6.0)}
        _, state = jax.jit(tx.update)(g, state, w)
        np.testing.assert_allclose(optax.tree_utils.tree_get(state, "norm"), 7.0 * scale, rtol=4 * U32)


BAD = [
    *[(factory, name, value) for factory, _, _, name in CLIPS.values() for value in (-1.0, float("nan"), float("inf"))],
    (lambda v: jol.adaptive_grad_clip(0.1, eps=v), "eps", -1e-3),
    *[(jol.clip_by_percentile, "percentile", value) for value in (-1.0, 100.5, float("nan"))],
]


@pytest.mark.parametrize(("factory", "name", "value"), BAD, ids=lambda x: str(x) if not callable(x) else "")
def test_numbers_out_of_range(factory, name, value):
    with pytest.raises(ValueError, match=rf"{name} must lie in \[.*got {value!r}"):
        factory(value)


def test_history_is_a_size():
    for value in (0, -3):
        with pytest.raises(ValueError, match=f"history must be at least 1, got {value}"):
            jol.clip_by_percentile(10.0, value)
    for value in (2.5, float("nan"), "3", True, lambda count: 3):
        with pytest.raises(TypeError, match="history must be an integer, got"):
            jol.clip_by_percentile(10.0, value)


@pytest.mark.parametrize("value", ["1.0", True, None, 1j, {}], ids=repr)
def test_wrong_types(value):
    named = [(f, n) for f, _, _, n in CLIPS.values()] + [(jol.clip_by_percentile, "percentile")]
    for factory, name in named:
        with pytest.raises(TypeError, match=f"{name} must be a number"):
            factory(value)
    with pytest.raises(TypeError, match="history must be"):
        jol.clip_by_percentile(10.0, value)


def test_arrays_are_no_thresholds():
    for factory, _, _, name in CLIPS.values():
        with pytest.raises(ValueError, match=rf"{name} must be a scalar, got shape \(2,\).*vmap"):
            factory(jnp.ones(2))


# ---- percentile of the run's own history


def percentile_run(norms, percentile, history, dtype=jnp.float64):
    """Clipped gradients and states for gradients of these norms, in two arrays."""
    unit = {"a": np.array([0.6, 0.0]), "b": np.array([[-0.8]])}
    tx = jol.clip_by_percentile(percentile, history)
    step, state, found = jax.jit(tx.update), tx.init(jax.tree.map(lambda u: jnp.asarray(u, dtype), unit)), []
    for norm in norms:
        g = jax.tree.map(lambda u, norm=norm: jnp.asarray(np.where(u == 0, 0.0, norm) * u, dtype), unit)
        updates, state = step(g, state)
        found.append((g, updates, state))
    return found


@pytest.mark.parametrize("percentile", [0.0, 10.0, 37.5, 50.0, 100.0])
def test_percentile(percentile, x64):
    """Twelve steps with a memory of five: the window moves on, the oldest norm is forgotten."""
    norms = np.random.default_rng(5).lognormal(size=12)
    for step, (g, updates, state) in enumerate(percentile_run(norms, percentile, 5)):
        expected = oracle.clip_by_percentile(norms[max(0, step - 4) : step], [g["a"], g["b"]], percentile)
        np.testing.assert_allclose(updates["a"], expected[0], rtol=1e-14, atol=0)
        np.testing.assert_allclose(updates["b"], expected[1], rtol=1e-14, atol=0)
        np.testing.assert_allclose(state.norm, norms[step], rtol=1e-15)
        assert int(state.clip_count) == step + 1


@pytest.mark.parametrize("bad", [np.inf, np.nan])
def test_percentile_forgets_what_is_not_finite(bad, x64):
    """In the window it counts as a step without a norm; an inf itself is scaled to the percentile of the others."""
    norms = np.random.default_rng(6).lognormal(size=12)
    norms[4] = bad
    for step, (g, updates, state) in enumerate(percentile_run(norms, 40.0, 5)):
        window = norms[max(0, step - 4) : step]
        seen = window[np.isfinite(window)]
        if step == 4:
            limit = np.percentile(seen, 40.0)
            spread = np.sqrt(2)  # two infinite elements of three
            expected = [np.array([limit / spread, 0.0]), np.array([[-limit / spread]])]
            if np.isnan(bad):
                expected = [np.full(2, np.nan), np.full((1, 1), np.nan)]
        else:
            expected = oracle.clip_by_percentile(seen, [g["a"], g["b"]], 40.0)
        np.testing.assert_allclose(updates["a"], expected[0], rtol=1e-14, atol=0)
        np.testing.assert_allclose(updates["b"], expected[1], rtol=1e-14, atol=0)
        assert not np.isnan(state.history).any()


def test_percentile_float32():
    norms = np.random.default_rng(7).lognormal(size=8)
    for step, (g, updates, state) in enumerate(percentile_run(norms, 25.0, 3, jnp.float32)):
        expected = oracle.clip_by_percentile(norms[max(0, step - 2) : step], [g["a"], g["b"]], 25.0)
        assert state.history.dtype == jnp.float32
        # norm, interpolation (two numbers 1000 apart at most) and scale: about 10 roundings
        np.testing.assert_allclose(updates["a"], expected[0], rtol=16 * U32, atol=0)
        np.testing.assert_allclose(updates["b"], expected[1], rtol=16 * U32, atol=0)


def test_percentile_zeros_and_nothing():
    tx = jol.clip_by_percentile(50.0, 3)
    for g in ({"w": jnp.zeros(3)}, {"w": None}, {}, {"w": jnp.zeros((0,))}):
        updates, state = once(tx, g)
        equal(updates, g)
        assert float(state.norm) == 0.0


def test_percentile_traced_and_scheduled():
    """Swept by vmap; from a schedule it takes its value at the step."""
    g = [{"w": jnp.float32([3.0, 4.0]) * k} for k in (1.0, 3.0, 2.0)]

    def third(percentile):
        tx = jol.clip_by_percentile(percentile, 4)
        state = tx.init(g[0])
        for gradient in g:
            updates, state = tx.update(gradient, state)
        return jnp.linalg.norm(updates["w"])

    swept = jax.jit(jax.vmap(third))(jnp.float32([0.0, 25.0, 50.0, 75.0, 100.0]))
    np.testing.assert_allclose(swept, [5.0, 7.5, 10.0, 10.0, 10.0], rtol=8 * U32)  # of norms 5, 15, 10
    falling = third(lambda count: jnp.float32([100.0, 100.0, 25.0])[count])
    np.testing.assert_allclose(falling, 7.5, rtol=8 * U32)


def test_percentile_traced_once():
    tx = jol.clip_by_percentile(10.0, 3)
    chex.clear_trace_counter()
    step = jax.jit(chex.assert_max_traces(lambda g, s: tx.update(g, s), n=1))
    state = tx.init(ONES)
    for k in range(5):
        _, state = step(jax.tree.map(lambda x, k=k: k * x, ONES), state)
    same_type(state, tx.init(ONES))
    assert int(state.clip_count) == 5


# ---- derivatives and chains

ALL = {name: ours(0.5) for name, (ours, *_) in CLIPS.items()} | {"percentile": jol.clip_by_percentile(50.0, 4)}
every_transformation = pytest.mark.parametrize("tx", ALL.values(), ids=ALL)


def through(tx, g):
    """A number that depends on the clip of `g`, after a step that fills the history."""
    w = {"w": jnp.ones((3,))}
    _, state = tx.update({"w": jnp.float32([0.1, 0.0, 0.0])}, tx.init(w), w)
    return jnp.sum(jnp.float32([1.0, 2.0, 3.0]) * tx.update({"w": g}, state, w)[0]["w"])


@every_transformation
def test_derivative_at_zero(tx):
    """0 is not clipped, so there the derivative is that of the identity; through grad, vmap of it and it of vmap."""
    batch = jnp.float32([[0.0, 0.0, 0.0], [3.0, 0.0, -4.0]])

    @jax.jit
    def slopes(batch):
        one = jax.grad(lambda g: through(tx, g))
        outside = jax.grad(lambda b: jnp.sum(jax.vmap(lambda g: through(tx, g))(b)))
        return jax.vmap(one)(batch), outside(batch), one(batch[0])

    inside, outside, alone = slopes(batch)
    np.testing.assert_array_equal(alone, [1.0, 2.0, 3.0])
    for found in (inside, outside):
        np.testing.assert_array_equal(found[0], [1.0, 2.0, 3.0])
        assert np.isfinite(found).all()


@every_transformation
def test_derivative_is_that_of_differences(tx, x64):
    """Where it clips; central differences of h = 1e-6 are off by h^2 times curvatures, and by 10 * 2^-53 / h = 1e-9."""
    with standard():
        at, h = jnp.asarray([3.0, 0.2, -4.0]), 1e-6 * jnp.eye(3)
        both = jax.jit(lambda g: (jax.vmap(lambda g: through(tx, g))(g), jax.grad(lambda g: through(tx, g))(g[0])))
        values, slope = both(jnp.concatenate([at[None], at + h, at - h]))
    np.testing.assert_allclose(slope, (values[1:4] - values[4:]) / 2e-6, rtol=0, atol=1e-8)


@every_transformation
def test_derivative_where_squares_leave_the_range(tx):
    slope = jax.jit(jax.grad(lambda g: through(tx, g)))
    for size in (1e-30, 1e-20, 1e25, 3e38):
        found = slope(size * jnp.float32([1.0, 0.0, -0.5]))
        assert np.isfinite(found).all(), (size, found)


@pytest.mark.parametrize("chain", [optax.chain, jol.chain], ids=["optax", "jol"])
def test_chained_with_an_optimizer(chain):
    """Three clips before Adam: the steps are those of the parts, taken by hand."""
    parts = [jol.clip_by_percentile(60.0, 3), jol.clip_by_global_norm(2.0), jol.clip(0.3), jol.adam(0.1)]
    whole, w = chain(*parts), {"matrix": tree()["matrix"], "scalar": tree()["scalar"]}
    states, state = [part.init(w) for part in parts], whole.init(w)
    step = jax.jit(whole.update)
    for k in range(2):
        g = {name: tree(seed=10 + k)[name] for name in w}
        updates, state = step(g, state, w)
        for index, part in enumerate(parts):
            g, states[index] = jax.jit(part.update)(g, states[index], w)
        for key in w:
            # as one program or as four: a few roundings of a step of 0.1, and those of the norm before it
            np.testing.assert_allclose(updates[key], g[key], rtol=0, atol=0.1 * 400 * U32)
    same_type(tuple(states), state)


@every_clip
def test_clipping_again_changes_nothing(name):
    """But for the rounding of a norm that is now the threshold itself."""
    g, tx = pair([3.0, -4.0, 0.1, 2.0], [1.0, 0.0, -7.0, 0.5]), CLIPS[name][0](0.3)
    first = clipped(CLIPS[name][0], 0.3, g, ONES)
    again, _ = once(jol.chain(tx, tx), g, ONES)
    for a, b in zip(jax.tree.leaves(first), jax.tree.leaves(again), strict=True):
        np.testing.assert_allclose(a, b, rtol=16 * U32, atol=0)
