"""How far many runs are: a bar on a terminal, elsewhere a line for whatever is done."""

import contextlib
import sys
import time
from collections.abc import Iterator
from typing import Any

from jaxopt_lectures.terminal.bar import drawn
from jaxopt_lectures.terminal.console import Terminal
from jaxopt_lectures.terminal.interrupts import Interrupts, while_watched

_REDRAW = 0.1  # seconds between two drawings of the bar


class Silent:
    """Tells nobody."""

    def begin(self, name: str) -> None:
        """Something begins."""

    def advance(self, steps: int) -> None:
        """So many steps were taken; raises KeyboardInterrupt if that is wished."""

    def finish(self, name: str, text: str) -> None:
        """Something is done, with what result."""


class Shown(Silent):
    """Tells a terminal, or a file.

    Args:
      terminal: where to.
      interrupts: asked at every move.
      bar: rich's progress bar, None where lines cannot be drawn over.
      total: how many steps there are in all.
    """

    def __init__(self, terminal: Terminal, interrupts: Interrupts, bar: Any, total: int) -> None:
        self.terminal, self.interrupts, self.bar, self.drawn, self.done = terminal, interrupts, bar, 0.0, 0
        self.began = time.monotonic()
        if bar is not None:
            self.task = bar.add_task("loading", total=total)
            bar.refresh()

    def begin(self, name: str) -> None:
        """Names what the bar is at."""
        self.interrupts.check()
        self._draw(name)

    def advance(self, steps: int) -> None:
        """Moves the bar, if its last move is not just past."""
        self.interrupts.check()
        self.done += steps
        if time.monotonic() - self.drawn > _REDRAW:
            self._draw(None)

    def finish(self, name: str, text: str) -> None:
        """A line, where there is no bar."""
        if self.bar is None:
            with while_watched():
                self.terminal.lines(f"{name:<14} {text}  {time.monotonic() - self.began:6.1f} s")

    def _draw(self, name: str | None) -> None:
        if self.bar is None:
            return
        self.drawn = time.monotonic()
        with while_watched():
            named = {} if name is None else {"description": name}
            self.bar.update(self.task, completed=self.done, refresh=True, **named)


@contextlib.contextmanager
def shown(total: int) -> Iterator[Shown]:
    """Progress on stderr, so that stdout holds the results alone."""
    terminal = Terminal(sys.stderr)
    with Interrupts() as interrupts:
        if not terminal.animated:
            yield Shown(terminal, interrupts, None, total)
            return
        from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

        columns = TextColumn("{task.description:<24}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn()
        with drawn(terminal, *columns, TextColumn("left"), TimeRemainingColumn()) as bar:
            yield Shown(terminal, interrupts, bar, total)
