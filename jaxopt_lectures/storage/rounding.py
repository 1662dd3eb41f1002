"""Rounding up or down at random, so that the mean is exact: the random bits, and rounding to narrow floats.

Nearest rounding loses every change below half a unit: a bfloat16 weight of 1 never feels steps of 1e-3. Rounded up
with probability (x - low) / (high - low), it moves by the right amount on average.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxopt_lectures.core.numbers import arithmetic_dtype


def words(key: jax.Array | None, count: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Two words for each array of a step, `(*shape, 2)` uint32. They depend on the key, the count and the place only.

    Args:
      key: a key of `jax.random`; that of seed 0 if None.
      count: steps taken before this one.
      shape: how many arrays.
    """
    here = jax.random.fold_in(jax.random.key(0) if key is None else key, count)
    return jax.random.bits(here, (*shape, 2), jnp.uint32)


def word_of(words: Any, slot: int, first: int = 0) -> tuple[Any, Any]:
    """The two words of a slot, of those of all slots of its array, (slots, 2), which begin at `first`.

    The first is the same for all: the first half of `bits`, and more than half of its work, is done once.
    """
    return words[first][0], words[first + slot][1]


def bits(word: Any, index: jax.Array) -> jax.Array:
    """32 random bits for each element, by its index in its array: whoever holds a part of it draws the same.

    A multiply-and-shift hash with the constants of C. Wellons, "Prospecting for hash functions", 2018, of the index and
    the first word, and half of it again with the second: two steps, or two slots, share no sequence. Threefry, which
    would do as well, takes ten times as long, more than all the rest of the rounding.
    """
    x = _mixed(index.astype(jnp.uint32) ^ word[0]) + word[1]
    x = (x ^ (x >> 15)) * np.uint32(0x846CA68B)
    return x ^ (x >> 16)


def _mixed(x: jax.Array) -> jax.Array:
    x = (x ^ (x >> 16)) * np.uint32(0x7FEB352D)
    x = (x ^ (x >> 15)) * np.uint32(0x846CA68B)
    return x ^ (x >> 16)


def thresholds(random: jax.Array, dtype: jax.typing.DTypeLike) -> jax.Array:
    """Uniform in (0, 1]: rounding up where the fraction reaches it is unbiased, and never moves what is exact."""
    return ((random >> 8).astype(dtype) + 1) * 2.0**-24


def nearest(x: jax.Array, dtype: jax.typing.DTypeLike) -> jax.Array:
    """`x`, float32, rounded to nearest, ties to even, by its bits: a conversion and back may be taken for nothing."""
    wide = x.astype(jnp.float32)
    return jnp.where(jnp.isfinite(wide), _rounded(wide, jnp.finfo(dtype), None), wide).astype(dtype)


def narrowed(x: jax.Array, dtype: jax.typing.DTypeLike, random: jax.Array | None) -> jax.Array:
    """`x` rounded to a narrower float: to nearest (ties to even), or at random with 32 bits for each element.

    Finite numbers stay finite: those beyond the largest become it. Infinities and NaN stay what they are.

    Args:
      x: float32; wider ones are first rounded to float32.
      dtype: bfloat16 or float16.
      random: bits of `bits`; nearest if None.
    """
    kind, largest = jnp.finfo(dtype), np.float32(jnp.finfo(dtype).max)
    wide = x.astype(jnp.float32)
    rounded = _rounded(wide, kind, random)
    return jnp.where(jnp.isfinite(wide), jax.lax.clamp(-largest, rounded, largest), wide).astype(dtype)


def summed(p: jax.Array, update: jax.Array, random: jax.Array | None) -> jax.Array:
    """A parameter and its update, added in float32 or wider, in the parameter's dtype.

    Args:
      p: of any dtype.
      update: may be wider than it.
      random: bits of `bits`, to round at random to bfloat16 or float16; to nearest if None.
    """
    if not (jnp.issubdtype(p.dtype, jnp.floating) and jnp.issubdtype(update.dtype, jnp.floating)):
        return (p + update).astype(p.dtype)
    wide = arithmetic_dtype(p.dtype, update.dtype)
    total = p.astype(wide) + update.astype(wide)
    if p.dtype not in (jnp.bfloat16, jnp.float16):
        return total.astype(p.dtype)
    return nearest(total, p.dtype) if random is None else narrowed(total, p.dtype, random)


def _rounded(x: jax.Array, kind: jnp.finfo, random: jax.Array | None) -> jax.Array:
    """Up or down to the numbers of a narrower float: bits are added to those that it has no place for.

    Random ones; or half a unit, and a bit less where the last digit that is kept is even.
    """
    pattern = jax.lax.bitcast_convert_type(x, jnp.uint32)
    exponent = ((pattern >> 23) & 0xFF).astype(jnp.int32) - 127
    # below its smallest normal number a float is spaced evenly: it keeps one bit less for each octave
    lost = jnp.clip(23 - kind.nmant + jnp.maximum(int(kind.minexp) - exponent, 0), 0, 23).astype(jnp.uint32)
    mask = (jnp.uint32(1) << lost) - np.uint32(1)
    added = (mask >> 1) + ((pattern >> lost) & 1) if random is None else random & mask
    rounded = jax.lax.bitcast_convert_type((pattern + added) & ~mask, jnp.float32)
    tiny = np.float32(kind.smallest_subnormal)
    share = 0.5 + 2.0**-23 if random is None else thresholds(random, jnp.float32)
    rare = jnp.where(jnp.abs(x) >= share * tiny, tiny, 0) * jnp.sign(x)
    return jnp.where(jnp.abs(x) < tiny, rare, rounded)
