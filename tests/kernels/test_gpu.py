"""Kernels for GPU on CPU: interpreted they take the plain step, and Triton has words for all of them.

An interpreted kernel computes what the plain step computes, contracted and ordered otherwise. From the same state, a
number of either is off by at most some 16 roundings of numbers of its size, 2^-20. So a code is another one only where
that reaches across a threshold: 2^-20 of 256 levels is 2^-12 of the way to the next one, and one element in a thousand,
or rarely more, is off by one level. A narrow weight, whose sum is rounded, is off by one unit as rarely.
"""

import functools
import itertools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export

import jaxopt_lectures as jol
from jaxopt_lectures.core.rule import from_rule
from jaxopt_lectures.core.slots import Signed
from jaxopt_lectures.kernels.body import Leaf, Scalars, kind_of
from jaxopt_lectures.kernels.gpu.pallas import NoKernel, each, taken, unfit
from jaxopt_lectures.storage import packing
from jaxopt_lectures.storage.codes import Encoded
from tests.conformance.cases import CARDS, build, every_card, gradients

ELEMENTWISE = [card for card in CARDS if build(card).couples == "element"]
ADAMW = jol.registry.get("adamw")
CODECS = ["bf16", "fp8", "int8", "int4"]
CLOSE, RARELY = 2.0**-20, 1 / 100
FAST = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
TRITON = [export.DisabledSafetyCheck.custom_call("__gpu$xla.gpu.triton")]


def leaves(tx, grads, state, params):
    """For each leaf the arguments of its kernel, and what makes of the results the parameters and the next state."""
    passes = tx.passes(grads, state, params)
    arrays, treedef = jax.tree.flatten(params)
    found, names = [], []
    for place, p in enumerate(arrays):
        rows = [part.rows[place] for part in passes.parts]
        kind = kind_of(rows, p, passes.rounding is not None)
        words, slots = [], []
        for part, row in zip(passes.parts, rows, strict=True):
            shape = len(arrays), len(row.own.slots)
            slots += [slot for _, slot in sorted(row.own.slots.items())]
            words.append(part.keeping.words(part.count, shape)[place] if part.keeping else jnp.zeros((shape[1], 2)))
        words = jnp.concatenate([word.astype(jnp.uint32) for word in words])
        scalars = Scalars(tuple(row.common for row in rows), words, passes.rounding[place] if kind.at_random else None)
        found.append((kind, Leaf(rows[0].own.g, p, tuple(slots)), scalars))
        names.append([sorted(row.own.slots) for row in rows])

    def after(results):
        new = [[] for _ in passes.parts]
        for (_, slots), own in zip(results, names, strict=True):
            left = iter(slots)
            for part, of_part in enumerate(own):
                new[part].append({name: next(left) for name in of_part})
        return treedef.unflatten([p for p, _ in results]), passes.state(new)

    return found, after


def fused(tx, grads, state, params, interpret=True):
    found, after = leaves(tx, grads, state, params)
    return after([taken(*one, interpret=interpret) for one in found])


def plain(tx, grads, state, params):
    updates, state = tx.update(grads, state, params)
    return jol.apply_updates(params, updates), state


def programs(tx):
    return [jax.jit(functools.partial(way, tx), compiler_options=FAST) for way in (fused, plain)]


def coded(card, codec, narrow=False, **changes):
    tx = build(card, **changes)
    tx = tx if codec == "f32" else jol.store(tx, codec, key=jax.random.key(1), min_size=1)
    return jol.round_stochastic(tx, jax.random.key(2)) if narrow else tx


def tree(shapes, dtype=jnp.float32):
    rng = np.random.default_rng(0)
    return {str(shape): jnp.asarray(rng.normal(size=shape), dtype) for shape in shapes}


def near(ours, plains, params):
    """Asserts that two states, or trees of parameters, are equal but for what the top of this file says."""
    same = jax.tree.structure(ours), jax.tree.structure(plains)
    assert same[0] == same[1]
    for a, b in zip(
        *(jax.tree.leaves(x, is_leaf=lambda x: isinstance(x, Encoded)) for x in (ours, plains)), strict=True
    ):
        if isinstance(a, Encoded):
            shape = next(p.shape for p in params.values() if fits(a, p.shape))
            near_steps(*(packing.unpacked(x.codes, shape) if x.code.packed else x.codes for x in (a, b)))
            if a.scale is not None:
                np.testing.assert_allclose(a.scale, b.scale, CLOSE)
        elif a.dtype == jnp.bfloat16:
            near_steps(*(jax.lax.bitcast_convert_type(x, jnp.uint16) for x in (a, b)))
        else:
            assert (a.dtype, a.shape) == (b.dtype, b.shape)
            np.testing.assert_allclose(a, b, CLOSE, CLOSE)


def fits(slot, shape):
    halved = packing.axis_to_halve(shape) if slot.code.packed else None
    return slot.codes.shape == tuple(-(-size // 2) if at == halved else size for at, size in enumerate(shape))


def near_steps(a, b):
    """Asserts that numbers are the same or neighbours, nearly all of them the same."""
    assert (a.dtype, a.shape) == (b.dtype, b.shape)
    apart = np.abs(np.asarray(a, np.int64) - np.asarray(b, np.int64))
    assert apart.max(initial=0) <= 1
    assert apart.sum() <= max(2, RARELY * apart.size)


def run(tx, params, steps=3):
    """Steps the plain way, and asserts that each of them is near the interpreted kernel's."""
    ours, plainly = programs(tx)
    state = tx.init(params)
    for grads in gradients(params, steps):
        found = ours(grads, state, params)
        params, state = plainly(grads, state, params)
        near(found[0], params, params)
        near(found[1], state, params)


@pytest.mark.parametrize("card", ELEMENTWISE, ids=lambda card: card.name)
def test_a_kernel_takes_the_plain_step(card):
    run(coded(card, "f32"), tree([(1500,)]))


PAIRS = list(zip(ELEMENTWISE[1::2], itertools.cycle(CODECS), strict=False))


@pytest.mark.parametrize(("card", "codec"), PAIRS, ids=[f"{card.name}-{codec}" for card, codec in PAIRS])
def test_slots_in_codes(card, codec):
    run(coded(card, codec), tree([(6, 256)]))


@pytest.mark.parametrize("codec", ["f32", "int8"])
def test_weights_rounded_at_random(codec):
    run(coded(ADAMW, codec, narrow=True), tree([(6, 256)], jnp.bfloat16))


RAGGED = {  # blocks that are whole, of a row of no power of 2, cut short at the end, and cut short in each row
    "f32": [(), (1,), (0,), (7,), (3, 500)],
    "int8": [(), (0,), (521,), (3, 521)],
    "int4": [(1, 1), (115,), (3, 526)],
}


@pytest.mark.parametrize("codec", RAGGED)
def test_ragged_sizes(codec):
    run(coded(ADAMW, codec), tree(RAGGED[codec]), steps=2)


class KeptState(NamedTuple):
    count: jax.Array
    kept: Signed


def kept_rule(g, s, p, h, t):
    """Keeps much where there is no gradient, and little where there is one."""
    return -g, {"kept": 0.1 * s.kept + jnp.where(g == 0, 100.0, g)}


@pytest.mark.parametrize("shape", [(300,), (3, 521)])
def test_what_is_beyond_the_end_counts_for_nothing(shape):
    tx = jol.store(from_rule(kept_rule, KeptState), "int8", min_size=1)
    params = {"w": jnp.ones(shape)}
    run(tx, params, steps=2)


def test_nan_and_infinities():
    tx = coded(ADAMW, "int8")
    params = tree([(4, 256)])
    grads = {name: p.at[0, 3].set(jnp.nan).at[2, 5].set(jnp.inf) for name, p in params.items()}
    ours, plainly = (program(grads, tx.init(params), params) for program in programs(tx))
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(plainly), strict=True):
        if a.dtype == jnp.float32:
            np.testing.assert_allclose(a, b, CLOSE, CLOSE)  # a NaN is near a NaN only
    (p,) = ours[0].values()
    assert np.argwhere(np.isnan(p)).tolist() == [[0, 3]]


def test_several_leaves_of_a_kind():
    tx = coded(ADAMW, "int8")
    params = tree([(2, 256)]) | {"other": jnp.ones((2, 256))}
    found, after = leaves(tx, gradients(params, 1)[0], tx.init(params), params)
    words = jnp.stack([scalars.words for _, _, scalars in found])
    kind, _, scalars = found[0]
    many = each(kind, interpret=True)([leaf for _, leaf, _ in found], scalars.commons, words)
    want = after([taken(*one, interpret=True) for one in found])
    jax.tree.map(np.testing.assert_array_equal, after(many), want)


def reason(tx, shape, dtype=jnp.float32):
    params = {"w": jax.ShapeDtypeStruct(shape, dtype)}
    state = jax.eval_shape(tx.init, params)
    given = []

    def look(grads, state, params):
        given.append(leaves(tx, grads, state, params)[0][0])

    jax.eval_shape(look, params, state, params)
    (kind, leaf, _) = given[0]
    return kind, leaf, unfit(kind, leaf)


def test_what_does_not_fit_is_said():
    card = ADAMW
    for codec, shape, words, block in (
        ("int4", (4, 3), "not neighbours", None),
        ("int4", (3, 5), "not neighbours", None),
        ("int8", (2**15,), "longer", 2**15),
    ):
        tx = jol.store(build(card), codec, min_size=1, block=block)
        kind, leaf, said = reason(tx, shape)
        assert words in said
        with pytest.raises(NoKernel, match=words):
            jax.eval_shape(functools.partial(taken, kind), leaf, Scalars((), None, None))
    assert reason(jol.store(build(card), "int8"), (2**16, 2**16))[2].startswith("its 4294967296 elements")
    mixed = jol.store(build(card), {"mu": "int8", "nu": "int4"}, min_size=1)
    assert "different blocks" in reason(mixed, (1024,))[2]
    assert reason(jol.store(build(card), "int8"), (2**15, 2**14))[2] is None


@pytest.mark.parametrize(
    ("codec", "shape", "scales", "words"),
    [("int8", (8, 128), (2, 2), "no pieces"), ("int4", (258,), (2,), "two blocks")],
)
def test_blocks_may_be_torn(codec, shape, scales, words):
    """Four rows of a shard of half the columns; blocks of an odd size, two of whose codes share a byte."""
    kind, leaf, _ = reason(jol.store(build(ADAMW), codec, min_size=1), shape)
    torn = Encoded(leaf.slots[0].codes, jax.ShapeDtypeStruct(scales, jnp.float32), leaf.slots[0].code)
    assert words in unfit(kind, leaf._replace(slots=(torn, torn)))


def shapes(tx, dtype):
    params = {
        name: jax.ShapeDtypeStruct(shape, dtype) for name, shape in (("a", (64, 512)), ("b", ()), ("c", (3, 384)))
    }
    return params, jax.eval_shape(tx.init, params), params


@pytest.mark.parametrize("codec", ["f32", *CODECS])
@pytest.mark.parametrize("narrow", [False, True], ids=["float32", "bfloat16"])
def test_triton_has_words_for_codes(codec, narrow):
    tx = coded(ADAMW, codec, narrow)
    step = jax.jit(functools.partial(fused, tx, interpret=False))
    given = shapes(tx, jnp.bfloat16 if narrow else jnp.float32)
    made = export.export(step, platforms=["cuda"], disabled_checks=TRITON)(*given)
    assert made.mlir_module().count("__gpu$xla.gpu.triton") == len(given[0])


@pytest.mark.parametrize("card", ELEMENTWISE, ids=lambda card: card.name)
def test_triton_has_words_for_rules(card):
    tx = coded(card, "int8")
    step = jax.jit(functools.partial(fused, tx, interpret=False))
    export.export(step, platforms=["cuda"], disabled_checks=TRITON)(*shapes(tx, jnp.float32))


@every_card
def test_the_plain_step_is_exported_for_every_platform(card):
    tx = build(card)
    params = {"matrix": jax.ShapeDtypeStruct((3, 5), jnp.float32), "short": jax.ShapeDtypeStruct((7,), jnp.float32)}
    step = jax.jit(functools.partial(plain, tx))
    made = export.export(step, platforms=["cpu", "cuda", "tpu"])(params, jax.eval_shape(tx.init, params), params)
    assert made.platforms == ("cpu", "cuda", "tpu")
