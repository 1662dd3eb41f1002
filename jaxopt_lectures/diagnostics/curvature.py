"""Second derivatives without the Hessian matrix: products with it, its extreme eigenvalues, its spectrum.

Sources: B. Pearlmutter, "Fast exact multiplication by the Hessian", 1994; C. Lanczos, 1950; B. Ghorbani, S. Krishnan,
Y. Xiao, "An investigation into neural net optimization via Hessian eigenvalue density", arXiv 1901.10159, 2019;
lectures 001 and 004 (ill-conditioned Hessians, saddle points). The Lanczos iteration is matfree's.

Products are computed in the parameters' dtype, eigenvalues from them in float32 (float64 if a parameter is). What comes
out is no better than the products: with bfloat16 parameters expect two digits of the largest eigenvalue.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from jaxopt_lectures.core.checks import whole
from jaxopt_lectures.core.numbers import arithmetic_dtype
from jaxopt_lectures.diagnostics.checks import floating, like, scalar_valued

Function = Callable[[Any], Any]


def hessian_vector_product(fun: Function, params: Any, v: Any) -> Any:
    """`H v`, where `H_ij = d^2 f / dw_i dw_j`: the derivative of the gradient along v (forward over reverse).

    It costs a small multiple of a gradient and no memory for H, however many parameters there are.

    Args:
      fun: from parameters to one floating-point number.
      params: where; any tree of floating-point arrays, `nnx.State` too.
      v: a tree like the parameters.

    Returns:
      A tree like the parameters.

    Raises:
      TypeError: leaves that are not floating-point; a function whose value is not one number.
      ValueError: v has another structure or shape than the parameters.
    """
    params = floating(params)
    v = like(params, v, "v")
    return jax.jvp(jax.grad(scalar_valued(fun)), (params,), (v,))[1]


def hessian(fun: Function, params: Any) -> jax.Array:
    """The Hessian as a matrix, for n parameters in few arrays: n products, and n^2 numbers to store.

    Args:
      fun: from parameters to one floating-point number.
      params: where.

    Returns:
      (n, n) float32 (float64 if a parameter is), rows and columns in the order of
      `jax.flatten_util.ravel_pytree(params)`.

    Raises:
      TypeError: leaves that are not floating-point; a function whose value is not one number.
    """
    product, start = _matvec(fun, params)
    return jax.vmap(product, out_axes=1)(jnp.eye(start.size, dtype=start.dtype))


def extreme_eigenvalues(fun: Function, params: Any, key: jax.Array, *, steps: int = 32) -> tuple[jax.Array, jax.Array]:
    """The smallest and the largest eigenvalue of the Hessian, by Lanczos' iteration with full orthogonalisation.

    Both lie inside the spectrum and move to its ends as `steps` grows; with as many steps as parameters they are exact
    up to rounding. The end that stands apart from the other eigenvalues is found first.

    Args:
      fun: from parameters to one floating-point number.
      params: where.
      key: for the random start.
      steps: products with the Hessian, >= 1; the number of parameters if that is smaller. A vector is kept for each.

    Returns:
      `(smallest, largest)`, scalars, float32 (float64 if a parameter is).

    Raises:
      TypeError: leaves that are not floating-point; a function whose value is not one number; steps no integer.
      ValueError: steps below 1.
    """
    product, flat = _matvec(fun, params)
    start = jax.random.normal(key, flat.shape, flat.dtype)
    nodes, _ = _lanczos(product, start, steps)
    return nodes[0], nodes[-1]


def condition_number(fun: Function, params: Any, key: jax.Array | None = None, *, steps: int = 32) -> jax.Array:
    """`kappa = lambda_max / lambda_min` of a positive definite Hessian: how much steeper than long the valley is.

    Args:
      fun: from parameters to one floating-point number.
      params: where.
      key: None: from the whole matrix (`hessian`). A key: by `extreme_eigenvalues`, for many parameters; that is a
        lower bound, for the smallest eigenvalue is the last to be found.
      steps: as in `extreme_eigenvalues`.

    Returns:
      A scalar; inf where the Hessian is not positive definite, or where that cannot be told from rounding
      (`lambda_min` at most the eps of the parameters' coarsest dtype times `lambda_max`).

    Raises:
      TypeError: leaves that are not floating-point; a function whose value is not one number.
      ValueError: steps below 1.
    """
    if key is None:
        values = jnp.linalg.eigvalsh(hessian(fun, params))
        smallest, largest = values[0], values[-1]
    else:
        smallest, largest = extreme_eigenvalues(fun, params, key, steps=steps)
    definite = smallest > _eps(params) * largest
    return jnp.where(definite, largest / jnp.where(definite, smallest, 1), jnp.inf)


def spectral_quadrature(
    fun: Function, params: Any, key: jax.Array, *, probes: int = 4, steps: int = 64
) -> tuple[jax.Array, jax.Array]:
    """Nodes and weights that stand for the eigenvalues of the Hessian: stochastic Lanczos quadrature.

    For any smooth function, `sum_k weight_k phi(node_k)` estimates the mean of phi over the n eigenvalues,
    `tr(phi(H)) / n`. It is unbiased for polynomials of degree below `2 steps`; for phi(x) = x the standard error is
    `sqrt(2 sum_{i != j} H_ij^2 / probes) / n`.

    Args:
      fun: from parameters to one floating-point number.
      params: where.
      key: for the probes, vectors of random signs.
      probes: how many, >= 1.
      steps: products with the Hessian per probe, >= 1; the number of parameters if that is smaller.

    Returns:
      `(nodes, weights)`, each (probes * steps,), unsorted; the weights sum to 1.

    Raises:
      TypeError: leaves that are not floating-point; a function whose value is not one number.
      ValueError: probes or steps below 1.
    """
    whole("probes", probes, 1)
    product, flat = _matvec(fun, params)
    starts = jax.random.rademacher(key, (probes, flat.size), flat.dtype)
    nodes, weights = jax.lax.map(lambda start: _lanczos(product, start, steps), starts)
    return nodes.ravel(), weights.ravel() / probes


def spectral_density(
    fun: Function,
    params: Any,
    key: jax.Array,
    *,
    probes: int = 4,
    steps: int = 64,
    grid: int | jax.Array = 1024,
    width: float | jax.Array | None = None,
) -> tuple[jax.Array, jax.Array]:
    """The density of the Hessian's eigenvalues: `spectral_quadrature`, every node drawn as a narrow Gaussian.

    Args:
      fun: from parameters to one floating-point number.
      params: where.
      key: for the probes.
      probes: as in `spectral_quadrature`.
      steps: as in `spectral_quadrature`.
      grid: how many points, spread over the whole spectrum (>= 2), or the points themselves, (points,).
      width: standard deviation of the Gaussians; a hundredth of the spectrum's width if None. It adds its square to
        the density's variance.

    Returns:
      `(grid, density)`, each (points,). Over a grid that covers the spectrum the density integrates to 1.

    Raises:
      TypeError: leaves that are not floating-point; a function whose value is not one number.
      ValueError: probes or steps below 1, a grid of fewer than two points or of more than one axis.
    """
    _check_grid(grid)
    nodes, weights = spectral_quadrature(fun, params, key, probes=probes, steps=steps)
    low, high = jnp.min(nodes), jnp.max(nodes)
    if width is None:
        largest = jnp.maximum(jnp.abs(low), jnp.abs(high))
        narrow = high - low <= _eps(params) * 100 * largest  # one eigenvalue, all the same, but for rounding
        size = jnp.where(narrow, jnp.where(largest > 0, largest, 1), high - low)
        width = size / 100
    sigma = jnp.asarray(width, nodes.dtype)
    if isinstance(grid, int):
        points = jnp.linspace(low - 6 * sigma, high + 6 * sigma, grid)  # 6 sigma: all but 2e-9 of a Gaussian
    else:
        points = jnp.asarray(grid, nodes.dtype)
    return points, jax.lax.map(lambda x: jnp.sum(weights * jax.scipy.stats.norm.pdf(x, nodes, sigma)), points)


def _check_grid(grid: Any) -> None:
    if isinstance(grid, int):
        whole("grid", grid, 2)
    elif jnp.ndim(grid) != 1 or jnp.size(grid) < 2:
        raise ValueError(f"grid must be a number of points or at least two points, (points,); got {jnp.shape(grid)}")


def _matvec(fun: Function, params: Any) -> tuple[Callable[[jax.Array], jax.Array], jax.Array]:
    """The Hessian as a function of one vector, and the parameters as one, both in the dtype of the eigenvalues."""
    params = floating(params)
    slope = jax.grad(scalar_valued(fun))
    with jax.numpy_dtype_promotion("standard"):  # leaves of several dtypes become one vector of the widest
        flat, tree = ravel_pytree(params)
    wide = arithmetic_dtype(flat.dtype)  # an eigen-decomposition of bfloat16 there is not, nor would it be of use

    def product(v: jax.Array) -> jax.Array:
        with jax.numpy_dtype_promotion("standard"):
            return ravel_pytree(jax.jvp(slope, (params,), (tree(v.astype(flat.dtype)),))[1])[0].astype(wide)

    return product, flat.astype(wide)


def _eps(params: Any) -> float:
    """The rounding of the products, relative to the largest eigenvalue: that of the coarsest leaf."""
    return max(float(jnp.finfo(leaf.dtype).eps) for leaf in jax.tree.leaves(floating(params)))


def _lanczos(product: Callable[[jax.Array], jax.Array], start: jax.Array, steps: int) -> tuple[jax.Array, jax.Array]:
    """Ritz values in ascending order and their weights, the squared first components of the eigenvectors.

    Where the start meets few eigenvectors, the iteration ends early: what follows is a quotient of rounding errors, or
    of zeros, and no new direction. It is cut there; what is left over repeats the first Rayleigh quotient, which lies
    inside the spectrum, with weight 0.
    """
    from matfree import decomp

    whole("steps", steps, 1)
    count = min(steps, start.size)
    found = decomp.hessenberg(count, reortho="full", custom_vjp=False)(product, start)
    basis, matrix = found.Q_tall, found.J_small
    overlap = jnp.abs(jnp.triu(basis @ basis.T, 1)).max(axis=0)  # with the directions before it
    new = jnp.cumprod(overlap <= 1000 * jnp.finfo(start.dtype).eps).astype(bool)  # False for NaN, and ever after
    diagonal = jnp.where(new, jnp.diagonal(matrix), matrix[0, 0])
    below = jnp.where(new[1:], jnp.diagonal(matrix, -1), 0)
    nodes, vectors = jnp.linalg.eigh(jnp.diag(diagonal) + jnp.diag(below, 1) + jnp.diag(below, -1))
    return nodes, jnp.square(vectors[0])
