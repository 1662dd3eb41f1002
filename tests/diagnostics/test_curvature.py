"""Products, eigenvalues and spectra against dense Hessians in NumPy float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.flatten_util import ravel_pytree

from jaxopt_lectures.diagnostics import (
    condition_number,
    extreme_eigenvalues,
    hessian,
    hessian_vector_product,
    spectral_density,
    spectral_quadrature,
)

KEY = jax.random.key(0)
DTYPES = [jnp.float32, jnp.float64]
HALF = [jnp.bfloat16, jnp.float16]


def symmetric(eigenvalues, seed=0):
    rotation, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(len(eigenvalues),) * 2))
    matrix = (rotation * eigenvalues) @ rotation.T
    return (matrix + matrix.T) / 2


def quadratic(matrix, dtype=jnp.float64):
    matrix = jnp.asarray(matrix, dtype)
    return lambda w: jnp.vdot(w, matrix @ w) / 2, jnp.ones(len(matrix), dtype)


def small_network():
    """tanh network 3-4-1 with its loss in JAX, and its gradient by hand in NumPy, parameters in ravel order."""
    rng = np.random.default_rng(3)
    x, y = rng.normal(size=(10, 3)), rng.normal(size=(10, 1))
    params = {
        "a": jnp.asarray(rng.normal(size=(3, 4))),
        "b": jnp.asarray(rng.normal(size=4)),
        "c": jnp.asarray(rng.normal(size=(4, 1))),
    }

    def loss(p):
        return jnp.mean((jnp.tanh(jnp.asarray(x) @ p["a"] + p["b"]) @ p["c"] - jnp.asarray(y)) ** 2)

    def gradient(flat):
        a, b, c = flat[:12].reshape(3, 4), flat[12:16], flat[16:].reshape(4, 1)
        h = np.tanh(x @ a + b)
        error = 2 * (h @ c - y) / len(x)
        back = (error @ c.T) * (1 - h**2)
        return np.concatenate([(x.T @ back).ravel(), back.sum(axis=0), (h.T @ error).ravel()])

    return loss, params, gradient


def finite_differences(gradient, flat, step=1e-5):
    """Central differences: error step^2 f'''' / 6 + eps |g| / step, here below 1e-9."""
    columns = [(gradient(flat + step * unit) - gradient(flat - step * unit)) / (2 * step) for unit in np.eye(len(flat))]
    return np.stack(columns, axis=1)


@pytest.mark.parametrize("dtype", DTYPES)
def test_product_with_a_quadratic(x64, dtype):
    matrix = np.random.default_rng(1).integers(-4, 5, size=(6, 6)).astype(float)
    matrix = matrix + matrix.T
    fun, w = quadratic(matrix, dtype)
    v = np.array([1.0, -2.0, 3.0, 0.0, 1.0, 2.0])
    found = hessian_vector_product(fun, w, jnp.asarray(v, dtype))
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, matrix @ v)  # small integers (halved once): exact in either dtype


def test_network_against_finite_differences_and_its_twin(x64):
    loss, params, gradient = small_network()
    flat, tree = ravel_pytree(params)
    dense = hessian(loss, params)
    truth = finite_differences(gradient, np.asarray(flat))
    np.testing.assert_allclose(dense, truth, rtol=0, atol=1e-8)
    twin = jax.hessian(lambda z: loss(tree(z)))(flat)
    np.testing.assert_allclose(dense, twin, rtol=0, atol=1e-13)  # sums of 10 terms of size 10
    v = jax.random.normal(KEY, flat.shape)
    product = hessian_vector_product(loss, params, tree(v))
    assert jax.tree.structure(product) == jax.tree.structure(params)
    np.testing.assert_allclose(ravel_pytree(product)[0], truth @ v, rtol=0, atol=1e-7)


def test_state_of_a_network():
    model = nnx.Linear(3, 2, rngs=nnx.Rngs(0))
    graph, state = nnx.split(model, nnx.Param)
    x = jax.random.normal(KEY, (8, 3))

    def loss(state):
        return jnp.sum(nnx.merge(graph, state)(x) ** 2) / 2

    product = jax.jit(lambda s: hessian_vector_product(loss, s, s))(state)
    # The loss is quadratic and homogeneous, so that H w is its gradient; float32 sums of 8 terms.
    for mine, its in zip(jax.tree.leaves(product), jax.tree.leaves(jax.grad(loss)(state)), strict=True):
        np.testing.assert_allclose(mine, its, rtol=1e-5, atol=1e-5)
    assert hessian(loss, state).shape == (8, 8)


@pytest.mark.parametrize("dtype", DTYPES)
def test_extreme_eigenvalues_with_all_steps(x64, dtype):
    """n steps with full orthogonalisation are a similarity: backward error about 10 eps ||H|| sqrt(n)."""
    eigenvalues = np.array([-3.0, -1.0, 0.0, 0.5, 2.0, 7.0, 11.0])
    fun, w = quadratic(symmetric(eigenvalues), dtype)
    found = extreme_eigenvalues(fun, w, KEY, steps=100)  # more than there are parameters: cut to 7
    tolerance = 10 * float(jnp.finfo(dtype).eps) * 11 * np.sqrt(7)
    np.testing.assert_allclose(found, (-3.0, 11.0), rtol=0, atol=tolerance)
    assert found[0].dtype == dtype


def test_extreme_eigenvalues_of_a_network(x64):
    loss, params, gradient = small_network()
    truth = np.linalg.eigvalsh(finite_differences(gradient, np.asarray(ravel_pytree(params)[0])))
    found = jax.jit(lambda p: extreme_eigenvalues(loss, p, KEY))(params)
    np.testing.assert_allclose(found, truth[[0, -1]], rtol=0, atol=20 * 1e-8)  # Weyl: the differences' error, n = 20


def test_few_steps_stay_inside_and_find_what_stands_apart(x64):
    """Ritz values lie in the spectrum; Kaniel and Paige bound the error of the one at the end.

    The largest eigenvalue 10 stands apart from [0, 1]: with 12 steps the error is at most
    (10 - 0) tan^2(phi) / T_11(1 + 2 (10 - 1) / 1)^2, T_11(19) = 5e16: below 1e-15 for any start that is not
    orthogonal to it beyond 1e-8.
    """
    eigenvalues = np.append(np.linspace(0, 1, 99), 10.0)
    fun, w = quadratic(symmetric(eigenvalues))
    smallest, largest = extreme_eigenvalues(fun, w, KEY, steps=12)
    assert 0 < smallest < 0.1, "not there yet, but never below"
    np.testing.assert_allclose(largest, 10, rtol=1e-13)


@pytest.mark.parametrize(
    "eigenvalues",
    [[1.0] * 6, [0.0] * 6, [1.0, 1.0, 2.0, 2.0, 3.0, 3.0], [0.0] * 40 + [1.0, 5.0], [3.0]],
    ids=["identity", "zero", "three", "flat", "one"],
)
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_iteration_may_end_early(x64, dtype, eigenvalues):
    """With k different eigenvalues there is nothing new after k steps: no NaN, no invented eigenvalue."""
    for seed, matrix in enumerate([np.diag(eigenvalues), symmetric(np.array(eigenvalues))]):
        fun, w = quadratic(matrix, dtype)
        found = extreme_eigenvalues(fun, w, jax.random.key(seed))
        tolerance = 100 * float(jnp.finfo(dtype).eps) * max(eigenvalues)
        np.testing.assert_allclose(found, (min(eigenvalues), max(eigenvalues)), rtol=0, atol=tolerance)


def test_condition_number(x64):
    fun, w = quadratic(symmetric(np.array([0.5, 1.0, 2.0, 50.0])))
    for key in (None, KEY):
        # the smallest eigenvalue has a relative error of 100 times that of the largest: 100 * 10 roundings
        np.testing.assert_allclose(condition_number(fun, w, key), 100, rtol=1e-12)
    saddle, w = quadratic(np.diag([1.0, -1.0]))
    assert condition_number(saddle, w) == jnp.inf
    gutter, w = quadratic(np.diag([1.0, 0.0]))
    assert condition_number(gutter, w) == jnp.inf


def test_a_known_spectrum_is_recovered(x64):
    """A diagonal Hessian with n different eigenvalues and a start of signs: every weight is (1/sqrt n)^2, exactly."""
    eigenvalues = np.array([-2.0, -1.0, 0.0, 1.5, 3.0, 4.0, 8.0, 9.0])
    fun, w = quadratic(np.diag(eigenvalues))
    nodes, weights = spectral_quadrature(fun, w, KEY, probes=1)
    order = np.argsort(nodes)
    # eigenvalues to 10 eps ||H||, weights to that over the smallest gap, 1
    np.testing.assert_allclose(nodes[order], eigenvalues, rtol=0, atol=1e-13)
    np.testing.assert_allclose(weights[order], 1 / 8, rtol=0, atol=1e-13)


def test_moments(x64):
    """v'Hv/n of random signs has mean tr(H)/n and variance 2 sum_{i != j} H_ij^2 / n^2; likewise v'H^2v/n."""
    n, probes = 30, 200
    matrix = symmetric(np.concatenate([np.linspace(-1, 1, 25), [3.0, 4.0, 5.0, 8.0, 20.0]]))
    fun, w = quadratic(matrix)
    nodes, weights = spectral_quadrature(fun, w, KEY, probes=probes, steps=10)
    np.testing.assert_allclose(jnp.sum(weights), 1, rtol=1e-13)
    for power, moment in ((1, matrix), (2, matrix @ matrix)):
        off = np.sum(moment**2) - np.sum(np.diag(moment) ** 2)
        error = np.sqrt(2 * off / probes) / n
        estimate = float(jnp.sum(weights * nodes**power))
        assert abs(estimate - np.trace(moment) / n) < 4.5 * error
        assert 4.5 * error < 0.35 * np.trace(moment) / n, "the bound says something"


@pytest.mark.parametrize("dtype", DTYPES)
def test_density(x64, dtype):
    """It integrates to 1 and its mean is the quadrature's; every cluster has its share of the mass."""
    eigenvalues = np.concatenate([np.linspace(-0.1, 0.1, 15), np.linspace(4.9, 5.1, 5)])
    fun, w = quadratic(np.diag(eigenvalues), dtype)
    points, density = spectral_density(fun, w, KEY, probes=2)
    assert points.shape == density.shape == (1024,)
    assert points.dtype == density.dtype == dtype
    points, density = np.asarray(points, np.float64), np.asarray(density, np.float64)
    # Beyond 6 sigma lie 2e-9; the trapezoidal rule at 0.11 sigma is exact to rounding; float32 rounds 1024 terms.
    tolerance = 1e-8 if dtype == jnp.float64 else 1e-5
    assert np.trapezoid(density, points) == pytest.approx(1, abs=tolerance)
    assert np.trapezoid(points * density, points) == pytest.approx(np.mean(eigenvalues), abs=10 * tolerance)
    width = 5.2 / 100
    second = np.trapezoid(points**2 * density, points)
    assert second == pytest.approx(np.mean(eigenvalues**2) + width**2, abs=100 * tolerance)
    left = points < 2.5
    assert np.trapezoid(density[left], points[left]) == pytest.approx(0.75, abs=10 * tolerance)


def test_density_on_a_given_grid(x64):
    fun, w = quadratic(np.diag([2.0, 2.0]))
    points, density = spectral_density(fun, w, KEY, grid=jnp.array([1.0, 2.0]), width=0.5)
    peak = 1 / (0.5 * np.sqrt(2 * np.pi))
    np.testing.assert_array_equal(points, [1.0, 2.0])
    np.testing.assert_allclose(density, [peak * np.exp(-2), peak], rtol=1e-12)


@pytest.mark.parametrize("eigenvalues", [[2.0, 2.0], [0.0, 0.0]])
def test_density_of_one_eigenvalue(x64, eigenvalues):
    fun, w = quadratic(np.diag(eigenvalues))
    points, density = jax.jit(lambda w: spectral_density(fun, w, KEY))(w)
    assert np.trapezoid(density, points) == pytest.approx(1, abs=1e-8)
    assert points[jnp.argmax(density)] == pytest.approx(eigenvalues[0], abs=0.02)


def stored(matrix, dtype):
    """The matrix as the dtype holds it, in float64."""
    return np.asarray(jnp.asarray(matrix, dtype)).astype(np.float64)


def rounding(dtype, matrix):
    """A bound of the eigenvalues' error in half precision, of a quadratic.

    A product rounds the vector, both halves of the gradient, and their sum: 3 eps / 2 of ||H||, a dot product of 16
    bits being summed in 32. Over n columns that is sqrt(n) of it in the Frobenius norm, twice for the triangle that the
    tridiagonal matrix takes from its mirror image; Weyl. The rest is float32, a thousandth of it.
    """
    return 3.01 * float(jnp.finfo(dtype).eps) * np.sqrt(len(matrix)) * np.linalg.norm(matrix, 2)


@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize(
    "eigenvalues",
    [[-3.0, -1.0, 0.0, 0.5, 2.0, 7.0, 11.0], [1.0] * 6, [0.0] * 6, [0.0] * 40 + [1.0, 5.0], [3.0]],
    ids=["seven", "identity", "zero", "flat", "one"],
)
def test_half_precision_extremes(dtype, eigenvalues):
    """Also where the iteration should end early: what rounding adds is no new eigenvalue."""
    matrix = symmetric(np.array(eigenvalues))
    truth = np.linalg.eigvalsh(stored(matrix, dtype))[[0, -1]]
    fun, w = quadratic(matrix, dtype)
    found = extreme_eigenvalues(fun, w, KEY, steps=100)
    assert [value.dtype for value in found] == [jnp.float32] * 2
    np.testing.assert_allclose(found, truth, rtol=0, atol=rounding(dtype, matrix))


@pytest.mark.parametrize("dtype", HALF)
def test_half_precision_matrix(dtype):
    """A column of H is a product with a unit vector: two equal halves of an entry, halved and added, exactly."""
    matrix = symmetric(np.array([0.5, 1.0, 2.0, 4.0]))
    fun, w = quadratic(matrix, dtype)
    found = hessian(fun, w)
    assert found.dtype == jnp.float32
    np.testing.assert_array_equal(found, stored(matrix, dtype))
    product = hessian_vector_product(fun, w, jnp.ones(4, dtype))
    assert product.dtype == dtype
    error = 1.5 * float(jnp.finfo(dtype).eps) * 4 * 2  # the three roundings of `rounding`, ||H|| ||v||
    np.testing.assert_allclose(stored(product, dtype), stored(matrix, dtype) @ np.ones(4), rtol=0, atol=error)


@pytest.mark.parametrize("dtype", HALF)
def test_half_precision_condition_number(dtype):
    fun, w = quadratic(np.diag([0.5, 1.0, 4.0]), dtype)
    assert condition_number(fun, w) == pytest.approx(8, rel=1e-6)  # powers of two, but for the decomposition
    assert condition_number(fun, w).dtype == jnp.float32
    error = rounding(dtype, np.diag([0.5, 1.0, 4.0]))
    assert condition_number(fun, w, KEY) == pytest.approx(8, rel=0.001 + error / (0.5 - error) + error / 4)
    eps = float(jnp.finfo(dtype).eps)
    lost, w = quadratic(np.diag([eps / 2, 1.0]), dtype)
    assert condition_number(lost, w) == jnp.inf, "not to be told from rounding, although float32 tells it from 0"


@pytest.mark.parametrize("dtype", HALF)
def test_half_precision_spectrum(dtype):
    """Each of four eigenvalues has its node and about a quarter of the weight."""
    eigenvalues = np.array([-4.0, 0.0, 4.0, 8.0])
    fun, w = quadratic(np.diag(eigenvalues), dtype)
    nodes, weights = spectral_quadrature(fun, w, KEY, probes=1)
    assert nodes.dtype == weights.dtype == jnp.float32
    order, error = np.argsort(nodes), rounding(dtype, np.diag(eigenvalues))
    np.testing.assert_allclose(nodes[order], eigenvalues, rtol=0, atol=error)
    # An eigenvector turns by at most the sine error / gap; (1/2 + sine)^2 - (1/2)^2 for its first component
    sine = error / (4 - error)
    np.testing.assert_allclose(weights[order], 1 / 4, rtol=0, atol=sine + sine**2)
    points, density = spectral_density(fun, w, KEY, probes=2)
    assert points.dtype == density.dtype == jnp.float32
    # as in test_density: float32 rounds 1024 terms
    assert np.trapezoid(np.asarray(density, np.float64), np.asarray(points, np.float64)) == pytest.approx(1, abs=1e-5)


def mixed(tree):
    return jnp.sum(tree["a"] ** 2) / 2 + jnp.sum(tree["b"].astype(jnp.float32) ** 2)


def test_leaves_of_two_dtypes():
    params = {"a": jnp.ones(2), "b": jnp.ones(3, jnp.bfloat16)}
    np.testing.assert_array_equal(hessian(mixed, params), np.diag([1.0, 1.0, 2.0, 2.0, 2.0]))


def paraboloid(w):
    return jnp.sum(w**2)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: hessian_vector_product(paraboloid, jnp.arange(2), jnp.ones(2)),
            TypeError,
            "parameter has dtype int32",
        ),
        (lambda: hessian_vector_product(paraboloid, jnp.ones(2), jnp.arange(2)), TypeError, "v has dtype int32"),
        (lambda: hessian_vector_product(paraboloid, jnp.ones(2), jnp.ones(3)), ValueError, r"v has shape \(3,\)"),
        (lambda: hessian_vector_product(paraboloid, jnp.ones(2), [jnp.ones(2)]), ValueError, "v must be a tree like"),
        (lambda: hessian_vector_product(lambda w: w, jnp.ones(2), jnp.ones(2)), TypeError, r"of shape \(2,\)"),
        (lambda: hessian(lambda w: jnp.argmax(w), jnp.ones(2)), TypeError, "one real floating-point number, got int32"),
        (lambda: extreme_eigenvalues(paraboloid, jnp.ones(2), KEY, steps=0), ValueError, "steps must be at least 1"),
        (lambda: extreme_eigenvalues(paraboloid, {}, KEY), ValueError, "at least one leaf"),
        (lambda: condition_number(lambda w: w, jnp.ones(2)), TypeError, r"of shape \(2,\)"),
        (lambda: spectral_quadrature(paraboloid, jnp.ones(2), KEY, probes=0), ValueError, "probes must be at least 1"),
        (lambda: spectral_density(paraboloid, jnp.ones(2), KEY, grid=1), ValueError, "grid must be at least 2, got 1"),
        (lambda: spectral_density(paraboloid, jnp.ones(2), KEY, grid=jnp.ones((2, 2))), ValueError, r"got \(2, 2\)"),
    ],
)
def test_bad_input(call, error, message):
    with pytest.raises(error, match=message):
        call()
