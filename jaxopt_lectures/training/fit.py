"""`fit`: what is asked for is checked, a run that was cut off is gone on with, and the loop runs."""

import contextlib
import shutil
import signal
import warnings
from collections.abc import Callable, Iterator, Mapping
from os import PathLike
from pathlib import Path
from typing import Any, Literal

import jax
import optax
from jax.sharding import Mesh

from jaxopt_lectures.core.transformation import Transformation
from jaxopt_lectures.records import environment
from jaxopt_lectures.scaling.layouts import Rules
from jaxopt_lectures.scaling.meshes import Sizes
from jaxopt_lectures.tasks.task import Data, Task, check
from jaxopt_lectures.terminal.interrupts import Interrupts
from jaxopt_lectures.training.checkpoints import Checkpoints, Unreadable
from jaxopt_lectures.training.folder import Folder
from jaxopt_lectures.training.history import History
from jaxopt_lectures.training.keeper import Keeper, restored
from jaxopt_lectures.training.log import Log, shown
from jaxopt_lectures.training.loop import Loop
from jaxopt_lectures.training.placement import Placement, placed
from jaxopt_lectures.training.processes import settled, watched
from jaxopt_lectures.training.program import start
from jaxopt_lectures.training.settings import NonFinite, Settings, settings
from jaxopt_lectures.training.stopping import Stop
from jaxopt_lectures.training.ways import Way

_WRITTEN = 5
"""Checkpoints that may be on disk at once: three, the best, and one being written."""
_KEPT = ("way", "rollback", "environment")
"""What `run.json` says of the beginning, however often the run is gone on with."""
_SAME = ("task", "data_sha256", "batch_size", "seed", "accumulate", "compute_dtype")


def fit(
    task: Task,
    tx: optax.GradientTransformation,
    *,
    steps: int | None = None,
    seed: int = 0,
    checkpoint: str | PathLike[str] | None = None,
    resume: Literal["auto"] | bool = "auto",
    log: Log = "auto",
    eval_every: int | None = None,
    stop: Stop | None = None,
    on_nonfinite: NonFinite = "stop",
    checkpoint_seconds: float = 30.0,
    accumulate: int = 1,
    compute_dtype: Any = None,
    way: Way | Literal["auto"] = "auto",
    resident: bool | None = None,
    mesh: Mesh | Sizes | None = None,
    zero: int = 1,
    rules: Rules | None = None,
    scatter: bool = False,
    notes: Mapping[str, Any] | None = None,
) -> History:
    """Trains a task's model.

    With `checkpoint`, the same call after a kill at any instant goes on where it was, and ends with the parameters that
    it would have ended with, to the last bit. Ctrl-C and SIGTERM end it after the steps under way, with all kept.

    With `mesh` several devices give the same numbers but for rounding. A run may go on on another mesh, or on one
    device; to the last bit the same it is on the same mesh. Several processes all call `fit` alike, after
    `jax.distributed.initialize`, with a mesh of all their devices; the first alone writes and speaks.

    Args:
      task: model, data, loss and metric.
      tx: the optimizer, ours or optax's.
      steps: updates to take, those before a resume included; the task's own number if None.
      seed: of the parameters and of the order of the examples.
      checkpoint: the run's folder: `run.json`, `history.jsonl`, and the last three checkpoints and the best.
      resume: "auto" goes on with what is in the folder, if there is something; True insists; False refuses.
      log: "bar" or "lines" on stderr, a function of each record, None; "auto" is a bar where stderr is a terminal.
      eval_every: steps between two looks at the metric; a twentieth of `steps` if None.
      stop: reasons to end earlier.
      on_nonfinite: what to do at a loss or gradient that is not finite. Such a step changes nothing; "skip" goes on
        with the next (up to 100 in a row), "stop" ends, "rollback" goes back to the last checkpoint, with half the
        updates and in another order of the examples, up to ten times; it makes a checkpoint at each look.
      checkpoint_seconds: at least so many pass between two checkpoints; there is one at the end in any case.
      accumulate: into how many microbatches a batch is cut, see `make_step`.
      compute_dtype: "bfloat16" computes the loss in it; the parameters keep their dtype.
      way: "loop" runs many steps in one program, "single" a program a step, "auto" tries which is faster. A run
        keeps its way: the two round differently.
      resident: whether the examples stay on the device; None where they fill no more than a quarter of it.
      mesh: devices to train on, a `jax.sharding.Mesh` or "data=4,model=2": the batch is cut along "data". If None, one
        device; of several processes all devices, along "data".
      zero: 0, the optimizer's state lies as the parameters do; 1, it is cut along "data" (ZeRO-1); 3, the parameters
        are, too (FSDP).
      rules: which mesh axes cut which axes of which parameters, see `params_sharding`; if None, the `mesh_rules` of the
        model's class, as far as the mesh has their axes.
      scatter: whether each device takes the gradient of its own part of the batch, and gradients are added up where the
        state lies, see `jaxopt_lectures.scaling.gradients`; else the compiler decides.
      notes: what else `run.json` is to say, in JSON's types.

    Raises:
      TypeError, ValueError: an argument of the wrong kind, or out of range.
      Unfit: the parts of the task do not fit together. A ValueError.
      Unreadable: the folder holds something else, or a run of another task, seed, batch size or optimizer. A
        ValueError.
      OSError: the folder cannot be written to.
    """
    if checkpoint is not None:
        watched(Path(checkpoint))
    asked = settings(
        task,
        steps=steps,
        seed=seed,
        eval_every=eval_every,
        stop=stop,
        on_nonfinite=on_nonfinite,
        checkpoint_seconds=checkpoint_seconds,
        accumulate=accumulate,
        compute_dtype=compute_dtype,
        way=way,
        resident=resident,
    )
    if on_nonfinite == "rollback" and checkpoint is None:
        raise ValueError("on_nonfinite='rollback' goes back to a checkpoint: name a folder, checkpoint=DIR")
    if resume not in ("auto", True, False):
        raise ValueError(f"resume must be 'auto', True or False, got {resume!r}")
    placement = placed(task, mesh, zero, rules, scatter, accumulate)
    data = task.data()
    check(task, data)
    placed_tx = tx if placement is None else placement.optimizer(tx)
    state = start(task, placed_tx, seed, placement=placement)
    history = History(larger_is_better=task.larger_is_better)
    with (
        _keeper(
            task, placed_tx, checkpoint, resume, lambda: _told(task, tx, data, asked, state, placement, notes), state
        ) as keeper,
        Interrupts((signal.SIGINT, signal.SIGTERM)) as interrupts,
        shown(log, task, asked.steps) as display,
    ):
        return Loop(task, placed_tx, data, asked, state, history, keeper, display, interrupts, placement).run()


def _told(
    task: Task, tx: Any, data: Data, asked: Settings, state: Any, placement: Placement | None, notes: Any
) -> dict[str, Any]:
    """What `run.json` says of a run; it reads all examples, and asks git."""
    return {
        "task": task.name,
        "summary": task.summary,
        "metric": task.metric_name,
        "metric_unit": task.metric_unit,
        "target": task.target,
        "data_sha256": data.sha256,
        "batch_size": task.batch_size,
        "seed": asked.seed,
        "accumulate": asked.accumulate,
        "compute_dtype": asked.compute_dtype,
        "optimizer": repr(tx) if isinstance(tx, Transformation) else "an optax transformation",
        "steps": asked.steps,
        "eval_every": asked.eval_every,
        "on_nonfinite": asked.on_nonfinite,
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(state.params)),
        **(placement.told() if placement else {}),
        "environment": environment.describe(),
        "notes": dict(notes or {}),
    }


@contextlib.contextmanager
def _keeper(
    task: Task,
    tx: optax.GradientTransformation,
    checkpoint: Any,
    resume: Literal["auto"] | bool,
    describe: Callable[[], dict[str, Any]],
    state: Any,
) -> Iterator[Keeper | None]:
    """What keeps the run on disk, with what it found there; None where nothing is to be kept."""
    if checkpoint is None:
        if resume is True:
            raise ValueError("resume=True needs the folder to resume from: checkpoint=DIR")
        yield None
        return
    path, run = Path(checkpoint), describe()
    folder = Folder(path)
    with folder.alone():
        told = folder.told()
        if resume is True and told is None:
            raise Unreadable(f"{path} holds no run to resume")
        if resume is False and told is not None:
            raise Unreadable(f"{path} holds a run already: name another folder, or let resume be 'auto'")
        if told is not None:
            _check_same_run(path, told, run)
        size = sum(leaf.nbytes for leaf in jax.tree.leaves(state))
        free = settled(lambda: shutil.disk_usage(path).free)
        if told is None and _WRITTEN * size > free:
            raise Unreadable(f"{path} has {free / 1e6:.0f} MB free, checkpoints need {_WRITTEN * size / 1e6:.0f} MB")
        checkpoints = Checkpoints(path / "checkpoints", task.larger_is_better)
        try:
            kept = {name: (told or {})[name] for name in _KEPT if name in (told or {})}
            found = restored(checkpoints, kept, state, tx)
            folder.tell(run | kept)
            folder.cut(found[1]["lines"] if found else 0)
            yield Keeper(folder, checkpoints, run | kept, found, tx)
        finally:
            checkpoints.close()


def _check_same_run(path: Path, told: dict[str, Any], run: dict[str, Any]) -> None:
    for name in _SAME:
        if told.get(name) != run[name]:
            raise Unreadable(
                f"{path} holds a run with {name} {told.get(name)!r}, this one has {run[name]!r}: name another folder"
            )
    if told.get("optimizer") != run["optimizer"]:
        warnings.warn(f"{path}: the optimizer was {told.get('optimizer')}, is now {run['optimizer']}", stacklevel=3)
    before, now = told.get("environment", {}), run["environment"]
    for name in ("jax", "jaxlib", "numpy", "device"):
        if before.get(name) != now[name]:
            warnings.warn(
                f"{path}: {name} was {before.get(name)}, is now {now[name]}: numbers may differ in their last digits",
                stacklevel=3,
            )
