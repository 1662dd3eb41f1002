"""Along the gradient: steepest descent, and conjugate gradients.

    gd             d = -g
    nonlinear_cg   d <- -g + beta d,   beta = (y - 2 d |y|^2 / d'y)'g / d'y

Sources: A. Cauchy, 1847; W. W. Hager, H. Zhang, "A new conjugate gradient method with guaranteed descent and an
efficient line search", SIAM J. Optim. 16, 2005, (1.3) to (1.6).
"""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

import jaxopt_lectures.solvers.vectors as vectors
from jaxopt_lectures.core.numbers import quotient
from jaxopt_lectures.solvers.directions.direction import Count, Memoryless, Place, Step, downhill


@dataclass(frozen=True)
class SteepestDescent(Memoryless):
    """The direction `-g`."""

    def turn(self, pairs: tuple[()], core: Count, step: Step, place: Place) -> tuple[Count, Any]:
        """Down the gradient."""
        del pairs, step
        return core, downhill(place.g)

    def first_step(self, core: Count, d: Any, slope: jax.Array, before: tuple[jax.Array, jax.Array]) -> jax.Array:
        """The step that would change the value, to first order, as the last one did; N&W, page 59."""
        del core
        length, last = before
        first = jnp.minimum(1, quotient(jnp.ones_like(slope), vectors.largest(d)))
        return jnp.where(length > 0, length * quotient(last, slope), first)


@dataclass(frozen=True)
class NonlinearCG(SteepestDescent):
    """The direction `-g + beta d` of Hager and Zhang, which descends whatever the line search."""

    eta: float = 0.01

    def turn(self, pairs: tuple[()], core: Count, step: Step, place: Place) -> tuple[Count, Any]:
        """A mixture of the gradient and the last direction."""
        del pairs
        g, d, y = place.g, step.d, step.y
        dy, yy = vectors.dot(d, y), vectors.dot(y, y)
        dd, old = vectors.dot(d, d), vectors.minus(g, y)
        beta = quotient(vectors.dot(y, g) - 2 * quotient(yy, dy) * vectors.dot(d, g), dy)
        floor = jnp.sqrt(dd) * jnp.minimum(self.eta, jnp.sqrt(vectors.dot(old, old)))
        beta = jnp.maximum(beta, -quotient(jnp.ones_like(dy), floor))  # (1.5): never far against the last direction
        return Count(core.count + 1), vectors.plus(vectors.negative(g), jnp.where(dy > 0, beta, 0), d)
