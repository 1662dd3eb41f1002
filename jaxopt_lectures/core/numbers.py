"""Floating-point helpers: which precision to compute in, roots, norms and quotients that never invent a NaN."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp


def arithmetic_dtype(*dtypes: Any) -> Any:
    """The dtype to compute in: float64 if one of `dtypes` is, otherwise float32 (also for bfloat16 and float16)."""
    return jnp.dtype(jnp.float64 if any(jnp.dtype(d) == jnp.float64 for d in dtypes) else jnp.float32)


def root(x: jax.Array) -> jax.Array:
    """The square root with derivative 0 at 0 (not inf) and value 0 below (rounding can leave a variance at -1e-9)."""
    positive = ~(x <= 0)  # a NaN goes through the root and stays visible
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, x, 1)), 0)


def quotient(numerator: jax.Array, denominator: jax.Array) -> jax.Array:
    """`numerator / denominator`, and 0 where the denominator is 0: without eps, 0/0 means "no gradient seen yet"."""
    zero = denominator == 0
    return jnp.where(zero, 0, numerator / jnp.where(zero, 1, denominator))


def hypotenuse(a: jax.Array, b: jax.Array) -> jax.Array:
    """`sqrt(a^2 + b^2)` of non-negative numbers, whose squares may be too large or too small to be stored."""
    large, small = jnp.maximum(a, b), jnp.minimum(a, b)
    ratio = jnp.where(jnp.isfinite(large), quotient(small, large), 0)
    return large * jnp.sqrt(1 + ratio * ratio)


def bounded(g: jax.Array, power: int) -> jax.Array:
    """A finite `g` brought so near that `g**power`, summed a million times, is finite; inf and NaN stay as they are.

    In float32 the bound of a square is 1.8e16, in float64 1.3e151. A rule that divides by the root of that square
    steps as far from the bound as it would from beyond it.
    """
    limit = (float(jnp.finfo(g.dtype).max) / 2**20) ** (1 / power)
    return jnp.where(jnp.isfinite(g), jnp.clip(g, -limit, limit), g)


def norm(arrays: Sequence[jax.Array]) -> jax.Array:
    """Euclidean norm of all elements together, finite whenever it can be: no square overflows or vanishes on the way.

    The plain sum of squares is taken first. Only where it left the range of the dtype is it done again on numbers
    divided by the largest one. The norm is inf if an element is inf, NaN if one is NaN.
    """
    dtype = arithmetic_dtype(*[a.dtype for a in arrays])
    wide = [a.astype(dtype) for a in arrays if a.size]
    if not wide:
        return jnp.zeros((), dtype)
    squares = sum(_sum_of_squares(a) for a in wide)
    low = jnp.finfo(dtype).tiny / jnp.finfo(dtype).eps

    def scaled() -> jax.Array:
        largest = jnp.max(jnp.stack([_largest(a) for a in wide]))
        unit = jnp.where((largest > 0) & jnp.isfinite(largest), largest, 1)
        total = sum(_sum_of_squares(a / unit) for a in wide)
        return jnp.where(jnp.isfinite(largest), unit * root(total), largest)

    return jax.lax.cond(jnp.isfinite(squares) & (squares > low), lambda: jnp.sqrt(squares), scaled)


@jax.jit
def _sum_of_squares(a: jax.Array) -> jax.Array:
    return jnp.sum(jnp.square(a))


@jax.jit
def _largest(a: jax.Array) -> jax.Array:
    return jnp.max(jnp.abs(a))
