"""Steps on many arrays: one by one, or those of a kind in one batch."""

import functools
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from jaxopt_lectures.core import sharding
from jaxopt_lectures.core.keeping import Own, Row

Step = Callable[..., Any]


def one_by_one(step: Step, rows: Sequence[Row]) -> list[Any]:
    """The step on each array."""
    return [step(*row) for row in rows]


def whole_matrices(step: Step, rows: Sequence[Row]) -> list[Any]:
    """The same for steps that look at whole matrices, on which accelerators are faster in batches.

    There, arrays of one kind are stacked. On CPU a product of stacks is slower than one after the other. On a mesh each
    device takes its share of the stack.
    """
    kinds: dict[Hashable, list[int]] = {}
    apart = jax.default_backend() == "cpu" and not any(sharding.mesh_of(row.own.g) for row in rows)
    for place, row in enumerate(rows):
        kinds.setdefault(place if apart else _kind(row), []).append(place)
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
    mesh = sharding.around()
    if len(owns) == 1:
        return [step(formula, owns[0], common)]
    if mesh is not None:
        return _divided(step, formula, owns, common, mesh)
    stack = jax.tree.map(lambda *x: jnp.stack(x), *owns)
    return _apart(jax.vmap(lambda own: step(formula, own, common))(stack), len(owns))


def _divided(step: Step, formula: Any, owns: tuple[Own, ...], common: Any, mesh: Any) -> list[Any]:
    """Each device along the longest axis takes the step on as many arrays; the last is repeated if there are too few.

    Not along all axes: XLA exchanges pieces along one, and would gather everything over two.
    """
    axis = sharding.longest(mesh)
    missing = -len(owns) % mesh.shape[axis]
    each = (len(owns) + missing) // mesh.shape[axis]

    def share(stack: Own, common: Any) -> Any:
        if jax.default_backend() == "cpu":
            return jax.tree.map(lambda *x: jnp.stack(x), *[step(formula, own, common) for own in _apart(stack, each)])
        return jax.vmap(lambda own: step(formula, own, common))(stack)

    divided, whole = PartitionSpec(axis), PartitionSpec()
    stack = jax.tree.map(lambda *x: jnp.stack(x), *owns, *[owns[-1]] * missing)
    run = jax.shard_map(share, mesh=mesh, in_specs=(divided, whole), out_specs=divided, check_vma=False)
    return _apart(sharding.exchanged(run(stack, common), mesh), len(owns))


def _apart(stack: Any, count: int) -> list[Any]:
    return [jax.tree.map(lambda x, index=index: x[index], stack) for index in range(count)]


def _kind(row: Row) -> Hashable:
    leaves, treedef = jax.tree.flatten(row.own)
    return row.formula, treedef, tuple(map(jax.typeof, leaves)), row.common[2].dtype
