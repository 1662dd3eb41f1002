"""The two photographs that scikit-learn brings along: a network that is a picture, and one that removes noise.

Sources: M. Tancik et al., "Fourier features let networks learn high frequency functions in low dimensional domains",
arXiv:2006.10739; K. Zhang et al., "Beyond a Gaussian denoiser", arXiv:1608.03981 (predict the noise, not the image).
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxopt_lectures.models.mlp import MLP
from jaxopt_lectures.tasks.measures import squared_error
from jaxopt_lectures.tasks.task import Data, Examples, Task

_BLOCK = 6  # pixels of the photograph that become one, in each direction
_HEIGHT, _WIDTH = 64, 96
_FREQUENCIES, _BANDWIDTH = 64, 3.0  # Fourier features, and the standard deviation of their frequencies (per image)
PATCH = 8  # pixels, side of a patch
NOISE = 0.1  # standard deviation of the noise; pixels lie between 0 and 1


def read(name: str) -> np.ndarray:
    """A photograph, china.jpg or flower.jpg, (427, 640, 3) float32 between 0 and 1."""
    from sklearn.datasets import load_sample_image

    return load_sample_image(name).astype(np.float32) / np.float32(255)


def shrunk(image: np.ndarray) -> np.ndarray:
    """Means of blocks of 6 x 6 pixels, the middle 64 x 96 of them."""
    height, width = (side // _BLOCK for side in image.shape[:2])
    blocks = image[: height * _BLOCK, : width * _BLOCK].reshape(height, _BLOCK, width, _BLOCK, 3)
    top, left = (height - _HEIGHT) // 2, (width - _WIDTH) // 2
    return blocks.mean(axis=(1, 3), dtype=np.float32)[top : top + _HEIGHT, left : left + _WIDTH]


def coordinates() -> np.ndarray:
    """Where the pixels' centres are, (6144, 2) float32: row from -2/3 to 2/3, column from -1 to 1, square pixels."""
    row, column = np.mgrid[:_HEIGHT, :_WIDTH]
    middle = np.array([_HEIGHT - 1, _WIDTH - 1]) / 2
    return ((np.stack([row, column], axis=-1) - middle) / (_WIDTH / 2)).reshape(-1, 2).astype(np.float32)


def picture_data() -> Data:
    """Every pixel of the temple, its place and its colour: what is trained on is also judged."""
    pixels = Examples(coordinates(), shrunk(read("china.jpg")).reshape(-1, 3))
    return Data(pixels, pixels)


def fourier_features(places: jax.Array) -> jax.Array:
    """cos(2 pi B p) and sin(2 pi B p) of places p, (..., 2) to (..., 128); B is drawn once for all from N(0, 3^2)."""
    drawn = np.random.default_rng(0).normal(0, _BANDWIDTH, (2, _FREQUENCIES))
    angles = places @ jnp.asarray(2 * np.pi * drawn / 2, places.dtype)  # the image is 2 units wide
    return jnp.concatenate([jnp.cos(angles), jnp.sin(angles)], axis=-1)


class Picture(nnx.Module):
    """Place in, colour out: a perceptron on Fourier features.

    Args:
      hidden: units of each hidden layer.
      rngs: where the weights are drawn from.
    """

    def __init__(self, hidden: tuple[int, ...], *, rngs: nnx.Rngs) -> None:
        self.layers = MLP((2 * _FREQUENCIES, *hidden, 3), rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps places, (..., 2), to red, green and blue, (..., 3), between 0 and 1."""
        return jax.nn.sigmoid(self.layers(fourier_features(x)))


def patches_data() -> Data:
    """Patches of 8 x 8 grey pixels with noise added, and the noise; (n, 64) float32 both.

    From both photographs: the left 70 % of the columns to train, the next 15 % to validate, the last to test.
    """
    rng = np.random.default_rng(0)
    columns = [_patches(read(name).mean(axis=-1)) for name in ("china.jpg", "flower.jpg")]
    count = columns[0].shape[1]
    first, second = round(0.7 * count), round(0.85 * count)
    return Data(*(_noisy(columns, part, rng) for part in (slice(first), slice(first, second), slice(second, None))))


def _patches(grey: np.ndarray) -> np.ndarray:
    """(rows of patches, columns of patches, 64): patches do not overlap."""
    rows, columns = (side // PATCH for side in grey.shape)
    blocks = grey[: rows * PATCH, : columns * PATCH].reshape(rows, PATCH, columns, PATCH)
    return blocks.transpose(0, 2, 1, 3).reshape(rows, columns, PATCH * PATCH)


def _noisy(photographs: list[np.ndarray], columns: slice, rng: np.random.Generator) -> Examples:
    clean = np.concatenate([patches[:, columns].reshape(-1, PATCH * PATCH) for patches in photographs])
    noise = rng.normal(0, NOISE, clean.shape).astype(np.float32)
    return Examples(clean + noise, noise)


def signal_to_noise(model: Any, x: jax.Array, y: jax.Array) -> jax.Array:
    """Peak signal-to-noise ratio, -10 log10(mean squared error) in dB, of a signal between 0 and 1.

    Of noise removed it is the same: clean image minus image without the predicted noise is noise predicted minus
    noise. Noise of 0.1 left as it is has 20 dB.
    """
    return -10 * jnp.log10(squared_error(model, x, y))


def _picture(seed: int) -> nnx.Module:
    return Picture((64, 64), rngs=nnx.Rngs(seed))


def _denoiser(seed: int) -> nnx.Module:
    return MLP((PATCH * PATCH, 128, PATCH * PATCH), rngs=nnx.Rngs(seed))


photograph = Task(
    name="photograph",
    summary="a photograph as a function of the place, Fourier features and perceptron 128-64-64-3",
    model=_picture,
    loss=squared_error,
    metric=signal_to_noise,
    data=picture_data,
    batch_size=512,
    target=25.0,
    metric_name="PSNR",
    metric_unit="dB",
)

denoising = Task(
    name="denoising",
    summary="noise in patches of photographs, perceptron 64-128-64",
    model=_denoiser,
    loss=squared_error,
    metric=signal_to_noise,
    data=patches_data,
    batch_size=64,
    target=25.0,
    steps=2000,
    metric_name="PSNR",
    metric_unit="dB",
)
