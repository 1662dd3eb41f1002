"""Blocks: the parts of an array that share a scale.

A block is a tile of the array's own axes, as many of the last ones as it takes. Codes keep the array's shape, scales
have one number a tile: where the array is sharded along an axis, both are sharded along the same axis.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp

_LEAST, _MOST = 0.9, 2.0  # how far a block may be from the size asked for, so that it divides the axis


@dataclass(frozen=True)
class Blocks:
    """How an array of `shape` is cut into tiles; the last along an axis may be smaller."""

    shape: tuple[int, ...]
    tile: tuple[int, ...]

    @property
    def counts(self) -> tuple[int, ...]:
        """Tiles along each axis: the shape of the scales."""
        return tuple(-(-d // t) for d, t in zip(self.shape, self.tile, strict=True))

    @property
    def axes(self) -> tuple[int, ...]:
        """The axes of `cut` that lie inside a tile."""
        ends = [sum(map(len, self._pairs()[: axis + 1])) for axis in range(len(self.shape))]
        return tuple(end - 1 for end, t in zip(ends, self.tile, strict=True) if t > 1)

    def cut(self, x: jax.Array) -> jax.Array:
        """Each axis in two, tiles and places in them. Axes are only split, never merged: sharding stays."""
        short = [n * t - d for n, t, d in zip(self.counts, self.tile, self.shape, strict=True)]
        if any(short):
            x = jnp.pad(x, [(0, missing) for missing in short])
        return x.reshape([size for pair in self._pairs() for size in pair])

    def joined(self, x: jax.Array) -> jax.Array:
        """What `cut` took apart."""
        whole = x.reshape([n * t for n, t in zip(self.counts, self.tile, strict=True)])
        return whole[tuple(slice(d) for d in self.shape)] if whole.shape != self.shape else whole

    def spread(self, scale: jax.Array) -> jax.Array:
        """One number for each tile, in a shape that goes with `cut`."""
        ones = [(n, 1)[: len(pair)] for n, pair in zip(self.counts, self._pairs(), strict=True)]
        return scale.reshape([size for pair in ones for size in pair])

    def _pairs(self) -> list[tuple[int, ...]]:
        """For each axis (tiles, places), without the trivial one of the two."""
        counted = zip(self.counts, self.tile, strict=True)
        return [(n,) if t == 1 else (t,) if n == 1 else (n, t) for n, t in counted]


def blocks_for(shape: Sequence[int], block: int) -> Blocks:
    """Blocks of about `block` elements: whole last axes, then a divisor of the next.

    Nine tenths to twice as many, where the axes have such a divisor; otherwise the last block of an axis is smaller.
    A block larger than the array is the array.
    """
    tile, room = [1] * len(shape), float(block)
    for axis in reversed(range(len(shape))):
        tile[axis] = _share(shape[axis], room)
        room /= tile[axis]
        if tile[axis] < shape[axis] or room < _MOST * _LEAST:
            break
    return Blocks(tuple(shape), tuple(tile))


def blocks_of(shape: Sequence[int], counts: Sequence[int]) -> Blocks:
    """The blocks of an array whose scales have that shape."""
    return Blocks(tuple(shape), tuple(-(-d // max(n, 1)) for d, n in zip(shape, counts, strict=True)))


def _share(size: int, room: float) -> int:
    if size <= room * _LEAST:
        return max(size, 1)
    divisors = [t for t in range(math.ceil(room * _LEAST), math.floor(room * _MOST) + 1) if size % t == 0]
    even = [t for t in divisors if t % 2 == 0]  # no byte of two 4-bit codes then belongs to two blocks
    return (even or divisors or [-(-size // max(1, round(size / room)))])[0]
