"""`shard`: any optimizer with its state in its place on a mesh, from the first moment on."""

import contextlib
from typing import Any

import jax
import optax
from jax.sharding import Mesh

from jaxopt_lectures.core.transformation import Transformation, couples_of
from jaxopt_lectures.scaling.home import Home, check_memory, check_types, is_traced, is_typed, laid, typed
from jaxopt_lectures.scaling.layouts import check_zero
from jaxopt_lectures.scaling.meshes import Sizes, mesh_of
from jaxopt_lectures.wrappers.wrapped import wrapped


def shard(
    tx: optax.GradientTransformation,
    mesh: Mesh | Sizes,
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
      mesh: as of `jax.make_mesh`, or "data=4,model=2".
      zero: 0 or 1.
      axis: the mesh axis along which the batch is divided.
      params: where the parameters lie, a tree of arrays or shardings as of `params_sharding`, in which they are found
        by their paths, so `shard` may have some of them only (`by_path`). If None, arrays are asked where they lie;
        inside of `jax.jit`, where that cannot be seen, they are taken to lie on every device in whole.
      memory_kind: "pinned_host" keeps the state in the host's memory, from where each step fetches it.

    Raises:
      TypeError: `tx` is not a transformation, `mesh` no mesh of devices.
      ValueError: another `zero`, an axis that the mesh has not (with `zero=1`), a memory that the devices have not, a
        mesh of which some axes are `AxisType.Auto` and others `Explicit`; from `init` and `update`, a parameter that
        `params` has no sharding of, or that lies on another mesh.
    """
    inner, mesh = wrapped(tx, "shard's argument"), mesh_of(mesh)
    check_types(mesh)
    check_zero(mesh, zero, axis)
    check_memory(mesh, memory_kind)
    home = Home(tx, mesh, zero, axis, params, memory_kind)

    def init(params: Any) -> Any:
        shapes = home.placed(params)
        away, shardings = home.slots(shapes), home.state(shapes)
        made = typed(tx.init, home.over, away)
        if is_traced(params):
            return home.put(made(params), shardings)
        home.warn(shapes, away)
        return jax.jit(made, out_shardings=shardings)(jax.device_put(params, away))

    def update(updates: Any, state: Any, params: Any = None, **extra: Any) -> Any:
        gradients = home.placed(updates, params)
        shapes = gradients if params is None else home.placed(params)
        shardings = home.state(shapes)
        near = None if params is None else laid(params, home.slots(shapes))
        far = laid(updates, home.slots(gradients))
        types = is_typed(home.over)
        with contextlib.nullcontext() if types else jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
            steps, state = inner.update(far, home.fetched(state, shardings), near, **extra)
        steps = laid(steps, jax.tree.map(lambda p: p.sharding, gradients))
        return steps, home.put(state, shardings)

    return Transformation(
        init,
        update,
        couples=couples_of(tx),
        parts=(tx,),
        again=lambda part: shard(part, mesh, zero, axis, params=params, memory_kind=memory_kind),
        title="shard",
        treatment=home.told,
    )
