"""Trains settings of one optimizer's arguments and tells what came of them."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from jaxopt_lectures.tuning.ground import Ground, Lane
from jaxopt_lectures.tuning.lanes import Factory, Way
from jaxopt_lectures.tuning.operands import operands
from jaxopt_lectures.tuning.progress import Silent
from jaxopt_lectures.tuning.runs import Outcome, Runs
from jaxopt_lectures.tuning.space import Space, check_space
from jaxopt_lectures.tuning.trials import Trial, ranked, rounded


class Setting(NamedTuple):
    """What is to be tried: the `values` of the arguments, with each of the `seeds`; known by its `number`."""

    number: int
    values: Mapping[str, Any]
    seeds: tuple[int, ...]


Keep = Callable[[list[Trial]], None]


class Search:
    """One optimizer on one task.

    Args:
      ground: task, examples, devices.
      factory: `factory(**values)` gives the optimizer.
      space: where is looked.
      steps: updates of each run.
      look: the most steps between two looks.
      way: how runs are run; the first that are trained find out if None.
      progress: who is told of steps.

    Attributes:
      seconds: what each way that was tried would have taken.
    """

    def __init__(
        self,
        ground: Ground,
        factory: Factory,
        space: Space,
        steps: int,
        look: int | None = None,
        way: Way | None = None,
        progress: Silent | None = None,
    ) -> None:
        check_space(space, factory)
        self.ground, self.space, self.steps, self.way = ground, dict(space), steps, way
        self.seconds: dict[str, float] = {}
        self._factory, self._look, self._progress = factory, look or steps, progress or Silent()
        self._runs: Runs | None = None

    def train(self, settings: Sequence[Setting], keep: Keep = lambda trials: None) -> list[Trial]:
        """Trains the settings to the end; `keep` is told of those that are done, as soon as they are."""
        lanes, places = _lanes(settings)
        found: dict[int, list[Outcome]] = {index: [] for index in range(len(settings))}
        trials: dict[int, Trial] = {}

        def done(numbers: list[int], outcomes: list[Outcome]) -> None:
            ready = []
            for number, outcome in zip(numbers, outcomes, strict=True):
                index = places[number]
                found[index].append(outcome)
                if len(found[index]) == len(settings[index].seeds):
                    trials[index] = _trial(settings[index], found[index], self.steps)
                    ready.append(trials[index])
            keep(ready)

        if settings:
            self.runs(lanes).train(lanes, (self.steps,), done=done)
        return [trials[index] for index in range(len(settings))]

    def halve(self, settings: Sequence[Setting], share: int, larger_is_better: bool) -> list[Trial]:
        """Trains all for some steps, of them the best one in `share` for `share` times as many, and so on."""
        rungs = max(1, math.floor(math.log(len(settings), share) + 1e-9) + 1)
        ends = sorted({max(1, self.steps // share**rung) for rung in range(rungs)})
        ahead = {setting.number: setting for setting in settings}
        begun: dict[tuple[int, int], tuple[int, Any]] = {}
        trials: dict[int, Trial] = {}
        for end in ends:
            lanes, places = _lanes(list(ahead.values()))
            order = list(ahead.values())
            states = {n: begun[order[places[n]].number, lane.seed] for n, lane in enumerate(lanes)} if begun else None
            outcomes = self.runs(lanes).train(lanes, (end,), keep=end < self.steps, begun=states)
            for index, setting in enumerate(order):
                mine = [outcome for number, outcome in enumerate(outcomes) if places[number] == index]
                trials[setting.number] = _trial(setting, mine, end)
                for seed, outcome in zip(setting.seeds, mine, strict=True):
                    begun[setting.number, seed] = end, outcome.state
            best = ranked([trials[number] for number in ahead], larger_is_better)
            going = {trial.number for trial in best[: max(1, len(ahead) // share)] if not trial.diverged}
            ahead = {number: setting for number, setting in ahead.items() if number in going}
            if not ahead:
                break
        return [trials[setting.number] for setting in settings]

    def runs(self, lanes: Sequence[Lane]) -> Runs:
        """What trains them; how is found out the first time."""
        if self._runs is None:
            traced = operands(self._factory, self.space, lanes[0].values, self.ground.first(lanes[0].seed)[0])
            self._runs = Runs(self.ground, self._factory, traced, self._look, advance=self._progress.advance)
            if self.way is None:
                self.seconds = self._runs.choose(lanes, self.steps)
                self.way = self._runs.way
            self._runs.way = self.way
        return self._runs


def _lanes(settings: Sequence[Setting]) -> tuple[list[Lane], list[int]]:
    """A lane for each seed of each setting, and the place of its setting."""
    lanes = [(Lane(dict(each.values), seed), place) for place, each in enumerate(settings) for seed in each.seeds]
    return [lane for lane, _ in lanes], [place for _, place in lanes]


def _trial(setting: Setting, outcomes: Sequence[Outcome], steps: int) -> Trial:
    metrics = rounded(outcome.metrics[-1] for outcome in outcomes)
    losses = rounded(outcome.losses[-1] for outcome in outcomes)
    lost = any(outcome.diverged for outcome in outcomes)
    return Trial(setting.number, dict(setting.values), setting.seeds, metrics, losses, steps, lost)
