"""The command line: parse, call, print. What a command needs beyond the optimizers is imported when it runs."""

import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any, TypeAlias

from cyclopts import App, CycloptsError, Parameter
from cyclopts.validators import Number

from jaxopt_lectures import registry, tasks
from jaxopt_lectures.cli.catalogue import print_card, print_list, print_tasks
from jaxopt_lectures.cli.plan import plan
from jaxopt_lectures.cli.refusal import Refusal, checked, worded
from jaxopt_lectures.tasks.task import Unfit
from jaxopt_lectures.terminal.console import Terminal, flush, forgive_encodings, is_gone, silence

_NAME = "jaxopt-lectures"
_REFUSED, _INTERRUPTED, _UNREAD = 2, 130, 141  # exit codes; the last two are 128 + SIGINT and 128 + SIGPIPE
_Count: TypeAlias = Annotated[int, Parameter(validator=Number(gte=1))]
_Whole: TypeAlias = Annotated[int, Parameter(validator=Number(gte=0))]

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
        return _refuse(worded(error, _NAME))
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
def show(name: str, /, *, store: str | None = None) -> None:
    """Show one optimizer: formula, source, errata, arguments, optax counterpart, state.

    Args:
      name: what `list` calls it.
      store: the state as it is with slots kept in that code: bf16, fp8, int8, int4 ...
    """
    print_card(Terminal(sys.stdout), checked(registry.get, name), store)


@app.command(name="tasks")
def tasks_() -> None:
    """Show every task: the model, its data, when it counts as solved."""
    known = [tasks.get(name, data_dir="." if tasks.reads_files(name) else None) for name in tasks.names()]
    print_tasks(Terminal(sys.stdout), known)
    from_files = ", ".join(filter(tasks.reads_files, tasks.names()))
    reading = f"{from_files} read files from your own folder: --data-dir DIR."
    Terminal(sys.stdout).lines("", reading, "A Task of your own goes by package.module:attribute.")


@app.command(name="compare")
def compare_(
    task: str | None = None,
    /,
    *,
    optimizers: str | None = None,
    suite: str | None = None,
    budget: _Count | None = None,
    seeds: _Count = 5,
    steps: _Count | None = None,
    schedule: str = "cosine",
    warmup: _Whole = 0,
    space: list[str] | None = None,
    target: float | None = None,
    baseline: str | None = None,
    twins: bool = False,
    sampler: str = "sobol",
    seed: _Whole = 0,
    data_dir: Path | None = None,
    out: Path | None = None,
) -> int:
    """Which optimizer is best on a task, all tuned alike? Prints a table; writes a report, data and pictures.

    Each optimizer is tuned once for every seed, with trials of its own draw, chosen by validation, run afresh, and
    judged at the end on the examples to test on. An interrupted comparison goes on by the same command.

    Args:
      task: what to train on: a name of `tasks`, several with commas between, or module:attribute for one of your own.
      optimizers: names of `list`, optax:NAME, FILE.py:NAME, separated by commas; all of `list` if not given.
      suite: lectures or full, instead of a task.
      budget: trials of each tuning; 16, of a suite 8.
      seeds: tunings and runs of each optimizer; 5.
      steps: updates of each run; the task's own number if not given.
      schedule: of the learning rate: cosine, linear, constant.
      warmup: steps in which the rate rises from 0.
      space: where to search: learning_rate=log:1e-4:1, adam.b1=linear:0.8:0.99, momentum=0.9,0.99. May be repeated.
      target: the metric at which the task counts as solved; the task's own if not given.
      baseline: whom the others are compared with; the first if not given.
      twins: check ours against their optax counterparts, from the same start.
      sampler: sobol or random.
      seed: of draws, weights and batches.
      data_dir: folder with the files of a task that reads your own.
      out: folder of the results; results/compare-TASK if not given.
    """
    import jaxopt_lectures.cli.compare as comparing

    budget = budget or (comparing.suites.BUDGET if suite else 16)
    options: dict[str, Any] = {"budget": budget, "seeds": seeds, "steps": steps, "schedule": schedule, "warmup": warmup}
    options |= {"space": space or [], "target": target, "baseline": baseline, "twins": twins}
    return comparing.run(task, suite, optimizers, data_dir, out, options | {"sampler": sampler, "seed": seed})


@app.command(name="report")
def report_(folder: Path, /) -> int:
    """Print a comparison's tables again, and make its report, data and pictures again from its results.json.

    Args:
      folder: the comparison's, as given to compare --out.
    """
    import jaxopt_lectures.cli.compare as comparing

    return comparing.again(folder)


@app.command(name="sweep")
def sweep_(
    task: str,
    /,
    *,
    optimizer: str = registry.DEFAULT,
    space: list[str] | None = None,
    trials: _Count = 16,
    steps: _Count | None = None,
    seed: _Whole = 0,
    seeds: _Count = 1,
    sampler: str = "sobol",
    halving: Annotated[int | None, Parameter(validator=Number(gte=2))] = None,
    schedule: str = "cosine",
    warmup: _Whole = 0,
    range_test: bool = False,
    mesh: str | None = None,
    data_dir: Path | None = None,
    checkpoint: Path | None = None,
) -> int:
    """Try settings of one optimizer's arguments on a task, side by side; print the best as code.

    Args:
      task: what to train on: a name of `tasks`, or module:attribute for a Task of your own.
      optimizer: a name of `list`, optax:NAME, FILE.py:NAME.
      space: where to search: learning_rate=log:1e-4:1, b1=linear:0.8:0.99, momentum=0.9,0.99. May be repeated.
      trials: how many settings.
      steps: updates of each; the task's own number if not given.
      seed: of settings, weights and batches.
      seeds: runs of each setting.
      sampler: sobol, random, grid; tpe learns from what it has seen.
      halving: share of the trials that goes on at each of several points, a half for 2.
      schedule: of the learning rate: cosine, linear, constant.
      warmup: steps in which the rate rises from 0.
      range_test: train once with a growing rate instead, and tell what rates it bears.
      mesh: data=4 for four devices, among which the trials are divided; all if not given.
      data_dir: folder with the files of a task that reads your own.
      checkpoint: folder of the trials; the same command after an interruption goes on.
    """
    import jaxopt_lectures.cli.sweep as sweeping

    options: dict[str, Any] = {"trials": trials, "steps": steps, "seed": seed, "seeds": seeds, "sampler": sampler}
    options |= {"schedule": schedule, "warmup": warmup, "range_test": range_test}
    options |= {"halving": halving, "checkpoint": checkpoint, "mesh": mesh}
    return sweeping.run(task, optimizer, space or [], data_dir, options)


app.command(plan, name="plan")
app.command("jaxopt_lectures.cli.kernels:kernels", name="kernels")


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
    --checkpoint DIR --checkpoint-seconds S --data-dir DIR --mesh data=4,model=2 --zero 0|1|3 --scatter true, and in
    each of several processes --coordinator HOST:PORT|auto --processes N --process-id I.

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


def _refuse(message: str) -> int:
    Terminal(sys.stderr).lines(f"{_NAME}: {message}")
    return _REFUSED
