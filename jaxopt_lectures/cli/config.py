"""What `train` is told, as a plain mapping: from options, from a TOML file, from the folder of a run."""

import ast
import inspect
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import optax

from jaxopt_lectures import registry
from jaxopt_lectures.cli.refusal import Refusal, checked
from jaxopt_lectures.clipping import clip_by_global_norm
from jaxopt_lectures.core.transformation import chain
from jaxopt_lectures.training import folder
from jaxopt_lectures.tuning.decay import over_the_run

DEFAULTS: dict[str, Any] = {
    "task": None,
    "optimizer": registry.DEFAULT,
    "schedule": "constant",
    "warmup": 0,
    "clip": None,
    "steps": None,
    "seed": 0,
    "batch_size": None,
    "eval_every": None,
    "on_nonfinite": "stop",
    "accumulate": 1,
    "compute_dtype": None,
    "way": "auto",
    "to_target": False,
    "patience": None,
    "seconds": None,
    "data_dir": None,
    "checkpoint": None,
    "checkpoint_seconds": 30.0,
    "mesh": None,
    "zero": 1,
    "scatter": False,
    "coordinator": None,
    "processes": None,
    "process_id": None,
}
WORDS = (
    "task",
    "optimizer",
    "schedule",
    "on_nonfinite",
    "compute_dtype",
    "way",
    "data_dir",
    "checkpoint",
    "mesh",
    "coordinator",
)
OF_THE_START = ("mesh", "zero", "scatter", "coordinator", "processes", "process_id")
"""Options that say on what is trained: a run that is gone on with may have others."""
"""Options that are words, also where they look like numbers."""


def read_toml(path: Path) -> dict[str, Any]:
    """The options in a TOML file, by their names, with hyphens or without."""
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise Refusal(f"cannot read --config {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise Refusal(f"--config {path} is not TOML: {error}") from error
    return {name.replace("-", "_"): value for name, value in content.items()}


def read_folder(path: Path) -> dict[str, Any]:
    """The options that the run in this folder was begun with."""
    try:
        notes = folder.read(path)["notes"]
    except ValueError as error:
        raise Refusal(str(error)) from error
    if not notes:
        raise Refusal(f"{path} holds a run that was not begun with `train`: call jol.fit again, as it was")
    return dict(notes)


def literal(text: Any) -> Any:
    """A word of the command line as the number, bool or None that it names, else as it is."""
    if not isinstance(text, str):
        return text
    named = {"true": True, "false": False, "none": None}
    if text.lower() in named:
        return named[text.lower()]
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
    return value if isinstance(value, (int, float)) else text


def optimizer(options: Mapping[str, Any], steps: int) -> optax.GradientTransformation:
    """The optimizer that the options describe: a card of ours, or `optax:name`; with a schedule, warm-up, clipping."""
    name = options["optimizer"]
    hypers = {key: value for key, value in options.items() if key not in DEFAULTS}
    if name.startswith("optax:"):
        factory = getattr(optax, name.removeprefix("optax:"), None)
        if factory is None or not callable(factory):
            raise Refusal(f"optax has no optimizer {name.removeprefix('optax:')!r}")
        rate = 1e-3
    else:
        card = checked(registry.get, name)
        factory, rate = card.factory, card.learning_rate
    known = inspect.signature(factory).parameters
    for key in hypers:
        if key not in known:
            raise Refusal(registry.unknown(key, f"option of train or argument of {name}", [*known, *DEFAULTS]))
    if "learning_rate" in known:
        peak = hypers.get("learning_rate", rate)
        hypers["learning_rate"] = scheduled(options["schedule"], peak, steps, options["warmup"])
    elif options["schedule"] != "constant" or options["warmup"]:
        raise Refusal(f"{name} has no learning_rate to schedule")
    try:
        tx = factory(**hypers)
        return chain(clip_by_global_norm(options["clip"]), tx) if options["clip"] is not None else tx
    except (TypeError, ValueError) as error:
        raise Refusal(f"{name}: {error}") from error


def scheduled(name: str, peak: Any, steps: int, warmup: Any) -> Any:
    """The rate over the run: linearly up to `peak` in `warmup` steps, then as `name` says, to 0 at the end."""
    if isinstance(peak, bool) or not isinstance(peak, (int, float)):
        raise Refusal(f"learning_rate must be a number, got {peak!r}")
    try:
        return over_the_run(name, steps, warmup)[0](peak)
    except (TypeError, ValueError) as error:
        raise Refusal(str(error)) from error
