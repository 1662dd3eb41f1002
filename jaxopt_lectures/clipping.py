"""Clipping: gradients made smaller where they are too large. Rules like any other, so they fuse, sweep and compose.

Every threshold may be a number, a traced scalar or a schedule. Norms neither overflow nor vanish on the way (a
float16 gradient of ten times 300 has the norm 949, not inf); an infinite element takes the whole direction of the
clipped gradient, the limit of ever larger ones; NaN stays NaN; gradients of 0 stay 0, also at a threshold of 0.
"""

import math
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxopt_lectures.core.checks import HyperLike, interval, whole
from jaxopt_lectures.core.numbers import finite, product, quotient, root, scaled_norm, unit_for
from jaxopt_lectures.core.rule import from_rule
from jaxopt_lectures.core.slots import SharedNonNegative
from jaxopt_lectures.core.transformation import Transformation


class ClipState(NamedTuple):
    """`clip_count`: updates so far, () int32; not `count`, which names the optimizer's in optax's tools."""

    clip_count: jax.Array


class ClipNormState(NamedTuple):
    """`norm`: global norm of the last gradients before clipping, ()."""

    clip_count: jax.Array
    norm: SharedNonNegative


class ClipPercentileState(NamedTuple):
    """`history`: the latest norms, inf where there was none yet; `norm`: the last one, ()."""

    clip_count: jax.Array
    norm: SharedNonNegative
    history: SharedNonNegative


def shrunk(g: Any, unit: Any, size: Any, limit: Any) -> Any:
    """`g` scaled so that its norm, `unit * size`, becomes `limit`; as it is where the norm is not above that."""
    small = finite(g) / unit * quotient(limit, size)
    return jnp.where(unit * size <= limit, g, small)


def clip_rule(g: Any, s: Any, p: Any, h: Any, t: Any) -> Any:
    """Each element between -max_delta and max_delta."""
    del s, p, t
    return jnp.clip(g, -h.max_delta, h.max_delta), {}


def clip_by_global_norm_rule(g: Any, s: Any, p: Any, h: Any, t: Any) -> Any:
    """Steps `g min(1, max_norm / |g|)`, the norm of all arrays together."""
    del p, t
    return shrunk(g, s.unit, s.size, h.max_norm), {}


def clip_by_block_rms_rule(g: Any, s: Any, p: Any, h: Any, t: Any) -> Any:
    """Steps `g / max(1, rms(g) / threshold)`, array by array."""
    del s, p, t
    unit, size = scaled_norm([g])
    return shrunk(g, unit, size / math.sqrt(max(g.size, 1)), h.threshold), {}


def adaptive_grad_clip_rule(g: Any, s: Any, p: Any, h: Any, t: Any, *, axis: Any) -> Any:
    """Each unit's gradient at most `clipping` times the size of its weights."""
    del s, t
    axes = _unit_axes(g.shape) if axis is None else axis
    limit = h.clipping * jnp.maximum(_unit_norm(p, axes), h.eps)
    unit = unit_for(jnp.max(jnp.abs(finite(g)), axis=axes, keepdims=True, initial=0))
    return shrunk(g, unit, _unit_norm(finite(g) / unit, axes), limit), {}


def clip_by_percentile_rule(g: Any, s: Any, p: Any, h: Any, t: Any) -> Any:
    """Steps `g min(1, threshold / |g|)`, the threshold a percentile of the norms seen."""
    del p, h, t
    return shrunk(g, s.unit, s.size, s.threshold), {}


def measure_norm(gradients: Sequence[jax.Array], s: SimpleNamespace, h: SimpleNamespace) -> Any:
    """The norm of all arrays together, in two factors and as the product to be kept."""
    del s, h
    unit, size = scaled_norm(gradients)
    return {"unit": unit, "size": size, "norm": product(unit, size)}


def measure_percentile(gradients: Sequence[jax.Array], s: SimpleNamespace, h: SimpleNamespace) -> Any:
    """The norm, the history with it at the place of the oldest, and the history's percentile."""
    seen = measure_norm(gradients, s, h)
    entry = jnp.where(jnp.isfinite(seen["norm"]), seen["norm"], jnp.inf).astype(s.history.dtype)
    history = s.history.at[s.count % s.history.size].set(entry)
    return seen | {"history": history, "threshold": finite_percentile(history, h.percentile)}


def finite_percentile(values: jax.Array, percentile: jax.Array) -> jax.Array:
    """The percentile of the finite values, between two of them by linear interpolation; inf if there is none."""
    ordered = jnp.sort(values)
    last = jnp.sum(jnp.isfinite(values), dtype=jnp.int32) - 1
    place = percentile.astype(values.dtype) / 100 * last.astype(values.dtype)
    low = jnp.floor(place).astype(jnp.int32)
    below, above = ordered[low], ordered[jnp.minimum(low + 1, last)]
    between = below + (place - low.astype(values.dtype)) * (above - below)
    return jnp.where(last >= 0, between, jnp.inf)


def clip(max_delta: HyperLike) -> Transformation:
    """Clips each element to [-max_delta, max_delta].

    Args:
      max_delta: largest size of an element, in gradient units; >= 0.

    Raises:
      ValueError: a number outside its range.
    """
    return from_rule(clip_rule, ClipState, counter="clip_count", hypers=[interval("max_delta", max_delta, 0)])


def clip_by_global_norm(max_norm: HyperLike) -> Transformation:
    """Scales all gradients by `min(1, max_norm / |g|)`, with the norm of all arrays together.

    The norm before clipping stays readable in the state, as `norm`.

    Args:
      max_norm: largest norm, in gradient units; >= 0.

    Raises:
      ValueError: a number outside its range.

    Source: R. Pascanu, T. Mikolov, Y. Bengio, ICML 2013, arXiv:1211.5063, algorithm 1; named in lecture 004.
    """
    hypers = [interval("max_norm", max_norm, 0)]
    return from_rule(
        clip_by_global_norm_rule,
        ClipNormState,
        counter="clip_count",
        hypers=hypers,
        shared=measure_norm,
        couples="tree",
    )


def clip_by_block_rms(threshold: HyperLike) -> Transformation:
    """Scales each array by `min(1, threshold / rms)`, with its own root mean square.

    Args:
      threshold: largest root mean square, in gradient units; >= 0.

    Raises:
      ValueError: a number outside its range.

    Source: N. Shazeer, M. Stern, ICML 2018, arXiv:1804.04235, section 6.
    """
    return from_rule(
        clip_by_block_rms_rule,
        ClipState,
        counter="clip_count",
        hypers=[interval("threshold", threshold, 0)],
        couples="array",
    )


def adaptive_grad_clip(
    clipping: HyperLike, eps: HyperLike = 1e-3, axis: int | tuple[int, ...] | None = None
) -> Transformation:
    """Adaptive gradient clipping: each unit's gradient norm at most `clipping * max(|w|, eps)` of its weights.

    A unit is a column of a matrix, an output channel of a convolution (the last axis), or a whole vector.

    Args:
      clipping: largest ratio of gradient to weight norm, in gradient units per parameter unit; >= 0.
      eps: least weight norm, in parameter units, so that weights of 0 can start to move; >= 0.
      axis: the axes of one unit, where the rule above does not fit.

    Raises:
      ValueError: a number outside its range; or `update` is not given the parameters.

    Source: A. Brock, S. De, S. Smith, K. Simonyan, ICML 2021, arXiv:2102.06171, equation 3.
    """
    hypers = [interval("clipping", clipping, 0), interval("eps", eps, 0)]
    return from_rule(
        adaptive_grad_clip_rule,
        ClipState,
        counter="clip_count",
        hypers=hypers,
        options={"axis": tuple(axis) if isinstance(axis, list) else axis},
        needs_params=True,
        couples="array",
    )


def clip_by_percentile(percentile: HyperLike = 10.0, history: int = 1000) -> Transformation:
    """Clips the global norm to a percentile of the run's own latest norms, the present one among them.

    Norms that are not finite are not remembered; before the first that is, nothing is clipped.

    Args:
      percentile: in [0, 100]; 10 clips nine steps of ten.
      history: how many norms are remembered; >= 1.

    Raises:
      ValueError: a number outside its range.

    Source: P. Seetharaman, G. Wichern, B. Pardo, J. Le Roux, "AutoClip", MLSP 2020, arXiv:2007.14469, algorithm 1.
    """
    whole("history", history, 1)
    return from_rule(
        clip_by_percentile_rule,
        ClipPercentileState,
        counter="clip_count",
        hypers=[interval("percentile", percentile, 0, 100, closed=True)],
        initial={"history": np.full(history, np.inf)},
        shared=measure_percentile,
        couples="tree",
    )


clip_by_value = clip


def _unit_axes(shape: tuple[int, ...]) -> tuple[int, ...]:
    """All axes of a vector, otherwise all but the last; a stack of matrices (3 axes) is taken matrix by matrix."""
    if len([n for n in shape if n != 1]) <= 1:
        return tuple(range(len(shape)))
    return (0,) if len(shape) in (2, 3) else tuple(range(len(shape) - 1))


def _unit_norm(a: Any, axes: Any) -> Any:
    return root(jnp.sum(jnp.square(a), axis=axes, keepdims=True))
