"""The picture of a comparison: loss curves, one small panel per optimizer, all on the same axes."""

import io
import math
import textwrap
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxopt_lectures.compare.measures import metric_text
from jaxopt_lectures.compare.results import Curves, Report, Result
from jaxopt_lectures.records.files import write_atomically

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Blue and orange of the palette of M. Okabe and K. Ito: told apart by the colour-blind and in grey print.
_OURS, _TWIN, _OTHERS = "#0072B2", "#E69F00", "#D0D0D0"
_INK = "#555555"
_DASHES = 0, (2.5, 1.8)
_PER_ROW = 5
_PANEL = 1.8, 1.45  # inches
_DPI = 180
_TITLE = 90  # letters in a line of the title


def save(report: Report, folder: Path) -> Path:
    """Writes `curves.png` into the folder and returns its path; the file is whole or not there."""
    path, image = folder / "curves.png", io.BytesIO()
    figure(report).savefig(image, format="png", dpi=_DPI)
    write_atomically(path, image.getvalue())
    return path


def figure(report: Report) -> "Figure":
    """Training loss by step: ours, over it the twin, in grey the other optimizers, a band over the seeds."""
    # Made without pyplot: no global state, no window, Agg whatever the machine's settings.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    count = len(report.results)
    columns = min(count, _PER_ROW)
    rows = math.ceil(count / columns)
    made = Figure(figsize=(max(4, columns) * _PANEL[0] + 0.4, rows * _PANEL[1] + 0.8), layout="constrained")
    FigureCanvasAgg(made)
    panels = made.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).flat
    for panel, result in zip(panels, report.results, strict=False):
        _panel(panel, report, result)
    for panel in panels[max(0, count - columns) : count]:  # the lowest of each column
        panel.tick_params(labelbottom=True)
        panel.set_xlabel("step", fontsize=8, color=_INK)
    for panel in panels[:count:columns]:
        panel.set_ylabel("training loss", fontsize=8, color=_INK)
    for panel in panels[count:]:
        panel.set_axis_off()
    made.suptitle(_title(report), fontsize=10, x=0.01, horizontalalignment="left")
    legend = {"handles": _legend(report), "fontsize": 8, "frameon": False}
    if count < rows * columns:
        panels[-1].legend(loc="center", **legend)
    else:
        made.legend(loc="outside lower center", ncols=4, **legend)
    return made


def _panel(panel: "Axes", report: Report, shown: Result) -> None:
    for other in report.results:
        panel.plot(report.looks, _mean(other.ours), color=_OTHERS, linewidth=0.7, zorder=1)
    low, high = (extreme(shown.ours.loss, axis=0) for extreme in (np.min, np.max))
    panel.fill_between(report.looks, low, high, color=_OURS, alpha=0.25, linewidth=0, zorder=2)
    panel.plot(report.looks, _mean(shown.ours), color=_OURS, linewidth=2, zorder=3)
    if shown.twin:
        panel.plot(report.looks, _mean(shown.twin), color=_TWIN, linewidth=1.2, linestyle=_DASHES, zorder=4)
    seen = np.concatenate([np.ravel(result.ours.loss) for result in report.results])
    if not (seen <= 0).any():  # not a number is neither
        panel.set_yscale("log")
    panel.set_xlim(0, report.looks[-1])
    panel.locator_params(axis="x", nbins=3)
    panel.set_title(shown.name, loc="left", fontsize=9, fontweight="bold", pad=3)
    unit = report.task["metric_unit"]
    reached = f"{metric_text([fmean(shown.ours.final_metric)], unit)} {unit}".strip()
    panel.set_title(reached, loc="right", fontsize=8, color=_INK, pad=3)
    panel.tick_params(which="both", labelsize=7, color=_INK, labelcolor=_INK)
    panel.tick_params(which="minor", left=False)
    panel.grid(axis="y", color="#EEEEEE", linewidth=0.6)
    panel.spines[["top", "right"]].set_visible(False)
    panel.spines[["left", "bottom"]].set_color("#999999")


def _title(report: Report) -> str:
    task, seeds = report.task, report.protocol["seeds"]
    size = report.protocol["batch_size"]
    trained = f"{report.looks[-1]:,} steps of {size} example" + ("s" if size != 1 else "")
    trained += f", {seeds} seeds" if seeds > 1 else ", 1 seed"
    trained += "" if report.complete else ", interrupted"
    told = textwrap.wrap(f"{task['summary']}; beside each name the validation {task['metric']}", _TITLE)
    return "\n".join([f"Training loss on {task['name']}: {trained}", *told])


def _legend(report: Report) -> list[Any]:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    many = report.protocol["seeds"] > 1
    handles: list[Any] = [Line2D([], [], color=_OURS, linewidth=2, label="this package" + (", mean" if many else ""))]
    if many:
        handles.append(Patch(color=_OURS, alpha=0.25, linewidth=0, label="range over the seeds"))
    if any(result.twin for result in report.results):
        handles.append(Line2D([], [], color=_TWIN, linewidth=1.2, linestyle=_DASHES, label="optax"))
    if len(report.results) > 1:
        handles.append(Line2D([], [], color=_OTHERS, linewidth=1, label="the other optimizers"))
    return handles


def _mean(curves: Curves) -> Any:
    return np.mean(curves.loss, axis=0)
