"""Random bits that depend on nothing but where and when; rounding that is exact on average."""

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxopt_lectures.storage.rounding import bits, narrowed, thresholds, words
from tests.oracles.storage import bfloat16_neighbours

KEY = jax.random.key(7)
INDEX = jnp.arange(2**16, dtype=jnp.uint32)


def uniform(word, index=INDEX):
    return np.asarray(bits(word, index), np.float64) / 2**32


def test_bits_are_uniform():
    """Chi-square over 256 cells, high and low bits: 3 words, each within 5 standard deviations of 255."""
    for word in words(KEY, jnp.int32(5), (3,)):
        random = np.asarray(bits(word, INDEX))
        for cells in (random >> 24, random & 0xFF):
            counts = np.bincount(cells, minlength=256)
            chi = ((counts - 256) ** 2 / 256).sum()
            assert abs(chi - 255) < 5 * np.sqrt(2 * 255)


def test_bits_are_independent():
    """No correlation between neighbours, arrays, steps and keys: |r| < 5 / sqrt(n)."""
    here = words(KEY, jnp.int32(5), (2,))
    others = [here[1], words(KEY, jnp.int32(6), (2,))[0], words(jax.random.key(8), jnp.int32(5), (2,))[0]]
    first = uniform(here[0])
    pairs = [(first[1:], first[:-1]), (first[256:], first[:-256]), *[(first, uniform(other)) for other in others]]
    for a, b in pairs:
        assert abs(np.corrcoef(a, b)[0, 1]) < 5 / np.sqrt(len(a))


def test_words_do_not_depend_on_how_many():
    """A leaf keeps its bits when others are added after it."""
    np.testing.assert_array_equal(words(KEY, jnp.int32(1), (3,)), words(KEY, jnp.int32(1), (5,))[:3])
    np.testing.assert_array_equal(words(None, jnp.int32(1), (3,)), words(jax.random.key(0), jnp.int32(1), (3,)))


def test_thresholds():
    """Never 0, so that what is exact stays; 1 only where all bits are set."""
    ends = thresholds(jnp.asarray([0, 255, 2**32 - 1], jnp.uint32), jnp.float32)
    np.testing.assert_array_equal(ends, np.float32([2.0**-24, 2.0**-24, 1]))


@hypothesis.given(st.floats(2.0**-100, 2.0**100, width=32), st.sampled_from([-1.0, 1.0]))
def test_mean_is_exact(size, sign):
    """Over all 65536 values of the bits that bfloat16 drops, the mean is x itself, and both neighbours occur."""
    x = np.float32(sign * size)
    noise = jnp.arange(2**16, dtype=jnp.uint32)
    rounded = np.asarray(narrowed(jnp.full(2**16, x), jnp.bfloat16, noise), np.float64)
    toward, away = bfloat16_neighbours(x)
    assert set(rounded) == {float(toward), float(away)}
    assert rounded.mean() == float(x)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
@pytest.mark.parametrize("x", [1.0003, -3.0e-5, 5.1e-7, 2.0e-8, -1.3e-8, 60000.7])
def test_mean_of_draws(dtype, x):
    """Subnormal numbers of float16 too: of 65536 draws the mean lies within 5 standard errors."""
    drawn = np.asarray(
        narrowed(jnp.full(2**16, x, jnp.float32), dtype, bits(words(KEY, 0, (1,))[0], INDEX)), np.float64
    )
    values = np.unique(drawn)
    assert len(values) == 2
    assert values[0] <= np.float32(x) <= values[1]
    assert abs(drawn.mean() - np.float32(x)) < 5 * drawn.std() / 2**8


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
@pytest.mark.parametrize("random", [None, 0, 2**32 - 1])
def test_exact_and_special_numbers(dtype, random):
    """What the narrow float has stays, as do NaN and infinities; finite numbers stay finite."""
    exact = np.float32([0, 1, -1.5, 2.0**-14, 2.0**-24 if dtype == jnp.float16 else 2.0**-120])
    noise = None if random is None else jnp.full(5, random, jnp.uint32)
    np.testing.assert_array_equal(narrowed(jnp.asarray(exact), dtype, noise).astype(jnp.float32), exact)
    special = jnp.asarray([np.inf, -np.inf, np.nan, 3.4e38, -3.4e38], jnp.float32)
    found = np.asarray(narrowed(special, dtype, noise).astype(jnp.float32))
    np.testing.assert_array_equal(found[:3], special[:3])
    np.testing.assert_array_equal(np.abs(found[3:]), np.float32(jnp.finfo(dtype).max))


def test_nearest_is_the_cast():
    x = jnp.asarray(np.random.default_rng(0).normal(size=10_000), jnp.float32)
    np.testing.assert_array_equal(narrowed(x, jnp.bfloat16, None), x.astype(jnp.bfloat16))
