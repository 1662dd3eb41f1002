"""The surfaces of `surfaces.py` as tasks: one point of the plane goes downhill; nothing is learnt from data.

The start is the classic one, moved by a normal offset of standard deviation 0.001 that the seed decides: runs with
different seeds differ, and no run stays on a ridge. There is one example, which is empty.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxopt_lectures.tasks import surfaces
from jaxopt_lectures.tasks.task import Data, Examples, Task

_OFFSET = 1e-3


class Point(nnx.Module):
    """A point that is moved: one parameter `x`, (n,) float32.

    Args:
      start: where it starts, up to the offset.
      rngs: where the offset is drawn from.
    """

    def __init__(self, start: tuple[float, ...], *, rngs: nnx.Rngs) -> None:
        offset = _OFFSET * jax.random.normal(rngs.params(), (len(start),))
        self.x = nnx.Param(jnp.asarray(start, offset.dtype) + offset)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Where the point is, (n,); the input is not looked at."""
        return self.x[...]


def _nothing() -> Data:
    empty = np.zeros((1, 0), np.float32)
    return Data(Examples(empty, empty), Examples(empty, empty))


def _value(surface: surfaces.Surface, minimum: float, model: Any, x: jax.Array, y: jax.Array) -> jax.Array:
    return surface(model(x)) - minimum


def _point(start: tuple[float, ...], seed: int) -> nnx.Module:
    return Point(start, rngs=nnx.Rngs(seed))


def _task(
    name: str,
    summary: str,
    surface: surfaces.Surface,
    start: tuple[float, ...],
    *,
    minimum: float = 0.0,
    steps: int = 1000,
) -> Task:
    return Task(
        name=name,
        summary=summary,
        model=partial(_point, start),
        loss=partial(_value, surface, 0.0),
        metric=partial(_value, surface, minimum),
        data=_nothing,
        batch_size=1,
        target=1e-4,
        steps=steps,
        metric_name="f - f*",
        metric_unit="",
        larger_is_better=False,
    )


quadratic = _task("quadratic", "a straight valley of condition number 100", surfaces.quadratic(100.0), (1.0, 1.0))
rosenbrock = _task("rosenbrock", "Rosenbrock's curved valley", surfaces.rosenbrock, (-1.2, 1.0), steps=5000)
beale = _task("beale", "Beale's function, flat with steep walls", surfaces.beale, (1.0, 1.0), steps=2000)
saddle = _task(
    "saddle",
    "a saddle point between two basins, x1^2/2 - x2^2/2 + x2^4/4",
    surfaces.bounded_saddle,
    (1.0, 0.0),
    minimum=-0.25,
)
plateau = _task("plateau", "a well in a plain where the slope vanishes", surfaces.plateau, (3.0, 2.0))
