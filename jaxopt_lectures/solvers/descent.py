"""The loop of all solvers: one evaluation a turn; directions and line searches are its parts.

    trial = x + t d
    evaluate there, tell the line search
    where it takes the point:  go there, look whether to stop, ask for a direction
    where it gives up:         once more along the gradient, then stop

One flat loop, not a search inside a loop: under `jax.vmap` each lane is at its own place and stops by itself.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

import jaxopt_lectures.solvers.vectors as vectors
from jaxopt_lectures.core.numbers import quotient
from jaxopt_lectures.solvers.box import Box, bent, held, inside, longest, steepness
from jaxopt_lectures.solvers.directions.direction import Direction, Place, Step, downhill
from jaxopt_lectures.solvers.result import Status, Trace
from jaxopt_lectures.solvers.searches.search import LineSearch, noise
from jaxopt_lectures.solvers.stopping import PATIENCE, Limits, Stall, hopeless, limited, small, stalled


class Point(NamedTuple):
    """A point with what is known there."""

    x: Any
    value: jax.Array
    g: Any
    aux: Any


class Course(NamedTuple):
    """What is decided at a point: `core` and direction `d`, its `slope`, the `size` of the gradient, the `status`."""

    core: Any
    d: Any
    slope: jax.Array
    size: jax.Array
    status: jax.Array


class State(NamedTuple):
    """Where a solve is.

    Attributes:
      at: the point.
      course: what was decided there.
      pairs: the part of the direction's memory that every trial is written to.
      search: the line search.
      before: length and slope of the last step, 0 if there is none.
      stall: whether it still goes down.
      nit: steps taken.
      nfev: evaluations.
      trace: the record, or None.
    """

    at: Point
    course: Course
    pairs: Any
    search: Any
    before: tuple[jax.Array, jax.Array]
    stall: Stall
    nit: jax.Array
    nfev: jax.Array
    trace: Trace | None

    @property
    def status(self) -> jax.Array:
        """Why it ended, or that it runs."""
        return self.course.status


@dataclass(frozen=True)
class Descent:
    """A solve: the function, the box, and how to go down.

    Attributes:
      evaluate: `(x) -> (value, gradient, aux)` of a vector (see `vectors`).
      product: `(x, v) -> H(x) v`.
      box: lower and upper bounds, vectors, or None.
      limits: when to stop.
      direction: where to go.
      line: how far.
      trace: how many iterations to keep a record of.
      report: called after every step taken; True stops. None: nobody is told.
    """

    evaluate: Callable[[Any], tuple[jax.Array, Any, Any]]
    product: Callable[[Any, Any], Any]
    box: Box
    limits: Limits
    direction: Direction
    line: LineSearch
    trace: int = 0
    report: Callable[[State], jax.Array] | None = None

    def run(self, x: Any) -> State:
        """From `x`, which lies in the box, until a status is reached."""
        return jax.lax.while_loop(lambda c: c.status == Status.RUNNING, self.turn, self.begin(x))

    def begin(self, x: Any) -> State:
        """The state at the start."""
        at = Point(x, *self.evaluate(x))
        pairs, core, d = self.direction.init(self._place(at))
        course = self._decided(core, d, at, Status.RUNNING)
        finite = jnp.isfinite(at.value) & jnp.isfinite(course.size)
        status = jnp.where(finite, course.status, Status.NON_FINITE)
        zero, nit, nfev = jnp.zeros_like(at.value), jnp.zeros((), jnp.int32), jnp.ones((), jnp.int32)
        course = course._replace(status=limited(status, nit, nfev, self.limits))
        empty = jnp.full(self.trace, jnp.nan, at.value.dtype)
        record = Trace(empty, empty, empty, jnp.zeros(self.trace, jnp.int32)) if self.trace else None
        record = _recorded(record, nit, at.value, course.size, zero * jnp.nan, nfev)
        search = self._search(at, course, (zero, zero), _visible(at, course))
        stall = Stall(at.value, course.size, nit, jnp.zeros((), bool))
        return State(at, course, pairs, search, (zero, zero), stall, nit, nfev, record)

    def turn(self, c: State) -> State:
        """The state after one more evaluation."""
        t, old = c.search.step, c.course
        x = inside(vectors.plus(c.at.x, t, old.d), self.box)
        trial = Point(x, *self.evaluate(x))
        search = self.line.next(c.search, trial.value, vectors.dot(trial.g, old.d))
        s, y = vectors.minus(x, c.at.x), vectors.minus(trial.g, c.at.g)
        pairs = self.direction.record(c.pairs, old.core, s, y)
        restart = search.failed & (old.core.count > 0)

        def stay() -> Any:
            lost = hopeless(c.at.x, c.at.value, c.at.g, old.slope) | c.stall.hopeless
            given_up = jnp.where(lost, Status.PRECISION, Status.LINE_SEARCH)
            status = jnp.where(search.failed, given_up, Status.RUNNING).astype(jnp.int32)
            return c.at, old._replace(status=status), search, c.before, c.stall, c.nit

        def go_on() -> Any:
            core, d = self.direction.turn(pairs, old.core, Step(s, y, old.d, t), self._place(trial))
            course = self._decided(core, d, trial, small(c.at.value, trial.value, x, s, self.limits))
            search, stall = self._search(trial, course, (t, old.slope)), stalled(c.stall, trial.value, course.size, 1)
            return trial, course, search, (t, old.slope), stall, c.nit + 1

        def start_again() -> Any:
            core, d = self.direction.restart(pairs, old.core, self._place(c.at))
            course = self._decided(core, d, c.at, Status.RUNNING)
            stall = stalled(c.stall, c.at.value, course.size, PATIENCE // 2)
            stall = stall._replace(hopeless=hopeless(c.at.x, c.at.value, c.at.g, old.slope))
            return c.at, course, self._search(c.at, course, c.before), c.before, stall, c.nit

        taken = search.done
        branch = jnp.where(taken, 1, jnp.where(restart, 2, 0))
        # All that changes comes out of the branches: what is selected outside, XLA computes once for each field.
        branches = (stay, go_on, start_again)
        at, course, search, before, stall, nit = jax.lax.switch(branch, branches)
        nfev = c.nfev + 1
        idle = (course.status == Status.RUNNING) & (stall.count > PATIENCE)
        status = limited(jnp.where(idle, Status.PRECISION, course.status), nit, nfev, self.limits)
        record = _recorded(c.trace, jnp.where(taken, nit, self.trace), at.value, course.size, before[0], nfev)
        state = State(at, course._replace(status=status), pairs, search, before, stall, nit, nfev, record)
        return self._reported(state, taken)

    def _place(self, at: Point) -> Place:
        return Place(at.x, at.g, lambda v: self.product(at.x, v), self.box)

    def _decided(self, core: Any, d: Any, at: Point, status: Any) -> Course:
        """Takes a direction if it descends, else that of the gradient; converged comes before any other status."""
        slope, down = vectors.dot(d, at.g), bent(downhill(at.g), at.x, self.box)
        sound = (slope < 0) & jnp.isfinite(slope)
        slope = jnp.where(sound, slope, vectors.dot(down, at.g))
        size = steepness(at.x, at.g, self.box)
        ended = jnp.where(held(at.x, at.g, self.box), Status.AT_BOUND, Status.CONVERGED)
        status = jnp.where(size <= self.limits.gtol, ended, status).astype(jnp.int32)
        return Course(core, vectors.choose(sound, d, down), slope, size, status)

    def _search(self, at: Point, course: Course, before: tuple[jax.Array, jax.Array], least: Any = 0) -> Any:
        """A new line search; its first step is no shorter than `least`."""
        first = jnp.maximum(self.direction.first_step(course.core, course.d, course.slope, before), least)
        first = jnp.where(jnp.isfinite(first) & (first > 0), first, 1).astype(course.slope.dtype)
        return self.line.start(at.value, course.slope, first, longest(at.x, course.d, self.box))

    def _reported(self, state: State, taken: jax.Array) -> State:
        """The state, after whoever wants to know was told, and may have stopped it."""
        if self.report is None:
            return state
        report = self.report
        stop = jax.lax.cond(taken, lambda: report(state), lambda: jnp.zeros((), bool))
        status = jnp.where(stop & (state.status == Status.RUNNING), Status.STOPPED, state.status)
        return state._replace(course=state.course._replace(status=status.astype(jnp.int32)))


def _visible(at: Point, course: Course) -> jax.Array:
    """The length of d that moves x and the value by more than their rounding: steps of a small gradient are longer."""
    moved = noise(jnp.sqrt(quotient(vectors.dot(at.x, at.x), vectors.dot(course.d, course.d))))
    return jnp.maximum(moved, quotient(noise(at.value), -course.slope))


def _recorded(record: Trace | None, nit: Any, value: Any, size: Any, step: Any, nfev: Any) -> Trace | None:
    """The record with this entry, if there is room for it."""
    if record is None:
        return None

    def written(entries: jax.Array, entry: jax.Array) -> jax.Array:
        entry = jnp.where(nit < len(entries), entry, entries[-1])
        return jax.lax.dynamic_update_index_in_dim(entries, entry, nit, 0)

    return jax.tree.map(written, record, Trace(value, size, step, nfev))
