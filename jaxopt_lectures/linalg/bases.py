"""Bases of eigenvectors, found once and then followed."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxopt_lectures.core import sharding
from jaxopt_lectures.linalg.lapack import eigh, qr


def eigenbasis(matrix: jax.Array) -> jax.Array:
    """The eigenvectors of a symmetric matrix as columns, largest eigenvalue first.

    Args:
      matrix: (..., n, n).
    """
    return eigh(matrix)[1][..., ::-1]


def followed(matrix: jax.Array, basis: jax.Array) -> tuple[jax.Array, jax.Array]:
    """One step of orthogonal iteration: the basis of a matrix that has changed a little, and the order of its columns.

    Columns are first ordered by the eigenvalues that they have now, `order[k]` being the old place of the k-th.

    Args:
      matrix: (..., n, n), symmetric.
      basis: (..., n, n), orthogonal.
    """
    turned = matrix @ basis
    order = jnp.argsort(-jnp.sum(basis * turned, axis=-2), axis=-1)
    return qr(jnp.take_along_axis(turned, order[..., None, :], axis=-1)), order


def guarded(new: Any, old: Any, decides: Any) -> tuple[Any, jax.Array]:
    """The new arrays, and 0; the old ones, and 1, if one of `decides` is not finite everywhere."""
    fine = jnp.stack([jnp.all(jnp.isfinite(a)) for a in jax.tree.leaves(decides)]).all()
    kept = jax.tree.map(lambda a, b: jnp.where(fine, a, b), new, old)
    return kept, jnp.where(fine, 0, 1).astype(jax.tree.leaves(old)[0].dtype)


def sometimes(when: jax.Array, function: Callable[[], tuple[Any, jax.Array]], old: Any) -> tuple[Any, jax.Array]:
    """`function()` if so, otherwise the old arrays, and 0."""
    like = jax.eval_shape(function)

    def keep() -> tuple[Any, jax.Array]:
        return sharding.alike((old, jnp.zeros((), like[1].dtype)), like)

    return jax.lax.cond(when, function, keep)
