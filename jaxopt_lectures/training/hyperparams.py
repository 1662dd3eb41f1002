"""The values that scheduled hyper-parameters have at a step, for the history."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxopt_lectures.core.transformation import Transformation


def scheduled(tx: optax.GradientTransformation, opt_state: Any, count: int) -> dict[str, float]:
    """Name -> value of every hyper-parameter that follows a schedule.

    Args:
      tx: ours tell their schedules; of optax's those made by `optax.inject_hyperparams` have them in their state.
      opt_state: its state.
      count: updates so far; the value is that of the last one.
    """
    count = max(count - 1, 0)
    found: dict[str, float] = {}
    told = {id(hyper): (name, hyper) for part in _parts(tx) for name, hyper in part.hypers.items()}
    for name, hyper in told.values():  # a wrapper may tell those of its part again
        if callable(hyper.value):
            _add(found, name, float(hyper.value(jnp.asarray(count))))
    injected = jax.tree.leaves(opt_state, is_leaf=_is_injected)
    for state in filter(_is_injected, injected):
        for name, value in state.hyperparams.items():
            if jnp.ndim(value) == 0:
                _add(found, name, float(value))
    return found


def _parts(tx: Any) -> list[Transformation]:
    """The transformation and all that it is made of."""
    if not isinstance(tx, Transformation):
        return []
    return [tx, *(inner for part in tx.parts for inner in _parts(part))]


def _is_injected(state: Any) -> bool:
    return hasattr(state, "hyperparams") and isinstance(state.hyperparams, dict)


def _add(found: dict[str, float], name: str, value: float) -> None:
    """Under a name of its own: a chain may have two rates."""
    number = 2
    unique = name
    while unique in found:
        unique, number = f"{name}_{number}", number + 1
    found[unique] = value
