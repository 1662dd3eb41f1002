"""A line search that is asked and told: it names a step, is told value and slope there, and names the next.

It owns no loop and calls no function, so the loop that owns it takes one evaluation per turn; under `jax.vmap` every
lane is then at its own place, and none waits for another's line search.

    search = method.start(value, slope, step, longest)  # at step 0, with the first step to try
    while not (search.done | search.failed):
        search = method.next(search, value, slope)      # of the point at search.step

`done`: the point that was just told is the one to take. `failed`: there is none.
"""

from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp


class Point(NamedTuple):
    """A step and what the function is there: `value` of it, `slope` along the direction; scalars."""

    step: jax.Array
    value: jax.Array
    slope: jax.Array


class LineSearch(Protocol):
    """What the solvers ask of a line search; the instances hold its constants and are hashable."""

    def start(self, value: jax.Array, slope: jax.Array, step: jax.Array, longest: Any) -> Any:
        """The state before the first evaluation, at `state.step`, from value and slope at step 0; no step is longer."""

    def next(self, state: Any, value: jax.Array, slope: jax.Array) -> Any:
        """The state after the evaluation at `state.step`."""


def noise(value: jax.Array) -> jax.Array:
    """What sums of a few terms leave uncertain of `value`: eight roundings."""
    return 8 * jnp.finfo(value.dtype).eps * jnp.abs(value)


def close_enough(start: Point, trial: Point, c1: float, c2: float, tolerated: jax.Array) -> jax.Array:
    """The approximate Wolfe conditions of Hager and Zhang, (4.1): slopes in the place of values.

        phi(t) <= phi(0) + tolerated  and  (2 c1 - 1) phi'(0) >= phi'(t) >= c2 phi'(0)

    Near a minimum differences of values drown in rounding, slopes do not. Only there: where the decrease that is asked
    for, -c1 t phi'(0), is itself smaller than what is tolerated.
    """
    hidden = -c1 * trial.step * start.slope <= tolerated
    flat = ((2 * c1 - 1) * start.slope >= trial.slope) & (trial.slope >= c2 * start.slope)
    return hidden & flat & (trial.value <= start.value + tolerated)


def ended(state: Any, trial: Point, lowest: Point, done: jax.Array, max_evaluations: int) -> Any:
    """The state, with the end of the search decided.

    Where no new step is left, or none is allowed, the lowest point is taken if it lies below the start. Its gradient is
    not kept, so unless it was the last one it is asked for again.
    """
    evaluations = state.evaluations + 1
    same = (state.step == trial.step) | (state.step == lowest.step) | ~(state.step > 0) | ~jnp.isfinite(state.step)
    stuck = (same | (evaluations >= max_evaluations)) & ~done & ~state.last
    better = lowest.value < state.start.value
    here = lowest.step == trial.step
    return state._replace(
        step=jnp.where(stuck & better, lowest.step, state.step),
        done=done | state.last | (stuck & better & here),
        failed=stuck & ~better,
        last=stuck & better & ~here,
        evaluations=evaluations,
    )
