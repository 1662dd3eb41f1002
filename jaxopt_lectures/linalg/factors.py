"""What stands at the two sides of a matrix: factors, their roots or their eigenvectors."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxopt_lectures.core.first import Begin
from jaxopt_lectures.linalg.matrices import Matrix

Pair = tuple[Any, Any]
"""Something for the rows and for the columns of a matrix; None where a side has none."""


def sides(matrix: Matrix | None, longest: int | None, make: Callable[[int], jax.Array]) -> Pair:
    """`make(n)` for each side of a stack of matrices that is not longer than `longest`, None for others."""
    if matrix is None:
        return None, None
    stack = () if matrix.count == 1 else (matrix.count, 1, 1)
    rows, columns = (
        None if longest is not None and n > longest else jnp.tile(make(n), stack) for n in (matrix.rows, matrix.columns)
    )
    return rows, columns


def averaged(factors: Pair, gradient: Any, kept: Any, added: Any) -> Pair:
    """The factors L and R with the newest G G^T and G^T G."""
    left, right = factors
    left = None if left is None else kept * left + added * (gradient @ gradient.mT)
    right = None if right is None else kept * right + added * (gradient.mT @ gradient)
    return left, right


def turned(x: Any, bases: Pair, back: bool = False) -> Any:
    """A matrix in the bases of its two sides, Q_L^T X Q_R, or out of them again; None leaves a side as it is."""
    left, right = bases
    if left is not None:
        x = (left if back else left.mT) @ x
    if right is not None:
        x = x @ (right.mT if back else right)
    return x


def first_sides(longest: int | None, make: Callable[[int, Any], jax.Array]) -> Begin:
    """First values of a slot with something for each side, `make(n, dtype)`."""
    return Begin(lambda p, matrix, **options: sides(matrix, longest, lambda n: make(n, p.dtype)))
