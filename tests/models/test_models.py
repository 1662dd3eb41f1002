"""What every model must do: be drawn from its seed, run under jit, have gradients that lead downhill."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from jaxopt_lectures.models.lenet import LeNet
from jaxopt_lectures.models.mlp import MLP
from jaxopt_lectures.models.neuron import Neuron
from jaxopt_lectures.models.recurrent import Recurrent
from jaxopt_lectures.models.resnet import resnet_small
from jaxopt_lectures.models.transformer import GPT
from jaxopt_lectures.models.vgg import VGG
from tests.models.shared import filled, run, seeded

IMAGE, SEQUENCE, TOKENS = (4, 8, 8, 1), (4, 5, 3), None
# name: (how it is made, shape of its input or None for tokens)
MODELS = {
    "neuron": (partial(Neuron, 3), (4, 3)),
    "mlp": (partial(MLP, (3, 8, 5)), (4, 3)),
    "mlp normalised": (partial(MLP, (3, 8, 5), batch_norm=True, dropout=0.3), (4, 3)),
    "lenet": (partial(LeNet, (8, 8, 1), 5, kernel=3), IMAGE),
    "vgg": (partial(VGG, ((4,), (8,)), 5, image=(8, 8, 1), dense=(16,), batch_norm=True), IMAGE),
    "resnet": (partial(resnet_small, (8, 8, 1), 5), IMAGE),
    "rnn": (partial(Recurrent, "rnn", 3, 8, 5), SEQUENCE),
    "lstm": (partial(Recurrent, "lstm", 3, 8, 5, every_step=True), SEQUENCE),
    "gru": (partial(Recurrent, "gru", 7, 8, 5, vocabulary=True), TOKENS),
    "gpt": (partial(GPT, 7, context=5, layers=1, heads=2, width=8, dropout=0.3), TOKENS),
}


@pytest.fixture(params=MODELS)
def case(request):
    make, shape = MODELS[request.param]
    rng = np.random.default_rng(0)
    x = rng.integers(0, 7, size=(4, 5)) if shape is None else rng.normal(size=shape).astype(np.float32)
    return make, x


def loss(model, x):
    """A cross-entropy whose classes are the samples' numbers, so that every output has a gradient."""
    out = model(x)
    if out.ndim == 1:
        return jnp.mean((out - jnp.linspace(0, 1, len(out))) ** 2)
    labels = jnp.broadcast_to(jnp.arange(len(out)).reshape(-1, *(1,) * (out.ndim - 2)), out.shape[:-1])
    return optax.softmax_cross_entropy_with_integer_labels(out, labels).mean()


def test_a_step_against_the_gradient_leads_downhill(case):
    make, x = case
    graph, params, rest = nnx.split(filled(make), nnx.Param, ...)

    @jax.jit
    def gradient(params):
        # a copy: the same dropped units and running statistics at both points
        return jax.value_and_grad(lambda params: loss(nnx.merge(graph, params, rest, copy=True), x))(params)

    before, gradients = gradient(params)
    leaves = jax.tree.leaves(gradients)
    assert all(np.isfinite(leaf).all() for leaf in leaves)
    square = sum(float((leaf**2).sum()) for leaf in leaves)
    assert square > 1e-4
    # The loss falls by rate * square to first order. With a fall of 1e-3 rounding (1e-6) is nothing, and curvature,
    # rate^2 g'Hg / 2 = 1e-3 (rate g'Hg / square) / 2, is small while rate times the largest eigenvalue is below 1.
    rate = 1e-3 / square
    after, _ = gradient(jax.tree.map(lambda w, g: w - rate * g, params, gradients))
    np.testing.assert_allclose(before - after, 1e-3, rtol=0.2)


def test_the_seed_decides_the_weights(case):
    make, _ = case
    one, again, other = (jax.tree.leaves(nnx.state(make(rngs=seeded(seed)), nnx.Param)) for seed in (0, 0, 1))
    assert all((a == b).all() for a, b in zip(one, again, strict=True))
    assert any((a != b).any() for a, b in zip(one, other, strict=True))
    assert all(leaf.dtype == jnp.float32 for leaf in one)


def test_evaluation_repeats_itself_and_changes_nothing(case):
    make, x = case
    model = filled(make)
    model.eval()
    before = shown(model)
    np.testing.assert_array_equal(run(model, x), run(model, x))
    assert all((a == b).all() for a, b in zip(before, shown(model), strict=True))


def shown(model):
    """All arrays of a model; keys by their data."""
    leaves = jax.tree.leaves(nnx.state(model))
    keys = [jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key) for leaf in leaves]
    return [np.asarray(jax.random.key_data(leaf) if key else leaf) for leaf, key in zip(leaves, keys, strict=True)]
