"""What a translated tile is made of: tiles, numbers, and what no tile has a part in."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

REDUCTIONS = ("reduce_sum", "reduce_max", "reduce_min", "reduce_or", "reduce_and")
"""Primitives that make a number of a tile."""


class Unsupported(ValueError):
    """What cannot be translated; the message says what, for the user."""


@dataclass(frozen=True, eq=False)
class Value:
    """A tile, or a number, and how it comes about.

    Attributes:
      op: a primitive's name; "input", what a kernel is given; "uniform", a number of the prologue; "literal".
      dtype: its dtype.
      vector: whether it is a tile.
      inputs: what it is computed from.
      params: what else: the place among the inputs or uniforms, the literal, the table, the exponent.
      phase: the first loop in which it can be known; a number is known before the loop of its phase.
    """

    op: str
    dtype: str
    vector: bool
    inputs: tuple["Value", ...] = ()
    params: Any = None
    phase: int = 0


@dataclass(eq=False)
class Uniform:
    """What no tile has a part in: an argument of the prologue (an array of any shape), a result of it, or a constant.

    Attributes:
      shape: its shape.
      dtype: its dtype.
      value: the number or array, of a constant.
    """

    shape: tuple[int, ...]
    dtype: Any
    value: Any = None


@dataclass(frozen=True, eq=False)
class Program:
    """A translated jaxpr.

    Attributes:
      outputs: what it returns.
      uniforms: the numbers that JAX computes beforehand, in the order in which the kernel gets them.
      prologue: computes them from the uniform arguments.
    """

    outputs: list[Value]
    uniforms: list[Value]
    prologue: Callable[[Sequence[Any]], list[Any]]

    @property
    def loops(self) -> int:
        """How often its elements are passed over."""
        return 1 + max((x.phase for x in used(self.outputs)), default=0)


def used(outputs: Sequence[Value]) -> set[Value]:
    """All that outputs are computed from, and they."""
    found: set[Value] = set()
    left = list(outputs)
    while left:
        x = left.pop()
        if x not in found:
            found.add(x)
            left += x.inputs
    return found
