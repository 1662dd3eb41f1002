"""What was tried and what came of it; which was best."""

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Trial:
    """One setting of an optimizer's arguments, trained.

    Attributes:
      number: counted from 0.
      values: the arguments.
      seeds: of the runs with them.
      metrics: [seed], of the validation examples at the end.
      losses: [seed], mean training loss of the last steps.
      steps: how many were taken.
      diverged: whether a loss or a weight was not finite, in any of the runs.
    """

    number: int
    values: Mapping[str, Any]
    seeds: tuple[int, ...]
    metrics: tuple[float, ...]
    losses: tuple[float, ...]
    steps: int
    diverged: bool

    @property
    def metric(self) -> float:
        """The mean over the seeds; not a number where it diverged."""
        return math.nan if self.diverged else statistics.fmean(self.metrics)

    @classmethod
    def from_plain(cls, fields: Mapping[str, Any]) -> "Trial":
        """The trial that `plain` wrote."""
        series = {
            name: tuple(math.nan if value is None else value for value in fields[name])
            for name in ("metrics", "losses")
        }
        return cls(**{**fields, **series, "seeds": tuple(fields["seeds"])})


def ranked(trials: Sequence[Trial], larger_is_better: bool) -> list[Trial]:
    """The best first: those that were trained longest, of them by metric, of equal ones by training loss.

    Those that diverged come last.
    """
    sign = -1 if larger_is_better else 1

    def order(trial: Trial) -> Any:
        metric = trial.metric
        lost = not math.isfinite(metric)
        loss = math.inf if lost or math.isnan(trial.losses[-1]) else statistics.fmean(trial.losses)
        return lost, -trial.steps, 0.0 if lost else sign * metric, loss, trial.number

    return sorted(trials, key=order)


def rounded(values: Iterable[float]) -> tuple[float, ...]:
    """Seven digits, which is all that float32 has."""
    return tuple(float(f"{value:.7g}") for value in values)
