"""Printing to whatever is there: a terminal, a pipe, one that knows no UTF-8, one that has gone away."""

import errno
import os
import sys
from typing import TextIO

from rich.box import Box
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

# A rule under the header and nothing else, in ASCII, so that no terminal replaces it by a frame.
_RULE = Box("    \n    \n -- \n    \n    \n    \n    \n    \n", ascii=True)

_UNBOUND = 10_000  # columns; no table is as wide


class Terminal(Console):
    """A rich console that prints text as it is (no markup), and leaves a broken pipe to its caller."""

    def __init__(self, file: TextIO | None) -> None:
        # A process started without the stream has None.
        file = file or open(os.devnull, "w")  # noqa: SIM115
        super().__init__(file=file, markup=False, highlight=False, emoji=False)

    def on_broken_pipe(self) -> None:
        """Called while the error is handled; rich itself would end the process here."""
        raise BrokenPipeError(errno.EPIPE, "the reader has gone away")

    @property
    def animated(self) -> bool:
        """Whether lines can be drawn over."""
        return self.is_terminal and not self.is_dumb_terminal

    def table(self, table: Table) -> None:
        """Prints a table, made narrower if it does not fit."""
        if not self.fits(table):
            table.padding = 0
        self.lines(*self.rendered(table))

    def fits(self, table: Table) -> bool:
        """Whether every row stays one line. Where nobody looks (a pipe, a file) it may be as long as it likes."""
        unbound = self.options.update(width=_UNBOUND)
        return not self.is_terminal or Measurement.get(self, unbound, table).maximum <= self.width

    def rendered(self, table: Table, width: int | None = None) -> list[str]:
        """The lines of a table, of that width if given."""
        before, self.width = self.width, width or (self.width if self.is_terminal else _UNBOUND)
        with self.capture() as captured:
            self.print(table)
        self.width = before
        return [line.rstrip() for line in captured.get().rstrip().splitlines()]

    def lines(self, *lines: str) -> None:
        """Prints lines as they are, however wide."""
        self.file.write("".join(f"{line}\n" for line in lines))
        self.file.flush()

    def can_show(self, text: str) -> bool:
        """Whether the encoding has all these characters."""
        try:
            text.encode(self.encoding)
        except UnicodeEncodeError:
            return False
        return True


def new_table() -> Table:
    """A table with a header, a rule and columns; no frame."""
    return Table(box=_RULE, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")


def forgive_encodings() -> None:
    """Characters that the terminal does not know are printed as question marks instead of ending the program."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")


def is_gone(error: OSError) -> bool:
    """Whether the error says that the terminal or the reader of the pipe no longer exists."""
    return isinstance(error, BrokenPipeError) or error.errno == errno.EIO


def flush() -> None:
    """Writes what is still buffered, so that an error is met here and not when Python exits."""
    for stream in (sys.stdout, sys.stderr):
        if stream:
            stream.flush()


def silence() -> None:
    """Sends what is still buffered nowhere, so that Python does not complain about it when it exits."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream:
                stream.flush()
        except OSError:
            os.dup2(nowhere, stream.fileno())
