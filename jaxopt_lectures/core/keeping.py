"""How a rule's slots are kept between its steps, where not as arrays: what `from_rule` asks of a room below it."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import jax

from jaxopt_lectures.core.slots import Slot


class Own(NamedTuple):
    """What a step on one array is given of its own: gradient, slots by name, parameter or None, key or None."""

    g: Any
    slots: dict[str, Any]
    p: Any
    key: Any


class Row(NamedTuple):
    """The step on one array, `step(formula, own, common)`; `common`: shared slots, hyper-parameters and t."""

    formula: Any
    own: Own
    common: tuple[dict[str, Any], dict[str, Any], jax.Array]


class Keeping(Protocol):
    """A way to keep slots. Arithmetic stays the rule's: it is given decoded slots, and returns fresh ones."""

    def first(self, trees: Mapping[str, Any], slots: Mapping[str, Slot], params: Any) -> dict[str, Any]:
        """The slots of a new state, by name, as they are kept."""

    def is_kept(self, leaf: Any) -> bool:
        """Whether it is what stands in a state for one array, in whatever form other libraries return it."""

    def read(self, name: str, slot: Slot, leaves: Sequence[Any], updates: Any) -> list[Any]:
        """The slots of a state, one for each leaf; raises ValueError, naming the leaf, if one is kept otherwise."""

    def steps(
        self, step: Callable[..., Any], plainly: Callable[..., list[Any]], count: jax.Array, rows: Sequence[Row]
    ) -> list[Any]:
        """For each row the update, and the new slots as they are kept.

        `step(*row)` is the plain step on one row, `plainly(step, rows)` those on rows whose slots are all arrays.
        """

    def words(self, count: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        """What the random bits of a step are made of, `(*shape, 2)` uint32, with `shape` (rows, slots)."""

    def one(self, step: Callable[..., Any], row: Row, word: jax.Array) -> Any:
        """One elementwise step on one row, with its (slots, 2) words: what `steps` gives for it."""
