"""What a rule is given and what it must return, with words for who writes one and errs."""

from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxopt_lectures.core.checks import Hyper


class Given(SimpleNamespace):
    """What a rule is given under one name; asking for what is not there says what is."""

    def __init__(self, title: str, **values: Any) -> None:
        super().__init__(**values)
        object.__setattr__(self, "_title", title)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        declared = ", ".join(key for key in vars(self) if key != "_title") or "nothing"
        what = {"h": "hypers", "s": "slots (annotate them Signed, NonNegative...)"}[self._title]
        raise AttributeError(f"{self._title} has no {name!r}; declared as {what}: {declared}")


def check_result(name: str, result: Any, g: Any, slots: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """What a rule returned, or one line on what is wrong with it."""
    if not (isinstance(result, tuple) and len(result) == 2 and isinstance(result[1], dict)):
        raise TypeError(f"{name} must return (update, {{slot: array}}), got {type(result).__name__}")
    update, new = result
    if set(new) != set(slots):
        raise ValueError(f"{name} returned the slots {sorted(new)}, its state declares {sorted(slots)}")
    for what, array, like in [("an update", update, g), *[(f"slot {k!r}", new[k], slots[k]) for k in new]]:
        found, shape = jax.tree.map(jnp.shape, array), jax.tree.map(jnp.shape, like)
        if found != shape:
            raise ValueError(f"{name} returned {what} of shape {found}, expected {shape}")
    return update, new


def value_at(hyper: Hyper, count: jax.Array) -> Any:
    """The hyper-parameter's value at `count`."""
    if not callable(hyper.value):
        return hyper.value
    try:
        value = hyper.value(count)
    except Exception as error:
        error.add_note(f"while asking the schedule of {hyper.name}, {hyper.value!r}, for its value at a count")
        raise
    if value is None or isinstance(value, str) or callable(value):
        raise TypeError(f"the schedule of {hyper.name} returned {value!r}, expected a number")
    if np.shape(value) != ():
        raise ValueError(f"the schedule of {hyper.name} returned shape {np.shape(value)}, expected a scalar")
    return value
