"""The first values of slots."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxopt_lectures.core.numbers import arithmetic_dtype
from jaxopt_lectures.core.slots import Slot


@dataclass(frozen=True)
class Begin:
    """A first value that depends on the parameter: `of(p, **options)`, arrays of any shape, or None for no slot.

    `p` is the parameter in the dtype that the slot is kept in; `options` are those that the rule gets for it.
    """

    of: Callable[..., Any]


PARAMETER = Begin(lambda p, **options: p)
"""The slot begins as the parameter itself."""


def first_slot(params: Any, name: str, slot: Slot, value: Any, dtype: Any, options: Sequence[Mapping[str, Any]]) -> Any:
    """One slot for every parameter: `value` everywhere, or leaf by leaf if it is a tree like the parameters."""

    def one(p: Any, v: Any, options: Mapping[str, Any]) -> Any:
        kept = dtype or arithmetic_dtype(jnp.result_type(p))
        if isinstance(v, Begin):
            made = v.of(jnp.asarray(p).astype(kept), **options)
            return jax.tree.map(jnp.copy, made)  # a state may be donated
        if slot.shape == "scalar":
            return jnp.array(v, kept)
        if jnp.shape(v) not in ((), jnp.shape(p)):
            raise ValueError(f"initial {name!r} has shape {jnp.shape(v)} where the parameter has {jnp.shape(p)}")
        return jnp.full_like(jnp.asarray(p), jnp.array(v, kept), dtype=kept)

    leaves, treedef = jax.tree.flatten(params)
    if isinstance(value, Begin) or is_number(value):
        values = [value] * len(leaves)
    elif jax.tree.structure(value) == treedef:
        values = jax.tree.leaves(value)
    else:
        trees = f"{jax.tree.structure(value)}, the parameters are {treedef}"
        raise ValueError(f"initial {name!r} must be a number or a tree like the parameters; it is {trees}")
    return treedef.unflatten([one(p, v, o) for p, v, o in zip(leaves, values, options, strict=True)])


def is_number(value: Any) -> bool:
    """Whether it is one number (or a schedule) and not a tree of arrays."""
    return jax.tree.structure(value) == jax.tree.structure(0) and (callable(value) or np.shape(value) == ())
