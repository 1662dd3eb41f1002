"""Hyper-parameters as arrays in a state, and how to change them in a running program, without compiling it again."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxopt_lectures.core.checks import interval, known_number


@jax.tree_util.register_static
@dataclass(frozen=True)
class Declared:
    """What a state knows of its hyper-parameters beside their values: it is part of its type.

    Attributes:
      scheduled: names of those that follow a schedule.
      ranges: name, least, largest and whether the largest is allowed, for those with a range.
    """

    scheduled: tuple[str, ...]
    ranges: tuple[tuple[str, float, float, bool], ...]


class HyperparamsState(NamedTuple):
    """Live hyper-parameters.

    Attributes:
      count: steps taken, () int32.
      hyperparams: the values by name, () float32 (float64 for float64 parameters); scheduled ones as at the last step.
      inner_state: state of the transformation.
      declared: which are scheduled, and the ranges; no arrays.
    """

    count: jax.Array
    hyperparams: dict[str, jax.Array]
    inner_state: Any
    declared: Declared

    def metrics(self) -> dict[str, Any]:
        """What `jol.metrics` gives."""
        return {"hyperparams": self.hyperparams}


def set_hyperparams(state: Any, **values: Any) -> Any:
    """The state with other values of live hyper-parameters, of their dtype and in their place; nothing compiles again.

    Args:
      state: any optimizer state that has live ones in it, from `with_hyperparams` or `optax.inject_hyperparams`. Where
        several have one of that name, all are set.
      values: numbers, or scalar arrays, traced too, by name.

    Raises:
      TypeError: a value that is no number.
      ValueError: a name that no state has, or whose value a schedule gives; a number outside its range.
    """
    nodes = list(_nodes(state))
    known = {name for node in nodes for name in node.hyperparams}
    scheduled = {name for node in nodes for name in _scheduled(node)}
    for name, value in values.items():
        if name not in known:
            raise ValueError(f"no hyper-parameter {name!r} in the state; it has {', '.join(sorted(known)) or 'none'}")
        if name in scheduled:
            raise ValueError(f"{name} follows a schedule, which gives its value at each step: build it with a number")
        if callable(value):
            raise TypeError(f"{name} must be a number; schedules are given to the factory, got {value!r}")
        if jnp.shape(value) == ():
            known_number(name, value)
    return _with_values(state, values)


def _nodes(state: Any) -> Iterable[Any]:
    """The states with live hyper-parameters, from the outermost inwards."""
    if _is_live(state):
        yield state
    for node in jax.tree.leaves(state, is_leaf=lambda node: node is not state and _is_live(node)):
        if _is_live(node):
            yield from _nodes(node)


def _with_values(state: Any, values: Mapping[str, Any]) -> Any:
    def one(node: Any) -> Any:
        if not _is_live(node):
            return node
        ranges = {name: allowed for name, *allowed in getattr(getattr(node, "declared", None), "ranges", ())}
        new = {
            name: jax.tree.map(lambda x, name=name: _set(name, x, values[name], ranges.get(name)), old)
            if name in values
            else old
            for name, old in node.hyperparams.items()
        }
        return node._replace(hyperparams=new, inner_state=_with_values(node.inner_state, values))

    return jax.tree.map(one, state, is_leaf=_is_live)


def _set(name: str, old: jax.Array, value: Any, allowed: Any) -> jax.Array:
    """The value in the dtype, shape and place of the old one."""
    if allowed is not None and jnp.shape(value) == ():
        interval(name, value, allowed[0], allowed[1], closed=allowed[2])
    if jnp.shape(value) not in ((), old.shape):
        raise ValueError(f"{name} must be a scalar, or of the shape of the values that it replaces, {old.shape}")
    new = jnp.broadcast_to(jnp.asarray(value).astype(old.dtype), old.shape)
    there = isinstance(old, jax.Array) and not isinstance(old, jax.core.Tracer) and old.committed
    return jax.device_put(new, old.sharding) if there and not isinstance(new, jax.core.Tracer) else new


def _scheduled(node: Any) -> Iterable[str]:
    declared = getattr(node, "declared", None)
    return declared.scheduled if declared is not None else getattr(node, "hyperparams_states", ())


def _is_live(node: Any) -> bool:
    return isinstance(getattr(node, "hyperparams", None), dict) and hasattr(node, "_replace")
