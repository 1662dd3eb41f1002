"""The pictures of a comparison: small panels on the same axes, one for each optimizer, the others in grey behind it."""

import io
import math
import re
import textwrap
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxopt_lectures.comparison.drawing import (
    DASHES,
    LIGHT,
    RATE,
    RATIOS,
    Axis,
    Curve,
    curves,
    metric_name,
    profiles,
    styles,
    trials,
)
from jaxopt_lectures.comparison.measures import metric_text
from jaxopt_lectures.comparison.results import Comparison, Record, Result
from jaxopt_lectures.records.files import write_atomically

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_OURS, _OTHERS, _INK, _RULE = LIGHT[1], "#D0D0D0", "#555555", "#999999"
_STROKES: dict[str, Any] = dict(zip(DASHES, ("-", "--", ":", "-.", (0, (8, 3)), (0, (8, 3, 2, 3))), strict=True))
_PER_ROW = 5
_PANEL = 1.9, 1.5  # inches
_DPI = 180
_TITLE, _NAME = 95, 15  # letters in a line of the title, in a panel's
# What others named is never read as a formula.
_AS_IT_IS = {"parse_math": False}


def save(record: Record, folder: Path) -> list[Path]:
    """Writes curves and trials of each task, and profiles where there are several; each file is whole or not there.

    Returns:
      Their paths. A task without results has none, nor trials if no rate was tuned.
    """
    made: dict[str, Figure] = {}
    for one in record.comparisons:
        if one.results:
            ending = _ending(one, record, made)
            made[f"curves{ending}"] = curves_picture(one, record)
            if trials(one)[0]:
                made[f"sensitivity{ending}"] = trials_picture(one, record)
    if len(record.comparisons) > 1 and profiles(record)[0]:
        made["profiles"] = profiles_picture(record)
    written = []
    for name, figure in made.items():
        image = io.BytesIO()
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Glyph .* missing")  # a box is drawn instead
            figure.savefig(image, format="png", dpi=_DPI)
        write_atomically(folder / f"{name}.png", image.getvalue())
        written.append(folder / f"{name}.png")
    return written


def curves_picture(one: Comparison, record: Record) -> "Figure":
    """The validation metric by step: the median of the seeds, and a band from the lowest to the highest."""
    found, along = curves(one, "metric")
    several = any(len(result.studies) > 1 for result in one.results)
    figure, panels = _panels(one.results, one, along, "step")
    for panel, result in zip(panels, one.results, strict=True):
        for name, other in found.items():
            if name != result.name:
                panel.plot(other.steps, _inside(along, other.middle), color=_OTHERS, linewidth=0.7, zorder=1)
        if result.name in found:
            _draw(panel, along, found[result.name], several)
        panel.set_xlim(0, max(1, one.steps))
        panel.locator_params(axis="x", nbins=3)
    count = max((len(result.studies) for result in one.results), default=0)
    trained = f"{one.steps:,} steps, {count} seed" + ("s" if count != 1 else "")
    title = f"Validation {one.task['metric']} on {one.task['name']}: {trained}; beside each name the mean score"
    handles = [_line(_OURS, 2, "median of the seeds" if several else "the optimizer")]
    handles += [_patch("range over the seeds")] if several else []
    _finish(figure, record, title, [*handles, _line(_OTHERS, 1, "the other optimizers")])
    return figure


def trials_picture(one: Comparison, record: Record) -> "Figure":
    """The validation metric of every trial by its learning rate; those off the axis, and diverged ones, at its edge."""
    found, along = trials(one)
    shown = [result for result in one.results if result.name in found]
    figure, panels = _panels(shown, one, along, "learning rate")
    bad = along.low if one.task["larger_is_better"] else along.high
    places = {
        name: [
            (trial.values[RATE], along.clipped(metric if math.isfinite(metric) else bad), metric, chosen)
            for trial, metric, chosen in each
        ]
        for name, each in found.items()
    }
    for panel, result in zip(panels, shown, strict=True):
        panel.set_xscale("log")
        others = [place for name, each in places.items() if name != result.name for place in each]
        _dots(panel, others, 3, "o", color=_OTHERS, zorder=1)
        mine = places[result.name]
        _dots(panel, [p for p in mine if along.shows(p[2]) and not p[3]], 7, "o", color=_OURS, alpha=0.7, zorder=2)
        _dots(panel, [p for p in mine if not along.shows(p[2])], 14, "x", color=_OURS, linewidth=1, zorder=2)
        _dots(panel, [p for p in mine if p[3]], 26, "o", color=_OURS, edgecolor=LIGHT[0], linewidth=0.9, zorder=3)
    title = f"All trials on {one.task['name']}: validation {one.task['metric']} by learning rate"
    ring = {"markeredgecolor": LIGHT[0], "markersize": 5, "marker": "o"}
    handles = [_line(_OURS, 0, "trial", marker="o", markersize=3), _line(_OURS, 0, "chosen by a study", **ring)]
    handles += [_line(_OURS, 0, "diverged, or off the axis", marker="x", markersize=4)]
    _finish(figure, record, title, [*handles, _line(_OTHERS, 0, "the other optimizers", marker="o", markersize=3)])
    return figure


def profiles_picture(record: Record) -> "Figure":
    """For each optimizer the share of tasks solved within a multiple of the steps of the fastest."""
    look, (count, found) = styles(record), profiles(record)
    figure = _figure(7.2, max(3.0, 0.8 + 0.19 * len(look)))
    panel = figure.subplots()
    for name, shares in found.items():
        drawn = {"color": LIGHT[look[name].slot], "linestyle": _STROKES[look[name].dash], "linewidth": 1.6}
        panel.step(RATIOS, [100 * share for share in shares], where="post", **drawn)
    panel.set_xscale("log", base=2)
    panel.set_xticks([1, 2, 4, 8, 16], labels=["1", "2", "4", "8", "16"])
    panel.set_xlim(1, 16)
    panel.set_ylim(-2, 102)
    _quiet(panel)
    panel.set_xlabel("steps to target, as a multiple of the fastest", fontsize=8, color=_INK)
    panel.set_ylabel("share of tasks, %", fontsize=8, color=_INK)
    lines = [_line(LIGHT[s.slot], 1.6, n, linestyle=_STROKES[s.dash]) for n, s in look.items()]
    _finish(
        figure,
        record,
        f"Performance profiles over {count} task{'s' if count != 1 else ''}",
        lines,
        "outside right upper",
    )
    return figure


def _ending(one: Comparison, record: Record, made: Iterable[str]) -> str:
    """What tells a task's files from those of others."""
    if len(record.comparisons) == 1:
        return ""
    plain = ending = "-" + re.sub(r"\W+", "-", one.task["name"]).strip("-")
    number = 1
    while f"curves{ending}" in made:
        number += 1
        ending = f"{plain}-{number}"
    return ending


def _figure(width: float, height: float) -> "Figure":
    # Made without pyplot: no global state, no window, Agg whatever the machine's settings.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _panels(results: Sequence[Result], one: Comparison, along: Axis, across: str) -> tuple["Figure", list["Axes"]]:
    """A panel for each optimizer, with its name and what it reached."""
    rows = math.ceil(len(results) / _PER_ROW)
    columns = math.ceil(len(results) / rows)
    figure = _figure(max(4, columns) * _PANEL[0] + 0.4, rows * _PANEL[1] + 0.9)
    every = list(figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).flat)
    for panel in every[len(results) :]:
        panel.set_axis_off()
    for panel in every[max(0, len(results) - columns) : len(results)]:  # the lowest of each column
        panel.tick_params(labelbottom=True)
        panel.set_xlabel(across, fontsize=8, color=_INK)
    for panel, result in zip(every, results, strict=False):
        name = result.name if len(result.name) <= _NAME else result.name[: _NAME - 1] + "…"
        panel.set_title(name, loc="left", fontsize=9, fontweight="bold", pad=3, **_AS_IT_IS)
        panel.set_title(_reached(one, result), loc="right", fontsize=8, color=_INK, pad=3, **_AS_IT_IS)
        panel.set_yscale("log" if along.log else "linear")
        panel.set_ylim(along.low, along.high)
        _quiet(panel)
    up = textwrap.shorten(f"validation {metric_name(one)}", 40, placeholder=" …")
    figure.supylabel(up, fontsize=8, color=_INK, **_AS_IT_IS)
    return figure, every[: len(results)]


def _reached(one: Comparison, result: Result) -> str:
    if result.error or result.diverged or not result.scores:
        return "failed" if result.error else "diverged" if result.diverged else ""
    return f"{metric_text([float(np.mean(result.scores))], one.task['metric_unit'])} {one.task['metric_unit']}".strip()


def _draw(panel: "Axes", along: Axis, each: Curve, several: bool) -> None:
    if several:
        low, high = _inside(along, each.low), _inside(along, each.high)
        panel.fill_between(each.steps, low, high, color=_OURS, alpha=0.25, linewidth=0, zorder=2)
    panel.plot(each.steps, _inside(along, each.middle), color=_OURS, linewidth=1.8, zorder=3)


def _inside(along: Axis, values: Sequence[float]) -> Any:
    """The values, none so far off the axis that a renderer could not draw it."""
    if along.log:
        return np.clip(values, along.low / 1000, along.high * 1000)
    return np.clip(values, 2 * along.low - along.high, 2 * along.high - along.low)


def _dots(panel: "Axes", places: Sequence[Any], size: float, marker: str, **rest: Any) -> None:
    across, up = [place[0] for place in places], [place[1] for place in places]
    panel.scatter(across, up, s=size, marker=marker, **({"linewidth": 0} | rest))


def _quiet(panel: "Axes") -> None:
    panel.tick_params(which="both", labelsize=7, color=_INK, labelcolor=_INK)
    panel.tick_params(which="minor", left=False, bottom=False)
    panel.grid(axis="y", color="#EEEEEE", linewidth=0.6)
    panel.set_axisbelow(True)
    panel.spines[["top", "right"]].set_visible(False)
    panel.spines[["left", "bottom"]].set_color(_RULE)


def _line(color: str, width: float, label: str, **rest: Any) -> Any:
    from matplotlib.lines import Line2D

    return Line2D([], [], color=color, linewidth=width, label=label, **rest)


def _patch(label: str) -> Any:
    from matplotlib.patches import Patch

    return Patch(color=_OURS, alpha=0.25, linewidth=0, label=label)


def _finish(figure: "Figure", record: Record, title: str, handles: Sequence[Any], place: str = "") -> None:
    told = textwrap.wrap(title + ("" if record.complete else "; interrupted"), _TITLE, max_lines=2, placeholder=" …")
    figure.suptitle("\n".join(told), fontsize=10, x=0.01, horizontalalignment="left", **_AS_IT_IS)
    # A label that begins with "_" would be left out.
    labels = [re.sub("^_", " _", handle.get_label()) for handle in handles]
    drawn = {"loc": place or "outside lower center", "ncols": 1 if place else len(handles)}
    legend = figure.legend(handles, labels, fontsize=8, frameon=False, **drawn)
    for text in legend.get_texts():
        text.set_parse_math(False)
