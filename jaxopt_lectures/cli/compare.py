"""`compare` and `report`: options to the protocol, and a report's text and files."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jaxopt_lectures import registry, tasks
from jaxopt_lectures.cli.refusal import Refusal, task_name, warned
from jaxopt_lectures.comparison import files, report, suites
from jaxopt_lectures.comparison.entries import Unknown, entry, with_space
from jaxopt_lectures.comparison.protocol import compared, total_steps
from jaxopt_lectures.comparison.side_by_side import Protocol
from jaxopt_lectures.core.card import Choice, Range
from jaxopt_lectures.tasks.task import Task
from jaxopt_lectures.terminal.console import Terminal
from jaxopt_lectures.tuning.progress import shown
from jaxopt_lectures.tuning.space import BadSpace, parsed

_INTERRUPTED, _FAILED = 130, 1


def run(
    task: str | None,
    suite: str | None,
    optimizers: str | None,
    data_dir: Path | None,
    out: Path | None,
    options: dict[str, Any],
) -> int:
    """Compares as the options say, prints the tables, and says where the files are."""
    chosen, called = _tasks(task, suite, data_dir)
    names = _names(optimizers)
    folder = out or Path("results") / f"compare-{called}"
    space, baseline, twins, target = (options.pop(name) for name in ("space", "baseline", "twins", "target"))
    _check_folder(folder)  # before hours of training, not after
    try:
        entries = with_space([entry(name) for name in names], spaces(space))
        protocol = Protocol(**options)
        protocol.check()
        with shown(total_steps(chosen, entries, protocol)) as display, warned(Terminal(sys.stderr)):
            found, unfinished = compared(chosen, entries, protocol, target, baseline, twins, folder, progress=display)
    except (Unknown, BadSpace, TypeError, ValueError) as error:
        raise Refusal(str(error)) from error
    if found.complete and not any(not result.error for one in found.comparisons for result in one.results):
        raise Refusal("; ".join(found.failed))
    code = _tell(found, folder)
    if found.complete:
        unfinished.clear()
    return code


def again(folder: Path) -> int:
    """Makes everything again from a folder's results.json."""
    try:
        found = report.read(folder)
    except (OSError, files.OtherSchema) as error:
        raise Refusal(f"{folder}: {getattr(error, 'strerror', None) or error}") from error
    return _tell(found, folder if folder.is_dir() else folder.parent)


def spaces(texts: Sequence[str]) -> dict[str, Range | Choice]:
    """What --space says."""
    return dict(parsed(text) for text in texts)


def _tasks(task: str | None, suite: str | None, data_dir: Path | None) -> tuple[list[Task], str]:
    """The tasks, and what they are called together."""
    if (task is None) == (suite is None):
        raise Refusal("compare on what? name a task (several with commas between), or --suite lectures or full")
    if suite is not None:
        if suite not in suites.SUITES:
            raise Refusal(registry.unknown(suite, "suite", list(suites.SUITES)))
        return suites.suite(suite), suite
    assert task is not None
    names = [word.strip() for word in task.split(",") if word.strip()]
    if not names:
        raise Refusal(f"no task in {task!r}")
    names = [task_name(name) for name in names]
    found = [tasks.get(name, data_dir if tasks.reads_files(name) or len(names) == 1 else None) for name in names]
    return found, "-".join(name.replace(":", "-") for name in names)


def _names(names: str | None) -> list[str]:
    """Those of a comma-separated list; all of the lectures if None."""
    if names is None:
        return [card.name for card in registry.cards()]
    wanted = [name.strip() for name in names.split(",") if name.strip()]
    if not wanted:
        raise Refusal(f"--optimizers {names!r} names none; known: {', '.join(card.name for card in registry.cards())}")
    return list(dict.fromkeys(wanted))


def _check_folder(folder: Path) -> None:
    """Whether results can be written there, and are not those of another version; nothing is made yet."""
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        why = "it cannot be written to" if there.is_dir() else "not a directory"
        raise Refusal(f"cannot write to --out {folder}: {there}: {why}; name another folder")
    if (folder / "results.json").exists():
        try:
            report.read(folder)
        except files.OtherSchema as error:
            raise Refusal(f"{folder} holds other results ({error}); name another folder with --out") from error


def _tell(found: report.Report, folder: Path) -> int:
    """Writes the files, prints the tables, says where the files are, and what the exit code is."""
    terminal = Terminal(sys.stdout)
    text = found.table()
    if not terminal.can_show("±×"):
        text = text.replace("±", "+-").replace("×", "x")
    try:
        written = found.save(folder)
    except OSError as error:
        raise Refusal(f"cannot write to {folder}: {error.strerror}") from error
    finally:  # the numbers are shown even where they cannot be kept
        terminal.lines(*text.splitlines(), "")
    terminal.lines(*[f"written: {path}" for path in written])
    if not found.complete:
        Terminal(sys.stderr).lines("interrupted; the same command goes on from here")
        return _INTERRUPTED
    return _FAILED if found.failed else 0
