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

# The palette of M. Okabe and K. Ito, told apart by the colour-blind; its yellow darkened where paper is light, its blues
# and black lightened where it is dark.
LIGHT = ("#1A1A1A", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#A39500")
DARK = ("#F2F2F2", "#3A8FDB", "#F0763A", "#14B88A", "#DE93BC", "#F0B02E", "#9AD5F7", "#F0E442")
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
SYMBOLS = ("circle", "square", "triangle-up", "diamond", "star", "hexagon")
RATE = "learning_rate"
RATIOS = tuple(2 ** (k / 16) for k in range(65))
"""1 to 16, equally far apart on a logarithmic axis."""

_LEAST = 2.0**-126
_FENCE, _FAR = 3, 30
"""How many spreads of the middle half beyond it an axis reaches for any value, and for one that matters."""


@dataclass(frozen=True)
class Style:
    """How an optimizer looks, wherever it is drawn.

    Attributes:
      slot: of the palette.
      round: how often the palette was used up before; its dash and symbol.
    """

    slot: int
    round: int


def styles(record: Record) -> dict[str, Style]:
    """A style for each optimizer: the baseline in black, the others in their order."""
    base = record.protocol["baseline"]
    names = dict.fromkeys(
        [base, *record.protocol["optimizers"], *(r.name for c in record.comparisons for r in c.results)]
    )
    return {name: Style(index % len(LIGHT), index // len(LIGHT) % len(DASHES)) for index, name in enumerate(names)}


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


def axis(values: Iterable[float], matter: Iterable[float] = (), log: bool | None = None) -> Axis:
    """An axis for values some of which may be far off, or not finite: the others decide where it ends.

    Args:
      values: what is to be drawn.
      matter: those of them that should be seen unless they are very far off.
      log: whether it may be logarithmic; it is where no value is negative and the larger ones are many times the smaller.
    """
    finite, wanted = ([v for v in some if math.isfinite(v)] for some in (values, matter))
    positive = sorted(v for v in finite if v > 0)
    log = bool(log and positive and min(finite) >= 0 and positive[-1] > 20 * max(positive[0], _LEAST))
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
    """The runs of one optimizer, look by look, without those that diverged: their median, and the lowest and highest."""

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
    made = ([use(values) for _, values in looks] for use in (statistics.median, min, max))
    return Curve([step for step, _ in looks], *made)


def curves(one: Comparison, kind: str) -> tuple[dict[str, Curve], Axis]:
    """The curves of all optimizers that have one, and an axis for them."""
    found = {result.name: curve(one, result, kind) for result in one.results}
    found = {name: each for name, each in found.items() if each.steps}
    drawn = [value for each in found.values() for value in (*each.low, *each.high)]
    last = [each.middle[-1] for each in found.values()]
    return found, axis(drawn, last, kind == "loss" or not one.task["larger_is_better"])


def tried(one: Comparison, result: Result) -> list[tuple[Trial, float, float, bool]]:
    """The trials that tuned a rate: the trial, its rate, its metric, whether a study chose it."""
    return [
        (trial, float(trial.values[RATE]), scale_of(one) * trial.metric, trial.values == study.values)
        for study in result.studies
        for trial in study.trials
        if isinstance(trial.values.get(RATE), (int, float)) and trial.values[RATE] > 0
    ]


def trial_axis(one: Comparison, found: Mapping[str, Sequence[tuple[Trial, float, float, bool]]]) -> Axis:
    """An axis for the metrics of trials."""
    every = [(metric, chosen) for each in found.values() for _, _, metric, chosen in each]
    chosen = [metric for metric, is_chosen in every if is_chosen]
    return axis([metric for metric, _ in every], chosen, not one.task["larger_is_better"])


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
    data: list[dict[str, Any]] = []
    for name, each in found.items():
        low, high, middle = ([max(v, _LEAST) if y.log else v for v in s] for s in (each.low, each.high, each.middle))
        if low != high:
            around = {"x": [*each.steps, *each.steps[::-1]], "y": [*high, *low[::-1]], "fill": "toself"}
            data.append(_trace(name, look, "band", mode="lines", line={"width": 0}, hoverinfo="skip", **around))
        line = {"width": 2, "dash": DASHES[look[name].round]}
        hover = "%{fullData.name}<br>step %{x:,}: %{y:.4g}<extra></extra>"
        data.append(_trace(name, look, "line", mode="lines", x=each.steps, y=middle, line=line, hovertemplate=hover))
    title = f"validation {metric_name(one)}" if kind == "metric" else "training loss"
    return _figure(data, {"title": "step", "range": [0, one.steps]}, {"title": label(title), **y.plotly()})


def scores_figure(one: Comparison, found: Mapping[str, Verdict], look: Mapping[str, Style]) -> dict[str, Any]:
    """The score of each run, beneath them mean and band; the best optimizer first."""
    scale, sign = scale_of(one), -1 if one.task["larger_is_better"] else 1
    rows = [result for result in one.results if result.studies]
    rows.sort(key=lambda r: sign * found[r.name].mean if math.isfinite(found[r.name].mean) else math.inf)
    scores = [scale * score for result in rows for score in result.scores]
    means = [scale * found[result.name].mean for result in rows]
    x, data = axis(scores, means, sign > 0), []
    for row, (result, mean) in enumerate(zip(rows, means, strict=True)):
        finite = [scale * score for score in result.scores if math.isfinite(score)]
        at = [x.clipped(score) for score in finite] + [x.high if sign > 0 else x.low] * result.diverged
        marks = [SYMBOLS[look[result.name].round] if x.shows(score) else "x-thin-open" for score in finite]
        marker = {"symbol": [*marks, *["x-thin-open"] * result.diverged], "size": 8, "opacity": 0.6}
        told = [compact(score, ".4g") for score in finite] + ["diverged"] * result.diverged
        hover = {"text": told, "hovertemplate": "%{fullData.name}<br>%{text}<extra></extra>"}
        y = [-row + 0.15] * len(at)
        data.append(_trace(result.name, look, "points", mode="markers", x=at, y=y, marker=marker, **hover))
        verdict = found[result.name]
        if math.isfinite(mean) and len(finite) > 1:
            ends = [x.clipped(scale * verdict.low), x.clipped(mean), x.clipped(scale * verdict.high)]
            bar = {"type": "data", "array": [ends[2] - ends[1]], "arrayminus": [ends[1] - ends[0]], "thickness": 1.5}
            text = f"mean {mean:.4g}, band {scale * verdict.low:.4g} to {scale * verdict.high:.4g}"
            hover = {"text": [text], "hovertemplate": "%{fullData.name}<br>%{text}<extra></extra>"}
            marker = {"symbol": "line-ns-open", "size": 11, "line": {"width": 2.5}}
            one_mean = {"x": [ends[1]], "y": [-row - 0.2], "error_x": {**bar, "width": 0}, "marker": marker}
            data.append(_trace(result.name, look, "mean", mode="markers", **one_mean, **hover))
    ticks = {"tickvals": [-row for row in range(len(rows))], "ticktext": [label(r.name, 18) for r in rows]}
    side = {"range": [0.6 - len(rows), 0.6], "showgrid": False, "fixedrange": True, "automargin": True, **ticks}
    return _figure(data, {"title": label(metric_name(one)), **x.plotly()}, side)


def trials_figure(one: Comparison, look: Mapping[str, Style]) -> dict[str, Any]:
    """The metric of every trial by its learning rate; those off the axis, and diverged ones, at its edge."""
    found = {result.name: each for result in one.results if (each := tried(one, result))}
    y, data = trial_axis(one, found), []
    edge = y.low if one.task["larger_is_better"] else y.high
    for name, each in found.items():
        symbols, sizes, heights, told = [], [], [], []
        for trial, _, metric, chosen in each:
            symbols.append(SYMBOLS[look[name].round] if y.shows(metric) else "x-thin-open")
            sizes.append(11 if chosen else 6)
            heights.append(y.clipped(metric) if math.isfinite(metric) else edge)
            values = ", ".join(
                f"{key} {v:.4g}" if isinstance(v, float) else f"{key} {v}" for key, v in trial.values.items()
            )
            reached = compact(metric, ".4g") if math.isfinite(metric) else "diverged"
            told.append(f"{label(values)}<br>{reached}{', chosen' if chosen else ''}")
        marker = {"symbol": symbols, "size": sizes, "opacity": 0.75, "line": {"width": [s / 5 - 0.7 for s in sizes]}}
        points = {"x": [rate for _, rate, _, _ in each], "y": heights, "marker": marker, "text": told}
        hover = "%{fullData.name}<br>%{text}<extra></extra>"
        data.append(_trace(name, look, "trials", mode="markers", cliponaxis=False, hovertemplate=hover, **points))
    side = {"title": label(f"validation {metric_name(one)}"), **y.plotly()}
    return _figure(data, {"title": "learning rate", "type": "log"}, side)


def profiles_figure(profiles: Mapping[str, Sequence[float]], look: Mapping[str, Style]) -> dict[str, Any]:
    """For each optimizer the share of tasks solved within a multiple of the steps of the fastest."""
    data = []
    for name, shares in profiles.items():
        line = {"width": 2, "dash": DASHES[look[name].round], "shape": "hv"}
        hover = "%{fullData.name}<br>within %{x:.3g} times: %{y:.0f} %<extra></extra>"
        y = [100 * share for share in shares]
        data.append(_trace(name, look, "line", mode="lines", x=RATIOS, y=y, line=line, hovertemplate=hover))
    ticks = {"tickvals": [1, 2, 4, 8, 16], "range": [0, math.log10(16)], "type": "log"}
    side = {"title": "share of tasks, %", "range": [-2, 102]}
    return _figure(data, {"title": "steps to target, as a multiple of the fastest", **ticks}, side)


def _trace(name: str, look: Mapping[str, Style], role: str, **rest: Any) -> dict[str, Any]:
    return {"type": "scatter", "name": label(name), "meta": {"slot": look[name].slot, "role": role, "of": name}, **rest}


def _figure(data: list[dict[str, Any]], x: Mapping[str, Any], y: Mapping[str, Any]) -> dict[str, Any]:
    axes = [{**each, "title": {"text": each["title"]}} if "title" in each else dict(each) for each in (x, y)]
    margin = {"l": 56, "r": 12, "t": 8, "b": 44}
    layout = {"xaxis": axes[0], "yaxis": axes[1], "margin": margin, "showlegend": False, "hovermode": "closest"}
    return {"data": data, "layout": layout}
