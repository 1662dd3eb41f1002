"""Two triangular factors that whiten a matrix, fitted a step at a time by random probes: no decomposition.

A factor is upper triangular, (..., n, n), or diagonal, kept as a column, (..., n, 1).

Source: O. Pooladzandi, X.-L. Li, "Curvature-informed SGD via general purpose Lie-group preconditioners",
arXiv:2402.04553; constants as in E. Walters' public implementation for JAX.
"""

from typing import Any

import jax.numpy as jnp

from jaxopt_lectures.core.numbers import quotient, root
from jaxopt_lectures.linalg.factors import Sides
from jaxopt_lectures.linalg.lapack import solve_transposed

_DAMPING = 2.0**-11.5  # sqrt(eps of float32): how much of the probe is added to the gradient


def fitted(factors: Sides, gradient: Any, probe: Any, rate: Any) -> Sides:
    """Both factors a step nearer to those that whiten: A = Q_1 G Q_2^T, B = Q_1^-T V Q_2^-1, until E A A^T = E B B^T.

    `Q_1 <- Q_1 - rate triu(A A^T - B B^T) / |A A^T + B B^T| Q_1`, and Q_2 likewise with A^T A and B^T B. A gradient of
    0 says nothing, and changes nothing.
    """
    damped = gradient + _DAMPING * jnp.mean(jnp.abs(gradient), axis=(-2, -1), keepdims=True) * probe
    a, b = applied(factors, damped), solved(factors, probe)
    rate = jnp.where(jnp.any(gradient != 0, axis=(-2, -1), keepdims=True), rate, 0)
    seen = {"left": (a, b), "right": (a.mT, b.mT)}
    return {side: _stepped(q, *seen[side], rate) for side, q in factors.items()}


def applied(factors: Sides, x: Any, *, transposed: bool = False) -> Any:
    """`Q_1 X Q_2^T`, or transposed `Q_1^T X Q_2`."""
    x = _times(factors["left"], x, transposed)
    return _times(factors["right"], x.mT, transposed).mT if "right" in factors else x


def solved(factors: Sides, x: Any) -> Any:
    """`Q_1^-T X Q_2^-1`."""
    x = _divided(factors["left"], x)
    return _divided(factors["right"], x.mT).mT if "right" in factors else x


def balanced(factors: Sides, now: Any) -> Sides:
    """Both factors with one largest element, their geometric mean: what they are together stays as it is."""
    if "right" not in factors:
        return factors
    sizes = {side: jnp.max(jnp.abs(q), axis=(-2, -1), keepdims=True) for side, q in factors.items()}
    mean = jnp.sqrt(sizes["left"]) * jnp.sqrt(sizes["right"])
    return {side: jnp.where(now, q * quotient(mean, sizes[side]), q) for side, q in factors.items()}


def _stepped(q: Any, a: Any, b: Any, rate: Any) -> Any:
    if _is_diagonal(q):
        aa, bb = (jnp.sum(x * x, axis=-1, keepdims=True) for x in (a, b))
        size = jnp.max(aa + bb, axis=-2, keepdims=True, initial=0)
        return q - rate * quotient(aa - bb, size) * q
    aa, bb = a @ a.mT, b @ b.mT
    return q - quotient(rate * jnp.triu(aa - bb), _norm_below(aa + bb)) @ q


def _norm_below(x: Any) -> Any:
    """A lower bound of the largest eigenvalue of a symmetric matrix, (..., 1, 1): a step from its longest column."""
    size = jnp.max(jnp.abs(x), axis=(-2, -1), keepdims=True)
    x = quotient(x, size)
    longest = jnp.argmax(jnp.sum(x * x, axis=-2), axis=-1)[..., None, None]
    row = jnp.take_along_axis(x, longest, axis=-1).mT @ x
    row = quotient(row, root(jnp.sum(row * row, axis=-1, keepdims=True)))
    return size * root(jnp.sum((row @ x) ** 2, axis=-1, keepdims=True))


def _times(q: Any, x: Any, transposed: bool) -> Any:
    if _is_diagonal(q):
        return q * x
    return (q.mT if transposed else q) @ x


def _divided(q: Any, x: Any) -> Any:
    """`Q^-T X`."""
    if _is_diagonal(q):
        return x / q
    return solve_transposed(q, x)


def _is_diagonal(q: Any) -> bool:
    """A diagonal is kept as a column; a matrix with one column would be 1 x 1, which is the same."""
    return bool(q.shape[-1] == 1)
