"""Schedules that start at their value and leave it: constant, lines, powers, steps, half a cosine wave."""

from typing import Any, Literal

import jax
import jax.numpy as jnp

from jaxopt_lectures.schedules.formula import (
    Pieces,
    Positive,
    PositiveSteps,
    Steps,
    Unsigned,
    Value,
    ValueOrNone,
    as_schedule,
    curve_through,
    growth,
    half_wave,
    raised,
    real,
    shares_of,
    together,
    warmed_up,
)


@as_schedule
def constant_schedule(t: Any, value: Value) -> jax.Array:
    """`value` at every count."""
    return real(value)


@as_schedule
def linear_schedule(
    t: Any, init_value: Value, end_value: Value, transition_steps: Steps, transition_begin: Steps = 0
) -> jax.Array:
    """A straight line, `init + (end - init) (t - begin) / steps`; `init` if `steps <= 0`."""
    line = warmed_up(t - jnp.maximum(transition_begin, 0), init_value, end_value, transition_steps, end_value)
    return jnp.where(transition_steps > 0, line, init_value)


@as_schedule
def polynomial_schedule(
    t: Any, init_value: Value, end_value: Value, power: Unsigned, transition_steps: Steps, transition_begin: Steps = 0
) -> jax.Array:
    """A power of what is left: `end + (init - end) (1 - (t - begin) / steps)^power`; `init` if `steps <= 0`."""
    weight = raised(shares_of(t - jnp.maximum(transition_begin, 0), transition_steps)[1], power)
    return jnp.where(transition_steps > 0, init_value * weight + end_value * (1 - weight), init_value)


@as_schedule
def piecewise_constant_schedule(t: Any, init_value: Value, boundaries_and_scales: Pieces = None) -> jax.Array:
    """`init_value` times the scales, in [0, inf), of all boundaries up to t, which may be traced if given in pairs."""
    for boundary, scale in boundaries_and_scales:
        now, begin = together(t, boundary)
        init_value = init_value * jnp.where(now >= begin, real(scale), 1)
    return init_value


@as_schedule
def piecewise_interpolate_schedule(
    t: Any, interpolate_type: Literal["linear", "cosine"], init_value: Value, boundaries_and_scales: Pieces = None
) -> jax.Array:
    """A curve, of lines or half cosine waves, through what `piecewise_constant_schedule` is at 0 and the boundaries."""
    t, first, *boundaries = together(t, 0, *(boundary for boundary, _ in boundaries_and_scales))
    points = [(first, init_value)]
    for i in jnp.argsort(jnp.stack(boundaries)) if boundaries else ():
        scale = jnp.stack([real(scale) for _, scale in boundaries_and_scales])[i]
        points.append((jnp.stack(boundaries)[i], points[-1][1] * scale))
    return curve_through(t, points, interpolate_type)


@as_schedule
def exponential_decay(
    t: Any,
    init_value: Value,
    transition_steps: Steps,
    decay_rate: Unsigned,
    transition_begin: Steps = 0,
    staircase: bool = False,
    end_value: ValueOrNone = None,
) -> jax.Array:
    """`init * decay_rate^((t - begin) / steps)`; `init` if `decay_rate = 0` or `steps <= 0`.

    `staircase`: the exponent is rounded down. `end_value`: a lower bound if `decay_rate < 1`, else an upper one.
    """
    return growth(t, transition_begin, init_value, transition_steps, decay_rate, staircase, end_value)


@as_schedule
def step_schedule(t: Any, init_value: Value, step_size: PositiveSteps, decay_rate: Positive) -> jax.Array:
    """`init * decay_rate^floor(t / step_size)`: multiplied by `decay_rate` every `step_size` steps."""
    return growth(t, 0, init_value, step_size, decay_rate, floor=True)


@as_schedule
def inverse_time_schedule(
    t: Any, init_value: Value, decay_rate: Unsigned, transition_steps: PositiveSteps = 1, power: Unsigned = 1.0
) -> jax.Array:
    """`init / (1 + decay_rate t / steps)^power`, the step lengths of stochastic approximation.

    Lecture 001's algorithm 8.1 converges if the sum of rho_k is infinite and that of rho_k^2 finite: with `decay_rate`
    above 0, exactly for `1/2 < power <= 1`. Source: H. Robbins, S. Monro, "A stochastic approximation method", 1951.
    """
    return init_value * (1 + decay_rate * (real(t) / real(transition_steps))) ** -power


@as_schedule
def inverse_sqrt_schedule(t: Any, init_value: Value, warmup_steps: PositiveSteps) -> jax.Array:
    """`init * sqrt(w / max(t, w))`: constant during the `w = warmup_steps`, then falling with the root of t.

    Source: C. Raffel et al., "Exploring the limits of transfer learning" (T5), 2020, arXiv:1910.10683, section 3.1.2.
    """
    return init_value * jnp.sqrt(real(warmup_steps) / real(jnp.maximum(t, warmup_steps)))


@as_schedule
def cosine_decay_schedule(
    t: Any, init_value: Value, decay_steps: PositiveSteps, alpha: Value = 0.0, exponent: Unsigned = 1.0
) -> jax.Array:
    """`init (alpha + (1 - alpha) ((1 + cos(pi t / decay_steps)) / 2)^exponent)`, then `alpha init`."""
    weight = raised(half_wave(shares_of(t, decay_steps)[1]), exponent)
    return init_value * (weight + alpha * (1 - weight))
