"""When training ends before its last step."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from jaxopt_lectures.core.checks import whole
from jaxopt_lectures.tasks.task import Task
from jaxopt_lectures.training.history import Ended, first_best


@dataclass(frozen=True)
class Stop:
    """Reasons to end before the last step; each is looked for where the metric is taken.

    Attributes:
      target: the metric that is enough; True for the task's own. None: no such reason, as for the others.
      patience: so many looks without a better metric than the best.
      gradient_norm: the gradient of a batch is no longer than this.
      seconds: training has taken so long, all parts of a run that was resumed together.

    Raises:
      TypeError: a number is none.
      ValueError: `patience` below 1, the others not above 0.
    """

    target: float | bool | None = None
    patience: int | None = None
    gradient_norm: float | None = None
    seconds: float | None = None

    def __post_init__(self) -> None:
        if self.patience is not None:
            whole("patience", self.patience, 1)
        for name in ("target", "gradient_norm", "seconds"):
            value = getattr(self, name)
            known = value is None or isinstance(value, (int, float))
            if not known or (isinstance(value, bool) and (name != "target" or not value)):
                raise TypeError(f"Stop's {name} must be a number or None, got {type(value).__name__} {value!r}")
            if name != "target" and value is not None and not value > 0:
                raise ValueError(f"Stop's {name} must be above 0, got {value!r}")

    def reason(self, task: Task, records: Sequence[dict[str, Any]], seconds: float) -> Ended | None:
        """Why training ends now, if it does.

        Args:
          task: what is trained.
          records: the looks so far, the last one just taken.
          seconds: of training so far.
        """
        better = 1 if task.larger_is_better else -1
        metrics = [record["metric"] for record in records]
        target = task.target if self.target is True else self.target
        if target is not None and better * metrics[-1] >= better * target:
            return "target"
        if self.patience is not None:
            since = len(metrics) - 1 - first_best(metrics, task.larger_is_better)
            if since >= self.patience:
                return "patience"
        if self.gradient_norm is not None and records[-1]["gradient_norm"] <= self.gradient_norm:
            return "gradient_norm"
        if self.seconds is not None and seconds >= self.seconds:
            return "seconds"
        return None
