"""What a comparison found, as plain numbers, and its JSON file."""

import json
import math
import re
import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jaxopt_lectures.compare.measures import metric_text, steps_to_target
from jaxopt_lectures.records.files import write_atomically

SCHEMA = 2
"""Version of the file's layout; raised when a reader of the older layout would misread a newer file."""

Series = tuple[float, ...]


@dataclass(frozen=True)
class Curves:
    """One optimizer's training, for every seed and every look at it.

    Attributes:
      loss: [seed][look], mean training loss over the steps since the look before.
      metric: [seed][look], the task's metric on the validation examples.
      seconds_per_step: [look], of one step of all seeds together, without compilation and validation.
    """

    loss: tuple[Series, ...]
    metric: tuple[Series, ...]
    seconds_per_step: Series

    @property
    def final_metric(self) -> Series:
        """[seed], at the end."""
        return tuple(run[-1] for run in self.metric)

    @property
    def steps_per_second(self) -> float:
        """The median over the looks."""
        return 1 / statistics.median(self.seconds_per_step)


@dataclass(frozen=True)
class Difference:
    """How far our weights and the twin's came apart: the largest over weights and seeds, at every look.

    Attributes:
      to_twin: [look], between ours and the twin's.
      noise: [look], between the twin and itself started from weights moved by the protocol's `noise`, the larger of
        two draws: what training makes of a difference that means nothing.
    """

    to_twin: Series
    noise: Series


@dataclass(frozen=True)
class Result:
    """One optimizer of a comparison; `twin` and the rest about it are None where there is none."""

    name: str
    learning_rate: float
    state_bytes_per_parameter: float
    ours: Curves
    twin: Curves | None = None
    twin_call: str | None = None
    difference: Difference | None = None


@dataclass(frozen=True)
class Report:
    """A comparison: its results and all that is needed to judge or repeat it.

    Attributes:
      task: name, summary, examples (how many and their sha256), parameters, metric and target of the task.
      protocol: steps, seeds, batch size and the like.
      environment: versions, device, date.
      looks: the steps at which was looked.
      results: one for each optimizer that finished.
      complete: whether all that were asked for did.
    """

    task: Mapping[str, Any]
    protocol: Mapping[str, Any]
    environment: Mapping[str, Any]
    looks: tuple[int, ...]
    results: tuple[Result, ...]
    complete: bool

    def steps_to_target(self, curves: Curves) -> float:
        """Median over the seeds of the step at which the target was first reached; infinite if never."""
        return steps_to_target(self.looks, curves.metric, self.task["target"], self.task["larger_is_better"])

    def reached(self, curves: Curves, plus_minus: str = "±") -> str:
        """The metric at the end in words: mean and, of several seeds, standard deviation, in the task's unit."""
        return metric_text(curves.final_metric, self.task["metric_unit"], plus_minus)

    def save(self, folder: Path) -> Path:
        """Writes `results.json` into the folder and returns its path; the file is whole or not there."""
        path = folder / "results.json"
        write_atomically(path, self.to_json().encode())
        return path

    def to_json(self) -> str:
        """Everything as JSON. What is not finite is null there."""
        optimizers = [{**_plain(result), "figures": self._figures(result)} for result in self.results]
        content = {"schema": SCHEMA, "complete": self.complete}
        content |= {name: _plain(getattr(self, name)) for name in ("task", "protocol", "environment", "looks")}
        text = json.dumps(content | {"optimizers": _plain(optimizers)}, indent=1, allow_nan=False)
        # A curve on one line, not a line for each of its numbers.
        return re.sub(r"\[[^][{}\"]*\]", lambda series: "".join(series[0].split()), text) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "Report":
        """The report that `to_json` wrote.

        Raises:
          ValueError: not a results file, or one of another schema.
        """
        content = json.loads(text)
        found = content.get("schema") if isinstance(content, dict) else None
        if found != SCHEMA:
            raise ValueError(
                f"the results have schema {found!r}, this version reads {SCHEMA}: run the comparison again"
            )
        given = {name: content[name] for name in ("task", "protocol", "environment", "complete")}
        results = tuple(_result(fields) for fields in content["optimizers"])
        return cls(**given, looks=tuple(content["looks"]), results=results)

    def _figures(self, result: Result) -> dict[str, Any]:
        """What the table shows, for readers who want no curves; it is derived anew when the file is read."""
        sides = {"ours": result.ours, "twin": result.twin}
        return {
            side: {
                "final_metric_mean": statistics.fmean(curves.final_metric),
                "steps_to_target": self.steps_to_target(curves),
                "steps_per_second": curves.steps_per_second,
            }
            for side, curves in sides.items()
            if curves is not None
        }


def read(path: Path) -> Report:
    """The report in a `results.json`.

    Raises:
      OSError: no such file.
      ValueError: not a results file, or one of another schema.
    """
    return Report.from_json(path.read_text(encoding="utf-8"))


def _plain(value: Any) -> Any:
    """`value` in JSON's types: dataclasses as objects, tuples as lists, infinite and NaN as null."""
    if hasattr(value, "__dataclass_fields__"):
        return {name: _plain(getattr(value, name)) for name in value.__dataclass_fields__}
    if isinstance(value, Mapping):
        return {name: _plain(part) for name, part in value.items()}
    if isinstance(value, (tuple, list)):
        return [_plain(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _series(values: list[float | None]) -> Series:
    return tuple(math.nan if value is None else value for value in values)


def _curves(fields: dict[str, Any]) -> Curves:
    loss, metric = (tuple(_series(run) for run in fields[name]) for name in ("loss", "metric"))
    return Curves(loss, metric, _series(fields["seconds_per_step"]))


def _result(fields: dict[str, Any]) -> Result:
    fields = {name: value for name, value in fields.items() if name != "figures"}
    fields["ours"] = _curves(fields["ours"])
    if fields["twin"] is not None:
        fields["twin"] = _curves(fields["twin"])
        fields["difference"] = Difference(**{k: _series(v) for k, v in fields["difference"].items()})
    return Result(**fields)
