"""Schedules that rise before they fall: warm-ups and one-cycle policies."""

from typing import Annotated, Any, Literal

import jax
import jax.numpy as jnp

from jaxopt_lectures.core.checks import Number
from jaxopt_lectures.schedules.formula import (
    Positive,
    PositiveSteps,
    Share,
    Steps,
    Unsigned,
    UnsignedSteps,
    Value,
    ValueOrNone,
    as_schedule,
    curve_through,
    growth,
    half_wave,
    raised,
    real,
    shares_of,
    warmed_up,
)


@as_schedule
def warmup_constant_schedule(t: Any, init_value: Value, peak_value: Value, warmup_steps: Steps) -> jax.Array:
    """A line from `init` to `peak`, then `peak`. If `warmup_steps <= 0` it is `init`, as in optax, not `peak`."""
    return jnp.where(warmup_steps > 0, warmed_up(t, init_value, peak_value, warmup_steps, peak_value), init_value)


@as_schedule
def warmup_cosine_decay_schedule(
    t: Any,
    init_value: Value,
    peak_value: Value,
    warmup_steps: Steps,
    decay_steps: Annotated[Number, "(warmup_steps, inf)", "steps"],
    end_value: Value = 0.0,
    exponent: Unsigned = 1.0,
) -> jax.Array:
    """A line from `init` to `peak`, then half a cosine wave to `end` at `decay_steps`, or 0 if `peak = 0`."""
    weight = raised(half_wave(shares_of(t - warmup_steps, decay_steps - warmup_steps)[1]), exponent)
    fall = jnp.where(peak_value == 0, 0, peak_value * weight + end_value * (1 - weight))
    return warmed_up(t, init_value, peak_value, warmup_steps, fall)


@as_schedule
def warmup_exponential_decay_schedule(
    t: Any,
    init_value: Value,
    peak_value: Value,
    warmup_steps: Steps,
    transition_steps: Steps,
    decay_rate: Unsigned,
    transition_begin: Steps = 0,
    staircase: bool = False,
    end_value: ValueOrNone = None,
) -> jax.Array:
    """A line from `init` to `peak`, then `exponential_decay`, its `transition_begin` counted from the peak."""
    fall = growth(t - warmup_steps, transition_begin, peak_value, transition_steps, decay_rate, staircase, end_value)
    return warmed_up(t, init_value, peak_value, warmup_steps, fall)


@as_schedule
def warmup_stable_decay_schedule(
    t: Any,
    init_value: Value,
    peak_value: Value,
    warmup_steps: UnsignedSteps,
    stable_steps: UnsignedSteps,
    decay_steps: UnsignedSteps,
    end_value: Value = 0.0,
    decay: Literal["1-sqrt", "linear", "cosine"] = "1-sqrt",
) -> jax.Array:
    """A line from `init` to `peak`, `peak` for `stable_steps`, then down to `end` in `decay_steps` (WSD).

    At share x of the decay, `1 - sqrt(x)`, `1 - x` or `(1 + cos(pi x)) / 2` of `peak - end` is left.
    Source: A. Hägele et al., 2024, arXiv:2405.18392, who advise "1-sqrt" over the last 20 % of a run.
    """
    behind, ahead = shares_of(t - warmup_steps - stable_steps, decay_steps)
    weight = {"1-sqrt": ahead / (1 + raised(behind, 0.5)), "linear": ahead, "cosine": half_wave(ahead)}[decay]
    return warmed_up(t, init_value, peak_value, warmup_steps, peak_value * weight + end_value * (1 - weight))


@as_schedule
def linear_onecycle_schedule(
    t: Any,
    transition_steps: PositiveSteps,
    peak_value: Value,
    pct_start: Share = 0.3,
    pct_final: Annotated[Number, "[pct_start, 1]", "value"] = 0.85,
    div_factor: Positive = 25.0,
    final_div_factor: Positive = 1e4,
) -> jax.Array:
    """Three lines: `peak/div` to `peak`, back to `peak/div`, to `peak/div/final_div` at `transition_steps`.

    `pct_start`, `pct_final`: shares of the steps (0.3, not 30) where the first two end, rounded down. Two corners on
    one step (`pct_final=1`) are a jump (optax forgets one). Source: L. Smith, N. Topin, 2017, arXiv:1708.07120.
    """
    low, top, bottom = peak_value / div_factor, pct_start * real(transition_steps), pct_final * real(transition_steps)
    corners = [(jnp.floor(top).astype(t.dtype), peak_value), (jnp.floor(bottom).astype(t.dtype), low)]
    return curve_through(t, [(0, low), *corners, (transition_steps, low / final_div_factor)], "linear")


@as_schedule
def cosine_onecycle_schedule(
    t: Any,
    transition_steps: PositiveSteps,
    peak_value: Value,
    pct_start: Share = 0.3,
    div_factor: Positive = 25.0,
    final_div_factor: Positive = 1e4,
) -> jax.Array:
    """Half cosine waves: `peak/div` to `peak`, then to `peak/div/final_div`; else as `linear_onecycle_schedule`."""
    low, top = peak_value / div_factor, jnp.floor(pct_start * real(transition_steps)).astype(t.dtype)
    return curve_through(t, [(0, low), (top, peak_value), (transition_steps // 1, low / final_div_factor)], "cosine")
