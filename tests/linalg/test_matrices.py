"""Arrays as stacks of matrices: there and back, letters, blocks, what is none, what is refused."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxopt_lectures.linalg.matrices import Matrices, chosen


@pytest.mark.parametrize(
    ("shape", "axes", "block", "stack"),
    [
        ((4, 6), "io", None, (4, 6)),
        ((4, 6), "oi", None, (6, 4)),
        ((3, 3, 4, 8), "iiio", None, (36, 8)),
        ((5, 4, 6), "bio", None, (5, 4, 6)),
        ((5, 4, 6), "ibo", None, (4, 5, 6)),
        ((5, 4, 6), "ioo", None, (5, 24)),
        ((8, 12), "io", 4, (6, 4, 4)),
        ((2, 8, 12), "bio", 6, (8, 4, 6)),
    ],
)
def test_there_and_back(shape, axes, block, stack):
    matrix = chosen({"w": axes}, block).of("w", shape)
    x = jnp.arange(float(np.prod(shape))).reshape(shape)
    seen = matrix.of(x)
    assert seen.shape == stack
    np.testing.assert_array_equal(matrix.back(seen), x)
    assert matrix.count * matrix.rows * matrix.columns == x.size


def test_which_elements_a_matrix_has():
    x = np.arange(2 * 3 * 4.0).reshape(2, 3, 4)
    np.testing.assert_array_equal(chosen({"": "ibo"}).of("w", x.shape).of(jnp.asarray(x))[1], x[:, 1])
    np.testing.assert_array_equal(chosen({"": "oib"}).of("w", x.shape).of(jnp.asarray(x))[3], x[:, :, 3].T)
    blocks = chosen(None, 2).of("w", (4, 6)).of(jnp.arange(24.0).reshape(4, 6))
    np.testing.assert_array_equal(blocks[1], [[2, 3], [8, 9]])


@pytest.mark.parametrize(
    ("path", "shape", "axes"),
    [
        ("dense/kernel", (4, 6), "io"),
        ("dense/bias", (6,), None),
        ("dense/bias", (2, 6), None),
        ("norm/scale", (2, 6), None),
        ("conv/kernel", (3, 3, 4, 8), "iiio"),
        ("stage/kernel", (3, 3, 4, 8), "iiio"),
        ("conv/kernel", (5, 4, 8), "iio"),
        ("attention/query/kernel", (8, 2, 4), "ioo"),
        ("attention/out/kernel", (2, 4, 8), "iio"),
        ("layers/kernel", (7, 4, 8), "bio"),
        ("dense/kernel", (1, 6), None),
        ("dense/kernel", (6, 1), None),
        ("dense/kernel", (0, 6), None),
        ("", (), None),
        ("", (4, 6), "io"),
    ],
)
def test_what_is_a_matrix(path, shape, axes):
    found = Matrices().of(path, shape)
    assert (None if found is None else found.axes) == axes


def test_the_users_word_comes_first():
    layout = chosen({"head": "io", "embed": None, "qkv": "bio"}, others="embed|head")
    assert layout.of("head/kernel", (4, 6)).axes == "io"
    assert layout.of("other_embedding", (4, 6)) is None
    assert chosen(None, others="embed|head").of("head/kernel", (4, 6)) is None
    assert str(layout.of("qkv", (3, 4, 6))) == "3 of 4 x 6"


def test_blocks_divide():
    """A prime has no blocks; slivers are not worth it."""
    assert chosen(None, 64).of("w", (128, 101)).size == (64, 101)
    assert chosen(None, 64).of("w", (2 * 67, 96)).size == (134, 48)


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        ({"[": "io"}, ValueError, r"'\[' is no regular expression"),
        ({"w": "ii"}, ValueError, "at least one i and one o, got 'ii'"),
        ({"w": "xy"}, ValueError, "got 'xy'"),
        ({"w": 3}, TypeError, "letters or None, got 'w': 3"),
        ("io", TypeError, "must be a mapping like"),
    ],
)
def test_bad_input(given, error, words):
    with pytest.raises(error, match=words):
        chosen(given)


def test_letters_that_do_not_fit():
    with pytest.raises(ValueError, match=r"'w' has the shape \(4, 6\), but matrices='bio' has 3 letters"):
        chosen({"w": "bio"}).of("w", (4, 6))
    with pytest.raises(ValueError, match="'nowhere' is found in none of the parameters 'a', 'b'"):
        chosen({"nowhere": "io"}).check(["a", "b"])
