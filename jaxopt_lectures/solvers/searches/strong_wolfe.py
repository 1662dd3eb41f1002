"""Strong Wolfe conditions: an interval that holds such a step, made smaller by cubic interpolation.

    phi(t) <= phi(0) + c1 t phi'(0)        enough decrease
    |phi'(t)| <= c2 |phi'(0)|              flat enough

Source: J. Nocedal, S. J. Wright, Numerical Optimization, 2006, (3.7), algorithms 3.5 and 3.6, interpolation (3.59).
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxopt_lectures.solvers.searches.search import Point, close_enough, ended, noise
from jaxopt_lectures.solvers.vectors import choose

_LEAST, _MOST = 1.1, 4.0  # how far beyond the last step an extrapolation goes
_MARGIN = 0.1  # how near to an end of the interval, in its lengths, a step may lie


class StrongWolfeState(NamedTuple):
    """Where the search is.

    Attributes:
      step: what to evaluate next.
      done: the point told last is the one to take.
      failed: there is none.
      start: the point at step 0.
      low: the end of the interval with the smaller value; it has enough decrease, and the function falls from it into
        the interval.
      high: the other end; meaningless until `bracketed`.
      bracketed: the interval holds a step that satisfies the conditions.
      longest: no step is longer.
      last: the lowest point is being told again, to be taken.
      evaluations: points told.
    """

    step: jax.Array
    done: jax.Array
    failed: jax.Array
    start: Point
    low: Point
    high: Point
    bracketed: jax.Array
    longest: jax.Array
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
        no, origin = jnp.zeros((), bool), Point(jnp.zeros_like(value), value, slope)
        longest = jnp.minimum(jnp.full_like(value, self.max_step), longest)
        step, count = jnp.minimum(step, longest), jnp.zeros((), jnp.int32)
        return StrongWolfeState(step, no, no, origin, origin, origin, no, longest, no, count)

    def next(self, state: StrongWolfeState, value: jax.Array, slope: jax.Array) -> StrongWolfeState:
        """After the evaluation at `state.step`."""
        trial, start, low, high = Point(state.step, value, slope), state.start, state.low, state.high
        finite = jnp.isfinite(value) & jnp.isfinite(slope)
        enough = finite & (value <= start.value + self.c1 * trial.step * start.slope)
        done = enough & (jnp.abs(slope) <= -self.c2 * start.slope)
        done |= finite & close_enough(start, trial, self.c1, self.c2, noise(start.value))
        done |= enough & (trial.step >= state.longest) & (slope < 0)  # as far as one may go, and still falling

        higher = ~enough | (value >= low.value)
        into = jnp.where(state.bracketed, high.step - low.step, 1)
        turned = ~higher & (slope * into >= 0)  # the trial is the new low, and falls back towards the old one
        high = choose(higher, trial, choose(turned, low, high))
        low, before = choose(higher, low, trial), low
        bracketed = state.bracketed | higher | turned
        state = state._replace(low=low, high=high, bracketed=bracketed)
        other = choose(bracketed, high, before)
        step = jax.lax.cond(done, lambda: trial.step, lambda: self._next(state, trial, other, finite))
        return ended(state._replace(step=step), trial, low, done, self.max_evaluations)

    def _next(self, state: StrongWolfeState, trial: Point, other: Point, finite: jax.Array) -> jax.Array:
        """The minimiser of a cubic: inside the interval; or, while there is none, beyond the last two points."""
        low, high, between = state.low, state.high, state.bracketed
        width = high.step - low.step
        margin = _MARGIN * jnp.abs(width)
        nearest = jnp.where(between, jnp.minimum(low.step, high.step) + margin, _LEAST * trial.step)
        farthest = jnp.where(between, jnp.maximum(low.step, high.step) - margin, (1 + _MOST) * trial.step)
        inside = low.step + jnp.where(finite, 0.5, _MARGIN) * width
        step = _cubic(low, other)
        usable = jnp.isfinite(step) & (between | (step > trial.step))
        step = jnp.where(usable, jnp.clip(step, nearest, farthest), jnp.where(between, inside, farthest))
        return jnp.minimum(step, state.longest)


def strong_wolfe(c1: float = 1e-4, c2: float = 0.9, max_step: float = 1e10, max_evaluations: int = 20) -> StrongWolfe:
    """A step that satisfies the strong Wolfe conditions.

    `|phi'(t)| <= c2 |phi'(0)|` and `phi(t) <= phi(0) + c1 t phi'(0)`; where rounding hides the decrease, the
    approximate conditions of Hager and Zhang count too.

    Args:
      c1: the share of the predicted decrease that is asked for, in (0, 0.5).
      c2: by how much the slope must have flattened, in (c1, 1). 0.9 for quasi-Newton directions, 0.1 for conjugate
        gradients.
      max_step: no step is longer, in lengths of the direction.
      max_evaluations: after so many, the best point so far is taken, if it is any better.

    Raises:
      ValueError: a number out of its range.

    Source: J. Nocedal, S. J. Wright, Numerical Optimization, 2006, algorithms 3.5 and 3.6.
    """
    if not (0 < c1 < 0.5 and c1 < c2 < 1):
        raise ValueError(f"strong_wolfe needs 0 < c1 < 0.5 and c1 < c2 < 1, got c1={c1!r}, c2={c2!r}")
    if not (max_step > 0 and max_evaluations >= 1):
        raise ValueError(
            f"strong_wolfe needs max_step > 0 and max_evaluations >= 1, got {max_step!r}, {max_evaluations!r}"
        )
    return StrongWolfe(float(c1), float(c2), float(max_step), int(max_evaluations))


def _cubic(a: Point, b: Point) -> jax.Array:
    """The minimiser of the cubic through two points with their slopes, (3.59); not finite where it has none."""
    d1 = a.slope + b.slope - 3 * (a.value - b.value) / (a.step - b.step)
    d2 = jnp.sign(b.step - a.step) * jnp.sqrt(d1 * d1 - a.slope * b.slope)
    return b.step - (b.step - a.step) * (b.slope + d2 - d1) / (b.slope - a.slope + 2 * d2)
