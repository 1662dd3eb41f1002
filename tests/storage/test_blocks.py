"""Tiles: their sizes, what is cut and joined, and that their scales tell how an array was cut."""

import hypothesis
import hypothesis.strategies as st
import jax.numpy as jnp
import numpy as np
import pytest

from jaxopt_lectures.storage.blocks import blocks_for, blocks_of
from jaxopt_lectures.storage.packing import axis_to_halve, halved_axis, packed, unpacked

SHAPES = [
    (),
    (1,),
    (7,),
    (4096,),
    (1009,),
    (64, 300),
    (5, 5, 6, 16),
    (3, 3, 64, 128),
    (1000, 100),
    (1, 1),
    (3, 257),
]


@pytest.mark.parametrize(
    ("shape", "block", "tile"),
    [
        ((4096,), 256, (256,)),
        ((1024, 1024), 256, (1, 256)),
        ((3, 3, 64, 64), 256, (1, 1, 4, 64)),
        ((768, 768), 256, (1, 256)),
        ((10, 384), 256, (1, 384)),
        ((1000, 100), 256, (4, 100)),
        ((1009,), 256, (253,)),
        ((7,), 256, (7,)),
        ((), 256, ()),
        ((4096,), 5000, (4096,)),
    ],
)
def test_tiles(shape, block, tile):
    assert blocks_for(shape, block).tile == tile


@hypothesis.given(st.lists(st.integers(1, 60), min_size=1, max_size=4), st.sampled_from([1, 16, 128, 256]))
def test_scales_tell_the_blocks(shape, block):
    """From the shapes of a parameter and its scales alone, as a state has them; and no block is much too large."""
    blocks = blocks_for(shape, block)
    assert blocks_of(shape, blocks.counts) == blocks
    assert np.prod(blocks.tile) <= max(2 * block, 1)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_cut_and_joined(shape):
    """Nothing moves: each element is in the tile that its place says, and comes back."""
    x = jnp.arange(int(np.prod(shape)), dtype=jnp.float32).reshape(shape) + 1
    blocks = blocks_for(shape, 16)
    cut = blocks.cut(x)
    np.testing.assert_array_equal(blocks.joined(cut), x)
    largest = np.asarray(jnp.max(cut, axis=blocks.axes, initial=0).reshape(blocks.counts))
    for index in np.ndindex(*blocks.counts):
        part = x[tuple(slice(i * t, (i + 1) * t) for i, t in zip(index, blocks.tile, strict=True))]
        assert largest[index] == np.max(np.asarray(part), initial=0)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_packing(shape):
    """Two indices a byte, back unchanged, the first of a pair in the high half."""
    indices = jnp.asarray(np.random.default_rng(0).integers(0, 16, shape), jnp.uint8)
    axis = axis_to_halve(shape)
    codes = packed(indices, axis)
    assert halved_axis(codes.shape, shape) == axis
    np.testing.assert_array_equal(unpacked(codes, shape), indices)
    if axis is not None:
        assert codes.shape[axis] == -(-shape[axis] // 2)
        np.testing.assert_array_equal(codes >> 4, np.take(np.asarray(indices), np.arange(0, shape[axis], 2), axis))
