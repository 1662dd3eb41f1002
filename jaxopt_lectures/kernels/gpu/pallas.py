"""One step on one array in one pass over the memory of a GPU: a Pallas kernel, which Triton compiles.

A program takes a few blocks of the array, as they lie in memory, decodes their slots, takes the step, and puts all back
in place. Triton wants powers of two: a block is a row of as many lanes as that takes, those beyond its end masked.
"""

import functools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton

from jaxopt_lectures.kernels.body import Kind, Leaf, Scalars, advanced
from jaxopt_lectures.kernels.gpu.evaluate import evaluated
from jaxopt_lectures.kernels.gpu.rows import Rows, rows_of
from jaxopt_lectures.storage.blocks import Blocks
from jaxopt_lectures.storage.codes import Encoded


class NoKernel(ValueError):
    """An array that no kernel takes, and why."""


def unfit(kind: Kind, leaf: Leaf) -> str | None:
    """Why no kernel takes this leaf, of whose arrays only shapes and dtypes are read; None if one does."""
    rows = rows_of(kind, leaf)
    return rows if isinstance(rows, str) else None


@functools.partial(jax.jit, static_argnames=("kind", "interpret"))
def taken(kind: Kind, leaf: Leaf, scalars: Scalars, *, interpret: bool = False) -> tuple[Any, tuple[Any, ...]]:
    """The new parameter, and the new slots as they are kept. Equal leaves find their kernel in the cache.

    Args:
      kind: the rules.
      leaf: whole arrays, slots as they stand in a state.
      scalars: what does not depend on the element.
      interpret: without Triton, for tests on CPU.

    Raises:
      NoKernel: the array, or its slots, are such as the kernel does not know.
    """
    rows = rows_of(kind, leaf)
    if isinstance(rows, str):
        raise NoKernel(rows)
    if rows.size == 0:
        return leaf.p, leaf.slots
    vectors, bound = _numbers(scalars)
    like = jax.tree.map(lambda x: jax.ShapeDtypeStruct((x.size,), x.dtype), leaf)
    step, tables = _traced(kind, rows, like, vectors, bound)

    def body(*refs: Any) -> None:
        given = iter(refs)
        numbers = [ref[place] for ref in [next(given) for _ in vectors] for place in range(ref.shape[0])]
        constants = [next(given) for _ in tables]
        old = jax.tree.map(lambda _: next(given), like)
        p, slots = jax.tree.map(lambda _: next(given), tuple(like[1:]))
        tile = Tile(rows, interpret)
        arrays = [tile.read(old.g), tile.read(old.p), *map(tile.slot, old.slots)]

        def lookup(table: np.ndarray, index: Any) -> Any:
            return triton.load(constants[_place(tables, table)].at[index])

        new = iter(evaluated(step, jax.tree.leaves((arrays, numbers, tile.index)), lookup, tile.inside))
        tile.write(p, next(new))
        for slot in slots:
            tile.write_slot(slot, new)

    given = [*vectors, *map(jnp.asarray, tables), *[x.reshape(-1) for x in jax.tree.leaves(leaf)]]
    out = jax.tree.leaves(like[1:])
    new = pl.pallas_call(
        body,
        out,
        grid=(-(-rows.total // rows.tile[0]),),
        input_output_aliases={len(given) - len(out) + place: place for place in range(len(out))},
        interpret=interpret,
        compiler_params=triton.CompilerParams(num_warps=min(16, max(4, math.prod(rows.tile) // 256)), num_stages=1),
    )(*given)
    old, treedef = jax.tree.flatten(tuple(leaf[1:]))
    return treedef.unflatten([x.reshape(was.shape) for x, was in zip(new, old, strict=True)])


def each(kind: Kind, *, interpret: bool = False) -> Callable[..., list[Any]]:
    """`taken` for leaves of one kind, `(leaves, commons, words) -> [(parameter, slots), ...]`.

    `words`, (leaves, n, 2) uint32, are those of each slot, and last of the sum if that is rounded at random.
    """

    def run(leaves: Sequence[Leaf], commons: Any, words: jax.Array) -> list[Any]:
        def one(leaf: Leaf, word: jax.Array) -> Any:
            scalars = Scalars(commons, word, word[-1] if kind.at_random else None)
            return taken(kind, leaf, scalars, interpret=interpret)

        return [one(leaf, words[place]) for place, leaf in enumerate(leaves)]

    return run


class Tile:
    """The rows that one program takes."""

    def __init__(self, rows: Rows, interpret: bool) -> None:
        many, self.width = rows.tile
        self.row = pl.program_id(0) * many + jax.lax.broadcasted_iota(jnp.int32, (many, 1), 0)
        self.start, self.long = rows.found(self.row)
        self.lane = jax.lax.broadcasted_iota(jnp.int32, rows.tile, 1)
        self.place, self.inside = self.start + self.lane, self.lane < self.long
        self.half = jax.lax.broadcasted_iota(jnp.int32, (many, self.width // 2), 1)  # bytes of two indices
        self.halves = (self.start >> 1) + self.half, self.half < (self.long + 1) >> 1
        self.blocks = self.row, self.row < rows.total
        self.index, self.interpret = self.place.astype(jnp.uint32), interpret

    def read(self, ref: Any) -> Any:
        """The elements of an array; 0 where there are none."""
        return self._load(ref, self.place, self.inside)

    def slot(self, slot: Any) -> Any:
        """What `advanced` is given of a slot."""
        if not isinstance(slot, Encoded):
            return self.read(slot)
        scale = None if slot.scale is None else self._load(slot.scale, *self.blocks)
        if not slot.code.packed:
            return self.read(slot.codes), scale
        pairs = self._load(slot.codes, *self.halves)
        return jnp.stack([pairs >> 4, pairs & 15], 2).reshape(self.lane.shape), scale

    def write(self, ref: Any, x: Any) -> None:
        """Puts elements in their places."""
        self._store(ref, x, self.place, self.inside)

    def write_slot(self, slot: Any, new: Iterator[Any]) -> None:
        """Puts the next of what `advanced` gives in the place of a slot."""
        if not isinstance(slot, Encoded):
            return self.write(slot, next(new))
        codes = next(new)
        if slot.code.packed:
            high = jnp.where(self.inside, codes.astype(jnp.int32) << (4 - 4 * (self.lane & 1)), 0)
            pairs = jnp.sum(high.reshape(*self.half.shape, 2), 2, dtype=jnp.int32)
            self._store(slot.codes, pairs.astype(jnp.uint8), *self.halves)
        else:
            self.write(slot.codes, codes)
        if slot.scale is not None:
            self._store(slot.scale, next(new), *self.blocks)

    def _load(self, ref: Any, place: Any, inside: Any) -> Any:
        return triton.load(ref.at[place], mask=inside, other=jnp.zeros((), ref.dtype))

    def _store(self, ref: Any, x: Any, place: Any, inside: Any) -> None:
        if self.interpret:  # that puts old elements back where Triton writes none: the new ones of another row
            place = jnp.where(inside, place, ref.shape[0])
        triton.store(ref.at[place], x, mask=inside)


def _numbers(scalars: Scalars) -> tuple[list[jax.Array], Callable[[Sequence[Any]], Scalars]]:
    """A vector for each dtype, and what makes the scalars of all their elements; words become lists."""
    if any(jnp.ndim(x) for x in jax.tree.leaves(scalars.commons)):
        raise NoKernel("what its rule is given for all elements are not single numbers")
    leaves, treedef = jax.tree.flatten(scalars)
    leaves = [jnp.asarray(x) for x in leaves]
    dtypes = list(dict.fromkeys(x.dtype for x in leaves if x.size))
    order = sorted(range(len(leaves)), key=lambda at: [*dtypes, leaves[at].dtype].index(leaves[at].dtype))

    def bound(elements: Sequence[Any]) -> Scalars:
        left = iter(elements)
        found = {place: _nested(left, leaves[place].shape) for place in order}
        return treedef.unflatten([found[place] for place in range(len(leaves))])

    return [jnp.concatenate([x.reshape(-1) for x in leaves if x.dtype == dtype]) for dtype in dtypes], bound


def _nested(elements: Iterator[Any], shape: tuple[int, ...]) -> Any:
    return [_nested(elements, shape[1:]) for _ in range(shape[0])] if shape else next(elements)


def _traced(
    kind: Kind, rows: Rows, like: Leaf, vectors: Sequence[Any], bound: Callable[[Sequence[Any]], Scalars]
) -> tuple[Any, list[np.ndarray]]:
    """`advanced` on a tile, of single numbers, and the tables that it looks up."""

    def part(x: Any, shape: tuple[int, int] = rows.tile) -> Any:
        return None if x is None else jax.ShapeDtypeStruct(shape, x.dtype)

    def slot(x: Any) -> Any:
        return (part(x.codes), part(x.scale, (rows.tile[0], 1))) if isinstance(x, Encoded) else part(x)

    def step(arrays: Sequence[Any], elements: Sequence[Any], index: Any) -> Any:
        leaf = Leaf(arrays[0], arrays[1], tuple(arrays[2:]))
        return advanced(kind, leaf, bound(elements), index, Blocks(rows.tile, (1, rows.tile[1])))

    elements = [jax.ShapeDtypeStruct((), vector.dtype) for vector in vectors for _ in range(vector.size)]
    arrays = [part(like.g), part(like.p), *map(slot, like.slots)]
    closed = jax.make_jaxpr(step)(arrays, elements, jax.ShapeDtypeStruct(rows.tile, jnp.uint32))
    tables: list[np.ndarray] = []

    def lookup(table: np.ndarray, index: Any) -> Any:
        if _place(tables, table) is None:
            tables.append(table)
        return jnp.zeros(index.shape, table.dtype)

    inside = jax.ShapeDtypeStruct(rows.tile, jnp.bool_)
    jax.eval_shape(lambda args, inside: evaluated(closed, args, lookup, inside), closed.in_avals, inside)
    return closed, tables


def _place(tables: Sequence[np.ndarray], table: np.ndarray) -> Any:
    """Where among the tables it is; None if it is not."""
    same = (place for place, x in enumerate(tables) if x.dtype == table.dtype and np.array_equal(x, table))
    return next(same, None)
