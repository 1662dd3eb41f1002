"""Each operation of the C++ is JAX's: on ordinary numbers, and on those that are none, infinite, signed zeros."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxopt_lectures as jol
from jaxopt_lectures.core.slots import Signed
from jaxopt_lectures.kernels.cpu import compiler, library
from jaxopt_lectures.kernels.cpu.translate import translated
from jaxopt_lectures.kernels.fuse import sources


def bits(x):
    return jax.lax.bitcast_convert_type(x, jnp.uint32)


def back(x):
    return jax.lax.bitcast_convert_type(x, jnp.float32)


def looked_up(table, x, y):
    index = (bits(x) >> np.uint32(20)).astype(jnp.int32) & np.int32(7)
    return jnp.asarray(table).at[index].get(mode="promise_in_bounds")


TABLES = [np.random.default_rng(0).normal(size=size).astype(np.float32) for size in (13, 16, 32, 100)]
SHIFTS = np.uint32(3), np.uint32(31), np.uint32(40)
OPERATIONS = {
    "sum": lambda x, y: x + y,
    "difference": lambda x, y: x - y,
    "product": lambda x, y: x * y,
    "quotient": lambda x, y: x / y,
    "negative": lambda x, y: -x,
    "maximum": jnp.maximum,
    "minimum": jnp.minimum,
    "bounded": lambda x, y: jax.lax.clamp(np.float32(-0.5), x, np.float32(0.75)),
    "at_least": lambda x, y: jnp.maximum(x, 0.25),
    "magnitude": lambda x, y: jnp.abs(x),
    "sign": lambda x, y: jnp.sign(x),
    "root": lambda x, y: jnp.sqrt(jnp.abs(x)),
    "inverse_root": lambda x, y: jax.lax.rsqrt(jnp.abs(y) + 1),
    "square": lambda x, y: jnp.square(x),
    "cube": lambda x, y: x**3,
    "inverse_square": lambda x, y: (y + 3) ** -2,
    "floor": lambda x, y: jnp.floor(x),
    "finite": lambda x, y: jnp.where(jnp.isfinite(x), 1.0, 0.0),
    "less": lambda x, y: jnp.where((x < y) | (y >= 1), x, -1.0),
    "equal": lambda x, y: jnp.where((x == y) & ~(x != 0.5), 1.0, 2.0),
    "among": lambda x, y: jnp.where((x <= y) ^ (y > 0), x, y),
    "integer": lambda x, y: (x * 1000).astype(jnp.int32).astype(jnp.float32),
    "flag": lambda x, y: (x > y).astype(jnp.float32) + (x < y).astype(jnp.int32).astype(jnp.float32),
    "bits_left": lambda x, y: ((bits(x) << SHIFTS[0]) >> np.uint32(9)).astype(jnp.float32),
    "bits_right": lambda x, y: (bits(x) >> SHIFTS[1]).astype(jnp.float32) + (bits(x) >> SHIFTS[2]).astype(jnp.float32),
    "bits_signed": lambda x, y: (bits(x).astype(jnp.int32) >> np.int32(20)).astype(jnp.float32),
    "bits_mixed": lambda x, y: back((bits(x) ^ bits(y)) & np.uint32(0x3FFFFFFF) | np.uint32(1)),
    "byte": lambda x, y: (bits(x).astype(jnp.uint8) + np.uint8(200)).astype(jnp.float32),
    "short": lambda x, y: (~bits(x).astype(jnp.uint16)).astype(jnp.float32),
    "narrow": lambda x, y: x.astype(jnp.bfloat16).astype(jnp.float32),
    "whole_powers": lambda x, y: x**0 + x**2 + x**4,
    **{f"lookup_{len(table)}": functools.partial(looked_up, table) for table in TABLES},
}
State = NamedTuple("State", [("count", jax.Array), *[(name, Signed) for name in OPERATIONS]])


def rule(g, s, p, h, t):
    """A slot for each operation, on the gradient and the parameter."""
    del s, h, t
    return jnp.zeros_like(g), {name: operation(g, p) for name, operation in OPERATIONS.items()}


def values():
    """Pairs of all kinds of numbers, and ordinary ones; none that is not normal: those are 0 in kernels and XLA."""
    special = np.float32([0.0, -0.0, 1.0, -1.0, 0.5, 3.0, np.inf, -np.inf, np.nan, 3e38, -3e38, 2e-38, 7.5, -255.0])
    x, y = (a.ravel() for a in np.meshgrid(special, special))
    more = np.random.default_rng(0).normal(size=(2, 300)).astype(np.float32)
    return jnp.asarray(np.concatenate([x, more[0]])), jnp.asarray(np.concatenate([y, more[1]]))


TX = jol.from_rule(rule, State, needs_params=True)


@pytest.mark.parametrize("name", OPERATIONS)
def test_operation(name, results):
    found, wanted = (np.asarray(getattr(state, name)) for state in results)
    np.testing.assert_array_equal(np.isnan(found), np.isnan(wanted))
    # the same operations, each rounded once by both: equal; XLA may contract what the sum of two of them is
    np.testing.assert_allclose(found, wanted, rtol=2.0**-22)
    if name not in ("maximum", "minimum"):  # which of two zeros is the larger is not said
        zeros = (found == 0) & (wanted == 0)
        np.testing.assert_array_equal(np.signbit(found[zeros]), np.signbit(wanted[zeros]))


@pytest.fixture(scope="module")
def results():
    """The slots by the kernel, and by the plain step."""
    x, y = values()
    state = TX.init(y)
    fused = jol.fuse(TX, compile=True, sharded=False)
    assert "one pass" in str(jol.explain(fused, y))
    return jax.jit(fused.step)(x, state, y)[1], jax.jit(TX.update)(x, state, y)[1]


def test_all_instruction_sets_give_the_same_bits(tmp_path, monkeypatch):
    """Every level that this processor has, on ordinary numbers and on others, also with codes and random bits."""
    x, y = values()
    coded = jol.store(jol.registry.get("adamw").factory(1e-2), "int8", min_size=1)
    found = {}
    for level in compiler.levels()[compiler.levels().index(compiler.own_level()) :]:
        monkeypatch.setattr(library, "own_level", lambda level=level: level)
        monkeypatch.setattr(library, "_made", {})
        monkeypatch.setenv("JAXOPT_LECTURES_CACHE", str(tmp_path / level))
        for tx in (TX, coded):
            state = tx.init(y)
            step = jax.jit(jol.fuse(tx, compile=True, sharded=False).step)
            found.setdefault(level, []).append(jax.tree.leaves(step(x, state, y)))
        assert list((tmp_path / level).glob(f"*-{level}-*.so"))
    first, *others = found.values()
    assert others or len(compiler.levels()) == 1
    for other in others:
        for a, b in zip(jax.tree.leaves(first), jax.tree.leaves(other), strict=True):
            np.testing.assert_array_equal(np.asarray(a), np.asarray(b))


@pytest.mark.parametrize(
    ("function", "word"),
    [
        (lambda x: jnp.exp(x), "exp"),
        (lambda x: jnp.cumsum(x), "cumsum"),
        (lambda x: x[::-1], "rev"),
        (lambda x: x.astype(jnp.float16).astype(jnp.float32), "float16"),
        (lambda x: x**31, "31"),
        (lambda x: jax.lax.while_loop(lambda y: y[0] < 0, lambda y: y + 1, x), "while"),
        (lambda x: x @ x * x, "dot_general"),
    ],
)
def test_what_is_not_translated_is_named(function, word):
    def apply(g, s, p, h, t):
        del s, p, h, t
        return function(g), {}

    tx = jol.from_rule(apply, NamedTuple("Counted", [("count", jax.Array)]))
    step, x = jax.jit(jol.fuse(tx, sharded=False, compile=True).step), jnp.linspace(0.5, 1, 64)
    with pytest.warns(UserWarning, match=word):
        p, _ = step(x, tx.init(x), x)
    np.testing.assert_allclose(p, x + function(x), rtol=1e-6)


def test_a_rule_that_looks_around_or_at_the_size_is_found_out():
    for function, word in ((lambda x: x / x.size, "size"), (lambda x: x - jnp.max(x), "more than one element")):

        def apply(g, s, p, h, t, function=function):
            del s, p, h, t
            return function(g), {}

        tx = jol.from_rule(apply, NamedTuple("Counted", [("count", jax.Array)]))  # it claims to be elementwise
        assert not sources(tx, {"w": jnp.ones(8)})
        with pytest.warns(UserWarning, match=word):
            jol.fuse(tx, sharded=False, compile=True).step(jnp.ones(8), tx.init(jnp.ones(8)), jnp.ones(8))


def test_equal_things_are_computed_once():
    def twice(tiles, numbers, uniforms):
        (x,), (rate,) = tiles, uniforms
        return (x * rate + x * rate) / (1 - rate), numbers[0] * rate

    x, one = jax.ShapeDtypeStruct((48,), jnp.float32), jax.ShapeDtypeStruct((), jnp.float32)
    program = translated(twice, [x], [one], [one], 48)
    assert program.loops == 1
    assert len(program.uniforms) == 2  # the rate and 1 - rate, which JAX computes
    (quotient, product) = program.outputs
    assert quotient.inputs[0].inputs[0] is quotient.inputs[0].inputs[1]
    assert not product.vector
