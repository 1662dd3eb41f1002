"""Skip the steps whose gradient is far larger than the run's own latest ones.

Sources: A. Chowdhery et al., "PaLM", 2022, arXiv:2204.02311, section 5.1, went back about 100 steps at a spike of the
loss and skipped the batches around it, by hand; OLMo-core's optimizers skip, as they go, a step whose gradient norm is
above the mean of the last 128 by 6 standard deviations. Here the measure is the median, which one spike that was let
through does not move: F. Hampel, "The influence curve and its role in robust estimation", JASA 69, 1974.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxopt_lectures.clipping import finite_percentile
from jaxopt_lectures.core.checks import HyperLike, interval, whole
from jaxopt_lectures.core.given import value_at
from jaxopt_lectures.core.numbers import norm
from jaxopt_lectures.core.transformation import Transformation
from jaxopt_lectures.wrappers.wrapped import wrapped


class SkipSpikesState(NamedTuple):
    """What was measured and skipped.

    Attributes:
      inner_state: state of the wrapped transformation; a skipped step leaves it untouched.
      history: norms of the latest steps taken, float32, inf where there was none yet.
      accepted: how many steps since the history began, () int32.
      norm: global norm of the last gradients, () float32.
      threshold: what it was compared with, () float32; inf during the warm-up.
      skipped_in_a_row: steps skipped until now, () int32.
      total_skipped: steps skipped in all, () int32.
    """

    inner_state: Any
    history: jax.Array
    accepted: jax.Array
    norm: jax.Array
    threshold: jax.Array
    skipped_in_a_row: jax.Array
    total_skipped: jax.Array

    def metrics(self) -> dict[str, Any]:
        """What `jol.metrics` gives."""
        return {"skipped_spikes": self.total_skipped, "global_norm": self.norm, "spike_threshold": self.threshold}


def skip_spikes(
    tx: optax.GradientTransformation,
    factor: HyperLike = 4.0,
    history: int = 128,
    warmup: int | None = None,
    max_consecutive: int = 5,
) -> Transformation:
    """Runs `tx`, but skips each step with `|g| > factor * median of the last history norms`, |g| the global norm.

    A skipped step returns updates of 0 and the state of `tx` as it was. Norms of skipped steps are not remembered.
    After `max_consecutive` skipped in a row it is no spike but a new level: the step is taken, and the history begins
    anew. A gradient that is not finite is always skipped, however many there were. Clips go inside or after, as they
    would hide the spikes.

    Args:
      tx: the transformation, ours or optax's.
      factor: how many times the median is a spike; >= 1. A number, a traced scalar or a schedule of the number of
        steps accepted since the history began.
      history: norms remembered; >= 2.
      warmup: steps taken before any is skipped; half of `history` if None.
      max_consecutive: most steps skipped in a row; >= 1.

    Raises:
      TypeError: `tx` is not a transformation, or a count not an integer.
      ValueError: a number outside its range, or a `warmup` longer than the history.
    """
    inner, hyper = wrapped(tx, "skip_spikes's argument"), interval("factor", factor, 1)
    whole("history", history, 2)
    whole("max_consecutive", max_consecutive, 1)
    first = history // 2 if warmup is None else warmup
    whole("warmup", first, 1)
    if first > history:
        raise ValueError(f"warmup must be at most history, {history}, got {warmup}: no more norms are remembered")

    def init(params: Any) -> SkipSpikesState:
        counts = [jnp.zeros((), jnp.int32) for _ in range(3)]
        sizes = jnp.zeros((), jnp.float32), jnp.array(jnp.inf, jnp.float32)
        empty = jnp.full(history, jnp.inf, jnp.float32)
        return SkipSpikesState(inner.init(params), empty, counts[0], *sizes, counts[1], counts[2])

    def update(updates: Any, state: SkipSpikesState, params: Any = None, **extra: Any) -> Any:
        size = norm(jax.tree.leaves(updates)).astype(jnp.float32)
        limit = jnp.asarray(value_at(hyper, state.accepted)).astype(jnp.float32) * finite_percentile(
            state.history, jnp.float32(50)
        )
        threshold = jnp.where(state.accepted < first, jnp.inf, limit)
        patient = state.skipped_in_a_row < max_consecutive
        spike = (size > threshold) & patient
        taken = jnp.isfinite(size) & ~spike
        new_updates, new_inner = inner.update(updates, state.inner_state, params, **extra)
        new_updates = jax.tree.map(lambda u: jnp.where(taken, u, jnp.zeros_like(u)), new_updates)
        new_inner = jax.tree.map(lambda new, old: jnp.where(taken, new, old), new_inner, state.inner_state)
        begins = taken & (size > threshold)  # a new level
        place = jnp.where(begins, 0, state.accepted)
        norms = jnp.where(begins, jnp.inf, state.history).at[place % history].set(size)
        return new_updates, SkipSpikesState(
            new_inner,
            jnp.where(taken, norms, state.history),
            jnp.where(taken, optax.safe_increment(place), state.accepted),
            size,
            threshold,
            jnp.where(taken, 0, optax.safe_increment(state.skipped_in_a_row)),
            jnp.where(taken, state.total_skipped, optax.safe_increment(state.total_skipped)),
        )

    again = functools.partial(
        skip_spikes, factor=factor, history=history, warmup=warmup, max_consecutive=max_consecutive
    )
    return Transformation(init, update, couples="tree", parts=(tx,), again=again, title="skip_spikes")
