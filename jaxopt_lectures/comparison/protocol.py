"""`compare`: every optimizer is tuned with the same budget, run afresh, and judged at the end.

After G. Dahl et al., Benchmarking neural network training algorithms, arXiv:2306.07179 (studies, targets, profiles),
and K. Wen et al., arXiv:2509.02046 (equal tuning, judged at the end of the schedule).
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Any

from jaxopt_lectures.comparison.entries import Entry, entry, with_space
from jaxopt_lectures.comparison.report import Report
from jaxopt_lectures.comparison.side_by_side import Protocol, SideBySide
from jaxopt_lectures.comparison.unfinished import Unfinished
from jaxopt_lectures.core.card import Choice, Range
from jaxopt_lectures.records import environment
from jaxopt_lectures.tasks.task import Task
from jaxopt_lectures.tuning.decay import over_the_run
from jaxopt_lectures.tuning.progress import Silent


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

    There are as many studies of each optimizer as seeds. A study tries `budget` settings of its own draw, chooses by
    the metric of the validation examples at the end, and trains its choice once more, with another seed. What that run
    reaches on the examples to test on is its score. Runs of one seed start from the same weights and meet the same
    batches, whatever the optimizer, so differences are taken seed by seed.

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
    tasks = [task] if isinstance(task, Task) else list(task)
    entries = with_space([entry(asked) for asked in optimizers], space or {})
    protocol = Protocol(budget, seeds, steps, schedule, warmup, sampler, seed)
    folder = Path(out) if out is not None else None
    report, unfinished = compared(tasks, entries, protocol, targets, baseline, twins, folder, devices, progress)
    if folder is not None:
        report.save(folder)
        if report.complete:
            unfinished.clear()
    return report


def compared(
    tasks: Sequence[Task],
    entries: Sequence[Entry],
    protocol: Protocol,
    targets: float | Mapping[str, float] | None = None,
    baseline: str | None = None,
    twins: bool = False,
    folder: Path | None = None,
    devices: Sequence[Any] | None = None,
    progress: Silent | None = None,
) -> tuple[Report, Unfinished]:
    """The comparison, and what it keeps in a folder until it is finished; see `compare`."""
    protocol.check()
    names = [one.name for one in entries]
    if not tasks or not entries:
        raise ValueError("there is nothing to compare: name a task and an optimizer")
    if len(set(names)) < len(names):
        raise ValueError(f"two optimizers have one name: {', '.join(names)}; give pairs (name, factory)")
    if baseline is not None and baseline not in names:
        raise ValueError(f"the baseline {baseline!r} is not among the optimizers: {', '.join(names)}")
    for one in tasks:
        over_the_run(protocol.schedule, protocol.steps or one.steps, protocol.warmup)
    told = {name: getattr(protocol, name) for name in protocol.__dataclass_fields__}
    unfinished = Unfinished(folder, told | {"twins": twins})
    told |= {
        "baseline": baseline or names[0],
        "optimizers": names,
        "tasks": [one.name for one in tasks],
        "twins": twins,
    }
    side = SideBySide(protocol, entries, unfinished, progress or Silent(), twins, devices)
    comparisons, complete = [], True
    for one in tasks:
        found, complete = side.compared(_with_target(one, targets))
        if found.results or found.error:
            comparisons.append(found)
        if not complete:
            break
    return Report(told, environment.describe(), tuple(comparisons), complete), unfinished


def total_steps(tasks: Sequence[Task], entries: Sequence[Any], protocol: Protocol) -> int:
    """Steps of all runs of a comparison, for a progress bar."""
    runs = sum(protocol.seeds * (1 + (protocol.budget if entry(one).space else 0)) for one in entries)
    return sum(runs * (protocol.steps or task.steps) for task in tasks)


def _with_target(task: Task, targets: float | Mapping[str, float] | None) -> Task:
    if targets is None:
        return task
    return replace(task, target=targets.get(task.name, task.target) if isinstance(targets, Mapping) else targets)
