"""Schedules that come again or that follow one another: cycles, restarts, Sutskever's momentum, joined schedules."""

import functools
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate
from typing import Annotated, Any, Literal

import jax
import jax.numpy as jnp

from jaxopt_lectures.core.checks import Number, Schedule
from jaxopt_lectures.schedules.formula import (
    PositiveSteps,
    UnsignedSteps,
    Value,
    as_schedule,
    check,
    half_wave,
    real,
    shares_of,
    together,
)
from jaxopt_lectures.schedules.warmups import warmup_cosine_decay_schedule


@as_schedule
def cyclic_schedule(
    t: Any,
    init_value: Value,
    peak_value: Value,
    step_size: PositiveSteps,
    mode: Literal["triangular", "triangular2", "exp_range"] = "triangular",
    decay_rate: Annotated[Number, "(0, 1]", "value"] = 0.99994,
) -> jax.Array:
    """Lines from `init` to `peak` and back, again and again, each `step_size` steps long.

    "triangular2" halves `peak - init` after each cycle; "exp_range" multiplies all by `decay_rate^t` (PyTorch: only the
    difference). Source: L. Smith, "Cyclical learning rates for training neural networks", 2017, arXiv:1506.01186.
    """
    lines, rest = jnp.divmod(t, step_size)
    share, _ = shares_of(jnp.where(lines % 2 == 0, rest, step_size - rest), step_size)
    share = share * 0.5 ** real(lines // 2) if mode == "triangular2" else share
    return (init_value * (1 - share) + peak_value * share) * (decay_rate ** real(t) if mode == "exp_range" else 1)


@as_schedule
def warm_restarts_schedule(
    t: Any,
    init_value: Value,
    period: PositiveSteps,
    multiplier: Annotated[Number, "[1, inf)", "value"] = 1.0,
    end_value: Value = 0.0,
) -> jax.Array:
    """SGDR: half cosine waves from `init` to `end`; wave i = 0, 1, ... is `period * multiplier^i` steps long.

    In float32, with a multiplier above 1, restarts are exact up to count 1e6 if both are whole, else to 1e-6 of it.
    Source: I. Loshchilov, F. Hutter, 2017, arXiv:1608.03983, equation 5.
    """
    time, first, growth = real(t), real(period), jnp.where(multiplier > 1, multiplier - 1, 1)
    wave = jnp.floor(jnp.log1p(time * growth / first) / jnp.log1p(growth))  # or one more, or less: logarithms round
    starts = [first * ((1 + growth) ** (wave + i) - 1) / growth for i in (-1, 0, 1)]
    whole = (multiplier % 1 == 0) & (first % 1 == 0)  # then restarts are, too, but for the rounding of the power
    starts = [s + jax.lax.stop_gradient(jnp.where(whole, jnp.round(s) - s, 0)) for s in starts]
    start = functools.reduce(jnp.maximum, [jnp.where(time >= s, s, 0) for s in starts])
    share = (time - start) / (first + growth * start)
    weight = half_wave(jnp.where(multiplier > 1, 1 - share, shares_of(t % period, period)[1]))
    return init_value * weight + end_value * (1 - weight)


@as_schedule
def sutskever_momentum_schedule(
    t: Any,
    max_value: Annotated[Number, "[0, 1)", "value"] = 0.99,
    period: PositiveSteps = 250,
    final_value: Annotated[Number, "[0, 1)", "value"] = 0.9,
    final_steps: UnsignedSteps = 1000,
    total_steps: Annotated[Number | None, "[0, inf)", "steps"] = None,
) -> jax.Array:
    """The "slowly increasing" momentum of lecture 002: `min(1 - 1 / (2 (floor(t / period) + 1)), max_value)`.

    In the last `final_steps` of `total_steps` (None: no end) it is `min(final_value, max_value)`. Source: I. Sutskever
    et al., "On the importance of initialization and momentum", 2013, as `1 - 2^(-1 - log2(floor(t / 250) + 1))`.
    """
    k = real(t // period) + 1
    ends = False if total_steps is None else t >= total_steps - final_steps
    return jnp.minimum(jnp.where(ends, final_value, (k - 0.5) / k), max_value)  # (k - 1/2) / k = 1 - 1 / (2 k)


def join_schedules(schedules: Sequence[Schedule], boundaries: Sequence[Number] | jax.Array) -> Schedule:
    """Schedule after schedule: at each of the boundaries, one fewer, the next one begins and counts from 0."""
    schedules, starts = list(schedules), list(boundaries)
    if len(starts) != len(schedules) - 1:
        raise ValueError(f"boundaries must be one fewer than the {len(schedules)} schedules, got {starts}")
    for i, boundary in enumerate(starts):
        check(f"boundaries[{i}]", boundary, "(-inf, inf)", {})

    def schedule(count: Any) -> jax.Array:
        value = real(schedules[0](count))
        for boundary, following in zip(starts, schedules[1:], strict=True):
            t, begin = together(count, boundary)
            value = jnp.where(t >= begin, real(following(jnp.maximum(t - begin, 0))), value)
        return value

    return schedule


def sgdr_schedule(cosine_kwargs: Iterable[Mapping[str, Any]]) -> Schedule:
    """One `warmup_cosine_decay_schedule(**kwargs)` after the other, each `decay_steps` long, the last for ever."""
    cycles = list(cosine_kwargs)
    schedules, steps = [warmup_cosine_decay_schedule(**c) for c in cycles], [c["decay_steps"] for c in cycles]
    lengths = steps if all(isinstance(step, int) for step in steps) else together(*steps)
    return join_schedules(schedules, list(accumulate(lengths))[:-1])
