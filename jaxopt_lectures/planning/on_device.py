"""Bytes on one device of what lies on a mesh, from shapes alone: exact."""

import math
import re
from typing import Any, NamedTuple

import jax
import optax
from jax.sharding import AbstractMesh

from jaxopt_lectures.core.paths import path_text
from jaxopt_lectures.planning.residuals import size_of
from jaxopt_lectures.scaling.layouts import Rules, names, params_sharding, placed, placed_state


class Lying(NamedTuple):
    """Bytes on each device.

    Attributes:
      size: all of them.
      whole: those of arrays that should have been cut and were not, as no axis can be divided.
      arrays: how many arrays that are.
    """

    size: int
    whole: int = 0
    arrays: int = 0


def on_mesh(params: Any, mesh: AbstractMesh, rules: Rules, spread: str | None) -> Any:
    """The parameters as shapes that know where they lie."""
    return placed(params, params_sharding(params, mesh, rules, spread=spread))


def state_on_device(tx: optax.GradientTransformation, params: Any, mesh: AbstractMesh, zero: int, axis: str) -> Lying:
    """Of the optimizer's state for parameters that are placed; whole are those that `zero` did not cut."""
    size = whole = arrays = 0
    for x in jax.tree.leaves(placed_state(tx, params, mesh, zero, axis)):
        mine = here(x, x.sharding)
        size += mine
        if zero and mesh.shape[axis] > 1 and x.size > 1 and axis not in names(x.sharding.spec):
            whole, arrays = whole + mine, arrays + 1
    return Lying(size, whole, arrays)


def missed(params: Any, rules: Rules) -> dict[str, int]:
    """The placed parameters that a rule wanted to cut and the mesh did not divide, and their bytes on each device.

    They are named with their shape, "tokens/embedding (50257, 768)".
    """
    leaves = jax.tree_util.tree_leaves_with_path(params)
    return {f"{path_text(path)} {p.shape}": here(p, p.sharding) for path, p in leaves if _is_missed(path, p, rules)}


def local(params: Any) -> Any:
    """The parts of placed parameters that one device has, as shapes."""
    return jax.tree.map(lambda p: jax.ShapeDtypeStruct(p.sharding.shard_shape(p.shape), p.dtype), params)


def largest(params: Any) -> int:
    """Bytes of the largest part that a device has of a parameter."""
    return max((here(p, p.sharding) for p in jax.tree.leaves(params)), default=0)


def at_once(params: Any) -> int:
    """Bytes of what is there while a step is taken on the largest: slot or gradient in float32, update, new value."""

    def one(p: Any) -> int:
        mine = here(p, p.sharding)
        return 2 * mine + max(4, p.dtype.itemsize) * (mine // p.dtype.itemsize)

    return max(map(one, jax.tree.leaves(params)), default=0)


def here(x: Any, where: Any) -> int:
    """Bytes on each device of one array that lies so."""
    if not x.size:
        return 0
    return size_of(x) // int(x.size) * math.prod(where.shard_shape(x.shape))


def _is_missed(path: Any, p: Any, rules: Rules) -> bool:
    """Whether a rule names an axis of the mesh that the parameter is not cut along."""
    wanted = next((spec for pattern, spec in rules.items() if re.search(pattern, path_text(path))), ())
    sizes = p.sharding.mesh.shape
    return any(sizes[name] > 1 and name not in names(p.sharding.spec) for name in names(wanted))
