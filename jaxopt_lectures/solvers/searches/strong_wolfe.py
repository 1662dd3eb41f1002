"""Strong Wolfe conditions, by the search of More and Thuente.

    phi(t) <= phi(0) + c1 t phi'(0)        enough decrease
    |phi'(t)| <= c2 |phi'(0)|              flat enough

Source: J. J. More, D. J. Thuente, "Line search algorithms with guaranteed sufficient decrease", ACM TOMS 20, 1994,
sections 2 to 4. Conditions: J. Nocedal, S. J. Wright, Numerical Optimization, 2006, (3.7).
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxopt_lectures.core.numbers import quotient, root
from jaxopt_lectures.solvers.searches.search import Point, close_enough, noise
from jaxopt_lectures.solvers.vectors import choose

_FIRST_GROWTH, _GROWTH, _MIN_GROWTH = 4.0, 4.0, 1.1  # how far beyond the last step an extrapolation may go
_SHRINK = 0.66  # the interval must shrink by this in two trials, else it is halved


class StrongWolfeState(NamedTuple):
    """Where the search is.

    Attributes:
      step: what to evaluate next.
      done: the point told last satisfies the conditions.
      failed: there is no such point within rounding, or within `max_evaluations`.
      start: the point at step 0.
      best: the end of the interval with the smallest value.
      other: its other end; meaningless until `bracketed`.
      bracketed: the interval holds a minimiser.
      decreased: a point with enough decrease and a rising slope was seen: the auxiliary function has done its work.
      width: length of the interval, and of the one before.
      limit: steps from here on gave values that are not finite.
      last: the best point is being told again, to be taken.
      evaluations: points told.
    """

    step: jax.Array
    done: jax.Array
    failed: jax.Array
    start: Point
    best: Point
    other: Point
    bracketed: jax.Array
    decreased: jax.Array
    width: tuple[jax.Array, jax.Array]
    limit: jax.Array
    last: jax.Array
    evaluations: jax.Array


@dataclass(frozen=True)
class StrongWolfe:
    """The search with its constants; see `strong_wolfe`."""

    c1: float
    c2: float
    max_step: float
    max_evaluations: int

    def start(self, value: jax.Array, slope: jax.Array, step: jax.Array, longest: Any) -> StrongWolfeState:
        """Before the first evaluation."""
        zero, no = jnp.zeros_like(value), jnp.zeros((), bool)
        origin, infinite = Point(zero, value, slope), jnp.full_like(value, jnp.inf)
        longest = jnp.minimum(jnp.full_like(value, self.max_step), longest)
        step = jnp.minimum(step, longest)
        return StrongWolfeState(
            step, no, no, origin, origin, origin, no, no, (infinite, infinite), longest, no, jnp.zeros((), jnp.int32)
        )

    def next(self, state: StrongWolfeState, value: jax.Array, slope: jax.Array) -> StrongWolfeState:
        """After the evaluation at `state.step`."""
        trial, start, best = Point(state.step, value, slope), state.start, state.best
        finite = jnp.isfinite(value) & jnp.isfinite(slope)
        test = self.c1 * start.slope
        enough = value <= start.value + trial.step * test
        done = finite & enough & (jnp.abs(slope) <= self.c2 * -start.slope)
        done |= finite & close_enough(start, trial, self.c1, self.c2, noise(start.value))
        done |= finite & enough & (trial.step >= state.limit) & (slope < 0)  # as far as one may go, and still falling

        decreased = state.decreased | (enough & (slope >= 0))
        # Until then, the interval is updated by psi(t) = phi(t) - c1 t phi'(0), whose minimiser has enough decrease.
        auxiliary = ~decreased & (value <= best.value) & ~enough
        tilt = jnp.where(auxiliary, test, 0)
        a, b, t = (Point(p.step, p.value - p.step * tilt, p.slope - tilt) for p in (best, state.other, trial))
        step, bracketed = _interpolated(a, b, t, state.bracketed, self._range(state, trial))
        higher, turned = t.value > a.value, t.slope * jnp.sign(a.slope) < 0
        other = choose(higher, trial, choose(turned, best, state.other))
        best = choose(higher, best, trial)

        width = jnp.abs(other.step - best.step)
        slow = bracketed & (width >= _SHRINK * state.width[1])
        step = jnp.where(slow, best.step + 0.5 * (other.step - best.step), step)
        step = jnp.minimum(step, state.limit)
        new = state._replace(
            step=step,
            best=best,
            other=other,
            bracketed=bracketed,
            decreased=decreased,
            width=choose(bracketed, (width, state.width[0]), state.width),
        )
        beyond = state._replace(step=best.step + 0.1 * (trial.step - best.step), limit=trial.step)
        return self._ended(choose(finite, new, beyond), trial, done)

    def _range(self, state: StrongWolfeState, trial: Point) -> tuple[jax.Array, jax.Array]:
        """Between which steps the next one must lie."""
        a, b = state.best.step, state.other.step
        forward = trial.step + _MIN_GROWTH * (trial.step - a), trial.step + _GROWTH * (trial.step - a)
        first = state.evaluations == 0
        forward = choose(first, (jnp.zeros_like(a), trial.step * (1 + _FIRST_GROWTH)), forward)
        return choose(state.bracketed, (jnp.minimum(a, b), jnp.maximum(a, b)), forward)

    def _ended(self, state: StrongWolfeState, trial: Point, done: jax.Array) -> StrongWolfeState:
        """Whether the search ends, and with which point."""
        evaluations = state.evaluations + 1
        low, high = (f(state.best.step, state.other.step) for f in (jnp.minimum, jnp.maximum))
        eps = jnp.finfo(trial.value.dtype).eps
        stuck = state.bracketed & ((state.step <= low) | (state.step >= high) | (high - low <= 4 * eps * high))
        stuck |= (state.step == trial.step) | (state.step <= 0) | (evaluations >= self.max_evaluations)
        better = (state.best.step > 0) & (state.best.value < state.start.value)
        here = state.best.step == trial.step
        taken = done | state.last | (stuck & better & here)
        again = stuck & better & ~taken
        return state._replace(
            step=jnp.where(again, state.best.step, state.step),
            done=taken,
            failed=stuck & ~better & ~taken,
            last=again,
            evaluations=evaluations,
        )


def strong_wolfe(
    c1: float = 1e-4, c2: float = 0.9, max_step: float = 1e10, max_evaluations: int = 20
) -> StrongWolfe:
    """A step that satisfies the strong Wolfe conditions.

    `|phi'(t)| <= c2 |phi'(0)|` and `phi(t) <= phi(0) + c1 t phi'(0)`; where rounding hides the decrease, the approximate
    conditions of Hager and Zhang count too.

    Args:
      c1: the share of the predicted decrease that is asked for, in (0, 0.5).
      c2: by how much the slope must have flattened, in (c1, 1). 0.9 for quasi-Newton directions, 0.1 for conjugate
        gradients.
      max_step: no step is longer, in lengths of the direction.
      max_evaluations: after so many, the best point so far is taken, if it is any better.

    Raises:
      ValueError: not 0 < c1 < c2 < 1, `max_step` or `max_evaluations` not positive.

    Source: J. J. More, D. J. Thuente, ACM TOMS 20, 1994.
    """
    if not 0 < c1 < c2 < 1:
        raise ValueError(f"strong_wolfe needs 0 < c1 < c2 < 1, got c1={c1!r}, c2={c2!r}")
    if not (max_step > 0 and max_evaluations >= 1):
        raise ValueError(
            f"strong_wolfe needs max_step > 0 and max_evaluations >= 1, got {max_step!r}, {max_evaluations!r}"
        )
    return StrongWolfe(float(c1), float(c2), float(max_step), int(max_evaluations))


def _interpolated(
    a: Point, b: Point, t: Point, bracketed: jax.Array, between: tuple[jax.Array, jax.Array]
) -> tuple[jax.Array, jax.Array]:
    """The next step by cubic and secant through the best end `a`, the other end `b` and the trial `t`; section 4."""
    low, high = between
    cubic, secant = _cubic(a, t), t.step + quotient(t.slope, t.slope - a.slope) * (a.step - t.step)
    quadratic = a.step + 0.5 * quotient(a.slope, quotient(a.value - t.value, t.step - a.step) + a.slope) * (
        t.step - a.step
    )
    # 1: higher value. The minimum is between; the cubic if it is nearer to the best point, else halfway.
    near = jnp.abs(cubic - a.step) < jnp.abs(quadratic - a.step)
    first = jnp.where(near, cubic, cubic + 0.5 * (quadratic - cubic))
    # 2: lower value, slopes of opposite signs. Between again; the one that is farther from the trial.
    second = _farther(cubic, secant, t.step)
    # 3: lower value, same sign, flatter. Beyond the trial; the cubic only if it has its minimum there.
    end = jnp.where(t.step > a.step, high, low)
    forward = _cubic_beyond(a, t, end)
    nearer = jnp.where(jnp.abs(forward - t.step) < jnp.abs(secant - t.step), forward, secant)
    edge = t.step + _SHRINK * (b.step - t.step)
    kept = jnp.where(t.step > a.step, jnp.minimum(edge, nearer), jnp.maximum(edge, nearer))
    third = jnp.where(bracketed, kept, jnp.clip(_farther(forward, secant, t.step), low, high))
    # 4: lower value, same sign, not flatter.
    fourth = jnp.where(bracketed, _cubic(b, t), end)

    higher = t.value > a.value
    turned = t.slope * jnp.sign(a.slope) < 0
    flatter = jnp.abs(t.slope) < jnp.abs(a.slope)
    step = jnp.where(higher, first, jnp.where(turned, second, jnp.where(flatter, third, fourth)))
    return step, bracketed | higher | turned


def _cubic(a: Point, t: Point) -> jax.Array:
    """The minimiser of the cubic through two points with their slopes, N&W (3.59)."""
    return t.step + _ratio(a, t)[0] * (a.step - t.step)


def _cubic_beyond(a: Point, t: Point, end: jax.Array) -> jax.Array:
    """The same where it lies beyond `t`, seen from `a`; `end` where the cubic has no minimum there."""
    ratio, gamma = _ratio(a, t)
    return jnp.where((ratio < 0) & (gamma != 0), t.step + ratio * (a.step - t.step), end)


def _ratio(a: Point, t: Point) -> tuple[jax.Array, jax.Array]:
    theta = 3 * quotient(a.value - t.value, t.step - a.step) + a.slope + t.slope
    scale = jnp.maximum(jnp.abs(theta), jnp.maximum(jnp.abs(a.slope), jnp.abs(t.slope)))
    square = quotient(theta, scale) ** 2 - quotient(a.slope, scale) * quotient(t.slope, scale)
    gamma = scale * root(square) * jnp.where(t.step > a.step, -1, 1)
    return quotient(gamma - t.slope + theta, gamma - t.slope + gamma + a.slope), gamma


def _farther(one: jax.Array, two: jax.Array, place: jax.Array) -> jax.Array:
    return jnp.where(jnp.abs(one - place) > jnp.abs(two - place), one, two)
