"""Tasks to compare on, chosen beforehand: small ones of the lectures, and all that two cores train in an hour."""

from collections.abc import Mapping
from dataclasses import replace

from jaxopt_lectures import tasks
from jaxopt_lectures.tasks.task import Task

BUDGET = 8
"""Trials of each tuning in a suite, where no one says otherwise."""

_LECTURES: Mapping[str, int | None] = {
    "digits": None,
    "digits_cnn": 200,
    "breast_cancer": None,
    "diabetes": None,
    "xor": None,
    "rosenbrock": None,
}
"""Task -> steps, the task's own if None."""
_FULL: Mapping[str, int | None] = {
    **_LECTURES,
    "quadratic": None,
    "beale": None,
    "saddle": None,
    "denoising": None,
    "photograph": None,
    "burgers": None,
    "digits_autoencoder": 1000,
    "characters_gru": 300,
}
SUITES = {"lectures": _LECTURES, "full": _FULL}


def suite(name: str) -> list[Task]:
    """The tasks of a suite.

    Raises:
      KeyError: there is none of that name.
    """
    found = [(tasks.get(task), steps) for task, steps in SUITES[name].items()]
    return [task if steps is None else replace(task, steps=steps) for task, steps in found]
