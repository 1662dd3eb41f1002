"""How far a comparison is: a bar on a terminal, elsewhere a line for each optimizer that is done."""

import contextlib
import sys
import time
from collections.abc import Iterator

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from jaxopt_lectures.terminal.bar import drawn
from jaxopt_lectures.terminal.console import Terminal
from jaxopt_lectures.terminal.interrupts import Interrupts, while_watched

_REDRAW = 0.1  # seconds between two drawings of the bar


class Lines:
    """One line for each finished optimizer.

    Args:
      total: how many optimizers there are.
      console: where to print.
      interrupts: asked at every step.
    """

    def __init__(self, total: int, console: Terminal, interrupts: Interrupts) -> None:
        self.total, self.done, self.console, self.interrupts = total, 0, console, interrupts
        self.began = time.monotonic()

    def advance(self, name: str, share: float) -> None:
        """Nothing to say before it is finished."""
        self.interrupts.check()

    def finish(self, name: str, reached: str) -> None:
        """Says what it reached and when."""
        self.done += 1
        count = f"{self.done:>{len(str(self.total))}}/{self.total}"
        seconds = time.monotonic() - self.began
        with while_watched():
            self.console.lines(f"{count}  {name:<14} {reached:>9}  {seconds:6.1f} s")


class Bar:
    """A bar that is drawn over itself and leaves nothing behind.

    It is drawn by `advance`, not by a thread: none competes with the steps being timed, and none can die unseen.

    Args:
      bar: rich's progress bar.
      total: how many optimizers there are.
      interrupts: asked at every step.
    """

    def __init__(self, bar: Progress, total: int, interrupts: Interrupts) -> None:
        self.bar, self.interrupts, self.done, self.drawn = bar, interrupts, 0, 0.0
        self.task = bar.add_task("loading", total=total)
        bar.refresh()

    def advance(self, name: str, share: float) -> None:
        """Moves the bar, if its last move is not just past."""
        self.interrupts.check()
        if time.monotonic() - self.drawn > _REDRAW:
            self._draw(name, self.done + share)

    def finish(self, name: str, reached: str) -> None:
        """Moves the bar to the next whole number."""
        self.done += 1
        self._draw(name, self.done)

    def _draw(self, name: str, completed: float) -> None:
        self.drawn = time.monotonic()
        with while_watched():
            self.bar.update(self.task, description=name, completed=completed, refresh=True)


@contextlib.contextmanager
def shown(total: int) -> Iterator[Bar | Lines]:
    """Progress over that many optimizers, on stderr, so that stdout holds the table alone."""
    console = Terminal(sys.stderr)
    columns = TextColumn("{task.description:<14}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    with Interrupts() as interrupts:
        if not console.animated:
            yield Lines(total, console, interrupts)
            return
        with drawn(console, *columns) as bar:
            yield Bar(bar, total, interrupts)
