"""The comparison as a table for a terminal of 80 columns, and the notes that belong under it."""

import math
import textwrap

from rich.table import Table

from jaxopt_lectures.compare.measures import compact
from jaxopt_lectures.compare.results import Curves, Report, Result
from jaxopt_lectures.terminal.console import new_table

_NONE = "-"


_LINE = 79


def comparison(report: Report, plus_minus: str = "±") -> Table:
    """One row for each optimizer; `notes` explains the columns.

    Args:
      report: what to show.
      plus_minus: stands between mean and spread; "+-" where the terminal has no such sign.
    """
    target, unit = report.task["target"], report.task["metric_unit"]
    headers = (
        "\nrate",
        f"{report.task['metric']}\n{unit}",
        f"steps\nto {100 * target:g} %" if unit == "%" else f"steps\nto {compact(target)}",
        f"apart\nat {report.looks[0]}",
        f"apart\nat {report.looks[-1]}",
        "\nnoise",
        "steps/s\nours",
        "steps/s\noptax",
        "state\nbytes",
    )
    table = new_table()
    table.add_column("\noptimizer", no_wrap=True)
    for header in headers:
        table.add_column(header, justify="right", no_wrap=True)
    for result in report.results:
        table.add_row(result.name, *_row(report, result, plus_minus))
    return table


def notes(report: Report, plus_minus: str = "±") -> list[str]:
    """What the columns mean and what the table does not say, in lines of fewer than 80 characters."""
    task, seeds, first, last = report.task, report.protocol["seeds"], report.looks[0], report.looks[-1]
    better = "" if task["larger_is_better"] else ", smaller is better"
    spread = f": mean{plus_minus}standard deviation, {seeds} seeds" if seeds > 1 else ""
    middle = f", median of {seeds} seeds" if seeds > 1 else ""
    noise = number(report.protocol["noise"])
    together = f"of {seeds} seeds at once, " if seeds > 1 else ""
    examples = "validation example" + ("s" if task["validation_examples"] != 1 else "")
    words = {
        "rate": "the optimizer's typical one, not tuned for this task: no ranking",
        task["metric"]: f"at the end, {task['validation_examples']} {examples}{spread}{better}",
        "steps": f"looked at every {report.protocol['every']} steps{middle}",
        "apart": f"largest difference of a weight to optax's, after {first} and {last} steps",
        "noise": f"for scale: optax and optax, its first weights off by {noise}, {last} steps; training magnifies "
        "roundings, so this is what to compare with, not 0",
        "steps/s": f"{together}without compilation and validation",
        "state": "per parameter, beside its own 4",
    }
    wide = max(map(len, words)) + 2
    return [
        line
        for word, text in words.items()
        for line in textwrap.wrap(f"{word:<{wide}}{text}", _LINE, subsequent_indent=" " * wide)
    ]


def number(value: float) -> str:
    """A difference in one digit: 0, 2e-7, 1e-2."""
    return f"{value:g}" if value == 0 or not math.isfinite(value) else compact(value, ".0e")


def _row(report: Report, result: Result, plus_minus: str) -> list[str]:
    apart = [_NONE] * 3
    if result.difference:
        to_twin = result.difference.to_twin
        apart = [number(to_twin[0]), number(to_twin[-1]), number(result.difference.noise[-1])]
    steps = report.steps_to_target(result.ours)
    return [
        f"{result.learning_rate:g}",
        report.reached(result.ours, plus_minus),
        f"{steps:,.0f}" if math.isfinite(steps) else _NONE,
        *apart,
        _speed(result.ours),
        _speed(result.twin),
        f"{result.state_bytes_per_parameter:.3g}",
    ]


def _speed(curves: Curves | None) -> str:
    return f"{curves.steps_per_second:,.0f}" if curves else _NONE
