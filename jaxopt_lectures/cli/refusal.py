"""What cannot be done is said in one line."""

from collections.abc import Callable
from typing import TypeVar

from cyclopts import CycloptsError

_T = TypeVar("_T")


class Refusal(Exception):
    """What was asked for cannot be done; the message is one line for the user."""


def checked(look_up: Callable[[str], _T], name: str) -> _T:
    """What is looked up under that name; where there is no such thing, the line that says so."""
    try:
        return look_up(name)
    except KeyError as error:
        raise Refusal(str(error.args[0])) from error


def worded(error: CycloptsError, program: str) -> str:
    """The parser's message as one line, ending with where to look."""
    words = " ".join(str(error).split())
    command = " ".join([program, *(error.command_chain or ())])
    return f"{words} Try {command} --help"
