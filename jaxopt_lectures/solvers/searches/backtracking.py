"""Backtracking: shorter steps until one decreases the value enough.

    phi(t) <= phi(0) + c1 t phi'(0)

Source: L. Armijo, Pacific Journal of Mathematics 16, 1966; J. Nocedal, S. J. Wright, Numerical Optimization, 2006,
algorithm 3.1, with the quadratic interpolation of (3.58).
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxopt_lectures.core.numbers import quotient
from jaxopt_lectures.solvers.searches.search import Point, close_enough, noise


class BacktrackingState(NamedTuple):
    """`step`: what to evaluate next; `done`, `failed`: as in every search; `start`: at step 0; `evaluations`: told."""

    step: jax.Array
    done: jax.Array
    failed: jax.Array
    start: Point
    evaluations: jax.Array


@dataclass(frozen=True)
class Backtracking:
    """The search with its constants; see `backtracking`."""

    c1: float
    shrink: float
    max_evaluations: int

    def start(self, value: jax.Array, slope: jax.Array, step: jax.Array, longest: Any) -> BacktrackingState:
        """Before the first evaluation."""
        no, step = jnp.zeros((), bool), jnp.minimum(step, longest)
        return BacktrackingState(step, no, no, Point(jnp.zeros_like(value), value, slope), jnp.zeros((), jnp.int32))

    def next(self, state: BacktrackingState, value: jax.Array, slope: jax.Array) -> BacktrackingState:
        """After the evaluation at `state.step`."""
        t, start = state.step, state.start
        finite = jnp.isfinite(value) & jnp.isfinite(slope)
        done = finite & (value <= start.value + self.c1 * t * start.slope)
        done |= finite & close_enough(start, Point(t, value, slope), self.c1, 0.9, noise(start.value))
        # the minimiser of the parabola through phi(0), phi'(0), phi(t), kept within [shrink/5, shrink] of the step
        parabola = -0.5 * quotient(start.slope * t * t, value - start.value - start.slope * t)
        parabola = jnp.where(finite, parabola, 0)
        shorter = jnp.clip(parabola, 0.2 * self.shrink * t, self.shrink * t)
        evaluations = state.evaluations + 1
        failed = ~done & ((evaluations >= self.max_evaluations) | (shorter <= 0))
        return BacktrackingState(jnp.where(done, t, shorter), done, failed, start, evaluations)


def backtracking(c1: float = 1e-4, shrink: float = 0.5, max_evaluations: int = 30) -> Backtracking:
    """The first of ever shorter steps with enough decrease: `phi(t) <= phi(0) + c1 t phi'(0)`.

    Slopes count only where rounding hides the decrease, so quasi-Newton methods may meet pairs without curvature, which
    they skip.

    Args:
      c1: the share of the predicted decrease that is asked for, in (0, 0.5).
      shrink: each step is at most this times the one before, in (0, 1).
      max_evaluations: steps to try.

    Raises:
      ValueError: a number out of its range.

    Source: J. Nocedal, S. J. Wright, Numerical Optimization, 2006, algorithm 3.1.
    """
    if not (0 < c1 < 0.5 and 0 < shrink < 1 and max_evaluations >= 1):
        raise ValueError(
            "backtracking needs 0 < c1 < 0.5, 0 < shrink < 1 and max_evaluations >= 1, "
            f"got {c1!r}, {shrink!r}, {max_evaluations!r}"
        )
    return Backtracking(float(c1), float(shrink), int(max_evaluations))
