"""A function of many parameters, seen along one direction, on a plane, or over its whole domain if that has two.

Sources: I. Goodfellow, O. Vinyals, A. Saxe, arXiv 1412.6544, 2015 (slices); H. Li, Z. Xu, G. Taylor, C. Studer,
T. Goldstein, "Visualizing the loss landscape of neural nets", arXiv 1712.09913, NeurIPS 2018 (scaled directions).
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxopt_lectures.core.checks import whole
from jaxopt_lectures.core.numbers import arithmetic_dtype, norm, quotient
from jaxopt_lectures.diagnostics.checks import floating, like, scalar_valued

Function = Callable[[Any], Any]


def random_direction(key: jax.Array, params: Any, *, filters: bool = False) -> Any:
    """A random direction in which every layer is as long as the weights: `d_l <- norm(w_l) d_l / norm(d_l)`.

    Networks with rectifiers compute the same when one layer grows and the next shrinks. Without the scaling such a
    pair of equal networks would show one sharp and one flat slice.

    Args:
      key: where the Gaussian numbers are drawn from.
      params: any tree of floating-point arrays, `nnx.State` too.
      filters: False: one norm per array of the tree, a layer's kernel or its bias. True: one norm per filter, as Li
        et al. have it for convolutions: all weights that lead to one output, the last axis of a kernel. Arrays of one
        axis count as one filter.

    Returns:
      A tree like the parameters; zero where they are zero.

    Raises:
      TypeError: a leaf that is not floating-point.
    """
    params = floating(params)
    leaves, treedef = jax.tree.flatten(params)
    keys = jax.random.split(key, len(leaves))
    return treedef.unflatten([_scaled(k, leaf, filters) for k, leaf in zip(keys, leaves, strict=True)])


def slice_1d(fun: Function, params: Any, direction: Any, distances: jax.Array) -> jax.Array:
    """The function along a line: `fun(params + t direction)` for each t in `distances`.

    Args:
      fun: from parameters to one floating-point number.
      params: the point at distance 0.
      direction: a tree like the parameters; `w_2 - w_1` shows the way from one solution to another.
      distances: (points,), in lengths of the direction.

    Returns:
      (points,).

    Raises:
      TypeError: leaves that are not floating-point; a function whose value is not one number.
      ValueError: the direction is no tree like the parameters; distances are not of one axis.
    """
    params = floating(params)
    direction = like(params, direction, "direction")
    checked = scalar_valued(fun)
    return jax.lax.map(lambda t: checked(_moved(params, t, direction)), _line("distances", distances))


def slice_2d(
    fun: Function, params: Any, one: Any, two: Any, distances_one: jax.Array, distances_two: jax.Array
) -> jax.Array:
    """The function on a plane: `fun(params + s one + t two)`, one row for each t, as contour plots want it.

    Args:
      fun: from parameters to one floating-point number.
      params: the point at distance 0 of both.
      one: a tree like the parameters: the horizontal axis.
      two: a tree like the parameters: the vertical axis.
      distances_one: s, (columns,), in lengths of `one`.
      distances_two: t, (rows,), in lengths of `two`.

    Returns:
      (rows, columns); `plt.contour(distances_one, distances_two, values)` draws it.

    Raises:
      TypeError: leaves that are not floating-point; a function whose value is not one number.
      ValueError: a direction is no tree like the parameters; distances are not of one axis.
    """
    params = floating(params)
    one, two = like(params, one, "direction one"), like(params, two, "direction two")
    checked = scalar_valued(fun)
    columns, rows = _line("distances_one", distances_one), _line("distances_two", distances_two)
    pairs = (jnp.tile(columns, rows.size), jnp.repeat(rows, columns.size))
    values = jax.lax.map(lambda pair: checked(_moved(_moved(params, pair[0], one), pair[1], two)), pairs)
    return values.reshape(rows.size, columns.size)


def grid(
    fun: Callable[[jax.Array], Any],
    x_range: tuple[float, float],
    y_range: tuple[float, float],
    points: int | tuple[int, int] = 101,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """A surface of two variables as a picture: `fun([x, y])` on a rectangle.

    Args:
      fun: from an array of shape (2,) to one floating-point number; it is mapped (`jax.vmap`).
      x_range: first and last x.
      y_range: first and last y.
      points: how many along each axis, >= 2; a pair for (x, y).

    Returns:
      `(x, y, values)` of shapes (points,), (points,) and (points of y, points of x): `plt.contour(x, y, values)`.

    Raises:
      TypeError: a function whose value is not one number; points that are no integers.
      ValueError: fewer than two points; a range that is not (first, last) with first < last.
    """
    across, up = points if isinstance(points, tuple) else (points, points)
    for name, count in (("points of x", across), ("points of y", up)):
        whole(name, count, 2)
    for name, ends in (("x_range", x_range), ("y_range", y_range)):
        if len(ends) != 2 or not ends[0] < ends[1]:
            raise ValueError(f"{name} must be (first, last) with first < last, got {ends!r}")
    x, y = jnp.linspace(*x_range, across), jnp.linspace(*y_range, up)
    checked = scalar_valued(fun)
    values = jax.vmap(lambda b: jax.vmap(lambda a: checked(jnp.stack([a, b])))(x))(y)
    return x, y, values


@functools.partial(jax.jit, static_argnums=2)
def _scaled(key: jax.Array, leaf: jax.Array, filters: bool) -> jax.Array:
    dtype = arithmetic_dtype(leaf.dtype)
    drawn, weights = jax.random.normal(key, leaf.shape, dtype), leaf.astype(dtype)
    if filters and leaf.ndim > 1:
        last = leaf.ndim - 1
        size = jax.vmap(lambda part: norm([part]), in_axes=last)
        factor = quotient(size(weights), size(drawn))
    else:
        factor = quotient(norm([weights]), norm([drawn]))
    return (factor * drawn).astype(leaf.dtype)


def _moved(params: Any, distance: jax.Array, direction: Any) -> Any:
    return jax.tree.map(lambda w, d: w + distance.astype(w.dtype) * d, params, direction)


def _line(name: str, distances: Any) -> jax.Array:
    line = jnp.asarray(distances)
    if line.ndim != 1 or not jnp.issubdtype(line.dtype, jnp.floating):
        raise ValueError(f"{name} must be floating-point numbers (points,), got {line.dtype} of shape {line.shape}")
    return line
