"""Two 4-bit indices in a byte, the first in the high half: neighbours along one axis."""

import jax
import jax.numpy as jnp


def axis_to_halve(shape: tuple[int, ...]) -> int | None:
    """The last axis of even size; the last of more than one element if there is none; None if there is neither."""
    even = [axis for axis, size in enumerate(shape) if size % 2 == 0]
    long = even or [axis for axis, size in enumerate(shape) if size > 1]
    return long[-1] if long else None


def halved_axis(packed: tuple[int, ...], shape: tuple[int, ...]) -> int | None:
    """The axis along which an array of that shape, or a part of it, was packed; None if each index has its byte."""
    return next((axis for axis, (few, many) in enumerate(zip(packed, shape, strict=True)) if few != many), None)


def packed(indices: jax.Array, axis: int | None) -> jax.Array:
    """Half as many bytes; an odd axis gets one more index of 0."""
    if axis is None:
        return indices << 4
    if indices.shape[axis] % 2:
        indices = jnp.pad(indices, [(0, int(a == axis)) for a in range(indices.ndim)])
    pairs = indices.reshape(*indices.shape[:axis], -1, 2, *indices.shape[axis + 1 :])
    high, low = (jax.lax.index_in_dim(pairs, half, axis + 1, keepdims=False) for half in (0, 1))
    return (high << 4) | low


def unpacked(codes: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """The indices of an array of that shape."""
    axis = halved_axis(codes.shape, shape)
    if axis is None:
        return codes >> 4
    both = jnp.stack([codes >> 4, codes & 0xF], axis + 1)
    whole = both.reshape(*shape[:axis], 2 * codes.shape[axis], *shape[axis + 1 :])
    return jax.lax.slice_in_dim(whole, 0, shape[axis], axis=axis)
