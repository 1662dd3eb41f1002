"""What the descent asks of a direction: a memory of the steps so far, and where to go from here.

A memory has two parts, because a loop treats them differently. `pairs` is written at every trial, in place, and may be
large. `core` changes only where a step is taken.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp

import jaxopt_lectures.solvers.vectors as vectors
from jaxopt_lectures.core.numbers import quotient


class Place(NamedTuple):
    """A point `x`, the gradient `g` there, `product(v)`: the Hessian there times v; `box`: lower and upper, or None."""

    x: Any
    g: Any
    product: Callable[[Any], Any]
    box: Any


class Step(NamedTuple):
    """A step that was taken: `s` = the new point minus the old, `y` = likewise of the gradients, `length` of s in d."""

    s: Any
    y: Any
    d: Any
    length: jax.Array


class Direction(Protocol):
    """What the solvers ask of a direction; the instances hold its constants and are hashable."""

    flat: bool
    """Whether it needs the parameters as one flat array."""
    products: bool
    """Whether it asks for Hessian-vector products."""
    library: bool
    """Whether its linear algebra is a library's."""

    def init(self, place: Place) -> tuple[Any, Any, Any]:
        """The first `(pairs, core, direction)`."""

    def record(self, pairs: Any, core: Any, s: Any, y: Any) -> Any:
        """`pairs` with a trial step where the next one goes; the next trial overwrites it unless `turn` keeps it."""

    def turn(self, pairs: Any, core: Any, step: Step, place: Place) -> tuple[Any, Any]:
        """The new `core` and the direction at the new place."""

    def restart(self, pairs: Any, core: Any, place: Place) -> tuple[Any, Any]:
        """The same after a line search that failed: without memory."""

    def first_step(self, core: Any, d: Any, slope: jax.Array, before: tuple[jax.Array, jax.Array]) -> jax.Array:
        """The step along d to try first; `before`: length and slope of the last step, 0 if there is none."""


class Memoryless:
    """The parts of a direction that keeps nothing but the count of its steps; others replace what they do better."""

    flat, products, library = False, False, False

    def init(self, place: Place) -> tuple[Any, Any, Any]:
        """Nothing to remember, and down the gradient."""
        return (), Count(jnp.zeros((), jnp.int32)), downhill(place.g)

    def record(self, pairs: Any, core: Any, s: Any, y: Any) -> Any:
        """Nothing to remember."""
        del core, s, y
        return pairs

    def restart(self, pairs: Any, core: Any, place: Place) -> tuple[Any, Any]:
        """Down the gradient."""
        del pairs
        return core._replace(count=jnp.zeros_like(core.count)), downhill(place.g)


class Count(NamedTuple):
    """`count`: steps since the direction was last the gradient's."""

    count: jax.Array


def downhill(g: Any) -> Any:
    """`-g`; of a gradient so large that its square would overflow, `-g` divided by its largest element."""
    most = vectors.largest(g)
    limit = jnp.sqrt(jnp.finfo(most.dtype).max) / max(1, vectors.size(g))
    return vectors.times(jnp.where(most > limit, -quotient(jnp.ones_like(most), most), -1), g)


def unit_step(first: jax.Array, d: Any) -> jax.Array:
    """1, the step of Newton's method; the first one, along the gradient, goes a distance of at most 1."""
    return jnp.where(first, jnp.minimum(1, jax.lax.rsqrt(vectors.dot(d, d))), 1)


def curved(sy: jax.Array, yy: jax.Array, s: Any) -> jax.Array:
    """Whether the function curves upwards along the step: s'y > eps |s| |y|. Other pairs would turn H indefinite."""
    eps = jnp.finfo(sy.dtype).eps
    share = quotient(sy, jnp.sqrt(vectors.dot(s, s))) / jnp.sqrt(jnp.where(yy > 0, yy, 1))
    return (share > eps) & jnp.isfinite(quotient(jnp.ones_like(sy), sy)) & (quotient(sy, yy) > 0)
