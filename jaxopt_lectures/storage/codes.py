"""Codes: how one slot is kept in fewer bytes, and read again."""

import math
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxopt_lectures.core.numbers import arithmetic_dtype, largest_magnitude
from jaxopt_lectures.core.slots import Kept
from jaxopt_lectures.storage import levels, packing
from jaxopt_lectures.storage.blocks import Blocks, blocks_for, blocks_of
from jaxopt_lectures.storage.levels import Levels
from jaxopt_lectures.storage.rounding import bits, narrowed

_SIZE = np.int32(2**31 - 1)  # the bits of a float but for its sign


@dataclass(frozen=True)
class Code:
    """One way to keep one kind of slot. Two codes of one name are the same code.

    Attributes:
      name: what tables and messages call it.
      dtype: of what is stored: "uint8" for indices of `levels`, which each block scales; otherwise a float of 16 bits,
        kept as the integer of the same bits (XLA on CPU widens a whole array of such floats for a slice it writes).
      nature: "signed" or "nonnegative": which slots it is for.
      levels: the magnitudes an index stands for; None for floats.
      width: bits of an index, 8 or 4 (two in a byte).
      root: the square root is kept: half the range in decades.
      stochastic: rounded at random, so that the mean is exact; to nearest otherwise.
      never_zero: what is positive stays positive: nothing is later divided by a 0 that it was rounded to.
      turned: the scale has the sign of the largest element, which is thereby exact even where -1 has no code.
    """

    name: str
    dtype: str = field(compare=False)
    nature: str = field(compare=False)
    levels: Levels | None = field(default=None, compare=False, repr=False)
    width: int = field(default=8, compare=False)
    root: bool = field(default=False, compare=False)
    stochastic: bool = field(default=True, compare=False)
    never_zero: bool = field(default=False, compare=False)
    turned: bool = field(default=False, compare=False)

    def __str__(self) -> str:
        how = [f"{self.width} bits" if self.levels else self.dtype, "the root of it" if self.root else ""]
        how += ["rounded at random" if self.stochastic else "rounded to nearest"]
        return ", ".join(part for part in how if part)

    @property
    def packed(self) -> bool:
        """Whether two indices share a byte."""
        return bool(self.levels) and self.width == 4


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Encoded(Kept):
    """A slot of one parameter in a code: plain arrays, a leaf's worth of a state.

    Attributes:
      codes: shaped like the parameter, an axis halved where two indices share a byte; uint8, or uint16 for floats.
      scale: one number a block, in the slot's own dtype; None where the code has none.
      code: how it is read.
    """

    codes: jax.Array
    scale: jax.Array | None
    code: Code = field(metadata={"static": True})

    @property
    def dtype(self) -> Any:
        """That of the decoded array."""
        return jnp.dtype(jnp.float32) if self.scale is None else self.scale.dtype

    def whole(self, shape: tuple[int, ...]) -> jax.Array:
        """The array of that shape that was kept."""
        return decoded(self, shape)

    def __repr__(self) -> str:
        dtype, shape = getattr(self.codes, "dtype", None), getattr(self.codes, "shape", None)
        kept = f"{dtype}[{','.join(map(str, shape))}]" if dtype is not None and shape is not None else self.codes
        return f"Encoded({self.code.name}, codes {kept})"


class Place(NamedTuple):
    """Which elements of its array a part holds, and what their random bits are made of.

    Attributes:
      index: the index of each element in the whole array, uint32.
      word: two uint32, of `rounding.word_of`.
    """

    index: jax.Array
    word: Any


def everywhere(shape: tuple[int, ...]) -> jax.Array:
    """The index of each element of a whole array, for `Place`."""
    return jax.lax.iota(jnp.uint32, math.prod(shape)).reshape(shape)


def encoded(code: Code, x: jax.Array, block: int, word: jax.Array, shard: tuple[int, ...] | None = None) -> Encoded:
    """A whole array in a code.

    Args:
      code: how it is kept.
      x: float32 or float64.
      block: elements that share a scale.
      word: (2,) uint32, of `rounding.words`.
      shard: the shape of the part that a device holds; no block crosses its edge if they divide it.
    """
    blocks = Blocks(x.shape, blocks_for(shard or x.shape, block).tile)
    return _encoded(code, x, blocks, Place(everywhere(x.shape), word), packing.axis_to_halve(x.shape))


def decoded(slot: Encoded, shape: tuple[int, ...]) -> jax.Array:
    """The array of that shape that was kept."""
    return opened(slot, blocks_of_slot(slot, shape))


def blocks_of_slot(slot: Any, shape: tuple[int, ...]) -> Blocks:
    """The blocks of a slot of a parameter of that shape; single elements where it has no scales."""
    if isinstance(slot, Encoded) and slot.scale is not None:
        return blocks_of(shape, slot.scale.shape)
    return Blocks(shape, (1,) * len(shape))


def opened(slot: Any, blocks: Blocks) -> jax.Array:
    """A slot, or a part of one, as an array."""
    if not isinstance(slot, Encoded):
        return slot
    codes = packing.unpacked(slot.codes, blocks.shape) if slot.code.packed else slot.codes
    return decode(slot.code, codes, slot.scale, blocks, computed=False)


def fits(slot: Encoded, shape: tuple[int, ...]) -> bool:
    """Whether it can be the slot of a parameter of that shape."""
    halved = packing.axis_to_halve(shape) if slot.code.packed else None
    codes = tuple(-(-size // 2) if axis == halved else size for axis, size in enumerate(shape))
    return slot.codes.shape == codes and (slot.scale is None or slot.scale.ndim == len(shape))


def closed(like: Any, x: jax.Array, blocks: Blocks, place: Place) -> Any:
    """An array kept as the slot that it is the next value of."""
    if not isinstance(like, Encoded):
        return x
    return _encoded(like.code, x, blocks, place, packing.halved_axis(like.codes.shape, x.shape))


def _encoded(code: Code, x: jax.Array, blocks: Blocks, place: Place, halved: int | None) -> Encoded:
    codes, scale = encode(code, x, blocks, place)
    return Encoded(packing.packed(codes, halved) if code.packed else codes, scale, code)


def encode(code: Code, x: jax.Array, blocks: Blocks, place: Place) -> tuple[jax.Array, jax.Array | None]:
    """The numbers to store, one an element, and the scales of the blocks.

    A NaN or an infinity makes the scale of its block NaN or infinite: the block is lost, and no other. Derivatives end
    here: codes are steps, and the root has none at 0.
    """
    x = jax.lax.stop_gradient(x)
    random = bits(place.word, place.index) if code.stochastic else None
    if code.levels is None:
        return jax.lax.bitcast_convert_type(narrowed(x, code.dtype, random), jnp.uint16), None
    x = jnp.sqrt(x) if code.root else x
    y = blocks.cut(x)
    scale = _scale(code, y, blocks.axes)
    once = jnp.asarray(code.levels.unit, scale.dtype) / jnp.where(scale == 0, jnp.inf, scale)
    z = blocks.joined((y * once).astype(jnp.float32))
    return _indices(code, code.levels, z, x, random), scale.reshape(blocks.counts)


def decode(code: Code, codes: Any, scale: jax.Array | None, blocks: Blocks, *, computed: bool = True) -> jax.Array:
    """The numbers that `encode` stored, computed or looked up: the same.

    XLA on CPU fuses it into each of its readers, and so does it again and again: there one read of 256 numbers is less.
    """
    if scale is None or code.levels is None:
        return jax.lax.bitcast_convert_type(codes, jnp.dtype(code.dtype)).astype(jnp.float32)
    looked_up = code.packed or not computed
    values = levels.at(_values(code), codes) if looked_up else _computed(code, code.levels, codes)
    x = blocks.joined(blocks.cut(jnp.asarray(values, scale.dtype)) * blocks.spread(scale))
    return x * x if code.root else x


def _scale(code: Code, y: jax.Array, axes: tuple[int, ...]) -> jax.Array:
    """The largest magnitude of each block, with the sign of its element if the code turns blocks over.

    Not below twice the smallest normal number, unless it is 0: what is multiplied with is finite.
    """
    y = y.astype(arithmetic_dtype(y.dtype))
    size = largest_magnitude(y, axes, keepdims=True)
    least = jnp.where(size > 0, jnp.maximum(size, 2 * jnp.finfo(y.dtype).tiny), size)
    if code.nature == "nonnegative" or not code.turned:
        return least
    return jnp.where(size > jnp.max(y, axes, keepdims=True, initial=0), -least, least)


def _indices(code: Code, known: Levels, z: jax.Array, x: jax.Array, random: jax.Array | None) -> jax.Array:
    """The level below each magnitude, or the one above; with its sign, an offset from that of 0.

    The index is floor(position + u), u = 1/2 for the nearest and (j + 1/2) / 2^14 at random, j of 14 bits: right on
    average but for 2^-15. A level never becomes another while its position is wrong by less than 2^-15 = 4 * 2^-17.
    With 256 levels and slope 142 the level's rounding makes 0.6 * 2^-17, the slope's 0.9, those of the product (< 256),
    of q (<= 128) and of x (<= 256) 1, 0.5 and 1. The sum with u is exact, of multiples of 2^-16 below 256.
    """
    pattern = jax.lax.bitcast_convert_type(z, jnp.int32)
    place = levels.position(known, pattern & _SIZE, 0.5 if random is None else 2.0**-15)
    if random is not None:
        place += (random >> 18).astype(jnp.int32).astype(jnp.float32) * np.float32(2.0**-14)
    if code.nature == "nonnegative":
        index = place.astype(jnp.int32)
        if code.never_zero and known.magnitudes[0] == 0:
            index = jnp.where(x > 0, jnp.maximum(index, 1), index)
        return index.astype(jnp.uint8)
    zero = _zero(code)
    index = _signed(place, pattern).astype(jnp.int32) + zero  # towards 0
    return (jnp.maximum(index, 0) if len(known) - 1 > zero else index).astype(jnp.uint8)


def _signed(x: jax.Array, sign: jax.Array) -> jax.Array:
    """A non-negative float32 with the sign of an int32."""
    return jax.lax.bitcast_convert_type(jax.lax.bitcast_convert_type(x, jnp.int32) | (sign & ~_SIZE), jnp.float32)


def _computed(code: Code, known: Levels, codes: jax.Array) -> jax.Array:
    """What each index stands for, float32."""
    k = codes.astype(jnp.int32)
    if code.nature == "nonnegative":
        return levels.value(known, k)
    k -= _zero(code)
    return _signed(levels.value(known, jnp.abs(k)), k)


def _zero(code: Code) -> int:
    """The index of 0 in a signed code, so that the largest is 1; the negative ones have what indices are left."""
    return 2**code.width - len(code.levels or ())


def _values(code: Code) -> np.ndarray:
    """The same, of all indices in increasing order."""
    magnitudes = code.levels.rounded if code.levels else np.zeros(0)
    if code.nature == "nonnegative":
        return magnitudes
    below = -magnitudes[1 : _zero(code) + 1][::-1]
    return np.concatenate([np.zeros(_zero(code) - len(below)), below, magnitudes])
