"""What is printed while a solve runs, if asked for."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from jaxopt_lectures.solvers.result import Result


@dataclass(frozen=True)
class printer:
    """A callback that prints every so many iterations, and then asks the user's.

    Equal ones are one callback, so that asking for it again compiles nothing.
    """

    every: int
    then: Callable[[Result], Any] | None = None

    def __call__(self, result: Result) -> Any:
        """One line."""
        nit = int(result.nit)
        if nit == 1:
            _write(f"{'iteration':>9} {'evaluations':>11} {'value':>15} {'gradient':>10}")
        if nit == 1 or nit % int(self.every) == 0:
            gradient = max(float(np.max(np.abs(leaf), initial=0.0)) for leaf in jax.tree.leaves(result.grad))
            _write(f"{nit:9d} {int(result.nfev):11d} {float(result.fun):15.8g} {gradient:10.2e}")
        return self.then(result) if self.then is not None else False


def _write(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()
