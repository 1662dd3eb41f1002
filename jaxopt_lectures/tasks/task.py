"""What a task is: a model, its data, what to minimise and what to reach."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np


class Unfit(ValueError):
    """A task, its data or its files cannot be used as they are; the message is a sentence for the user."""


class Examples(NamedTuple):
    """Inputs and targets; the first axis of both counts the examples.

    Those to train on may also be sources: objects with a length that give the arrays of one example for a number.
    """

    x: Any
    y: Any


@dataclass(frozen=True)
class Data:
    """The examples of a task.

    Attributes:
      train: to train on.
      validation: to choose by.
      test: for the final word only: nothing may be chosen by it.
      files: name -> sha256 of the files that they were read from, for reports; empty where there are none.
    """

    train: Examples
    validation: Examples
    test: Examples | None = None
    files: Mapping[str, str] = field(default_factory=dict, kw_only=True)

    @property
    def sha256(self) -> str:
        """Of the examples to train on and to choose by: dtypes, shapes, contents. Other data are another task."""
        digest = hashlib.sha256()
        for part in (*self.train, *self.validation):
            # Of what is not in memory the ends are enough.
            array = part if is_array(part) else taken(part, np.array([0, len(part) - 1]))
            digest.update(f"{array.dtype.str} {len(part)} {array.shape} ".encode())
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()


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
      target: the metric at which the task counts as solved; None where there is no such thing.
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
    target: float | None
    steps: int = 1000
    metric_name: str = "accuracy"
    metric_unit: str = "%"
    larger_is_better: bool = True

    @property
    def goal(self) -> str:
        """The target in words: "accuracy 95 %", "error <= 1"; the metric alone where there is none."""
        if self.target is None:
            return self.metric_name
        sign = "" if self.larger_is_better else "<= "
        value = f"{100 * self.target:g} %" if self.metric_unit == "%" else f"{self.target:g} {self.metric_unit}"
        return f"{self.metric_name} {sign}{value}".strip()


def check(task: Task, data: Data) -> None:
    """Whether the parts of a task fit together, found out by shapes, before anything is trained.

    Args:
      task: the task.
      data: what its `data()` gave.

    Raises:
      Unfit: data that is not a `Data` of `Examples` of arrays, or a model that is no Flax NNX module with parameters;
        no examples, more or fewer inputs than targets, fewer examples than a batch; a loss or metric that cannot be
        computed from what the model gives, is not a scalar, or is not a real number; labels that are no class of the
        model's. The message names the task and the shapes.
    """
    from flax import nnx  # here: the list of tasks is read without it

    parts = _parts(task, data)
    model = task.model(0)
    if not isinstance(model, nnx.Module) or not jax.tree.leaves(nnx.state(model, nnx.Param)):
        kind = type(model).__name__
        raise Unfit(f"task {task.name!r}: model(seed) gave a {kind}; needed is a Flax NNX module with parameters")
    for word, fun, part in (("loss", task.loss, data.train), ("metric", task.metric, data.validation)):
        (model.train if word == "loss" else model.eval)()
        _check_result(task, word, fun, model, _chosen(part, np.arange(task.batch_size)))
    model.train()
    for word, part in parts.items():
        _check_labels(task, word, model, part)


def _parts(task: Task, data: Any) -> dict[str, Examples]:
    """The parts that there are, by what they are for, once their sizes are seen to fit."""
    if not isinstance(data, Data):
        raise Unfit(f"task {task.name!r}: data() gave a {type(data).__name__}; needed is a Data")
    named = {"training": data.train, "validation": data.validation, "test": data.test}
    parts = {word: part for word, part in named.items() if part is not None}
    for word, part in parts.items():
        if not isinstance(part, Examples) or not all(
            is_array(a) or (word == "training" and is_source(a)) for a in part
        ):
            raise Unfit(f"task {task.name!r}: the {word} part must be Examples(x, y) of two arrays with a first axis")
        inputs, targets = len(part.x), len(part.y)
        if inputs != targets:
            raise Unfit(f"task {task.name!r} has {inputs} {word} inputs but {targets} targets")
        if inputs == 0:
            raise Unfit(f"task {task.name!r} has no {word} examples")
    count, size = len(data.train.x), task.batch_size
    if isinstance(size, bool) or not isinstance(size, int) or not 1 <= size <= count:
        raise Unfit(f"task {task.name!r} has {count} training examples: no batch of {size!r}")
    return parts


def is_array(part: Any) -> bool:
    """Whether it is an array with a first axis."""
    return hasattr(part, "dtype") and getattr(part, "ndim", 0) > 0


def is_source(part: Any) -> bool:
    """Whether it gives an example for a number, and tells how many there are: data that need not fit into memory."""
    return hasattr(part, "__getitem__") and hasattr(part, "__len__") and not isinstance(part, (list, tuple, str, dict))


def taken(part: Any, rows: np.ndarray) -> np.ndarray:
    """These rows of an array, or of a source, one by one."""
    return np.asarray(part[rows]) if is_array(part) else np.stack([np.asarray(part[int(row)]) for row in rows])


def _chosen(part: Examples, rows: np.ndarray) -> Examples:
    """These examples, as far as there are that many."""
    rows = rows[rows < len(part.x)]
    return Examples(*(jnp.asarray(taken(array, rows)) for array in part))


def _applied(fun: Callable[..., Any], model: Any) -> Callable[[Examples], Any]:
    """`fun(model, x, y)` of examples. The model is put together inside: it may write to itself, as batch norm does."""
    from flax import nnx

    graph, state = nnx.split(model)
    return lambda batch: fun(nnx.merge(graph, state, copy=True), *batch)


def _check_result(task: Task, word: str, fun: Callable[..., Any], model: Any, batch: Examples) -> None:
    """One of loss and metric, on one batch."""
    try:
        gives = f"the model gives {_described(jax.eval_shape(_applied(_output, model), batch))}"
    except Exception as error:  # a loss need not call the model this way
        gives = f"the model takes no inputs like {_described(batch.x)} ({_first_line(error)})"
    shapes = f"{gives}, the targets are {_described(batch.y)}"
    try:
        result = jax.eval_shape(_applied(fun, model), batch)
    except Exception as error:
        raise Unfit(f"task {task.name!r}: no {word}: {shapes}: {_first_line(error)}") from error
    kinds = [jnp.floating] if word == "loss" else [jnp.floating, jnp.integer]  # a metric may count, a loss has a slope
    if getattr(result, "shape", None) != () or not any(jnp.issubdtype(result.dtype, kind) for kind in kinds):
        raise Unfit(f"task {task.name!r}: the {word} must be one real number, is {_described(result)}; {shapes}")


def _output(model: Any, x: Any, y: Any) -> Any:
    del y
    return model(x)


def _check_labels(task: Task, word: str, model: Any, part: Examples) -> None:
    """Labels that are no class: the loss is NaN, or a negative one is counted from the last class, unless it knows."""
    y = np.asarray(part.y) if is_array(part.y) else taken(part.y, np.arange(task.batch_size))
    if not np.issubdtype(y.dtype, np.integer):
        return
    try:
        output = jax.eval_shape(_applied(_output, model), _chosen(part, np.arange(task.batch_size)))
    except Exception:
        return
    if getattr(output, "ndim", 0) != y.ndim + 1 or output.shape[1:-1] != y.shape[1:]:
        return
    classes = output.shape[-1]
    for wrong in (y < 0, y >= classes):
        found = np.flatnonzero(wrong.reshape(len(y), -1).any(axis=1))
        if not len(found):
            continue
        examples = _chosen(part, found[: task.batch_size])
        loss = _applied(task.loss, model)
        value = loss(examples)
        wrapped = loss(Examples(examples.x, jnp.where(examples.y < 0, examples.y + classes, examples.y)))
        if not jnp.isfinite(value) or (y[found[0]].min() < 0 and value == wrapped):
            label = y[found[0]][wrong[found[0]]].flat[0] if y.ndim > 1 else y[found[0]]
            raise Unfit(
                f"task {task.name!r}: {len(found)} {word} examples have labels out of range, the first {label} at "
                f"{found[0]}; the model has {classes} classes, 0 to {classes - 1}"
            )


def _described(value: Any) -> str:
    """Dtypes and shapes of what a function gives."""
    leaves = jax.tree.leaves(value)
    if len(leaves) == 1 and leaves[0] is value:
        return f"{value.dtype} {value.shape}" if hasattr(value, "shape") else f"a {type(value).__name__}"
    return f"a {type(value).__name__} of {', '.join(map(_described, leaves)) or 'nothing'}"


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [""])[0] or type(error).__name__
