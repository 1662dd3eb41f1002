"""A step in chunks is the step on the whole, random bits included, whatever the shape, the chunk and the groups."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxopt_lectures.core.keeping import Own
from jaxopt_lectures.storage.chunks import chunks_for, stepped
from jaxopt_lectures.storage.codecs import CODECS
from jaxopt_lectures.storage.codes import encoded
from jaxopt_lectures.storage.rounding import words

SHAPES = [(1000,), (35,), (1024,), (257,), (6, 5), (3, 257), (16, 64), (2, 3, 40, 16), (1, 4096), (5, 1)]


def step(formula, own, common):
    """Something elementwise that reads all it is given."""
    del formula
    (g, slots, p, _), (shared, h, t) = own, common
    fresh = {name: h * slot + (1 - h) * (g * g if name == "nu" else g) for name, slot in slots.items()}
    return -fresh["mu"] / (jnp.sqrt(fresh["nu"]) + 0.1) + shared["k"] * p - t * fresh["plain"], fresh


@pytest.mark.parametrize("codec", ["int8", "int4", "bf16"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_whole(codec, shape):
    rng = np.random.default_rng(0)
    g, p, mu, nu = (jnp.asarray(rng.normal(size=shape), jnp.float32) for _ in range(4))
    word = words(None, jnp.int32(3), (3,))
    chosen = CODECS[codec]
    encode, advance = jax.jit(encoded, static_argnums=(0, 2)), jax.jit(stepped, static_argnums=(0, 1, 2, 3))
    slots = {
        "mu": encode(chosen.signed, mu, 16, word[0]),
        "nu": encode(chosen.nonnegative, nu * nu, 16, word[1]),
        "plain": nu,
    }
    row = Own(g, slots, p, None), ({"k": jnp.float32(0.5)}, jnp.float32(0.9), jnp.float32(2))
    whole = advance(step, None, 0, 1, *row, word)
    for elements in (32, 100):
        for devices in (1, 2):
            update, new = advance(step, None, elements, devices, *row, word)
            # one program may contract a product and a sum where the other does not: a unit in the last place of what
            # is encoded and of scales, and hence another code for at most one number in a thousand
            np.testing.assert_allclose(update, whole[0], rtol=2e-6, atol=2e-6)
            for a, b in zip(jax.tree.leaves(new), jax.tree.leaves(whole[1]), strict=True):
                if a.dtype == jnp.float32:
                    np.testing.assert_allclose(a, b, rtol=1e-6)
                else:
                    assert (np.asarray(a) != np.asarray(b)).mean() <= 2e-3


def test_chunks():
    """Along the axis with most units; at least two; groups of a size that the devices divide."""
    chunks = chunks_for((4096, 1024), (1, 256), 2**16, 1)
    assert (chunks.axis, chunks.size, chunks.groups) == (0, 64, 1)
    chunks = chunks_for((4096, 1024), (1, 256), 2**16, 8)
    assert (chunks.size, chunks.groups) == (8, 8)
    assert chunks_for((2048,), (256,), 2**16, 1).size == 1024
    assert chunks_for((2048,), (256,), 2**16, 3).groups == 1
    assert chunks_for((300,), (300,), 2**16, 1).size == 300
