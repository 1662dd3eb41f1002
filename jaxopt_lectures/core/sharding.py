"""Where arrays lie: what is known of it while a program is traced, and steps on arrays of explicit meshes."""

from collections.abc import Callable
from typing import Any

import jax
from jax.sharding import NamedSharding, PartitionSpec


def shard_shape(p: Any) -> tuple[int, ...] | None:
    """The shape of the part of an array that a device holds: of real arrays, and of those of explicit meshes."""
    if isinstance(p, jax.Array) and not isinstance(p, jax.core.Tracer):
        return p.sharding.shard_shape(p.shape)
    sharding = _explicit(p)
    return None if sharding is None else sharding.shard_shape(p.shape)


def like(x: Any, p: Any) -> Any:
    """The sharding of `p` for an array with as many axes; an axis that its devices do not divide is not sharded."""
    sharding = _explicit(p)
    if sharding is None or x is None:
        return None
    axes = [*sharding.spec, *[None] * (x.ndim - len(sharding.spec))]
    parts = [size // part for size, part in zip(p.shape, sharding.shard_shape(p.shape), strict=True)]
    kept = [axis if size % part == 0 else None for axis, size, part in zip(axes, x.shape, parts, strict=True)]
    return NamedSharding(sharding.mesh, PartitionSpec(*kept))


def as_they_lie(arrays: Any, p: Any) -> Any:
    """The shardings that arrays have; on all devices of `p`, for one that is of no explicit mesh."""
    of = _explicit(p)
    everywhere = None if of is None else NamedSharding(of.mesh, PartitionSpec())
    return jax.tree.map(lambda x: _explicit(x) or everywhere, arrays)


def automatic(function: Callable[..., Any], shardings: Callable[[], Any], *operands: Any) -> Any:
    """`function(*operands)`, in which the compiler says where things lie, also for arrays of explicit meshes.

    Args:
      function: takes and returns trees of arrays.
      shardings: says those of what it returns; asked only where a mesh is explicit.
      operands: its arguments.
    """
    found = [sharding for sharding in map(_explicit, jax.tree.leaves(operands)) if sharding is not None]
    if not found:
        return function(*operands)
    mesh = found[0].mesh
    with jax.sharding.use_abstract_mesh(mesh):
        return jax.sharding.auto_axes(function, axes=mesh.explicit_axes, out_sharding=shardings())(*operands)


def around() -> Any:
    """The mesh that a program is traced for (`jax.set_mesh`, `shard`), if the compiler handles all of its axes."""
    mesh = jax.sharding.get_abstract_mesh()
    return mesh if mesh.size > 1 and mesh.are_all_axes_auto else None


def mesh_of(x: Any) -> Any:
    """The explicit mesh of an array, or else the one around."""
    found = _explicit(x)
    return around() if found is None else found.mesh


def longest(mesh: Any) -> str:
    """The axis of most devices."""
    return str(max(mesh.axis_names, key=lambda name: mesh.shape[name]))


def exchanged(stacks: Any, mesh: Any) -> Any:
    """Stacks of which each device has some arrays, as stacks of which each device has a piece of every array.

    Along one axis of the mesh that is an exchange of pieces (all-to-all), and nothing is ever whole.
    """
    axis = longest(mesh)

    def one(x: jax.Array) -> jax.Array:
        place = next((place for place in range(1, x.ndim) if x.shape[place] % mesh.shape[axis] == 0), None)
        spec = PartitionSpec() if place is None else PartitionSpec(*[None] * place, axis)
        return jax.lax.with_sharding_constraint(x, NamedSharding(mesh, spec))

    return jax.tree.map(one, stacks)


def _explicit(x: Any) -> Any:
    """The sharding of an array of an explicit mesh; None of any other."""
    sharding = getattr(jax.typeof(x), "sharding", None) if isinstance(x, jax.Array) else None
    return None if sharding is None or sharding.mesh.empty or not sharding.mesh.explicit_axes else sharding


def alike(arrays: Any, likes: Any) -> Any:
    """Arrays that vary over the axes of a `shard_map` that `likes` vary over: both branches of a `cond` must."""

    def one(x: jax.Array, like: Any) -> jax.Array:
        missing = _varying(like) - _varying(jax.typeof(x))
        return jax.lax.pcast(x, tuple(missing), to="varying") if missing else x

    return jax.tree.map(one, arrays, likes)


def _varying(aval: Any) -> frozenset[Any]:
    """The axes that an array varies over, by the names that versions of JAX have for them."""
    found: frozenset[Any] = getattr(
        getattr(aval, "manual_axis_type", aval), "varying", getattr(aval, "vma", frozenset())
    )
    return found
