"""Steps on many arrays: one by one, or those of a kind in one batch."""

import functools
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxopt_lectures.core import sharding
from jaxopt_lectures.core.keeping import Own, Row

Step = Callable[..., Any]


def one_by_one(step: Step, rows: Sequence[Row]) -> list[Any]:
    """The step on each array."""
    return [step(*row) for row in rows]


def whole_matrices(step: Step, rows: Sequence[Row]) -> list[Any]:
    """The same for steps that look at whole matrices, on which accelerators are faster in batches.

    There, arrays of one kind are stacked. On CPU a product of stacks is slower than one after the other.
    """
    kinds: dict[Hashable, list[int]] = {}
    for place, row in enumerate(rows):
        kinds.setdefault(place if jax.default_backend() == "cpu" else _kind(row), []).append(place)
    out: list[Any] = [None] * len(rows)
    for places in kinds.values():
        formula, _, common = rows[places[0]]
        found = anywhere(step, formula, tuple(rows[place].own for place in places), common)
        for place, result in zip(places, found, strict=True):
            out[place] = result
    return out


def anywhere(step: Step, formula: Any, owns: tuple[Own, ...], common: Any) -> Sequence[Any]:
    """The step on arrays of one kind, also of explicit meshes: what comes out lies where what went in lay."""

    def shardings() -> Any:
        return [sharding.as_they_lie((own.g, own.slots), own.g) for own in owns]

    run = functools.partial(_stacked, step, formula)
    found: Sequence[Any] = sharding.automatic(run, shardings, owns, common)
    return found


def _stacked(step: Step, formula: Any, owns: tuple[Own, ...], common: Any) -> list[Any]:
    if len(owns) == 1:
        return [step(formula, owns[0], common)]
    stack = jax.tree.map(lambda *x: jnp.stack(x), *owns)
    done = jax.vmap(lambda own: step(formula, own, common))(stack)
    return [jax.tree.map(lambda x, index=index: x[index], done) for index in range(len(owns))]


def _kind(row: Row) -> Hashable:
    leaves, treedef = jax.tree.flatten(row.own)
    return row.formula, treedef, tuple(map(jax.typeof, leaves)), row.common[2].dtype
