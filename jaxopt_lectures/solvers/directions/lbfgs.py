"""L-BFGS: BFGS that remembers the last few steps instead of a matrix.

    s_k = x_{k+1} - x_k,   y_k = g_{k+1} - g_k,   rho_k = 1 / y_k's_k
    two loops over the last m pairs give H_k g_k; they start from gamma I with gamma = s_k'y_k / y_k'y_k

Sources: J. Nocedal, "Updating quasi-Newton matrices with limited storage", Math. Comp. 35, 1980; D. C. Liu,
J. Nocedal, Math. Programming 45, 1989; J. Nocedal, S. J. Wright, Numerical Optimization, 2006, algorithm 7.4.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

import jaxopt_lectures.solvers.vectors as vectors
from jaxopt_lectures.core.numbers import quotient
from jaxopt_lectures.solvers.directions.direction import Place, Step, curved, downhill, unit_step


class Pairs(NamedTuple):
    """The steps `s` and gradient changes `y`, one a row, in a ring of one row more than are remembered."""

    s: Any
    y: Any


class Core(NamedTuple):
    """`count`: pairs kept so far; `rho`: 1 / y's of each row; `gamma`: the scale of the first matrix."""

    count: jax.Array
    rho: jax.Array
    gamma: jax.Array


@dataclass(frozen=True)
class LBFGS:
    """The direction `-H g`, of the last `memory` pairs; `scaled`: whether H starts from gamma I or from I."""

    memory: int
    scaled: bool = True
    flat = products = library = False

    def init(self, place: Place) -> tuple[Pairs, Core, Any]:
        """No pairs yet: H is the identity."""
        g, rows, dtype = place.g, self.memory + 1, jax.tree.leaves(place.g)[0].dtype
        pairs = Pairs(vectors.rows(g, rows), vectors.rows(g, rows))
        return pairs, Core(jnp.zeros((), jnp.int32), jnp.zeros(rows, dtype), jnp.ones((), dtype)), downhill(g)

    def record(self, pairs: Pairs, core: Core, s: Any, y: Any) -> Pairs:
        """Into the row that is not in use."""
        place = core.count % (self.memory + 1)
        return Pairs(vectors.set_row(pairs.s, place, s), vectors.set_row(pairs.y, place, y))

    def turn(self, pairs: Pairs, core: Core, step: Step, place: Place) -> tuple[Core, Any]:
        """Keeps the recorded pair if it has curvature."""
        core = self.keep(core, step)
        return core, vectors.negative(self.two_loops(pairs, core, place.g))

    def keep(self, core: Core, step: Step) -> Core:
        """Counts the recorded pair if it has curvature."""
        sy, yy = vectors.dot(step.s, step.y), vectors.dot(step.y, step.y)
        kept = curved(sy, yy, step.s)
        place = core.count % (self.memory + 1)
        here = (jnp.arange(self.memory + 1, dtype=place.dtype) == place) & kept
        rho = jnp.where(here, quotient(jnp.ones_like(sy), sy), core.rho)
        return Core(
            jnp.where(kept, core.count + 1, core.count),
            rho,
            jnp.where(kept & self.scaled, quotient(sy, yy), core.gamma),
        )

    def restart(self, pairs: Pairs, core: Core, place: Place) -> tuple[Core, Any]:
        """Down the gradient, without pairs."""
        del pairs
        return Core(jnp.zeros_like(core.count), core.rho, jnp.ones_like(core.gamma)), downhill(place.g)

    def two_loops(self, pairs: Pairs, core: Core, g: Any) -> Any:
        """H g, algorithm 7.4."""
        rows = self.memory + 1
        places = jnp.arange(rows, dtype=core.count.dtype)
        held = jnp.minimum(core.count, self.memory)

        def backwards(j: jax.Array, carry: tuple[Any, jax.Array]) -> tuple[Any, jax.Array]:
            q, alpha = carry
            i = (core.count - 1 - j) % rows
            a = core.rho[i] * vectors.dot(vectors.row(pairs.s, i), q)  # alpha_i = rho_i s_i'q
            q = vectors.plus(q, -a, vectors.row(pairs.y, i))  # q <- q - alpha_i y_i
            return q, jnp.where(places == i, a, alpha)

        def forwards(j: jax.Array, r: Any) -> Any:
            i = (core.count - held + j) % rows
            b = core.rho[i] * vectors.dot(vectors.row(pairs.y, i), r)  # beta = rho_i y_i'r
            return vectors.plus(r, alpha[i] - b, vectors.row(pairs.s, i))  # r <- r + (alpha_i - beta) s_i

        q, alpha = jax.lax.fori_loop(0, held, backwards, (g, jnp.zeros_like(core.rho)))
        return jax.lax.fori_loop(0, held, forwards, vectors.times(core.gamma, q))  # r = gamma q

    def first_step(self, core: Core, d: Any, slope: jax.Array, before: Any) -> jax.Array:
        """1, as soon as there are pairs."""
        del slope, before
        return unit_step(core.count == 0, d)
