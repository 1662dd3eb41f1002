"""The metric of a model, at the weights that its optimizer wants evaluated; the length of its gradient."""

import functools
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from jaxopt_lectures.core.transformation import eval_params, gradient_point
from jaxopt_lectures.tasks.task import Data, Task
from jaxopt_lectures.training.parts import parts
from jaxopt_lectures.training.placement import Placement
from jaxopt_lectures.training.program import TrainState, batch_loss


def evaluate(
    task: Task, trained: TrainState | nnx.Module, part: Literal["train", "validation", "test"] = "validation"
) -> float:
    """The task's metric.

    Args:
      task: whose metric, on whose data.
      trained: the state of a training, whose evaluation weights are taken; or a model like `task.model(seed)`.
      part: which examples. Those to test on are for the final word: nothing may be chosen by them.

    Raises:
      ValueError: no such part, or the task has none.
    """
    if part not in ("train", "validation", "test"):
        raise ValueError(f"part must be 'train', 'validation' or 'test', got {part!r}")
    data: Data = task.data()
    examples = getattr(data, part)
    if examples is None:
        raise ValueError(f"task {task.name!r} has no examples to test on")
    if isinstance(trained, TrainState):
        weights, rest = weights_of(trained), trained.rest
    else:
        _, weights, rest = nnx.split(trained, nnx.Param, ...)
    return float(metric(task)(weights, rest, *map(jnp.asarray, examples)))


@functools.lru_cache(maxsize=32)
def metric(task: Task) -> Callable[[Any, Any, Any, Any], jax.Array]:
    """The metric as a compiled function `(params, rest, x, y) -> value`."""
    return jax.jit(parts(task).metric)


def weights_of(state: TrainState) -> Any:
    """The weights to evaluate."""
    return eval_params(state.opt_state, state.params)


@functools.lru_cache(maxsize=32)
def gradient_norm(
    task: Task, accumulate: int, compute_dtype: Any, placement: Placement | None = None
) -> Callable[[TrainState, Any, Any], jax.Array]:
    """The length of a batch's gradient, where the optimizer wants it taken: a compiled `(state, examples, rows)`."""
    loss = batch_loss(task, accumulate, compute_dtype, placement)

    def norm(state: TrainState, examples: Any, rows: jax.Array) -> jax.Array:
        x, y = (part[rows] for part in examples)
        point = gradient_point(state.opt_state, state.params)
        gradient, _ = jax.grad(loss, has_aux=True)(point, state.rest, x, y)
        return optax.tree.norm(gradient)

    return jax.jit(norm)
