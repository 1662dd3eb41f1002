"""LeNet-5, convolutions with shared weights and local receptive fields (lectures 000 and 004).

Source: Y. LeCun, L. Bottou, Y. Bengio, P. Haffner, "Gradient-based learning applied to document recognition", 1998.
"""

import itertools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from flax import nnx

from jaxopt_lectures.models.parts import check_image, fits, flat


class LeNet(nnx.Module):
    """Convolutions, each with an activation and a 2 x 2 mean, then dense layers.

    The first convolution keeps the image's size (padding 2 on each side for windows of 5), the others do not pad. As
    it is taught today: no trainable pooling, every channel sees all channels below, logits instead of radial units.
    61,706 parameters for images of 28 x 28 x 1.

    Args:
      image: (height, width, channels) of an image.
      classes: number of logits.
      channels: of each convolution.
      dense: features of each hidden dense layer.
      kernel: side of the convolutions' windows, odd; 3 for images below 12 x 12.
      activation: after each layer but the last.
      rngs: where the weights are drawn from.

    Raises:
      ValueError: an image that nothing remains of, an even window, or a size below 1.
    """

    def __init__(
        self,
        image: Sequence[int] = (28, 28, 1),
        classes: int = 10,
        *,
        channels: Sequence[int] = (6, 16),
        dense: Sequence[int] = (120, 84),
        kernel: int = 5,
        activation: Callable[[jax.Array], jax.Array] = jnp.tanh,
        rngs: nnx.Rngs,
    ) -> None:
        if not channels or min(classes, *channels, *dense) < 1:
            raise ValueError(
                f"channels, dense and classes must be >= 1, with at least one convolution; got channels "
                f"{tuple(channels)}, dense {tuple(dense)}, classes {classes}"
            )
        if kernel < 1 or kernel % 2 == 0:
            raise ValueError(f"kernel must be odd, 1, 3, 5..., got {kernel}")
        least = 1
        for _ in channels[1:]:
            least = 2 * least + kernel - 1  # backwards: what the mean and the convolution take away
        check_image(image, 2 * least, f"{len(channels)} convolutions of {kernel} x {kernel}, each halved")
        self.image, self.activation = tuple(image), activation
        self.convolutions = nnx.List(
            nnx.Conv(before, after, (kernel, kernel), padding="VALID" if index else "SAME", rngs=rngs)
            for index, (before, after) in enumerate(itertools.pairwise((image[2], *channels)))
        )
        sides = [_side(side, kernel, len(channels)) for side in image[:2]]
        sizes = (sides[0] * sides[1] * channels[-1], *dense, classes)
        self.dense = nnx.List(nnx.Linear(a, b, rngs=rngs) for a, b in itertools.pairwise(sizes))

    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps images, (..., height, width, channels), to logits, (..., classes)."""
        x = fits(x, self.image)
        for convolution in self.convolutions:
            x = _mean_of_four(self.activation(convolution(x)))
        x = flat(x)
        for layer in self.dense[:-1]:
            x = self.activation(layer(x))
        return self.dense[-1](x)


def _mean_of_four(x: jax.Array) -> jax.Array:
    # nnx.avg_pool divides by an integer array, which strict dtype promotion refuses
    return nnx.pool(x, 0.0, jax.lax.add, (2, 2), (2, 2), "VALID") / 4


def _side(side: int, kernel: int, convolutions: int) -> int:
    for index in range(convolutions):
        side = (side - (kernel - 1 if index else 0)) // 2
    return side
