"""Polynomials towards the orthogonal matrix: where singular values end, and what float32 loses."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxopt_lectures.linalg.orthogonal import coefficients, group_size, orthogonalized
from tests.oracles.matrix import orthogonal


def with_singular_values(values, columns, seed=0):
    rng = np.random.default_rng(seed)
    u, _, v = np.linalg.svd(rng.normal(size=(len(values), columns)), full_matrices=False)
    return u * values @ v


@pytest.mark.parametrize(
    ("preset", "steps", "low", "high"),
    [("quintic", 5, 0.68, 1.14), ("polar_express", 5, 0.84, 1.13), ("polar_express", 8, 0.98, 1.02)],
)
def test_singular_values_end_near_one(preset, steps, low, high):
    """From 0.01 to 1 (polar express: 0.001) of the norm. The bounds are the published ones, with the safety factor."""
    values = np.geomspace(1e-2 if preset == "quintic" else 1e-3, 1, 200)
    a, found = coefficients(preset, steps), values
    for p, q, r in a:
        found = p * found + q * found**3 + r * found**5
    assert low <= found.min()
    assert found.max() <= high
    x = with_singular_values(values / np.linalg.norm(values), 300)
    norm = np.linalg.svd(np.asarray(orthogonalized(jnp.asarray(x, jnp.float32), a)), compute_uv=False)
    assert norm.max() <= 1.21  # what comes from below 0.01 overshoots most


@pytest.mark.parametrize("shape", [(48, 192), (192, 48), (64, 64), (64, 80)])
@pytest.mark.parametrize("condition", [1, 1e2, 1e4, 1e6, "rank"])
@pytest.mark.parametrize("preset", ["quintic", "polar_express"])
def test_float32_error(shape, condition, preset):
    """At most 3e-4 in the spectral norm, for every condition; a group of all five steps would lose 2e-3."""
    n = min(shape)
    values = np.where(np.arange(n) < 5, 1.0, 0.0) if condition == "rank" else np.geomspace(1, 1 / condition, n)
    x = with_singular_values(values, max(shape))
    x = x if shape[0] == n else x.T
    a = coefficients(preset, 5)
    found = np.asarray(jax.jit(lambda x: orthogonalized(x, a))(jnp.asarray(x, jnp.float32)), np.float64)
    assert np.linalg.norm(found - orthogonal(x, a), 2) <= 3e-4


@pytest.mark.parametrize("shape", [(6, 6), (6, 40), (40, 6)])
def test_float64_is_the_formula(shape, x64):
    x = np.random.default_rng(0).normal(size=(3, *shape))
    a = coefficients("polar_express", 7)
    found = np.asarray(orthogonalized(jnp.asarray(x), a))
    for one, result in zip(x, found, strict=True):
        np.testing.assert_allclose(result, orthogonal(one, a), rtol=0, atol=1e-11)


def test_groups_are_taken_where_they_are_cheaper():
    assert [group_size(shape, 5) for shape in [(64, 64), (64, 256), (256, 64), (64, 80)]] == [1, 3, 3, 1]


def test_zeros_and_derivatives():
    a = coefficients("quintic", 5)
    assert not np.any(orthogonalized(jnp.zeros((3, 4)), a))
    assert np.isfinite(jax.grad(lambda x: jnp.sum(orthogonalized(x, a)))(jnp.zeros((3, 4)))).all()


@pytest.mark.parametrize("preset", ["standard", (1.0, 2.0), [], [(1.0, 2.0)]])
def test_bad_coefficients(preset):
    with pytest.raises(ValueError, match="ns_coeffs must be 'quintic', 'polar_express'"):
        coefficients(preset, 5)


def test_own_coefficients():
    assert coefficients((1.5, -0.5, 0.0), 2) == ((1.5, -0.5, 0.0),) * 2
    assert coefficients([(3, -3, 1), (1.5, -0.5, 0)], 3) == ((3.0, -3.0, 1.0), (1.5, -0.5, 0.0), (1.5, -0.5, 0.0))
