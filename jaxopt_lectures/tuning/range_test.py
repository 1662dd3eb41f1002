"""The learning-rate range test: one run whose rate grows from step to step.

eta_t = low (high / low)^(t / (T - 1)), and the loss of every step

Source: L. N. Smith, Cyclical learning rates for training neural networks, WACV 2017, arXiv:1506.01186, section 3.3.
"""

import math
from dataclasses import dataclass

import jax
import numpy as np

from jaxopt_lectures.core.checks import whole
from jaxopt_lectures.schedules import exponential_decay
from jaxopt_lectures.tasks.task import Task, check
from jaxopt_lectures.training.batches import Batches
from jaxopt_lectures.training.program import make_step, start
from jaxopt_lectures.training.ways import make_epoch
from jaxopt_lectures.tuning.lanes import Factory

_MEMORY = 0.95
"""Of the running mean that the losses are smoothed with."""
_TOO_MUCH = 4.0
"""Times the smallest smoothed loss above which the rate is too high."""


@dataclass(frozen=True)
class RangeTest:
    """What a range test found.

    Attributes:
      rates: [step].
      losses: [step], as they were.
      smoothed: [step], a running mean without the bias of its beginning; cut off where training broke.
    """

    rates: tuple[float, ...]
    losses: tuple[float, ...]
    smoothed: tuple[float, ...]

    @property
    def highest(self) -> float:
        """The rate above which training breaks: the last before the smoothed loss is four times its smallest."""
        return self.rates[len(self.smoothed) - 1]

    @property
    def steepest(self) -> float:
        """The rate at which the smoothed loss falls fastest by the logarithm of the rate: a first guess.

        Before a tenth of the steps, and where the loss is already rising, there is nothing to read.
        """
        first = len(self.rates) // 10
        end = int(np.argmin(self.smoothed)) + 1
        if end - first < 3:
            return self.rates[max(0, end - 1)]
        slope = np.gradient(self.smoothed[first:end], np.log(self.rates[first:end]))
        return self.rates[first + int(np.argmin(slope))]

    def __repr__(self) -> str:
        return f"steepest at a rate of {self.steepest:.2g}, trains up to {self.highest:.2g}"


def range_test(
    task: Task, factory: Factory, *, low: float = 1e-6, high: float = 10.0, steps: int = 300, seed: int = 0
) -> RangeTest:
    """Trains once with a learning rate that grows from `low` to `high`.

    It tells what the first steps bear, which is not what serves a whole training; `sweep` tells that.

    Args:
      task: what to train.
      factory: `factory(learning_rate=schedule)` gives the optimizer.
      low: first rate, above 0.
      high: last rate.
      steps: how many rates.
      seed: of the first weights and the batches.

    Raises:
      TypeError, ValueError: an argument of the wrong kind, or out of range.
      Unfit: the parts of the task do not fit together.
    """
    whole("steps", steps, 10)
    if not 0 < low < high < math.inf:
        raise ValueError(f"the rates must be 0 < low < high, got low={low!r}, high={high!r}")
    data = task.data()
    check(task, data)
    schedule = exponential_decay(low, steps - 1, high / low)
    tx = factory(learning_rate=schedule)
    state, epoch = start(task, tx, seed), make_epoch(make_step(task, tx, guard=False))
    batches = Batches(data.train, task.batch_size, (seed, 0))
    losses = np.empty(0)
    try:
        while len(losses) < steps:
            chunk = batches.chunk(len(losses), min(batches.capacity, steps - len(losses)))
            state, more = epoch(state, chunk)
            losses = np.append(losses, np.asarray(more, float)[: chunk.steps])
    finally:
        batches.close()
    rates = np.asarray(jax.vmap(schedule)(np.arange(steps)), float)
    return RangeTest(tuple(rates.tolist()), tuple(losses.tolist()), _smoothed(losses))


def _smoothed(losses: np.ndarray) -> tuple[float, ...]:
    """Running means of the losses, up to where they are too large or no numbers."""
    mean = 0.0
    means: list[float] = []
    for step, loss in enumerate(losses):
        mean = _MEMORY * mean + (1 - _MEMORY) * float(loss)
        value = mean / (1 - _MEMORY ** (step + 1))
        if not math.isfinite(value) or (means and value > _TOO_MUCH * abs(min(means))):
            break
        means.append(value)
    return tuple(means) or (math.nan,)
