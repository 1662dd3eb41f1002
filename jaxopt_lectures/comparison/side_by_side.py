"""Optimizers on one task: each studied, then all timed in turn. What fails is reported, and the others go on."""

import traceback
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import jax

from jaxopt_lectures.comparison.entries import Entry, scheduled
from jaxopt_lectures.comparison.measures import metric_text
from jaxopt_lectures.comparison.results import Comparison, Result, best_choice
from jaxopt_lectures.comparison.studies import Plan, studied
from jaxopt_lectures.comparison.timing import timed
from jaxopt_lectures.comparison.twins import twins_of
from jaxopt_lectures.comparison.unfinished import Unfinished
from jaxopt_lectures.core.checks import whole
from jaxopt_lectures.tasks.task import Task, Unfit
from jaxopt_lectures.tuning.decay import over_the_run
from jaxopt_lectures.tuning.ground import Ground
from jaxopt_lectures.tuning.lanes import Way
from jaxopt_lectures.tuning.progress import Silent
from jaxopt_lectures.tuning.search import Search

_LOOKS = 50
"""Looks at the metric of a run."""


@dataclass(frozen=True)
class Protocol:
    """How optimizers are compared; see `compare`."""

    budget: int = 16
    seeds: int = 5
    steps: int | None = None
    schedule: str = "cosine"
    warmup: int = 0
    sampler: str = "sobol"
    seed: int = 0

    def check(self) -> None:
        """Raises TypeError or ValueError for what is out of range."""
        for name, low in (("budget", 1), ("seeds", 1), ("seed", 0), ("warmup", 0)):
            whole(name, getattr(self, name), low)
        if self.steps is not None:
            whole("steps", self.steps, 1)
        if self.sampler not in ("sobol", "random"):
            raise ValueError(
                f"sampler must be 'sobol' or 'random', which draw for each study anew, got {self.sampler!r}"
            )


class SideBySide:
    """Compares the optimizers on one task after the other."""

    def __init__(
        self,
        protocol: Protocol,
        entries: Sequence[Entry],
        unfinished: Unfinished,
        progress: Silent,
        twins: bool,
        devices: Sequence[Any] | None,
    ) -> None:
        self.protocol, self.entries, self.unfinished = protocol, entries, unfinished
        self.progress, self.twins, self.devices = progress, twins, devices

    def compared(self, task: Task) -> tuple[Comparison, bool]:
        """The comparison on a task, and whether it is complete."""
        steps, results = self.protocol.steps or task.steps, []
        every = max(1, steps // _LOOKS)
        looks = (*range(every, steps, every), steps)
        plan = Plan(self.protocol.budget, self.protocol.seeds, self.protocol.seed, looks, self.protocol.sampler)
        try:
            self.progress.begin(task.name)
            ground = Ground(task, self.devices)
        except KeyboardInterrupt:
            return Comparison(_described(task, None)), False
        except Exception as error:
            return Comparison(_described(task, None), error=_line(error)), True
        decay = over_the_run(self.protocol.schedule, steps, self.protocol.warmup)
        entries = [scheduled(one, *decay) for one in self.entries]
        complete, way = True, None
        try:
            for one in entries:
                self.progress.begin(f"{task.name} {one.name}")
                result, way = self._one(ground, one, plan, way)
                results.append(result)
                self.progress.finish(one.name, self._reached(task, result))
            results = self._timed(ground, entries, results, way)
        except KeyboardInterrupt:
            complete = False
        return Comparison(_described(task, ground), steps, looks, tuple(results)), complete

    def _one(self, ground: Ground, one: Entry, plan: Plan, way: Way | None) -> tuple[Result, Way | None]:
        found = self.unfinished.result(ground, one)
        if found is not None:
            return found, way
        try:
            search = Search(ground, one.build, one.space, plan.steps, plan.look, way, self.progress)
            found = studied(search, one, plan, *self.unfinished.trials(ground, one))
            best = best_choice(found, ground.task.larger_is_better)
            if self.twins and best is not None:
                found = replace(found, twins=twins_of(ground, one, best.values or {}, plan.steps, _form(search.way)))
        except Exception as error:
            return Result(one.name, {}, error=_line(error)), way
        self.unfinished.keep(ground, one, found)
        return found, way or search.way

    def _timed(self, ground: Ground, entries: Sequence[Entry], results: list[Result], way: Way | None) -> list[Result]:
        """The results with the time that a step takes."""
        chosen = {}
        for one, result in zip(entries, results, strict=True):
            best = best_choice(result, ground.task.larger_is_better)
            if best is not None:
                chosen[one.name] = one, best.values or {}
        self.progress.begin(f"{ground.task.name} timing")
        found = timed(ground, chosen, _form(way))
        return [
            replace(result, seconds_per_step=found[result.name][0], share_of_step=found[result.name][1])
            if result.name in found
            else result
            for result in results
        ]

    @staticmethod
    def _reached(task: Task, result: Result) -> str:
        if result.error:
            return "failed"
        return f"{metric_text(result.scores, task.metric_unit)} {task.metric_unit}".strip()


def _form(way: Way | None) -> Literal["loop", "single"]:
    """How a single run of the same is run."""
    return "single" if way is not None and way.form == "single" else "loop"


def _described(task: Task, ground: Ground | None) -> dict[str, Any]:
    """The task as a report tells it."""
    told: dict[str, Any] = {
        "name": task.name,
        "summary": task.summary,
        "metric": task.metric_name,
        "metric_unit": task.metric_unit,
        "larger_is_better": task.larger_is_better,
        "target": task.target,
        "batch_size": task.batch_size,
    }
    if ground is not None:
        told |= {
            "scored": ground.scored,
            "scored_examples": ground.examples_of(ground.scored),
            "training_examples": len(ground.data.train.x),
            "validation_examples": ground.examples_of("validation"),
            "data_sha256": ground.sha256,
            "files_sha256": dict(ground.data.files),
            "parameters": sum(leaf.size for leaf in jax.tree.leaves(ground.first(0)[0])),
        }
    return told


def _line(error: Exception) -> str:
    """An error in one line, with the last place of the user's own code that it came through."""
    text = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    if isinstance(error, Unfit):
        return text
    ours, theirs = str(Path(__file__).parents[1]), "site-packages"
    frames = traceback.extract_tb(error.__traceback__)
    own = [f for f in frames if not f.filename.startswith((ours, "<")) and theirs not in f.filename]
    where = f" ({Path(own[-1].filename).name}, line {own[-1].lineno})" if own else ""
    return f"{type(error).__name__}: {text}".rstrip(": ") + where
