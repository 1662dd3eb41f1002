"""The numbers of a comparison that are worth a definition."""

import math
import operator
import re
import statistics
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxopt_lectures.core.numbers import largest


def steps_to_target(
    ends: Sequence[int], metrics: Sequence[Sequence[float]], target: float, larger_is_better: bool = True
) -> float:
    """The step at which a run first reached the target: the median over the runs, infinite for those that never did.

    Args:
      ends: the steps at which the metric was taken.
      metrics: for each run its metric at those steps.
      target: what has to be reached.
      larger_is_better: whether it is reached from below, as an accuracy, or from above, as an error.
    """
    reached = operator.ge if larger_is_better else operator.le
    firsts = [next((end for end, m in zip(ends, run, strict=True) if reached(m, target)), math.inf) for run in metrics]
    return statistics.median(firsts)


def profile_costs(comparisons: Sequence[Any], names: Sequence[str]) -> dict[str, dict[str, float]]:
    """Optimizer -> task -> steps to the target, infinite where it was missed or the optimizer failed."""
    costs: dict[str, dict[str, float]] = {name: {} for name in names}
    for one in comparisons:
        for result in one.results:
            costs[result.name][one.task["name"]] = one.steps_to_target(result)
    return costs


def metric_text(values: Sequence[float], unit: str, plus_minus: str = "±") -> str:
    """Mean and, of several, sample standard deviation: shares times 100 ("%") with one decimal, others in 2 digits.

    Of values that are not all finite only the mean is given, as inf or nan.
    """
    scale, digits, wide = (100, ".1f", ".1f") if unit == "%" else (1, ".2g", ".1g")
    text = compact(scale * statistics.fmean(values), digits)
    if len(values) == 1 or not all(map(math.isfinite, values)):
        return text
    return f"{text}{plus_minus}{compact(scale * statistics.stdev(values), wide)}"


def compact(value: float, digits: str = "g") -> str:
    """A number as Python formats it, but 1e-4 instead of 1e-04, and 1 instead of 1e+00."""
    text = f"{value:{digits}}".replace("e+00", "")
    return re.sub(r"e([+-])0+", r"e\1", text).replace("e+", "e")


def largest_difference(one: Any, other: Any) -> jax.Array:
    """The largest |a - b| over two trees of arrays; NaN if there is one."""
    differences = jax.tree.map(lambda a, b: largest(jnp.abs(a - b)), one, other)
    return largest(jnp.stack(jax.tree.leaves(differences)))


def moved(params: Any, noise: float, seed: int) -> Any:
    """The weights, each moved by a random amount of at most `noise`; drawn by NumPy, as nothing need be compiled."""
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda p: p + jnp.asarray(rng.uniform(-noise, noise, p.shape), p.dtype), params)


def state_bytes_per_parameter(tx: optax.GradientTransformation, params: Any) -> float:
    """Bytes of optimizer state for each parameter; nothing is allocated.

    Scalars of the state (the step count and the like) are left out: a model has millions of parameters and one count.

    Args:
      tx: the optimizer.
      params: arrays, or their shapes (`jax.ShapeDtypeStruct`).
    """
    state = jax.eval_shape(tx.init, params)
    size = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state) if leaf.ndim > 0)
    return size / sum(leaf.size for leaf in jax.tree.leaves(params))
