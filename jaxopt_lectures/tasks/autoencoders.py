"""Deep autoencoders: CURVES, on which lecture 002's paper shows what initialisation and momentum do, and digits.

Source: I. Sutskever, J. Martens, G. Dahl, G. Hinton, ICML 2013, section 3: logistic units, sparse initialisation,
squared error of an image.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jaxopt_lectures.models.autoencoder import Autoencoder
from jaxopt_lectures.tasks import curves as drawing
from jaxopt_lectures.tasks import digits as handwriting
from jaxopt_lectures.tasks.task import Data, Examples, Task

_TRAIN, _VALIDATION, _TEST = 20_000, 2_000, 10_000


def squared_error(model: Any, x: jax.Array, y: jax.Array) -> jax.Array:
    """Squared error of a reconstruction, summed over the pixels, mean over the images."""
    return jnp.mean(jnp.sum((jax.nn.sigmoid(model(x)) - y) ** 2, axis=-1))


def _curves() -> Data:
    return Data(*(_itself(drawing.images(n, seed)) for seed, n in enumerate((_TRAIN, _VALIDATION, _TEST))))


def _digits() -> Data:
    data = handwriting.data()
    assert data.test is not None
    return Data(*(_itself(part.x) for part in (data.train, data.validation, data.test)))


def _itself(x: Any) -> Examples:
    return Examples(x, x)


def _model(sizes: tuple[int, ...], seed: int) -> nnx.Module:
    return Autoencoder(sizes, rngs=nnx.Rngs(seed))


curves = Task(
    name="curves",
    summary="images of curves, autoencoder 784-400-200-100-50-25-6 and back",
    model=partial(_model, (784, 400, 200, 100, 50, 25, 6)),
    loss=squared_error,
    metric=squared_error,
    data=_curves,
    batch_size=200,
    target=5.0,
    steps=6000,
    metric_name="error",
    metric_unit="",
    larger_is_better=False,
)

digits_autoencoder = Task(
    name="digits_autoencoder",
    summary="handwritten digits, autoencoder 64-100-50-25-6 and back",
    model=partial(_model, (64, 100, 50, 25, 6)),
    loss=squared_error,
    metric=squared_error,
    data=_digits,
    batch_size=200,
    target=1.0,
    steps=3000,
    metric_name="error",
    metric_unit="",
    larger_is_better=False,
)
