"""Codes: how one slot is kept in fewer bytes, and read again."""

import math
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxopt_lectures.core.numbers import arithmetic_dtype, largest
from jaxopt_lectures.core.slots import Kept
from jaxopt_lectures.storage import levels, packing
from jaxopt_lectures.storage.blocks import Blocks, blocks_for, blocks_of
from jaxopt_lectures.storage.levels import Levels
from jaxopt_lectures.storage.rounding import bits, narrowed, thresholds


@dataclass(frozen=True)
class Code:
    """One way to keep one kind of slot. Two codes of one name are the same code.

    Attributes:
      name: what tables and messages call it.
      dtype: of what is stored: "uint8" for indices of `levels`, which each block scales; otherwise a float of 16 bits,
        kept as the integer of the same bits (XLA on CPU widens a whole array of such floats for a slice it writes).
      nature: "signed" or "nonnegative": which slots it is for.
      levels: the magnitudes an index stands for; empty for floats.
      width: bits of an index, 8 or 4 (two in a byte).
      root: the square root is kept: half the range in decades.
      stochastic: rounded at random, so that the mean is exact; to nearest otherwise.
      never_zero: what is positive stays positive: nothing is later divided by a 0 that it was rounded to.
      turned: the scale has the sign of the largest element, which is thereby exact even where -1 has no code.
    """

    name: str
    dtype: str = field(compare=False)
    nature: str = field(compare=False)
    levels: Levels = field(default=(), compare=False, repr=False)
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
      word: (2,) uint32.
    """

    index: jax.Array
    word: jax.Array


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
    return decode(slot.code, codes, slot.scale, blocks)


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
    if not code.levels:
        return jax.lax.bitcast_convert_type(narrowed(x, code.dtype, random), jnp.uint16), None
    y = blocks.cut(jnp.sqrt(x) if code.root else x)
    scale = _scale(code, y, blocks.axes)
    z = blocks.joined(jnp.where((scale == 0) | ~jnp.isfinite(scale), 0, y / jnp.where(scale == 0, 1, scale)))
    return _indices(code, z, x > 0, random), scale.reshape(blocks.counts)


def decode(code: Code, codes: jax.Array, scale: jax.Array | None, blocks: Blocks) -> jax.Array:
    """The numbers that `encode` stored."""
    if scale is None:
        return jax.lax.bitcast_convert_type(codes, jnp.dtype(code.dtype)).astype(jnp.float32)
    values = jnp.asarray(_values(code), scale.dtype).at[codes].get(mode="promise_in_bounds")
    x = blocks.joined(blocks.cut(values) * blocks.spread(scale))
    return x * x if code.root else x


def _scale(code: Code, y: jax.Array, axes: tuple[int, ...]) -> jax.Array:
    """The largest magnitude of each block, with the sign of its element if the code turns blocks over."""
    y = y.astype(arithmetic_dtype(y.dtype))
    if code.nature == "nonnegative" or not code.turned:
        return largest(jnp.abs(y), axes, keepdims=True)
    size, high = largest(jnp.abs(y), axes, keepdims=True), jnp.max(y, axes, keepdims=True, initial=0)
    return jnp.where(size > high, -size, size)


def _indices(code: Code, z: jax.Array, positive: jax.Array, random: jax.Array | None) -> jax.Array:
    """The level below each magnitude, or the one above; with its sign, an offset from that of 0."""
    magnitude = jnp.abs(z)
    index = levels.below(code.levels, magnitude)
    low, high = levels.at(code.levels, index, z.dtype), levels.at(code.levels, index + 1, z.dtype)
    threshold = jnp.asarray(0.5, z.dtype) if random is None else thresholds(random, z.dtype)
    index += (magnitude - low >= threshold * (high - low)).astype(jnp.int32)
    if code.never_zero and code.levels[0] == 0:
        index = jnp.where(positive & (index == 0), 1, index)
    if code.nature == "signed":
        zero = _zero(code)
        index = jnp.where(z < 0, zero - jnp.minimum(index, zero), zero + index)
    return index.astype(jnp.uint8)


def _zero(code: Code) -> int:
    """The index of 0 in a signed code, so that the largest is 1; the negative ones have what indices are left."""
    return 2**code.width - len(code.levels)


def _values(code: Code) -> np.ndarray:
    """What each index stands for, in increasing order."""
    magnitudes = np.asarray(code.levels)
    if code.nature == "nonnegative":
        return magnitudes
    below = -magnitudes[1 : _zero(code) + 1][::-1]
    return np.concatenate([np.zeros(_zero(code) - len(below)), below, magnitudes])
