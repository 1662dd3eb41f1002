"""Where the arrays of a training lie on a mesh of devices.

The program is that of one device; the compiler divides it by where its arrays lie. The batch is cut along the axis
"data", parameters lie as rules by path say, state where `shard` keeps it, and everything else on every device.
"""

from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxopt_lectures.scaling.layouts import Rules, params_sharding, rules_on, slots_sharding
from jaxopt_lectures.scaling.layouts import placed as placed_at
from jaxopt_lectures.scaling.meshes import Sizes, mesh_of, text
from jaxopt_lectures.scaling.shard import laid, shard
from jaxopt_lectures.tasks.task import Task
from jaxopt_lectures.training.parts import parts

AXIS = "data"
"""The mesh axis along which batches are cut."""


@dataclass(frozen=True)
class Placement:
    """A mesh, and what lies where on it.

    Attributes:
      mesh: of devices.
      zero: 0, state lies as the parameters; 1, it is cut along "data"; 3, the parameters are, too.
      rules: pattern and mesh axes, as `params_sharding` takes them.
      scatter: whether gradients are added up where the state lies, written down and not left to the compiler.
      layout: where each parameter lies; follows from the rest and the task.
    """

    mesh: Mesh
    zero: int
    rules: tuple[tuple[str, tuple[Any, ...]], ...]
    scatter: bool
    layout: Any = field(compare=False, repr=False)

    @property
    def whole(self) -> NamedSharding:
        """On every device."""
        return NamedSharding(self.mesh, PartitionSpec())

    def optimizer(self, tx: optax.GradientTransformation) -> optax.GradientTransformation:
        """The optimizer with its state in its place."""
        return shard(tx, self.mesh, min(self.zero, 1), AXIS, params=self.layout)

    def examples(self, part: Any) -> jax.Array:
        """All examples of a part on the mesh: divided, if their number can be."""
        fits = AXIS in self.mesh.axis_names and len(part) % self.mesh.shape[AXIS] == 0
        return put(part, NamedSharding(self.mesh, PartitionSpec(AXIS)) if fits else self.whole)

    def divided(self, batch: Any, axis: int = 0) -> Any:
        """The batch with the examples, which that axis counts, cut along "data"; inside of `jax.jit`."""
        spec = PartitionSpec(*[None] * axis, AXIS) if AXIS in self.mesh.axis_names else PartitionSpec()
        return jax.lax.with_sharding_constraint(batch, NamedSharding(self.mesh, spec))

    def kept(self, params: Any, others: Any) -> tuple[Any, Any]:
        """Parameters where they belong and other arrays on every device; inside of `jax.jit`."""
        everywhere = jax.tree.map(lambda _: self.whole, others)
        return laid(params, self.layout), jax.lax.with_sharding_constraint(others, everywhere)

    def gradients(self, params: Any) -> Any:
        """Where gradients of these parameters are to lie: where the state does."""
        return slots_sharding(placed_at(params, self.layout), self.mesh, min(self.zero, 1), AXIS)

    def told(self) -> dict[str, Any]:
        """What `run.json` says of it."""
        return {"mesh": text(self.mesh.shape), "zero": self.zero, "processes": jax.process_count()}


def placed(
    task: Task, mesh: Mesh | Sizes | None, zero: Any, rules: Rules | None, scatter: bool, accumulate: int
) -> Placement | None:
    """The placement that was asked for, checked; None on one device. See `fit` for what raises."""
    if zero not in (0, 1, 3) or isinstance(zero, bool):
        raise ValueError(
            f"zero must be 0 (state as the parameters), 1 (state cut along 'data') or 3 (parameters, too), got {zero!r}"
        )
    if not isinstance(scatter, bool):
        raise TypeError(f"scatter must be True or False, got {scatter!r}")
    if mesh is None and jax.process_count() > 1:
        mesh = {AXIS: jax.device_count()}
    if mesh is None:
        if rules is not None or scatter:
            raise ValueError(f"{'scatter' if scatter else 'rules'} needs a mesh: mesh='data={jax.device_count()}'")
        return None
    found = mesh_of(mesh)
    if AXIS not in found.axis_names and (zero or scatter):
        what = "scatter=True" if scatter else f"zero={zero}"
        raise ValueError(
            f"{what} cuts along the axis {AXIS!r}, the mesh has {text(found.shape)}: name one of its axes {AXIS!r}, or "
            "choose zero=0 and scatter=False"
        )
    if found.are_all_axes_explicit or any(kind != jax.sharding.AxisType.Auto for kind in found.axis_types):
        raise ValueError("fit needs a mesh whose axes the compiler handles: jol.mesh_of('data=4'), or AxisType.Auto")
    batch, size = task.batch_size // accumulate, found.shape.get(AXIS, 1)
    if batch % size:
        cut = f" in accumulate={accumulate} parts" if accumulate > 1 else ""
        raise ValueError(
            f"a batch of {task.batch_size}{cut} cannot be divided by {AXIS}={size}: choose a multiple of "
            f"{size * accumulate}"
        )
    params, rest = parts(task).start(0)
    if scatter and jax.tree.leaves(rest):
        raise ValueError(
            f"scatter=True: the model of task {task.name!r} keeps batch statistics or random keys, which belong to the "
            "whole batch: leave scatter=False"
        )
    own = getattr(type(task.model(0)), "mesh_rules", None) if rules is None else None
    known = rules_on(found, own) if rules is None else {pattern: tuple(spec) for pattern, spec in rules.items()}
    layout = params_sharding(params, found, known, spread=AXIS if zero == 3 else None)
    return Placement(found, zero, tuple(known.items()), scatter, layout)


def put(tree: Any, sharding: Any) -> Any:
    """Arrays that every process has, on the devices of all: nothing is sent.

    Args:
      tree: of arrays.
      sharding: of all of them, or a tree of shardings.
    """
    if isinstance(sharding, jax.sharding.Sharding):
        return jax.tree.map(lambda leaf: _put(leaf, sharding), tree)
    return jax.tree.map(_put, tree, sharding)


def _put(leaf: Any, sharding: Any) -> jax.Array:
    if hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return jax.random.wrap_key_data(_put(jax.random.key_data(leaf), sharding), impl=jax.random.key_impl(leaf))
    numbers = np.asarray(leaf)
    return jax.make_array_from_callback(numbers.shape, sharding, lambda index: numbers[index])


def beside(leaf: Any, other: jax.Array) -> jax.Array:
    """An array whole on each device that the other lies on; where no mesh is meant, on the default device."""
    sharding = other.sharding
    if not isinstance(sharding, NamedSharding):
        return jnp.asarray(leaf)
    return put(np.asarray(leaf), NamedSharding(sharding.mesh, PartitionSpec()))


def here(tree: Any) -> Any:
    """The arrays in whole on a device of this process, where they lie on devices of several processes."""
    leaves = jax.tree.leaves(tree)
    if not leaves or all(leaf.is_fully_addressable for leaf in leaves):
        return tree
    mesh = next(leaf.sharding.mesh for leaf in leaves if not leaf.is_fully_addressable)
    whole = jax.jit(lambda tree: tree, out_shardings=NamedSharding(mesh, PartitionSpec()))(tree)
    return jax.tree.map(lambda leaf: leaf.addressable_data(0), whole)
