"""What states tell of a run: each state class that has a method `metrics()` is asked, wherever it stands."""

from collections.abc import Iterator
from typing import Any

import jax

from jaxopt_lectures.core.paths import path_text


def metrics(state: Any) -> dict[str, jax.Array]:
    """What the states in `state` tell, flat: `{"grad_norm/encoder/0/kernel": ..., "skipped_nonfinite": ...}`.

    A state tells by a method `metrics()` that returns arrays, or trees of them, by name: those of `probe`,
    `skip_spikes`, `skip_nonfinite` and `with_hyperparams` do, and any of yours. Nothing is computed, so it costs
    nothing inside `jit`. Of two states that tell the same name the second's ends in "_2".

    Args:
      state: any optimizer state: ours, optax's, chains and wrappers of both.
    """
    found: dict[str, jax.Array] = {}
    for node in _telling(state):
        for name, value in node.metrics().items():
            for path, leaf in jax.tree_util.tree_leaves_with_path(value):
                _add(found, f"{name}/{path_text(path)}".rstrip("/"), leaf)
    return found


def _telling(state: Any) -> Iterator[Any]:
    """The states that have something to tell, from the outermost inwards."""
    if _tells(state):
        yield state
    for node in jax.tree.leaves(state, is_leaf=lambda node: node is not state and _tells(node)):
        if _tells(node):
            yield from _telling(node)


def _tells(node: Any) -> bool:
    return callable(getattr(type(node), "metrics", None))


def _add(found: dict[str, jax.Array], name: str, value: jax.Array) -> None:
    number, unique = 2, name
    while unique in found:
        unique, number = f"{name}_{number}", number + 1
    found[unique] = value
