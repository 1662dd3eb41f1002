"""The studies of one optimizer on one task: tune, choose, run afresh.

A study is a tuning with draws and a seed of its own, and one run of what it chose, with a seed that nothing was chosen
by. The spread over studies is therefore that of tuning and training together. (One tuning, run again with many seeds,
has only the second: two identical optimizers, tuned apart, would be told apart too often.)
"""

import itertools
import math
import zlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from jaxopt_lectures.comparison.entries import Entry
from jaxopt_lectures.comparison.measures import state_bytes_per_parameter
from jaxopt_lectures.comparison.results import Result, Study, best_choice
from jaxopt_lectures.records.plain import plain
from jaxopt_lectures.tuning.draws import draws
from jaxopt_lectures.tuning.ground import Ground, Lane
from jaxopt_lectures.tuning.runs import Outcome
from jaxopt_lectures.tuning.search import Keep, Search, Setting
from jaxopt_lectures.tuning.space import at_the_edge
from jaxopt_lectures.tuning.trials import Trial, ranked, rounded


class Plan:
    """How many studies, of how many trials, of how many steps.

    Args:
      budget: trials of each study.
      seeds: how many studies.
      seed: of all of it.
      looks: the steps at which the metric is taken.
      sampler: what draws the trials.
    """

    def __init__(self, budget: int, seeds: int, seed: int, looks: Sequence[int], sampler: str) -> None:
        self.budget, self.seeds, self.seed, self.looks, self.sampler = budget, seeds, seed, tuple(looks), sampler
        first = 2 * seed * seeds
        # Even ones to tune with, odd ones to run with: the same for every optimizer, and none is used for both.
        self.tuning = [first + 2 * study for study in range(seeds)]
        self.running = [first + 2 * study + 1 for study in range(seeds)]

    @property
    def look(self) -> int:
        """The most steps between two looks."""
        return max(end - start for start, end in itertools.pairwise((0, *self.looks)))

    @property
    def steps(self) -> int:
        """Of every run."""
        return self.looks[-1]

    def settings(self, one: Entry) -> list[Setting]:
        """All trials of all studies; the draws depend on the optimizer's name and the study."""
        if not one.space:
            return []
        mine, found = zlib.crc32(one.name.encode()), []
        for study, seed in enumerate(self.tuning):
            points = draws(one.space, self.budget, self.sampler, (self.seed, study, mine))
            found += [Setting(study * self.budget + n, point, (seed,)) for n, point in enumerate(points)]
        return found


def studied(
    search: Search, one: Entry, plan: Plan, known: Sequence[Trial] = (), keep: Keep = lambda trials: None
) -> Result:
    """Tunes an optimizer and runs what was chosen.

    Args:
      search: of this optimizer, on the task.
      one: the optimizer.
      plan: how often.
      known: trials that were done before.
      keep: told of others as they come.
    """
    ground, settings = search.ground, plan.settings(one)
    done = {trial.number for trial in known}
    found = search.train([setting for setting in settings if setting.number not in done], keep)
    trials = sorted([*known, *found], key=lambda trial: trial.number)
    chosen = [_chosen(one, trials, plan, study, ground.task.larger_is_better) for study in range(plan.seeds)]
    outcomes = _run(search, plan, chosen)
    studies = tuple(
        _study(plan, study, trials, values, outcome)
        for study, (values, outcome) in enumerate(zip(chosen, outcomes, strict=True))
    )
    result = Result(
        name=one.name,
        space=plain(one.space),
        edges=_edges(one, chosen),
        studies=studies,
        way=str(search.way),
        state_bytes_per_parameter=_state(ground, one, chosen),
    )
    best = best_choice(result, ground.task.larger_is_better)
    return result if best is None else replace(result, code=one.code(best.values or {}))


def _chosen(
    one: Entry, trials: Sequence[Trial], plan: Plan, study: int, larger_is_better: bool
) -> dict[str, Any] | None:
    """The values that a study chooses; None where all its trials diverged."""
    if not one.space:
        return {}
    mine = [trial for trial in trials if trial.number // plan.budget == study]
    best = ranked(mine, larger_is_better)[0]
    return None if best.diverged else dict(best.values)


def _run(search: Search, plan: Plan, chosen: Sequence[dict[str, Any] | None]) -> list[Outcome | None]:
    """The runs that are judged, for the studies that chose something."""
    numbers = [study for study, values in enumerate(chosen) if values is not None]
    lanes = [Lane(dict(chosen[study] or {}), plan.running[study]) for study in numbers]
    outcomes = search.runs(lanes).train(lanes, plan.looks, score=True) if lanes else []
    by_study = dict(zip(numbers, outcomes, strict=True))
    return [by_study.get(study) for study in range(plan.seeds)]


def _study(
    plan: Plan, study: int, trials: Sequence[Trial], values: dict[str, Any] | None, outcome: Outcome | None
) -> Study:
    mine = tuple(trial for trial in trials if trial.number // plan.budget == study)
    ends = plan.tuning[study], plan.running[study]
    if outcome is None:
        lost = (math.nan,) * len(plan.looks)
        return Study(*ends, mine, None, lost, lost, math.nan)
    score = math.nan if outcome.diverged or outcome.score is None else rounded([outcome.score])[0]
    return Study(*ends, mine, values, rounded(outcome.losses), rounded(outcome.metrics), score)


def _edges(one: Entry, chosen: Sequence[dict[str, Any] | None]) -> dict[str, str]:
    """The arguments of which more than half of the studies chose a value at the same end of where was searched."""
    found = [at_the_edge(one.space, values) for values in chosen if values]
    counted = [(name, end) for edges in found for name, end in edges.items()]
    return {name: end for name, end in dict.fromkeys(counted) if counted.count((name, end)) > len(chosen) / 2}


def _state(ground: Ground, one: Entry, chosen: Sequence[dict[str, Any] | None]) -> float:
    values = next((values for values in chosen if values is not None), None)
    if values is None:
        return math.nan
    return state_bytes_per_parameter(one.build(**values), ground.first(0)[0])
