"""Derivatives of a solution, without going through the steps that found it.

At a minimum g(x, theta) = 0, so

    H dx = -(dg / dtheta) dtheta,        H = dg / dx

and variables at a bound move with the bound. The value's derivative follows from the solution's.

Source: A. Griewank, A. Walther, Evaluating Derivatives, 2008, chapter 15 (implicit function theorem).
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxopt_lectures.solvers.vectors as vectors
from jaxopt_lectures.core.numbers import quotient

_DENSE = 256  # up to so many variables H is written out: conjugate gradients lose digits where it is ill-conditioned


def differentiable(
    solve: Callable[..., Any], evaluate: Callable[[Any, Any], tuple[jax.Array, Any, Any]]
) -> Callable[..., Any]:
    """`solve(x0, box, limits, operands)`, whose `.at` is a minimum of `evaluate(x, operands)`, with derivatives.

    Derivatives are those of the minimum: by `operands` and the bounds; those by the start and the limits are 0.
    """

    @jax.custom_jvp
    def solved(x0: Any, box: Any, limits: Any, operands: Any) -> Any:
        return solve(x0, box, limits, operands)

    @solved.defjvp
    def solved_jvp(primals: Any, tangents: Any) -> Any:
        out = solved(*primals)
        _, box, _, operands = primals
        _, dbox, _, doperands = tangents
        x, g = out.at.x, out.at.g

        def curvature(v: Any) -> Any:
            return jax.jvp(lambda x: evaluate(x, operands)[1], (x,), (v,))[1]

        dg = jax.jvp(lambda o: evaluate(x, o)[1], (operands,), (doperands,))[1]
        if box is None:
            dx = vectors.negative(_solved(curvature, dg))
        else:
            dx = _within(curvature, x, g, dg, box, dbox)
        _, dat = jax.jvp(lambda x, o: evaluate(x, o), (x, operands), (dx, doperands))
        return out, _tangent(out)._replace(at=type(out.at)(dx, *dat))

    return solved


def _within(curvature: Callable[[Any], Any], x: Any, g: Any, dg: Any, box: Any, dbox: Any) -> Any:
    """Variables at a bound move with it; the others answer to that and to `dg`."""
    lower, upper = box
    at_lower = jax.tree.map(lambda x, g, low: -g <= low - x, x, g, lower)
    at_upper = jax.tree.map(lambda x, g, high: -g >= high - x, x, g, upper)
    free = jax.tree.map(lambda a, b: ~(a | b), at_lower, at_upper)

    def kept(where: Any, a: Any) -> Any:
        return jax.tree.map(lambda w, v: jnp.where(w, v, 0), where, a)

    held = jax.tree.map(jnp.where, at_lower, dbox[0], kept(at_upper, dbox[1]))
    right = kept(free, vectors.plus(dg, 1, curvature(held)))

    def reduced(v: Any) -> Any:
        return kept(free, curvature(kept(free, v)))

    return vectors.minus(held, kept(free, _solved(reduced, right)))


def _solved(matrix: Callable[[Any], Any], right: Any) -> Any:
    """The solution of `matrix(v) = right`, symmetric; where the matrix is singular, the shortest."""
    return jax.lax.custom_linear_solve(matrix, right, _dense if _is_small(right) else _iterated, symmetric=True)


def _is_small(right: Any) -> bool:
    return isinstance(right, jax.Array) and right.size <= _DENSE


def _dense(matrix: Callable[[jax.Array], jax.Array], right: jax.Array) -> jax.Array:
    """By eigenvalues, those that are zero up to rounding left out."""
    columns = jax.vmap(matrix)(jnp.eye(right.size, dtype=right.dtype))
    values, basis = jnp.linalg.eigh((columns + columns.T) / 2)
    zero = jnp.abs(values) <= right.size * jnp.finfo(right.dtype).eps * jnp.max(jnp.abs(values))
    return basis @ quotient(basis.T @ right, jnp.where(zero, 0, values))


def _iterated(matrix: Callable[[Any], Any], right: Any) -> Any:
    """By conjugate gradients, to what the dtype can tell."""
    rr, count = vectors.dot(right, right), jnp.zeros((), jnp.int32)
    enough = float(jnp.finfo(rr.dtype).eps) ** 1.5 * rr

    def iterate(c: Any) -> Any:
        v, r, d, rr, count = c
        Ad = matrix(d)
        alpha = quotient(rr, vectors.dot(d, Ad))
        v, r = vectors.plus(v, alpha, d), vectors.plus(r, -alpha, Ad)
        new = vectors.dot(r, r)
        return v, r, vectors.plus(r, quotient(new, rr), d), new, count + 1

    def again(c: Any) -> jax.Array:
        return (c[3] > enough) & (c[4] < 10 * vectors.size(right))

    return jax.lax.while_loop(again, iterate, (vectors.times(0, right), right, right, rr, count))[0]


def _tangent(tree: Any) -> Any:
    """Zero tangents."""

    def zero(leaf: jax.Array) -> Any:
        if jnp.issubdtype(leaf.dtype, jnp.inexact):
            return jnp.zeros_like(leaf)
        return np.zeros(leaf.shape, jax.dtypes.float0)

    return jax.tree.map(zero, tree)
