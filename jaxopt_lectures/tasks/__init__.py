"""Tasks by name. Each stands in its own module, which is imported when the task is asked for."""

import importlib
import sys
from os import PathLike
from pathlib import Path
from typing import Any

from jaxopt_lectures import registry
from jaxopt_lectures.tasks.task import Data, Examples, Task, Unfit

__all__ = ["Data", "Examples", "Task", "Unfit", "get", "known", "names", "reads_files"]

_TASKS = {  # name -> module:attribute, a Task
    "digits": "jaxopt_lectures.tasks.digits:digits",
    "digits_cnn": "jaxopt_lectures.tasks.images:digits_cnn",
    "digits_resnet": "jaxopt_lectures.tasks.images:digits_resnet",
    "digits_vgg": "jaxopt_lectures.tasks.images:digits_vgg",
    "breast_cancer": "jaxopt_lectures.tasks.tables:breast_cancer",
    "diabetes": "jaxopt_lectures.tasks.tables:diabetes",
    "photograph": "jaxopt_lectures.tasks.photographs:photograph",
    "denoising": "jaxopt_lectures.tasks.photographs:denoising",
    "characters_transformer": "jaxopt_lectures.tasks.characters:characters_transformer",
    "characters_lstm": "jaxopt_lectures.tasks.characters:characters_lstm",
    "characters_gru": "jaxopt_lectures.tasks.characters:characters_gru",
    "digits_autoencoder": "jaxopt_lectures.tasks.autoencoders:digits_autoencoder",
    "curves": "jaxopt_lectures.tasks.autoencoders:curves",
    "xor": "jaxopt_lectures.tasks.xor:xor",
    "adding": "jaxopt_lectures.tasks.sequences:adding",
    "memory": "jaxopt_lectures.tasks.sequences:memory",
    "quadratic": "jaxopt_lectures.tasks.descents:quadratic",
    "rosenbrock": "jaxopt_lectures.tasks.descents:rosenbrock",
    "beale": "jaxopt_lectures.tasks.descents:beale",
    "saddle": "jaxopt_lectures.tasks.descents:saddle",
    "plateau": "jaxopt_lectures.tasks.descents:plateau",
    "burgers": "jaxopt_lectures.tasks.burgers:burgers",
}
_FROM_FILES = {  # name -> module:attribute, a function of the user's folder that gives a Task
    "mnist": "jaxopt_lectures.tasks.folders:mnist",
    "fashion_mnist": "jaxopt_lectures.tasks.folders:fashion_mnist",
    "cifar10": "jaxopt_lectures.tasks.folders:cifar10",
}


def names() -> tuple[str, ...]:
    """Every task's name."""
    return (*_TASKS, *_FROM_FILES)


def reads_files(name: str) -> bool:
    """Whether the task of that name reads files of the user, whose folder `get` must then be told."""
    return name in _FROM_FILES


def known(name: str) -> str:
    """The name itself, checked without importing the task (which takes a second).

    A task of the user's own, `package.module:attribute`, is only looked at for its form.

    Raises:
      KeyError: no such task; the message has the nearest name, or all of them.
      Unfit: something with a colon that is not of the form package.module:attribute.
    """
    if ":" in name:
        module, attribute = name.split(":", 1)
        if not (attribute.isidentifier() and all(part.isidentifier() for part in module.split("."))):
            raise Unfit(f"a task of your own is named package.module:attribute, got {name!r}")
    elif name not in names():
        raise KeyError(registry.unknown(name, "task", list(names())))
    return name


def get(name: str, data_dir: str | PathLike[str] | None = None) -> Task:
    """The task of that name.

    Args:
      name: one of `names()`, or `package.module:attribute` for a `Task` of the user's own. Modules in the current
        folder are found; it becomes the first of `sys.path` for this, as it is for `python -m`.
      data_dir: folder with the files of a task that reads some.

    Raises:
      KeyError: no such task; the message has the nearest name, or all of them.
      Unfit: a folder is needed and not given, or given and not needed, or none; a module that cannot be imported; no
        such attribute, or one that is not a Task. It is a ValueError.
    """
    known(name)
    if name in _FROM_FILES:
        if data_dir is None:
            raise Unfit(f"task {name!r} reads files of yours: name their folder with --data-dir")
        folder = Path(data_dir)
        if not folder.is_dir():
            raise Unfit(f"--data-dir {folder} is not a folder")
        task: Task = _attribute(_FROM_FILES[name])(folder)
        return task
    if data_dir is not None:
        raise Unfit(f"task {name!r} reads no files; --data-dir is for {', '.join(_FROM_FILES)}")
    task = _own(name) if ":" in name else _attribute(_TASKS[name])
    return task


def _attribute(path: str) -> Any:
    module, _, attribute = path.partition(":")
    return getattr(importlib.import_module(module), attribute)


def _own(name: str) -> Task:
    """The user's task at `package.module:attribute`."""
    where, _, attribute = name.partition(":")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    importlib.invalidate_caches()  # the file may have been written a moment ago
    try:
        module = importlib.import_module(where)
    except ModuleNotFoundError as error:
        if error.name and (where == error.name or where.startswith(error.name + ".")):
            raise Unfit(f"no module is called {where!r}; looked in {here} and where Python finds its own") from error
        raise Unfit(f"module {where!r} cannot be imported: {error}") from error
    except ImportError as error:
        raise Unfit(f"module {where!r} cannot be imported: {error}") from error
    if not hasattr(module, attribute):
        tasks = [key for key, value in vars(module).items() if isinstance(value, Task)]
        if not tasks:
            raise Unfit(f"module {where!r} has no attribute {attribute!r}, and no task")
        raise Unfit(registry.unknown(attribute, f"task in module {where!r}", tasks))
    found = getattr(module, attribute)
    if not isinstance(found, Task):
        kind = "the class Task itself" if found is Task else f"of type {type(found).__name__}"
        raise Unfit(f"{name!r} is {kind}; needed is an instance of jaxopt_lectures.tasks.task.Task")
    return found
