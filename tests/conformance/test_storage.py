"""Every card with every codec: eager, compiled, in a sweep, in a loop, on eight devices, saved and restored.

`make test` takes one codec for each card, and every codec at least once; STORAGE=all, in `make soak`, takes them all.
"""

import functools
import os

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import jaxopt_lectures as jol
from jaxopt_lectures.storage.codecs import CODECS
from jaxopt_lectures.storage.codes import Encoded
from tests.conformance.cases import CARDS, RATE, build, equal, same_type

NAMES = list(CODECS)
PAIRS = [
    (card, codec)
    for number, card in enumerate(CARDS)
    for place, codec in enumerate(NAMES)
    if os.environ.get("STORAGE") == "all" or (place - number) % len(NAMES) == 0
]
W = {
    "matrix": np.float32(np.random.default_rng(0).normal(size=(16, 64))),
    "odd": np.linspace(1, 2, 257, dtype=np.float32),
}


def close(a, b, small=1e-3):
    """Equal but for contractions in another program, and for the codes that turn at such a difference: one in 100.

    Such a code is the next one, and what was computed from it is off by a few steps of the rate at most. Differences
    are measured by numbers not smaller than `small`.
    """
    same_type(a, b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        x, y = np.asarray(x), np.asarray(y)
        if x.dtype == np.uint8:
            assert (x != y).mean() <= 0.01
        elif x.dtype == np.uint16:
            assert (x != y).mean() <= 0.01 + 1 / x.size
        else:
            apart = np.abs(x.astype(np.float64) - y)
            assert (apart > 1e-4 * (np.abs(y) + small)).mean() <= 0.01
            assert apart.max(initial=0) <= 10 * RATE


def has_slots(tx):
    """Whether anything of the state is shaped like the parameters, and is no weights."""
    return any(slot.shape == "parameter" and slot.nature != "weights" for slot in tx.slots.values())


@pytest.mark.parametrize(("card", "codec"), PAIRS, ids=[f"{card.name}-{codec}" for card, codec in PAIRS])
def test_storage(card, codec, tmp_path):
    """One program of four steps, from which all others are a step, a lane, a shard or a file away."""
    tx = jol.store(build(card), codec, jax.random.key(2), min_size=1)
    w = jax.tree.map(jnp.asarray, W)
    w["matrix"] = w["matrix"][:, :16] if tx.couples == "matrix" else w["matrix"]
    grads = [jax.tree.map(lambda x, k=k: 0.3 * jnp.sin(k + 5 * x), w) for k in range(4)]
    for gradient in grads if tx.couples == "matrix" else ():  # eigenvectors are well-defined if eigenvalues are apart
        gradient["matrix"] += jnp.diag(jnp.linspace(4, 40, 16, dtype=jnp.float32))
    stacked = jax.tree.map(lambda *g: jnp.stack(g), *grads)

    def step(carry, gradient):
        params, state = carry
        updates, state = tx.update(gradient, state, params)
        return (optax.apply_updates(params, updates), state), None

    first = w, tx.init(w)
    encoded = [x for x in jax.tree.leaves(first[1], is_leaf=lambda x: isinstance(x, Encoded)) if isinstance(x, Encoded)]
    assert bool(encoded) == (codec != "f32" and has_slots(tx))

    once = jax.jit(lambda carry, g: step(carry, g)[0])
    path = [first]
    for gradient in grads:
        path.append(once(path[-1], gradient))
    same_type(first, path[-1])
    assert all(np.isfinite(np.asarray(leaf)).all() for leaf in jax.tree.leaves(path[-1][0]))

    near = functools.partial(close, small=0.1) if tx.couples == "matrix" else close  # a sum's rounding is its largest's
    near(step(path[1], grads[1])[0], path[2])  # eager
    near(jax.jit(lambda carry, g: jax.lax.scan(step, carry, g)[0])(first, stacked), path[-1])

    def lane(rate):
        own = jol.store(build(card, learning_rate=rate), codec, jax.random.key(2), min_size=1)
        updates, state = own.update(grads[0], own.init(w), w)
        return optax.apply_updates(w, updates), state

    lanes = jax.jit(jax.vmap(lane))(jnp.float32([RATE, 2 * RATE]))
    near(jax.tree.map(lambda x: x[0], lanes), path[1])

    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    there = NamedSharding(mesh, PartitionSpec(None, "data")), NamedSharding(mesh, PartitionSpec())
    spread = {"matrix": jax.device_put(w["matrix"], there[0]), "odd": jax.device_put(w["odd"], there[1])}
    shared = jax.device_put(grads[0], {"matrix": there[0], "odd": there[1]})
    after, _ = once((spread, tx.init(spread)), shared)
    for name in w:  # fresh numbers: the first step does not depend on where blocks end
        np.testing.assert_allclose(after[name], path[1][0][name], rtol=1e-5, atol=1e-6)

    with ocp.PyTreeCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "saved", {"run": path[2]})
        template = {"run": first}
        restore = ocp.args.PyTreeRestore(template, ocp.checkpoint_utils.construct_restore_args(template))
        back = checkpointer.restore(tmp_path / "saved", args=restore)["run"]
    equal(back, path[2])
    for gradient in grads[2:]:
        back = once(back, gradient)
    equal(back, path[-1])
