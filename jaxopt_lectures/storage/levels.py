"""The numbers in [0, 1] that a code of a few bits can stand for, and the search for the one below a given number.

Sources: T. Dettmers, M. Lewis, S. Shleifer, L. Zettlemoyer, "8-bit optimizers via block-wise quantization", ICLR 2022,
arXiv:2110.02861, section 2.2 and figure 2; B. Li, J. Chen, J. Zhu, "Memory efficient optimizers with 4-bit states",
NeurIPS 2023, arXiv:2309.01507, section 3 and appendix E; P. Micikevicius et al., "FP8 formats for deep learning", 2022,
arXiv:2209.05433, table 1.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

Levels = tuple[float, ...]
"""Magnitudes in increasing order, of which the last is 1."""


@functools.cache
def dynamic(bits: int, *, signed: bool) -> Levels:
    """Dettmers' dynamic map: decades down from 1, each evenly divided, the larger ones more finely.

    With n = bits - 1 decades, decade i = 0 .. n - 1 has 2^i levels (signed: the sign takes a bit) or 2^(i+1), the
    midpoints of as many equal parts of [0.1, 1], times 10^(i - n + 1); then 0 and 1. With 8 bits that is 127 or 254
    levels, so that both signs, 0 and a single 1 make 256.
    """
    decades = bits - 1
    found = [0.0, 1.0]
    for i in range(decades):
        edges = np.linspace(0.1, 1, 2 ** (i if signed else i + 1) + 1)
        found += list(10.0 ** (i - decades + 1) * (edges[1:] + edges[:-1]) / 2)
    return tuple(sorted(found))


@functools.cache
def linear(bits: int) -> Levels:
    """Li's map for what is never negative: `(i + 1) / 2^bits`. It has no 0, so that nothing is divided by it."""
    return tuple((i + 1) / 2**bits for i in range(2**bits))


@functools.cache
def geometric(bits: int, octaves: int) -> Levels:
    """Every level the same multiple of the one below, from 2^-octaves to 1; it has no 0.

    The relative error is the same everywhere: what divides a step may be wrong by a factor, not by an amount.
    """
    return tuple(float(2.0 ** (-octaves * (1 - i / (2**bits - 1)))) for i in range(2**bits))


@functools.cache
def floats(dtype: str) -> Levels:
    """The non-negative finite numbers of a float of 8 bits, over the largest of them."""
    values = np.arange(128, dtype=np.uint8).view(jnp.dtype(dtype)).astype(np.float64)
    values = values[np.isfinite(values)]
    return tuple(float(value) for value in values / values[-1])


def below(levels: Levels, x: jax.Array) -> jax.Array:
    """The index of the last level that is not above `x`, int32; 0 if all are. `x` in [0, 1], float32 or float64.

    A table over the leading bits of the float (8 of the exponent, a few of the mantissa) finds it up to one level,
    a comparison decides. A binary search takes ten times as long.
    """
    table, first, shift = _table(levels)
    low = np.asarray([first << shift], np.uint32).view(np.float32)[0]
    near = jnp.clip(x.astype(jnp.float32), low, 1)
    key = (jax.lax.bitcast_convert_type(near, jnp.uint32) >> shift) - np.uint32(first)
    guess = jnp.asarray(table).at[key].get(mode="promise_in_bounds").astype(jnp.int32)
    above = jnp.asarray(_padded(levels), x.dtype).at[guess + 1].get(mode="promise_in_bounds")
    return guess + (x >= above).astype(jnp.int32)


def at(levels: Levels, index: jax.Array, dtype: jax.typing.DTypeLike) -> jax.Array:
    """The level of that index; beyond the last it is infinite."""
    return jnp.asarray(_padded(levels), dtype).at[index].get(mode="promise_in_bounds")


@functools.cache
def _padded(levels: Levels) -> np.ndarray:
    return np.asarray([*levels, np.inf])


@functools.cache
def _table(levels: Levels) -> tuple[np.ndarray, int, int]:
    """For each leading part of a float up to 1 the level below its first number; the first part; the bits cut off.

    As many bits as it takes for no part to hold more than one level: then one comparison is enough.
    """
    values = np.asarray(levels, np.float32)
    smallest = values[values > 0][0] / 2
    for shift in range(16, 8, -1):
        first, last = (int(np.float32(x).view(np.uint32)) >> shift for x in (smallest, 1.0))
        starts = (np.arange(first, last + 2, dtype=np.uint32) << np.uint32(shift)).view(np.float32)
        found = np.maximum(np.searchsorted(values, starts, side="right") - 1, 0)
        if np.diff(found).max() <= 1:
            return found[:-1].astype(np.uint8), first, shift
    raise ValueError(f"{len(levels)} levels between 0 and 1 lie too near to each other to be found by their first bits")
