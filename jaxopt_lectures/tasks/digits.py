"""Handwritten digits: scikit-learn's bundled 1797 images of 8 x 8 pixels, and a perceptron with one hidden layer.

Source of the data: E. Alpaydin, C. Kaynak, "Optical recognition of handwritten digits", UCI repository, 1998.
"""

import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxopt_lectures.models.mlp import MLP
from jaxopt_lectures.tasks.measures import accuracy, cross_entropy
from jaxopt_lectures.tasks.split import in_three
from jaxopt_lectures.tasks.task import Data, Examples, Task

_DEEPEST = 16.0  # pixels are whole numbers from 0 to 16


def data() -> Data:
    """60 % of the images to train, 20 % to validate, 20 % to test, each with equal shares of the ten digits."""
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    x, y = (x / _DEEPEST).astype(np.float32), y.astype(np.int32)
    return Data(*(Examples(*part) for part in in_three(x, y, stratify=True)))


def model(seed: int) -> nnx.Module:
    """64 pixels, 64 hidden units with tanh as in the lectures, 10 digits: 4810 parameters.

    A smooth activation: at a kink, as relu has, one rounding can turn a unit on and set two runs apart.
    """
    return MLP((64, 64, 10), activation=jnp.tanh, rngs=nnx.Rngs(seed))


digits = Task(
    name="digits",
    summary="handwritten digits of 8 x 8 pixels, perceptron 64-64-10",
    model=model,
    loss=cross_entropy,
    metric=accuracy,
    data=data,
    batch_size=64,
    target=0.95,
)
