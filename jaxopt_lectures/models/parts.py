"""What several networks share: normalisation and dropout with our settings, and the check of an image's shape."""

from collections.abc import Sequence
from typing import Any

import jax
from flax import nnx
from jax.nn.initializers import Initializer


def batch_normalization(features: int, *, rngs: nnx.Rngs) -> nnx.BatchNorm:
    """`gamma (x - mean) / sqrt(variance + 1e-5) + beta`, over all axes but the last.

    While training, mean and variance are the batch's, and running ones move a tenth of the way to them at each call;
    after `model.eval()` the running ones are used. Flax keeps the biased variance of a batch of n, torch n / (n - 1)
    times as much.

    Source: S. Ioffe, C. Szegedy, ICML 2015 (lecture 004).
    """
    return nnx.BatchNorm(features, momentum=0.9, epsilon=1e-5, rngs=rngs)


def embedding(count: int, features: int, init: Initializer, *, rngs: nnx.Rngs) -> nnx.Embed:
    """A trained vector for each of `count` tokens; its dtype is that of the parameter, also after a cast.

    A token outside 0 to count - 1 yields not-a-number.
    """
    table = nnx.Embed(count, features, embedding_init=init, rngs=rngs)
    table.dtype = None  # nnx.Embed alone among the layers would keep the dtype that it was made with
    return table


def dropping(share: float, rngs: nnx.Rngs) -> nnx.Dropout:
    """Sets a share of its inputs to 0 while training and divides the rest by (1 - share); random state only if > 0.

    Raises:
      ValueError: a share outside [0, 1).
    """
    if not 0 <= share < 1:
        raise ValueError(f"dropout must lie in [0, 1), got {share}")
    return nnx.Dropout(share, rngs=rngs if share else None)


def check_image(image: Sequence[int], least: int, why: str) -> None:
    """Checks a shape (height, width, channels).

    Raises:
      ValueError: not three sizes >= 1, or a side below `least`; `why` explains it.
    """
    if len(image) != 3 or min(image) < 1:
        raise ValueError(f"image must be (height, width, channels), each >= 1, got {tuple(image)}")
    if min(image[:2]) < least:
        raise ValueError(f"the image is {image[0]} x {image[1]}, but must be at least {least} x {least}: {why}")


def fits(x: jax.Array, image: Sequence[int]) -> jax.Array:
    """Images of any number of leading axes.

    Raises:
      ValueError: the last three axes are not `image`.
    """
    if x.shape[-3:] != tuple(image):
        raise ValueError(f"images must have shape (..., {', '.join(map(str, image))}), got {x.shape}")
    return x


def flat(x: Any) -> Any:
    """(..., height, width, channels) to (..., features)."""
    return x.reshape(*x.shape[:-3], -1)
