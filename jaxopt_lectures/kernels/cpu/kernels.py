"""The kernel of a kind of leaf: traced, translated, and called for many leaves at once."""

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxopt_lectures.kernels.body import Kind, Leaf, Scalars, advanced
from jaxopt_lectures.kernels.cpu.source import Kernel, kernel
from jaxopt_lectures.kernels.cpu.translate import translated
from jaxopt_lectures.kernels.cpu.values import Program, Unsupported
from jaxopt_lectures.storage import packing
from jaxopt_lectures.storage.blocks import Blocks
from jaxopt_lectures.storage.codes import Encoded, blocks_of_slot

LONGEST = 4096
"""Elements of a block (`kLongest` of simd.h)."""
PLAIN_TILE = 4096
"""Elements of a tile where there are no blocks."""
TOGETHER = 24
"""Leaves in one call: compilation time grows with the square of a call's operands."""
_SIZES = 48, 80
"""Two sizes of a tile: a formula that depends on the size gives two programs."""


@dataclass(frozen=True)
class Prepared:
    """A kernel, and what JAX computes before it is called.

    Attributes:
      kernel: the function.
      program: what it was written from.
      words: whether it draws random bits.
    """

    kernel: Kernel
    program: Program
    words: bool


@functools.cache
def prepared(kind: Kind, commons: Any) -> Prepared | str:
    """The kernel of a kind, or what cannot be translated.

    Args:
      kind: the rules and codes.
      commons: tree definition, and shape and dtype of each leaf, of what the steps of all leaves share.
    """
    found = of_any_size(functools.partial(_translated, kind, commons))
    if isinstance(found, str):
        return found
    if any(kind.codes):
        slots = tuple(slot if code is None else "float32" for slot, code in zip(kind.slots, kind.codes, strict=True))
        parts = tuple(replace(part, codes=tuple((name, None) for name, _ in part.codes)) for part in kind.parts)
        alone = prepared(replace(kind, parts=parts, slots=slots), commons)
        return alone if isinstance(alone, str) else found
    return found if found.program.loops == 1 else "its step looks at more than one element at a time"


def of_any_size(make: Callable[[int], Prepared]) -> Prepared | str:
    """What `make` gives of tiles of every size; or what cannot be translated."""
    try:
        first, second = map(make, _SIZES)
    except Unsupported as error:
        return f"no kernel has {error}"
    return first if first.kernel.name == second.kernel.name else "its step depends on the size of the array"


def _translated(kind: Kind, commons: Any, size: int) -> Prepared:
    treedef, leaves = commons
    uniforms = treedef.unflatten([jax.ShapeDtypeStruct(shape, dtype) for shape, dtype in leaves])
    g, p, *rest = (jax.ShapeDtypeStruct((size,), dtype) for dtype in (kind.g, kind.p, *kind.slots))
    scaled = [code is not None and bool(code.levels) for code in kind.codes]
    scales = [jax.ShapeDtypeStruct((1,), jnp.float32) for has in scaled if has]
    word = jax.ShapeDtypeStruct((), jnp.uint32)
    words = [(word, word) for _ in kind.codes], (word, word) if kind.at_random else None
    index = jax.ShapeDtypeStruct((size,), jnp.uint32)

    def tile(tiles: Any, numbers: Any, uniforms: Any) -> Any:
        (g, p, slots, index), (scales, (words, rounding)) = tiles, numbers
        left = iter(scales)
        kept = [
            x if code is None else (x, next(left) if has else None)
            for x, code, has in zip(slots, kind.codes, scaled, strict=True)
        ]
        scalars = Scalars(uniforms, words, rounding)
        return advanced(kind, Leaf(g, p, tuple(kept)), scalars, index, Blocks((size,), (size,)))

    program = translated(tile, (g, p, rest, index), (scales, words), uniforms, size)
    drawn = kind.at_random or any(code is not None and code.stochastic for code in kind.codes)
    return Prepared(kernel(program, *_places(kind, scaled)), program, drawn)


def _places(kind: Kind, scaled: Sequence[bool]) -> tuple[list[str], list[str], list[str]]:
    """Where a kernel finds its tiles and numbers, and where it puts what it makes."""
    tiles, numbers = [f"{kind.g} leaf.in[0]", f"{kind.p} leaf.in[1]"], []
    outputs, place = [f"{kind.p} leaf.out[0]"], 2
    for dtype, code, has in zip(kind.slots, kind.codes, scaled, strict=True):
        form = "u4" if code is not None and code.packed else dtype
        tiles.append(f"{form} leaf.in[{place}]")
        outputs.append(f"{form} leaf.out[{place - 1}]")
        place += 1
        if has:
            numbers.append(f"static_cast<const float*>(leaf.in[{place}])[tile]")
            outputs.append(f"static_cast<float*>(leaf.out[{place - 1}])[tile]")
            place += 1
    words = 2 * (len(kind.codes) + kind.at_random)
    return [*tiles, "index"], [*numbers, *(f"leaf.words[{at}]" for at in range(words))], outputs


def unfit(leaf: Leaf) -> str | None:
    """Why no kernel takes a leaf of that shape; None if one does."""
    tiles = {blocks_of_slot(slot, leaf.p.shape).tile for slot in _scaled(leaf)}
    if not leaf.p.size:
        return "it has no elements"
    if leaf.p.size >= 2**32:
        return "it has 2^32 elements or more"
    if len(tiles) > 1:
        return "its slots have blocks of different sizes"
    rows, length, tile = shape_of(leaf)
    if tiles and tile > LONGEST:
        return f"its blocks have {tile} elements, more than {LONGEST}"
    for slot in leaf.slots:
        if not (isinstance(slot, Encoded) and slot.code.packed):
            continue
        halved = packing.halved_axis(slot.codes.shape, leaf.p.shape)
        if halved is None or math.prod(leaf.p.shape[halved + 1 :]) > 1:
            return "two of its 4-bit codes that share a byte are not neighbours"
        if (length % 2 and rows > 1) or (tile % 2 and tile < length):
            return "two of its 4-bit codes that share a byte are of different blocks"
    return None


def shape_of(leaf: Leaf) -> tuple[int, int, int]:
    """Rows, elements of a row, and elements of a tile: tiles lie one after the other, the last of a row is shorter."""
    shape = leaf.p.shape
    blocks = [blocks_of_slot(slot, shape) for slot in _scaled(leaf)]
    if not blocks:
        return 1, math.prod(shape), PLAIN_TILE
    tile = blocks[0].tile
    axis = next((axis for axis, size in enumerate(tile) if size > 1), len(shape) - 1) if shape else 0
    return math.prod(shape[:axis]), math.prod(shape[axis:]), math.prod(tile[axis:])


def _scaled(leaf: Leaf) -> list[Encoded]:
    return [slot for slot in leaf.slots if isinstance(slot, Encoded) and slot.scale is not None]


def taken(made: Prepared, target: str, leaves: Sequence[Leaf], commons: Any, words: Any) -> list[Any]:
    """The new parameter and slots of each leaf: one call for every few of them.

    Args:
      made: their kernel.
      target: the handler that has it.
      leaves: of one kind, slots as they are kept.
      commons: what the steps of its parts share.
      words: (leaves, n, 2) uint32, of the random bits of each slot, and of the sum if that is rounded at random.
    """
    numbers = numbers_of(made, commons)
    out: list[Any] = []
    if not made.words:
        words = jnp.zeros((1, 1), jnp.uint32)
    for start in range(0, len(leaves), TOGETHER):
        out += _called(made, target, leaves[start : start + TOGETHER], numbers, words, start)
    return out


def numbers_of(made: Prepared, uniforms: Any) -> jax.Array:
    """The bits of the numbers that a kernel is given, (n,) uint32."""
    found = [_bits(x) for x in made.program.prologue(jax.tree.leaves(uniforms))]
    return jnp.stack(found) if found else jnp.zeros((1,), jnp.uint32)


def _called(made: Prepared, target: str, leaves: Sequence[Leaf], numbers: jax.Array, words: Any, start: int) -> Any:
    kept = [(leaf.p, leaf.slots) for leaf in leaves]
    arrays, treedef = jax.tree.flatten(kept)
    each = len(arrays) // len(leaves)
    operands, aliases = [numbers, words], {}
    for place, leaf in enumerate(leaves):
        operands.append(leaf.g)
        for result in range(place * each, (place + 1) * each):
            aliases[len(operands)] = result
            operands.append(arrays[result])
    rows = [start + place if made.words else 0 for place in range(len(leaves))]
    shapes = np.asarray([(*shape_of(leaf), row) for leaf, row in zip(leaves, rows, strict=True)], np.int64)
    results = [jax.ShapeDtypeStruct(x.shape, x.dtype) for x in arrays]
    call = jax.ffi.ffi_call(target, results, input_output_aliases=aliases)
    return treedef.unflatten(call(*operands, kernel=made.kernel.name, shapes=shapes.reshape(-1)))


def _bits(x: jax.Array) -> jax.Array:
    """A number as 32 bits."""
    wide = x.astype(jnp.float32) if x.dtype == jnp.bfloat16 else x
    if wide.dtype == jnp.bool_:
        return jnp.where(wide, np.uint32(0xFFFFFFFF), np.uint32(0))
    if wide.dtype in (jnp.uint8, jnp.uint16):
        return wide.astype(jnp.uint32)
    return wide if wide.dtype == jnp.uint32 else jax.lax.bitcast_convert_type(wide, jnp.uint32)
