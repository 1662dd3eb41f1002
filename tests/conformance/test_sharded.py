"""Every card with its state cut over eight devices: 1/8 of the bytes on each, and the numbers of one device."""

import itertools
import os

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxopt_lectures as jol
from tests.conformance.cases import CARDS, build

CODECS = ("int8", "int4", "bf16", "fp8")
# `make test` takes a sample: a step is compiled for each code; STORAGE=all, as in `make soak`, takes all
PAIRS = (
    list(itertools.product(CARDS, CODECS))
    if os.environ.get("STORAGE") == "all"
    else list(zip(CARDS, itertools.cycle(CODECS), strict=False))[3::5]
)


def arrays(count, rows):
    """Two parameters whose axes eight divides, and of which codes keep whole rows: blocks are those of one device."""
    rng = np.random.default_rng(3)
    shapes = {"matrix": (rows, 256), "vector": (256,)}
    return [{name: jnp.asarray(rng.normal(size=shape)) for name, shape in shapes.items()} for _ in range(count)]


def trained(tx, params, grads):
    step = jax.jit(lambda g, s, p: tx.update(g, s, p))
    state = tx.init(params)
    for gradient in grads:
        updates, state = step(gradient, state, params)
        params = optax.apply_updates(params, updates)
    return params, state


def held(tree):
    """Bytes on one of the devices, and in all; numbers that each device has count for neither."""
    leaves = [leaf for leaf in jax.tree.leaves(tree) if leaf.ndim]
    return sum(leaf.addressable_shards[5].data.nbytes for leaf in leaves), sum(leaf.nbytes for leaf in leaves)


def check(tx):
    # square where bases of matrices are asked for: those of what is of lower rank are anyone's choice
    params, *grads = arrays(4, rows=256 if tx.couples == "matrix" else 16)
    mesh = jol.mesh_of("data=8")
    layout = jol.params_sharding(params, mesh)
    placed, *there = jax.device_put([params, *grads], [layout] * 4)
    after, state = trained(jol.shard(tx, mesh, zero=1, params=layout), placed, there)
    mine, whole = held(state)
    assert mine <= 1.01 * whole / 8
    alone, _ = trained(tx, params, grads)
    for name in params:
        assert after[name].sharding.is_equivalent_to(layout[name], after[name].ndim)
        # float64; decompositions and sums over devices in another order, three steps
        np.testing.assert_allclose(after[name], alone[name], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("card", CARDS, ids=lambda card: card.name)
def test_state_cut_over_devices(card, x64):
    check(build(card))


@pytest.mark.parametrize(("card", "codec"), PAIRS, ids=lambda given: getattr(given, "name", given))
def test_encoded_state_cut_over_devices(card, codec, x64):
    check(jol.store(build(card), codec, min_size=1024))
