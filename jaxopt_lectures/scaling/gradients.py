"""Gradients of a divided batch that are added up where the state lies: no device ever has the whole sum.

Every device takes the gradient g_i of its part of the batch. Of N devices number i needs piece i of (1/N) sum_j g_j: a
reduce-scatter brings it, with half of the traffic of an all-reduce. The compiler finds it by itself on some backends;
here it is written down.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxopt_lectures.core.paths import paths_of
from jaxopt_lectures.scaling.layouts import names
from jaxopt_lectures.scaling.meshes import check_axis, text

Loss = Callable[[Any, Any, Any, Any], tuple[jax.Array, Any]]


def scattered(loss: Loss, mesh: Mesh, axis: str, params: Any, gradients: Any) -> Callable[..., Any]:
    """`jax.value_and_grad(loss, has_aux=True)` with the batch divided along a mesh axis.

    It is the same number where the loss is a mean over examples, of a model that looks at each example alone: no batch
    statistics, no random numbers for the whole batch.

    Args:
      loss: `(params, rest, x, y) -> (value, rest)`.
      mesh: with that axis; others have a size of 1. (Where parameters are cut along another axis, the compiler gathers
        their gradients over it first, and sends more than by itself.)
      axis: along which x and y are divided; their first axis must be a multiple of its size.
      params: where the parameters lie, a tree of `NamedSharding`; those that are cut along the axis are gathered for
        the loss (FSDP).
      gradients: where their gradients are to lie, as `state_sharding` has it for the state.

    Returns:
      `(params, rest, x, y) -> ((value, rest), gradients)`. `rest` is handed through as it came.

    Raises:
      ValueError: the mesh has not the axis, or another one of more than 1; a gradient is to be cut along another axis
        than its parameter is.
    """
    check_axis(mesh, axis, "scattered")
    size = mesh.shape[axis]
    if mesh.size > size:
        raise ValueError(f"gradients are scattered over a mesh of one axis, got {text(mesh.shape)}")
    cuts = jax.tree.map(lambda sharding: _place(sharding, axis), params)
    wanted = jax.tree.map(lambda sharding: _place(sharding, axis), gradients)
    for path, cut, place in zip(paths_of(cuts), jax.tree.leaves(cuts), jax.tree.leaves(wanted), strict=True):
        if cut not in (-1, place):
            raise ValueError(
                f"parameter {path!r} is cut along its axis {cut}: so must its gradient be, not along {place}"
            )

    def part(params: Any, rest: Any, x: Any, y: Any) -> Any:
        def whole(params: Any) -> tuple[jax.Array, Any]:
            return loss(jax.tree.map(_gathered(axis), params, cuts), rest, x, y)

        # A parameter that is the same on all devices has its gradient added up by JAX; one that may differ has not.
        apart = jax.tree.map(lambda p, cut: p if cut >= 0 else jax.lax.pcast(p, axis, to="varying"), params, cuts)
        (value, _), found = jax.value_and_grad(whole, has_aux=True)(apart)
        added = jax.tree.map(_added(axis), found, cuts, wanted)
        return jax.lax.pmean(value, axis), jax.tree.map(lambda g: g / size, added)

    def run(params: Any, rest: Any, x: Any, y: Any) -> Any:
        spec = PartitionSpec(axis)
        held, made = jax.tree.map(_spec(axis), params, cuts), jax.tree.map(_spec(axis), params, wanted)
        divided = jax.shard_map(
            part, mesh=mesh, in_specs=(held, PartitionSpec(), spec, spec), out_specs=(PartitionSpec(), made)
        )
        value, found = divided(params, rest, x, y)
        return (value, rest), jax.lax.with_sharding_constraint(found, gradients)

    return run


def _place(sharding: NamedSharding, axis: str) -> int:
    """Which axis of an array is cut along the mesh axis; -1 for none. Not None, which is no leaf of a tree."""
    return next((place for place, entry in enumerate(sharding.spec) if axis in names([entry])), -1)


def _gathered(axis: str) -> Callable[[jax.Array, int], jax.Array]:
    return lambda p, cut: p if cut < 0 else jax.lax.all_gather(p, axis, axis=cut, tiled=True)


def _added(axis: str) -> Callable[[jax.Array, int, int], jax.Array]:
    def one(g: jax.Array, cut: int, wanted: int) -> jax.Array:
        if cut >= 0:
            return g  # that of a gathered parameter comes back in its pieces
        if wanted < 0:
            return jax.lax.psum(g, axis)
        return jax.lax.psum_scatter(g, axis, scatter_dimension=wanted, tiled=True)

    return one


def _spec(axis: str) -> Callable[[Any, int], PartitionSpec]:
    return lambda p, place: PartitionSpec(*[axis if place == at else None for at in range(jnp.ndim(p))])
