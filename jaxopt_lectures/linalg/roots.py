"""Inverse roots of symmetric matrices without negative eigenvalues."""

import jax
import jax.numpy as jnp

from jaxopt_lectures.linalg.lapack import eigh

METHODS = ("eigh", "newton")
_STEPS = 50  # each lifts a small eigenvalue by ((p + 1) / p)^p > 2.2: from the rounding of float64 in 45
_RIDGE = 8  # roundings of the trace, which is at least the largest eigenvalue: below, none can be told from 0


def inverse_root(matrix: jax.Array, order: int, eps: jax.Array, method: str = "eigh") -> jax.Array:
    """`(matrix + eps I)^(-1/order)`.

    Args:
      matrix: (..., n, n), symmetric. Eigenvalues that rounding has made negative count as 0.
      order: 2, 4 ...
      eps: what is added to every eigenvalue, >= 0, in units of the matrix.
      method: "eigh", by eigenvalues; "newton", by products only, which accelerators are faster with and which adds
        8 roundings of the trace, a millionth in float32.
    """
    if method == "newton":
        return _newton(matrix, order, eps)
    values, vectors = eigh(matrix)
    values = values - jnp.minimum(values[..., :1], 0) + eps
    return (vectors * values[..., None, :] ** (-1 / order)) @ vectors.mT


def _newton(matrix: jax.Array, order: int, eps: jax.Array) -> jax.Array:
    """Coupled Newton: M <- T^p M, H <- H T, T = ((p + 1) I - M) / p, until M = I; then H is the inverse root.

    Source: C.-H. Guo, N. Higham, A Schur-Newton method for the matrix pth root and its inverse, SIAM J. Matrix Anal.
    Appl. 28, 2006, (3.13).
    """
    n = matrix.shape[-1]
    eye = jnp.eye(n, dtype=matrix.dtype)
    trace = jnp.trace(matrix, axis1=-2, axis2=-1)[..., None, None]
    matrix = matrix + (eps + _RIDGE * jnp.finfo(matrix.dtype).eps * trace) * eye
    norm = jnp.trace(matrix, axis1=-2, axis2=-1)[..., None, None]  # not below the largest eigenvalue
    unit = (order + 1) / (2 * norm)

    def body(state: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        m, h = state
        step = ((order + 1) * eye - m) / order
        power = step
        for bit in bin(order)[3:]:
            power = power @ power
            power = power @ step if bit == "1" else power
        return power @ m, h @ step

    start = matrix * unit, jnp.broadcast_to(eye, matrix.shape) * unit ** (1 / order)
    return jax.lax.fori_loop(0, _STEPS, lambda _, state: body(state), start)[1]
