"""A step before it is taken: for each rule of a chain what it is given of each leaf, and the state that follows.

Who takes steps in another way than one rule after the other over whole arrays (the room `kernels`) asks for this
instead of `update`. What needs all leaves at once, norms and schedules, is computed by then.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import optax

from jaxopt_lectures.core.keeping import Keeping, Row


class Part(NamedTuple):
    """One rule on all leaves.

    Attributes:
      rows: for each leaf; behind the first part of a chain, gradients are the updates of the part before, and `own.g`
        is a `jax.ShapeDtypeStruct`.
      keeping: how slots are kept that are not arrays, or None.
      count: steps taken before this one, () int32.
    """

    rows: list[Row]
    keeping: Keeping | None
    count: jax.Array


class Passes(NamedTuple):
    """A step of a chain.

    Attributes:
      parts: its rules, in their order.
      state: `state(new)`, the next state, `new[part][leaf]` the new slots by name, as they are kept.
      rounding: (leaves, 2) uint32, what the random bits are made of by which narrow parameters are rounded at random;
        None where they are rounded to nearest.
    """

    parts: list[Part]
    state: Callable[[Sequence[Sequence[Mapping[str, Any]]]], Any]
    rounding: jax.Array | None = None


def passes_of_chain(parts: Sequence[Any]) -> Callable[..., Passes] | None:
    """The `passes` of a chain: its last parts in one, as far as they have any; those before take their step plainly.

    A part that looks at more than single elements of the gradients must see them, so it is the first of the last. Only
    rules are followed by others: what is around one, as to round sums at random, is the end. None if the last part has
    no passes.
    """
    first = len(parts)
    while first and getattr(parts[first - 1], "passes", None) is not None:
        if first < len(parts) and not _of_rules(parts[first - 1]):
            break
        first -= 1
        if parts[first].couples != "element":
            break
    if first == len(parts):
        return None
    before = [optax.with_extra_args_support(part) for part in parts[:first]]

    def passes(updates: Any, state: Any, params: Any, **extra: Any) -> Passes:
        states = list(state)
        found: list[Passes] = []
        for place, part in enumerate(before):
            updates, states[place] = part.update(updates, states[place], params, **extra)
        for place in range(first, len(parts)):
            found.append(parts[place].passes(updates, states[place], params, **extra))
            updates = jax.tree.map(lambda g: jax.ShapeDtypeStruct(g.shape, g.dtype), updates)

        def after(new: Sequence[Sequence[Mapping[str, Any]]]) -> Any:
            left = iter(new)
            kept = [each.state([next(left) for _ in each.parts]) for each in found]
            return (*states[:first], *kept)

        return Passes([part for each in found for part in each.parts], after, found[-1].rounding)

    return passes


def _of_rules(part: Any) -> bool:
    return getattr(part, "rule", None) is not None or (
        getattr(part, "title", "") == "chain" and all(map(_of_rules, part.parts))
    )
