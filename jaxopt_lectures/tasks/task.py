"""What a task is: a model, its data, what to minimise and what to reach."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np


class Unfit(ValueError):
    """A task, its data or its files cannot be used as they are; the message is a sentence for the user."""


class Examples(NamedTuple):
    """Inputs and targets; the first axis of both counts the examples."""

    x: np.ndarray
    y: np.ndarray


@dataclass(frozen=True)
class Data:
    """The examples of a task. `test` is for the final word only: nothing may be chosen by it."""

    train: Examples
    validation: Examples
    test: Examples | None = None


@dataclass(frozen=True)
class Task:
    """Something to train, described well enough that any optimizer can be tried on it.

    Attributes:
      name: what the command line calls it.
      summary: one line.
      model: seed -> Flax NNX module with freshly drawn weights. Batch statistics and dropout keys may be part of it.
      loss: (model, x, y) -> scalar to minimise; the model is in training mode.
      metric: (model, x, y) -> scalar to judge by; the model is in evaluation mode.
      data: gives the examples; called once, and only by who trains.
      batch_size: examples per step; all of them for a deterministic problem.
      target: the metric at which the task counts as solved.
      steps: how long to train where no one says otherwise.
      metric_name: what the metric measures, for tables and axes.
      metric_unit: "%" for a share, which is shown times 100; any other word is shown as it is.
      larger_is_better: whether the metric rises, as an accuracy does, or falls, as an error does.
    """

    name: str
    summary: str
    model: Callable[[int], Any]
    loss: Callable[[Any, Any, Any], Any]
    metric: Callable[[Any, Any, Any], Any]
    data: Callable[[], Data]
    batch_size: int
    target: float
    steps: int = 1000
    metric_name: str = "accuracy"
    metric_unit: str = "%"
    larger_is_better: bool = True


def check(task: Task, data: Data) -> None:
    """Whether the parts of a task fit together, found out by shapes, before anything is trained.

    Args:
      task: the task.
      data: what its `data()` gave.

    Raises:
      Unfit: the data is not a `Data`, or the model no Flax NNX module; no examples, more or fewer inputs than targets,
        fewer examples than a batch; a loss or metric that cannot be computed from what the model gives, is not a
        scalar, or is not a real number; labels beyond the model's classes. The message names the task and the shapes.
    """
    from flax import nnx  # here: the list of tasks is read without it

    if not isinstance(data, Data):
        raise Unfit(f"task {task.name!r}: data() gave a {type(data).__name__}; needed is a Data")
    _check_counts(task, data)
    model = task.model(0)
    if not isinstance(model, nnx.Module):
        raise Unfit(f"task {task.name!r}: model(seed) gave a {type(model).__name__}; needed is a Flax NNX module")
    for word, fun, part in (("loss", task.loss, data.train), ("metric", task.metric, data.validation)):
        (model.train if word == "loss" else model.eval)()
        _check_result(task, word, fun, model, Examples(*(jnp.asarray(array[: task.batch_size]) for array in part)))


def _check_counts(task: Task, data: Data) -> None:
    parts = {"training": data.train, "validation": data.validation, "test": data.test}
    for word, part in parts.items():
        if part is None:
            continue
        inputs, targets = len(part.x), len(part.y)
        if inputs != targets:
            raise Unfit(f"task {task.name!r} has {inputs} {word} inputs but {targets} targets")
        if inputs == 0:
            raise Unfit(f"task {task.name!r} has no {word} examples")
    count = len(data.train.x)
    if not 1 <= task.batch_size <= count:
        raise Unfit(f"task {task.name!r} has {count} training examples: no batch of {task.batch_size}")


def _check_result(task: Task, word: str, fun: Callable[..., Any], model: Any, batch: Examples) -> None:
    """One of loss and metric, on one batch."""
    from flax import nnx

    graph, state = nnx.split(model)

    def shape_of(fun: Callable[..., Any]) -> Any:
        # The model is put together inside: it may write to its own variables, as batch norm does.
        return jax.eval_shape(lambda state, x, y: fun(nnx.merge(graph, state), x, y), state, *batch)

    try:
        output = shape_of(lambda model, x, y: model(x))
        gives = f"the model gives {_described(output)}"
    except Exception as error:  # a loss need not call the model this way
        output, gives = None, f"the model takes no inputs like {_described(batch.x)} ({_first_line(error)})"
    shapes = f"{gives}, the targets are {_described(batch.y)}"
    try:
        result = shape_of(fun)
    except Exception as error:
        raise Unfit(f"task {task.name!r}: no {word}: {shapes}: {_first_line(error)}") from error
    kinds = [jnp.floating] if word == "loss" else [jnp.floating, jnp.integer]  # a metric may count, a loss has a slope
    if getattr(result, "shape", None) != () or not any(jnp.issubdtype(result.dtype, kind) for kind in kinds):
        raise Unfit(f"task {task.name!r}: the {word} must be one real number, is {_described(result)}; {shapes}")
    _check_labels(task, word, fun, nnx.merge(graph, state), batch, output)


def _check_labels(task: Task, word: str, fun: Any, model: Any, batch: Examples, output: Any) -> None:
    """Labels beyond the model's classes, which take their probability from nowhere: the loss is NaN."""
    x, y = batch
    if not (hasattr(output, "shape") and jnp.issubdtype(y.dtype, jnp.integer) and output.shape[:-1] == y.shape):
        return
    classes, lowest, highest = output.shape[-1] if output.shape else 0, int(y.min()), int(y.max())
    if (lowest < 0 or highest >= classes) and not jnp.isfinite(fun(model, x, y)):
        found = f"labels from {lowest} to {highest}, the model has {classes} classes ({_described(output)})"
        raise Unfit(f"task {task.name!r}: the {word} is not finite: {found}")


def _described(value: Any) -> str:
    """Dtypes and shapes of what a function gives."""
    leaves = jax.tree.leaves(value)
    if len(leaves) == 1 and leaves[0] is value:
        return f"{value.dtype} {value.shape}" if hasattr(value, "shape") else f"a {type(value).__name__}"
    return f"a {type(value).__name__} of {', '.join(map(_described, leaves)) or 'nothing'}"


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [""])[0] or type(error).__name__
