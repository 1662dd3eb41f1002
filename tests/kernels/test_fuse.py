"""`fuse` from the outside: same types and numbers, in every place that JAX lets a step stand in."""

import functools
import subprocess
import sys
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxopt_lectures as jol
from jaxopt_lectures.kernels.cpu import kernels
from jaxopt_lectures.kernels.fuse import sources
from tests.conformance.cases import gradients, same_type

SHAPES = {"w": (16, 64), "b": (40,), "s": ()}
PARAMS = {name: jnp.asarray(np.random.default_rng(3).normal(size=shape), jnp.float32) for name, shape in SHAPES.items()}
CLOSE = 2.0**-20  # see test_cards.py
INT8 = jol.chain(
    jol.clip_by_global_norm(1.0), jol.store(jol.adamw(jol.linear_schedule(0.1, 0.0, 50)), "int8", min_size=1)
)


def fused(tx, **options):
    return jol.fuse(tx, **{"compile": True, "sharded": False, **options})


def plain(tx, grads, state, params):
    updates, state = tx.update(grads, state, params)
    return jol.apply_updates(params, updates), state


def close(found, wanted, tolerance=CLOSE):
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        x, y = np.asarray(a, np.float64), np.asarray(b, np.float64)
        np.testing.assert_allclose(x, y, rtol=tolerance, atol=tolerance * np.abs(y).max(initial=1))


def test_types_and_state_are_those_of_the_plain_step():
    tx = fused(INT8)
    state = tx.init(PARAMS)
    same_type(state, INT8.init(PARAMS))
    (grads,) = gradients(PARAMS, 1)
    found = jax.jit(tx.step)(grads, state, PARAMS)
    same_type(found, jax.jit(functools.partial(plain, INT8))(grads, state, PARAMS))
    same_type(tx.update(grads, state, PARAMS), INT8.update(grads, state, PARAMS))
    params, state = plain(INT8, grads, found[1], found[0])  # plain goes on where fused was, and fused where plain
    jax.jit(tx.step)(grads, state, params)


def test_outside_of_jit_in_scan_and_donated():
    tx = fused(INT8)
    grads = gradients(PARAMS, 4)
    state = tx.init(PARAMS)
    way, step = [(PARAMS, state)], jax.jit(lambda p, s, g: tx.step(g, s, p), donate_argnums=(0, 1))
    for gradient in grads:
        way.append(tx.step(gradient, way[-1][1], way[-1][0]))
    stacked = jax.tree.map(lambda *g: jnp.stack(g), *grads)
    looped = jax.jit(lambda c: jax.lax.scan(lambda c, g: (tx.step(g, c[1], c[0]), None), c, stacked)[0])(way[0])
    carry = jax.tree.map(jnp.copy, way[0])
    for gradient in grads:
        before, carry = carry, step(*carry, gradient)
        assert all(leaf.is_deleted() for leaf in jax.tree.leaves(before[0]))
    for other in (looped, carry):  # the same kernel: the same bits
        jax.tree.map(np.testing.assert_array_equal, other, way[-1])


def test_derivatives_are_those_of_the_plain_step():
    tx = fused(jol.chain(jol.clip_by_global_norm(1.0), jol.adamw(0.1)))
    (grads,) = gradients(PARAMS, 1)
    state = tx.init(PARAMS)

    def after(step, rate, p):
        params, _ = step(jax.tree.map(lambda g: rate * g, grads), state, p)
        return jnp.sum(params["w"] ** 2) + params["s"]

    ways = [
        jax.jit(jax.grad(functools.partial(after, way), argnums=(0, 1)))
        for way in (tx.step, functools.partial(plain, tx))
    ]
    close(*[way(jnp.float32(0.7), PARAMS) for way in ways])
    tangents = jax.jvp(lambda r: after(tx.step, r, PARAMS), (jnp.float32(0.7),), (jnp.float32(1),))
    assert np.isfinite(tangents[1])


def test_under_vmap():
    tx = fused(INT8)
    grads = gradients(PARAMS, 3)
    state = tx.init(PARAMS)
    many = jax.tree.map(lambda *g: jnp.stack(g), *grads)
    found = jax.jit(jax.vmap(lambda g: tx.step(g, state, PARAMS)))(many)
    wanted = [plain(INT8, g, state, PARAMS) for g in grads]
    close(found[0], jax.tree.map(lambda *p: jnp.stack(p), *[p for p, _ in wanted]))
    both = jax.jit(
        jax.vmap(jax.grad(lambda rate, g: tx.step(jax.tree.map(lambda x: rate * x, g), state, PARAMS)[0]["s"]))
    )
    assert both(jnp.ones(3), many).shape == (3,)


def test_one_leaf_sees_of_the_others_only_their_norm():
    tx = fused(INT8)
    (grads,) = gradients(PARAMS, 1)
    state = tx.init(PARAMS)
    found = jax.jit(tx.step)(grads, state, PARAMS)
    norm = np.sqrt(sum(float(np.sum(np.square(np.asarray(g, np.float64)))) for g in grads.values()))
    np.testing.assert_allclose(found[1][0].norm, norm, rtol=1e-6)
    huge = jax.tree.map(lambda g: 1e30 * g, grads)  # whose squares are no float32
    np.testing.assert_allclose(jax.jit(tx.step)(huge, state, PARAMS)[1][0].norm, 1e30 * norm, rtol=1e-6)


def test_memory_is_what_goes_in(cache):
    """Nothing of the size of a leaf is allocated, and every array is written where it was; `cache` has the kernels."""
    for codec in ("f32", "bf16", "int8", "int4"):
        tx = fused(jol.chain(jol.clip_by_global_norm(1.0), jol.store(jol.adamw(0.1), codec, min_size=1)))
        params = {str(place): jax.ShapeDtypeStruct((2**18,), jnp.float32) for place in range(40)}
        state = jax.eval_shape(tx.init, params)
        step = jax.jit(lambda p, s, g, tx=tx: tx.step(g, s, p), donate_argnums=(0, 1))
        memory = step.lower(params, state, params).compile().memory_analysis()
        kept = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves((params, state)))
        assert memory.temp_size_in_bytes < 2**17
        assert memory.alias_size_in_bytes >= 0.999 * kept
    assert list(cache.glob("*.so"))


def test_leaves_share_calls():
    """As many calls as groups of leaves, and no arrays put together."""
    tx = fused(jol.adamw(0.1))
    params = {str(place): jax.ShapeDtypeStruct((100 + place,), jnp.float32) for place in range(100)}
    made = jax.jit(tx.step).lower(params, jax.eval_shape(tx.init, params), params).compile()
    text = made.as_text()
    assert text.count('custom_call_target="jaxopt_lectures') == 5
    assert text.count("copy(") <= 4 * 100 + 20  # not donated: a copy of each array, and none beside


@pytest.mark.parametrize(
    ("tx", "word"),
    [
        (optax.sgd(0.1), "optax"),
        (jol.muon(0.1), "more than one element"),
        (jol.cautious_adamw(0.1), "more than one element"),
        (jol.accumulate(jol.adamw(0.1), 2), "more than one element"),
    ],
    ids=["optax", "matrix", "array", "wrapper"],
)
def test_what_has_no_kernel_takes_the_plain_step_and_says_so_once(tx, word, monkeypatch):
    monkeypatch.setattr("jaxopt_lectures.kernels.fuse._told", set())
    made, (grads,) = fused(tx), gradients(PARAMS, 1)
    state = tx.init(PARAMS)
    with pytest.warns(UserWarning, match=word):
        found = made.step(grads, state, PARAMS)
    close(found[0], plain(tx, grads, state, PARAMS)[0])
    made.step(grads, state, PARAMS)  # not twice: a warning is an error here
    assert word in str(jol.explain(made, PARAMS))


def test_parts_before_the_first_rule_that_can_be_fused_are_taken_plainly():
    tx = jol.chain(optax.clip(0.5), jol.clip_by_block_rms(1.0), jol.clip_by_global_norm(1.0), jol.adamw(0.1))
    (grads,) = gradients(PARAMS, 1)
    state = tx.init(PARAMS)
    text = str(jol.explain(fused(tx), PARAMS))
    assert "one pass on cpu" in text
    close(jax.jit(fused(tx).step)(grads, state, PARAMS), jax.jit(functools.partial(plain, tx))(grads, state, PARAMS))


@pytest.mark.parametrize(
    "tx",
    [
        jol.chain(jol.clip(0.5), jol.chain(jol.clip_by_block_rms(1.0), jol.adamw(0.1))),
        jol.chain(jol.round_stochastic(jol.adamw(0.1)), jol.clip(0.05)),
    ],
    ids=["an inner chain that sees whole arrays", "rounded before the end"],
)
def test_chains_of_all_kinds(tx):
    """A part that must see gradients, and one that is around a rule, are not behind or before others in one pass."""
    (grads,) = gradients(PARAMS, 1)
    state = tx.init(PARAMS)
    assert "one pass on cpu" in str(jol.explain(fused(tx), PARAMS))
    close(jax.jit(fused(tx).step)(grads, state, PARAMS), jax.jit(functools.partial(plain, tx))(grads, state, PARAMS))


def test_leaves_of_all_kinds_side_by_side():
    params = {
        "wide": jnp.ones((8, 64)),
        "narrow": jnp.ones((8, 64), jnp.bfloat16),
        "half": jnp.ones((4, 4), jnp.float16),
        "empty": jnp.zeros((0, 3)),
        "scalar": jnp.float32(2.0),
        "nothing": None,
        "turned": jnp.asarray(np.asfortranarray(np.arange(512.0, dtype=np.float32).reshape(8, 64))),
    }
    tx = jol.chain(
        jol.clip_by_global_norm(1.0),
        jol.adamw(0.1, weight_decay=0.1, mask=lambda p: jax.tree.map(lambda x: x.ndim > 1, p)),
    )
    made, (grads,) = fused(tx), gradients(params, 1)
    state = tx.init(params)
    close(
        jax.jit(made.step)(grads, state, params), jax.jit(functools.partial(plain, tx))(grads, state, params), 2.0**-7
    )
    told = str(jol.explain(made, params))
    assert "float16" in told
    assert "no elements" in told


def test_float64_takes_the_plain_step(x64):
    tx = fused(jol.adamw(0.1), quiet=True)
    params = {"w": jnp.ones(8, jnp.float64), "v": jnp.ones(8, jnp.float32)}
    state = tx.init(params)
    found = jax.jit(tx.step)(params, state, params)
    assert found[0]["w"].dtype == jnp.float64
    close(found, plain(tx, params, state, params))
    assert "float64" in str(jol.explain(tx, params))


def test_in_shard_map_each_device_takes_its_part():
    """A kernel that was first wanted on one mesh is there on another, and on none."""
    kernels.prepared.cache_clear()
    tx = fused(jol.adamw(0.1), sharded=None)
    p, (g,) = jnp.linspace(-1, 1, 64), gradients(jnp.ones(64), 1)
    state = tx.init(p)
    wanted = jax.jit(functools.partial(plain, tx))(g, state, p)
    spec = jax.tree.map(lambda x: jax.P("data") if jnp.ndim(x) else jax.P(), state)
    for devices, kind in ((8, "Auto"), (4, "Auto"), (2, "Explicit")):
        mesh = jax.make_mesh((devices,), ("data",), axis_types=(jax.sharding.AxisType[kind],))
        given = (jax.P("data"), spec, jax.P("data"))
        run = jax.jit(
            jax.shard_map(tx.step, mesh=mesh, in_specs=given, out_specs=(jax.P("data"), spec), check_vma=False)
        )
        layouts = jax.tree.map(functools.partial(jax.NamedSharding, mesh), given)
        placed = jax.device_put((g, state, p), layouts)
        with jax.sharding.set_mesh(mesh):
            assert "jaxopt_lectures" in run.lower(*placed).as_text()
            close(run(*placed), wanted)
    one = jax.jit(jol.fuse(jol.adamw(0.1), sharded=False).step)
    assert "jaxopt_lectures" in one.lower(g, state, p).as_text()
    close(one(g, state, p), wanted)


def test_arrays_on_many_devices_are_not_gathered():
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    layout = jax.NamedSharding(mesh, jax.P("data"))
    p = jax.device_put(jnp.linspace(-1, 1, 64), layout)
    tx = jol.fuse(jol.adamw(0.1), compile=True, quiet=True)
    state = jax.tree.map(
        lambda x: jax.device_put(x, layout if jnp.ndim(x) else jax.NamedSharding(mesh, jax.P())), tx.init(p)
    )
    for found in (jax.jit(tx.step)(p, state, p), tx.step(p, state, p)):
        assert found[0].sharding.is_equivalent_to(layout, 1)
    text = jax.jit(tx.step).lower(p, state, p).compile().as_text()
    assert "all-gather" not in text
    assert 'custom_call_target="jaxopt_lectures' not in text


def test_fit_takes_its_steps_by_kernels(monkeypatch):
    from jaxopt_lectures import tasks
    from jaxopt_lectures.kernels.cpu import library
    from jaxopt_lectures.training.program import make_step, start

    monkeypatch.setattr(jax, "device_count", lambda: 1)  # with more of them, arrays might lie on many
    task, tx = tasks.get("digits"), jol.adamw(1e-3)
    state = start(task, tx)
    library.made(sources(tx, state.params))  # as if the package had brought them
    examples = [jnp.asarray(part[:8]) for part in task.data().train]
    assert "jaxopt_lectures" in jax.jit(make_step(task, tx)).lower(state, *examples).as_text()


def test_the_number_of_threads_changes_nothing():
    """A large leaf and a norm, by one thread and by two."""
    code = """
import sys, hashlib, jax, jax.numpy as jnp, numpy as np, jaxopt_lectures as jol
tx = jol.fuse(jol.chain(jol.clip_by_global_norm(1.0), jol.store(jol.adamw(0.1), 'int8')), compile=True)
p = jnp.asarray(np.random.default_rng(0).normal(size=300_001), jnp.float32)
state = tx.init(p)
for _ in range(2):
    p, state = jax.jit(tx.step)(p, state, p)
print(hashlib.sha256(b''.join(np.asarray(x).tobytes() for x in jax.tree.leaves((p, state)))).hexdigest())
"""
    import os

    def run(**more):
        environment = {**os.environ, "XLA_FLAGS": "", **more}
        return subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
        ).stdout

    assert run(NPROC="1") == run(NPROC="2") != ""


def test_bad_arguments():
    with pytest.raises(TypeError, match="fuse's argument"):
        jol.fuse(3)
    tx = fused(jol.adamw(0.1))
    state = tx.init(PARAMS)
    with pytest.raises(ValueError, match="shape"):
        tx.step({**PARAMS, "w": jnp.ones(3)}, state, PARAMS)
    with pytest.raises(TypeError, match="keeps a"):
        tx.step(PARAMS, (), PARAMS)


def test_importing_compiles_nothing():
    code = "import jaxopt_lectures, sys; assert 'jax.experimental.pallas' not in sys.modules"
    with warnings.catch_warnings():
        subprocess.run([sys.executable, "-c", code], check=True)
