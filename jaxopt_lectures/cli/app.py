"""The command line: parse, call, print. What a command needs beyond the optimizers is imported when it runs."""

import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import App, CycloptsError, Parameter
from cyclopts.validators import Number

from jaxopt_lectures import registry, tasks
from jaxopt_lectures.cli.catalogue import print_card, print_list, print_tasks
from jaxopt_lectures.cli.refusal import Refusal, checked
from jaxopt_lectures.core.card import Card
from jaxopt_lectures.tasks.task import Unfit
from jaxopt_lectures.terminal.console import Terminal, flush, forgive_encodings, is_gone, silence

if TYPE_CHECKING:
    from jaxopt_lectures.compare.results import Report

_NAME = "jaxopt-lectures"
_REFUSED, _INTERRUPTED, _UNREAD = 2, 130, 141  # exit codes; the last two are 128 + SIGINT and 128 + SIGPIPE

app = App(
    name=_NAME,
    help="Optimizers for JAX that can be read, trusted and compared.",
    version=lambda: metadata.version(_NAME),
    result_action="return_value",
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line and returns its exit code.

    Args:
      arguments: the words after the program's name; those it was started with if None.
    """
    forgive_encodings()
    try:
        code = app(sys.argv[1:] if arguments is None else arguments, exit_on_error=False, print_error=False)
        flush()
        return code if isinstance(code, int) else 0
    except CycloptsError as error:
        return _refuse(_worded(error))
    except (Refusal, Unfit) as error:
        return _refuse(str(error))
    except KeyboardInterrupt:
        Terminal(sys.stderr).lines("interrupted")
        return _INTERRUPTED
    except OSError as error:
        code = _UNREAD if is_gone(error) else _refuse(str(error))
        silence()
        return code


@app.command(name="list")
def list_() -> None:
    """Show every optimizer: source, place in the lectures, state, optax counterpart, what it does."""
    print_list(Terminal(sys.stdout), [*registry.cards(), *registry.solvers()])
    Terminal(sys.stdout).lines(
        "",
        "state: bytes per parameter. lectures: 000 to 004, named in the README.",
        f"All about one: {_NAME} show NAME",
    )


@app.command
def show(name: str, /) -> None:
    """Show one optimizer: formula, source, errata, arguments, optax counterpart, state.

    Args:
      name: what `list` calls it.
    """
    print_card(Terminal(sys.stdout), checked(registry.get, name))


@app.command(name="tasks")
def tasks_() -> None:
    """Show every task: the model, its data, when it counts as solved."""
    known = [tasks.get(name, data_dir="." if tasks.reads_files(name) else None) for name in tasks.names()]
    print_tasks(Terminal(sys.stdout), known)
    from_files = ", ".join(filter(tasks.reads_files, tasks.names()))
    Terminal(sys.stdout).lines(
        "",
        f"{from_files} read files from your own folder: --data-dir DIR.",
        "A Task of your own goes by package.module:attribute.",
    )


@app.command
def compare(
    task: str,
    /,
    *,
    optimizers: str | None = None,
    steps: Annotated[int | None, Parameter(validator=Number(gte=1))] = None,
    seeds: Annotated[int, Parameter(validator=Number(gte=1))] = 3,
    data_dir: Path | None = None,
    out: Path | None = None,
) -> int:
    """Train optimizers and their optax counterparts side by side on a task; print a table, write results and a picture.

    Args:
      task: what to train on: a name of `tasks`, or module:attribute for a Task of your own.
      optimizers: names separated by commas; all of `list` if not given.
      steps: updates of each optimizer; the task's own number if not given.
      seeds: how often each is trained, from other weights.
      data_dir: folder with the files of a task that reads your own.
      out: folder for results.json and curves.png; results/compare-TASK if not given.
    """
    name, cards = checked(tasks.known, task), _cards(optimizers)
    folder = out or Path("results") / f"compare-{name.replace(':', '-')}"
    from jaxopt_lectures.compare import progress, protocol, runs

    with progress.shown(len(cards)) as display:
        chosen = tasks.get(name, data_dir)
        ground = runs.Ground(chosen, runs.Settings(steps or chosen.steps, seeds))
        _make_writable(folder)  # before hours of training, not after
        report = protocol.compare(ground, cards, display)
    if report.results:
        _tell(report, folder if report.complete else _beside_complete(folder))
    if report.complete:
        return 0
    Terminal(sys.stderr).lines(f"interrupted: {len(report.results)} of {len(cards)} optimizers were finished")
    return _INTERRUPTED


@app.command(name="train")
def train_(
    task: str | None = None,
    /,
    *,
    optimizer: str | None = None,
    config: Path | None = None,
    resume: Path | None = None,
    **options: str,
) -> int:
    """Train a task's model; with --checkpoint, the same command after a kill goes on where it was.

    Any argument of the optimizer is an option: --learning-rate 1e-3 --b1 0.95. So are --schedule constant|cosine|linear
    --warmup STEPS --clip NORM --steps N --seed N --batch-size N --eval-every STEPS --on-nonfinite stop|skip|rollback
    --accumulate N --compute-dtype bfloat16 --way auto|loop|single --to-target true --patience LOOKS --seconds S
    --checkpoint DIR --checkpoint-seconds S --data-dir DIR.

    Args:
      task: what to train: a name of `tasks`, or module:attribute for a Task of your own.
      optimizer: a name of `list`, or optax:NAME; the first that most people try if not given.
      config: a TOML file of options; those of the command line go before it.
      resume: the folder of a run to go on with; its options are known.
      options: see above.
    """
    import jaxopt_lectures.cli.train as train

    given = {"task": task, "optimizer": optimizer, **options}
    return train.train({name: value for name, value in given.items() if value is not None}, config, resume)


@app.command
def inspect(folder: Path, /) -> None:
    """Show a training run: what it was told, where, its curves, how it ended; write its picture.

    Args:
      folder: the run's, as given to train --checkpoint.
    """
    import jaxopt_lectures.cli.train as train

    train.inspect(folder)


def _make_writable(folder: Path) -> None:
    from jaxopt_lectures.records.files import make_writable

    try:
        make_writable(folder)
    except OSError as error:
        raise Refusal(f"cannot write to --out {folder}: {error.strerror}; name another folder") from error


def _beside_complete(folder: Path) -> Path:
    """Where an interrupted comparison goes: it does not replace a complete one."""
    from jaxopt_lectures.compare.results import read
    from jaxopt_lectures.records.files import make_writable

    try:
        if read(folder / "results.json").complete:
            folder = folder / "interrupted"
            make_writable(folder)
    except (OSError, ValueError):
        pass  # nothing complete to protect
    return folder


def _tell(report: "Report", folder: Path) -> None:
    """Writes the results, prints them, and says where they are."""
    from jaxopt_lectures.compare import plot, table

    terminal = Terminal(sys.stdout)
    plus_minus = "±" if terminal.can_show("±") else "+-"
    try:
        written = report.save(folder), plot.save(report, folder)
    except OSError as error:
        raise Refusal(f"cannot write to {folder}: {error.strerror}") from error
    finally:  # the numbers are shown even where they cannot be kept
        terminal.table(table.comparison(report, plus_minus))
        terminal.lines("", *table.notes(report, plus_minus))
    terminal.lines("", *[f"written: {path}" for path in written])


def _cards(names: str | None) -> list[Card]:
    """The cards of a comma-separated list of names, all cards if None."""
    if names is None:
        return list(registry.cards())
    wanted = [name.strip() for name in names.split(",") if name.strip()]
    if not wanted:
        raise Refusal(f"--optimizers {names!r} names none; known: {', '.join(card.name for card in registry.cards())}")
    return [checked(registry.get, name) for name in dict.fromkeys(wanted)]


def _worded(error: CycloptsError) -> str:
    """The parser's message as one line, ending with where to look."""
    words = " ".join(str(error).split())
    command = " ".join([_NAME, *(error.command_chain or ())])
    return f"{words} Try {command} --help"


def _refuse(message: str) -> int:
    Terminal(sys.stderr).lines(f"{_NAME}: {message}")
    return _REFUSED
