"""What a task is: a model, its data, what to minimise and what to reach."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np


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
