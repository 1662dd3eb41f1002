"""The line search of Hager and Zhang: a bracket shrunk by two secant steps at a time.

    Wolfe:        phi(t) <= phi(0) + delta t phi'(0)   and  phi'(t) >= sigma phi'(0)
    approximate:  phi(t) <= phi(0) + eps |phi(0)|      and  (2 delta - 1) phi'(0) >= phi'(t) >= sigma phi'(0)

The second holds where rounding hides the decrease of the first; it needs slopes only, so a search in float32 reaches
the accuracy of the gradient and not that of the value.

Source: W. W. Hager, H. Zhang, "A new conjugate gradient method with guaranteed descent and an efficient line search",
SIAM J. Optim. 16, 2005, section 4; "Algorithm 851: CG_DESCENT", ACM TOMS 32, 2006.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxopt_lectures.core.numbers import quotient
from jaxopt_lectures.solvers.searches.search import Point, close_enough, ended
from jaxopt_lectures.solvers.vectors import choose

# What the step that is being evaluated was chosen for.
_BRACKET, _FIRST_SECANT, _SECOND_SECANT, _MIDDLE, _BISECT = range(5)


class HagerZhangState(NamedTuple):
    """Where the search is.

    Attributes:
      step: what to evaluate next.
      done: the point told last satisfies the conditions.
      failed: no such point was found.
      start: the point at step 0.
      a: left end of the bracket: falling, and no higher than the start.
      b: right end: rising; or, while bisecting, falling but higher than the start.
      old: the two ends before the first of the two secants.
      width: length of the bracket before them.
      longest: no step is longer.
      purpose: why `step` is asked for.
      best: the lowest point seen.
      last: the best point is being told again, to be taken.
      evaluations: points told.
    """

    step: jax.Array
    done: jax.Array
    failed: jax.Array
    start: Point
    a: Point
    b: Point
    old: tuple[Point, Point]
    width: jax.Array
    longest: jax.Array
    purpose: jax.Array
    best: Point
    last: jax.Array
    evaluations: jax.Array


@dataclass(frozen=True)
class HagerZhang:
    """The search with its constants; see `hager_zhang`."""

    delta: float
    sigma: float
    eps: float
    theta: float
    gamma: float
    rho: float
    max_evaluations: int

    def start(self, value: jax.Array, slope: jax.Array, step: jax.Array, longest: Any) -> HagerZhangState:
        """Before the first evaluation."""
        no, origin = jnp.zeros((), bool), Point(jnp.zeros_like(value), value, slope)
        count, zero = jnp.zeros((), jnp.int32), jnp.zeros_like(value)
        longest = jnp.minimum(jnp.full_like(value, jnp.inf), longest)
        return HagerZhangState(
            step=jnp.minimum(step, longest),
            done=no,
            failed=no,
            start=origin,
            a=origin,
            b=origin,
            old=(origin, origin),
            width=zero,
            longest=longest,
            purpose=count,
            best=origin,
            last=no,
            evaluations=count,
        )

    def next(self, state: HagerZhangState, value: jax.Array, slope: jax.Array) -> HagerZhangState:
        """After the evaluation at `state.step`."""
        start, c = state.start, Point(state.step, value, slope)
        tolerated = self.eps * jnp.abs(start.value)
        finite = jnp.isfinite(value) & jnp.isfinite(slope)
        decrease = value <= start.value + self.delta * c.step * start.slope
        done = finite & decrease & (slope >= self.sigma * start.slope)
        done |= finite & close_enough(start, c, self.delta, self.sigma, tolerated)

        done |= finite & decrease & (c.step >= state.longest) & (slope < 0)  # as far as one may go, and still falling

        rising = finite & (slope >= 0)
        low = finite & ~rising & (value <= start.value + tolerated)
        a, b = choose(low, c, state.a), choose(low, state.b, c)  # U1 to U3: the bracket with c as one of its ends
        bisecting = ~rising & ~low  # U3: c falls but lies too high; a minimum is between a and it
        bracketing = (state.purpose == _BRACKET) & low  # B3: still falling, go on
        bisecting |= (state.purpose == _BISECT) & low  # b is not yet rising
        bisecting &= ~bracketing
        step, purpose, old, width = jax.lax.cond(
            done, lambda: (c.step, state.purpose, state.old, state.width), lambda: self._chosen(state, a, b, c)
        )
        step = jnp.where(bisecting, _between(a, b, self.theta), step)
        step = jnp.where(bracketing, jnp.minimum(self.rho * c.step, state.longest), step)
        purpose = jnp.where(bracketing, _BRACKET, jnp.where(bisecting, _BISECT, purpose)).astype(jnp.int32)
        best = choose(finite & (value < state.best.value), c, state.best)
        new = state._replace(a=a, b=b, best=best)
        new = new._replace(step=step, purpose=purpose, old=old, width=width)
        empty = (purpose != _BRACKET) & ((step <= a.step) | (step >= b.step))
        new = new._replace(step=jnp.where(empty, c.step, step))  # a step that was told already ends the search
        return ended(new, c, best, done, self.max_evaluations)

    def _chosen(self, state: HagerZhangState, a: Point, b: Point, c: Point) -> tuple[Any, ...]:
        """The next step inside a true bracket, why, and what the second secant needs: secant^2, L1 and L2."""
        first = state.purpose == _FIRST_SECANT
        # S2, S3: the second secant goes through the end that moved and the one it replaced
        right = c.step == b.step
        second = jnp.where(right, _secant(state.old[1], b), _secant(state.old[0], a))
        useful = first & (second > a.step) & (second < b.step)
        # L2: two secants that did not shrink the bracket enough are followed by its middle
        paired = first | (state.purpose == _SECOND_SECANT)
        slow = paired & ~useful & (b.step - a.step > self.gamma * state.width)
        fresh = _secant(a, b)
        fresh = jnp.where((fresh > a.step) & (fresh < b.step), fresh, _between(a, b, 0.5))
        step = jnp.where(useful, second, jnp.where(slow, _between(a, b, 0.5), fresh))
        purpose = jnp.where(useful, _SECOND_SECANT, jnp.where(slow, _MIDDLE, _FIRST_SECANT)).astype(jnp.int32)
        again = ~useful & ~slow
        return step, purpose, choose(again, (a, b), state.old), jnp.where(again, b.step - a.step, state.width)


def hager_zhang(
    delta: float = 0.1,
    sigma: float = 0.9,
    eps: float = 1e-6,
    theta: float = 0.5,
    gamma: float = 0.66,
    rho: float = 5.0,
    max_evaluations: int = 30,
) -> HagerZhang:
    """A step that satisfies the Wolfe conditions, or, where rounding hides them, the approximate ones.

    Args:
      delta: the share of the predicted decrease that is asked for, in (0, 0.5).
      sigma: by how much the slope must have flattened, in [delta, 1).
      eps: a value may lie so much, relatively, above the start's and still count as no higher, >= 0.
      theta: where an interval is cut that lies too high, in (0, 1).
      gamma: the factor by which two secants must shrink the bracket, in (0, 1).
      rho: the growth of the step until there is a bracket, > 1.
      max_evaluations: after so many, the best point so far is taken, if it is any better.

    Raises:
      ValueError: a number out of its range.

    Source: W. W. Hager, H. Zhang, SIAM J. Optim. 16, 2005, section 4; the defaults are theirs.
    """
    if not (0 < delta < 0.5 and delta <= sigma < 1 and eps >= 0):
        raise ValueError(
            f"hager_zhang needs 0 < delta < 0.5, delta <= sigma < 1, eps >= 0, got {delta!r}, {sigma!r}, {eps!r}"
        )
    if not (0 < theta < 1 and 0 < gamma < 1 and rho > 1 and max_evaluations >= 1):
        raise ValueError(
            "hager_zhang needs theta and gamma in (0, 1), rho > 1, max_evaluations >= 1, "
            f"got {theta!r}, {gamma!r}, {rho!r}, {max_evaluations!r}"
        )
    delta, sigma, eps, theta, gamma, rho = (float(number) for number in (delta, sigma, eps, theta, gamma, rho))
    return HagerZhang(delta, sigma, eps, theta, gamma, rho, int(max_evaluations))


def _secant(a: Point, b: Point) -> jax.Array:
    """Where the line through two slopes is zero."""
    return quotient(a.step * b.slope - b.step * a.slope, b.slope - a.slope)


def _between(a: Point, b: Point, theta: float) -> jax.Array:
    return (1 - theta) * a.step + theta * b.step
