"""MARS beyond the conformance suite: by hand, and what is left where parts of it are switched off."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxopt_lectures as jol
from tests.conformance.cases import run


def test_two_steps_by_hand(x64):
    """g = 0.3, then 0.5, b1 = 1/2, gamma = 1/10, eps = 0.

    c_1 = 0.3 + 0.1 * 0.3 = 0.33: a step of Adam's is the rate. c_2 = 0.5 + 0.1 * 0.2 = 0.52; m = 0.0825 + 0.26, of
    weight 3/4; v = (0.33^2 + 0.52^2) / 2 where b2 = 1/2 has the weights 1/4, 1/2 of 3/4.
    """
    tx = jol.mars(0.1, 0.5, 0.5, 0.1, 0.0)
    path, state = run(tx, jnp.zeros(1), [jnp.array([0.3]), jnp.array([0.5])])
    np.testing.assert_allclose(path[0], -0.1, rtol=1e-15)
    m, v = (0.25 * 0.33 + 0.5 * 0.52) / 0.75, (0.25 * 0.33**2 + 0.5 * 0.52**2) / 0.75
    np.testing.assert_allclose(path[1], -0.1 - 0.1 * m / np.sqrt(v), rtol=1e-14)
    np.testing.assert_array_equal(state.previous, [0.5])


def test_only_what_is_longer_than_1_is_clipped(x64):
    """(3, 4) has length 5; gamma = 0 leaves it to the clip alone. Array by array."""
    tx = jol.mars(0.1, gamma=0.0)
    g = {"long": jnp.array([3.0, 4.0]), "short": jnp.array([0.3, 0.4])}
    _, state = run(tx, g, [g])
    np.testing.assert_allclose(state.mu["long"], 0.05 * np.array([0.6, 0.8]), rtol=1e-14)
    np.testing.assert_allclose(state.mu["short"], 0.05 * np.array([0.3, 0.4]), rtol=1e-14)
    np.testing.assert_array_equal(state.previous["long"], g["long"])


def test_without_correction_and_clip_it_is_adamw(x64):
    grads = [jnp.asarray(0.1 * np.random.default_rng(k).normal(size=5)) for k in range(10)]
    mine, _ = run(jol.mars(0.1, 0.9, 0.99, 0.0, weight_decay=0.1), jnp.ones(5), grads)
    other, _ = run(jol.adamw(0.1, 0.9, 0.99, weight_decay=0.1), jnp.ones(5), grads)
    np.testing.assert_array_equal(mine, other)


def test_a_mask_chooses_what_decays(x64):
    w = {"kernel": jnp.ones(2), "bias": jnp.ones(2)}
    zero = {"kernel": jnp.zeros(2), "bias": jnp.zeros(2)}
    path, _ = run(jol.mars(0.1, weight_decay=0.5, mask={"kernel": True, "bias": False}), w, [zero])
    np.testing.assert_allclose(path[0]["kernel"], 0.95)
    np.testing.assert_array_equal(path[0]["bias"], 1.0)


@pytest.mark.parametrize("huge", [1e30, np.inf])
def test_huge_gradients_are_clipped(huge):
    """The direction is that of the largest; the others follow as soon as it is gone."""
    tx = jol.mars(0.1)
    w = jnp.zeros(3)
    state = tx.init(w)
    for g in ([huge, 1.0, 0.0], [1.0, 1.0, 1.0]):
        updates, state = tx.update(jnp.array(g), state, w)
        assert np.isfinite(updates).all()
        w = optax.apply_updates(w, updates)
    assert (np.abs(w[:2]) > 0).all()
