"""L-BFGS-B: L-BFGS between bounds.

    B = theta I - W M W',   W = [Y, theta S],   M = [[-D, L'], [L, theta S'S]]^-1,   theta = y'y / s'y
    1. the generalised Cauchy point: the first minimum of g'z + z'Bz/2 along the gradient bent at the bounds
    2. the minimum over the variables that are not at a bound there, cut back into the box
    3. a line search towards it

S and Y hold the steps and gradient changes as columns, D is the diagonal and L the strict lower triangle of S'Y.

Sources: R. H. Byrd, P. Lu, J. Nocedal, C. Zhu, "A limited memory algorithm for bound constrained optimization", SIAM J.
Sci. Comput. 16, 1995; J. L. Morales, J. Nocedal, "Remark on algorithm 778", ACM TOMS 38, 2011 (step 2's projection).
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxopt_lectures.core.numbers import quotient
from jaxopt_lectures.solvers.directions.direction import Place, Step
from jaxopt_lectures.solvers.directions.lbfgs import LBFGS, Core, Pairs


class Model(NamedTuple):
    """B as above: `theta` (), `W` (n, 2m), `M` (2m, 2m)."""

    theta: jax.Array
    W: jax.Array
    M: jax.Array


@dataclass(frozen=True)
class LBFGSB(LBFGS):
    """The direction from x to the minimum of the model in the box."""

    flat = library = True

    def init(self, place: Place) -> tuple[Pairs, Core, Any]:
        """No pairs yet: B is the identity."""
        pairs, core, _ = super().init(place)
        return pairs, core, self._towards(pairs, core, place)

    def turn(self, pairs: Pairs, core: Core, step: Step, place: Place) -> tuple[Core, Any]:
        """Keeps the recorded pair if it has curvature."""
        core = self.keep(core, step)
        return core, self._towards(pairs, core, place)

    def restart(self, pairs: Pairs, core: Core, place: Place) -> tuple[Core, Any]:
        """Along the bent gradient."""
        core, _ = super().restart(pairs, core, place)
        return core, self._towards(pairs, core, place)

    def _towards(self, pairs: Pairs, core: Core, place: Place) -> jax.Array:
        x, g, box = place.x, place.g, place.box
        model = compact(pairs, core, self.memory)
        cauchy, c = cauchy_point(x, g, box, model)
        free = (cauchy > box[0]) & (cauchy < box[1])
        # With all variables free the minimum is x - H g. The two loops lose no digits where S'Y is badly scaled.
        minimum = jax.lax.cond(
            jnp.all(free),
            lambda: x - self.two_loops(pairs, core, g),
            lambda: cauchy + subspace_step(x, g, model, cauchy, c, free),
        )
        return within(x, g, box, cauchy, minimum) - x


def compact(pairs: Pairs, core: Core, memory: int) -> Model:
    """The matrices of the pairs, oldest first; where there is no pair yet, W is 0 and M has a 1 or -1 to invert."""
    held = jnp.minimum(core.count, memory)
    ages = jnp.arange(memory, dtype=held.dtype)
    index = (core.count - held + ages) % (memory + 1)
    valid = (ages < held)[:, None]
    S, Y = (jnp.where(valid, rows[index], 0) for rows in pairs)
    theta = quotient(jnp.ones_like(core.gamma), core.gamma)
    SY = S @ Y.T
    empty = jnp.where(valid[:, 0], 0, 1).astype(S.dtype)
    D, L = jnp.diag(SY) + empty, jnp.tril(SY, -1)
    SS = theta * (S @ S.T) + jnp.diag(empty)
    # Columns of W are of any length; divided by these roots, which leaves W M W' as it is, M's inverse has ones and
    # minus ones on its diagonal.
    scale = jax.lax.rsqrt(jnp.concatenate([D, jnp.diag(SS)]))
    inverse = scale[:, None] * jnp.block([[jnp.diag(-D), L.T], [L, SS]]) * scale
    return Model(theta, (scale[:, None] * jnp.concatenate([Y, theta * S])).T, jnp.linalg.inv(inverse))


def cauchy_point(x: jax.Array, g: jax.Array, box: Any, model: Model) -> tuple[jax.Array, jax.Array]:
    """The generalised Cauchy point z and c = W'(z - x); algorithm CP, all pieces of the bent path at once.

    Variable i moves with d = -g until it meets its bound at t_i. On the piece that begins at t, with those still moving
    summed in Q = sum d^2, p = W'd and c = W'(z - x), the model has the derivatives

        f' = -(1 - theta t) Q - p'M c,    f'' = theta Q - p'M p
    """
    lower, upper = box
    theta, W, M = model
    bound = jnp.where(g < 0, upper, lower)
    t = jnp.where(g == 0, jnp.inf, quotient(x - bound, g))
    d = jnp.where(t > 0, -g, 0)
    order = jnp.argsort(t)
    ends, moving = t[order], d[order]
    begins = jnp.concatenate([jnp.zeros(1, t.dtype), ends[:-1]])
    begins = jnp.where(jnp.isfinite(begins), begins, 0)  # behind an infinite piece, never reached
    lengths = ends - begins

    gone = jnp.cumsum(moving[:, None] * W[order], axis=0)
    p = gone[-1] - jnp.concatenate([jnp.zeros_like(gone[:1]), gone[:-1]])
    Q = jnp.cumsum((moving * moving)[::-1])[::-1]
    travelled = jnp.cumsum(jnp.where(jnp.isfinite(lengths), lengths, 0)[:, None] * p, axis=0)
    c = jnp.concatenate([jnp.zeros_like(travelled[:1]), travelled[:-1]])
    Mp = p @ M
    slope = -(1 - theta * begins) * Q - jnp.sum(Mp * c, axis=1)
    curvature = theta * Q - jnp.sum(Mp * p, axis=1)
    # f'' > 0 in exact arithmetic; the floor keeps a rounding from turning it
    curvature = jnp.maximum(curvature, jnp.finfo(x.dtype).eps * theta * Q)
    within = jnp.maximum(quotient(-slope, curvature), 0)
    found = (within < lengths) | (Q == 0)
    k = jnp.where(jnp.any(found), jnp.argmax(found), len(t) - 1)
    within = jnp.where(Q[k] == 0, 0, jnp.minimum(within[k], lengths[k]))
    z = jnp.where(t <= begins[k] + within, jnp.where(d == 0, x, bound), x + (begins[k] + within) * d)
    return jnp.clip(z, lower, upper), c[k] + within * p[k]


def subspace_step(x: jax.Array, g: jax.Array, model: Model, z: jax.Array, c: jax.Array, free: jax.Array) -> jax.Array:
    """From z to the minimum of the model over the free variables; the direct primal method, section 5.1."""
    theta, W, M = model
    r = jnp.where(free, g + theta * (z - x) - W @ (M @ c), 0)
    free_W = jnp.where(free[:, None], W, 0)
    N = jnp.eye(len(M), dtype=x.dtype) - M @ (free_W.T @ free_W) / theta
    v = jnp.linalg.solve(N, M @ (free_W.T @ r))
    d = -r / theta - free_W @ v / theta**2
    return jnp.where(jnp.all(jnp.isfinite(d)), d, 0)


def within(x: jax.Array, g: jax.Array, box: Any, z: jax.Array, minimum: jax.Array) -> jax.Array:
    """The minimum cut back into the box element by element; where that is no descent, the way from z is shortened."""
    lower, upper = box
    d = minimum - z
    projected = jnp.clip(minimum, lower, upper)
    wall = jnp.where(d > 0, upper, lower)
    room = jnp.where(d == 0, jnp.inf, quotient(wall - z, d))
    shortened = jnp.clip(z + jnp.minimum(1, jnp.min(room)) * d, lower, upper)
    return jnp.where(jnp.vdot(projected - x, g) < 0, projected, shortened)
