"""`shard`: any optimizer with its state in its place on a mesh, from the first moment on."""

import warnings
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh, NamedSharding

from jaxopt_lectures.core.paths import paths_of
from jaxopt_lectures.core.transformation import Transformation, couples_of
from jaxopt_lectures.scaling.layouts import check_zero, cut, names, slots_sharding, spec_of, state_sharding
from jaxopt_lectures.wrappers.wrapped import treated, wrapped


def shard(
    tx: optax.GradientTransformation,
    mesh: Mesh,
    zero: int = 0,
    axis: str = "data",
    *,
    params: Any = None,
    memory_kind: str | None = None,
) -> Transformation:
    """Keeps the state where it belongs: `shard(adamw(1e-3), mesh, zero=1)` keeps 1/N of it on each of N devices.

    The state lies as the parameters do; with `zero=1` (ZeRO-1) it is also cut along `axis` wherever they are not. Then
    each device takes the step of its part, and the updates are gathered to where the parameters lie. `init` makes the
    state in its place, encoded (`store`) or not; the numbers are those without `shard`. Methods that look at whole
    matrices divide them among the devices. An array of which no axis can be divided stays whole: `jol.explain` says so.

    Args:
      tx: the transformation, ours or optax's.
      mesh: as of `jax.make_mesh`, or of `mesh_of("data=4,model=2")`.
      zero: 0 or 1.
      axis: the mesh axis along which the batch is divided.
      params: where the parameters lie, a tree of arrays or shardings as of `params_sharding`. If None, arrays are asked
        where they lie; inside of `jax.jit`, where that cannot be seen, they are taken to lie on every device in whole.
      memory_kind: "pinned_host" keeps the state in the host's memory, from where each step fetches it.

    Raises:
      TypeError: `tx` is not a transformation.
      ValueError: an axis that the mesh has not, another `zero`, a memory that the devices have not.
    """
    inner = wrapped(tx, "shard's argument")
    check_zero(mesh, zero, axis)
    check_memory(mesh, memory_kind)
    home = _Home(tx, mesh, zero, axis, params, memory_kind)

    def init(params: Any) -> Any:
        shapes = home.placed(params)
        away, shardings = home.slots(shapes), home.state(shapes)
        if zero and not any(axis in names(sharding.spec) for sharding in jax.tree.leaves(away)):
            over = f"{axis}={mesh.shape[axis]}"
            warnings.warn(f"zero=1 cuts nothing: {over} divides no axis of any parameter", stacklevel=2)

        def made(params: Any) -> Any:
            return _typed(tx.init, mesh, jax.tree.map(lambda sharding: sharding.spec, away))(params)

        if any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(params)):
            return laid(made(params), shardings)
        return jax.jit(made, out_shardings=shardings)(jax.device_put(params, away))

    def update(updates: Any, state: Any, params: Any = None, **extra: Any) -> Any:
        shapes = home.placed(updates if params is None else params)
        away, shardings = home.slots(shapes), home.state(shapes)
        near = None if params is None else laid(params, away)
        if memory_kind is not None:
            state = jax.device_put(state, jax.tree.map(lambda kept: kept.with_memory_kind(_default(mesh)), shardings))
        with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
            steps, state = inner.update(laid(updates, away), state, near, **extra)
        steps = laid(steps, jax.tree.map(lambda p: p.sharding, shapes))
        return steps, laid(state, shardings) if memory_kind is None else jax.device_put(state, shardings)

    return Transformation(
        init,
        update,
        couples=couples_of(tx),
        parts=(tx,),
        again=lambda part: shard(part, mesh, zero, axis, params=params, memory_kind=memory_kind),
        title="shard",
        treatment=home.told,
    )


class _Home:
    """Where things lie; what was found for parameters of some shapes is not looked for again."""

    def __init__(self, tx: Any, mesh: Mesh, zero: int, axis: str, params: Any, memory_kind: str | None) -> None:
        self.tx, self.mesh, self.zero, self.axis, self.memory_kind = tx, mesh, zero, axis, memory_kind
        self.given = None if params is None else jax.tree.map(_sharding_of, params)
        self._known: dict[Any, Any] = {}

    def placed(self, params: Any) -> Any:
        """The parameters as shapes, with the shardings that they have."""
        if self.given is None:
            layout = jax.tree.map(lambda p: NamedSharding(self.mesh, spec_of(p)), params)
        else:
            layout = self.given

        def one(p: Any, sharding: NamedSharding) -> jax.ShapeDtypeStruct:
            return jax.ShapeDtypeStruct(jnp.shape(p), jnp.result_type(p), sharding=sharding)

        return jax.tree.map(one, params, layout)

    def slots(self, shapes: Any) -> Any:
        return slots_sharding(shapes, self.mesh, self.zero, self.axis)

    def state(self, shapes: Any) -> Any:
        leaves, treedef = jax.tree.flatten(shapes)
        key = treedef, tuple((p.shape, p.dtype, p.sharding) for p in leaves)
        if key not in self._known:
            self._known[key] = state_sharding(self.tx, shapes, self.mesh, self.zero, self.axis, self.memory_kind)
        return self._known[key]

    def told(self, path: str, p: Any) -> str:
        """What is done with one parameter, and where its state lies."""
        known = {} if self.given is None else dict(zip(paths_of(self.given), jax.tree.leaves(self.given), strict=True))
        spec, over = known[path].spec if known else spec_of(p), f"{self.axis}={self.mesh.shape.get(self.axis)}"
        after = cut(spec, jnp.shape(p), self.mesh, self.axis) if self.zero else spec
        lies = f"as the parameter, {spec}" if names(spec) else "on every device"
        if after != spec:
            place = next(at for at, entry in enumerate(after) if self.axis in names([entry]))
            lies = f"cut over {over}, axis {place}"
        elif self.zero and self.axis not in names(spec):
            lies += f": {over} divides no axis"
        return f"shard({treated(self.tx, path, p)}; {lies})"


def laid(tree: Any, shardings: Any) -> Any:
    """The arrays where the shardings say."""
    if any(sharding.mesh.are_all_axes_explicit for sharding in jax.tree.leaves(shardings)):
        return jax.tree.map(jax.sharding.reshard, tree, shardings)
    return jax.lax.with_sharding_constraint(tree, shardings)


def check_memory(mesh: Mesh, kind: str | None) -> None:
    """Raises ValueError unless the devices have that memory."""
    device = mesh.devices.flat[0]
    known = [memory.kind for memory in device.addressable_memories()] if kind is not None else []
    if kind is not None and kind not in known:
        raise ValueError(
            f"memory_kind={kind!r}: {device.platform} devices have {', '.join(known)}; leave it out to keep the state "
            "on the devices"
        )


def _typed(function: Callable[..., Any], mesh: Mesh, specs: Any) -> Callable[..., Any]:
    """The function of arrays that lie so, with the shardings as types in it: what it makes of them lies as they do."""

    def run(params: Any) -> Any:
        if mesh.are_all_axes_explicit:
            return function(laid(params, jax.tree.map(lambda spec: NamedSharding(mesh, spec), specs)))
        with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
            return jax.sharding.explicit_axes(function, axes=mesh.axis_names, in_sharding=(specs,))(params)

    return run


def _default(mesh: Mesh) -> str:
    """The memory that the devices compute in."""
    return str(mesh.devices.flat[0].default_memory().kind)


def _sharding_of(p: Any) -> NamedSharding:
    """Where a parameter lies, of an array or of the sharding itself."""
    found = p if isinstance(p, NamedSharding) else getattr(p, "sharding", None)
    if not isinstance(found, NamedSharding):
        raise TypeError(f"params must be a tree of arrays on the mesh or of jax.sharding.NamedSharding, got {found!r}")
    return found
