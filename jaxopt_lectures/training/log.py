"""Who is told how training goes: a bar on a terminal, lines, a function, TensorBoard."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from jaxopt_lectures.tasks.task import Task
from jaxopt_lectures.terminal.console import Terminal
from jaxopt_lectures.terminal.interrupts import while_watched
from jaxopt_lectures.training.processes import first

Log = Literal["auto", "bar", "lines"] | Callable[[Mapping[str, Any]], Any] | None
_REDRAW = 0.1  # seconds between two drawings of the bar


class Silent:
    """Tells nobody; the others tell somebody."""

    def advance(self, step: int, loss: float, steps_per_second: float) -> None:
        """Some steps were taken."""

    def tell(self, entry: Mapping[str, Any]) -> None:
        """There is a new record or event."""


class Lines(Silent):
    """A line for each record and event."""

    def __init__(self, task: Task, total: int, terminal: Terminal) -> None:
        self.task, self.total, self.terminal = task, total, terminal

    def tell(self, entry: Mapping[str, Any]) -> None:
        """Prints it."""
        with while_watched():
            self.terminal.lines(worded(self.task, entry, self.total))


class Bar(Silent):
    """A bar with loss, metric, steps a second and time left; it is drawn here and not by a thread."""

    def __init__(self, task: Task, total: int, bar: Any) -> None:
        self.task, self.total, self.bar, self.drawn, self.metric = task, total, bar, 0.0, ""
        self.line = bar.add_task("", total=total, rate="", seen="compiling")
        bar.refresh()

    def advance(self, step: int, loss: float, steps_per_second: float) -> None:
        """Moves the bar, if its last move is not just past."""
        if time.monotonic() - self.drawn > _REDRAW or step >= self.total:
            self.drawn = time.monotonic()
            with while_watched():
                seen, rate = f"loss {loss:.4g}{self.metric}", f"{steps_per_second:,.0f} steps/s"
                self.bar.update(self.line, completed=step, seen=seen, rate=rate, refresh=True)

    def tell(self, entry: Mapping[str, Any]) -> None:
        """Shows the metric in the bar, and events above it."""
        if "event" in entry:
            with while_watched():
                self.bar.console.print(worded(self.task, entry, self.total))
        else:
            self.metric = f"  {metric_text(self.task.metric_name, self.task.metric_unit, entry['metric'])}"


class Told(Silent):
    """Hands every record and event to a function."""

    def __init__(self, function: Callable[[Mapping[str, Any]], Any]) -> None:
        self.function = function

    def tell(self, entry: Mapping[str, Any]) -> None:
        """Calls it with a copy."""
        self.function(dict(entry))


@contextlib.contextmanager
def shown(log: Log, task: Task, total: int) -> Iterator[Silent]:
    """Whoever is to be told; "auto" is a bar where stderr is a terminal, and nobody else."""
    terminal = Terminal(sys.stderr)
    if not first():
        log = None
    if log == "auto":
        log = "bar" if terminal.animated else None
    if callable(log):
        yield Told(log)
    elif log == "bar" and terminal.animated:
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn

        from jaxopt_lectures.terminal.bar import drawn

        columns = BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[seen]}  {task.fields[rate]}")
        with drawn(terminal, *columns, TimeRemainingColumn()) as bar:
            yield Bar(task, total, bar)
    elif log in ("bar", "lines"):
        yield Lines(task, total, terminal)
    elif log is None:
        yield Silent()
    else:
        raise ValueError(f"log must be 'auto', 'bar', 'lines', None or a function of a record, got {log!r}")


def worded(task: Task, entry: Mapping[str, Any], total: int) -> str:
    """A record or an event as a line."""
    step = f"{entry['step']:>{len(str(total))}}/{total}"
    if "event" in entry:
        return f"{step}  {entry['event']}: {entry.get('message', '')}".rstrip(": ")
    more = f", {entry['skipped']} skipped" if entry["skipped"] else ""
    rate = f"{entry['steps_per_second']:,.0f} steps/s"
    metric = metric_text(task.metric_name, task.metric_unit, entry["metric"])
    return f"{step}  loss {entry['loss']:<9.4g}  {metric}  {rate}{more}"


def tensorboard(folder: str | Path) -> Callable[[Mapping[str, Any]], None]:
    """A `log` that writes every number of every record for TensorBoard.

    Args:
      folder: where its files go.

    Raises:
      ImportError: the package `tensorboardX` is not installed.
    """
    try:
        from tensorboardX import SummaryWriter
    except ImportError as error:
        raise ImportError("writing for TensorBoard needs the package tensorboardX: pip install tensorboardX") from error
    writer = SummaryWriter(str(folder))

    def write(entry: Mapping[str, Any]) -> None:
        for name, value in entry.items():
            if name != "step" and isinstance(value, (int, float)):
                writer.add_scalar(name, value, entry["step"])
        writer.flush()

    return write


def metric_text(name: str, unit: str, value: float) -> str:
    """The metric with its name and in its unit."""
    shown = f"{100 * value:.1f} %" if unit == "%" else f"{value:.4g} {unit}".strip()
    return f"{name} {shown}"
