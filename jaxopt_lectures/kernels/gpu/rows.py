"""How an array lies in memory in the rows that a kernel takes, and which arrays do not."""

import math
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl

from jaxopt_lectures.kernels.body import Kind, Leaf
from jaxopt_lectures.storage.codes import Encoded, blocks_of_slot
from jaxopt_lectures.storage.packing import halved_axis

_TILE, _WIDEST = 1024, 8192  # elements of a program, 8 a thread: a rule fits its registers; of the longest block
_MOST = 2**31 - 2**16  # elements that are counted in 32 bits with a sign
_DTYPES = ("float32", "bfloat16", "float16", "uint8", "uint16")


@dataclass(frozen=True)
class Rows:
    """An array as it lies in memory: groups of so many elements, each in rows, of which the last may be shorter."""

    size: int
    group: int
    row: int

    @property
    def of_group(self) -> int:
        """Rows of a group."""
        return -(-self.group // self.row)

    @property
    def total(self) -> int:
        """Rows of the array."""
        return self.size // self.group * self.of_group

    @property
    def tile(self) -> tuple[int, int]:
        """Rows of a program, and lanes of a row: at least the two that share a byte."""
        width = max(2, pl.next_power_of_2(self.row))
        return min(max(1, _TILE // width), pl.next_power_of_2(self.total)), width

    def found(self, row: Any) -> tuple[Any, Any]:
        """Where a row begins, and how many elements it has; none if there is no such row."""
        if self.group == self.size or self.group % self.row == 0:
            start = row * self.row
            return start, self.size - start if self.row == self.tile[1] else jnp.minimum(self.size - start, self.row)
        group, place = jax.lax.div(row, self.of_group), jax.lax.rem(row, self.of_group) * self.row
        return group * self.group + place, jnp.where(row < self.total, jnp.minimum(self.group - place, self.row), 0)


def rows_of(kind: Kind, leaf: Leaf) -> Rows | str:
    """How the array is taken, or why it is not."""
    shape, encoded = leaf.p.shape, [slot for slot in leaf.slots if isinstance(slot, Encoded)]
    size = math.prod(shape)
    strange = [dtype for dtype in (kind.g, kind.p, *kind.slots) if dtype not in _DTYPES]
    if strange:
        return f"there is no kernel for {strange[0]}"
    if size > _MOST:
        return f"its {size} elements are more than a kernel counts"
    if any(x.shape != shape for x in (leaf.g, *leaf.slots) if not isinstance(x, Encoded)):
        return "its gradient, or a slot of it, has another shape"
    tiles = list({blocks_of_slot(slot, shape).tile for slot in encoded if slot.scale is not None})
    if len(tiles) > 1:
        return f"its slots are cut into different blocks, {tiles[0]} and {tiles[1]}"
    if not tiles or not size:
        return Rows(size, size, _TILE)
    (tile,) = tiles
    axis = next((place for place, length in enumerate(tile) if length > 1), len(tile))
    if tile[axis + 1 :] != shape[axis + 1 :]:
        return f"its blocks, {tile} of {shape}, are no pieces of memory"
    rows = Rows(size, math.prod(shape[axis:]), math.prod(tile))
    if rows.row > _WIDEST:
        return f"its blocks of {rows.row} elements are longer than the {_WIDEST} that a kernel takes"
    halved = [halved_axis(slot.codes.shape, shape) for slot in encoded if slot.code.packed]
    return next((reason for at in halved if (reason := _torn(at, shape, rows))), rows)


def _torn(halved: int | None, shape: tuple[int, ...], rows: Rows) -> str | None:
    """What is wrong with bytes of two indices along that axis."""
    if halved is None:
        return None
    if math.prod(shape[halved + 1 :]) > 1 or (shape[halved] % 2 and shape[halved] < rows.size):
        return f"two indices that share a byte are not neighbours in memory, along axis {halved} of {shape}"
    return f"a byte has indices of two blocks of {rows.row} elements" if rows.row % 2 and rows.total > 1 else None
