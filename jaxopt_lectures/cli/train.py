"""`train` and `inspect`: options to `fit`, and what a run left behind to a page."""

import dataclasses
import logging
import math
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jaxopt_lectures.cli.config as config
from jaxopt_lectures import tasks
from jaxopt_lectures.cli.curves import curve
from jaxopt_lectures.cli.refusal import Refusal, task_name, warned
from jaxopt_lectures.tasks.task import Task
from jaxopt_lectures.terminal.console import Terminal
from jaxopt_lectures.training import folder as folders
from jaxopt_lectures.training import picture
from jaxopt_lectures.training.fit import fit
from jaxopt_lectures.training.history import History, from_lines
from jaxopt_lectures.training.log import metric_text
from jaxopt_lectures.training.processes import first, joined
from jaxopt_lectures.training.stopping import Stop

_INTERRUPTED, _UNFINISHED = 130, 1
_WIDTH, _HEIGHT = 78, 8
_WAYS = {"loop": "many steps in one program", "single": "one program a step"}


def train(given: dict[str, Any], file: Path | None, resume: Path | None) -> int:
    """Trains as the options say; those of the command line go before the file's, the file's before the defaults."""
    given = {name.replace("-", "_"): value for name, value in given.items()}
    given = {name: value if name in config.WORDS else config.literal(value) for name, value in given.items()}
    options = dict(config.DEFAULTS)
    if resume is not None:
        options |= config.read_folder(resume) | {"checkpoint": str(resume)}
    if file is not None:
        options |= config.read_toml(file)
    options |= given
    if options["task"] is None:
        raise Refusal("train what? name a task, or --resume DIR; `jaxopt-lectures tasks` lists them")
    for word in config.WORDS:
        if options[word] is not None and not isinstance(options[word], str):
            raise Refusal(f"{word} must be a word, got {options[word]!r}")
    terminal = Terminal(sys.stderr)
    with _told(terminal), joined(*(options[word] for word in ("coordinator", "processes", "process_id"))):
        return _trained(options, terminal)


def _trained(options: dict[str, Any], terminal: Terminal) -> int:
    """Trains, alone or as one of several processes, and tells how it ended."""
    task = tasks.get(task_name(options["task"]), options["data_dir"])
    if options["batch_size"] is not None:
        task = dataclasses.replace(task, batch_size=options["batch_size"])
    steps = task.steps if options["steps"] is None else options["steps"]
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < 1:
        raise Refusal(f"steps must be a whole number, at least 1, got {steps!r}")
    tx = config.optimizer(options, steps)
    arguments = {word: options[word] for word in ("seed", "eval_every", "on_nonfinite", "accumulate", "compute_dtype")}
    arguments |= {
        word: options[word] for word in ("way", "checkpoint", "checkpoint_seconds", "mesh", "zero", "scatter")
    }
    stop = Stop(options["to_target"] or None, options["patience"], None, options["seconds"])
    if options["checkpoint"] is not None:
        kept = {key: value for key, value in options.items() if value != config.DEFAULTS.get(key, ...)}
        arguments["notes"] = {key: value for key, value in kept.items() if key not in config.OF_THE_START}
    history = fit(task, tx, steps=steps, stop=stop, log="bar" if terminal.animated else "lines", **arguments)
    if first():
        _tell(task, history, options["checkpoint"])
    if history.ended == "interrupted":
        return _INTERRUPTED
    return _UNFINISHED if history.ended == "nonfinite" or not history.saved else 0


@contextmanager
def _told(terminal: Terminal) -> Iterator[None]:
    """Errors as one line, warnings as lines."""
    logging.getLogger("absl").setLevel(logging.CRITICAL)  # orbax tells of a full disk in a hundred lines, we in one
    with warned(terminal):
        try:
            yield
        except (TypeError, ValueError) as error:
            raise Refusal(str(error)) from error


def _tell(task: Task, history: History, checkpoint: Any) -> None:
    """How it ended."""
    words = {
        "steps": "all steps taken",
        "target": "target reached",
        "patience": "no better metric for as many looks as were to be waited",
        "gradient_norm": "gradient small enough",
        "seconds": "time is up",
        "nonfinite": "ended at a loss or gradient that is not finite",
        "interrupted": "interrupted",
    }
    lines = [words[history.ended or "steps"]]
    if history.records:
        last, best = history.records[-1], history.best
        reached, top = (metric_text(task.metric_name, task.metric_unit, look["metric"]) for look in (last, best))
        lines.append(f"step {last['step']}: loss {last['loss']:.4g}, {reached}")
        lines.append(f"best: {top} at step {best['step']}")
    lines += [f"{event['event']}: {event['message']}" for event in history.events[-1:]]
    if checkpoint is not None:
        lines.append(f"kept in {checkpoint}; curves: jaxopt-lectures inspect {checkpoint}")
    Terminal(sys.stdout).lines(*lines)


def inspect(path: Path) -> None:
    """Prints what a run was told, its curves and its end, and writes its picture beside them."""
    try:
        run = folders.read(path)
        records, events = from_lines(folders.lines(path))
    except ValueError as error:
        raise Refusal(str(error)) from error
    terminal = Terminal(sys.stdout)
    environment, done = run["environment"], records[-1]["step"] if records else 0
    told = {
        "task": f"{run['task']}: {run['summary']}",
        "optimizer": run["optimizer"],
        "steps": f"{done} of {run['steps']}, batches of {run['batch_size']}, seed {run['seed']}",
        "parameters": f"{run['parameters']:,}",
        "way": _WAYS.get(run.get("way", ""), "not chosen yet"),
        "begun": f"{environment['date']}, {environment['device']}, jax {environment['jax']}",
    }
    terminal.lines(*[f"{name:<11} {value}" for name, value in told.items()])
    unicode = terminal.can_show("█")
    for name, title in (("loss", "training loss"), ("metric", f"validation {run['metric']}")):
        if records:
            steps, values = [record["step"] for record in records], [record[name] for record in records]
            low = min((value for value in values if math.isfinite(value)), default=0.0)
            scale = name == "loss" and low > 0
            terminal.lines("", f"{title}{', logarithmic' if scale else ''}")
            terminal.lines(*curve(steps, values, _WIDTH, _HEIGHT, unicode, scale))
    terminal.lines("", *_end(run, records))
    terminal.lines(*[f"step {event['step']}: {event['event']}: {event['message']}" for event in events])
    if records:
        terminal.lines(f"written: {picture.save(run, records, path)}")


def _end(run: Mapping[str, Any], records: list[dict[str, Any]]) -> list[str]:
    if not records:
        return ["no look yet"]
    last = records[-1]
    rate = f"{last['seconds']:.1f} s of training, {last['steps_per_second']:,.0f} steps/s at the end"
    reached = metric_text(run["metric"], run["metric_unit"], last["metric"])
    skipped = f", {last['skipped']} steps skipped" if last["skipped"] else ""
    return [f"step {last['step']}: loss {last['loss']:.4g}, {reached}{skipped}; {rate}"]
