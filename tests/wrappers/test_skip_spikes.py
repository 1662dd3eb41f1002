"""Steps with a gradient far above the run's own are skipped, and leave no trace; a new level is accepted."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxopt_lectures as jol
from tests.conformance.cases import equal, same_type, standard

W = {"w": jnp.float32([3.0, 4.0]), "none": None}


def walked(tx, sizes, params=W):
    """Whether each gradient of a size was taken, and all states."""
    step, state, taken, path = jax.jit(tx.update), tx.init(params), [], []
    for size in sizes:
        updates, state = step({"w": jnp.float32([0.6, 0.8]) * np.float32(size), "none": None}, state, params)
        taken.append(bool((np.asarray(updates["w"]) != 0).any()))
        path.append(state)
    return taken, path


def by_hand(sizes, factor, history, warmup, most):
    """The rule, with a list."""
    norms, row, taken = [], 0, []
    for size in sizes:
        spike = len(norms) >= warmup and size > factor * np.median(norms[-history:])
        skip = not np.isfinite(size) or (spike and row < most)
        if not skip:
            norms = [size] if spike else [*norms, size]
        row = row + 1 if skip else 0
        taken.append(not skip)
    return taken


@pytest.mark.parametrize(("factor", "history", "warmup", "most"), [(2.0, 4, None, 2), (3.0, 8, 2, 5), (1.5, 3, 3, 1)])
def test_by_hand(factor, history, warmup, most):
    sizes = np.random.default_rng(0).lognormal(0, 1, 60).astype(np.float32)
    sizes[[20, 21, 40]] = np.nan, np.inf, 1e30
    tx = jol.skip_spikes(jol.sgd(0.1), factor, history, warmup, most)
    taken, path = walked(tx, sizes)
    expected = by_hand(sizes, factor, history, history // 2 if warmup is None else warmup, most)
    assert taken == expected
    assert int(path[-1].total_skipped) == 60 - sum(expected)
    assert 5 < sum(expected) < 58


def test_a_spike_leaves_no_trace():
    tx = jol.skip_spikes(jol.adam(jol.linear_schedule(0.1, 0.0, 10)), 3.0, history=4)
    taken, path = walked(tx, [1.0, 1.1, 50.0, 0.9])
    assert taken == [True, True, False, True]
    equal(path[2].inner_state, path[1].inner_state)
    equal(path[3].inner_state, walked(tx, [1.0, 1.1, 0.9])[1][-1].inner_state)
    assert int(path[3].inner_state.count) == 3
    same_type(path[-1], tx.init(W))


def test_a_new_level_is_accepted():
    """After 2 skipped in a row; then the history is of the new level."""
    tx = jol.skip_spikes(jol.sgd(0.1), 4.0, history=4, warmup=2, max_consecutive=2)
    taken, path = walked(tx, [1.0, 1.0, 1.0, 10.0, 10.0, 10.0, 10.0, 11.0, 90.0])
    assert taken == [True, True, True, False, False, True, True, True, False]
    np.testing.assert_allclose(path[5].history, [10.0, np.inf, np.inf, np.inf], rtol=1e-6)
    np.testing.assert_allclose(path[-1].threshold, 40.0, rtol=1e-6)


def test_not_finite_is_never_let_through():
    tx = jol.skip_spikes(jol.sgd(0.1), history=4, max_consecutive=2)
    taken, path = walked(tx, [1.0, np.nan, np.nan, np.nan, np.inf, 1.0])
    assert taken == [True, False, False, False, False, True]
    assert int(path[4].skipped_in_a_row) == 4
    assert int(path[-1].skipped_in_a_row) == 0


def test_what_it_tells():
    tx = jol.skip_spikes(jol.sgd(0.1), history=2)
    _, path = walked(tx, [1.0, 2.0, 100.0])
    shown = jol.metrics(path[-1])
    assert int(shown["skipped_spikes"]) == 1
    assert float(shown["global_norm"]) == pytest.approx(100.0)
    assert float(shown["spike_threshold"]) == pytest.approx(6.0)


def test_around_optax_donated_and_in_lanes():
    tx = jol.skip_spikes(optax.adam(0.1), history=4)
    step = jax.jit(lambda g, s: tx.update(g, s, None), donate_argnums=1)
    w = {"w": W["w"]}
    with standard():
        updates, state = step(w, tx.init(w))
        lanes = jax.vmap(lambda scale: tx.update({"w": w["w"] * scale}, tx.init(w), w)[0])(jnp.float32([1.0, jnp.nan]))
    same_type(state, tx.init(w))
    np.testing.assert_allclose(lanes["w"][0], updates["w"], rtol=1e-6)
    np.testing.assert_array_equal(lanes["w"][1], [0.0, 0.0])


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"factor": 0.5}, ValueError, r"factor must lie in \[1, inf\), got 0.5"),
        ({"history": 1}, ValueError, "history must be at least 2"),
        ({"history": 4, "warmup": 5}, ValueError, "warmup must be at most history, 4, got 5"),
        ({"max_consecutive": 1.5}, TypeError, "max_consecutive must be an integer"),
    ],
)
def test_bad_input(arguments, error, message):
    with pytest.raises(error, match=message):
        jol.skip_spikes(jol.sgd(0.1), **arguments)
