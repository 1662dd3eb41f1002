"""What holds for every code: neighbours, unbiased, never 0 for something, a lost block and no other."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from jaxopt_lectures.storage.codecs import CODECS, codec
from jaxopt_lectures.storage.codes import _indices, _values, blocks_of_slot, decode, decoded, encoded
from jaxopt_lectures.storage.packing import unpacked
from jaxopt_lectures.storage.rounding import words

CODES = {code.name: code for c in CODECS.values() for code in (c.signed, c.nonnegative) if code}
every_code = pytest.mark.parametrize("code", CODES.values(), ids=CODES)
TABLES = {name: code for name, code in CODES.items() if code.levels}
every_table = pytest.mark.parametrize("code", TABLES.values(), ids=TABLES)
BLOCK = 128


def kept(code, x, count=0, block=BLOCK):
    """Encoded with the bits of that step."""
    return encoded(code, jnp.asarray(x), block, words(None, jnp.int32(count), (1,))[0])


def numbers(code, shape=(2048,), seed=0):
    """Of the code's nature, over many decades."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=shape) * 10 ** rng.uniform(-4, 0, shape)
    return np.asarray(x if code.nature == "signed" else np.abs(x), np.float32)


@every_table
def test_neighbours(code):
    """Each number becomes the level below it or above it: what is stored of it, over the scale of its block."""
    x = numbers(code)
    slot = kept(code, x)
    scale = np.repeat(np.asarray(slot.scale, np.float64), BLOCK)
    stored = np.sqrt(x) if code.root else x
    got = np.asarray(decoded(slot, x.shape), np.float64)
    got = np.sqrt(got) if code.root else got
    levels = np.sort(_values(code))
    place = np.clip(np.searchsorted(levels, stored / scale, side="right") - 1, 0, len(levels) - 2)
    low, high = levels[place], levels[place + 1]
    ends = np.minimum(low * scale, high * scale), np.maximum(low * scale, high * scale)
    slack = 4 * np.finfo(np.float32).eps * np.abs(scale)  # a quotient, a product, a root and its square in float32
    smallest = levels[levels > 0][0] if code.never_zero else 0
    assert (got >= ends[0] - slack).all()
    assert (got <= np.maximum(ends[1], smallest * np.abs(scale)) + slack).all()


@every_table
def test_unbiased(code):
    """Codes rounded at random are right on average: over 400 draws, within 5 standard errors of the two levels."""
    if not code.stochastic:
        return
    x = numbers(code, (BLOCK,))
    drawn = jax.vmap(lambda count: decoded(kept(code, x, count), x.shape))(jnp.arange(400))
    stored = np.sqrt(x) if code.root else x
    drawn = np.asarray(jnp.sqrt(drawn) if code.root else drawn, np.float64)
    levels, scale = np.sort(_values(code)), float(kept(code, x).scale[0])
    place = np.clip(np.searchsorted(levels, stored / scale, side="right") - 1, 0, len(levels) - 2)
    low, gap = levels[place], levels[place + 1] - levels[place]
    share = np.clip((stored / scale - low) / gap, 0, 1)
    # a binomial mean of 400; one draw more, where the share is so small that there are few; roundings
    error = abs(scale) * (gap * (np.sqrt(share * (1 - share) / 400) + 1 / 400) + 4e-7)
    inside = stored / scale >= levels[0] if not code.never_zero else stored / scale >= levels[levels > 0][0]
    assert inside.sum() > BLOCK / 4
    assert (np.abs(drawn.mean(axis=0) - stored) < 5 * error)[inside].all()


@every_table
def test_nearest_is_nearest(code):
    if code.stochastic:
        return
    x = numbers(code)
    scale = np.repeat(np.asarray(kept(code, x).scale, np.float64), BLOCK)
    best = np.abs(np.sort(_values(code))[None] * scale[:, None] - x[:, None]).min(axis=1)
    error = np.abs(np.asarray(decoded(kept(code, x), x.shape), np.float64) - x)
    np.testing.assert_allclose(error, best, atol=2e-7 * scale.max())


@every_code
def test_zeros_stay(code):
    """A block of zeros, and zeros beside others: exactly 0 where the code has a 0."""
    np.testing.assert_array_equal(decoded(kept(code, np.zeros(300, np.float32)), (300,)), np.zeros(300))
    if not code.levels or code.levels.magnitudes[0] == 0:
        x = np.where(np.arange(300) % 3 == 0, 0, numbers(code, (300,)))
        np.testing.assert_array_equal(np.asarray(decoded(kept(code, x), (300,)))[::3], 0)


@every_code
def test_something_is_never_nothing(code):
    """Our codes of what is never negative; the peers' forms lose it, and that is why they are not the default."""
    if code.nature == "signed" or not code.levels:
        return
    x = np.float32([1, 1e-30, 1e-12, *np.zeros(125)])
    small = np.asarray(decoded(kept(code, x), x.shape))[1:3]
    assert (small > 0).all() == (code.never_zero or code.levels.magnitudes[0] > 0)


@every_table
def test_the_largest_is_exact(code):
    """The largest of a block, of either sign, to a rounding of its root."""
    x = numbers(code, (BLOCK,))
    x[5] = 3.7
    np.testing.assert_allclose(np.asarray(decoded(kept(code, x), x.shape))[5], 3.7, rtol=3e-7)
    if code.nature == "signed":
        x[5] = -3.7
        found = float(decoded(kept(code, x), x.shape)[5])
        assert (abs(found / -3.7 - 1) < 3e-7) == (code.turned or -1.0 in _values(code))


@every_table
def test_levels_stay(code):
    """A level, of either sign, is its index, whatever is drawn: all 2^14 different draws."""
    magnitudes = np.float32(np.asarray(code.levels.magnitudes) * code.levels.unit)
    z = magnitudes if code.nature == "nonnegative" else np.concatenate([-magnitudes[::-1], magnitudes])
    index = np.arange(len(magnitudes))
    if code.nature == "signed":
        zero = 2**code.width - len(magnitudes)
        index = np.maximum(np.concatenate([zero - index[::-1], zero + index]), 0)

    def stays(random):
        drawn = jnp.full(z.shape, random, jnp.uint32) if code.stochastic else None
        return jnp.all(_indices(code, code.levels, z, z, drawn) == index)

    z, index = jnp.asarray(z), jnp.asarray(index, jnp.uint8)
    draws = jnp.arange(2**14, dtype=jnp.uint32) * np.uint32(2**18)
    assert jax.jit(lambda draws: jnp.all(jax.lax.map(stays, draws)))(draws if code.stochastic else draws[:1])


@every_table
def test_again(code):
    """What was read is stored as it was: a state that is only read and stored does not move."""
    first = kept(code, numbers(code, (2**18,)))
    once = decoded(first, (2**18,))
    if code.turned or code.nature == "nonnegative" or -1.0 in _values(code):
        # a level times a scale, times the scale's reciprocal: three roundings more, 2.8 * 2^-17 of an index at most
        # with those that `_indices` counts. If all conspire, one draw in 2^14 moves it
        second = kept(code, once, count=1)
        np.testing.assert_array_equal(second.scale, first.scale)
        moved = np.asarray(second.codes) != np.asarray(first.codes)
        assert moved[np.asarray(once != 0).reshape(len(moved), -1).any(axis=1)].sum() <= 2


@every_table
def test_monotone(code):
    """With one draw for all, what is not smaller has no smaller index, but for a rounding at the edge of a cell."""
    z = np.sort(np.random.default_rng(0).uniform(0, code.levels.unit, 2**16).astype(np.float32))
    z[: 2**15] = np.exp(np.linspace(-20, 0, 2**15)) * code.levels.unit
    z = np.sort(z)
    for random in (0, 2**31, 2**32 - 1):
        found = np.asarray(_indices(code, code.levels, z, z, jnp.full(z.shape, random, jnp.uint32)), int)
        assert (np.diff(found) < 0).sum() <= 2
        assert np.diff(found).min() >= -1


@pytest.mark.parametrize(("name", "dtype"), [("fp8", ml_dtypes.float8_e4m3fn), ("fp8_e5m2", ml_dtypes.float8_e5m2)])
def test_floats_are_the_cast(name, dtype):
    """Rounded to nearest, the floats of 8 bits are those of the cast by another library, but for ties."""
    x = np.float32(numbers(CODES[f"{name} signed"]))
    x[::BLOCK] = 7  # the largest is 7 times a power of 2: nothing is rounded on the way
    x = np.clip(x, -7, 7)
    code = replace(CODES[f"{name} signed"], stochastic=False)
    most = float(ml_dtypes.finfo(dtype).max)
    wanted = (x * np.float32(most / 7)).astype(dtype).astype(np.float64) * 7 / most
    found = np.asarray(decoded(kept(code, x), x.shape), np.float64)
    magnitudes = 7 * np.asarray(code.levels.magnitudes)
    tie = np.isclose(np.abs(x)[:, None], (magnitudes[1:] + magnitudes[:-1]) / 2, rtol=1e-6, atol=0).any(axis=1)
    assert tie.sum() < 20
    np.testing.assert_allclose(found[~tie], wanted[~tie], rtol=2.0**-22)  # two roundings of a level, one of its product


@every_table
@pytest.mark.parametrize("size", [1.2e-38, 2.0**-125, 1e-30, 2.0**126, 3.4e38])
def test_scales_of_any_size(code, size):
    """From the smallest normal numbers to the largest: no reciprocal overflows or vanishes.

    A scale is not below 2^-125: in a smaller block numbers are less than 1 of it.
    """
    x = np.float32(size * np.linspace(-1 if code.nature == "signed" else 0, 1, 257)[1:])
    slot = kept(code, x, block=256)
    assert np.isfinite(slot.scale).all()
    assert abs(float(np.abs(slot.scale[0])) / max(np.sqrt(size) if code.root else size, 2.0**-125) - 1) < 1e-6
    found = np.asarray(decoded(slot, x.shape), np.float64)
    got, stored = (np.sqrt(found), np.sqrt(x)) if code.root else (found, x)
    widest = np.max(np.diff(np.sort(_values(code)))) * np.abs(float(slot.scale[0]))
    flushed = 2.0**-63 if code.root else 2.0**-126  # XLA on CPU has no subnormal numbers
    assert np.abs(got - stored).max() <= 1.001 * widest + flushed
    if size >= 2.0**-125:
        np.testing.assert_allclose(found[-1], x[-1], rtol=3e-7)


@every_table
def test_small_tables(code):
    """No look-up is in more than 32 numbers, and but for e5m2 in more than 16: permutations of a vector's lanes."""
    x = numbers(code)

    def tables(jaxpr):
        for equation in jaxpr.eqns:
            if equation.primitive.name == "gather":
                yield equation.invars[0].aval.size
            for inner in jax.tree.leaves(equation.params, is_leaf=lambda x: hasattr(x, "eqns")):
                yield from tables(getattr(inner, "jaxpr", inner)) if hasattr(inner, "eqns") else ()

    def there_and_back(x):
        slot = kept(code, x)
        blocks = blocks_of_slot(slot, x.shape)
        return decode(code, unpacked(slot.codes, x.shape) if code.packed else slot.codes, slot.scale, blocks)

    assert max(tables(jax.make_jaxpr(there_and_back)(x).jaxpr), default=0) <= (32 if "e5m2" in code.name else 16)


@every_table
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_lost_block_is_the_only_one(code, bad):
    if code.nature == "nonnegative" and bad == -np.inf:
        return
    x = numbers(code)
    clean = np.asarray(decoded(kept(code, x), x.shape))
    x[300] = bad
    found = np.asarray(decoded(kept(code, x), x.shape))
    block = slice(256, 384)
    assert not np.isfinite(found[block]).any()
    np.testing.assert_array_equal(np.delete(found, np.r_[block]), np.delete(clean, np.r_[block]))


def test_negative_is_said():
    """A slot of which it was said that it is never negative, and is: its block is lost, loudly, not made positive."""
    x = np.abs(numbers(CODES["int8 nonnegative"], (256,)))
    x[3] = -1
    found = np.asarray(decoded(kept(CODES["int8 nonnegative"], x), x.shape))
    assert np.isnan(found[:128]).all()
    assert np.isfinite(found[128:]).all()


@every_code
@pytest.mark.parametrize("shape", [(), (1,), (3, 257), (6, 5), (2, 3, 4, 5), (1009,)], ids=str)
def test_every_shape(code, shape):
    """Any shape comes back in its shape, with an error below the widest gap between two levels."""
    x = np.asarray(numbers(code, (2048,))[: int(np.prod(shape))], np.float32).reshape(shape)
    found = jax.jit(lambda x: decoded(kept(code, x), shape))(x)
    assert found.shape == shape
    widest = np.max(np.diff(np.sort(_values(code)))) if code.levels else 2.0**-7
    largest = np.sqrt(np.abs(x).max()) if code.root else np.abs(x).max()
    stored, got = (np.sqrt(x), np.sqrt(found)) if code.root else (x, np.asarray(found))
    assert np.abs(got - stored).max() <= 1.001 * widest * largest


@every_table
def test_float64(code, x64):
    """Scales of float64 slots are float64: numbers that float32 has no place for."""
    x = numbers(code).astype(np.float64) * 1e-150
    slot = kept(code, x)
    assert slot.scale.dtype == slot.dtype == jnp.float64
    error = np.abs(np.asarray(decoded(slot, x.shape)) - x).max() / np.abs(x).max()
    assert 0 < error < 1


def test_unknown_codec():
    with pytest.raises(ValueError, match=r"no codec is called 'int7'; known: f32, bf16, .*int8"):
        codec("int7")
    with pytest.raises(TypeError, match="a codec is a name or a Codec, got int 8"):
        codec(8)
