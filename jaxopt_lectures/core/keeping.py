"""How a rule's slots are kept between its steps, where not as arrays: what `from_rule` asks of a room below it."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import jax

from jaxopt_lectures.core.slots import Slot

Row = tuple[Any, ...]
"""What `step` takes for one array after the formula: gradient, slots, shared slots, parameter, hypers, t."""


class Keeping(Protocol):
    """A way to keep slots. Arithmetic stays the rule's: it is given decoded slots, and returns fresh ones."""

    def first(self, trees: Mapping[str, Any], slots: Mapping[str, Slot], params: Any) -> dict[str, Any]:
        """The slots of a new state, by name, as they are kept."""

    def check(self, name: str, slot: Slot, leaves: Sequence[Any], updates: Any) -> None:
        """Raises ValueError, naming the leaf, if a slot of a state is not kept in this way."""

    def steps(self, step: Callable[..., Any], formula: Any, count: jax.Array, rows: Sequence[Row]) -> list[Any]:
        """For each row the update, and the new slots as they are kept. `step(formula, *row)` is the plain step."""


def plainly(step: Callable[..., Any], formula: Any, count: jax.Array, rows: Sequence[Row]) -> list[Any]:
    """Slots that are arrays: the plain step on each row."""
    del count
    return [step(formula, *row) for row in rows]
