"""Schedules: functions of the step count, for learning rates, momenta and every other hyper-parameter.

Each public function returns a schedule: a callable from t, the updates made so far (0 at the first), to a scalar. The
rho_k of lecture 001 (algorithm 8.1, "scheduled learning"), k = 1, 2, ..., is `schedule(k - 1)`; the book's own choice
(Goodfellow et al., "Deep learning", 2016, equation 8.14) is `linear_schedule`. Names, argument order, defaults and
values are optax's wherever optax 0.2.8 has the schedule. Said once for all of them:

*Args.* Values (`init_value` at 0, `peak_value` after the warm-up, `end_value` at the end) have the unit of what is
scheduled; steps and boundaries count updates, whole or not; rates, powers, factors and shares have no unit. Each is a
number or a scalar array, traced too (`jax.vmap` over it is a sweep); bools, names and None are static.
*Count.* An int, an integer array or a float; below 0 means 0. It stays an integer while the steps are integers, and a
decay ends with (T - t) / T, not 1 - t / T, so that float32 keeps its digits.
*Returns* a scalar of JAX's default float dtype, finite at every count.
*Raises*, when the schedule is made, for what is not traced: ValueError for a number outside its range (naming argument,
range and number) or an array that is no scalar; TypeError for what is no number.
"""

from jaxopt_lectures.schedules.cycles import (
    cyclic_schedule,
    join_schedules,
    sgdr_schedule,
    sutskever_momentum_schedule,
    warm_restarts_schedule,
)
from jaxopt_lectures.schedules.decays import (
    constant_schedule,
    cosine_decay_schedule,
    exponential_decay,
    inverse_sqrt_schedule,
    inverse_time_schedule,
    linear_schedule,
    piecewise_constant_schedule,
    piecewise_interpolate_schedule,
    polynomial_schedule,
    step_schedule,
)
from jaxopt_lectures.schedules.warmups import (
    cosine_onecycle_schedule,
    linear_onecycle_schedule,
    warmup_constant_schedule,
    warmup_cosine_decay_schedule,
    warmup_exponential_decay_schedule,
    warmup_stable_decay_schedule,
)

__all__ = [
    "constant_schedule",
    "cosine_decay_schedule",
    "cosine_onecycle_schedule",
    "cyclic_schedule",
    "exponential_decay",
    "inverse_sqrt_schedule",
    "inverse_time_schedule",
    "join_schedules",
    "linear_onecycle_schedule",
    "linear_schedule",
    "piecewise_constant_schedule",
    "piecewise_interpolate_schedule",
    "polynomial_schedule",
    "sgdr_schedule",
    "step_schedule",
    "sutskever_momentum_schedule",
    "warm_restarts_schedule",
    "warmup_constant_schedule",
    "warmup_cosine_decay_schedule",
    "warmup_exponential_decay_schedule",
    "warmup_stable_decay_schedule",
]
