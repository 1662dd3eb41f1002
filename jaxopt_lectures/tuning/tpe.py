"""A search that learns from what it has seen: Optuna's tree-structured Parzen estimator, asked and told.

The study is Optuna's, in its journal file: several processes, or machines with one file system, search it together.

Source: J. Bergstra, R. Bardenet, Y. Bengio, B. Kegl, NeurIPS 2011.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxopt_lectures.core.card import Choice, Range
from jaxopt_lectures.records.files import make_writable
from jaxopt_lectures.records.plain import plain
from jaxopt_lectures.tuning.journal import check_same
from jaxopt_lectures.tuning.search import Search, Setting
from jaxopt_lectures.tuning.trials import Trial

_TOGETHER = 8
"""Trials that are asked for before what came of them is told; they run side by side."""
_WORST = 1e30
"""What a trial that diverged is said to have lost."""
_APART = 1009
_NAME = "sweep"


def searched(
    search: Search,
    larger_is_better: bool,
    trials: int,
    seed: int,
    seeds: tuple[int, ...],
    folder: Path | None,
    told: Mapping[str, Any],
) -> list[Trial]:
    """Trials of a study, until it has so many; those of other processes count.

    Args:
      search: what trains.
      larger_is_better: whether the metric rises.
      trials: how many there are to be.
      seed: of the sampler. Who joins a study draws otherwise than who began it.
      seeds: of the runs of each trial.
      folder: where the study is kept; in memory if None.
      told: what is searched.

    Raises:
      ImportError: Optuna is not installed.
      OtherSweep: the folder holds a study of something else.
    """
    try:
        import optuna
    except ImportError as error:
        raise ImportError("sampler='tpe' needs the package optuna: pip install optuna") from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage = None
    if folder is not None:
        from optuna.storages import JournalStorage
        from optuna.storages.journal import JournalFileBackend

        make_writable(folder)
        storage = JournalStorage(JournalFileBackend(str(folder / "study.log")))
    study = optuna.create_study(storage=storage, study_name=_NAME, direction="minimize", load_if_exists=True)
    _check_same(study, told, folder)
    joined = len(study.get_trials(deepcopy=False))
    study.sampler = optuna.samplers.TPESampler(seed=seed + _APART * joined, constant_liar=True)
    sign = -1.0 if larger_is_better else 1.0
    while (left := trials - len(_done(study))) > 0:
        asked = [study.ask(_distributions(search)) for _ in range(min(_TOGETHER, left))]
        values = [{name: _value(search.space[name], one.params[name]) for name in search.space} for one in asked]
        settings = [Setting(one.number, point, seeds) for one, point in zip(asked, values, strict=True)]
        by_number = {one.number: one for one in asked}

        def keep(ready: list[Trial], asked: Mapping[int, Any] = by_number) -> None:
            for trial in ready:
                asked[trial.number].set_user_attr("trial", plain(trial))
                study.tell(asked[trial.number], _WORST if trial.diverged else sign * trial.metric)

        search.train(settings, keep)
    return [Trial.from_plain(one.user_attrs["trial"]) for one in _done(study)]


def _done(study: Any) -> list[Any]:
    return [one for one in study.get_trials(deepcopy=False) if one.state.is_finished()]


def _check_same(study: Any, told: Mapping[str, Any], folder: Path | None) -> None:
    asked = json.loads(json.dumps(told))
    before = study.user_attrs.get("told")
    if before is None:
        study.set_user_attr("told", asked)
        return
    check_same(before, asked, folder, "study")


def _distributions(search: Search) -> dict[str, Any]:
    from optuna.distributions import CategoricalDistribution, FloatDistribution

    found: dict[str, Any] = {}
    for name, where in search.space.items():
        if isinstance(where, Range):
            found[name] = FloatDistribution(where.low, where.high, log=where.scale == "log")
        else:
            found[name] = CategoricalDistribution(range(len(where.values)))
    return found


def _value(where: Range | Choice, found: Any) -> Any:
    return where.values[found] if isinstance(where, Choice) else float(found)
