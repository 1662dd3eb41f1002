"""A step on one array whose slots are encoded, in chunks: only a chunk of them is ever decoded.

A program that decodes whole leaves keeps many of them at once, whatever their order in the code: 32 bytes a parameter
on CPU. A loop over chunks needs one chunk.
"""

import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from jaxopt_lectures.core import sharding
from jaxopt_lectures.core.keeping import Own
from jaxopt_lectures.storage import packing
from jaxopt_lectures.storage.blocks import Blocks
from jaxopt_lectures.storage.codes import Encoded, Place, blocks_of_slot, closed, everywhere, opened
from jaxopt_lectures.storage.rounding import word_of

Slots = dict[str, Any]


@dataclass(frozen=True)
class Chunks:
    """An array of `shape` along one axis: in groups, and each group in chunks of `size`, the last of them smaller.

    A chunk takes its part of every group. Where the axis is sharded, and its shards are whole groups, every device
    finds its part of every chunk at home.
    """

    shape: tuple[int, ...]
    axis: int
    groups: int
    size: int

    @property
    def length(self) -> int:
        """Of a group."""
        return self.shape[self.axis] // self.groups

    def part(self, x: jax.Array, start: Any, size: int, per: int) -> jax.Array:
        """The chunk of an array that has one element along the axis for every `per` of ours."""
        found = jax.lax.dynamic_slice_in_dim(self._view(x), start // per, -(-size // per), self.axis + 1)
        return found.reshape(*x.shape[: self.axis], -1, *x.shape[self.axis + 1 :])

    def put(self, x: jax.Array, part: jax.Array, start: Any, per: int) -> jax.Array:
        """The array with that chunk in its place."""
        view = self._view(x)
        part = part.reshape(*view.shape[: self.axis + 1], -1, *view.shape[self.axis + 2 :])
        return jax.lax.dynamic_update_slice_in_dim(view, part, start // per, self.axis + 1).reshape(x.shape)

    def index(self, start: Any, size: int) -> jax.Array:
        """The place of each element of a chunk in the whole array, uint32."""
        shape = (*self.shape[: self.axis], self.groups, size, *self.shape[self.axis + 1 :])
        strides = [math.prod(self.shape[axis + 1 :]) for axis in range(len(self.shape))]
        strides.insert(self.axis, self.length * strides[self.axis])
        found = jnp.uint32(start) * jnp.uint32(strides[self.axis + 1] % 2**32)
        for axis, stride in enumerate(strides):
            found = found + jax.lax.broadcasted_iota(jnp.uint32, shape, axis) * jnp.uint32(stride % 2**32)
        return found.reshape(*self.shape[: self.axis], -1, *self.shape[self.axis + 1 :])

    def _view(self, x: jax.Array) -> jax.Array:
        return x.reshape(*x.shape[: self.axis], self.groups, -1, *x.shape[self.axis + 1 :])


def chunks_for(shape: tuple[int, ...], units: tuple[int, ...], elements: int, devices: int) -> Chunks:
    """Chunks of about so many elements, along the axis that has most units; at least two, as a loop of one is none.

    Args:
      shape: of the array, not empty and no scalar.
      units: along each axis, what must not be divided.
      elements: of a chunk.
      devices: how many groups to make if they divide the axis.
    """
    axis = max(range(len(shape)), key=lambda a: shape[a] / units[a])
    groups = devices if shape[axis] % (devices * units[axis]) == 0 else 1
    length, unit = shape[axis] // groups, units[axis]
    wanted = min(elements * shape[axis] // (math.prod(shape) * groups), length // 2)
    return Chunks(shape, axis, groups, min(max(unit, wanted // unit * unit), length))


@functools.partial(jax.custom_jvp, nondiff_argnums=(0, 1, 2, 3))
@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3))
def stepped(
    step: Callable[..., Any], formula: Any, elements: int, devices: int, own: Own, common: Any, words: jax.Array
) -> tuple[jax.Array, Slots]:
    """One step on one array with encoded slots: the update, and the new slots, encoded.

    Args:
      step: `step(formula, own, common) -> (update, slots)`.
      formula: its first argument.
      elements: of a chunk; 0 takes the array whole, as a step must that is not elementwise.
      devices: see `chunks_for`.
      own: what it is given of the array's own, with slots as they are kept.
      common: what all arrays share.
      words: (slots, 2) uint32, what the random bits of each slot are made of, in the order of their names.
    """
    g, slots, p, key = own
    word = {name: word_of(words, index) for index, name in enumerate(sorted(slots))}
    blocks = {name: blocks_of_slot(slot, g.shape) for name, slot in slots.items()}

    def on(g: jax.Array, old: Slots, p: Any, index: jax.Array, tiles: Mapping[str, Blocks]) -> tuple[jax.Array, Slots]:
        plain = {name: opened(slot, tiles[name]) for name, slot in old.items()}
        update, new = step(formula, Own(g, plain, p, key), common)
        places = {name: Place(index, word[name]) for name in new}
        return update, {name: closed(old[name], x, tiles[name], places[name]) for name, x in new.items()}

    if not elements or g.ndim == 0:
        return on(g, slots, p, everywhere(g.shape), blocks)
    chunks = chunks_for(g.shape, _units(slots, blocks, g.ndim), elements, devices)
    dtype = jax.eval_shape(lambda: on(g, slots, p, everywhere(g.shape), blocks))[0].dtype
    result = jnp.zeros(g.shape, dtype), slots
    pers = 1, {name: _per(slot, blocks[name], chunks.axis) for name, slot in slots.items()}
    g_words, p_words, carry = jax.tree.map(_words, (g, p, result))

    def advance(start: Any, size: int, carry: Any) -> Any:
        def part(x: Any, like: Any, per: int = 1) -> Any:
            return x if x.ndim == 0 else _floats(chunks.part(x, start, size, per), like)

        index = chunks.index(start, size)
        tiles = {name: Blocks(index.shape, b.tile) for name, b in blocks.items()}
        _, old = jax.tree.map(part, carry, result, pers)
        read = None if p is None else part(p_words, p)
        found = _apart(common[2] > 0, functools.partial(on, tiles=tiles), part(g_words, g), old, read, index)
        return jax.tree.map(lambda x, own, per: chunks.put(x, _words(own), start, per), carry, found, pers)

    count, rest = divmod(chunks.length, chunks.size)
    carry = jax.lax.fori_loop(0, count, lambda i, c: advance(i * chunks.size, chunks.size, c), carry)
    return jax.tree.map(_floats, advance(count * chunks.size, rest, carry) if rest else carry, result)


@stepped.defjvp
def _derivative(
    step: Callable[..., Any], formula: Any, elements: int, devices: int, primals: Any, tangents: Any
) -> tuple[Any, Any]:
    """Of the step on the whole array: its fresh numbers, not what is stored of them."""
    del elements
    return jax.jvp(functools.partial(stepped.fun, step, formula, 0, devices), primals, tangents)


def _apart(always: jax.Array, function: Callable[..., Any], *operands: Any) -> Any:
    """`function(*operands)`, which XLA on CPU must not fuse with what is around it.

    It would make one loop of reading a slice, the step and writing the slice, and copy the whole array for each. It
    fuses nothing into a branch, so this is one, of which it does not know that it is always taken.
    """
    if jax.default_backend() != "cpu":
        return function(*operands)
    like = jax.eval_shape(function, *operands)

    def never(*operands: Any) -> Any:
        del operands
        return sharding.alike(jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), like), like)

    return jax.lax.cond(always, function, never, *operands)


def _words(x: jax.Array) -> jax.Array:
    """Floats of 16 bits as integers, on CPU, where XLA widens a whole array of such floats to take a slice of it."""
    narrow = x.dtype in (jnp.bfloat16, jnp.float16) and jax.default_backend() == "cpu"
    return jax.lax.bitcast_convert_type(x, jnp.uint16) if narrow else x


def _floats(x: jax.Array, like: jax.Array) -> jax.Array:
    """What `_words` took, `like` what it was."""
    return x if x.dtype == like.dtype else jax.lax.bitcast_convert_type(x, like.dtype)


def _units(slots: Slots, blocks: Mapping[str, Blocks], ndim: int) -> tuple[int, ...]:
    """Along each axis what no chunk may divide: tiles, and bytes of two indices."""
    units = [math.lcm(*[b.tile[axis] for b in blocks.values()]) for axis in range(ndim)]
    for name, slot in slots.items():
        halved = _halved(slot, blocks[name].shape)
        if halved is not None:
            units[halved] = math.lcm(units[halved], 2)
    return tuple(units)


def _per(slot: Any, blocks: Blocks, axis: int) -> Any:
    """For each array of a slot how many elements of ours one of it stands for along the axis."""
    if not isinstance(slot, Encoded):
        return 1
    pair = _halved(slot, blocks.shape) == axis
    return Encoded(1 + pair, None if slot.scale is None else blocks.tile[axis], slot.code)


def _halved(slot: Any, shape: tuple[int, ...]) -> int | None:
    """The axis along which two indices share a byte, if they do."""
    packed = isinstance(slot, Encoded) and slot.code.packed
    return packing.halved_axis(slot.codes.shape, shape) if packed else None
