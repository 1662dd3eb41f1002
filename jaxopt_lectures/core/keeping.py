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

    def is_kept(self, leaf: Any) -> bool:
        """Whether it is what stands in a state for one array, in whatever form other libraries return it."""

    def read(self, name: str, slot: Slot, leaves: Sequence[Any], updates: Any) -> list[Any]:
        """The slots of a state, one for each leaf; raises ValueError, naming the leaf, if one is kept otherwise."""

    def steps(self, step: Callable[..., Any], formula: Any, count: jax.Array, rows: Sequence[Row]) -> list[Any]:
        """For each row the update, and the new slots as they are kept. `step(formula, *row)` is the plain step."""


def plainly(step: Callable[..., Any], formula: Any, count: jax.Array, rows: Sequence[Row]) -> list[Any]:
    """Slots that are arrays: the plain step on each row."""
    del count
    return [step(formula, *row) for row in rows]
