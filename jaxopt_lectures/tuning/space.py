"""Where a search looks: ranges and choices by argument, as a card has them or as a user writes them."""

import inspect
import math
from collections.abc import Callable, Mapping
from typing import Any

from jaxopt_lectures import registry
from jaxopt_lectures.core.card import Choice, Range

Space = Mapping[str, Range | Choice]
Values = Mapping[str, Any]

_EDGE = 1 / 16
"""Of a range: what lies nearer to its end is at its edge. Of 16 trials, evenly spread, the outermost."""
_SCALES = ("linear", "log")


class BadSpace(ValueError):
    """A space that cannot be searched; the message is a sentence for the user."""


def parsed(text: str) -> tuple[str, Range | Choice]:
    """An argument and where to look: "learning_rate=log:1e-4:1", "b1=linear:0.8:0.99", "nesterov=true,false".

    Raises:
      BadSpace: something else.
    """
    name, equals, where = text.partition("=")
    if not (name.strip() and equals and where.strip()):
        raise BadSpace(f"a space is written NAME=log:LOW:HIGH, NAME=linear:LOW:HIGH or NAME=A,B,C, got {text!r}")
    scale, *ends = where.strip().split(":")
    if scale in _SCALES:
        try:
            low, high = map(float, ends)
        except ValueError:
            raise BadSpace(f"{name}: a range is {scale}:LOW:HIGH, two numbers, got {where!r}") from None
        return name.strip(), Range(low, high, "log" if scale == "log" else "linear")
    if ends:
        raise BadSpace(f"{name}: a range is log:LOW:HIGH or linear:LOW:HIGH, got {where!r}")
    return name.strip(), Choice(tuple(_literal(word.strip()) for word in where.split(",") if word.strip()))


def check_space(space: Space, factory: Callable[..., Any], whose: str = "the optimizer") -> None:
    """Whether the space can be searched and the factory has its names.

    Raises:
      BadSpace: a name that the factory lacks, a range that is empty or, on a logarithmic scale, not positive.
    """
    if not isinstance(space, Mapping):
        raise BadSpace(f"a space is a mapping of argument to Range or Choice, got {space!r}")
    arguments = inspect.signature(factory).parameters
    anything = any(argument.kind is argument.VAR_KEYWORD for argument in arguments.values())
    for name, where in space.items():
        if name not in arguments and not anything:
            raise BadSpace(registry.unknown(name, f"argument of {whose}", list(arguments)))
        if isinstance(where, Choice):
            if not where.values:
                raise BadSpace(f"{name}: there is nothing to choose from")
        elif not isinstance(where, Range):
            raise BadSpace(f"{name}: where to look is a Range or a Choice, got {where!r}")
        else:
            _check_range(name, where)
    for name, argument in arguments.items():
        if argument.default is argument.empty and name not in space and argument.kind is argument.POSITIONAL_OR_KEYWORD:
            raise BadSpace(f"{whose} needs {name}, and the space does not say where to look for it")


def _check_range(name: str, where: Range) -> None:
    if where.scale not in _SCALES:
        raise BadSpace(f"{name}: the scale is 'log' or 'linear', got {where.scale!r}")
    if not (math.isfinite(where.low) and math.isfinite(where.high)):
        raise BadSpace(f"{name}: from {where.low:g} to {where.high:g} is no range to search")
    if where.low >= where.high:
        raise BadSpace(f"{name}: low {where.low:g} must be below high {where.high:g}")
    if where.scale == "log" and where.low <= 0:
        raise BadSpace(f"{name}: a logarithmic range begins above 0, got {where.low:g}")


def at(where: Range | Choice, share: float) -> Any:
    """The value that lies at that share of the way, 0 to 1."""
    if isinstance(where, Choice):
        return where.values[min(int(share * len(where.values)), len(where.values) - 1)]
    if where.scale == "linear":
        return where.low + share * (where.high - where.low)
    return min(where.high, max(where.low, where.low * (where.high / where.low) ** share))


def share_of(where: Range, value: float) -> float:
    """How far along the range a value lies, 0 to 1."""
    if where.scale == "linear":
        return (value - where.low) / (where.high - where.low)
    return math.log(value / where.low) / math.log(where.high / where.low)


def at_the_edge(space: Space, values: Values) -> dict[str, str]:
    """The arguments whose value lies at an end of its range, with that end: "low" or "high"."""
    found = {}
    for name, where in space.items():
        if isinstance(where, Range):
            share = share_of(where, values[name])
            if not _EDGE <= share <= 1 - _EDGE:
                found[name] = "low" if share < 0.5 else "high"
    return found


def from_plain(fields: Mapping[str, Any]) -> dict[str, Range | Choice]:
    """The space that `plain` wrote."""
    return {
        name: Choice(tuple(where["values"])) if "values" in where else Range(**where) for name, where in fields.items()
    }


def _literal(word: str) -> Any:
    named = {"true": True, "false": False, "none": None}
    if word.lower() in named:
        return named[word.lower()]
    for kind in (int, float):
        try:
            return kind(word)
        except ValueError:
            pass
    return word
