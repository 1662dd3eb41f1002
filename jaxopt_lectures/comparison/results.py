"""What a comparison found, as plain numbers; everything that is shown is derived from it."""

import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from jaxopt_lectures.comparison.measures import steps_to_target
from jaxopt_lectures.tuning.trials import Trial

Series = tuple[float, ...]


@dataclass(frozen=True)
class Study:
    """A tuning, and a fresh run with what it found. Studies share nothing, so their spread is that of both.

    Attributes:
      tuning_seed: of the first weights and batches of all its trials.
      seed: of those of the run.
      trials: what was tried; empty where there is nothing to tune.
      values: the arguments that were chosen, None where every trial diverged.
      loss: [look], mean training loss of the run since the look before.
      metric: [look], of the validation examples.
      score: the metric at the end, of the examples to test on where the task has some; not a number where it diverged.
    """

    tuning_seed: int
    seed: int
    trials: tuple[Trial, ...]
    values: Mapping[str, Any] | None
    loss: Series
    metric: Series
    score: float


@dataclass(frozen=True)
class Twins:
    """How far our weights and those of the optax counterpart came apart: the largest difference of a weight.

    Attributes:
      call: the counterpart.
      values: the arguments of both.
      looks: steps.
      apart: [look], between the two.
      noise: [look], between the counterpart and itself, its first weights off by a millionth: what training makes of a
        difference that means nothing.
    """

    call: str
    values: Mapping[str, Any]
    looks: tuple[int, ...]
    apart: Series
    noise: Series


@dataclass(frozen=True)
class Result:
    """One optimizer on one task.

    Attributes:
      name: what it was asked for by.
      space: where was searched, by argument, as `tuning.space.plain` writes it.
      code: what to paste: the choice of the study whose choice did best on its validation examples.
      edges: arguments of which most studies chose a value at an end of where was searched, "low" or "high".
      studies: one for each seed.
      state_bytes_per_parameter: of optimizer state.
      way: how runs were run.
      seconds_per_step: of a run alone; not a number where it was not measured.
      share_of_step: of that time, what exceeds a step of plain gradient descent.
      twins: where they were asked for.
      error: why there are no studies, None where all went well.
    """

    name: str
    space: Mapping[str, Any]
    code: str = ""
    edges: Mapping[str, str] | None = None
    studies: tuple[Study, ...] = ()
    state_bytes_per_parameter: float = math.nan
    way: str = ""
    seconds_per_step: float = math.nan
    share_of_step: float = math.nan
    twins: Twins | None = None
    error: str | None = None

    @property
    def scores(self) -> Series:
        """[seed], at the end."""
        return tuple(study.score for study in self.studies)

    @property
    def diverged(self) -> int:
        """How many runs have no finite score."""
        return sum(not math.isfinite(score) for score in self.scores)


@dataclass(frozen=True)
class Comparison:
    """Optimizers on one task.

    Attributes:
      task: name, summary, metric, target, data, what was scored.
      steps: of every run.
      looks: the steps at which was looked.
      results: one for each optimizer.
      error: why there are none, None where all went well.
    """

    task: Mapping[str, Any]
    steps: int = 0
    looks: tuple[int, ...] = ()
    results: tuple[Result, ...] = ()
    error: str | None = None

    def steps_to_target(self, result: Result) -> float:
        """Median over the seeds of the step at which the target was first reached; infinite if never."""
        target, larger = self.task["target"], self.task["larger_is_better"]
        runs = [study.metric for study in result.studies]
        return steps_to_target(self.looks, runs, target, larger) if runs and target is not None else math.inf

    def seconds_to_target(self, result: Result) -> float:
        """Of a run alone, without compilation."""
        return self.steps_to_target(result) * result.seconds_per_step

    def result(self, name: str) -> Result:
        """That of one optimizer."""
        return next(result for result in self.results if result.name == name)


@dataclass(frozen=True)
class Record:
    """A comparison on one task or several, and all that is needed to judge or repeat it.

    Attributes:
      protocol: budget, seeds, schedule and the like.
      environment: versions, device, date.
      comparisons: one for each task.
      complete: whether all that were asked for are done.
    """

    protocol: Mapping[str, Any]
    environment: Mapping[str, Any]
    comparisons: tuple[Comparison, ...]
    complete: bool = True

    @property
    def failed(self) -> list[str]:
        """What could not be done, a line each."""
        lines = [f"{one.task['name']}: {one.error}" for one in self.comparisons if one.error]
        each = ((one, result) for one in self.comparisons for result in one.results if result.error)
        return lines + [f"{result.name} on {one.task['name']}: {result.error}" for one, result in each]


def best_choice(result: Result, larger_is_better: bool) -> Study | None:
    """The study whose choice did best on its validation examples."""
    tuned = [study for study in result.studies if study.values is not None and study.trials]
    if not tuned:
        return next((study for study in result.studies if study.values is not None), None)

    def metric(study: Study) -> float:
        found = [trial.metric for trial in study.trials if trial.values == study.values]
        return statistics.fmean(found)

    return (max if larger_is_better else min)(tuned, key=metric)
