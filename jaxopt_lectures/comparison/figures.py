"""What the figures of a comparison show: colours, curves, where axes end; and Plotly's JSON of them for the page.

The JSON has no colours: the page paints each trace by the slot in its `meta`, and again when its scheme changes.
"""

import html
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jaxopt_lectures.comparison.measures import compact
from jaxopt_lectures.comparison.results import Comparison, Record, Result
from jaxopt_lectures.comparison.verdicts import Verdict
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

_LEAST, _MOST = 2.0**-126, 1e300
_FENCE, _FAR, _MANY = 3, 30, 5
"""How many spreads of the middle half an axis reaches beyond it for any value, for one that matters; see `axis`."""
_HOVER = "%{fullData.name}<br>%{text}<extra></extra>"


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
        """The nearest value that the axis shows."""
        return min(self.high, max(self.low, value))

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
    log = bool(log and positive and min(finite) >= 0 and positive[-1] > _MANY * max(positive[0], _LEAST))
    if log:
        finite, wanted = ([math.log10(v) for v in some if v >= _LEAST] for some in (finite, wanted))
    if not finite:
        return Axis(0.0, 1.0, False)
    first, _, third = statistics.quantiles(finite, method="inclusive") if len(finite) > 1 else finite * 3
    spread = max(third - first, 0.1 if log else 0.05 * max(abs(first), abs(third)), 1e-12)
    near = [v for v in finite if first - _FENCE * spread <= v <= third + _FENCE * spread]
    near += [v for v in wanted if first - _FAR * spread <= v <= third + _FAR * spread]
    low, high = min(near), max(near)
    pad = 0.05 * (high - low) or spread / 2
    return Axis(10 ** (low - pad), 10 ** (high + pad), True) if log else Axis(low - pad, high + pad, False)


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


def scale_of(one: Comparison) -> int:
    """By what metrics are multiplied: shares are shown in percent."""
    return 100 if one.task["metric_unit"] == "%" else 1


def metric_name(one: Comparison) -> str:
    """The metric with its unit."""
    return f"{one.task['metric']}, {one.task['metric_unit']}" if one.task["metric_unit"] else str(one.task["metric"])


def label(text: str, most: int = 0) -> str:
    """A text that Plotly shows as it is, cut where it is longer than asked for; Plotly reads some HTML."""
    return html.escape(text if not most or len(text) <= most else text[: most - 1] + "…", quote=False)


def curves_figure(one: Comparison, kind: str, look: Mapping[str, Style]) -> dict[str, Any]:
    """A metric or the loss by step: a line for each optimizer, and a band where there are several seeds."""
    found, y = curves(one, kind)
    data: list[Any] = []
    for name, each in found.items():
        low, high, middle = ([max(v, _LEAST) if y.log else v for v in s] for s in (each.low, each.high, each.middle))
        if low != high:
            x = [*each.steps, *each.steps[::-1]]
            band = {"fill": "toself", "line": {"width": 0}, "hoverinfo": "skip"}
            data.append(_trace(name, look, "band", x, [*high, *low[::-1]], mode="lines", **band))
        line = {"line": {"width": 2, "dash": look[name].dash}}
        text = [f"step {step:,}: {value:.4g}" for step, value in zip(each.steps, each.middle, strict=True)]
        data.append(_trace(name, look, "line", each.steps, middle, text, mode="lines", **line))
    title = f"validation {metric_name(one)}" if kind == "metric" else "training loss"
    return _figure(data, {"title": "step", "range": [0, one.steps]}, {"title": title, **y.plotly()})


def scores_figure(one: Comparison, found: Mapping[str, Verdict], look: Mapping[str, Style]) -> dict[str, Any]:
    """The score of each run, beneath them mean and band; the best optimizer first."""
    scale, larger = scale_of(one), one.task["larger_is_better"]
    means = {r.name: scale * found[r.name].mean for r in one.results if r.studies}
    rows = [result for result in one.results if result.studies]
    rows.sort(key=lambda r: (math.isnan(means[r.name]), -means[r.name] if larger else means[r.name]))
    x = axis([scale * score for r in rows for score in r.scores], means.values(), not larger)
    data: list[Any] = []
    for row, result in enumerate(rows):
        name, mean, verdict = result.name, means[result.name], found[result.name]
        scores = [scale * score for score in result.scores]
        at, marks, told = _points(x, scores, look[name], larger, ("triangle-left", "triangle-right"))
        marker = {"symbol": marks, "size": 8, "opacity": 0.6, "line": {"width": 1}}
        data.append(_trace(name, look, "points", at, [0.15 - row] * len(at), told, mode="markers", marker=marker))
        if math.isfinite(mean) and len(scores) > 1:
            low, middle, high = map(x.clipped, (scale * verdict.low, mean, scale * verdict.high))
            bar = {"type": "data", "array": [high - middle], "arrayminus": [middle - low], "thickness": 1.5, "width": 0}
            text = [f"mean {mean:.4g}, band {scale * verdict.low:.4g} to {scale * verdict.high:.4g}"]
            marker = {"symbol": "line-ns-open", "size": 11, "line": {"width": 2.5}}
            drawn = {"mode": "markers", "error_x": bar, "marker": marker}
            data.append(_trace(name, look, "mean", [middle], [-0.2 - row], text, **drawn))
    ticks = {"tickvals": [-row for row in range(len(rows))], "ticktext": [label(r.name, 18) for r in rows]}
    side = {"range": [0.6 - len(rows), 0.6], "showgrid": False, "fixedrange": True, "automargin": True, **ticks}
    return _figure(data, {"title": metric_name(one), **x.plotly()}, side)


def trials_figure(one: Comparison, look: Mapping[str, Style]) -> dict[str, Any]:
    """The metric of every trial by its learning rate; those off the axis, and diverged ones, at its edge."""
    found, y = trials(one)
    data: list[Any] = []
    for name, each in found.items():
        metrics, rates = [metric for _, metric, _ in each], [trial.values[RATE] for trial, _, _ in each]
        larger = one.task["larger_is_better"]
        at, marks, told = _points(y, metrics, look[name], larger, ("triangle-down", "triangle-up"))
        for index, (trial, _, chosen) in enumerate(each):
            values = [f"{key} {v:.4g}" if isinstance(v, float) else f"{key} {v}" for key, v in trial.values.items()]
            told[index] = f"{label(', '.join(values))}<br>{told[index]}{', chosen' if chosen else ''}"
        sizes = [11 if chosen else 6 for *_, chosen in each]
        marker = {"symbol": marks, "size": sizes, "opacity": 0.75, "line": {"width": [s / 5 - 0.7 for s in sizes]}}
        data.append(_trace(name, look, "trials", rates, at, told, mode="markers", marker=marker, cliponaxis=False))
    side = {"title": f"validation {metric_name(one)}", **y.plotly()}
    return _figure(data, {"title": "learning rate", "type": "log"}, side)


def profiles_figure(profiles: Mapping[str, Sequence[float]], look: Mapping[str, Style]) -> dict[str, Any]:
    """For each optimizer the share of tasks solved within a multiple of the steps of the fastest."""
    data = []
    for name, shares in profiles.items():
        line = {"width": 2, "dash": look[name].dash, "shape": "hv"}
        text = [f"within {ratio:.3g} times: {100 * share:.0f} %" for ratio, share in zip(RATIOS, shares, strict=True)]
        data.append(_trace(name, look, "line", RATIOS, [100 * s for s in shares], text, mode="lines", line=line))
    ticks = {"tickvals": [1, 2, 4, 8, 16], "range": [0, math.log10(16)], "type": "log"}
    side = {"title": "share of tasks, %", "range": [-2, 102]}
    return _figure(data, {"title": "steps to target, as a multiple of the fastest", **ticks}, side)


def _points(
    along: Axis, values: Sequence[float], style: Style, larger: bool, beyond: tuple[str, str]
) -> tuple[list[float], list[str], list[str]]:
    """Places, symbols and texts of points; those off the axis at its edge, diverged ones at its bad one."""
    at, marks, told = [], [], []
    for value in values:
        finite = math.isfinite(value)
        at.append(along.clipped(value) if finite else along.low if larger else along.high)
        off = beyond[value > along.high] if finite else "x-thin-open"
        marks.append(style.symbol if along.shows(value) else off)
        told.append(compact(value, ".4g") if finite else "diverged")
    return at, marks, told


def _trace(name: str, look: Mapping[str, Style], role: str, x: Any, y: Any, text: Any = None, **rest: Any) -> Any:
    paint = {"meta": {"slot": look[name].slot, "role": role}, "legendgroup": str(look[name].number)}
    hover = {"text": text, "hovertemplate": _HOVER} if text else {}
    return {"type": "scatter", "name": label(name), "x": list(x), "y": list(y), **paint, **hover, **rest}


def _figure(data: list[Any], x: Mapping[str, Any], y: Mapping[str, Any]) -> dict[str, Any]:
    across, up = ({**each, "title": {"text": label(each.get("title", ""))}} for each in (x, y))
    layout = {"margin": {"l": 56, "r": 12, "t": 8, "b": 44}, "showlegend": False, "hovermode": "closest"}
    return {"data": data, "layout": {"xaxis": across, "yaxis": up, **layout}}
