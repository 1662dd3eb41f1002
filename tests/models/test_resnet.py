"""Residual networks: their numbers of parameters, and their outputs from NumPy's convolutions."""

from functools import partial

import jax
import numpy as np
import pytest
from flax import nnx

from jaxopt_lectures.models.parts import batch_normalization
from jaxopt_lectures.models.resnet import ResNet, resnet18, resnet20, resnet34, resnet50, resnet56, resnet_small
from tests.models.shared import convolution, dense, filled, maximum, normalised, parameters, run


@pytest.mark.parametrize(
    ("make", "count"),
    [(resnet18, 11_689_512), (resnet34, 21_797_672), (resnet50, 25_557_032), (resnet20, 269_722), (resnet56, 853_018)],
)
def test_published_parameters(make, count):
    assert parameters(make) == count


@pytest.mark.parametrize(("make", "n"), [(resnet20, 3), (resnet56, 9)])
def test_cifar_networks_have_the_papers_layers(make, n):
    """6 n + 2 layers: the stem, 3 stages of 2 n convolutions of 16, 32, 64 channels, a dense layer."""
    # a normalised convolution of c -> d channels has 9 c d + 2 d numbers
    plan = [(3, 16)] + [(16, 16)] * 2 * n
    plan += [(16, 32)] + [(32, 32)] * (2 * n - 1) + [(32, 64)] + [(64, 64)] * (2 * n - 1)
    assert len(plan) + 1 == 6 * n + 2
    assert parameters(make) == sum(9 * c * d + 2 * d for c, d in plan) + 64 * 10 + 10


def test_a_small_network_is_small():
    assert parameters(lambda rngs: resnet_small((8, 8, 1), 10, rngs=rngs)) == 19_130


def shortcut(x, block):
    if block.projection is not None:
        return normalised(convolution(x, block.projection.convolution, 0, block.stride), block.projection.norm)
    return np.pad(x[:, :: block.stride, :: block.stride], ((0, 0), (0, 0), (0, 0), (0, block.grow)))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"bottleneck": True},
        {"stem": "small", "shortcut": "padding"},
    ],
    ids=["projection", "bottleneck", "padding"],
)
def test_blocks_add_to_what_they_were_given(x64, options):
    model = filled(partial(ResNet, (1, 2), (4, 8), 3, channels=2, **options))
    x = np.random.default_rng(0).normal(size=(3, 16, 13, 2))
    large = "stem" not in options
    h = convolution(x, model.stem.convolution, 3 if large else 1, 2 if large else 1)
    h = np.maximum(normalised(h, model.stem.norm), 0)
    h = maximum(h, 3, 2, 1) if large else h
    for index, stage in enumerate(model.stages):
        for number, block in enumerate(stage):
            stride = 2 if index == 1 and number == 0 else 1
            assert block.stride == stride
            y = h
            for place, part in enumerate(block.convolutions):
                side = part.convolution.kernel.shape[0]
                strided = stride if place == len(block.convolutions) - 2 else 1
                y = normalised(convolution(y, part.convolution, side // 2, strided), part.norm)
                y = y if part is block.convolutions[-1] else np.maximum(y, 0)
            h = np.maximum(shortcut(h, block) + y, 0)
    with jax.numpy_dtype_promotion("standard"):  # flax's normalisation takes float64 under it only
        out = run(model, x)
    # sums of at most 72 products of size 1, a dozen layers deep: 72 x 12 x 1.1e-16 = 1e-13, and the division by a
    # deviation, at least 0.03 here, as often: two digits more
    np.testing.assert_allclose(out, dense(h.mean((1, 2)), model.logits), rtol=0, atol=1e-11)


def test_padding_keeps_the_pixels_and_adds_zeros():
    block = filled(partial(resnet_small, (8, 8, 1), 10)).stages[1][0]
    x = np.random.default_rng(0).normal(size=(2, 8, 8, 16)).astype(np.float32)
    y = block._shortcut(x)
    np.testing.assert_array_equal(y[..., :16], x[:, ::2, ::2])
    assert y.shape == (2, 4, 4, 32)
    assert (y[..., 16:] == 0).all()


def test_normalisation_is_that_of_torch_but_for_the_running_variance(x64):
    torch = pytest.importorskip("torch", reason="the twin is torch's BatchNorm1d")
    x, weight = (np.random.default_rng(seed).normal(size=(16, 4)) for seed in (0, 1))
    ours = filled(partial(batch_normalization, 4))
    ours.mean[...], ours.var[...] = np.zeros(4), np.ones(4)
    theirs = torch.nn.BatchNorm1d(4, eps=1e-5, momentum=0.1).double()
    scale, bias = np.array([1.0, 2.0, 0.5, -1.0]), np.array([0.0, 1.0, -1.0, 0.3])
    ours.scale[...], ours.bias[...] = scale, bias
    with torch.no_grad():
        theirs.weight.copy_(torch.tensor(scale))
        theirs.bias.copy_(torch.tensor(bias))
    inputs = torch.tensor(x, requires_grad=True)
    out = theirs(inputs)
    (out * torch.tensor(weight)).sum().backward()
    with jax.numpy_dtype_promotion("standard"):
        value = run(ours, x)
        gradient = jax.jit(jax.grad(lambda x: (nnx.clone(ours)(x) * weight).sum()))(x)
    # 16 samples of size 1: 16 units of 1.1e-16, a little more in the gradient's sums
    np.testing.assert_allclose(value, out.detach().numpy(), rtol=0, atol=1e-14)
    np.testing.assert_allclose(gradient, inputs.grad.numpy(), rtol=0, atol=1e-13)
    np.testing.assert_allclose(ours.mean[...], theirs.running_mean.numpy(), rtol=0, atol=1e-15)
    # flax keeps the biased variance, torch 16/15 of it
    np.testing.assert_allclose(ours.var[...], 0.9 + 0.1 * x.var(0), rtol=0, atol=1e-15)
    np.testing.assert_allclose(theirs.running_var.numpy(), 0.9 + 0.1 * x.var(0) * 16 / 15, rtol=0, atol=1e-15)


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (((), (), 10), {}, "blocks and widths must be equally many"),
        (((1, 1), (16,), 10), {}, r"got blocks \(1, 1\), widths \(16,\)"),
        (((1, 0), (16, 32), 10), {}, "must be equally many, and they, classes and channels >= 1"),
        (((1,), (16,), 0), {}, "classes 0"),
        (((1,), (16,), 10), {"stem": "tiny"}, "stem must be one of large, small, got 'tiny'"),
        (((1,), (16,), 10), {"shortcut": "none"}, "shortcut must be one of projection, padding, got 'none'"),
        (((1, 1), (16, 8), 10), {"shortcut": "padding"}, r"can only add channels, but the widths are \(16, 8\)"),
    ],
)
def test_resnet_refuses(arguments, options, message):
    with pytest.raises(ValueError, match=message):
        ResNet(*arguments, **options, rngs=nnx.Rngs(0))


def test_a_small_network_refuses_smaller_images():
    with pytest.raises(ValueError, match="the image is 8 x 1, but must be at least 2 x 2: the second stage halves it"):
        resnet_small((8, 1, 1), 10, rngs=nnx.Rngs(0))
