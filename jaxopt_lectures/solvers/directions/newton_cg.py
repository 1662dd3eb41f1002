"""Newton-CG: Newton's equation solved by conjugate gradients, as well as the distance to the minimum deserves.

    H d = -g   until  |H d + g| <= min(1/100, sqrt|g|) |g|,  or until H curves downwards along the next direction

Source: J. Nocedal, S. J. Wright, Numerical Optimization, 2006, algorithm 7.1; R. S. Dembo, T. Steihaug, Math.
Programming 26, 1983. Hessian-vector products are forward over reverse: B. A. Pearlmutter, Neural Computation 6, 1994.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

import jaxopt_lectures.solvers.vectors as vectors
from jaxopt_lectures.core.numbers import quotient
from jaxopt_lectures.solvers.directions.direction import Memoryless, Place, Step, unit_step

# The book has 1/2; on the problems of tests/problems a hundredth takes less than half of the evaluations and products.
_RESIDUAL = 0.01


class Core(NamedTuple):
    """`count`: directions so far; `products`: Hessian-vector products so far."""

    count: jax.Array
    products: jax.Array


class _Inner(NamedTuple):
    z: Any  # the solution so far
    r: Any  # the residual H z + g
    d: Any  # the direction to go next
    rr: jax.Array  # r'r
    count: jax.Array
    ended: jax.Array


@dataclass(frozen=True)
class NewtonCG(Memoryless):
    """The direction that conjugate gradients find for Newton's equation, in at most `max_products` products."""

    max_products: int
    products = True

    def init(self, place: Place) -> tuple[tuple[()], Core, Any]:
        """Newton's direction from the start."""
        d, products = newton_direction(place.g, place.product, self.max_products)
        return (), Core(jnp.ones((), jnp.int32), products), d

    def turn(self, pairs: tuple[()], core: Core, step: Step, place: Place) -> tuple[Core, Any]:
        """Solves for the direction at the new point."""
        del pairs, step
        d, products = newton_direction(place.g, place.product, self.max_products)
        return Core(core.count + 1, core.products + products), d

    def first_step(self, core: Core, d: Any, slope: jax.Array, before: Any) -> jax.Array:
        """1; along the gradient, after a restart, at most a distance of 1."""
        del slope, before
        return unit_step(core.count == 0, d)


def newton_direction(g: Any, product: Any, max_products: int) -> tuple[Any, jax.Array]:
    """The direction, and how many products it took; algorithm 7.1."""
    gg = vectors.dot(g, g)
    size = jnp.sqrt(gg)
    enough = (jnp.minimum(_RESIDUAL, jnp.sqrt(size)) * size) ** 2
    zero, count = vectors.times(0, g), jnp.zeros((), jnp.int32)
    eps = jnp.finfo(gg.dtype).eps

    def again(c: _Inner) -> jax.Array:
        return ~c.ended & (c.count < max_products)

    def iterate(c: _Inner) -> _Inner:
        Hd = product(c.d)
        curvature = vectors.dot(c.d, Hd)
        rounding = eps * jnp.sqrt(vectors.dot(c.d, c.d)) * jnp.sqrt(vectors.dot(Hd, Hd))
        downwards = ~(curvature > rounding)  # a NaN counts as downwards
        first = jnp.where(downwards, quotient(gg, jnp.abs(curvature)), 0)
        # Downwards at once: along -g, as far as that curvature, turned upwards, would go.
        first = jnp.where(jnp.isfinite(first) & (first > 0), jnp.minimum(first, 1), 1)
        alpha = quotient(c.rr, curvature)
        z = vectors.choose(
            downwards,
            vectors.choose(c.count == 0, vectors.times(-first, g), c.z),
            vectors.plus(c.z, alpha, c.d),
        )
        r = vectors.plus(c.r, alpha, Hd)
        rr = vectors.dot(r, r)
        d = vectors.plus(vectors.negative(r), quotient(rr, c.rr), c.d)
        return _Inner(z, r, d, rr, c.count + 1, downwards | (rr <= enough))

    start = _Inner(zero, g, vectors.negative(g), gg, count, jnp.zeros((), bool))
    end = jax.lax.while_loop(again, iterate, start)
    return end.z, end.count
