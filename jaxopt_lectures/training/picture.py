"""The picture of a run: training loss and metric by step."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxopt_lectures.records.files import write_atomically

_LOSS, _METRIC, _INK = "#0072B2", "#E69F00", "#555555"
_DPI = 160


def save(run: Mapping[str, Any], records: Sequence[Mapping[str, Any]], folder: Path) -> Path:
    """Writes `curves.png` into the folder of the run and returns its path; the file is whole or not there."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 3), layout="constrained")
    FigureCanvasAgg(figure)
    steps = [record["step"] for record in records]
    percent = run["metric_unit"] == "%"
    series = (
        ("training loss", [record["loss"] for record in records], _LOSS),
        (f"validation {run['metric']}", [record["metric"] * (100 if percent else 1) for record in records], _METRIC),
    )
    for panel, (title, values, color) in zip(figure.subplots(1, 2), series, strict=True):
        panel.plot(steps, values, color=color, linewidth=1.8, marker="." if len(steps) < 60 else "")
        if title == "training loss" and min(values) > 0:
            panel.set_yscale("log")
        panel.set_title(title, loc="left", fontsize=10, fontweight="bold")
        panel.set_xlabel("step", fontsize=8, color=_INK)
        panel.tick_params(which="both", labelsize=8, color=_INK, labelcolor=_INK)
        panel.grid(axis="y", color="#EEEEEE", linewidth=0.6)
        panel.spines[["top", "right"]].set_visible(False)
    unit = run["metric_unit"]
    if unit:
        figure.axes[1].set_ylabel(unit, fontsize=8, color=_INK)
    figure.axes[1].axhline(run["target"] * (100 if percent else 1), color="#999999", linewidth=0.8, linestyle=":")
    figure.suptitle(f"{run['task']}: {run['optimizer']}"[:110], fontsize=9, x=0.01, horizontalalignment="left")
    path, image = folder / "curves.png", io.BytesIO()
    figure.savefig(image, format="png", dpi=_DPI)
    write_atomically(path, image.getvalue())
    return path
