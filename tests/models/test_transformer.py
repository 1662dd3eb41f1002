"""The transformer: its number of parameters, its outputs from NumPy, and that it sees no later token."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxopt_lectures.models.transformer import GPT, gpt2_small
from tests.models.shared import array, dense, filled, parameters, run, seeded

SIZES = {"context": 7, "layers": 2, "heads": 2, "width": 8}
TOKENS = np.random.default_rng(0).integers(0, 11, size=(3, 6))


def test_gpt2_small_has_its_parameters():
    # tokens and positions; 12 blocks of 12 w^2 weights, 9 w biases and 4 w of two norms; the last norm
    w = 768
    assert 50257 * w + 1024 * w + 12 * (12 * w**2 + 13 * w) + 2 * w == 124_439_808
    assert parameters(gpt2_small) == 124_439_808


def layer_norm(x, layer):
    mean, variance = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
    return (x - mean) / np.sqrt(variance + 1e-5) * array(layer.scale) + array(layer.bias)


def attention(x, block, heads):
    n, t, width = x.shape
    q, k, v = (
        dense(x, layer).reshape(n, t, heads, -1).swapaxes(1, 2) for layer in (block.query, block.key, block.value)
    )
    scores = q @ k.swapaxes(2, 3) / np.sqrt(width / heads)
    scores = np.where(np.tril(np.ones((t, t), bool)), scores, -np.inf)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    weights /= weights.sum(-1, keepdims=True)
    return dense((weights @ v).swapaxes(1, 2).reshape(n, t, width), block.output)


def gelu(x):
    return x / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def test_outputs_are_those_of_the_formula(x64):
    model = filled(partial(GPT, 11, **SIZES))
    x = array(model.tokens.embedding)[TOKENS] + array(model.positions.embedding)[:6]
    for block in model.blocks:
        x = x + attention(layer_norm(x, block.norms[0]), block, SIZES["heads"])
        x = x + dense(gelu(dense(layer_norm(x, block.norms[1]), block.rise)), block.fall)
    wanted = layer_norm(x, model.norm) @ array(model.tokens.embedding).T
    with jax.numpy_dtype_promotion("standard"):  # flax's normalisation takes float64 under it only
        logits = run(model, TOKENS)
    # attention has its scores and weights in float32: each of two adds 6e-8 times a few, then logits are sums of 8
    np.testing.assert_allclose(logits, wanted, rtol=0, atol=5e-6)


def test_no_logit_depends_on_a_later_token():
    model = filled(partial(GPT, 11, **SIZES))
    other = TOKENS.copy()
    other[:, 4] = (other[:, 4] + 1) % 11
    one, two = run(model, TOKENS), run(model, other)
    np.testing.assert_array_equal(one[:, :4], two[:, :4])
    assert (one[:, 4:] != two[:, 4:]).any(axis=-1).all(), "and every later position sees the change"


def test_positions_matter():
    model = filled(partial(GPT, 11, **SIZES))
    logits = run(model, np.zeros((1, 6), int))[0]
    assert (np.abs(np.diff(logits, axis=0)).max(axis=-1) > 0).all()


def test_initial_weights_have_their_spread():
    model = GPT(500, context=64, layers=2, heads=2, width=64, rngs=seeded())
    block = model.blocks[1]
    # at least 4096 draws: the deviation's standard error is 1/sqrt(2 n) = 1.1 %; five of them
    for parameter in (model.tokens.embedding, model.positions.embedding, block.query.kernel, block.rise.kernel):
        np.testing.assert_allclose(array(parameter).std(), 0.02, rtol=0.055)
    for layer in (block.output, block.fall):
        np.testing.assert_allclose(array(layer.kernel).std(), 0.02 / 2, rtol=0.055)
        assert (array(layer.bias) == 0).all()
    # so that all tokens are about equally likely at first: log 500 = 6.21
    tokens = np.random.default_rng(0).integers(0, 500, size=(4, 65))
    scores = jax.nn.log_softmax(run(model, tokens[:, :-1]))
    loss = -jnp.take_along_axis(scores, tokens[:, 1:, None], axis=-1).mean()
    # logits have deviation |x| 0.02 = sqrt(64) 0.02 = 0.16, which adds 0.16^2 / 2 = 0.013 on average; 256 tokens'
    # standard error is 0.16 / 16 = 0.01
    assert abs(loss - np.log(500)) < 0.063


def test_one_sequence_and_shorter_ones_fit():
    model = filled(partial(GPT, 11, **SIZES))
    # float32's 6e-8, times 10 for a normalisation's division by a small deviation, times 8 terms of each logit
    np.testing.assert_allclose(run(model, TOKENS[0]), run(model, TOKENS)[0], rtol=0, atol=1e-5)
    np.testing.assert_allclose(run(model, TOKENS[:, :2]), run(model, TOKENS)[:, :2], rtol=0, atol=1e-5)


def test_dropout_acts_in_training_only():
    model, plain = (filled(partial(GPT, 11, **SIZES, dropout=share)) for share in (0.3, 0.0))
    model.train()
    assert (run(model, TOKENS) != run(model, TOKENS)).any()
    model.eval()
    again = run(model, TOKENS)
    np.testing.assert_array_equal(again, run(model, TOKENS))
    np.testing.assert_array_equal(again, run(plain, TOKENS))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"heads": 3}, "heads must divide the width, got 3 heads and width 8"),
        ({"layers": 0}, "layers must be at least 1, got 0"),
        ({"context": -1}, "context must be at least 1, got -1"),
        ({"dropout": 1.0}, r"dropout must lie in \[0, 1\), got 1.0"),
    ],
)
def test_gpt_refuses(change, message):
    with pytest.raises(ValueError, match=message):
        GPT(11, **(SIZES | change), rngs=nnx.Rngs(0))


def test_sequences_that_do_not_fit_are_refused():
    model = nnx.eval_shape(lambda: GPT(11, **SIZES, rngs=nnx.Rngs(0)))
    with pytest.raises(ValueError, match=r"at most 7 tokens \(the context\), got 8"):
        model(jnp.zeros((2, 8), jnp.int32))
    with pytest.raises(ValueError, match="must be an integer"):
        model(jnp.zeros((2, 3)))
