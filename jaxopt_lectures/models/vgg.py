"""VGG: many convolutions of 3 x 3.

Source: K. Simonyan, A. Zisserman, "Very deep convolutional networks for large-scale image recognition", ICLR 2015,
table 1 (columns A, B, D, E; lecture 000).
"""

import itertools
from collections.abc import Sequence

import jax
from flax import nnx

from jaxopt_lectures.models.initializers import he_normal
from jaxopt_lectures.models.parts import batch_normalization, check_image, dropping, fits, flat

_CONVOLUTIONS = {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}
_CHANNELS = (64, 128, 256, 512, 512)


class VGG(nnx.Module):
    """Stages of 3 x 3 convolutions with ReLU, each stage halved by a 2 x 2 maximum, then dense layers.

    For images of 224 x 224 x 3 and 1000 classes: 132,863,336 parameters at depth 11, 133,047,848 at 13, 138,357,544 at
    16, 143,667,240 at 19. Weights are drawn after He et al.; the paper predates that and pre-trained.

    Args:
      depth: number of layers with weights, 11, 13, 16 or 19; or the stages themselves, the channels of every
        convolution: `((16, 16), (32, 32))`.
      classes: number of logits.
      image: (height, width, channels) of an image.
      dense: features of each hidden dense layer.
      batch_norm: normalise after each convolution (two numbers more per channel).
      dropout: share of each hidden dense layer's outputs set to 0 while training, in [0, 1).
      rngs: where weights and dropped units are drawn from.

    Raises:
      ValueError: another depth, an image too small to be halved by every stage, a size below 1, a share outside its
        range.
    """

    def __init__(
        self,
        depth: int | Sequence[Sequence[int]],
        classes: int = 1000,
        *,
        image: Sequence[int] = (224, 224, 3),
        dense: Sequence[int] = (4096, 4096),
        batch_norm: bool = False,
        dropout: float = 0.5,
        rngs: nnx.Rngs,
    ) -> None:
        stages = _stages(depth)
        check_image(image, 2 ** len(stages), f"each of the {len(stages)} stages halves it")
        if min((classes, *dense)) < 1:
            raise ValueError(f"classes and dense must be >= 1, got {classes} and {tuple(dense)}")
        self.image = tuple(image)
        before = image[2]
        self.stages = nnx.List()
        for channels in stages:
            pairs = itertools.pairwise((before, *channels))
            self.stages.append(nnx.List(_Convolution(a, b, batch_norm, rngs=rngs) for a, b in pairs))
            before = channels[-1]
        height, width = (side // 2 ** len(stages) for side in image[:2])
        sizes = (height * width * before, *dense)
        self.dense = nnx.List(
            nnx.Linear(a, b, kernel_init=he_normal(), rngs=rngs) for a, b in itertools.pairwise(sizes)
        )
        self.dropout = dropping(dropout, rngs)
        self.logits = nnx.Linear(sizes[-1], classes, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps images, (..., height, width, channels), to logits, (..., classes)."""
        x = fits(x, self.image)
        for stage in self.stages:
            for convolution in stage:
                x = convolution(x)
            x = nnx.max_pool(x, (2, 2), strides=(2, 2))
        x = flat(x)
        for layer in self.dense:
            x = self.dropout(nnx.relu(layer(x)))
        return self.logits(x)


def vgg_small(image: Sequence[int], classes: int, *, rngs: nnx.Rngs) -> VGG:
    """A VGG for small images: two stages of two convolutions with 16 and 32 channels, normalised, 64 dense features.

    For digits, 8 x 8 x 1 and 10 classes: 25,466 parameters.

    Raises:
      ValueError: an image below 4 x 4.
    """
    stages = ((16, 16), (32, 32))
    return VGG(stages, classes, image=image, dense=(64,), batch_norm=True, dropout=0.0, rngs=rngs)


def _stages(depth: int | Sequence[Sequence[int]]) -> list[tuple[int, ...]]:
    if isinstance(depth, int):
        if depth not in _CONVOLUTIONS:
            raise ValueError(f"depth must be one of {', '.join(map(str, _CONVOLUTIONS))}, or stages; got {depth}")
        return [(width,) * count for width, count in zip(_CHANNELS, _CONVOLUTIONS[depth], strict=True)]
    stages = [tuple(stage) for stage in depth]
    if not stages or not all(stages) or min(map(min, stages)) < 1:
        raise ValueError(f"every stage must have at least one convolution of at least one channel, got {stages}")
    return stages


class _Convolution(nnx.Module):
    def __init__(self, before: int, after: int, batch_norm: bool, *, rngs: nnx.Rngs) -> None:
        self.convolution = nnx.Conv(before, after, (3, 3), padding="SAME", kernel_init=he_normal(), rngs=rngs)
        self.norm = batch_normalization(after, rngs=rngs) if batch_norm else None

    def __call__(self, x: jax.Array) -> jax.Array:
        x = self.convolution(x)
        return nnx.relu(x if self.norm is None else self.norm(x))
