"""Slices are direct evaluations, directions are as long as the weights."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxopt_lectures.diagnostics import grid, random_direction, slice_1d, slice_2d

KEY = jax.random.key(0)


def parameters(dtype=jnp.float32):
    rng = np.random.default_rng(0)
    return {
        "kernel": jnp.asarray(rng.normal(size=(3, 3, 2, 5)), dtype),
        "bias": jnp.zeros(5, dtype),
        "scale": jnp.asarray(rng.normal(size=4), dtype),
    }


def function(p):
    """Not symmetric in anything."""
    return jnp.sum(jnp.sin(p["kernel"])) + jnp.sum(p["bias"]) ** 2 + jnp.prod(p["scale"])


def numpy_function(p):
    return np.sum(np.sin(p["kernel"])) + np.sum(p["bias"]) ** 2 + np.prod(p["scale"])


def numpy_moved(p, *moves):
    return {name: sum((t * np.asarray(d[name]) for t, d in moves), np.asarray(p[name])) for name in p}


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_direction_is_as_long_as_each_array(x64, dtype):
    params = parameters(dtype)
    direction = random_direction(KEY, params)
    eps = float(jnp.finfo(dtype).eps)
    for name, leaf in params.items():
        assert direction[name].dtype == dtype
        # two norms of 90 squares (pairwise sums: below 10 roundings each), a quotient and a product
        length = np.linalg.norm(np.asarray(direction[name], np.float64).ravel())
        assert length == pytest.approx(np.linalg.norm(np.asarray(leaf, np.float64).ravel()), rel=100 * eps), name
    np.testing.assert_array_equal(direction["bias"], 0)


def test_direction_is_as_long_as_each_filter(x64):
    params = parameters(jnp.float64)
    direction = random_direction(KEY, params, filters=True)
    for output in range(5):
        theirs = np.linalg.norm(params["kernel"][..., output].ravel())
        assert np.linalg.norm(direction["kernel"][..., output].ravel()) == pytest.approx(theirs, rel=1e-13)
    assert np.linalg.norm(direction["scale"]) == pytest.approx(np.linalg.norm(params["scale"]), rel=1e-13)
    np.testing.assert_array_equal(direction["bias"], 0)


def test_directions_are_random():
    """Gaussian before scaling: the cosine of two in 90 dimensions has mean 0, deviation 1/sqrt(90) = 0.105."""
    one, two = (random_direction(jax.random.key(seed), parameters())["kernel"] for seed in (1, 2))
    cosine = jnp.vdot(one, two) / jnp.linalg.norm(one.ravel()) / jnp.linalg.norm(two.ravel())
    assert abs(cosine) < 4.5 * 0.105
    np.testing.assert_array_equal(one, random_direction(jax.random.key(1), parameters())["kernel"])


def test_slice_1d(x64):
    params = parameters(jnp.float64)
    direction, distances = random_direction(KEY, params), np.linspace(-1, 2, 7)
    found = jax.jit(lambda p, d: slice_1d(function, p, d, jnp.asarray(distances)))(params, direction)
    truth = [numpy_function(numpy_moved(params, (t, direction))) for t in distances]
    np.testing.assert_allclose(found, truth, rtol=0, atol=1e-13)  # a sum of 90 terms below 1
    between = slice_1d(function, params, jax.tree.map(lambda a, b: a - b, direction, params), jnp.array([0.0, 1.0]))
    np.testing.assert_allclose(between, [function(params), function(direction)], rtol=0, atol=1e-13)


def test_slice_2d(x64):
    params = parameters(jnp.float64)
    one, two = random_direction(KEY, params), random_direction(jax.random.key(1), params)
    s, t = np.linspace(-1, 1, 3), np.linspace(0, 1, 4)
    found = slice_2d(function, params, one, two, jnp.asarray(s), jnp.asarray(t))
    truth = [[numpy_function(numpy_moved(params, (a, one), (b, two))) for a in s] for b in t]
    assert found.shape == (4, 3)
    np.testing.assert_allclose(found, truth, rtol=0, atol=1e-13)


def test_slices_of_a_network():
    model = nnx.Linear(3, 2, rngs=nnx.Rngs(0))
    graph, state = nnx.split(model, nnx.Param)

    def loss(state):
        return jnp.mean(nnx.merge(graph, state)(jnp.ones((4, 3))) ** 2)

    direction = random_direction(KEY, state, filters=True)
    assert jax.tree.structure(direction) == jax.tree.structure(state)
    found = slice_1d(loss, state, direction, jnp.array([-1.0, 0.0]))
    np.testing.assert_allclose(found[1], loss(state), rtol=1e-6)  # the same few float32 operations
    assert found[0] != found[1]
    # in whatever precision the distances are
    np.testing.assert_array_equal(slice_1d(loss, state, direction, np.array([-1.0, 0.0], np.float16)), found)


def test_grid():
    x, y, values = grid(lambda w: w[0] + 10 * w[1], (0.0, 2.0), (-1.0, 1.0), points=(3, 5))
    np.testing.assert_array_equal(x, [0, 1, 2])
    np.testing.assert_array_equal(y, [-1, -0.5, 0, 0.5, 1])
    np.testing.assert_array_equal(values, x[None, :] + 10 * y[:, None])  # multiples of 1/2: exact
    assert grid(lambda w: w[0], (0, 1), (0, 1), points=4)[2].shape == (4, 4)


ONES = jnp.ones(2)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: random_direction(KEY, {"a": jnp.arange(3)}), TypeError, r"parameter\['a'\] has dtype int32"),
        (lambda: slice_1d(jnp.sum, ONES, {"a": ONES}, ONES), ValueError, "direction must be a tree like"),
        (lambda: slice_1d(jnp.sum, ONES, jnp.ones(3), ONES), ValueError, r"direction has shape \(3,\)"),
        (lambda: slice_1d(jnp.sum, ONES, ONES, jnp.ones((2, 2))), ValueError, r"distances must be .* \(2, 2\)"),
        (lambda: slice_1d(jnp.sum, ONES, ONES, jnp.arange(2)), ValueError, "distances must be floating-point.*int32"),
        (lambda: slice_1d(lambda w: w, ONES, ONES, ONES), TypeError, r"one real floating-point number, got .*\(2,\)"),
        (lambda: slice_2d(jnp.sum, ONES, ONES, jnp.ones(3), ONES, ONES), ValueError, "direction two has shape"),
        (lambda: slice_2d(jnp.sum, ONES, ONES, ONES, ONES, 1.0), ValueError, "distances_two must be"),
        (lambda: grid(lambda w: w, (0, 1), (0, 1)), TypeError, r"got float32 of shape \(2,\)"),
        (lambda: grid(jnp.sum, (0, 1), (0, 1), points=1), ValueError, "points of x must be at least 2"),
        (lambda: grid(jnp.sum, (0, 1), (0, 1), points=(3, 2.5)), TypeError, "points of y must be an integer"),
        (lambda: grid(jnp.sum, (0, 1), (1, 1)), ValueError, r"y_range must be .* got \(1, 1\)"),
    ],
)
def test_bad_input(call, error, message):
    with pytest.raises(error, match=message):
        call()
