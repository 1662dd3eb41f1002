"""LeNet and VGG: their numbers of parameters, and their outputs from NumPy's convolutions."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxopt_lectures.models.lenet import LeNet
from jaxopt_lectures.models.vgg import VGG, vgg_small
from tests.models.shared import convolution, dense, filled, maximum, parameters, run, seeded, windows


def images(*shape):
    return np.random.default_rng(0).normal(size=shape)


def mean_of_four(x):
    return windows(x, 2, 2).mean((-2, -1))


def test_lenet_has_its_parameters():
    # 6 (25 + 1) + 16 (6 25 + 1) + 120 (400 + 1) + 84 (120 + 1) + 10 (84 + 1)
    assert parameters(LeNet) == 61_706
    # on CIFAR's images the same layers see 3 channels and leave 6 x 6 pixels
    assert parameters(lambda rngs: LeNet((32, 32, 3), rngs=rngs)) == 456 + 2_416 + 120 * 577 + 10_164 + 850


def test_lenet_is_convolutions_means_and_dense_layers(x64):
    model = filled(partial(LeNet, (14, 13, 2), 3, channels=(2, 3), dense=(5,)))
    x = images(2, 14, 13, 2)
    first, second = model.convolutions
    h = mean_of_four(np.tanh(convolution(x, first, padding=2)))
    h = mean_of_four(np.tanh(convolution(h, second)))
    wanted = dense(np.tanh(dense(h.reshape(2, -1), model.dense[0])), model.dense[1])
    # sums of at most 50 products of size 1: 50 units of 1.1e-16, through contractions
    np.testing.assert_allclose(run(model, x), wanted, rtol=0, atol=1e-13)


def test_lenet_takes_one_image_and_small_windows():
    model = filled(partial(LeNet, (8, 8, 1), 10, kernel=3))
    x = jnp.asarray(images(2, 8, 8, 1), jnp.float32)
    # the same float32 sums of at most 120 terms of size 1
    np.testing.assert_allclose(run(model, x[0]), run(model, x)[0], rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"image": (8, 8, 1)},
            "the image is 8 x 8, but must be at least 12 x 12: 2 convolutions of 5 x 5",
        ),
        ({"image": (12, 11, 1)}, "the image is 12 x 11"),
        ({"image": (28, 28)}, r"image must be \(height, width, channels\), each >= 1, got \(28, 28\)"),
        ({"image": (28, 28, 0)}, "image must be"),
        ({"kernel": 4}, "kernel must be odd, 1, 3, 5..., got 4"),
        ({"channels": ()}, "with at least one convolution; got channels"),
        ({"classes": 0}, "classes 0"),
    ],
)
def test_lenet_refuses(options, message):
    with pytest.raises(ValueError, match=message):
        LeNet(**options, rngs=nnx.Rngs(0))


def test_the_least_image_leaves_one_pixel():
    model = nnx.eval_shape(lambda: LeNet((12, 12, 1), rngs=nnx.Rngs(0)))
    assert model.dense[0].kernel.shape == (16, 120)


def test_images_of_another_shape_are_refused():
    for make in (lambda: LeNet(rngs=nnx.Rngs(0)), lambda: vgg_small((28, 28, 1), 10, rngs=nnx.Rngs(0))):
        with pytest.raises(ValueError, match=r"images must have shape \(..., 28, 28, 1\), got \(2, 28, 28\)"):
            jax.eval_shape(lambda make=make: make()(jnp.zeros((2, 28, 28))))


@pytest.mark.parametrize(
    ("depth", "count"), [(11, 132_863_336), (13, 133_047_848), (16, 138_357_544), (19, 143_667_240)]
)
def test_vgg_has_its_parameters(depth, count):
    assert parameters(lambda rngs: VGG(depth, rngs=rngs)) == count
    # normalisation adds two numbers to each channel: 64, 128, 256, 512, 512 times the convolutions of the stage
    convolutions = {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}[depth]
    channels = sum(a * b for a, b in zip(convolutions, (64, 128, 256, 512, 512), strict=True))
    assert parameters(lambda rngs: VGG(depth, batch_norm=True, rngs=rngs)) == count + 2 * channels


def test_a_small_vgg_has_its_parameters():
    assert parameters(lambda rngs: vgg_small((8, 8, 1), 10, rngs=rngs)) == 25_466


def test_vgg_is_stages_of_convolutions_with_maxima(x64):
    model = filled(partial(VGG, ((2, 3), (4,)), 3, image=(9, 8, 2), dense=(5,), dropout=0.0))
    x = images(2, 9, 8, 2)
    h = x
    for stage in model.stages:
        for part in stage:
            h = np.maximum(convolution(h, part.convolution, padding=1), 0)
        h = maximum(h, 2, 2)
    wanted = dense(np.maximum(dense(h.reshape(2, -1), model.dense[0]), 0), model.logits)
    # sums of at most 27 products, four layers deep, values below 100: 27 times 100 times 1.1e-16
    np.testing.assert_allclose(run(model, x), wanted, rtol=0, atol=1e-12)


def test_vgg_keeps_the_size_of_its_signal():
    """He's variance 2 / inputs makes up for what ReLU cuts: three layers deep the outputs are still of size 1."""
    model = VGG(((64, 64, 64),), 10, image=(16, 16, 16), dense=(), rngs=seeded())
    h = jnp.asarray(images(4, 16, 16, 16), jnp.float32)
    for part in model.stages[0]:
        # zeros beyond the border take away (1 - 1/24)^2, 8 % a layer: 0.92, 0.84, 0.77
        h = nnx.relu(part.convolution(h))
        assert 0.7 < (h**2).mean() < 1.2


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((12,), {}, "depth must be one of 11, 13, 16, 19, or stages; got 12"),
        (
            (16,),
            {"image": (31, 32, 3)},
            "the image is 31 x 32, but must be at least 32 x 32: each of the 5 stages",
        ),
        ((((16,), ()),), {}, "every stage must have at least one convolution"),
        (((),), {}, "every stage must have at least one convolution"),
        ((11, 0), {}, "classes and dense must be >= 1, got 0"),
        ((11,), {"dropout": 1.5}, r"dropout must lie in \[0, 1\), got 1.5"),
    ],
)
def test_vgg_refuses(arguments, options, message):
    with pytest.raises(ValueError, match=message):
        nnx.eval_shape(lambda: VGG(*arguments, **options, rngs=nnx.Rngs(0)))


def test_a_small_vgg_refuses_smaller_images():
    with pytest.raises(ValueError, match="the image is 3 x 8, but must be at least 4 x 4"):
        vgg_small((3, 8, 1), 10, rngs=nnx.Rngs(0))
