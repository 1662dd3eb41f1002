"""Inverse roots against float64, bases that follow a matrix, and what is kept where nothing finite comes out."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxopt_lectures.linalg.bases import eigenbasis, followed, guarded, sometimes
from jaxopt_lectures.linalg.lapack import eigh, qr
from jaxopt_lectures.linalg.roots import inverse_root


def positive(values, seed=0):
    q, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(len(values), len(values))))
    return q * values @ q.T, q


@pytest.mark.parametrize("method", ["eigh", "newton"])
@pytest.mark.parametrize("order", [2, 4, 6])
def test_inverse_root(order, method, x64):
    """Eigenvalues from 1e-6 to 1; Newton's ridge of 8 roundings of the trace, 1e-14, is 1e-8 of the smallest."""
    values = np.geomspace(1e-6, 1, 20)
    a, q = positive(values)
    stack = jnp.asarray(np.stack([a, 2 * a]))
    found = np.asarray(jax.jit(lambda a: inverse_root(a, order, 0.0, method))(stack))
    expected = q * values ** (-1 / order) @ q.T
    np.testing.assert_allclose(found[0], expected, rtol=0, atol=1e-7 * np.abs(expected).max())
    np.testing.assert_allclose(found[1], expected * 2 ** (-1 / order), rtol=0, atol=1e-7 * np.abs(expected).max())


def test_negative_eigenvalues_count_as_zero(x64):
    a, q = positive(np.array([-1e-3, 0.5, 1.0]))
    found = inverse_root(jnp.asarray(a), 4, 1e-4)
    np.testing.assert_allclose(found, q * (np.array([0, 0.501, 1.001]) + 1e-4) ** -0.25 @ q.T, atol=1e-10)


def test_a_basis_follows_its_matrix(x64):
    """Orthogonal iteration from the basis of another matrix; eigenvalues 2 apart, so 40 steps leave 2^-40."""
    target, _ = positive(2.0 ** -np.arange(6), seed=1)
    basis = eigenbasis(jnp.asarray(positive(np.arange(1, 7))[0]))
    for _ in range(40):
        basis, order = followed(jnp.asarray(target), basis)
    np.testing.assert_array_equal(order, np.arange(6))
    turned = np.asarray(basis.T @ target @ basis)
    np.testing.assert_allclose(turned, np.diag(2.0 ** -np.arange(6)), atol=1e-10)


def test_what_is_not_finite_is_not_taken():
    old = {"left": jnp.eye(2)}
    kept, failed = guarded({"left": jnp.full((2, 2), jnp.nan)}, old, jnp.float32([jnp.nan]))
    np.testing.assert_array_equal(kept["left"], old["left"])
    assert failed == 1
    taken, failed = guarded({"left": jnp.ones((2, 2))}, old, jnp.ones(2))
    np.testing.assert_array_equal(taken["left"], jnp.ones((2, 2)))
    assert failed == 0


@pytest.mark.parametrize("now", [True, False])
def test_sometimes(now):
    old = jnp.zeros(2)
    new, failed = jax.jit(lambda now: sometimes(now, lambda: (jnp.ones(2), jnp.float32(1)), old))(now)
    np.testing.assert_array_equal(new, [now, now])
    assert bool(failed) == now


@pytest.mark.parametrize("shape", [(4, 6, 6), (2, 3, 6, 6)])
def test_stacks_are_their_matrices(shape):
    """Also the stacks that vmap makes. (jaxlib's own batches may hang on CPU, two at once.)"""
    x = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    x = jnp.asarray(x @ x.swapaxes(-1, -2))
    values, vectors = jax.jit(eigh)(x)
    mapped = jax.jit(jax.vmap(eigh))(x)[0]
    for index in np.ndindex(shape[:-2]):
        np.testing.assert_allclose(values[index], np.linalg.eigvalsh(x[index]), rtol=1e-3, atol=1e-4)
        np.testing.assert_array_equal(values[index], mapped[index])
    np.testing.assert_allclose(vectors @ (values[..., None] * vectors.mT), x, atol=1e-4)
    assert "while" in jax.jit(eigh).lower(x).compile().as_text(), "one after the other"


def test_no_derivative():
    x = jnp.eye(3)
    assert not np.any(jax.grad(lambda s: jnp.sum(eigh(s * x)[1]) + jnp.sum(qr(s * x)))(2.0))
