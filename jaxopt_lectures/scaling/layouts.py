"""Where parameters and optimizer state lie on a mesh.

Parameters lie as rules by path say. State lies as its parameter does; with ZeRO each array of it is cut once more,
along the data axis, where its parameter is repeated on every device.

    params_sharding   path -> PartitionSpec, by the first rule whose regular expression is found in the path
    state_sharding    what `tx.init` makes of parameters that lie so: JAX's types carry the sharding through it
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import optax
from jax.sharding import AbstractMesh, AxisType, Mesh, NamedSharding, PartitionSpec

from jaxopt_lectures.core.paths import compiled, path_text
from jaxopt_lectures.core.transformation import check_transformation
from jaxopt_lectures.scaling.meshes import check_axis

AnyMesh: TypeAlias = Mesh | AbstractMesh
Rules: TypeAlias = Mapping[str, Sequence[Any]]


def params_sharding(params: Any, mesh: AnyMesh, rules: Rules | None = None, *, spread: str | None = None) -> Any:
    """Where each parameter lies: a tree of `NamedSharding`, for `jax.device_put(params, layout)`.

    Args:
      params: arrays, or `jax.ShapeDtypeStruct`.
      mesh: of devices, or `AbstractMesh`.
      rules: regular expression -> the mesh axis of each of the parameter's axes, `{"query/kernel": (None, "model")}`.
        The first that is found in a parameter's path ("blocks/0/query/kernel") counts; a parameter that none is found
        in lies on every device. An axis whose size the mesh does not divide is not cut.
      spread: mesh axis along which every parameter is cut once more, where one of its axes allows (FSDP).

    Raises:
      ValueError: a rule that names no axis of the mesh, or more axes than the parameter has.
    """
    known = {compiled(pattern, "a rule"): spec for pattern, spec in (rules or {}).items()}
    for pattern, spec in known.items():
        _check_rule(pattern.pattern, spec, mesh)
    if spread is not None:
        check_axis(mesh, spread, "spread")

    def one(path: Any, p: Any) -> NamedSharding:
        found, shape = path_text(path), jnp.shape(p)
        pattern, spec = next(((rule, spec) for rule, spec in known.items() if rule.search(found)), (None, ()))
        if pattern is not None and len(spec) > len(shape):
            raise ValueError(f"the rule {pattern.pattern!r} has {len(spec)} axes, parameter {found!r} {len(shape)}")
        spec = tuple(entry if _divides(mesh, entry, size) else None for entry, size in zip(spec, shape, strict=False))
        whole = PartitionSpec(*spec)
        return NamedSharding(mesh, whole if spread is None else cut(whole, shape, mesh, spread))

    return jax.tree_util.tree_map_with_path(one, params)


def state_sharding(
    tx: optax.GradientTransformation,
    params: Any,
    mesh: AnyMesh,
    zero: int = 0,
    axis: str = "data",
    memory_kind: str | None = None,
) -> Any:
    """Where each array of the optimizer's state lies: a tree of `NamedSharding` like `tx.init(params)`.

    Nothing is computed.

    Args:
      tx: the transformation, ours or optax's.
      params: arrays or `jax.ShapeDtypeStruct`, with their shardings where they have some (`params_sharding`).
      mesh: of devices, or `AbstractMesh`.
      zero: 0, the state lies as the parameters do; 1, it is cut along `axis` where they are not.
      axis: of the mesh.
      memory_kind: "pinned_host" for the memory of the host; that of the device if None.

    Raises:
      ValueError: an axis that the mesh has not, or another `zero`.
    """
    check_transformation(tx, "state_sharding's argument")
    check_zero(mesh, zero, axis)
    placed = placed_state(tx, params, mesh, zero, axis)
    return jax.tree.map(lambda x: NamedSharding(mesh, x.sharding.spec, memory_kind=memory_kind), placed)


def placed_state(tx: optax.GradientTransformation, params: Any, mesh: AnyMesh, zero: int, axis: str) -> Any:
    """The state as `jax.ShapeDtypeStruct`, each with the place that `state_sharding` gives it."""

    def one(x: Any) -> jax.ShapeDtypeStruct:
        found = x.sharding.spec if x.sharding is not None else PartitionSpec()
        spec = cut(found, x.shape, mesh, axis) if zero else found
        return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=NamedSharding(mesh, spec))

    return jax.tree.map(one, state_shapes(tx, params, slots_sharding(params, mesh, zero, axis)))


def placed(shapes: Any, layout: Any) -> Any:
    """Arrays as `jax.ShapeDtypeStruct` that lie as the layout, a tree of shardings, says."""

    def one(x: Any, sharding: NamedSharding) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(jnp.shape(x), jnp.result_type(x), sharding=sharding)

    return jax.tree.map(one, shapes, layout)


def rules_on(mesh: AnyMesh, rules: Rules | None) -> dict[str, tuple[Any, ...]]:
    """A model's own rules, without those that name an axis that the mesh has not."""
    given = {pattern: tuple(spec) for pattern, spec in (rules or {}).items()}
    return {pattern: spec for pattern, spec in given.items() if set(names(spec)) <= set(mesh.axis_names)}


def state_shapes(tx: optax.GradientTransformation, params: Any, layout: Any) -> Any:
    """The state of parameters that lie as `layout` says, as `jax.ShapeDtypeStruct` with shardings.

    The shardings are types there (`AxisType.Explicit`), so that what is made of a parameter lies as it does, and blocks
    of codes are those of a device's part.
    """
    shardings = jax.tree.leaves(layout)
    if not shardings:
        return jax.eval_shape(tx.init, params)
    mesh = explicit(shardings[0].mesh)

    def typed(p: Any, sharding: NamedSharding) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(jnp.shape(p), jnp.result_type(p), sharding=NamedSharding(mesh, sharding.spec))

    with jax.sharding.use_abstract_mesh(mesh):
        return jax.eval_shape(tx.init, jax.tree.map(typed, params, layout))


def slots_sharding(params: Any, mesh: AnyMesh, zero: int, axis: str) -> Any:
    """Where an array like each parameter lies in the state."""

    def one(p: Any) -> NamedSharding:
        spec = spec_of(p)
        return NamedSharding(mesh, cut(spec, jnp.shape(p), mesh, axis) if zero else spec)

    return jax.tree.map(one, params)


def cut(spec: PartitionSpec, shape: tuple[int, ...], mesh: AnyMesh, axis: str) -> PartitionSpec:
    """The spec with one more of the array's axes cut along the mesh axis: the first that is whole and can be divided.

    One that is cut already is taken only if there is none; an array of which no axis can be divided stays as it is.
    """
    entries = [*spec, *[None] * (len(shape) - len(spec))]
    if axis in names(entries) or 0 in shape or mesh.shape[axis] == 1:
        return spec
    places = sorted(range(len(shape)), key=lambda place: entries[place] is not None)
    for place in places:
        joined = (*names([entries[place]]), axis)
        if _divides(mesh, joined, shape[place]):
            entries[place] = joined if len(joined) > 1 else axis
            return PartitionSpec(*entries)
    return spec


def spec_of(p: Any) -> PartitionSpec:
    """How an array lies on its mesh; in one piece where that is not known."""
    sharding = getattr(p, "sharding", None) if not isinstance(p, jax.core.Tracer) else jax.typeof(p).sharding
    return sharding.spec if isinstance(sharding, NamedSharding) else PartitionSpec()


def explicit(mesh: AnyMesh) -> AbstractMesh:
    """The mesh with shardings as types."""
    abstract = mesh.abstract_mesh if isinstance(mesh, Mesh) else mesh
    return abstract.update(axis_types=(AxisType.Explicit,) * len(mesh.axis_names))


def check_zero(mesh: AnyMesh, zero: int, axis: str) -> None:
    """Raises ValueError unless it is 0 or 1, and the mesh has the axis."""
    if zero not in (0, 1) or isinstance(zero, bool):
        raise ValueError(
            f"zero must be 0 (state lies as the parameters) or 1 (state is cut along {axis!r}), got {zero!r}"
        )
    if zero:
        check_axis(mesh, axis, "zero=1")


def _check_rule(pattern: str, spec: Any, mesh: AnyMesh) -> None:
    if isinstance(spec, str) or not isinstance(spec, Sequence):
        raise TypeError(
            f"the rule {pattern!r} must give a mesh axis or None for each axis, as (None, 'model'), got {spec!r}"
        )
    for name in names(spec):
        check_axis(mesh, name, f"the rule {pattern!r}")
    if len(set(names(spec))) < len(names(spec)):
        raise ValueError(f"the rule {pattern!r} cuts two axes along one of the mesh: {tuple(spec)}")


def names(spec: Sequence[Any]) -> list[str]:
    """The mesh axes that a spec uses."""
    return [name for entry in spec for name in (entry if isinstance(entry, tuple) else (entry,)) if name is not None]


def _divides(mesh: AnyMesh, entry: Any, size: int) -> bool:
    return size % math.prod(mesh.shape[name] for name in names([entry])) == 0
