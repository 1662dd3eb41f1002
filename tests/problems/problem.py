"""What a test problem is."""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np


@dataclasses.dataclass(frozen=True, eq=False)
class Problem:
    """Minimise `fun` from `start`, inside `bounds` if there are any.

    `fun` keeps the dtype of its argument, float32 or float64, and works under jit, vmap and grad. Vectors are float64.

    * `minimum` is the least value known, `solution` a point where it is attained (None: nowhere, or not known).
    * `minima` are the values at which a good local minimiser may end from `start`, `minimum` among them.
    * `bounds` are the lower and the upper ends, infinite where a coordinate is free on that side.
    """

    name: str
    number: str
    fun: Callable[[jax.Array], jax.Array]
    start: np.ndarray
    minimum: float
    minima: tuple[float, ...]
    solution: np.ndarray | None = None
    bounds: tuple[np.ndarray, np.ndarray] | None = None


def vector(values) -> np.ndarray:
    """A read-only float64 vector: problems are shared by many tests."""
    array = np.array(values, dtype=np.float64)
    array.flags.writeable = False
    return array


def sum_of_squares(residuals: Callable[[jax.Array], jax.Array], x: jax.Array) -> jax.Array:
    """The objective of a least-squares problem, without the factor 1/2."""
    return jnp.sum(residuals(x) ** 2)
