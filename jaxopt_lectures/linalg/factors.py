"""What stands at the two sides of a matrix: factors, their roots or their eigenvectors."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jaxopt_lectures.core.first import Begin
from jaxopt_lectures.linalg.matrices import Matrix

Sides = Mapping[str, Any]
"""Something for the rows, "left", and for the columns, "right", of a matrix; a side that has nothing is not there."""


def first_sides(longest: int | None, make: Callable[[int, Any], jax.Array]) -> Begin:
    """First values of a slot with something for each side that is not longer than `longest`: `make(n, dtype)`.

    None for what is no matrix.
    """

    def of(p: jax.Array, matrix: Matrix | None, **options: Any) -> Any:
        del options
        if matrix is None:
            return None
        return on_sides(matrix, lambda n: make(n, p.dtype) if longest is None or n <= longest else None) or None

    return Begin(of)


def on_sides(matrix: Matrix, make: Callable[[int], jax.Array | None]) -> Sides:
    """`make(n)` for each side, as often as there are matrices in the stack; not there where it is None."""
    stack = () if matrix.count == 1 else (matrix.count, 1, 1)
    made = {"left": make(matrix.rows), "right": make(matrix.columns)}
    return {side: jnp.tile(x, stack) for side, x in made.items() if x is not None}


def averaged(factors: Sides, gradient: jax.Array, kept: Any, added: Any) -> Sides:
    """The factors L and R with the newest G G^T and G^T G."""
    seen = {"left": gradient, "right": gradient.mT}
    return {side: kept * factor + added * (seen[side] @ seen[side].mT) for side, factor in factors.items()}


def turned(x: jax.Array, bases: Sides, back: bool = False) -> jax.Array:
    """A matrix in the bases of its two sides, Q_L^T X Q_R, or out of them again."""
    if "left" in bases:
        x = (bases["left"] if back else bases["left"].mT) @ x
    if "right" in bases:
        x = x @ (bases["right"].mT if back else bases["right"])
    return x
