"""The figures of the page: Plotly's JSON, and the HTML around it.

The JSON has no colours: the page paints each trace by the slot in its `meta`, and again when its scheme changes.
"""

import json
import math
import re
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from jaxopt_lectures.comparison.drawing import (
    LEAST,
    RATE,
    RATIOS,
    Axis,
    Style,
    axis,
    curves,
    metric_name,
    scale_of,
    trials,
)
from jaxopt_lectures.comparison.measures import compact
from jaxopt_lectures.comparison.page_table import key, target
from jaxopt_lectures.comparison.results import Comparison
from jaxopt_lectures.comparison.verdicts import Verdict

_LEGEND = "Click: hide or show. Double click: this one alone, or all."
_HOVER = "%{fullData.name}<br>%{text}<extra></extra>"


def curves_figure(one: Comparison, kind: str, look: Mapping[str, Style]) -> dict[str, Any]:
    """A metric or the loss by step: a line for each optimizer, and a band where there are several seeds."""
    found, y = curves(one, kind)
    data: list[Any] = []
    for name, each in found.items():
        low, high, middle = ([max(v, LEAST) if y.log else v for v in s] for s in (each.low, each.high, each.middle))
        if low != high:
            x = [*each.steps, *each.steps[::-1]]
            band = {"fill": "toself", "line": {"width": 0}, "hoverinfo": "skip"}
            data.append(_trace(name, look, "band", x, [*high, *low[::-1]], mode="lines", **band))
        line = {"line": {"width": 2, "dash": look[name].dash}}
        hover = "%{fullData.name}<br>step %{x:,}: %{y:.4g}<extra></extra>"
        data.append(_trace(name, look, "line", each.steps, middle, mode="lines", hovertemplate=hover, **line))
    title = f"validation {metric_name(one)}" if kind == "metric" else "training loss"
    goal = one.task["target"] if kind == "metric" else None
    mark = (
        {}
        if goal is None
        else {"xref": "paper", "x0": 0, "x1": 1, "y0": scale_of(one) * goal, "y1": scale_of(one) * goal}
    )
    return _figure(
        data,
        {"title": "step", "range": [0, one.steps], "separatethousands": True},
        {"title": title, **y.plotly()},
        mark,
    )


def scores_figure(one: Comparison, found: Mapping[str, Verdict], look: Mapping[str, Style]) -> dict[str, Any]:
    """The score of each run, beneath them mean and band; the best optimizer first."""
    scale, larger = scale_of(one), one.task["larger_is_better"]
    means = {r.name: scale * found[r.name].mean for r in one.results if r.studies}
    rows = [result for result in one.results if result.studies]
    rows.sort(key=lambda r: (math.isnan(means[r.name]), -means[r.name] if larger else means[r.name]))
    x = axis([scale * score for r in rows for score in r.scores], means.values(), not larger)
    data: list[Any] = []
    drawn = {"mode": "markers", "cliponaxis": False}
    for row, result in enumerate(rows):
        name, mean, verdict = result.name, means[result.name], found[result.name]
        scores = [scale * score for score in result.scores]
        at, marks, told = _points(x, scores, look[name], larger, ("triangle-left", "triangle-right"))
        marker = {"symbol": marks, "size": 8, "opacity": 0.6, "line": {"width": 1}}
        data.append(_trace(name, look, "points", at, [0.15 - row] * len(at), told, **drawn, marker=marker))
        if math.isfinite(mean) and len(scores) > 1:
            low, middle, high = map(x.clipped, (scale * verdict.low, mean, scale * verdict.high))
            bar = {"type": "data", "array": [high - middle], "arrayminus": [middle - low], "thickness": 1.5, "width": 0}
            text = [f"mean {mean:.4g}, band {scale * verdict.low:.4g} to {scale * verdict.high:.4g}"]
            marker = {"symbol": "line-ns-open", "size": 11, "line": {"width": 2.5}}
            data.append(_trace(name, look, "mean", [middle], [-0.2 - row], text, **drawn, error_x=bar, marker=marker))
    ticks = {"tickvals": [-row for row in range(len(rows))], "ticktext": [label(r.name, 18) for r in rows]}
    side = {"range": [0.6 - len(rows), 0.6], "showgrid": False, "fixedrange": True, "automargin": True, **ticks}
    base = next((means[name] for name, verdict in found.items() if verdict.kind == "baseline"), math.nan)
    mark = {"yref": "paper", "y0": 0, "y1": 1, "x0": base, "x1": base} if x.shows(base) else {}
    return _figure(data, {"title": metric_name(one), **x.plotly()}, side, mark)


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
    at, marks, told, bad = [], [], [], along.low if larger else along.high
    for value in values:
        finite = math.isfinite(value)
        at.append(along.clipped(value if finite else bad))
        off = beyond[value > along.high] if finite else "x-thin-open"
        marks.append(style.symbol if along.shows(value) else off)
        told.append(compact(value, ".4g") if finite else "diverged")
    return at, marks, told


def _trace(name: str, look: Mapping[str, Style], role: str, x: Any, y: Any, text: Any = None, **rest: Any) -> Any:
    paint = {"meta": {"slot": look[name].slot, "role": role}, "legendgroup": str(look[name].number)}
    hover = {"text": text, "hovertemplate": _HOVER} if text else {}
    return {"type": "scatter", "name": label(name), "x": list(x), "y": list(y), **paint, **hover, **rest}


def _figure(
    data: list[Any], x: Mapping[str, Any], y: Mapping[str, Any], mark: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    across, up = ({**each, "title": {"text": label(each.get("title", ""))}} for each in (x, y))
    layout = {"margin": {"l": 56, "r": 22, "t": 8, "b": 44}, "showlegend": False, "hovermode": "closest"}
    # The target, or the baseline.
    shapes = [{"type": "line", "line": {"width": 1.2, "dash": "dot"}, **mark}] if mark else []
    return {"data": data, "layout": {"xaxis": across, "yaxis": up, "shapes": shapes, **layout}}


def label(text: str, most: int = 0) -> str:
    """A text that Plotly shows as it is, cut where it is longer than asked for; Plotly reads some HTML."""
    return escape(text if not most or len(text) <= most else text[: most - 1] + "…", quote=False)


class Figures:
    """The figures of a page: writes the HTML of each, and keeps its JSON for the script.

    Args:
      look: of the optimizers.
    """

    def __init__(self, look: Mapping[str, Style]) -> None:
        self.look = look
        self.drawn: dict[str, Any] = {}

    def of_task(self, one: Comparison, found: Mapping[str, Verdict]) -> str:
        """Curves, scores and trials."""
        metric, several = one.task["metric"], any(len(result.studies) > 1 for result in one.results)
        band = ", the median of the seeds and a band from the lowest to the highest" if several else ""
        goal = "" if one.task["target"] is None else f"; dotted: the target, {target(one)}"
        without = [result.name for result in one.results if result.studies and result.name not in trials(one)[0]]
        fixed = f"; no rate was searched for: {', '.join(without)}" if without else ""
        mean = ", and beneath the mean with its 95 % band" if several else ""
        return "".join(
            [
                self.figure("Validation", f"{metric} by step{band}{goal}", curves_figure(one, "metric", self.look)),
                self.figure("Training loss", f"by step{band}", curves_figure(one, "loss", self.look)),
                self.figure("Final scores", f"every run{mean}", scores_figure(one, found, self.look)),
                self.figure("Trials", f"by learning rate; large: chosen{fixed}", trials_figure(one, self.look)),
            ]
        )

    def figure(self, name: str, note: str, drawn: Mapping[str, Any]) -> str:
        """A figure with its legend."""
        told = f"<b>{name}</b>, {escape(note)}."
        if not drawn["data"]:
            return f"<figure><figcaption>{told} There is nothing to show.</figcaption></figure>"
        number = str(len(self.drawn))
        self.drawn[number] = drawn
        points = drawn["data"][0]["mode"] == "markers"
        shown = {trace["legendgroup"] for trace in drawn["data"]}
        buttons = "".join(
            f'<button type="button" aria-pressed="true" data-group="{style.number}" title="{_LEGEND}">'
            f"{key(style, points)}<span>{escape(each)}</span></button>"
            for each, style in self.look.items()
            if str(style.number) in shown
        )
        rows = len(drawn["layout"]["yaxis"].get("tickvals", ()))
        height = f' style="height: {max(14, 4.5 + 2.1 * rows):g}rem"' if rows else ""
        plot = f'<div class="plot" data-figure="{number}" role="img" aria-label="{escape(name)}"{height}></div>'
        return f'<figure><figcaption>{told}</figcaption><div class="legend">{buttons}</div>{plot}</figure>'

    def script(self) -> str:
        """JSON that a script element may hold: what could end it is escaped, what is not finite is null."""
        text = json.dumps(_rounded(self.drawn), separators=(",", ":"), allow_nan=False)
        return re.sub("[<>&]", lambda found: f"\\u{ord(found[0]):04x}", text)


def _rounded(part: Any) -> Any:
    """Six digits, which no screen shows."""
    if isinstance(part, float):
        return float(f"{part:.6g}") if math.isfinite(part) else None
    if isinstance(part, Mapping):
        return {name: _rounded(each) for name, each in part.items()}
    return [_rounded(each) for each in part] if isinstance(part, (list, tuple)) else part
