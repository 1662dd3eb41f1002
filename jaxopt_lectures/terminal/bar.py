"""A progress bar that leaves nothing behind."""

import contextlib
from collections.abc import Iterator

from rich.progress import Progress, ProgressColumn

from jaxopt_lectures.terminal.console import Terminal


@contextlib.contextmanager
def drawn(terminal: Terminal, *columns: ProgressColumn) -> Iterator[Progress]:
    """The bar while it is needed; whoever moves it draws it, no thread does."""
    bar = Progress(*columns, console=terminal, transient=True, auto_refresh=False)
    bar.start()
    try:
        yield bar
    finally:
        with contextlib.suppress(OSError):  # a terminal that has gone away must not take the results with it
            bar.stop()
