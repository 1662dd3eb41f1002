"""A step in one pass is the plain step: every card that can be fused, with every codec.

Kernel and plain step compute the same operations on float32; XLA contracts some products with the sum that follows. So
a number is off by some roundings of its own size, and of the terms that were summed to it: 16 of them are 2^-20. A code
is another one only where that reaches across a threshold: 2^-20 of 256 levels is 2^-12 of the way to the next, so one
element in a thousand may be off by one level, and its number by one rounding of the codec. A narrow weight is rounded
once at the end, to another neighbour as rarely.
"""

import functools
import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxopt_lectures as jol
from jaxopt_lectures.kernels.fuse import sources
from jaxopt_lectures.storage.codecs import CODECS
from tests.conformance.cases import CARDS, build, gradients

FUSED = [card for card in CARDS if build(card).couples == "element"]
ALL = "KERNELS" in os.environ
SHAPES = {"matrix": (24, 64), "odd": (257,), "ragged": (3, 1009), "scalar": (), "cube": (4, 6, 10)}
CLOSE, RARELY = 2.0**-20, 1 / 200


def parameters(dtype=jnp.float32):
    rng = np.random.default_rng(0)
    return {name: jnp.asarray(rng.normal(size=shape), dtype) for name, shape in SHAPES.items()}


def plain(tx, grads, state, params):
    updates, state = tx.update(grads, state, params)
    return jol.apply_updates(params, updates), state


def agree(found, wanted):
    """Asserts that one step gave the same."""
    assert jax.tree.structure(found) == jax.tree.structure(wanted)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
        x, y = np.asarray(a, np.float64), np.asarray(b, np.float64)
        if a.dtype in (jnp.uint8, jnp.uint16, jnp.bfloat16):
            wrong = a != b
            assert np.mean(wrong) <= max(RARELY, 2 / a.size)
            if a.dtype == jnp.bfloat16:
                np.testing.assert_allclose(x, y, rtol=2.0**-7)
            elif a.dtype == jnp.uint16:
                assert np.abs(x - y).max(initial=0) <= 1
        else:
            np.testing.assert_allclose(x, y, rtol=CLOSE, atol=CLOSE * np.abs(y).max(initial=0))


def every_step(tx, params, steps, grads=None):
    """Asserts that each of the steps of both, from the same state, gives the same."""
    fused = jol.fuse(tx, compile=True, sharded=False)
    one, other = jax.jit(fused.step), jax.jit(functools.partial(plain, tx))
    state = jax.jit(tx.init)(params)
    for gradient in grads or gradients(params, steps):
        found, wanted = one(gradient, state, params), other(gradient, state, params)
        agree(found, wanted)
        params, state = wanted


@pytest.mark.parametrize("codec", CODECS if ALL else ["f32", "int8"])
@pytest.mark.parametrize("card", FUSED, ids=lambda card: card.name)
def test_every_card(card, codec):
    every_step(jol.store(build(card), codec, min_size=1), parameters(), 50 if ALL else 10)


@pytest.mark.parametrize("codec", CODECS)
def test_every_codec_clipped(codec):
    tx = jol.chain(jol.clip_by_global_norm(1.0), jol.store(build(jol.registry.get("adamw")), codec, min_size=1))
    every_step(tx, parameters(), 50)


@pytest.mark.parametrize("codec", ["f32", "bf16", "int8", "int4"])
def test_narrow_weights_rounded_at_random(codec):
    tx = jol.round_stochastic(jol.store(build(jol.registry.get("adamw")), codec, min_size=1))
    every_step(tx, parameters(jnp.bfloat16), 10)


def test_narrow_weights_rounded_to_nearest():
    every_step(build(jol.registry.get("momentum")), parameters(jnp.bfloat16), 5)


@pytest.mark.parametrize("codec", ["f32", "int8"])
def test_numbers_that_are_not_finite_do_what_they_do_in_the_plain_step(codec):
    tx = jol.store(build(jol.registry.get("adamw")), codec, min_size=1)
    params = {"w": jnp.ones((8, 64))}
    state = jax.jit(tx.init)(params)
    fused = jax.jit(jol.fuse(tx, compile=True, sharded=False).step)
    gradient = np.random.default_rng(0).normal(size=(8, 64)).astype(np.float32)
    gradient[0, 3], gradient[2, 5], gradient[5, 1], gradient[6] = np.nan, np.inf, -np.inf, 0.0
    gradient[7] = 1e-42  # not a normal number: 0 in both
    for _ in range(2):
        found, wanted = (
            way({"w": jnp.asarray(gradient)}, state, params)
            for way in (fused, functools.partial(jax.jit(plain, static_argnums=0), tx))
        )
        x, y = np.asarray(found[0]["w"]), np.asarray(wanted[0]["w"])
        np.testing.assert_array_equal(np.isnan(x), np.isnan(y))
        np.testing.assert_allclose(x, y, rtol=CLOSE)
        for name in ("mu", "nu"):
            slots = [getattr(result[1], name)["w"] for result in (found, wanted)]
            a, b = (np.asarray(slot if codec == "f32" else slot.whole((8, 64))) for slot in slots)
            np.testing.assert_array_equal(np.isnan(a), np.isnan(b))
            np.testing.assert_array_equal(np.isinf(a), np.isinf(b))
        params, state = wanted


def test_those_that_look_further_have_no_kernels():
    """Also of what couples all elements only through numbers that are known before, there is a kernel."""
    shape = {"w": jax.ShapeDtypeStruct((8, 64), jnp.float32)}
    for card in CARDS:
        tx = build(card)
        assert bool(sources(tx, shape)) == (tx.passes is not None), card.name
        assert (tx.passes is None) == (tx.couples in ("array", "matrix")), card.name
