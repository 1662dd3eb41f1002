"""Steps on many arrays: one by one, or those of a kind in one batch."""

import functools
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxopt_lectures.core import sharding
from jaxopt_lectures.core.keeping import Own, Row

Step = Callable[..., Any]


def one_by_one(step: Step, count: jax.Array, rows: Sequence[Row]) -> list[Any]:
    """The step on each array."""
    del count
    return [step(*row) for row in rows]


def batched(step: Step, count: jax.Array, rows: Sequence[Row]) -> list[Any]:
    """The same for steps on whole matrices: arrays of one kind are stacked, so that their step is compiled once."""
    del count
    kinds: dict[Hashable, list[int]] = {}
    for place, row in enumerate(rows):
        kinds.setdefault(_kind(row), []).append(place)
    out: list[Any] = [None] * len(rows)
    for places in kinds.values():
        owns = tuple(rows[place].own for place in places)
        formula, _, common = rows[places[0]]
        for place, result in zip(places, _alike(step, formula, owns, common), strict=True):
            out[place] = result
    return out


def _alike(step: Step, formula: Any, owns: tuple[Own, ...], common: Any) -> Sequence[Any]:
    def shardings() -> Any:
        return [jax.tree.map(lambda x, own=own: sharding.like(x, own.g), (own.g, own.slots)) for own in owns]

    run = functools.partial(_stacked, step, formula)
    return sharding.automatic(run, shardings, owns, common)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _stacked(step: Step, formula: Any, owns: tuple[Own, ...], common: Any) -> list[Any]:
    if len(owns) == 1:
        return [step(formula, owns[0], common)]
    stack = jax.tree.map(lambda *x: jnp.stack(x), *owns)
    run = lambda own: step(formula, own, common)  # noqa: E731
    # on CPU batched products are slower than a loop over single ones, and compile no faster
    done = jax.lax.map(run, stack) if jax.default_backend() == "cpu" else jax.vmap(run)(stack)
    return [jax.tree.map(lambda x, index=index: x[index], done) for index in range(len(owns))]


def _kind(row: Row) -> Hashable:
    leaves, treedef = jax.tree.flatten(row.own)
    return row.formula, treedef, tuple(map(jax.typeof, leaves)), row.common[2].dtype
