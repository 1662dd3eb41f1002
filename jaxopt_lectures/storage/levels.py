"""The numbers in [0, 1] that a code of a few bits can stand for: where a given number lies among them, and they again.

Sources: T. Dettmers, M. Lewis, S. Shleifer, L. Zettlemoyer, "8-bit optimizers via block-wise quantization", ICLR 2022,
arXiv:2110.02861, section 2.2 and figure 2; B. Li, J. Chen, J. Zhu, "Memory efficient optimizers with 4-bit states",
NeurIPS 2023, arXiv:2309.01507, section 3 and appendix E; P. Micikevicius et al., "FP8 formats for deep learning", 2022,
arXiv:2209.05433, table 1.

Both ways are a few operations on floats and look-ups in tables of at most 16 entries (32 for e5m2), each of which is
one permutation of a vector's lanes. A search, or a table of all levels, is a read from memory for each element.
"""

import functools
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

Line = tuple[float, float, float]
"""A point and a slope: `(z, x, dx/dz)`."""
Bend = tuple[float, float]


@dataclass(frozen=True, eq=False)
class Levels:
    """Magnitudes, and the piecewise linear map to their indices: x = k at level k, linear from each to the next.

    The leading bits of a float say in which cell it lies. There, with q = slope z + offset of the cell,

        x = base + min over bends (a, b) of a q + b;

    without bends x = q. Only the gaps at the two ends may be apart from that.

    Attributes:
      magnitudes: in increasing order, of which the last is 1.
      unit: what 1 is brought to, in [4, 8): so `unit / scale` neither overflows nor is subnormal for any scale from
        twice the smallest normal number to the largest.
      shift: bits of a float that do not count for its cell.
      low: the least float that is looked up, as an integer.
      cells: slope, offset and base of each cell, (3, n), by the last bits of its number; n is a power of 2.
      bends: see above; the same in all cells.
      ends: the slopes below the first positive level and above the last but one, where they differ.
      group: levels whose indices are the same above so many bits are evenly spaced; a float instead: those whose
        indices, plus it, have the same exponent.
      groups: what `value` looks up for each group, (2, n).
      times: see `value`.
    """

    magnitudes: tuple[float, ...]
    unit: float
    shift: int
    low: int
    cells: np.ndarray
    bends: tuple[Bend, ...]
    ends: tuple[float, float] | None
    group: int | float
    groups: np.ndarray
    times: int

    def __len__(self) -> int:
        return len(self.magnitudes)

    @functools.cached_property
    def rounded(self) -> np.ndarray:
        """The numbers that `value` gives, to the bit."""
        k = np.arange(len(self), dtype=np.float32)
        places = [_group(each, self.group) % self.groups.shape[1] for each in range(len(self))]
        a, b = self.groups.astype(np.float32)[:, places]
        return ((np.float32(self.times) * k + a) * b).astype(np.float64)


@functools.cache
def dynamic(bits: int, *, signed: bool) -> Levels:
    """Dettmers' dynamic map: decades down from 1, each evenly divided, the larger ones more finely.

    With n = bits - 1 decades, decade i = 0 .. n - 1 has 2^i levels (signed: the sign takes a bit) or 2^(i+1), the
    midpoints of as many equal parts of [0.1, 1], times 10^(i - n + 1); then 0 and 1. With 8 bits that is 127 or 254
    levels, so that both signs, 0 and a single 1 make 256.
    """
    decades = bits - 1
    counts = [2**i if signed else 2 ** (i + 1) for i in range(decades)]
    found = [0.0, 1.0]
    for i, count in enumerate(counts):
        edges = np.linspace(0.1, 1, count + 1)
        found += list(10.0 ** (i - decades + 1) * (edges[1:] + edges[:-1]) / 2)
    levels = tuple(sorted(found))
    # Where two decades meet, at e, parts become 5 times as wide. In units of the wider ones, q = (z - e) / part, levels
    # lie at x = x_e + 5 q up to q = -1/10, at x_e + q from q = 1/2, and the gap between is x_e + (5 q - 1) / 3.
    meet = [(10.0 ** (i - decades), sum(counts[:i]) + 0.5) for i in range(1, decades)]
    lines = [(e, x, count / (9 * e)) for (e, x), count in zip(meet, counts[1:], strict=True)]
    ends = 1 / levels[1], 1 / (1 - levels[-2])
    # decade i has (18 k + 9 - 16 n) / (20 n) 10^(i - decades + 1), n = 2^i <= k < 2 n; unsigned the like, from k + 1
    shift, group = 24 if bits == 8 else 23, 0.5 if signed else 1.0
    return _levels(levels, lines, 4, shift, ((5, 0), (5 / 3, -1 / 3), (1, 0)), ends, group, 18)


@functools.cache
def linear(bits: int) -> Levels:
    """Li's map for what is never negative: `(i + 1) / 2^bits`. It has no 0, so that nothing is divided by it."""
    levels = tuple((i + 1) / 2**bits for i in range(2**bits))
    return _levels(levels, [(1, len(levels) - 1, len(levels))], 4, 31)


@functools.cache
def geometric(bits: int, octaves: int) -> Levels:
    """Every level the same multiple of the one below, from 2^-octaves to 1; it has no 0.

    The relative error is the same everywhere: what divides a step may be wrong by a factor, not by an amount.
    """
    ratio = 2.0 ** (octaves / (2**bits - 1))
    levels = tuple(float(2.0 ** (-octaves * (1 - i / (2**bits - 1)))) for i in range(2**bits))
    lines = [(levels[k], k, 1 / (levels[k + 1] - levels[k])) for k in range(1, len(levels) - 1)]
    # 1 ends an octave: two cells an octave are 16 for 8 of them, and no cell has two levels inside
    return _levels(levels, lines, 8 * (1 - 2.0**-24), 22, ((ratio, 0), (1, 0)))


@functools.cache
def floats(dtype: str) -> Levels:
    """The non-negative finite numbers of a float of 8 bits, over the largest of them."""
    values = np.arange(128, dtype=np.uint8).view(jnp.dtype(dtype)).astype(np.float64)
    values = values[np.isfinite(values)]
    levels = tuple(float(value) for value in values / values[-1])
    digits = int(jnp.finfo(dtype).nmant)
    lines = [(levels[k], k, 1 / (levels[k + 1] - levels[k])) for k in range(0, len(levels), 2**digits)]
    # the largest times a power of 2: cells are exponents
    return _levels(levels, lines, float(8 * np.frexp(values[-1])[0]), 23, group=digits)


def position(levels: Levels, pattern: jax.Array, more: float) -> jax.Array:
    """Where a magnitude lies among the levels, x + `more`, float32.

    Args:
      levels: at most 256.
      pattern: `levels.unit` times the magnitude, float32, as the integer of the same bits. What is above 1, and NaN,
        counts as 1; what is below a first level that is not 0, as that level.
      more: what to add.
    """
    slope, offset, base = levels.cells
    pattern = jnp.minimum(pattern, _pattern(levels.unit))
    above = jnp.maximum(pattern, np.int32(levels.low))
    z = jax.lax.bitcast_convert_type(pattern if levels.magnitudes[0] == 0 else above, jnp.float32)
    cell = _among(above >> levels.shift, slope)
    if not levels.bends:
        return z * at(slope, cell) + at(offset + more, cell)
    q = z * at(slope, cell) + at(offset, cell)
    x = functools.reduce(_lesser, [_bent(q, *bend) for bend in levels.bends]) + at(base + more, cell)
    if levels.ends:
        first, last = (np.float32(slope / levels.unit) for slope in levels.ends)
        x = _lesser(z * first + np.float32(more), x)
        line = z * last + np.float32(len(levels) - 1 + more - float(last) * levels.unit)
        x = jnp.where(line > x, line, x)
    return x


def value(levels: Levels, k: jax.Array) -> jax.Array:
    """The level of an index, float32: (times k + a) b, with a and b of its group.

    `times k + a` is a small whole number: exact, whether or not the product and the sum are contracted. So every
    program has the same levels, those of float64 but for two roundings. The last one is 1.
    """
    wide = k.astype(jnp.float32)
    a, b = levels.groups
    if isinstance(levels.group, int):
        group = k >> levels.group
    else:
        group = jax.lax.bitcast_convert_type(wide + np.float32(levels.group), jnp.int32) >> 23
    group = _among(group, a)
    return (_bent(wide, levels.times, 0) + at(a, group)) * at(b, group)


def at(row: np.ndarray, place: jax.Array) -> jax.Array | np.float32:
    """The entries of a small table."""
    if len(row) == 1:
        return np.float32(row[0])
    return jnp.asarray(row, jnp.float32).at[place].get(mode="promise_in_bounds", wrap_negative_indices=False)


def _levels(
    magnitudes: tuple[float, ...],
    lines: Sequence[Line],
    unit: float,
    shift: int,
    bends: tuple[Bend, ...] = (),
    ends: tuple[float, float] | None = None,
    group: int | float = 0,
    times: int = 1,
) -> Levels:
    """Levels with their tables: in each cell the line, bent, that the map follows there between the ends."""
    inner = np.asarray(magnitudes[1:-1] if ends else magnitudes)
    low = int(_pattern((magnitudes[0] or magnitudes[1]) * unit * (1 + 2.0**-22)))  # a rounding must not cost a cell
    keys = list(range(low >> shift, (int(_pattern(unit)) >> shift) + 1))
    edges = [0.0, *[float(np.int32(key << shift).view(np.float32)) / unit for key in keys[1:]], 1.0]
    chosen = []
    for start, end in itertools.pairwise(edges):
        z = np.clip([start, *inner[(inner > start) & (inner < end)], end], inner[0], inner[-1])
        wanted = np.interp(z, magnitudes, np.arange(len(magnitudes)))
        bent = [x + np.min([a * (z - e) * s + b for a, b in bends or ((1, 0),)], axis=0) for e, x, s in lines]
        chosen.append(int(np.argmin([np.max(np.abs(found - wanted)) for found in bent])))
    if magnitudes[0] == 0:  # all that follows the first line needs one cell
        less = sum(each == chosen[0] for each in chosen) - 1
        low, keys, chosen = max(low, keys[less] << shift), keys[less:], chosen[less:]
    cells = np.zeros((3, _power(len(keys))))
    for key, (e, x, s) in zip(keys, (lines[each] for each in chosen), strict=True):
        cells[:, key % cells.shape[1]] = s / unit, -e * s + (0 if bends else x), x if bends else 0
    return Levels(magnitudes, unit, shift, low, cells, bends, ends, group, _groups(magnitudes, group, times), times)


def _groups(magnitudes: tuple[float, ...], group: int | float, times: int) -> np.ndarray:
    """For each group of evenly spaced levels a and b of `value`."""
    found: dict[int, list[int]] = {}
    for k in range(len(magnitudes)):
        found.setdefault(_group(k, group), []).append(k)
    table = np.zeros((2, _power(len(found))))
    for key, (first, last) in ((key, (ks[0], ks[-1])) for key, ks in found.items()):
        rise = magnitudes[last] - magnitudes[first]
        b = rise / (last - first) / times if rise else magnitudes[first]
        table[:, key % table.shape[1]] = (round(magnitudes[first] / b) if b else 0) - times * first, b
    return table


def _group(k: int, group: int | float) -> int:
    return k >> group if isinstance(group, int) else math.frexp(k + group)[1] + 126


def _power(count: int) -> int:
    """The least power of 2 that is not below."""
    return 1 << (count - 1).bit_length()


def _pattern(x: float) -> np.int32:
    return np.float32(x).view(np.int32)


def _bent(q: jax.Array, a: float, b: float) -> jax.Array:
    q = q if a == 1 else q * np.float32(a)
    return q + np.float32(b) if b else q


def _lesser(a: jax.Array, b: jax.Array) -> jax.Array:
    """Of numbers that are no NaN, which `jnp.minimum` would have to let through."""
    return jnp.where(a < b, a, b)


def _among(key: jax.Array, row: np.ndarray) -> jax.Array:
    """The place of a key in a table: its last bits."""
    return key & np.asarray(len(row) - 1, key.dtype)
