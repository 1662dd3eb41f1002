"""What is tried: points of the space, spread evenly or by chance."""

import itertools
import math
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from jaxopt_lectures.core.card import Choice
from jaxopt_lectures.tuning.space import Space, at

Sampler = Literal["sobol", "random", "grid", "tpe"]
SAMPLERS = ("sobol", "random", "grid", "tpe")


def draws(space: Space, trials: int, sampler: str, seed: Sequence[int]) -> list[dict[str, Any]]:
    """So many settings of the arguments; other seeds give others, but for a grid.

    Args:
      space: where to look; one setting, without arguments, where it is empty.
      trials: how many. A grid has as many points as fit, evenly spaced, at least one for each argument.
      sampler: "sobol", scrambled, fills the space more evenly than "random"; "grid".
      seed: whole numbers >= 0.

    Source: I. M. Sobol, 1967; A. B. Owen, 1998 (scrambling); J. Bergstra, Y. Bengio, JMLR 13, 2012 (why no grid).
    """
    if not space:
        return [{}]
    if sampler == "grid":
        return _grid(space, trials)
    generator = np.random.default_rng(list(seed))
    if sampler == "sobol":
        from scipy.stats import qmc

        # A power of two is drawn, the balance of the sequence needs it; the rest is left out.
        points = qmc.Sobol(len(space), rng=generator).random_base2(max(0, math.ceil(math.log2(trials))))[:trials]
    else:
        points = generator.random((trials, len(space)))
    return [{name: at(space[name], share) for name, share in zip(space, map(float, p), strict=True)} for p in points]


def _grid(space: Space, trials: int) -> list[dict[str, Any]]:
    """Each choice, and of every range as many values as `trials` allow, ends included."""
    chosen = math.prod(len(where.values) for where in space.values() if isinstance(where, Choice))
    ranges = sum(not isinstance(where, Choice) for where in space.values())
    each = max(1, math.floor((trials / chosen) ** (1 / ranges) + 1e-9)) if ranges else 1
    values: list[Sequence[Any]] = []
    for where in space.values():
        if isinstance(where, Choice):
            values.append(where.values)
        else:
            values.append([at(where, index / (each - 1) if each > 1 else 0.5) for index in range(each)])
    return [dict(zip(space, point, strict=True)) for point in itertools.product(*values)]
