"""Being told to stop: Ctrl-C, a machine that is about to be taken away, a terminal that has gone."""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from typing import Any

from jaxopt_lectures.terminal.console import is_gone


class Interrupts:
    """Hears Ctrl-C, in a `with` statement, and raises it where `check` is asked; a second one is raised at once.

    Args:
      signals: what to hear; SIGTERM is what machines are told that are about to be taken away.

    Python would raise KeyboardInterrupt wherever it happens to be. Inside a callback of the garbage collector, of which
    JAX has one, it is printed and dropped, and inside the compiler it can end the process.
    """

    def __init__(self, signals: Sequence[int] = (signal.SIGINT,)) -> None:
        self.signals, self.heard = signals, False

    def __enter__(self) -> "Interrupts":
        self.hears = threading.current_thread() is threading.main_thread()  # only there may handlers be set
        if self.hears:
            self.before = {number: signal.signal(number, self._hear) for number in self.signals}
        return self

    def __exit__(self, *error: object) -> None:
        if self.hears:
            for number, handler in self.before.items():
                signal.signal(number, handler)

    def check(self) -> None:
        """Raises KeyboardInterrupt if Ctrl-C was heard."""
        if self.heard:
            raise KeyboardInterrupt

    def _hear(self, number: int, frame: Any) -> None:
        if self.heard:
            raise KeyboardInterrupt
        self.heard = True
        with contextlib.suppress(OSError):
            os.write(2, b"\nstopping at the next step; once more to stop at once\n")


@contextlib.contextmanager
def while_watched() -> Iterator[None]:
    """Where the terminal has gone away, nobody waits for the rest: stop, as Ctrl-C would."""
    try:
        yield
    except OSError as error:
        if is_gone(error):
            raise KeyboardInterrupt from error
        raise
