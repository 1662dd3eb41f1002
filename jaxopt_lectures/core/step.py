"""The step of a rule on one array."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax

from jaxopt_lectures.core.given import Given, check_result
from jaxopt_lectures.core.keeping import Own
from jaxopt_lectures.core.numbers import bounded


@dataclass(frozen=True)
class Formula:
    """What is the same for all leaves of a kind: the static argument of the inner `jax.jit`."""

    rule: Callable[..., Any]
    options: tuple[tuple[str, Any], ...]
    powers: int
    wide: bool = False


@functools.partial(jax.jit, static_argnums=0)
def step(formula: Formula, own: Own, common: tuple[dict[str, Any], dict[str, Any], jax.Array]) -> Any:
    """One rule on one array, widened to the arithmetic dtype and back. Equal leaves find their trace in the cache."""
    (g, slots, p, key), (shared, h, t) = own, common
    wide = g.astype(t.dtype)
    wide = bounded(wide, formula.powers) if formula.powers else wide
    s = Given("s", **jax.tree.map(lambda x: x.astype(t.dtype), {**slots, **shared}))
    p = None if p is None else p.astype(t.dtype)
    given = Given("h", **h, **({} if key is None else {"key": key}))
    result = formula.rule(wide, s, p, given, t, **dict(formula.options))
    update, new = check_result(formula.rule.__name__, result, g, slots)
    update = update if formula.wide else update.astype(g.dtype)
    return update, jax.tree.map(lambda old, x: x.astype(old.dtype), slots, {name: new[name] for name in slots})
