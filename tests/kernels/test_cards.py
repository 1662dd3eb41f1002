"""A step in one pass is the plain step: every card that can be fused, with every codec.

Kernel and plain step compute the same operations on float32; XLA contracts some products with the sum that follows. So
a number is off by some roundings of its own size, and of the terms that were summed to it, of which one was there
before and another may have cancelled it: 16 of them are 2^-20. A code is another one only where that reaches across a
threshold: 2^-20 of 256 levels is 2^-12 of the way to the next, so one element in a thousand may be off by one level,
and its number by one rounding of the codec. A narrow weight is rounded once at the end, to another neighbour as rarely.
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
from jaxopt_lectures.storage.codes import Encoded
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


def agree(found, wanted, before):
    """Asserts that one step from the state `before` gave the same."""
    assert jax.tree.structure(found) == jax.tree.structure(wanted)
    leaves = [jax.tree.leaves(tree, is_leaf=lambda x: isinstance(x, Encoded)) for tree in (found, wanted, before)]
    for a, b, old in zip(*leaves, strict=True):
        if isinstance(a, Encoded) and a.scale is not None:
            near(a.scale, b.scale, old.scale)
            x, y = (np.asarray(slot.codes, int) for slot in (a, b))
            x, y = (np.stack(np.divmod(codes, 16)) if a.code.packed else codes for codes in (x, y))
            assert np.abs(x - y).max(initial=0) <= 1
            assert np.mean(x != y) <= max(RARELY, 2 / y.size)
        elif isinstance(a, Encoded):
            near(*(jax.lax.bitcast_convert_type(slot.codes, jnp.bfloat16) for slot in (a, b, old)))
        else:
            near(a, b, old)


def near(a, b, old):
    """Asserts that numbers are those wanted, but for roundings of what was summed to them, as `old`."""
    assert (a.shape, a.dtype) == (b.shape, b.dtype)
    x, y = np.asarray(a, np.float64), np.asarray(b, np.float64)
    terms = max(np.abs(y).max(initial=0), np.abs(np.asarray(old, np.float64)).max(initial=0))
    if a.dtype == jnp.bfloat16:
        assert np.mean(np.abs(x - y) > CLOSE * terms) <= max(RARELY, 2 / y.size)
        np.testing.assert_allclose(x, y, rtol=2.0**-7, atol=CLOSE * terms)
    else:
        np.testing.assert_allclose(x, y, rtol=CLOSE, atol=CLOSE * terms)


def every_step(tx, params, steps, grads=None):
    """Asserts that each of the steps of both, from the same state, gives the same."""
    fused = jol.fuse(tx, compile=True, sharded=False)
    one, other = jax.jit(fused.step), jax.jit(functools.partial(plain, tx))
    state = jax.jit(tx.init)(params)
    for gradient in grads or gradients(params, steps):
        found, wanted = one(gradient, state, params), other(gradient, state, params)
        agree(found, wanted, (params, state))
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
