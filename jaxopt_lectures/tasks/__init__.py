"""Tasks by name. Each stands in its own module, which is imported when the task is asked for."""

import importlib

from jaxopt_lectures import registry
from jaxopt_lectures.tasks.task import Task

_TASKS = {"digits": "jaxopt_lectures.tasks.digits:digits"}  # name -> module:attribute


def names() -> tuple[str, ...]:
    """Every task's name."""
    return tuple(_TASKS)


def known(name: str) -> str:
    """The name itself, checked without importing the task (which takes a second).

    Raises:
      KeyError: no such task; the message has the nearest name, or all of them.
    """
    if name not in _TASKS:
        raise KeyError(registry.unknown(name, "task", list(_TASKS)))
    return name


def get(name: str) -> Task:
    """The task of that name.

    Raises:
      KeyError: no such task; the message has the nearest name, or all of them.
    """
    module, _, attribute = _TASKS[known(name)].partition(":")
    task: Task = getattr(importlib.import_module(module), attribute)
    return task
