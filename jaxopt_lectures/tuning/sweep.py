"""`sweep`: one optimizer with many settings of its arguments, trained side by side."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

from jax.sharding import Mesh

from jaxopt_lectures.core.checks import whole
from jaxopt_lectures.records.plain import plain
from jaxopt_lectures.scaling.meshes import Sizes, mesh_of
from jaxopt_lectures.tasks.task import Task
from jaxopt_lectures.tuning.draws import SAMPLERS, Sampler, draws
from jaxopt_lectures.tuning.ground import Ground
from jaxopt_lectures.tuning.journal import Journal
from jaxopt_lectures.tuning.lanes import Factory, Way
from jaxopt_lectures.tuning.progress import Silent
from jaxopt_lectures.tuning.search import Search, Setting
from jaxopt_lectures.tuning.space import Space, at_the_edge
from jaxopt_lectures.tuning.trials import Trial, ranked


@dataclass(frozen=True)
class Sweep:
    """What a sweep found.

    Attributes:
      task: name of the task.
      metric: what it was judged by, on the validation examples.
      metric_unit: "%" for a share.
      larger_is_better: whether the metric rises.
      space: where was looked.
      trials: in the order of their numbers.
      way: how they were run, with the seconds that each way tried would have taken.
    """

    task: str
    metric: str
    metric_unit: str
    larger_is_better: bool
    space: Space
    trials: tuple[Trial, ...]
    way: Mapping[str, Any]

    @property
    def ranked(self) -> list[Trial]:
        """The trials, the best first; those that diverged last."""
        return ranked(self.trials, self.larger_is_better)

    @property
    def best(self) -> Trial:
        """The trial with the best metric.

        Raises:
          ValueError: every one diverged.
        """
        first = self.ranked[0]
        if first.diverged:
            raise ValueError(f"all {len(self.trials)} trials diverged: search smaller learning rates")
        return first

    @property
    def edges(self) -> dict[str, str]:
        """The arguments of the best trial that lie at an end of where was looked, "low" or "high"."""
        return at_the_edge(self.space, self.best.values)

    def sensitivity(self, name: str = "learning_rate") -> list[tuple[float, float]]:
        """That argument and the metric of every trial, by the argument; not a number where it diverged."""
        return sorted((trial.values[name], trial.metric) for trial in self.trials)

    def __repr__(self) -> str:
        lost = sum(trial.diverged for trial in self.trials)
        head = f"{len(self.trials)} trials on {self.task}" + (f", {lost} diverged" if lost else "")
        if lost == len(self.trials):
            return head
        values = ", ".join(f"{n}={v:.4g}" if isinstance(v, float) else f"{n}={v}" for n, v in self.best.values.items())
        return f"{head}; best {self.metric} {self.best.metric:.4g}: {values}"


def sweep(
    task: Task,
    factory: Factory,
    space: Space,
    *,
    trials: int = 16,
    steps: int | None = None,
    seed: int = 0,
    seeds: int = 1,
    sampler: Sampler = "sobol",
    halving: int | None = None,
    way: Way | None = None,
    devices: Sequence[Any] | None = None,
    mesh: Mesh | Sizes | None = None,
    checkpoint: str | PathLike[str] | None = None,
    progress: Silent | None = None,
) -> Sweep:
    """Trains an optimizer with many settings of its arguments, and tells which did best on the validation examples.

    Trials share first weights and batches. One that diverges is marked, and stops nobody. The fastest way to run them
    is found out with a few steps; see `Way`.

    Args:
      task: what to train.
      factory: `factory(**values)` gives the optimizer, ours or optax's. Arguments may go into schedules:
        `lambda learning_rate, warmup: jol.adamw(jol.warmup_cosine_decay_schedule(0.0, learning_rate, warmup, 1000))`.
      space: argument -> `Range` or `Choice`.
      trials: how many settings.
      steps: updates of each; the task's own number if None.
      seed: of the settings, the first weights and the batches.
      seeds: how often each setting is trained, from other weights; the metric is the mean.
      sampler: "sobol", "random", "grid"; "tpe" learns from what it has seen (needs the package optuna).
      halving: the share of trials that goes on, a half for 2, at each of several points on the way; all if None. It
        judges before the end, so it wrongs settings that begin slowly, and schedules that decay late.
      way: how to run them; found out if None.
      devices: where; all of this process if None.
      mesh: where, instead: its devices, among which the trials are divided; "data=4", or a `jax.sharding.Mesh`.
      checkpoint: a folder; the same call after an interruption goes on with the trials in it.
      progress: who is told.

    Raises:
      TypeError, ValueError: an argument of the wrong kind, or out of range; `BadSpace`, a space that cannot be
        searched; `OtherSweep`, a folder with another sweep.
      Unfit: the parts of the task do not fit together.
      ImportError: "tpe" without optuna.

    Sources: K. Jamieson, A. Talwalkar, AISTATS 2016, arXiv:1502.07943, algorithm 1 (halving); J. Bergstra et al.,
    NeurIPS 2011 (TPE).
    """
    steps = task.steps if steps is None else steps
    for name, number, low in (("trials", trials, 1), ("steps", steps, 1), ("seed", seed, 0), ("seeds", seeds, 1)):
        whole(name, number, low)
    if sampler not in SAMPLERS:
        raise ValueError(f"sampler must be one of {', '.join(SAMPLERS)}, got {sampler!r}")
    if halving is not None:
        whole("halving", halving, 2)
        if sampler == "tpe":
            raise ValueError("halving goes with samplers that draw all trials at once, not with 'tpe'")
    if mesh is not None:
        if devices is not None:
            raise ValueError("trials are divided among the devices of a mesh or among those named, give one of the two")
        devices = list(mesh_of(mesh).devices.flat)
    ground = Ground(task, devices)
    search = Search(ground, factory, space, steps, way=way, progress=progress)
    told = {"task": task.name, "data": ground.sha256, "batch_size": task.batch_size, "space": plain(space)}
    told |= {"steps": steps, "seed": seed, "seeds": seeds, "sampler": sampler, "halving": halving}
    kept = tuple(range(seed, seed + seeds))
    folder = Path(checkpoint) if checkpoint is not None else None
    if sampler == "tpe":
        from jaxopt_lectures.tuning.tpe import searched

        found = searched(search, task.larger_is_better, trials, seed, kept, folder, told)
    else:
        points = draws(space, trials, sampler, (seed,))
        settings = [Setting(number, point, kept) for number, point in enumerate(points)]
        journal = Journal(folder, {**told, "trials": trials}) if folder is not None else None
        found = _trained(search, settings, journal, halving, task.larger_is_better)
    way_told = {"way": str(search.way), "seconds": search.seconds}
    ordered = tuple(sorted(found, key=lambda trial: trial.number))
    return Sweep(task.name, task.metric_name, task.metric_unit, task.larger_is_better, dict(space), ordered, way_told)


def _trained(
    search: Search, settings: Sequence[Setting], journal: Journal | None, halving: int | None, larger_is_better: bool
) -> list[Trial]:
    """The trials that are on disk already, and the others, trained."""
    known = list(journal.trials) if journal else []
    numbers = {trial.number for trial in known}
    left = [setting for setting in settings if setting.number not in numbers]
    keep = journal.add if journal else lambda trials: None
    if halving is None:
        return known + search.train(left, keep)
    if not left:
        return known
    trials = search.halve(settings, halving, larger_is_better)  # who goes on depends on all: nothing is half done
    keep(trials)
    return trials
