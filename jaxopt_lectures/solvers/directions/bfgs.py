"""BFGS: a matrix H that becomes the inverse of the Hessian.

    H <- (I - rho s y') H (I - rho y s') + rho s s',   rho = 1 / y's
    before the first update H = (s'y / y'y) I

Sources: C. G. Broyden, R. Fletcher, D. Goldfarb, D. F. Shanno, 1970; J. Nocedal, S. J. Wright, Numerical Optimization,
2006, (6.17) and (6.20).
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxopt_lectures.core.numbers import quotient
from jaxopt_lectures.solvers.directions.direction import Memoryless, Place, Step, curved, downhill, unit_step


class Core(NamedTuple):
    """`count`: updates so far; `H`: the inverse Hessian, (n, n)."""

    count: jax.Array
    H: jax.Array


@dataclass(frozen=True)
class BFGS(Memoryless):
    """The direction `-H g`."""

    flat = True

    def init(self, place: Place) -> tuple[tuple[()], Core, Any]:
        """H is the identity."""
        return (), Core(jnp.zeros((), jnp.int32), jnp.eye(place.g.size, dtype=place.g.dtype)), downhill(place.g)

    def turn(self, pairs: tuple[()], core: Core, step: Step, place: Place) -> tuple[Core, Any]:
        """Updates H if the step has curvature."""
        del pairs
        s, y = step.s, step.y
        sy, yy = s @ y, y @ y
        kept = curved(sy, yy, s)
        H = jnp.where(core.count == 0, quotient(sy, yy), 1) * core.H
        H = jnp.where(kept, updated(H, s, y, sy), core.H)
        return Core(jnp.where(kept, core.count + 1, core.count), H), -(H @ place.g)

    def restart(self, pairs: tuple[()], core: Core, place: Place) -> tuple[Core, Any]:
        """Down the gradient, H the identity."""
        del pairs
        return Core(jnp.zeros_like(core.count), jnp.eye(place.g.size, dtype=place.g.dtype)), downhill(place.g)

    def first_step(self, core: Core, d: Any, slope: jax.Array, before: Any) -> jax.Array:
        """1, as soon as there was an update."""
        del slope, before
        return unit_step(core.count == 0, d)


def updated(H: jax.Array, s: jax.Array, y: jax.Array, sy: jax.Array) -> jax.Array:
    """The product above, multiplied out: two matrices of rank one."""
    Hy = H @ y
    rho = quotient(jnp.ones_like(sy), sy)
    ss = rho * (1 + rho * (y @ Hy)) * s
    return H + ss[:, None] * s[None, :] - rho * (Hy[:, None] * s[None, :] + s[:, None] * Hy[None, :])
