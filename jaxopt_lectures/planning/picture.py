"""A plan as bars: what takes memory now, and after each change."""

import io
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxopt_lectures.records.files import write_atomically

if TYPE_CHECKING:
    from jaxopt_lectures.planning.plan import MemoryPlan

_COLOURS = {
    "parameters": ("#0072B2", "white"),
    "gradients": ("#56B4E9", "black"),
    "optimizer state": ("#E69F00", "black"),
    "batch statistics": ("#CC79A7", "black"),
    "activations": ("#009E73", "white"),
    "temporaries": ("#BBBBBB", "black"),
}
"""Of the piece, and of the number in it. M. Okabe, K. Ito: told apart by the colour-blind."""
_INK, _DPI = "#444444", 160
_KINDS = ("png", "pdf", "svg")
_WIDE = 0.08
"""Share of the axis from which a piece has room for its number."""
_GAP = 0.35
"""Between the plan and what it could be, in bars."""


def save(plan: "MemoryPlan", path: str | PathLike[str]) -> None:
    """Draws a plan to a file; it is whole or not there.

    Raises:
      ValueError: an ending that is no kind of picture.
    """
    kind = check_ending(path)
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    bars = [("as planned", plan.pieces), *((change.what, change.after.pieces) for change in plan.shown)]
    figure = Figure(figsize=(8.4, 1.9 + 0.36 * len(bars)), layout="constrained")
    FigureCanvasAgg(figure)
    panel = figure.subplots()
    unit, low = ("GB", 1e9) if plan.total >= 1e9 else ("MB", 1e6)
    reach = max([sum(sizes.values()) for _, sizes in bars] + ([plan.memory] if plan.memory else [])) / low
    rows = [0.0, *(row + _GAP for row in range(1, len(bars)))]
    for row, (_, sizes) in zip(rows, bars, strict=True):
        _draw(panel, row, {name: size / low for name, size in sizes.items()}, reach)
    panel.set_yticks(rows, [name.replace(", ", ",\n") for name, _ in bars])
    panel.get_yticklabels()[0].set_fontweight("bold")
    panel.set_ylim(rows[-1] + 0.6, -0.8)
    panel.set_xlim(0, 1.1 * reach)
    panel.set_xlabel(f"{unit} on each device; activations and temporaries are estimated", fontsize=8, color=_INK)
    if plan.memory:
        panel.axvline(plan.memory / low, color="#D55E00", linewidth=1.4, linestyle="--", zorder=2.5)
        label = f" {plan.memory / low:g} {unit}"
        panel.text(plan.memory / low, -0.62, label, fontsize=8, color="#D55E00", verticalalignment="center")
    panel.tick_params(labelsize=8, color=_INK, labelcolor=_INK)
    panel.tick_params(axis="y", length=0)
    panel.grid(axis="x", color="#EEEEEE", linewidth=0.6)
    panel.set_axisbelow(True)
    panel.spines[["top", "right", "left"]].set_visible(False)
    figure.legend(
        *panel.get_legend_handles_labels(), loc="outside lower center", ncols=len(_COLOURS), fontsize=8, frameon=False
    )
    figure.suptitle(_title(plan.heading()), fontsize=9, x=0.01, horizontalalignment="left", fontweight="bold")
    image = io.BytesIO()
    figure.savefig(image, format=kind, dpi=_DPI)
    write_atomically(Path(path), image.getvalue())


def check_ending(path: str | PathLike[str]) -> str:
    """The kind of picture; raises ValueError unless it is one of those that are drawn."""
    kind = Path(path).suffix.removeprefix(".").lower()
    if kind not in _KINDS:
        raise ValueError(f"{path} must end in {', '.join(f'.{known}' for known in _KINDS)}")
    return kind


def _draw(panel: Any, row: float, sizes: dict[str, float], reach: float) -> None:
    """One bar, its numbers where there is room, its sum at the end."""
    start = 0.0
    for name, (colour, ink) in _COLOURS.items():
        size = sizes.get(name, 0.0)
        if not size:
            continue
        panel.barh(row, size, left=start, height=0.7, color=colour, label=name if row == 0 else None)
        if size > _WIDE * reach:
            panel.text(start + size / 2, row, f"{size:.3g}", fontsize=8, color=ink, ha="center", va="center")
        start += size
    panel.text(start + 0.01 * reach, row, f"{start:.3g}", fontsize=8, fontweight="bold", color=_INK, va="center")


def _title(heading: str) -> str:
    """At most two lines."""
    first, _, rest = heading.partition("; ")
    return f"{first}\n{rest}"[:240]
