"""Functions of a few variables, each with one difficulty of descent, and where their minima lie.

Sources: H. Rosenbrock, "An automatic method for finding the greatest or least value of a function", 1960; J. Moré,
B. Garbow, K. Hillstrom, "Testing unconstrained optimization software", ACM TOMS 7, 1981 (Beale's function is no. 5);
Y. Dauphin et al., arXiv:1406.2572 (saddle points).
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

Surface = Callable[[jax.Array], jax.Array]


def quadratic(kappa: float, dimensions: int = 2) -> Surface:
    """A valley `f(x) = 1/2 sum_i lambda_i x_i^2`, whose curvatures lambda run from 1 to kappa.

    They are kappa^(i / (dimensions - 1)), so that the Hessian's condition number is kappa. Minimum 0 at 0. Gradient
    descent converges for learning rates below 2 / kappa only.

    Args:
      kappa: condition number, >= 1.
      dimensions: number of variables, >= 2.

    Returns:
      A function of an array (dimensions,) that gives a scalar of its dtype.

    Raises:
      ValueError: kappa or dimensions too small.
    """
    if not kappa >= 1:
        raise ValueError(f"kappa must be >= 1, got {kappa}")
    if dimensions < 2:
        raise ValueError(f"dimensions must be >= 2, got {dimensions}")
    curvatures = np.geomspace(1.0, kappa, dimensions)

    def valley(x: jax.Array) -> jax.Array:
        """The quadratic of these curvatures."""
        x = jnp.asarray(x)
        return jnp.sum(jnp.asarray(curvatures, x.dtype) * x**2) / 2

    return valley


def rosenbrock(x: jax.Array) -> jax.Array:
    """A curved valley, `f(x) = sum_i 100 (x_{i+1} - x_i^2)^2 + (1 - x_i)^2`, for x of shape (n,), n >= 2.

    Minimum 0 at (1, ..., 1); from 4 variables on there is another, local one near (-1, 1, ..., 1). The start is
    (-1.2, 1).
    """
    x = jnp.asarray(x)
    return jnp.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


def beale(x: jax.Array) -> jax.Array:
    """Flat with steep walls, `f(x) = sum_{i=1}^3 (c_i - x_1 (1 - x_2^i))^2`, c = 1.5, 2.25, 2.625, for x of shape (2,).

    Minimum 0 at (3, 0.5). The start is (1, 1).
    """
    one, two = jnp.asarray(x)
    return (1.5 - one * (1 - two)) ** 2 + (2.25 - one * (1 - two**2)) ** 2 + (2.625 - one * (1 - two**3)) ** 2


def saddle(x: jax.Array) -> jax.Array:
    """A mountain pass, `f(x) = x_1^2 / 2 - x_2^2 / 2`, for x of shape (2,).

    Stationary at 0, down along x_2, and without a minimum: see `bounded_saddle`.
    """
    one, two = jnp.asarray(x)
    return (one**2 - two**2) / 2


def bounded_saddle(x: jax.Array) -> jax.Array:
    """The pass between two basins, `f(x) = x_1^2 / 2 - x_2^2 / 2 + x_2^4 / 4`, for x of shape (2,).

    As `saddle` near 0, where the quartic term vanishes faster; minima -1/4 at (0, 1) and (0, -1).
    """
    one, two = jnp.asarray(x)
    return (one**2 - two**2) / 2 + two**4 / 4


def plateau(x: jax.Array) -> jax.Array:
    """A well in a plain, `f(x) = 1 - exp(-|x|^2 / 2)`, for x of any shape.

    Minimum 0 at 0, with curvature 1. Outside of it the gradient |x| exp(-|x|^2 / 2) vanishes, as behind a saturated
    neuron: the way is clear, the slope is all that is missing.
    """
    x = jnp.asarray(x)
    return -jnp.expm1(-jnp.sum(x**2) / 2)
