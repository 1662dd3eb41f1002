"""A solve as one CPU function changes nothing but the time: what goes in compiles, what does not is known, and results
are those of the plain loop.

Direct calls with concrete arrays go that way; with the eight devices of these tests, calls under `jit` and `vmap` do
not, unless a test says that there is one device.
"""

import functools
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import NamedSharding, PartitionSpec

import jaxopt_lectures as jol
from jaxopt_lectures.solvers import one_kernel
from jaxopt_lectures.solvers.one_kernel import as_one_kernel, fits
from jaxopt_lectures.solvers.solve import solve
from tests.problems import rosenbrock

MINIMIZE = sys.modules["jaxopt_lectures.solvers.minimize"]
NOTE = "xla_cpu_small_call"


@pytest.fixture
def one_device(monkeypatch):
    """As on a machine with one device, where traced arrays are known to lie on it."""
    monkeypatch.setattr(jax, "device_count", lambda: 1)


@pytest.fixture
def lowered(monkeypatch):
    """The lowered texts of the solves that are asked for."""
    texts = []

    def recorded(*arguments):
        texts.append(solve.lower(*arguments).as_text())
        return solve(*arguments)

    monkeypatch.setattr(MINIMIZE, "solve", recorded)
    return texts


# ---- all that is let in compiles, and computes the same

X = np.random.default_rng(1).uniform(-1.5, 1.5, 6)
A = np.random.default_rng(0).normal(size=(5, 6))


def number(v, x):
    return jnp.asarray(v, x.dtype)


def elementary(x):
    y, z = x * x + 1, x / 9
    value = jnp.sin(x) * jnp.cos(x) + jnp.tan(z) + jnp.asin(z) + jnp.acos(z) + jnp.atan(x) + jnp.atan2(x, y)
    value += jnp.sinh(x) + jnp.cosh(x) + jnp.tanh(x) + jnp.asinh(x) + jnp.acosh(y + 1) + jnp.atanh(z)
    value += jnp.exp(x) + jnp.exp2(x) + jnp.expm1(x) + jnp.log(y) + jnp.log1p(y) + jnp.cbrt(x)
    return jnp.sum(value + lax.rsqrt(y) + jnp.sqrt(y) + jnp.power(y, x) + x**3 + jnp.square(x) - jax.nn.sigmoid(x))


def special(x):
    y = x * x + 1
    value = lax.erf(x) + lax.erfc(x) + lax.erf_inv(x / 9) + lax.lgamma(y) + lax.digamma(lax.stop_gradient(y)) * x
    return jnp.sum(value + jax.nn.softplus(x) + jax.nn.gelu(x) + jax.nn.relu(x)) + jax.nn.logsumexp(x)


def stepped(x):
    """Comparisons, integers, bits, roundings."""
    i = jnp.arange(6, dtype=jnp.int32)
    j, k = (i ^ 3) & 5 | ~i, lax.rem(i, jnp.int32(4)) - lax.neg(i) * lax.abs(i)
    mask = (x > 0) & (x < 2) | ~(x >= 1) ^ (x <= 0.5)
    value = jnp.where(mask, x * x, -x) + jnp.where(x == 1, x, 2 * x) + jnp.where(x != 1, x, 3 * x)
    value += jnp.clip(x, -1, 1) + jnp.maximum(x, 0.5) + jnp.minimum(x, 0.5) + jnp.abs(x) + lax.rem(x, number(1.3, x))
    value += jnp.floor(x) + jnp.ceil(x) + jnp.round(x) + jnp.sign(x) + (j * k).astype(x.dtype) * x
    still = lax.stop_gradient(x)
    bits = lax.bitcast_convert_type(still, jnp.int32 if x.dtype == jnp.float32 else jnp.int64)
    value += x * (jnp.nextafter(still, number(9, x)) + lax.bitcast_convert_type(bits, x.dtype))
    good = jnp.all(jnp.isfinite(x)) & ~jnp.any(x > 9)
    return jnp.where(good, jnp.sum(value), 0)


def shaped(x):
    m, (a, b) = x.reshape(2, 3), jnp.split(x, 2)
    value = jnp.sum(jnp.pad(m, ((1, 1), (0, 2))) ** 2) + jnp.sum(jnp.concatenate([a, b[::-1]]) ** 2)
    value += jnp.sum(jnp.flip(m, 0)[:, 1:] ** 3) + jnp.sum(x[None, ::2, None] * 2) + jnp.sum(jnp.roll(x, 1) * x)
    value += jnp.sum(m.T * number(np.arange(6.0).reshape(3, 2), x)) + x[0] * x[-1] + jnp.squeeze(x[:1])
    i = lax.convert_element_type(jnp.floor(lax.stop_gradient(x[0])), jnp.int32) + 3
    value += lax.dynamic_index_in_dim(x, i, keepdims=False) ** 2
    return value + jnp.sum(lax.dynamic_update_slice(x, x[:2] * 2, (i,)) ** 2)


def reduced(x):
    m = x.reshape(2, 3)
    value = jnp.max(x) + jnp.min(x) + jnp.prod(x) + jnp.mean(x) + jnp.var(x) + jnp.sum(jnp.cumsum(m, axis=1) ** 2)
    return value + jnp.sum(jnp.prod(m, axis=1)) + jnp.sum(jnp.max(m, axis=0) ** 2) + jnp.linalg.norm(x)


def looped(x):
    value = lax.scan(lambda a, b: (a / 2 + b * b, a), number(0, x), x)[0]
    value += jnp.sum(lax.fori_loop(0, 4, lambda i, a: a / 2 + jnp.sin(a) * i.astype(a.dtype), x))
    return value + jnp.sum(jnp.where(value > 0, x, x * x)) + jnp.sum(lax.map(lambda a: jnp.sin(a) * a, x))


def multiplied(x):
    """Products with a vector: A x, x A', and outer ones."""
    r = number(A, x) @ x - 1
    return jnp.sum(r * r) + jnp.sum((x @ number(A.T, x)) ** 2) + jnp.sum(jnp.outer(x, x) * number(np.eye(6), x))


COMPILED = {f.__name__: f for f in (elementary, special, stepped, shaped, reduced, looped, multiplied)}
# Words that no function of real numbers in jax.numpy leads to, or that only other parts of a solve use.
UNREACHED = {"copy", "stop_gradient", "exp2", "rev", "reduce_or", "while", "rsqrt"}


def names(jaxpr, found):
    """The primitives of a program and of the programs in it."""
    for equation in jaxpr.eqns:
        found.add(equation.primitive.name)
        for part in jax.tree.leaves(list(equation.params.values()), is_leaf=lambda p: hasattr(p, "eqns")):
            if hasattr(part, "eqns"):
                names(getattr(part, "jaxpr", part), found)
    return found


def both(fun):
    """Value and gradient at a few points, one after the other in a loop: as one function, and plainly."""
    valued = jax.value_and_grad(fun)

    def run(x):
        def turn(i, carry):
            value, gradient = valued(x * (1 - i.astype(x.dtype) / 8))
            return carry[0].at[i].set(value), carry[1].at[i].set(gradient)

        return lax.fori_loop(0, 3, turn, (jnp.zeros(3, x.dtype), jnp.zeros((3, *x.shape), x.dtype)))

    return jax.jit(as_one_kernel(run)), jax.jit(run)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", COMPILED)
def test_what_is_let_in_compiles_and_computes_the_same(name, dtype):
    with jax.enable_x64(dtype == "float64"):
        x = jnp.asarray(X, dtype)
        assert fits(jax.make_jaxpr(jax.value_and_grad(COMPILED[name]))(x))
        one, plain = both(COMPILED[name])
        assert one.lower(x).as_text().count(NOTE) == 1
        assert NOTE not in plain.lower(x).as_text()
        for found, expected in zip(one(x), plain(x), strict=True):
            # The same operations; sums of up to 30 terms may be taken in another order, products and sums fused.
            scale = float(jnp.max(jnp.abs(expected)))
            np.testing.assert_allclose(found, expected, rtol=0, atol=30 * float(jnp.finfo(dtype).eps) * scale)


def test_every_word_is_compiled_by_one_of_these():
    found = set()
    for fun in COMPILED.values():
        names(jax.make_jaxpr(jax.value_and_grad(fun))(jnp.asarray(X, jnp.float32)).jaxpr, found)
    assert one_kernel._SIMPLE - found <= UNREACHED
