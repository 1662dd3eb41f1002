"""Decompositions and solves that do not hang: on CPU, stacks of matrices are taken one after the other.

There, jaxlib 0.10.2 shares a stack among the threads that programs run on, and waits on one of them for the others: two
such calls at once, in one program or in two, can wait for each other for ever. A single matrix is not shared.

Derivatives hold what these give: an eigenvector has none where two eigenvalues are equal.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp


def _apart(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function of matrices as one of stacks of matrices too, also those that `vmap` makes."""
    single = jax.custom_batching.custom_vmap(function)

    @single.def_vmap
    def _(size: int, batched: Any, *operands: Any) -> Any:
        stacks = [
            x if many else jnp.broadcast_to(x, (size, *x.shape)) for x, many in zip(operands, batched, strict=True)
        ]
        if jax.default_backend() == "cpu":
            out = jax.lax.map(lambda matrices: single(*matrices), tuple(stacks))
        else:
            out = jax.vmap(function)(*stacks)
        return out, jax.tree.map(lambda x: True, out)

    @jax.custom_jvp
    def held(*operands: jax.Array) -> Any:
        return jax.vmap(held)(*operands) if operands[0].ndim > 2 else single(*operands)

    @held.defjvp
    def _(primals: Any, tangents: Any) -> Any:
        del tangents
        out = held(*primals)
        return out, jax.tree.map(jnp.zeros_like, out)

    return held


@_apart
def eigh(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Eigenvalues of a symmetric matrix, the smallest first, and its eigenvectors as columns."""
    values, vectors = jnp.linalg.eigh(x)
    return values, vectors


@_apart
def qr(x: jax.Array) -> jax.Array:
    """The orthogonal factor of a matrix."""
    return jnp.linalg.qr(x)[0]


@_apart
def solve_transposed(q: jax.Array, x: jax.Array) -> jax.Array:
    """`Q^-T X` for an upper triangular Q."""
    return jax.lax.linalg.triangular_solve(q, x, left_side=True, lower=False, transpose_a=True)
