"""When a solve ends: small gradients, small changes, limits, and nothing left that the precision can see."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

import jaxopt_lectures.solvers.vectors as vectors
from jaxopt_lectures.solvers.result import Status
from jaxopt_lectures.solvers.searches.search import noise

PATIENCE = 20
"""Steps that lower nothing by more than a rounding before it is given up; a restart counts as half of them."""


class Limits(NamedTuple):
    """When to stop; scalars, so that other numbers need no other program."""

    gtol: jax.Array
    ftol: jax.Array
    xtol: jax.Array
    maxiter: jax.Array
    maxfun: jax.Array


class Stall(NamedTuple):
    """Whether it still goes down.

    Attributes:
      lowest: the lowest value.
      flattest: the smallest size of a gradient.
      count: steps since one was lowered by more than a rounding, or the other by a tenth.
      hopeless: whether the last line search failed where it could not have succeeded.
    """

    lowest: jax.Array
    flattest: jax.Array
    count: jax.Array
    hopeless: jax.Array


def small(old: jax.Array, new: jax.Array, x: Any, s: Any, limits: Limits) -> jax.Array:
    """Whether value or point moved so little that it ends."""
    scale = jnp.maximum(jnp.maximum(jnp.abs(old), jnp.abs(new)), 1)
    small_change = (limits.ftol > 0) & (old - new <= limits.ftol * scale)
    length, here = jnp.sqrt(vectors.dot(s, s)), jnp.sqrt(vectors.dot(x, x))
    small_step = (limits.xtol > 0) & (length <= limits.xtol * (limits.xtol + here))
    return jnp.where(small_change, Status.SMALL_CHANGE, jnp.where(small_step, Status.SMALL_STEP, Status.RUNNING))


def stalled(stall: Stall, value: jax.Array, size: jax.Array, steps: int) -> Stall:
    """The same, so many steps later."""
    lower = value < stall.lowest - noise(stall.lowest)
    flatter = size < 0.9 * stall.flattest
    lowest, flattest = jnp.where(lower, value, stall.lowest), jnp.where(flatter, size, stall.flattest)
    count = jnp.where(lower | flatter, 0, stall.count + steps)
    return Stall(lowest, flattest, count, stall.hopeless & ~lower)


def hopeless(x: Any, value: jax.Array, g: Any, slope: jax.Array) -> jax.Array:
    """Whether a whole step promises less than what rounding x and the value does to the value."""
    rounding = noise(vectors.dot(jax.tree.map(jnp.abs, x), jax.tree.map(jnp.abs, g)))
    return -slope <= noise(value) + rounding


def limited(status: jax.Array, nit: jax.Array, nfev: jax.Array, limits: Limits) -> jax.Array:
    """The status, unless it runs and may not."""
    limit = jnp.where(nfev >= limits.maxfun, Status.EVALUATIONS, status)
    limit = jnp.where(nit >= limits.maxiter, Status.ITERATIONS, limit)
    return jnp.where(status == Status.RUNNING, limit, status).astype(jnp.int32)
