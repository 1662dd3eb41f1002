"""Exclusive or (lectures 000 and 004): the smallest problem that one neuron cannot solve.

Eight hidden units: with two, a quarter to a half of the seeds are caught in a local minimum, by optimizer (22 to 55 of
100 seeds).
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from jaxopt_lectures.models.mlp import MLP
from jaxopt_lectures.tasks.task import Data, Examples, Task


def data() -> Data:
    """The truth table, (4, 2) and (4,) float32: what is trained on is all there is."""
    x = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], np.float32)
    table = Examples(x, (x[:, 0] != x[:, 1]).astype(np.float32))
    return Data(table, table)


def model(seed: int) -> nnx.Module:
    """2 inputs, 8 hidden units with the sigmoid, the logit of 1: 33 parameters."""
    return MLP((2, 8, 1), activation=jax.nn.sigmoid, rngs=nnx.Rngs(seed))


def cross_entropy(model: Any, x: jax.Array, y: jax.Array) -> jax.Array:
    """Mean over the rows of -log p(y | x), in nats."""
    return jnp.mean(optax.sigmoid_binary_cross_entropy(model(x)[:, 0], y))


def largest_error(model: Any, x: jax.Array, y: jax.Array) -> jax.Array:
    """The largest difference, over the rows, between y and its probability."""
    return jnp.max(jnp.abs(jax.nn.sigmoid(model(x)[:, 0]) - y))


xor = Task(
    name="xor",
    summary="exclusive or, perceptron 2-8-1 with sigmoids",
    model=model,
    loss=cross_entropy,
    metric=largest_error,
    data=data,
    batch_size=4,
    target=0.1,
    steps=5000,
    metric_name="error",
    metric_unit="",
    larger_is_better=False,
)
