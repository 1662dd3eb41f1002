"""The numbers that codes stand for, against the published ones, and where numbers lie among them."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxopt_lectures.storage.blocks import Blocks
from jaxopt_lectures.storage.codecs import CODECS
from jaxopt_lectures.storage.codes import _values, decode, decoded, encoded
from jaxopt_lectures.storage.levels import dynamic, floats, geometric, linear, position, value
from jaxopt_lectures.storage.rounding import words
from tests.oracles import storage as oracle

TABLES = {code.levels: code.name for c in CODECS.values() for code in (c.signed, c.nonnegative) if code and code.levels}
every_table = pytest.mark.parametrize("levels", TABLES, ids=TABLES.get)
WORD = words(None, jnp.uint32(0), (1,))[0]


@pytest.mark.parametrize("bits", [4, 8])
def test_dynamic_map(bits):
    """Equal to the paper's construction, every one of the 2^bits values."""
    name = f"int{bits}_nearest"
    signed = np.asarray(dynamic(bits, signed=True).magnitudes)
    np.testing.assert_allclose(signed, oracle.dynamic_map(bits, True)[2 ** (bits - 1) - 1 :], rtol=1e-15)
    np.testing.assert_allclose(_values(CODECS[name].signed), oracle.dynamic_map(bits, True), rtol=2.0**-23)
    assert len(_values(CODECS[name].signed)) == 2**bits
    np.testing.assert_allclose(dynamic(bits, signed=False).magnitudes, oracle.dynamic_map(bits, False), rtol=1e-15)
    assert len(dynamic(bits, signed=False)) == 2**bits


def test_published_values():
    """What bitsandbytes and torchao list: ends, smallest, place of 0; Li's 4-bit maps in full."""
    signed = _values(CODECS["int8_nearest"].signed)
    # as they are read: two roundings to float32
    assert (signed[127], signed[-1]) == (0.0, 1.0)
    np.testing.assert_allclose(signed[[0, 128]], [-0.99296875, 5.5e-7], rtol=2.0**-23)
    unsigned = dynamic(8, signed=False).magnitudes
    np.testing.assert_allclose([unsigned[1], unsigned[-2]], [3.25e-7, 0.996484375], rtol=1e-12)
    half = [0.0055, 0.0325, 0.0775, 0.2125, 0.4375, 0.6625, 0.8875]
    np.testing.assert_allclose(
        _values(CODECS["int4_nearest"].signed), [*[-x for x in half[::-1]], 0, *half, 1], rtol=2.0**-23
    )
    np.testing.assert_array_equal(linear(4).magnitudes, np.arange(1, 17) / 16)


def test_geometric_and_floats():
    levels = np.asarray(geometric(4, 8).magnitudes)
    np.testing.assert_allclose(levels[1:] / levels[:-1], 2 ** (8 / 15), rtol=1e-12)
    assert (levels[0], levels[-1]) == (2.0**-8, 1.0)
    e4m3 = np.asarray(floats("float8_e4m3fn").magnitudes) * 448
    np.testing.assert_allclose([e4m3[1], e4m3[8], e4m3[-2]], [2.0**-9, 2.0**-6, 416], rtol=1e-12)
    e5m2 = np.asarray(floats("float8_e5m2").magnitudes) * 57344
    np.testing.assert_allclose([e5m2[1], e5m2[-2]], [2.0**-16, 49152], rtol=1e-12)


def placed(levels, z, more=0.0):
    """The position of magnitudes."""
    pattern = np.float32(np.asarray(z, np.float32) * np.float32(levels.unit)).view(np.int32)
    return np.asarray(jax.jit(lambda pattern: position(levels, pattern, more))(pattern), np.float64)


@every_table
def test_position_of_levels(levels):
    """Each level is at its index, to half of what the draws leave room for."""
    index = np.arange(len(levels))
    assert np.abs(placed(levels, levels.magnitudes) - index).max() <= 2.0**-16
    assert np.abs(placed(levels, levels.magnitudes, 0.5) - 0.5 - index).max() <= 2.0**-16


@every_table
def test_position(levels):
    """Between levels linear, against an interpolation in float64: 4 * 2^-17 of roundings, see `_indices`."""
    rng, magnitudes = np.random.default_rng(0), np.asarray(levels.magnitudes)
    first = magnitudes[magnitudes > 0][0]
    middles = (magnitudes[1:] + magnitudes[:-1]) / 2
    edges = (np.arange(2**9, dtype=np.int32) << 22).view(np.float32)[:-2] / np.float32(levels.unit)  # of every cell
    z = [magnitudes, middles, edges, rng.uniform(size=20_000), np.exp(rng.uniform(np.log(first / 8), 0, 20_000))]
    z = np.float32(np.concatenate(z))
    z = z[(z >= magnitudes[0]) & (z <= 1)]
    found, wanted = placed(levels, z), np.interp(z.astype(np.float64), magnitudes, np.arange(len(levels)))
    assert np.abs(found - wanted).max() <= 2.0**-15


@every_table
def test_position_outside(levels):
    """Beyond 1, infinite or NaN: the last. Below the first that is not 0: the first, or nearer to 0 than to it."""
    assert (placed(levels, [1.0000001, 2, 1e30, np.inf, np.nan]) == len(levels) - 1).all()
    below = placed(levels, [0, 1e-40, 1e-30, levels.magnitudes[0]])
    assert (np.abs(below) <= 2.0**-16).all()


@every_table
def test_value(levels):
    """Each level by its index: float64's but for two roundings to float32; 0 and 1 exactly."""
    found = np.asarray(jax.jit(lambda k: value(levels, k))(jnp.arange(len(levels))), np.float64)
    np.testing.assert_allclose(found, levels.magnitudes, rtol=2.0**-23)
    assert found[-1] == 1
    assert found[0] == 0 or levels.magnitudes[0] > 0
    # the product and the sum are whole and small, so exact
    assert (levels.groups[0] == np.round(levels.groups[0])).all()
    assert np.abs(levels.groups[0]).max() + levels.times * len(levels) < 2**24


@pytest.mark.parametrize("codec", CODECS.values(), ids=CODECS)
@pytest.mark.parametrize("nature", ["signed", "nonnegative"])
def test_computed_and_looked_up(codec, nature):
    """Every code of a block with scale 1: to the bit, on either way."""
    code = codec.code(nature)
    if code is None or code.levels is None:
        return
    unused = max(0, 2**code.width - 2 * len(code.levels) + 1) if nature == "signed" else 0
    codes = jnp.arange(unused, len(_values(code)), dtype=jnp.uint8)
    wanted, blocks = np.float32(_values(code))[codes], Blocks(codes.shape, codes.shape)
    for computed in (True, False):
        read = jax.jit(partial(decode, code, blocks=blocks, computed=computed))
        np.testing.assert_array_equal(read(codes, jnp.ones(1)), wanted**2 if code.root else wanted)


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
