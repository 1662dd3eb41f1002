"""The tables of the page: cells that know what they are sorted by, columns that say what they mean."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

from jaxopt_lectures.comparison.drawing import Style, metric_name, scale_of
from jaxopt_lectures.comparison.measures import compact
from jaxopt_lectures.comparison.results import Comparison, Result, Twins
from jaxopt_lectures.comparison.verdicts import Verdict

NONE, NEVER = "-", "never"
_MARKS = {"better": "+", "worse": "−", "within noise": "=", "diverged": "!", "failed": "!"}
_ORDER = ("better", "baseline", "within noise", "one seed", "worse", "diverged", "failed")
_STROKES = {
    "solid": "",
    "dash": "7 3",
    "dot": "2 3",
    "dashdot": "7 3 2 3",
    "longdash": "10 4",
    "longdashdot": "10 3 2 3",
}
_SHAPES = {
    "circle": "M12 1a4 4 0 1 0 .01 0z",
    "square": "M8.4 1.4h7.2v7.2h-7.2z",
    "triangle-up": "M12 .8l4.8 8.2h-9.6z",
    "diamond": "M12 0l5 5-5 5-5-5z",
    "star": "M12 0l1.5 3.4 3.6.4-2.7 2.5.8 3.6-3.2-1.9-3.2 1.9.8-3.6-2.7-2.5 3.6-.4z",
    "hexagon": "M12 .2l4.2 2.4v4.8l-4.2 2.4-4.2-2.4v-4.8z",
}


@dataclass(frozen=True)
class Column:
    """The head of a column.

    Attributes:
      head: a few words.
      meaning: what they mean.
      falling: whether the largest comes first when it is first sorted by.
      words: whether it holds words.
    """

    head: str
    meaning: str
    falling: bool = False
    words: bool = False


@dataclass(frozen=True)
class Cell:
    """A cell: what it shows, HTML already; by what it is sorted; how it looks."""

    shown: str
    value: float | str = math.nan
    look: str = ""

    def html(self) -> str:
        """As HTML."""
        value = self.value
        if isinstance(value, float | int):
            value = "" if math.isnan(value) else "Infinity" if math.isinf(value) else f"{value:.9g}"
        return (
            f'<td data-value="{escape(value)}"' + (f' class="{self.look}"' if self.look else "") + f">{self.shown}</td>"
        )


Rows = Sequence[tuple[str, Sequence[Cell]]]


def table(columns: Sequence[Column], rows: Rows, look: Mapping[str, Style], what: str, note: str) -> str:
    """A table with a row for each optimizer, sorted by a click on a head.

    Args:
      columns: after that of the optimizers.
      rows: optimizers with their cells.
      look: of the optimizers.
      what: the table shows, for those who hear it.
      note: below it.
    """
    named = Column("optimizer", "What was compared, and how it is drawn", words=True)
    heads = "".join(_head(column) for column in (named, *columns))
    lines = "".join(
        f'<tr><th scope="row" data-value="{escape(name)}" title="{escape(name)}">{key(look[name])}{escape(name)}</th>'
        f"{''.join(cell.html() for cell in cells)}</tr>"
        for name, cells in rows
    )
    inner = f"<thead><tr>{heads}</tr></thead><tbody>{lines}</tbody>"
    told = f'<p class="note">{escape(note)}</p>'
    return (
        f'<div class="scroll" role="region" tabindex="0" aria-label="{escape(what)}"><table>{inner}</table></div>{told}'
    )


def _head(column: Column) -> str:
    kind = ' class="left" data-kind="text"' if column.words else ""
    first = "descending" if column.falling else "ascending"
    button = f'<button type="button" title="{escape(column.meaning)}">{escape(column.head)}</button>'
    return f'<th scope="col" aria-sort="none" data-first="{first}"{kind}>{button}</th>'


def key(style: Style, points: bool = False) -> str:
    """How an optimizer is drawn: a piece of its line, or its point."""
    if points:
        drawn = f'<path d="{_SHAPES[style.symbol]}"/>'
    else:
        drawn = f'<line x1="0" y1="5" x2="24" y2="5" stroke-dasharray="{_STROKES[style.dash]}"/>'
    return f'<svg class="key s{style.slot}" viewBox="0 0 24 10" aria-hidden="true">{drawn}</svg>'


def columns(one: Comparison, baseline: str, found: Mapping[str, Verdict]) -> list[Column]:
    """The columns of a task's table."""
    task, larger = one.task, one.task["larger_is_better"]
    ratio = any(verdict.ratio for verdict in found.values())
    part = "examples to test on" if task["scored"] == "test" else "validation examples, as the task has none to test on"
    goal = "the target, and this task has none" if task["target"] is None else f"the target {target(one)}"
    told = target(one) if task["target"] is not None else "target"
    apart = Column(
        f"difference to {baseline}", f"Mean difference to {baseline} of runs that share a seed, 95 % interval", larger
    )
    if ratio:
        apart = Column(
            f"ratio to {baseline}", f"Ratio to {baseline} of runs that share a seed, 95 % interval; below 1 is better"
        )
    return [
        Column(
            metric_name(one),
            f"Score: mean over the seeds, at the end, of {task['scored_examples']:,} {part}; "
            f"{'larger' if larger else 'smaller'} is better",
            larger,
        ),
        Column("95 % band", "Where that mean lies, with 95 % confidence (bootstrap)", larger),
        apart,
        Column("p (Holm)", "Chance of such a difference where there is none, raised for the number of optimizers"),
        Column("verdict", "Better or worse than the baseline only where p < 0.05"),
        Column(
            "probability of improvement",
            f"Chance that a run of it is better than one of {baseline}; a tie counts half",
            True,
        ),
        Column(
            f"steps to {told}",
            f"Median of the seeds until the validation metric reached {goal}; {len(one.looks)} looks",
        ),
        Column(f"seconds to {told}", "The time that so many steps take in a run alone, without compilation"),
        Column("µs per step", "Millionths of a second, of a run alone, without compilation"),
        Column("share of step, %", "The optimizer's: of a step's time, what exceeds a step of plain gradient descent"),
        Column(
            "bytes per parameter",
            "Optimizer state for each parameter, beside the parameter's own bytes",
        ),
    ]


def row(one: Comparison, result: Result, verdict: Verdict) -> list[Cell]:
    """The cells of an optimizer."""
    scale, digits = scale_of(one), ".2f" if scale_of(one) == 100 else ".3g"
    steps, seconds = one.steps_to_target(result), result.seconds_per_step
    far = one.task["target"] is None or bool(result.error)
    time = steps * seconds if math.isfinite(steps) else math.nan if far else math.inf
    low, high = scale * verdict.low, scale * verdict.high
    several = len(result.studies) > 1 and math.isfinite(verdict.mean)
    band = Cell(f"{number(low, digits)} to {number(high, digits)}", low) if several else Cell(NONE)
    judged = verdict.kind != "no baseline"
    p = "&lt; 0.0001" if verdict.p < 1e-4 else number(verdict.p, ".2g")
    return [
        plain(scale * verdict.mean, digits),
        band,
        _difference(verdict, scale, digits),
        Cell(p, verdict.p),
        Cell(verdict.kind, float(_ORDER.index(verdict.kind)), verdict.kind.split()[0]) if judged else Cell(NONE),
        plain(verdict.probability, ".2f"),
        Cell(NONE) if far else plain(steps, ",.0f"),
        plain(time, ".2g"),
        plain(1e6 * seconds, ".3g"),
        plain(100 * result.share_of_step, ".0f"),
        plain(result.state_bytes_per_parameter, ".3g"),
    ]


def twins_columns(looks: Sequence[int]) -> list[Column]:
    """The columns of the table of twin checks."""
    apart, noise = "Largest difference of a weight", "The same between optax's and itself, started a millionth beside"
    each = [
        (Column(f"apart after {look:,} steps", apart), Column(f"noise after {look:,} steps", noise)) for look in looks
    ]
    return [
        Column("counterpart", "What optax has, called with the same values", words=True),
        *(c for pair in each for c in pair),
    ]


def twins_row(twins: Twins, looks: Sequence[int]) -> list[Cell]:
    """The cells of a twin check."""
    known = dict(zip(twins.looks, zip(twins.apart, twins.noise, strict=True), strict=True))
    pairs = [value for look in looks for value in known.get(look, (math.nan, math.nan))]
    return [Cell(f"<code>{escape(twins.call)}</code>", twins.call, "left"), *(plain(value, ".1g") for value in pairs)]


def mean(one: Comparison, verdict: Verdict | None) -> Cell:
    """The mean score of an optimizer, with a mark of its verdict."""
    if verdict is None:
        return Cell(NONE)
    value, mark = scale_of(one) * verdict.mean, _MARKS.get(verdict.kind, "\u2007")
    shown = number(value, ".1f" if scale_of(one) == 100 else ".3g")
    return Cell(f'{shown} <span title="{verdict.kind}">{mark}</span>', value, verdict.kind.split()[0])


def plain(value: float, digits: str) -> Cell:
    """A number on its own."""
    return Cell(number(value, digits), value)


def number(value: float, digits: str) -> str:
    """A number to read; "-" where there is none, "never" where it is infinite."""
    if not math.isfinite(value):
        return NONE if math.isnan(value) else NEVER
    text = f"{value:{digits}}"
    if digits.endswith("g"):  # 940, not 9.4e+02
        text = compact(float(text), "+g" if digits.startswith("+") else "g")
    text = text if float(text.replace(",", "")) else text.lstrip("+-")
    return text if "e" in text else text.replace("-", "−")


def target(one: Comparison) -> str:
    """The target of a task with its unit."""
    goal = one.task["target"]
    return (
        f"{100 * goal:g} %" if one.task["metric_unit"] == "%" else f"{compact(goal)} {one.task['metric_unit']}".strip()
    )


def _difference(verdict: Verdict, scale: int, digits: str) -> Cell:
    """The difference to the baseline, or the ratio, and its interval."""
    if not math.isfinite(verdict.difference):
        return Cell(NONE)

    def shown(value: float) -> str:
        if not verdict.ratio:
            return number(scale * value, f"+{digits}")
        return number(math.exp(value), ".2g") if value < 700 else "∞"

    interval = f" <small>({shown(verdict.near)} to {shown(verdict.far)})</small>"
    known = math.isfinite(verdict.far - verdict.near)
    text = ("×" if verdict.ratio else "") + shown(verdict.difference) + (interval if known else "")
    return Cell(text, verdict.difference)
