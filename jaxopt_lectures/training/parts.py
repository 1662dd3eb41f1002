"""A task as pure functions of its model's parameters: what the compiled programs and the checkpoints see."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jaxopt_lectures.tasks.task import Task


class Parts:
    """A task taken apart.

    Attributes:
      loss: `(params, rest, x, y) -> (value, rest)`, the model in training mode.
      metric: `(params, rest, x, y) -> value`, in evaluation mode.
    """

    def __init__(self, task: Task) -> None:
        model = task.model(0)
        model.train()
        self.task, self.training = task, nnx.graphdef(model)
        model.eval()
        self.judged = nnx.graphdef(model)

    def start(self, seed: int) -> tuple[Any, Any]:
        """Freshly drawn parameters, and what else the model keeps: batch statistics, keys; often nothing."""
        model = self.task.model(seed)
        model.train()
        _, params, rest = nnx.split(model, nnx.Param, ...)
        return params, rest

    def model(self, params: Any, rest: Any) -> Any:
        """The model with these parameters, in evaluation mode."""
        return nnx.merge(self.judged, params, rest, copy=True)

    def loss(self, params: Any, rest: Any, x: Any, y: Any) -> tuple[jax.Array, Any]:
        """The training loss, and what the model keeps after it."""
        model = nnx.merge(self.training, params, rest, copy=True)
        value = self.task.loss(model, x, y)
        return value, nnx.split(model, nnx.Param, ...)[2]

    def metric(self, params: Any, rest: Any, x: Any, y: Any) -> jax.Array:
        """The metric."""
        return self.task.metric(self.model(params, rest), x, y)


@functools.lru_cache(maxsize=32)
def parts(task: Task) -> Parts:
    """The task taken apart, once."""
    return Parts(task)


def narrowed(tree: Any, dtype: Any) -> Any:
    """The tree with its floating-point arrays in that dtype."""
    return jax.tree.map(lambda leaf: leaf.astype(dtype) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf, tree)
