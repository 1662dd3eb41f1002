"""Where the arrays of one sharded transformation lie, and how they get there."""

import warnings
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import AbstractMesh, AxisType, Mesh, NamedSharding, PartitionSpec

from jaxopt_lectures.core.paths import path_text, paths_of
from jaxopt_lectures.scaling.layouts import AnyMesh, cut, names, slots_sharding, spec_of, state_sharding
from jaxopt_lectures.scaling.meshes import text
from jaxopt_lectures.wrappers.wrapped import treated


class Home:
    """The places of a transformation's parameters and state; what was found for some shapes is not looked for again.

    Args:
      tx: the transformation.
      mesh: of devices.
      zero: 0 or 1, see `shard`.
      axis: the mesh axis that `zero=1` cuts along.
      params: a tree of arrays or shardings, or None.
      memory_kind: of the state; that of the devices if None.
    """

    def __init__(self, tx: Any, mesh: Mesh, zero: int, axis: str, params: Any, memory_kind: str | None) -> None:
        self.tx, self.mesh, self.zero, self.axis, self.memory_kind = tx, mesh, zero, axis, memory_kind
        self.given = None if params is None else _by_path(jax.tree.map(_sharding_of, params))
        self._known: dict[Any, Any] = {}

    @property
    def over(self) -> AnyMesh:
        """The mesh; while a program is traced in which shardings are types, that program's, if it has the same axes."""
        around = jax.sharding.get_abstract_mesh()
        return around if is_typed(around) and set(self.mesh.axis_names) <= set(around.axis_names) else self.mesh

    def placed(self, tree: Any, params: Any = None) -> Any:
        """Parameters, or gradients of `params`, as shapes with the shardings of the parameters."""
        known = _by_path(tree if params is None else params) if self.given is None else self.given

        def one(path: Any, p: Any) -> jax.ShapeDtypeStruct:
            sharding = NamedSharding(self.over, self._spec(path_text(path), known))
            return jax.ShapeDtypeStruct(jnp.shape(p), jnp.result_type(p), sharding=sharding)

        return jax.tree_util.tree_map_with_path(one, tree)

    def slots(self, shapes: Any) -> Any:
        """Where an array like each parameter lies in the state."""
        return slots_sharding(shapes, self.over, self.zero, self.axis)

    def state(self, shapes: Any) -> Any:
        """Where each array of the state lies."""
        leaves, treedef = jax.tree.flatten(shapes)
        key = treedef, tuple((p.shape, p.dtype, p.sharding) for p in leaves)
        if key not in self._known:
            self._known[key] = state_sharding(self.tx, shapes, self.over, self.zero, self.axis, self.memory_kind)
        return self._known[key]

    def put(self, state: Any, shardings: Any) -> Any:
        """The state where it is kept."""
        return laid(state, shardings) if self.memory_kind is None else jax.device_put(state, shardings)

    def fetched(self, state: Any, shardings: Any) -> Any:
        """The state where it is computed with."""
        if self.memory_kind is None:
            return state
        kind = str(self.mesh.devices.flat[0].default_memory().kind)
        return jax.device_put(state, jax.tree.map(lambda kept: kept.with_memory_kind(kind), shardings))

    def warn(self, shapes: Any, away: Any) -> None:
        """Tells of a cut that cuts nothing, and of places that will not be seen."""
        leaves, size = jax.tree.leaves(shapes), self.mesh.shape.get(self.axis, 1)
        cuts = [self.axis in names(sharding.spec) for sharding in jax.tree.leaves(away)]
        if self.zero and size > 1 and leaves and not any(cuts):
            over = f"{self.axis}={size}"
            warnings.warn(f"zero=1 cuts nothing: {over} divides no axis of any parameter", stacklevel=3)
        seen = self.given is not None or is_typed(self.mesh)
        if not seen and any(names(p.sharding.spec) for p in leaves):
            warnings.warn(
                "parameters are cut, which cannot be seen inside of jax.jit: tell where they lie, shard(params=layout)",
                stacklevel=3,
            )

    def told(self, path: str, p: Any) -> str:
        """What is done with one parameter, and where its state lies."""
        spec = self._spec(path, {path: p} if self.given is None else self.given)
        after = cut(spec, jnp.shape(p), self.mesh, self.axis) if self.zero else spec
        over = f"{self.axis}={self.mesh.shape.get(self.axis)}"
        lies = f"as the parameter, {spec}" if names(spec) else "on every device"
        if after != spec:
            place = next(at for at, entry in enumerate(after) if self.axis in names([entry]))
            lies = f"cut over {over}, axis {place}"
        elif self.zero and self.axis not in names(spec):
            lies += f": {over} divides no axis" if self.mesh.shape[self.axis] > 1 else ""
        return f"shard({treated(self.tx, path, p)}; {lies})"

    def _spec(self, path: str, known: dict[str, Any]) -> PartitionSpec:
        if path not in known:
            raise ValueError(f"shard's params has no sharding of parameter {path!r}; it has {', '.join(known)}")
        spec = known[path].spec if isinstance(known[path], NamedSharding) else spec_of(known[path])
        strange = [name for name in names(spec) if name not in self.mesh.axis_names]
        if strange:
            raise ValueError(
                f"parameter {path!r} is cut along {strange[0]!r}, an axis of another mesh; shard was given "
                f"{text(self.mesh.shape)}"
            )
        return spec


def is_traced(tree: Any) -> bool:
    """Whether some of it is an argument of a program that is being traced."""
    return any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(tree))


def is_typed(mesh: AnyMesh) -> bool:
    """Whether shardings over the mesh are types."""
    return not mesh.empty and mesh.are_all_axes_explicit


def laid(tree: Any, shardings: Any) -> Any:
    """The arrays where the shardings say."""
    if not is_traced(tree):
        return jax.device_put(tree, shardings)
    if any(is_typed(sharding.mesh) for sharding in jax.tree.leaves(shardings)):
        return jax.tree.map(jax.sharding.reshard, tree, shardings)
    return jax.lax.with_sharding_constraint(tree, shardings)


def typed(function: Callable[..., Any], mesh: AnyMesh, layout: Any) -> Callable[..., Any]:
    """The function of arrays that lie so, with the shardings as types in it: what it makes of them lies as they do."""
    if is_typed(mesh):
        return lambda arrays: function(laid(arrays, layout))
    abstract = mesh if isinstance(mesh, AbstractMesh) else mesh.abstract_mesh
    specs = jax.tree.map(lambda sharding: sharding.spec, layout)

    def run(arrays: Any) -> Any:
        with jax.sharding.use_abstract_mesh(abstract):
            return jax.sharding.explicit_axes(function, axes=mesh.axis_names, in_sharding=(specs,))(arrays)

    return run


def check_types(mesh: Mesh) -> None:
    """Raises ValueError unless the axes are all the compiler's, or all types."""
    if len(set(mesh.axis_types)) > 1 or AxisType.Manual in mesh.axis_types:
        raise ValueError(f"shard's mesh must have axes that are all Auto, or all Explicit, got {mesh.axis_types}")


def check_memory(mesh: Mesh, kind: str | None) -> None:
    """Raises ValueError unless the devices have that memory."""
    device = mesh.devices.flat[0]
    known = [memory.kind for memory in device.addressable_memories()] if kind is not None else []
    if kind is not None and kind not in known:
        raise ValueError(
            f"memory_kind={kind!r}: {device.platform} devices have {', '.join(known)}; leave it out to keep the state "
            "on the devices"
        )


def _by_path(tree: Any) -> dict[str, Any]:
    return dict(zip(paths_of(tree), jax.tree.leaves(tree), strict=True))


def _sharding_of(p: Any) -> NamedSharding:
    """Where a parameter lies, of an array or of the sharding itself."""
    found = p if isinstance(p, NamedSharding) else getattr(p, "sharding", None)
    if not isinstance(found, NamedSharding):
        raise TypeError(f"params must be a tree of arrays on the mesh or of jax.sharding.NamedSharding, got {found!r}")
    return found
