"""What cannot be done is said in one line."""

import contextlib
import warnings
from collections.abc import Callable, Iterator
from typing import TypeVar

from cyclopts import CycloptsError

from jaxopt_lectures import tasks
from jaxopt_lectures.terminal.console import Terminal

_T = TypeVar("_T")


class Refusal(Exception):
    """What was asked for cannot be done; the message is one line for the user."""


def checked(look_up: Callable[[str], _T], name: str) -> _T:
    """What is looked up under that name; where there is no such thing, the line that says so."""
    try:
        return look_up(name)
    except KeyError as error:
        raise Refusal(str(error.args[0])) from error


def task_name(word: str) -> str:
    """A task's name, with hyphens or without, checked without importing the task."""
    return checked(tasks.known, word if ":" in word else word.replace("-", "_"))


@contextlib.contextmanager
def warned(terminal: Terminal) -> Iterator[None]:
    """Warnings as lines."""
    with warnings.catch_warnings():
        warnings.simplefilter("always", UserWarning)
        warnings.showwarning = lambda message, *_, **__: terminal.lines(f"warning: {message}")
        yield


def worded(error: CycloptsError, program: str) -> str:
    """The parser's message as one line, ending with where to look."""
    words = " ".join(str(error).split())
    command = " ".join([program, *(error.command_chain or ())])
    return f"{words} Try {command} --help"
