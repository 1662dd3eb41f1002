"""The numbers that codes stand for, against the published ones; the level below, against a search."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxopt_lectures.storage.codecs import CODECS
from jaxopt_lectures.storage.codes import _values, decoded, encoded
from jaxopt_lectures.storage.levels import at, below, dynamic, floats, geometric, linear
from jaxopt_lectures.storage.rounding import words
from tests.oracles import storage as oracle

TABLES = {code.levels: code.name for c in CODECS.values() for code in (c.signed, c.nonnegative) if code and code.levels}
every_table = pytest.mark.parametrize("levels", TABLES, ids=TABLES.get)
WORD = words(None, jnp.uint32(0), (1,))[0]


@pytest.mark.parametrize("bits", [4, 8])
def test_dynamic_map(bits):
    """Equal to the paper's construction, every one of the 2^bits values."""
    name = f"int{bits}_nearest"
    np.testing.assert_allclose(_values(CODECS[name].signed), oracle.dynamic_map(bits, True), rtol=1e-15)
    assert len(_values(CODECS[name].signed)) == 2**bits
    np.testing.assert_allclose(dynamic(bits, signed=False), oracle.dynamic_map(bits, False), rtol=1e-15)
    assert len(dynamic(bits, signed=False)) == 2**bits


def test_published_values():
    """What bitsandbytes and torchao list: ends, smallest, place of 0; Li's 4-bit maps in full."""
    signed = _values(CODECS["int8_nearest"].signed)
    assert (signed[0], signed[127], signed[-1]) == (-0.99296875, 0.0, 1.0)
    np.testing.assert_allclose(signed[128], 5.5e-7, rtol=1e-12)
    unsigned = dynamic(8, signed=False)
    np.testing.assert_allclose([unsigned[1], unsigned[-2]], [3.25e-7, 0.996484375], rtol=1e-12)
    half = [0.0055, 0.0325, 0.0775, 0.2125, 0.4375, 0.6625, 0.8875]
    np.testing.assert_allclose(
        _values(CODECS["int4_nearest"].signed), [*[-x for x in half[::-1]], 0, *half, 1], rtol=1e-12
    )
    np.testing.assert_array_equal(linear(4), np.arange(1, 17) / 16)


def test_geometric_and_floats():
    levels = np.asarray(geometric(4, 8))
    np.testing.assert_allclose(levels[1:] / levels[:-1], 2 ** (8 / 15), rtol=1e-12)
    assert (levels[0], levels[-1]) == (2.0**-8, 1.0)
    e4m3 = np.asarray(floats("float8_e4m3fn")) * 448
    np.testing.assert_allclose([e4m3[1], e4m3[8], e4m3[-2]], [2.0**-9, 2.0**-6, 416], rtol=1e-12)
    e5m2 = np.asarray(floats("float8_e5m2")) * 57344
    np.testing.assert_allclose([e5m2[1], e5m2[-2]], [2.0**-16, 49152], rtol=1e-12)


@every_table
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_below(levels, dtype, x64):
    """The same index as a binary search: at levels, beside them, between them, at 0 and below the smallest."""
    values = np.asarray(levels, dtype)
    rng = np.random.default_rng(0)
    x = [values, np.nextafter(values, dtype(0)), np.minimum(np.nextafter(values, dtype(2)), 1), [0, 1e-38, 1e-30]]
    x = np.concatenate([*x, rng.uniform(size=5000), np.exp(-rng.uniform(0, 30, 5000))]).astype(dtype)
    wanted = np.maximum(np.searchsorted(values, x, side="right") - 1, 0)
    if dtype == np.float64:  # looked up by their first 32 bits: the level is right to one unit of float32
        ambiguous = np.abs(values[wanted] / np.maximum(x, 1e-300) - 1) < 2**-23
        ambiguous |= np.abs(values[np.minimum(wanted + 1, len(values) - 1)] / np.maximum(x, 1e-300) - 1) < 2**-23
        x, wanted = x[~ambiguous], wanted[~ambiguous]
        assert len(x) > 9000
    found = np.asarray(jax.jit(lambda x: below(levels, x))(jnp.asarray(x)))
    np.testing.assert_array_equal(found, wanted)


@every_table
def test_at(levels):
    """Each level by its index; beyond the last, infinity."""
    index = jnp.arange(len(levels) + 1)
    np.testing.assert_array_equal(at(levels, index, jnp.float32), np.asarray([*levels, np.inf], np.float32))


@pytest.mark.parametrize(("block", "published"), [(64, 0.00754), (256, 0.00854), (2048, 0.00970)])
def test_published_error(block, published):
    """Mean absolute error of the signed map on N(0, 1), as measured with the packages, to 1 % (3 digits are given)."""
    x = jnp.asarray(np.random.default_rng(0).normal(size=2**20), jnp.float32)
    kept = encoded(CODECS["int8_nearest"].signed, x, block, WORD)
    assert kept.scale.shape == (2**20 // block,)
    assert abs(float(jnp.mean(jnp.abs(decoded(kept, x.shape) - x))) / published - 1) < 0.01


@pytest.mark.parametrize("nature", ["signed", "nonnegative"])
@pytest.mark.parametrize("data", ["normal", "log-normal"])
def test_error_of_the_published_codes(nature, data):
    """With outliers in the blocks, on both maps: the very codes of the papers."""
    rng = np.random.default_rng(1)
    x = rng.normal(size=2**16) if data == "normal" else rng.lognormal(0, 2, 2**16) * rng.choice([-1, 1], 2**16)
    x[::4096] *= 1000
    x = (x if nature == "signed" else np.abs(x)).astype(np.float32)
    code_map = oracle.dynamic_map(8, nature == "signed")
    codes, scale = oracle.nearest_codes(x, code_map, 256)
    kept = encoded(CODECS["int8_nearest"].code(nature), jnp.asarray(x), 256, WORD)
    np.testing.assert_array_equal(np.asarray(kept.scale), scale[:, 0])
    differ = np.asarray(kept.codes, int) - codes.ravel()
    assert np.abs(differ).max() <= 1
    assert (differ != 0).mean() < 1e-4  # a middle between two levels, in float32 and in float64
    error = np.abs(oracle.decoded(codes, scale, code_map) - x).mean()
    ours = float(jnp.mean(jnp.abs(decoded(kept, x.shape) - x)))
    assert abs(ours / error - 1) < 0.01
