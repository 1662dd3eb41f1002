"""What pictures of a comparison show, whoever draws them: colours, curves, trials, and where axes end."""

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from jaxopt_lectures.comparison.measures import profile_costs
from jaxopt_lectures.comparison.results import Comparison, Record, Result
from jaxopt_lectures.comparison.statistics import profile
from jaxopt_lectures.tuning.trials import Trial

# The palette of M. Okabe and K. Ito, told apart by the colour-blind: its yellow darkened for light paper, its blues and
# its black lightened for dark.
LIGHT = ("#1A1A1A", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#A39500")
DARK = ("#F2F2F2", "#3A8FDB", "#F0763A", "#14B88A", "#DE93BC", "#F0B02E", "#9AD5F7", "#F0E442")
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
SYMBOLS = ("circle", "square", "triangle-up", "diamond", "star", "hexagon")
RATE = "learning_rate"
RATIOS = tuple(2 ** (k / 16) for k in range(65))
"""1 to 16, equally far apart on a logarithmic axis."""

LEAST, _MOST = 2.0**-126, 1e300
_FENCE, _FAR, _MANY = 3, 30, 5
"""How many spreads of the middle half an axis reaches beyond it for any value, for one that matters; see `axis`."""


@dataclass(frozen=True)
class Style:
    """How an optimizer looks wherever it is drawn; dash and symbol change each time the palette is used up."""

    number: int
    slot: int
    dash: str
    symbol: str


def styles(record: Record) -> dict[str, Style]:
    """A style for each optimizer: the baseline in black, the others in their order."""
    named = [result.name for one in record.comparisons for result in one.results]
    names = dict.fromkeys([record.protocol["baseline"], *record.protocol["optimizers"], *named])
    turns = [number // len(LIGHT) % len(DASHES) for number in range(len(names))]
    return {name: Style(n, n % len(LIGHT), DASHES[turns[n]], SYMBOLS[turns[n]]) for n, name in enumerate(names)}


@dataclass(frozen=True)
class Axis:
    """Where an axis begins and ends, in the data's own unit, and whether it is logarithmic."""

    low: float
    high: float
    log: bool

    def clipped(self, value: float) -> float:
        """The value, or one just inside the end beyond which it lies."""
        low, high = self._at(0.015), self._at(0.985)
        return min(high, max(low, value))

    def _at(self, share: float) -> float:
        """What lies at that share of the way."""
        if self.log:
            return self.low * (self.high / self.low) ** share
        return self.low + share * (self.high - self.low)

    def shows(self, value: float) -> bool:
        """Whether the value lies on the axis; what is not finite does not."""
        return self.low <= value <= self.high

    def plotly(self) -> dict[str, Any]:
        """Plotly's type and range."""
        ends = [math.log10(self.low), math.log10(self.high)] if self.log else [self.low, self.high]
        return {"type": "log" if self.log else "linear", "range": ends}


def axis(values: Iterable[float], matter: Iterable[float] = (), log: bool = False) -> Axis:
    """An axis for values some of which may be far off, or not finite: the others decide where it ends.

    Args:
      values: what is to be drawn.
      matter: those of them that should be seen unless they are very far off.
      log: whether it may be logarithmic; it is where no value is negative and the largest is many times the smallest.
    """
    finite, wanted = ([v for v in some if abs(v) < _MOST] for some in (values, matter))
    positive = sorted(v for v in finite if v > 0)
    log = bool(log and positive and min(finite) >= 0 and positive[-1] > _MANY * max(positive[0], LEAST))
    if log:
        finite, wanted = ([math.log10(v) for v in some if v >= LEAST] for some in (finite, wanted))
    if not finite:
        return Axis(0.0, 1.0, False)
    first, _, third = statistics.quantiles(finite, method="inclusive") if len(finite) > 1 else finite * 3
    spread = max(third - first, 0.1 if log else 0.05 * max(abs(first), abs(third)), 1e-12)
    near = [v for v in finite if first - _FENCE * spread <= v <= third + _FENCE * spread]
    near += [v for v in wanted if first - _FAR * spread <= v <= third + _FAR * spread]
    low, high = min(near), max(near)
    pad = 0.05 * (high - low) or spread / 2
    return Axis(10 ** (low - pad), 10 ** min(high + pad, 307), True) if log else Axis(low - pad, high + pad, False)


@dataclass(frozen=True)
class Curve:
    """Runs of one optimizer, look by look, without those that diverged: their median, the lowest, the highest."""

    steps: Sequence[int]
    middle: Sequence[float]
    low: Sequence[float]
    high: Sequence[float]


def curve(one: Comparison, result: Result, kind: str) -> Curve:
    """The "metric" or "loss" of an optimizer; it ends where no run is finite any more."""
    scale = scale_of(one) if kind == "metric" else 1
    runs = [getattr(study, kind) for study in result.studies]
    looks = [(step, [scale * run[k] for run in runs if math.isfinite(run[k])]) for k, step in enumerate(one.looks)]
    looks = [(step, values) for step, values in looks if values]
    return Curve([step for step, _ in looks], *([use(v) for _, v in looks] for use in (statistics.median, min, max)))


def curves(one: Comparison, kind: str) -> tuple[dict[str, Curve], Axis]:
    """The curves of all optimizers that have one, and an axis for them."""
    found = {result.name: curve(one, result, kind) for result in one.results}
    found = {name: each for name, each in found.items() if each.steps}
    drawn = [value for each in found.values() for value in (*each.low, *each.high)]
    last = [each.middle[-1] for each in found.values()]
    return found, axis(drawn, last, kind == "loss" or not one.task["larger_is_better"])


def trials(one: Comparison) -> tuple[dict[str, list[tuple[Trial, float, bool]]], Axis]:
    """The trials of each optimizer whose rate was tuned, with metric and whether a study chose it; an axis for them."""
    found: dict[str, list[tuple[Trial, float, bool]]] = {}
    for name, study, trial in ((r.name, s, trial) for r in one.results for s in r.studies for trial in s.trials):
        rate = trial.values.get(RATE)
        if isinstance(rate, (int, float)) and rate > 0:
            each = trial, scale_of(one) * trial.metric, trial.values == study.values
            found.setdefault(name, []).append(each)
    every = [(metric, chosen) for each in found.values() for _, metric, chosen in each]
    matter = [metric for metric, chosen in every if chosen]
    return found, axis([metric for metric, _ in every], matter, not one.task["larger_is_better"])


def profiles(record: Record) -> tuple[int, dict[str, list[float]]]:
    """How many tasks have results and a target, and the performance profiles over them at the `RATIOS`."""
    goals = [one for one in record.comparisons if one.results and one.task["target"] is not None]
    return len(goals), profile(profile_costs(goals, list(styles(record))), RATIOS)


def scale_of(one: Comparison) -> int:
    """By what metrics are multiplied: shares are shown in percent."""
    return 100 if one.task["metric_unit"] == "%" else 1


def metric_name(one: Comparison) -> str:
    """The metric with its unit."""
    return f"{one.task['metric']}, {one.task['metric_unit']}" if one.task["metric_unit"] else str(one.task["metric"])
