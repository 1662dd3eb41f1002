"""What a step of each optimizer takes, alone, and how much of that is the optimizer's."""

import math
import time
from collections.abc import Mapping
from typing import Any

import jax
import optax

from jaxopt_lectures.comparison.entries import Entry
from jaxopt_lectures.tuning.ground import Ground, Lane
from jaxopt_lectures.tuning.lanes import Form, Program

_ROUNDS = 7
_ROUND = 0.03
"""Seconds that each is run for in each of the rounds."""
_PLAIN = ""


def timed(
    ground: Ground, entries: Mapping[str, tuple[Entry, Mapping[str, Any]]], form: Form
) -> dict[str, tuple[float, float]]:
    """Seconds of a step, and the share of it that exceeds a step of plain gradient descent: medians of rounds in turn.

    Args:
      ground: the task.
      entries: name -> the optimizer and the values of its arguments.
      form: how it is run: many steps in one program, or one.
    """
    programs = {_PLAIN: _Timed(ground, _plain, {}, form)}
    for name, (one, values) in entries.items():
        programs[name] = _Timed(ground, one.build, dict(values), form)
    seconds: dict[str, list[float]] = {name: [] for name in programs}
    for turn in range(_ROUNDS):
        for name in list(programs)[:: 1 if turn % 2 else -1]:
            seconds[name].append(programs[name].seconds())
    # Beside a plain step of the same round: what disturbs the machine disturbs both.
    found = {}
    for name in entries:
        shares = sorted(1 - plain / mine for plain, mine in zip(seconds[_PLAIN], seconds[name], strict=True))
        found[name] = sorted(seconds[name])[_ROUNDS // 2], max(0.0, shares[_ROUNDS // 2])
    return found


def _plain() -> optax.GradientTransformation:
    """The least that uses the gradient: it is added, so small that it changes nothing."""
    return optax.scale(-1e-30)


class _Timed:
    """One lane of one optimizer, its numbers constants as in a run alone."""

    def __init__(self, ground: Ground, factory: Any, values: Mapping[str, Any], form: Form) -> None:
        self.program, self.steps = Program(ground, factory, values, (), form, 1, look=2**10), 1
        self.lanes = [Lane({}, 0)] * self.program.lanes
        self.hypers, self.state = self.program.start(self.lanes)
        self.seconds()
        took = self.seconds()
        while took < _ROUND and self.steps < self.program.capacity:
            self.steps = min(self.program.capacity, math.ceil(self.steps * min(8.0, 1.2 * _ROUND / took)))
            took = self.seconds() * self.steps

    def seconds(self) -> float:
        """Of a step."""
        began = time.perf_counter()
        self.state, losses = self.program.advance(self.hypers, self.state, self.lanes, 0, self.steps)
        jax.block_until_ready(losses)
        return (time.perf_counter() - began) / self.steps
