"""Vectors that are trees of arrays: what the solvers need of linear algebra, whatever the parameters look like.

A tree of one flat array is the usual case; parameters that are sharded keep their leaves, and with them their sharding.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp

from jaxopt_lectures.core import numbers


def dot(a: Any, b: Any) -> jax.Array:
    """The inner product, ()."""
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    # of explicitly sharded arrays only the sum knows where its result lies
    return sum(jnp.sum(x * y) if is_sharded(x) else jnp.vdot(x, y) for x, y in pairs)


def plus(a: Any, scale: Any, b: Any) -> Any:
    """`a + scale b`."""
    return jax.tree.map(lambda x, y: x + scale * y, a, b)


def minus(a: Any, b: Any) -> Any:
    """`a - b`."""
    return jax.tree.map(jnp.subtract, a, b)


def times(scale: Any, a: Any) -> Any:
    """`scale a`."""
    return jax.tree.map(lambda x: scale * x, a)


def negative(a: Any) -> Any:
    """`-a`."""
    return jax.tree.map(jnp.negative, a)


def largest(a: Any) -> jax.Array:
    """The largest absolute value of an element, (); NaN if one is NaN."""
    leaves = [numbers.largest(jnp.abs(x)) for x in jax.tree.leaves(a) if x.size]
    return numbers.largest(jnp.stack(leaves)) if len(leaves) > 1 else leaves[0]


def choose(flag: jax.Array, yes: Any, no: Any) -> Any:
    """One of two equal trees."""
    return jax.tree.map(lambda a, b: jnp.where(flag, a, b), yes, no)


def size(a: Any) -> int:
    """The number of elements."""
    return sum(math.prod(x.shape) for x in jax.tree.leaves(a))


def rows(a: Any, count: int) -> Any:
    """Room for `count` vectors like `a`, zeros."""
    return jax.tree.map(lambda x: jnp.zeros_like(jnp.broadcast_to(x, (count, *x.shape))), a)  # sharded as x


def row(history: Any, index: jax.Array) -> Any:
    """One of the vectors in `history`."""
    return jax.tree.map(lambda x: jax.lax.dynamic_index_in_dim(x, index, keepdims=False), history)


def set_row(history: Any, index: jax.Array, a: Any) -> Any:
    """`history` with `a` at that row."""
    return jax.tree.map(lambda x, y: jax.lax.dynamic_update_index_in_dim(x, y, index, 0), history, a)


def is_sharded(x: Any) -> bool:
    """Whether an array is sharded over an explicit mesh, so that its type says it."""
    return any(axis is not None for axis in getattr(jax.typeof(x).sharding, "spec", ()))
