"""Floating-point helpers: which precision to compute in, roots, norms and quotients that never invent a NaN."""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxopt_lectures.core import reductions


def arithmetic_dtype(*dtypes: Any) -> Any:
    """The dtype to compute in: float64 if one of `dtypes` is, otherwise float32 (also for bfloat16 and float16)."""
    found = [jax.dtypes.canonicalize_dtype(d) for d in dtypes]  # NumPy may bring float64 that JAX does not keep
    return jnp.dtype(jnp.float64 if any(d == jnp.float64 for d in found) else jnp.float32)


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


def weight(b: jax.Array, mean_log: jax.Array, t: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The new mean of log b over the steps so far, and 1 - b^t, the weight that a running mean has seen.

    `1 - b**t` cancels in float32, and is wrong when b changes. The mean of the logarithms stays exactly log b while b
    is constant, and `-expm1` of t times it keeps all digits. The floor, exp(-85), stands for b = 0.
    """
    log_b = jnp.log(jnp.maximum(b, 1e-37))
    mean_log = mean_log + (log_b - mean_log) / t
    return mean_log, -jnp.expm1(t * mean_log)


def bounded(g: jax.Array, power: int) -> jax.Array:
    """`g` brought so near that `g**power`, summed a million times, is finite; NaN stays NaN.

    In float32 the bound of a square is 1.8e16, in float64 1.3e151. A rule that divides by the root of that square
    steps as far from the bound as it would from beyond it, so inf gives what ever larger gradients tend to.
    """
    limit = g.dtype.type((float(jnp.finfo(g.dtype).max) / 2**20) ** (1 / power))
    return jax.lax.clamp(-limit, g, limit)


def scaled_norm(arrays: Sequence[jax.Array]) -> tuple[jax.Array, jax.Array]:
    """The Euclidean norm of all elements together, as two factors `(unit, size)`, both finite, the first not 0.

    The plain sum of squares is taken first, with a unit of 1. Only where it left the range of the dtype is it taken
    again, of the elements divided by the largest. An infinite element counts as the largest number there is, so that
    it takes the whole direction and the others none. NaN gives NaN.
    """
    dtype = arithmetic_dtype(*[a.dtype for a in arrays])
    kept = [a for a in arrays if a.size]
    return _factors(dtype, kept) if kept else (jnp.ones((), dtype), jnp.zeros((), dtype))


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _factors(dtype: Any, arrays: list[jax.Array]) -> tuple[jax.Array, jax.Array]:
    one = jnp.ones((), dtype)
    squares = jnp.sum(reductions.parts(_sum_of_squares, arrays, one))
    low = jnp.finfo(dtype).tiny / jnp.finfo(dtype).eps

    def again() -> tuple[jax.Array, jax.Array]:
        unit = unit_for(largest(reductions.parts(_largest, arrays, one)))
        return unit, root(jnp.sum(reductions.parts(_sum_in_units, arrays, unit)))

    usual = jnp.isfinite(squares) & (squares > low)
    return jax.lax.cond(usual, lambda: (jnp.ones_like(squares), jnp.sqrt(squares)), again)


@_factors.defjvp
def _factors_jvp(dtype: Any, primals: Any, tangents: Any) -> Any:
    """The unit is held: d size = sum(a da) / (unit^2 size). Through the two ways of summing, 0 would meet inf."""
    (arrays,), (directions,) = primals, tangents
    unit, size = _factors(dtype, arrays)
    rows = zip(arrays, directions, strict=True)
    slope = sum(jnp.sum(finite(a.astype(dtype)) / unit * (d.astype(dtype) / unit)) for a, d in rows)
    return (unit, size), (jnp.zeros_like(unit), quotient(slope, size))


def unit_for(largest: jax.Array) -> jax.Array:
    """What to divide elements of at most that size by before they are squared.

    At most an eighth of the largest number, whose own reciprocal is flushed to 0. A norm does not depend on its unit.
    """
    unit = jnp.where(largest == 0, 1, jnp.minimum(largest, jnp.finfo(largest.dtype).max / 8))
    return jax.lax.stop_gradient(unit)


def norm(arrays: Sequence[jax.Array]) -> jax.Array:
    """The Euclidean norm of all elements together: no square overflows or vanishes on the way; inf if one is inf."""
    return product(*scaled_norm(arrays))


def product(unit: jax.Array, size: jax.Array) -> jax.Array:
    """The norm whose factors are `unit` and `size`; from the largest number on it is inf."""
    whole = unit * size
    return jnp.where(whole >= jnp.finfo(whole.dtype).max, jnp.inf, whole)


def finite(a: jax.Array) -> jax.Array:
    """`a` with its infinities as the largest numbers of the dtype; NaN stays."""
    largest = jnp.finfo(a.dtype).max
    return jax.lax.clamp(-largest, a, largest)


def largest(x: jax.Array, axis: Any = None, *, keepdims: bool = False) -> jax.Array:
    """The largest of non-negative numbers, 0 of none; NaN if there is one.

    `jnp.max` loses a NaN among 32 numbers or more on CPU (jaxlib 0.10.2).
    """
    bad = jnp.any(jnp.isnan(x), axis=axis, keepdims=keepdims)
    return jnp.where(bad, jnp.nan, jnp.max(x, axis=axis, keepdims=keepdims, initial=0))


def largest_magnitude(x: jax.Array, axis: Any, *, keepdims: bool = False) -> jax.Array:
    """The largest magnitude, 0 of none; NaN if there is one. It has no derivative.

    Magnitudes are in the order of their bits, NaN above infinity: one integer operation an element.
    """
    integer = jnp.int64 if x.dtype == jnp.float64 else jnp.int32
    patterns = jax.lax.bitcast_convert_type(jnp.abs(x), integer)
    return jax.lax.bitcast_convert_type(jnp.max(patterns, axis=axis, keepdims=keepdims, initial=0), x.dtype)


@jax.jit
def _sum_of_squares(a: jax.Array, like: jax.Array) -> jax.Array:
    return jnp.sum(jnp.square(a.astype(like.dtype)))


@jax.jit
def _sum_in_units(a: jax.Array, unit: jax.Array) -> jax.Array:
    return jnp.sum(jnp.square(finite(a.astype(unit.dtype)) / unit))


@jax.jit
def _largest(a: jax.Array, like: jax.Array) -> jax.Array:
    return largest(jnp.abs(finite(a.astype(like.dtype))))
