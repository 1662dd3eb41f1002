"""Norms by layer, ratios and noise against NumPy in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxopt_lectures.diagnostics import noise_scale, norms_by_layer, update_ratios


def tree(dtype=jnp.float32, scale=1.0):
    rng = np.random.default_rng(0)
    return {
        "one": {"kernel": jnp.asarray(scale * rng.normal(size=(3, 4)), dtype), "bias": jnp.asarray([3.0, 4.0], dtype)},
        "two": [jnp.asarray(scale * rng.normal(size=(2, 2)), dtype)],
    }


def numpy_norm(*arrays):
    return np.sqrt(sum(np.sum(np.asarray(a, np.float64) ** 2) for a in arrays))


def test_norms_by_leaf_and_by_layer():
    t = tree()
    one, two = t["one"], t["two"]
    # float32: a sum of 12 squares and a root, at most 14 roundings of 6e-8
    close = {"rtol": 14 * 6e-8}
    leaves = norms_by_layer(t)
    assert list(leaves) == ["one/bias", "one/kernel", "two/0"]
    assert leaves["one/bias"] == 5
    np.testing.assert_allclose(leaves["one/kernel"], numpy_norm(one["kernel"]), **close)
    layers = norms_by_layer(t, depth=1)
    assert list(layers) == ["one", "two"]
    np.testing.assert_allclose(layers["one"], numpy_norm(one["kernel"], one["bias"]), **close)
    whole = norms_by_layer(t, depth=0)
    assert list(whole) == [""]
    np.testing.assert_allclose(whole[""], numpy_norm(one["kernel"], one["bias"], *two), **close)


def test_norms_of_one_array_and_of_small_and_large_numbers():
    assert norms_by_layer(jnp.array([3.0, 4.0])) == {"": 5}
    assert norms_by_layer({"a": jnp.array([3e30, 4e30])})["a"] == pytest.approx(5e30, rel=1e-6)  # squares overflow
    assert norms_by_layer({"a": jnp.array([3e-30, 4e-30])})["a"] == pytest.approx(5e-30, rel=1e-6)  # squares vanish


def test_norms_of_a_network_under_jit(x64):
    model = nnx.Sequential(nnx.Linear(3, 4, rngs=nnx.Rngs(0)), nnx.Linear(4, 2, rngs=nnx.Rngs(1)))
    state = nnx.state(model, nnx.Param)
    found = jax.jit(norms_by_layer, static_argnums=1)(state, 2)
    assert list(found) == ["layers/0", "layers/1"]
    np.testing.assert_allclose(
        found["layers/0"], numpy_norm(model.layers[0].kernel[...], model.layers[0].bias[...]), rtol=1e-6
    )
    assert list(norms_by_layer(state)) == ["layers/0/bias", "layers/0/kernel", "layers/1/bias", "layers/1/kernel"]


def test_update_ratios(x64):
    params = tree(jnp.float64)
    updates = jax.tree.map(lambda w: -0.01 * w, params)
    for depth in (None, 0, 1):
        # -0.01 w rounds once, the norms and the quotient below 20 times
        np.testing.assert_allclose(list(update_ratios(updates, params, depth).values()), 0.01, rtol=20 * 1.2e-16)


def test_update_ratio_of_zeros():
    """A fresh bias of zeros moves by infinitely much of itself; one that stays has no ratio."""
    zeros = {"b": jnp.zeros(2)}
    assert update_ratios({"b": jnp.ones(2)}, zeros)["b"] == jnp.inf
    assert jnp.isnan(update_ratios(zeros, zeros)["b"])


def test_noise_scale_is_the_formula(x64):
    rng = np.random.default_rng(1)
    a, b = rng.normal(1.0, 2.0, size=(9, 4)), rng.normal(-1.0, 0.5, size=(9, 2, 3))
    flat = np.concatenate([a, b.reshape(9, -1)], axis=1)
    noise = np.trace(np.cov(flat, rowvar=False))  # divides by n - 1
    signal = np.sum(flat.mean(axis=0) ** 2) - noise / 9
    found = noise_scale([jnp.asarray(a), jnp.asarray(b)])
    # sums of 90 terms in float64
    np.testing.assert_allclose(found, (signal, noise, noise / signal), rtol=1e-13)


def test_noise_scale_of_two_batch_sizes(x64):
    """The appendix's estimator from gradients of batches of 1 and of n gives the same two numbers."""
    g = np.random.default_rng(2).normal(0.3, 1.0, size=(16, 5))
    small, big = np.mean(np.sum(g**2, axis=1)), np.sum(g.mean(axis=0) ** 2)
    signal = (16 * big - small) / (16 - 1)
    noise = (small - big) / (1 - 1 / 16)
    np.testing.assert_allclose(noise_scale(jnp.asarray(g))[:2], (signal, noise), rtol=1e-12)


def test_noise_scale_is_unbiased():
    """Gaussian gradients of known mean and covariance: the mean of many estimates is the truth.

    With n examples of N(mu, diag(s^2)): Var(noise) = 2 sum s^4 / (n-1), for S is a sum of independent scaled chi^2;
    signal = |m|^2 - S/n, m and S independent, so Var(signal) = 4 mu'Sigma mu/n + 2 tr(Sigma^2)/n^2 + Var(noise)/n^2.
    The mean of R = 4000 estimates must lie within 4.5 standard errors (chance 7e-6).
    """
    n, repeats = 6, 4000
    mu, s = np.array([1.0, -0.5, 0.2]), np.array([0.5, 1.0, 2.0])
    drawn = jax.random.normal(jax.random.key(0), (repeats, n, 3)) * jnp.asarray(s, jnp.float32) + jnp.asarray(
        mu, jnp.float32
    )
    found = jax.vmap(noise_scale)(drawn)
    noise_variance = 2 * np.sum(s**4) / (n - 1)
    signal_variance = 4 * np.sum(mu**2 * s**2) / n + 2 * np.sum(s**4) / n**2 + noise_variance / n**2
    for estimates, truth, variance in (
        (found.noise, np.sum(s**2), noise_variance),
        (found.signal, np.sum(mu**2), signal_variance),
    ):
        estimates = np.asarray(estimates, np.float64)
        assert abs(estimates.mean() - truth) < 4.5 * np.sqrt(variance / repeats)
        # and the variance itself is right: relative spread sqrt((kurtosis - 1) / R), below 0.05
        assert estimates.var() == pytest.approx(variance, rel=0.2)
    # The naive |m|^2 is too long by tr(Sigma)/n = 0.875, which this test would see: 4.5 errors are 0.1.
    assert 4.5 * np.sqrt(signal_variance / repeats) < np.sum(s**2) / n / 5


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: norms_by_layer({"a": jnp.arange(3)}), TypeError, r"leaf\['a'\] has dtype int32"),
        (lambda: norms_by_layer({}), ValueError, "at least one leaf"),
        (lambda: norms_by_layer(jnp.ones(2), depth=-1), ValueError, "depth must be at least 0, got -1"),
        (lambda: norms_by_layer(jnp.ones(2), depth=1.5), TypeError, "depth must be an integer"),
        (lambda: update_ratios({"a": jnp.ones(2)}, {"b": jnp.ones(2)}), ValueError, "updates must be a tree like"),
        (lambda: update_ratios({"a": jnp.ones(2)}, {"a": jnp.ones(3)}), ValueError, r"updates\['a'\] has shape \(2,\)"),
        (lambda: noise_scale(jnp.ones((1, 3))), ValueError, r"at least 2 examples.*\(1, 3\)"),
        (lambda: noise_scale([jnp.ones((2, 3)), jnp.ones((3, 2))]), ValueError, r"gradient\[1\] has shape \(3, 2\)"),
        (lambda: noise_scale(jnp.ones(())), ValueError, r"has shape \(\)"),
        (lambda: noise_scale(jnp.ones((2, 3), int)), TypeError, "int32"),
    ],
)
def test_bad_input(call, error, message):
    with pytest.raises(error, match=message):
        call()
