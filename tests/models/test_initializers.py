"""Initial weights have the distribution that they name."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxopt_lectures.models import initializers

KEY = jax.random.key(0)


@pytest.mark.parametrize("connections", [1, 15, 40])
def test_sparse_gives_each_unit_its_connections(connections):
    w = np.asarray(initializers.sparse(connections)(KEY, (40, 300), jnp.float32))
    assert (np.count_nonzero(w, axis=0) == connections).all()
    assert w.dtype == np.float32


def test_sparse_gives_all_connections_where_there_are_fewer_inputs():
    assert np.count_nonzero(initializers.sparse(15)(KEY, (6, 50), jnp.float32)) == 300


@pytest.mark.parametrize("scale", [1.0, 0.25])
def test_sparse_weights_are_normal_with_the_scale(scale):
    w = np.asarray(initializers.sparse(15, scale)(KEY, (200, 400), jnp.float32))
    values = w[w != 0] / scale
    # n = 6000 draws: standard error of the mean 1/sqrt(n) = 0.013, of the deviation 1/sqrt(2 n) = 0.009; five of them
    assert len(values) == 6000
    assert abs(values.mean()) < 0.065
    assert abs(values.std() - 1) < 0.046
    # 4.6 % of a normal distribution lie beyond two deviations, standard error sqrt(0.0455 * 0.9545 / n) = 0.0027
    assert abs((np.abs(values) > 2).mean() - 0.0455) < 0.0135


def test_sparse_connections_differ_between_units_and_cover_the_inputs_evenly():
    chosen = np.asarray(initializers.sparse(15)(KEY, (60, 4000), jnp.float32)) != 0
    assert len(np.unique(chosen, axis=1).T) > 3990
    # each input has Binomial(4000, 1/4) units: mean 1000, deviation sqrt(4000 * 3/16) = 27.4; five of them
    assert np.abs(chosen.sum(1) - 1000).max() < 137


def test_sparse_counts_a_window_of_every_channel_as_inputs():
    w = np.asarray(initializers.sparse(7)(KEY, (3, 3, 4, 20), jnp.float32))
    assert w.shape == (3, 3, 4, 20)
    assert (np.count_nonzero(w, axis=(0, 1, 2)) == 7).all()


def test_sparse_is_decided_by_the_key_and_fits_a_layer_under_jit():
    draw = jax.jit(lambda key: nnx.Linear(30, 20, kernel_init=initializers.sparse(), rngs=nnx.Rngs(key)).kernel[...])
    one, again, other = draw(jax.random.key(1)), draw(jax.random.key(1)), draw(jax.random.key(2))
    np.testing.assert_array_equal(one, again)
    assert (one != other).any()
    assert np.count_nonzero(one) == 300


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.float32])
def test_weights_have_the_dtype_that_was_asked_for(dtype):
    for make in (initializers.sparse, initializers.echo):
        assert jax.eval_shape(lambda make=make: make()(KEY, (20, 20), dtype)).dtype == dtype


@pytest.mark.parametrize(("radius", "size"), [(1.1, 20), (1.1, 100), (0.5, 100)])
def test_echo_has_its_spectral_radius(radius, size):
    w = np.asarray(jax.jit(lambda key: initializers.echo(radius)(key, (size, size), jnp.float32))(KEY), float)
    assert (np.count_nonzero(w, axis=0) == 15).all()
    # norm(W^k)^(1/k) is off by at most the factor (condition of the eigenvectors)^(1/k), k = 2^20: nothing. Rounding
    # changes an eigenvalue by float32's 6e-8 times its own condition number, below 1000 for these draws.
    np.testing.assert_allclose(np.abs(np.linalg.eigvals(w)).max(), radius, rtol=1e-4)


def test_the_others_are_those_of_jax_with_their_variances():
    inputs, outputs = 300, 200
    variances = {
        "glorot_normal": 2 / (inputs + outputs),
        "glorot_uniform": 2 / (inputs + outputs),
        "he_normal": 2 / inputs,
        "he_uniform": 2 / inputs,
    }
    for name, variance in variances.items():
        make = getattr(initializers, name)
        assert make is getattr(jax.nn.initializers, name)
        # 60,000 draws: the variance's standard error is at most sqrt(2 / 60000) = 0.6 % (less for lighter tails)
        np.testing.assert_allclose(make()(KEY, (inputs, outputs), jnp.float32).var(), variance, rtol=0.03)
    assert abs(initializers.normal(0.02)(KEY, (inputs, outputs), jnp.float32).std() / 0.02 - 1) < 0.015
    q = np.asarray(initializers.orthogonal()(KEY, (inputs, outputs), jnp.float32))
    # a product of 300 terms, each at most 1 in sum: a few float32 units of 6e-8 times sqrt(300)
    np.testing.assert_allclose(q.T @ q, np.eye(outputs), atol=1e-5)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: initializers.sparse(0), "connections must be at least 1, got 0"),
        (lambda: initializers.sparse(15, 0.0), "scale must be above 0, got 0.0"),
        (lambda: initializers.sparse(15, float("nan")), "scale must be above 0, got nan"),
        (lambda: initializers.sparse()(KEY, (5,)), r"a shape of inputs and units, got \(5,\)"),
        (lambda: initializers.echo(-1.0), "radius must be above 0, got -1.0"),
        (lambda: initializers.echo(1.1, 0), "connections must be at least 1, got 0"),
        (lambda: initializers.echo()(KEY, (5, 6)), r"a square shape, got \(5, 6\)"),
    ],
)
def test_what_cannot_be_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
