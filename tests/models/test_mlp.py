"""The multi-layer perceptron, and what training and evaluation change in it."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxopt_lectures.models.initializers import sparse
from jaxopt_lectures.models.mlp import MLP
from tests.models.shared import array, dense, filled, parameters, run, seeded

# flax's normalisation takes float64 under standard promotion only
STANDARD = partial(jax.numpy_dtype_promotion, "standard")
X = np.linspace(-1, 1, 24).reshape(8, 3) ** 3


def test_layers_are_affine_maps_with_the_activation_between_them(x64):
    model = filled(partial(MLP, (3, 4, 5, 2), activation=jnp.tanh))
    one, two, three = model.layers
    wanted = dense(np.tanh(dense(np.tanh(dense(X, one)), two)), three)
    # sums of at most five products of size 1, a few units of 1.1e-16
    np.testing.assert_allclose(run(model, X), wanted, rtol=0, atol=1e-14)


def test_two_sizes_make_one_affine_map(x64):
    model = filled(partial(MLP, (3, 2)))
    np.testing.assert_allclose(run(model, X), dense(X, model.layers[0]), rtol=0, atol=1e-14)


def test_initializers_are_used():
    model = MLP((50, 40, 30), kernel_init=sparse(5), bias_init=nnx.initializers.constant(0.5), rngs=seeded())
    for layer in model.layers:
        assert (np.count_nonzero(layer.kernel[...], axis=0) == 5).all()
        assert (layer.bias[...] == 0.5).all()


def test_parameters_are_counted():
    assert parameters(lambda rngs: MLP((64, 32, 10), rngs=rngs)) == 64 * 32 + 32 + 32 * 10 + 10
    # with batch normalisation a hidden layer has scale and shift instead of a bias
    assert parameters(lambda rngs: MLP((64, 32, 10), batch_norm=True, rngs=rngs)) == 64 * 32 + 64 + 32 * 10 + 10


def test_batch_norm_stands_before_the_activation(x64):
    model = filled(partial(MLP, (3, 4, 2), batch_norm=True))
    z = X @ array(model.layers[0].kernel)
    norm = model.norms[0]
    z = (z - z.mean(0)) / np.sqrt(z.var(0) + 1e-5) * array(norm.scale) + array(norm.bias)
    wanted = dense(np.maximum(z, 0), model.layers[1])
    # variance as mean of squares less square of mean: 1.1e-16 times a ratio below 100
    with STANDARD():
        np.testing.assert_allclose(run(model, X), wanted, rtol=0, atol=1e-12)


def test_evaluation_uses_running_statistics_and_leaves_them(x64):
    model = filled(partial(MLP, (3, 4, 2), batch_norm=True))
    z = X @ array(model.layers[0].kernel)
    norm = model.norms[0]
    # a tenth of the way to the batch's; flax keeps the biased variance
    mean, variance = 0.9 * array(norm.mean) + 0.1 * z.mean(0), 0.9 * array(norm.var) + 0.1 * z.var(0)
    model.train()
    with STANDARD():
        run(model, X)
    np.testing.assert_allclose(norm.mean[...], mean, rtol=0, atol=1e-14)
    np.testing.assert_allclose(norm.var[...], variance, rtol=0, atol=1e-14)
    model.eval()
    z = (z - mean) / np.sqrt(variance + 1e-5) * array(norm.scale) + array(norm.bias)
    wanted = dense(np.maximum(z, 0), model.layers[1])
    with STANDARD():
        np.testing.assert_allclose(run(model, X), wanted, rtol=0, atol=1e-12)
        # one sample at a time is the same then, which it is not in training
        np.testing.assert_allclose(run(model, X[:1]), wanted[:1], rtol=0, atol=1e-12)
    np.testing.assert_allclose(norm.mean[...], mean, rtol=0, atol=1e-14)


def test_dropout_drops_its_share_in_training_only():
    model = filled(partial(MLP, (3, 1000, 2), dropout=0.25))
    hidden = jnp.ones((20, 1000))
    model.train()
    one, other = model.dropout(hidden), model.dropout(hidden)
    # 20,000 draws: standard error sqrt(0.25 * 0.75 / 20000) = 0.0031; five of them
    assert abs((one == 0).mean() - 0.25) < 0.016
    np.testing.assert_allclose(one[one != 0], 1 / 0.75, rtol=1e-6)
    assert (one != other).any()
    x = X.astype(np.float32)
    assert (run(model, x) != run(model, x)).any()
    model.eval()
    plain = filled(partial(MLP, (3, 1000, 2)))
    np.testing.assert_array_equal(run(model, x), run(plain, x))


def test_no_dropout_leaves_no_random_state():
    assert not jax.tree.leaves(nnx.state(filled(partial(MLP, (3, 4, 2))), nnx.RngState))


def test_copies_of_several_seeds_run_side_by_side():
    """As a comparison runs them: parameters and the rest stacked, merged under vmap."""
    models = [MLP((3, 4, 2), dropout=0.5, batch_norm=True, rngs=nnx.Rngs(seed)) for seed in range(3)]
    x = X.astype(np.float32)
    parts = [nnx.split(model, nnx.Param, ...) for model in models]
    graph = parts[0][0]
    stacked = [jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees) for trees in list(zip(*parts, strict=True))[1:]]
    together = jax.vmap(lambda params, rest: nnx.merge(graph, params, rest, copy=True)(x))(*stacked)
    # eight float32 products of size 1 in another order
    np.testing.assert_allclose(together, np.stack([run(model, x) for model in models]), rtol=0, atol=1e-5)


@pytest.mark.parametrize("sizes", [(), (3,), (3, 0, 2)])
def test_sizes_that_are_none_are_refused(sizes):
    with pytest.raises(ValueError, match="sizes must name at least the input and the output"):
        MLP(sizes, rngs=nnx.Rngs(0))


@pytest.mark.parametrize("share", [-0.1, 1.0, float("nan")])
def test_shares_that_are_none_are_refused(share):
    with pytest.raises(ValueError, match=rf"dropout must lie in \[0, 1\), got {share}"):
        MLP((3, 2), dropout=share, rngs=nnx.Rngs(0))
