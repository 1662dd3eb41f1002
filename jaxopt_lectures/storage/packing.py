"""Two 4-bit indices in a byte, the first in the high half: neighbours along the last axis of even size."""

import jax
import jax.numpy as jnp


def packed_axis(shape: tuple[int, ...]) -> int:
    """The axis that is halved: the last of even size, or the last if there is none."""
    even = [axis for axis, size in enumerate(shape) if size % 2 == 0]
    return even[-1] if even else len(shape) - 1


def packed(indices: jax.Array) -> jax.Array:
    """Half as many bytes; an odd axis gets one more index of 0. A scalar stays a byte."""
    if indices.ndim == 0:
        return indices
    axis = packed_axis(indices.shape)
    if indices.shape[axis] % 2:
        indices = jnp.pad(indices, [(0, int(a == axis)) for a in range(indices.ndim)])
    pairs = _pairs(indices, axis)
    return (jnp.take(pairs, 0, axis + 1) << 4) | jnp.take(pairs, 1, axis + 1)


def unpacked(codes: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """The indices of an array of that shape."""
    if not shape:
        return codes
    axis = packed_axis(shape)
    both = jnp.stack([codes >> 4, codes & 0xF], axis + 1)
    whole = both.reshape(*codes.shape[:axis], 2 * codes.shape[axis], *codes.shape[axis + 1 :])
    return jax.lax.slice_in_dim(whole, 0, shape[axis], axis=axis)


def _pairs(x: jax.Array, axis: int) -> jax.Array:
    return x.reshape(*x.shape[:axis], x.shape[axis] // 2, 2, *x.shape[axis + 1 :])
