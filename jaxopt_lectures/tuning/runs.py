"""Runs of many lanes from beginning to end: batches of them, several at once, looked at on the way."""

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from jaxopt_lectures.training.program import TrainState
from jaxopt_lectures.tuning.ground import Ground, Lane
from jaxopt_lectures.tuning.lanes import Factory, Form, Program, Way, filled, taken_out
from jaxopt_lectures.tuning.threads import in_parallel
from jaxopt_lectures.tuning.ways import fastest

Fixed = tuple[tuple[str, Any], ...]


@dataclass
class Outcome:
    """What became of one lane.

    Attributes:
      losses: [look], mean training loss since the look before.
      metrics: [look], of the validation examples.
      score: the metric of the examples to test on, or to validate where there are none, at the end; None if not asked.
      diverged: whether a loss or a weight was not finite.
      state: parameters and all, where they were asked for.
    """

    losses: list[float] = field(default_factory=list)
    metrics: list[float] = field(default_factory=list)
    score: float | None = None
    diverged: bool = False
    state: Any = None


class Runs:
    """Trains lanes of one optimizer.

    Args:
      ground: task, examples, devices.
      factory: `factory(**values)` gives the optimizer.
      traced: the arguments that are operands of the program; of the others, each combination has its own.
      look: the most steps that are taken between two looks.
      way: how lanes are run, one by one if None; `choose` finds the fastest.
      advance: told of steps of lanes that were taken; it may raise KeyboardInterrupt.
    """

    def __init__(
        self,
        ground: Ground,
        factory: Factory,
        traced: Sequence[str],
        look: int,
        way: Way | None = None,
        advance: Callable[[int], None] = lambda steps: None,
    ) -> None:
        self.ground, self.factory, self.traced, self.look = ground, factory, tuple(traced), look
        self.way, self.advance, self._lock = way or Way("loop", 1), advance, threading.Lock()
        self._programs: dict[Fixed, Program] = {}

    def choose(self, lanes: Sequence[Lane], steps: int) -> dict[str, float]:
        """Finds the fastest way to train such lanes, and keeps it; the seconds that each way tried would take."""
        fixed, numbers = next(iter(self._groups(lanes).items()))
        alike, share = [lanes[number] for number in numbers], len(lanes) / len(numbers)
        self.way, found, seconds = fastest(lambda form, count: self._new(fixed, lanes[0], form, count), alike, steps)
        self._programs = {fixed: found}
        return {str(way): share * value for way, value in seconds.items()}

    def train(
        self,
        lanes: Sequence[Lane],
        looks: Sequence[int],
        *,
        score: bool = False,
        keep: bool = False,
        begun: Mapping[int, tuple[int, Any]] | None = None,
        done: Callable[[list[int], list[Outcome]], None] = lambda numbers, outcomes: None,
    ) -> list[Outcome]:
        """Trains every lane up to the last look.

        Args:
          lanes: what to train.
          looks: the steps at which the metric is taken; the last one is the end.
          score: whether the final word is taken at the end.
          keep: whether states are kept.
          begun: lane number -> steps it has, state to go on from; either all lanes are in it, at one step, or none.
          done: told of lanes that are done, as soon as they are.
        """
        outcomes: dict[int, Outcome] = {}
        batches = self._batches(lanes)
        for numbers in batches:  # compiled one after the other: the compiler has threads of its own
            self._program(lanes[numbers[0]])

        def train(numbers: list[int]) -> None:
            states = [begun[number] for number in numbers] if begun else None
            found = self._batch([lanes[number] for number in numbers], looks, states, score, keep)
            with self._lock:
                outcomes.update(zip(numbers, found, strict=True))
                done(numbers, found)

        if self.way.workers == 1:
            for numbers in batches:
                train(numbers)
        else:
            in_parallel(train, batches, self.way.workers)
        return [outcomes[number] for number in range(len(lanes))]

    def _groups(self, lanes: Sequence[Lane]) -> dict[Fixed, list[int]]:
        """The numbers of the lanes that one program can take: equal in all that is no operand."""
        groups: dict[Fixed, list[int]] = {}
        for number, lane in enumerate(lanes):
            groups.setdefault(self._fixed(lane), []).append(number)
        return groups

    def _batches(self, lanes: Sequence[Lane]) -> list[list[int]]:
        size = self.way.lanes * len(self.ground.devices)
        groups = self._groups(lanes).values()
        return [group[start : start + size] for group in groups for start in range(0, len(group), size)]

    def _fixed(self, lane: Lane) -> Fixed:
        return tuple((name, value) for name, value in lane.values.items() if name not in self.traced)

    def _new(self, fixed: Fixed, lane: Lane, form: Form, count: int) -> Program:
        names = [name for name in lane.values if name in self.traced]
        return Program(self.ground, self.factory, dict(fixed), names, form, count, self.look)

    def _program(self, lane: Lane) -> Program:
        fixed = self._fixed(lane)
        if fixed not in self._programs:
            program = self._new(fixed, lane, self.way.form, self.way.lanes)
            program.start(filled([lane], program.lanes))  # compiles it
            self._programs[fixed] = program
        return self._programs[fixed]

    def _batch(
        self,
        lanes: list[Lane],
        looks: Sequence[int],
        begun: list[tuple[int, Any]] | None,
        score: bool,
        keep: bool,
    ) -> list[Outcome]:
        program, count, step = self._program(lanes[0]), len(lanes), 0
        everyone = filled(lanes, program.lanes)
        hypers, state = program.start(everyone)
        if begun:
            step, state = begun[0][0], program.put([part[1] for part in begun])
        outcomes = [Outcome() for _ in lanes]
        for look in (look for look in looks if look > step):
            total, since = np.zeros(program.lanes), step
            while step < look:
                steps = min(program.capacity, look - step)
                state, losses = program.advance(hypers, state, everyone, step, steps)
                total, step = total + np.asarray(losses, float), step + steps
                with self._lock:
                    self.advance(steps * count)
            metrics, fine = self.ground.judge(state, "validation", count), program.fine(state)
            for outcome, loss, metric, good in zip(outcomes, total / (look - since), metrics, fine, strict=False):
                outcome.losses.append(float(loss))
                outcome.metrics.append(float(metric))
                outcome.diverged |= not (good and np.isfinite(loss) and np.isfinite(metric))
        self._end(outcomes, state, score, keep)
        return outcomes

    def _end(self, outcomes: list[Outcome], state: TrainState, score: bool, keep: bool) -> None:
        if score:
            scores = self.ground.judge(state, self.ground.scored, len(outcomes))
            for outcome, value in zip(outcomes, scores, strict=True):
                outcome.score = float(value)
        if keep:
            for index, outcome in enumerate(outcomes):
                outcome.state = taken_out(state, index)
