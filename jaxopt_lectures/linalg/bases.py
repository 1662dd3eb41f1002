"""Bases of eigenvectors, found once and then followed."""

import jax
import jax.numpy as jnp


def eigenbasis(matrix: jax.Array) -> jax.Array:
    """The eigenvectors of a symmetric matrix as columns, largest eigenvalue first.

    Args:
      matrix: (..., n, n).
    """
    return jnp.linalg.eigh(matrix)[1][..., ::-1]


def followed(matrix: jax.Array, basis: jax.Array) -> tuple[jax.Array, jax.Array]:
    """One step of orthogonal iteration: the basis of a matrix that has changed a little, and the order of its columns.

    Columns are first ordered by the eigenvalues that they have now, `order[k]` being the old place of the k-th.

    Args:
      matrix: (..., n, n), symmetric.
      basis: (..., n, n), orthogonal.
    """
    turned = matrix @ basis
    order = jnp.argsort(-jnp.sum(basis * turned, axis=-2), axis=-1)
    return jnp.linalg.qr(jnp.take_along_axis(turned, order[..., None, :], axis=-1))[0], order


def all_finite(*arrays: jax.Array | None) -> jax.Array:
    """Whether no element is inf or NaN, () bool."""
    return jnp.stack([jnp.all(jnp.isfinite(a)) for a in arrays if a is not None]).all()
