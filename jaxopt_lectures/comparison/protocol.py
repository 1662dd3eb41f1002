"""`compare`: every optimizer is tuned with the same budget, run afresh, and judged at the end.

After G. Dahl et al., Benchmarking neural network training algorithms, arXiv:2306.07179 (studies, targets, profiles), and
K. Wen et al., arXiv:2509.02046 (equal tuning, judged at the end of the schedule).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any

import jax

from jaxopt_lectures.comparison.entries import Entry, entry, scheduled, with_space
from jaxopt_lectures.comparison.measures import metric_text
from jaxopt_lectures.comparison.report import Report
from jaxopt_lectures.comparison.results import Comparison, Result, best_choice
from jaxopt_lectures.comparison.studies import Plan, studied
from jaxopt_lectures.comparison.timing import timed
from jaxopt_lectures.comparison.twins import twins_of
from jaxopt_lectures.comparison.unfinished import Unfinished
from jaxopt_lectures.core.card import Choice, Range
from jaxopt_lectures.core.checks import whole
from jaxopt_lectures.records import environment
from jaxopt_lectures.tasks.task import Task, Unfit
from jaxopt_lectures.tuning.decay import over_the_run
from jaxopt_lectures.tuning.ground import Ground
from jaxopt_lectures.tuning.lanes import Way
from jaxopt_lectures.tuning.progress import Silent

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
            raise ValueError(f"sampler must be 'sobol' or 'random', which draw for each study anew, got {self.sampler!r}")


def compare(
    task: Task | Sequence[Task],
    optimizers: Sequence[Any],
    *,
    budget: int = 16,
    seeds: int = 5,
    targets: float | Mapping[str, float] | None = None,
    steps: int | None = None,
    schedule: str = "cosine",
    warmup: int = 0,
    space: Mapping[str, Range | Choice] | None = None,
    sampler: str = "sobol",
    seed: int = 0,
    baseline: str | None = None,
    twins: bool = False,
    out: str | PathLike[str] | None = None,
    devices: Sequence[Any] | None = None,
    progress: Silent | None = None,
) -> Report:
    """Which optimizer is best on a task, when all are tuned alike?

    There are as many studies of each optimizer as seeds. A study tries `budget` settings of its own draw, chooses by the
    metric of the validation examples at the end, and trains its choice once more, with another seed. What that run reaches
    on the examples to test on is its score. Runs of one seed start from the same weights and meet the same batches,
    whatever the optimizer, so differences are taken seed by seed.

    Args:
      task: what to train; several give one comparison each, and profiles over all.
      optimizers: names of `registry`, "optax:NAME", "FILE.py:NAME", factories, pairs (name, factory), triples (name,
        factory, space). An optimizer that is built already is run as it is.
      budget: trials of each study.
      seeds: how many studies.
      targets: the metric at which a task counts as solved, of all or by task; the tasks' own if None.
      steps: updates of each run; the tasks' own number if None.
      schedule: of the learning rate: "cosine", "linear" (to 0 at the end), "constant". Of what has no rate, none.
      warmup: steps at the beginning in which the rate rises from 0.
      space: other places to search: "learning_rate" everyone's, "adam.b1" one's.
      sampler: "sobol" or "random".
      seed: of draws, weights and batches.
      baseline: whom the others are compared with; the first if None.
      twins: whether ours are checked against their optax counterparts, too.
      out: a folder: results are written there, and an interrupted comparison goes on from there.
      devices: where; all there are if None.
      progress: who is told.

    Raises:
      TypeError, ValueError: an argument of the wrong kind, or out of range; `Unknown`, no such optimizer; `BadSpace`.
      OSError: `out` cannot be written to.

    A task or an optimizer that fails is reported, and the others go on. Ctrl-C gives the report of what was finished.
    """
    protocol = Protocol(budget, seeds, steps, schedule, warmup, sampler, seed)
    protocol.check()
    tasks = [task] if isinstance(task, Task) else list(task)
    entries = with_space([entry(asked) for asked in optimizers], space or {})
    names = [one.name for one in entries]
    if not tasks or not entries:
        raise ValueError("there is nothing to compare: name a task and an optimizer")
    if len(set(names)) < len(names):
        raise ValueError(f"two optimizers have one name: {', '.join(names)}; give pairs (name, factory)")
    if baseline is not None and baseline not in names:
        raise ValueError(f"the baseline {baseline!r} is not among the optimizers: {', '.join(names)}")
    for one in tasks:
        over_the_run(schedule, steps or one.steps, warmup)
    folder = Path(out) if out is not None else None
    told = {name: getattr(protocol, name) for name in protocol.__dataclass_fields__}
    unfinished = Unfinished(folder, told)
    told |= {"baseline": baseline or names[0], "optimizers": names, "tasks": [one.name for one in tasks], "twins": twins}
    side = _Side(protocol, entries, unfinished, progress or Silent(), twins, devices)
    comparisons, complete = [], True
    for one in tasks:
        compared, complete = side.compared(_with_target(one, targets))
        if compared.results or compared.error:
            comparisons.append(compared)
        if not complete:
            break
    report = Report(told, environment.describe(), tuple(comparisons), complete)
    if folder is not None:
        report.save(folder)
        if complete:
            unfinished.clear()
    return report


def total_steps(tasks: Sequence[Task], entries: Sequence[Any], protocol: Protocol) -> int:
    """Steps of all runs of a comparison, for a progress bar."""
    runs = sum(protocol.seeds * (1 + (protocol.budget if entry(one).space else 0)) for one in entries)
    return sum(runs * (protocol.steps or task.steps) for task in tasks)


def _with_target(task: Task, targets: float | Mapping[str, float] | None) -> Task:
    if targets is None:
        return task
    return replace(task, target=targets.get(task.name, task.target) if isinstance(targets, Mapping) else targets)


class _Side:
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
            journal = self.unfinished.journal(ground, one)
            found, search = studied(ground, one, plan, way, journal, self.progress)
            best = best_choice(found, ground.task.larger_is_better)
            if self.twins and best is not None:
                form = "single" if search.way and search.way.form == "single" else "loop"
                found = replace(found, twins=twins_of(ground, one, best.values or {}, plan.steps, form))
        except OSError:
            raise
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
        found = timed(ground, chosen, "single" if way and way.form == "single" else "loop")
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
            "data_sha256": ground.data.sha256,
            "files_sha256": dict(ground.data.files),
            "parameters": sum(leaf.size for leaf in jax.tree.leaves(ground.first(0)[0])),
        }
    return told


def _line(error: Exception) -> str:
    """An error in one line."""
    text = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    return text if isinstance(error, Unfit) else f"{type(error).__name__}: {text}".rstrip(": ")
