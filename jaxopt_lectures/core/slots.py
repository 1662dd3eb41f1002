"""Slots: what an optimizer keeps per parameter, declared so that others can store, shard and test it unasked.

A state class is a NamedTuple whose annotations are the declaration:

    class AdamState(NamedTuple):
        count: jax.Array     # steps taken so far
        mu: Signed           # shaped like the parameters
        nu: NonNegative
"""

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_type_hints

import jax


@dataclass(frozen=True)
class Slot:
    """What may be known of a piece of state without knowing the optimizer.

    Attributes:
      nature: "signed" or "nonnegative"; picks the code in which it may be stored. "weights", which are evaluated and
        not only stepped by, are not stored in any.
      shape: "parameter" (like its parameter), "scalar" (one number per parameter), "factors" (arrays of other shapes
        for each parameter, say a tuple of matrices) or "tree" (one for all of them). For a parameter that does not need
        it, a slot of the first or third shape may be None.
    """

    nature: Literal["signed", "nonnegative", "weights"]
    shape: Literal["parameter", "scalar", "factors", "tree"]


Signed = Annotated[Any, Slot("signed", "parameter")]
NonNegative = Annotated[Any, Slot("nonnegative", "parameter")]
Weights = Annotated[Any, Slot("weights", "parameter")]
NonNegativeScalar = Annotated[Any, Slot("nonnegative", "scalar")]
Factors = Annotated[Any, Slot("signed", "factors")]
Shared = Annotated[Any, Slot("signed", "tree")]
SharedNonNegative = Annotated[Any, Slot("nonnegative", "tree")]


class Kept:
    """What stands in a state in place of an array: a slot kept in another form (the room `storage`)."""

    def whole(self, shape: tuple[int, ...]) -> Any:
        """The array of that shape."""
        raise NotImplementedError


Couples = Literal["element", "matrix", "array", "tree"]
"""Which elements of the gradient an element of the update may depend on."""


@functools.cache
def declared_slots(state_type: type) -> dict[str, Slot]:
    """The slots that a state class declares, in the order of its fields; empty for classes that declare none."""
    hints = get_type_hints(state_type, include_extras=True)
    found = {name: getattr(hint, "__metadata__", (None,))[0] for name, hint in hints.items()}
    return {name: slot for name, slot in found.items() if isinstance(slot, Slot)}


def unboxed(slot: Any) -> Any:
    """The factors of a parameter as a dict; Flax makes other mappings of them."""
    return dict(slot) if isinstance(slot, Mapping) else slot


def as_it_was(old: Any, new: Any) -> Any:
    """New factors in the mapping that the old ones came in."""
    return jax.tree.structure(old).unflatten(jax.tree.leaves(new)) if isinstance(old, Mapping) else new
