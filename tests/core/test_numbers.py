"""Roots, quotients and norms against NumPy float64, at the ends of the range."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxopt_lectures.core.numbers import bounded, hypotenuse, largest, norm, quotient, root, scaled_norm

MAX = float(jnp.finfo(jnp.float32).max)
numbers = st.floats(-MAX, MAX, width=32).map(lambda x: 0.0 if abs(x) < 2e-38 else x)  # XLA flushes denormals


@given(st.lists(numbers, min_size=5, max_size=5))
def test_norm_any_floats(values):
    truth = np.linalg.norm(np.float64(values))
    found = float(_norm(jnp.float32(values)))
    if truth > 0.999 * MAX:  # the largest number stands for inf
        assert found == np.inf or found > 0.999 * MAX
    else:
        np.testing.assert_allclose(found, truth, rtol=8 * 2**-24)


_norm = jax.jit(lambda a: norm([a]))


def test_norm_of_nothing():
    assert float(norm([])) == 0.0
    assert float(norm([jnp.zeros((0,))])) == 0.0
    assert float(norm([jnp.zeros((3,)), jnp.zeros(())])) == 0.0


def test_norm_of_what_is_not_finite():
    assert float(norm([jnp.float32([1.0, -np.inf])])) == np.inf
    assert np.isnan(float(norm([jnp.float32([1.0, np.nan])])))
    unit, size = scaled_norm([jnp.float32([3e38, 3e38, 1.0])])
    assert np.isfinite([float(unit), float(size)]).all()
    np.testing.assert_allclose(float(unit) * float(size), np.sqrt(2) * 3e38, rtol=1e-6)


def test_norm_of_mixed_dtypes():
    arrays = [jnp.full((10,), 300, jnp.float16), jnp.full((2,), 4.0, jnp.bfloat16), jnp.float32([3.0])]
    np.testing.assert_allclose(float(norm(arrays)), np.sqrt(10 * 300**2 + 32 + 9), rtol=1e-6)


@pytest.mark.parametrize(("x", "value", "slope"), [(0.0, 0.0, 0.0), (4.0, 2.0, 0.25), (-1e-9, 0.0, 0.0)])
def test_root(x, value, slope):
    assert jax.value_and_grad(root)(x) == (value, slope)


def test_root_shows_nan():
    assert np.isnan(root(jnp.float32(np.nan)))


def test_quotient():
    assert float(quotient(jnp.float32(0), jnp.float32(0))) == 0
    assert float(quotient(jnp.float32(1), jnp.float32(4))) == 0.25
    assert jax.grad(quotient, argnums=(0, 1))(0.0, 0.0) == (0.0, 0.0)
    assert np.isnan(quotient(jnp.float32(np.nan), jnp.float32(1)))


@given(st.floats(0, MAX, width=32), st.floats(0, MAX, width=32))
def test_hypotenuse(a, b):
    a, b = (0.0 if x < 2e-38 else x for x in (a, b))
    truth = np.hypot(np.float64(a), np.float64(b))
    if truth < MAX:
        np.testing.assert_allclose(float(hypotenuse(jnp.float32(a), jnp.float32(b))), truth, rtol=4 * 2**-24)


def test_bounded():
    g = bounded(jnp.float32([1.0, -3e38, 1e25, np.inf, -np.inf, np.nan, 0.0]), 2)
    assert float(g[0]) == 1.0
    assert np.isfinite(np.float32(g[1:5]) ** 2 * np.float32(2**20)).all()
    assert float(g[1]) == float(g[4]) == -float(g[2]) == -float(g[3])
    np.testing.assert_array_equal(g[5:], [np.nan, 0.0])


@pytest.mark.parametrize("size", [1, 31, 32, 1000])
@pytest.mark.parametrize("place", [0, -1])
def test_largest_sees_nan(size, place):
    """`jnp.max` does not, among 32 numbers and more."""
    x = jnp.ones(size).at[place].set(jnp.nan)
    assert np.isnan(largest(x))
    assert np.isnan(largest(jnp.stack([x, x]), axis=1)).all()
    assert float(largest(jnp.arange(size, dtype=jnp.float32))) == size - 1
    assert float(largest(jnp.zeros(0))) == 0
