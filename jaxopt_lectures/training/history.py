"""What training saw, in memory and as `history.jsonl`: a line for each look at it and for each event."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

Ended = Literal["steps", "target", "patience", "gradient_norm", "seconds", "nonfinite", "interrupted"]


@dataclass
class History:
    """A training run.

    Attributes:
      records: a look each: `step`, `loss` (mean since the look before), `metric`, `gradient_norm` (of the last batch),
        `skipped` steps so far, `seconds` of training so far, `steps_per_second`, and each scheduled hyper-parameter.
      events: what happened beside: `event`, `step`, and more.
      larger_is_better: whether the metric rises as training gets on.
      ended: why it ended; None while it runs.
      saved: whether all that was to be kept on disk is there.
      model: the trained model, with the weights that the optimizer wants evaluated, in evaluation mode.
      state: the `TrainState` at the end.
    """

    records: list[dict[str, Any]] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)
    larger_is_better: bool = True
    ended: Ended | None = None
    saved: bool = True
    model: Any = None
    state: Any = None

    @property
    def step(self) -> np.ndarray:
        """The steps at which was looked, (looks,)."""
        return np.array([record["step"] for record in self.records], int)

    @property
    def loss(self) -> np.ndarray:
        """The mean training loss since the look before, (looks,)."""
        return np.array([record["loss"] for record in self.records], float)

    @property
    def metric(self) -> np.ndarray:
        """The task's metric on the validation examples, (looks,)."""
        return np.array([record["metric"] for record in self.records], float)

    @property
    def best(self) -> dict[str, Any]:
        """The look with the best metric."""
        return self.records[first_best([record["metric"] for record in self.records], self.larger_is_better)]

    def __repr__(self) -> str:
        if not self.records:
            return f"History(ended={self.ended!r}, no looks yet)"
        last = self.records[-1]
        return (
            f"History(ended={self.ended!r}, step={last['step']}, loss={last['loss']:.4g}, metric={last['metric']:.4g}, "
            f"best metric {self.best['metric']:.4g} at step {self.best['step']})"
        )


def first_best(metrics: Sequence[float], larger_is_better: bool) -> int:
    """Where the best value first was; NaN is never best."""
    better = 1 if larger_is_better else -1
    return max(range(len(metrics)), key=lambda i: (not math.isnan(metrics[i]), better * metrics[i]))


def to_line(entry: Mapping[str, Any]) -> str:
    """A record or an event as a line of JSON; what is not finite is null."""
    plain = {key: None if isinstance(v, float) and not math.isfinite(v) else v for key, v in entry.items()}
    return json.dumps(plain, allow_nan=False) + "\n"


def from_lines(lines: Sequence[str]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Records and events; what is null there is NaN again, and a torn line is left out."""
    entries = []
    for line in lines:
        try:
            entries.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    filled = [{key: math.nan if v is None else v for key, v in entry.items()} for entry in entries]
    return [e for e in filled if "event" not in e], [e for e in filled if "event" in e]
