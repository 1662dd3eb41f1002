"""`sweep`: options to a search, and what it found."""

import math
import sys
from pathlib import Path
from typing import Any

from jaxopt_lectures import tasks
from jaxopt_lectures.cli.compare import spaces
from jaxopt_lectures.cli.curves import curve
from jaxopt_lectures.cli.refusal import Refusal, task_name
from jaxopt_lectures.comparison.entries import Entry, Unknown, entry, scheduled, with_space
from jaxopt_lectures.tasks.task import Task
from jaxopt_lectures.terminal.console import Terminal, new_table
from jaxopt_lectures.training.log import metric_text
from jaxopt_lectures.tuning.decay import over_the_run
from jaxopt_lectures.tuning.progress import shown
from jaxopt_lectures.tuning.range_test import RangeTest, range_test
from jaxopt_lectures.tuning.space import BadSpace
from jaxopt_lectures.tuning.sweep import Sweep, sweep

_SHOWN = 10
_WIDTH, _HEIGHT = 78, 10


def run(name: str, optimizer: str, space: list[str], data_dir: Path | None, options: dict[str, Any]) -> int:
    """Searches as the options say, and prints the best."""
    task = tasks.get(task_name(name), data_dir)
    schedule, warmup, ranging = (options.pop(word) for word in ("schedule", "warmup", "range_test"))
    try:
        (one,) = with_space([entry(optimizer)], spaces(space))
        if ranging:
            _tell_range(range_test(task, one.factory, seed=options["seed"]))
            return 0
        if not one.space:
            raise Refusal(f"{optimizer} has nothing to search; say what with --space NAME=log:LOW:HIGH")
        steps = options.pop("steps") or task.steps
        one = scheduled(one, *over_the_run(schedule, steps, warmup))
        runs = options["trials"] * options["seeds"]
        with shown(runs * steps) as display:
            found = sweep(task, one.build, one.space, steps=steps, progress=display, **options)
    except (Unknown, BadSpace, TypeError, ValueError, ImportError) as error:
        raise Refusal(str(error)) from error
    _tell(task, one, found)
    return 0 if any(not trial.diverged for trial in found.trials) else 1


def _tell(task: Task, one: Entry, found: Sweep) -> None:
    terminal = Terminal(sys.stdout)
    table = new_table()
    for header in (f"{task.metric_name}", *found.space, "training loss"):
        table.add_column(header, justify="right", no_wrap=True)
    for trial in found.ranked[:_SHOWN]:
        values = (f"{value:.4g}" if isinstance(value, float) else f"{value}" for value in trial.values.values())
        reached = "diverged" if trial.diverged else metric_text("", task.metric_unit, trial.metric).strip()
        table.add_row(reached, *values, f"{trial.losses[-1]:.4g}")
    lost = sum(trial.diverged for trial in found.trials)
    more = f", the best {_SHOWN}" if len(found.trials) > _SHOWN else ""
    terminal.lines(f"{one.name} on {task.name}: {len(found.trials)} trials, {lost} diverged{more}", "")
    terminal.table(table)
    good = [(value, metric) for value, metric in _sensitivity(found) if math.isfinite(metric)]
    if len(good) > 1:
        terminal.lines("", f"validation {task.metric_name} by learning_rate, logarithmic")
        ends = f"{good[0][0]:.2g}", f"{good[-1][0]:.2g}"
        rates, metrics = [math.log10(value) for value, _ in good], [metric for _, metric in good]
        terminal.lines(*curve(rates, metrics, _WIDTH, _HEIGHT, terminal.can_show("█"), ends=ends))
    if lost < len(found.trials):
        for name, end in found.edges.items():
            terminal.lines(f"the best {name} lies at the {end} end of where was searched: search further")
        terminal.lines("", one.code(found.best.values))


def _sensitivity(found: Sweep) -> list[tuple[float, float]]:
    return found.sensitivity() if "learning_rate" in found.space else []


def _tell_range(found: RangeTest) -> None:
    terminal = Terminal(sys.stdout)
    steps = len(found.smoothed)
    terminal.lines(
        f"smoothed training loss by step, the rate growing from {found.rates[0]:g} to {found.rates[steps - 1]:.3g}"
    )
    terminal.lines(*curve(range(steps), found.smoothed, _WIDTH, _HEIGHT, terminal.can_show("█")))
    terminal.lines(repr(found))
