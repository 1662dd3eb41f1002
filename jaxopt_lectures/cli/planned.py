"""What `plan` does: a plan, and its tables."""

import inspect
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jaxopt_lectures import tasks
from jaxopt_lectures.cli.refusal import Refusal, checked
from jaxopt_lectures.comparison.entries import Unknown, entry
from jaxopt_lectures.planning import configurations
from jaxopt_lectures.planning.picture import check_ending
from jaxopt_lectures.planning.plan import MemoryPlan, memory_plan
from jaxopt_lectures.scaling.meshes import planned
from jaxopt_lectures.terminal.console import Terminal, new_table

_RATE = 1e-3
_DTYPES = ("float32", "bfloat16")


def run(name: str, optimizer: str, mesh: str | None, picture: Path | None, options: dict[str, Any]) -> int:
    """Plans as the options say, and prints what it takes."""
    if options["dtype"] not in (None, *_DTYPES):
        raise Refusal(f"--dtype {options['dtype']!r} must be {' or '.join(_DTYPES)}")
    try:
        if picture is not None:
            check_ending(picture)
        over = planned({"data": 1} if mesh is None else mesh)
        if options["zero"] is None:
            options["zero"] = int("data" in over.axis_names)
        plan = memory_plan(_model(name), _optimizer(optimizer), over, **options)
    except (Unknown, TypeError, ValueError, ImportError) as error:
        raise Refusal(str(error)) from error
    _tell(plan)
    if picture is not None:
        try:
            plan.save(picture)
        except OSError as error:
            raise Refusal(f"the picture cannot be written to {picture}: {error.strerror}") from error
    return 1 if plan.fits is False else 0


def _model(name: str) -> Any:
    """A task, or the name of a network that there is."""
    if ":" in name or name.replace("-", "_") in tasks.names():
        return tasks.get(name if ":" in name else name.replace("-", "_"))
    checked(configurations.get, name)
    return name


def _optimizer(name: str) -> Any:
    """With some rate: bytes do not depend on it."""
    one = entry(name)
    if "learning_rate" not in inspect.signature(one.factory).parameters:
        return one.build()
    return one.build(learning_rate=one.card.learning_rate if one.card else _RATE)


def _tell(plan: MemoryPlan) -> None:
    terminal = Terminal(sys.stdout)
    terminal.lines(plan.heading(), "")
    _print(terminal, plan.table())
    if plan.changes:
        terminal.lines("")
        _print(terminal, plan.change_table())
    for lines in (plan.verdict(), [f"note: {note}" for note in plan.notes]):
        if lines:
            terminal.lines("", *lines)


def _print(terminal: Terminal, lines: Sequence[tuple[str, ...]]) -> None:
    """Numbers stand in the second and third column."""
    table = new_table()
    for place, header in enumerate(lines[0]):
        table.add_column(header, justify="right" if place in (1, 2) else "left", no_wrap=True)
    for cells in lines[1:]:
        table.add_row(*cells)
    terminal.table(table)
