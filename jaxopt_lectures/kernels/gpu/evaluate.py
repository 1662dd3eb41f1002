"""A traced function in the body of a Pallas kernel that Triton compiles: what Triton has no word for said in others."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, JaxprEqn, Literal

Lookup = Callable[[np.ndarray, Any], Any]


def evaluated(closed: ClosedJaxpr, args: Sequence[Any], lookup: Lookup, inside: Any) -> list[Any]:
    """What the function returns.

    Args:
      closed: the function, traced.
      args: arrays in a kernel.
      lookup: `lookup(table, index)`, the elements of a constant table; a kernel has no constants and no gather.
      inside: which elements of a tile lie in the array; reductions over arrays of its shape see no others.
    """
    env: dict[Any, Any] = dict(zip(closed.jaxpr.constvars, closed.consts, strict=True))
    env.update(zip(closed.jaxpr.invars, args, strict=True))

    def read(atom: Any) -> Any:
        return atom.val if isinstance(atom, Literal) else env[atom]

    for eqn in closed.jaxpr.eqns:
        given = [read(atom) for atom in eqn.invars]
        called = eqn.params.get("jaxpr", eqn.params.get("call_jaxpr"))
        if isinstance(called, ClosedJaxpr):
            found = evaluated(called, given, lookup, inside)
        elif eqn.primitive.name == "gather":
            found = [_looked_up(eqn, given[0], given[1], lookup)]
        elif any(map(_is_table, given)):
            with jax.ensure_compile_time_eval():  # a table in another dtype is a table
                found = _bound(eqn, given)
        elif eqn.primitive.name in _REDUCTIONS and given[0].shape == inside.shape:
            found = [_reduced(eqn, given[0], inside)]
        else:
            found = [_RULES[eqn.primitive.name](*given)] if _is_ours(eqn) else _bound(eqn, given)
        env.update(zip(eqn.outvars, found, strict=True))
    return [read(atom) for atom in closed.jaxpr.outvars]


def _bound(eqn: JaxprEqn, given: Sequence[Any]) -> list[Any]:
    found = eqn.primitive.bind(*given, **eqn.params)
    return list(found) if eqn.primitive.multiple_results else [found]


def _is_table(x: Any) -> bool:
    return not isinstance(x, jax.core.Tracer) and np.ndim(x) > 0


def _looked_up(eqn: JaxprEqn, table: Any, index: Any, lookup: Lookup) -> Any:
    if not _is_table(table) or table.ndim != 1 or eqn.params["slice_sizes"] != (1,):
        raise NotImplementedError(f"a kernel looks up numbers in constant tables only, not {eqn}")
    return lookup(np.asarray(table), index.reshape(index.shape[:-1]))


# Triton's largest and smallest of two numbers, and with them its clamp, pass over a NaN; XLA's do not.


def _largest(a: Any, b: Any) -> Any:
    return jnp.where((a > b) | (a != a), a, b)


def _smallest(a: Any, b: Any) -> Any:
    return jnp.where((a < b) | (a != a), a, b)


_RULES: dict[str, Callable[..., Any]] = {
    "max": _largest,
    "min": _smallest,
    "clamp": lambda low, x, high: _smallest(_largest(x, low), high),
}


def _is_ours(eqn: JaxprEqn) -> bool:
    return eqn.primitive.name in _RULES and jnp.issubdtype(eqn.outvars[0].aval.dtype, jnp.floating)


# What a reduction is told of elements outside, and how it is said to Triton, which has none of bools.
_REDUCTIONS: dict[str, tuple[Callable[..., Any], float]] = {
    "reduce_max": (jnp.max, -np.inf),
    "reduce_min": (jnp.min, np.inf),
    "reduce_sum": (jnp.sum, 0),
    "reduce_or": (jnp.max, 0),
    "reduce_and": (jnp.min, 1),
}


def _reduced(eqn: JaxprEqn, x: Any, inside: Any) -> Any:
    reduce, neutral = _REDUCTIONS[eqn.primitive.name]
    truth = x.dtype == jnp.bool_
    x = x.astype(jnp.int32) if truth else x
    if jnp.issubdtype(x.dtype, jnp.integer):
        limits = jnp.iinfo(x.dtype)
        neutral = min(max(neutral, limits.min), limits.max)
    found = reduce(jnp.where(inside, x, jnp.asarray(neutral, x.dtype)), axis=eqn.params["axes"])
    return found != 0 if truth else found
