"""Schedules: functions of the step count, for learning rates, momenta and every other hyper-parameter.

Each public function returns a schedule: a callable from the number of updates made so far, 0 at the first one, to a
scalar. The rho_k of the lectures (001, algorithm 8.1 and "scheduled learning"), k = 1, 2, ..., is `schedule(k - 1)`.
Names, argument order, defaults and values are optax's wherever optax 0.2.8 has the schedule. Said once for all:

*Reading.* Below, `@_schedule` turns a formula `(t, arguments)` into the function `(arguments) -> schedule`. The
annotations say what an argument is, `Value` or `Steps`, and the interval it must lie in (`Positive`...: (0, inf)).

*Arguments.* Values (`init_value` at the start, `peak_value` after a warm-up, `end_value` at the end) have the unit of
what is scheduled. Steps, periods and boundaries count updates and need not be whole. `transition_begin`: steps before
anything changes, below 0 means 0. Rates, powers and factors have no unit. Each may be a Python number, a NumPy scalar
or a scalar array, traced too: `jax.vmap` over any of them is a sweep. Only bools, names and None are static.

*Count.* An int, an integer array or a float; below 0 means 0. Differences and remainders are taken in integers where
count and argument are integers, and the end of a decay comes from (T - t) / T, not 1 - t / T, so that float32 keeps
its digits to the last step. The result is a scalar of JAX's default float dtype, finite at every count.

*Raises*, when a schedule is made: ValueError for a number outside its interval, naming argument, interval and value;
TypeError for what is no number. Traced numbers cannot be checked.
"""

import functools
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Annotated, Any, Concatenate, Literal, ParamSpec, get_args, get_origin

import jax
import jax.numpy as jnp
import numpy as np

from jaxopt_lectures.core.checks import Number, Schedule, known_number

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


def _real(x: Any) -> jax.Array:
    """`x` in JAX's default float dtype."""
    return jnp.asarray(float(x) if isinstance(x, (int, np.integer)) else x, jnp.result_type(float))


def _number(x: Any) -> jax.Array:
    """`x` in JAX's default integer dtype if it is an integer that fits, in its default float dtype otherwise."""
    integer = jnp.result_type(int)
    known = isinstance(x, (int, np.integer))
    whole = abs(int(x)) <= jnp.iinfo(integer).max if known else jnp.issubdtype(jnp.result_type(x), jnp.integer)
    return jnp.asarray(x, integer) if whole else _real(x)


Value = Annotated[Number, "(-inf, inf)", _real]
PositiveValue = Annotated[Number, "(0, inf)", _real]
NonNegativeValue = Annotated[Number, "[0, inf)", _real]
Share = Annotated[Number, "[0, 1]", _real]
Steps = Annotated[Number, "(-inf, inf)", _number]
PositiveSteps = Annotated[Number, "(0, inf)", _number]
NonNegativeSteps = Annotated[Number, "[0, inf)", _number]
Pieces = Mapping[Any, Number] | Iterable[tuple[Number, Number]] | None
P = ParamSpec("P")


def _schedule(formula: Callable[Concatenate[Any, P], jax.Array]) -> Callable[P, Schedule]:
    """From `formula(t, arguments)` to `(arguments) -> schedule`: checked now, converted to arrays at each call."""
    _, *parameters = inspect.signature(formula).parameters.values()
    signature = inspect.Signature(parameters, return_annotation=Schedule)
    convert = {p.name: p.annotation.__metadata__[1] for p in parameters if hasattr(p.annotation, "__metadata__")}

    @functools.wraps(formula)
    def make(*args: P.args, **kwargs: P.kwargs) -> Schedule:
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        given = bound.arguments
        for p in parameters:
            if p.name in convert and not (given[p.name] is None and p.default is None):
                _check(p.name, given[p.name], p.annotation.__metadata__[0], given)
            elif get_origin(p.annotation) is Literal and given[p.name] not in get_args(p.annotation):
                raise ValueError(f"{p.name} must be one of {get_args(p.annotation)}, got {given[p.name]!r}")

        def schedule(count: Any) -> jax.Array:
            ready = {k: convert[k](v) if k in convert and v is not None else v for k, v in given.items()}
            return formula(jnp.maximum(_number(count), 0), **ready)

        return schedule

    make.__signature__ = signature
    return make


def _check(name: str, value: Any, interval: str, given: Mapping[str, Any]) -> None:
    """Raises if `value` is known to lie outside `interval`, whose ends are numbers or names of arguments in `given`."""
    number = _known(name, value)
    ends = interval[1:-1].split(", ")
    low, high = (_known(end, given[end]) if end in given else float(end) for end in ends)
    if number is None or low is None or high is None:
        return
    if not (low < number < high or (number == low and interval[0] == "[") or (number == high and interval[-1] == "]")):
        named = "".join(f", {end}={given[end]!r}" for end in ends if end in given)
        raise ValueError(f"{name} must lie in {interval}, got {value!r}{named}")


def _known(name: str, value: Any) -> float | None:
    try:
        if callable(value) or isinstance(value, (list, tuple, dict)):
            raise TypeError
        return known_number(name, value)
    except TypeError:
        raise TypeError(f"{name} must be a number or a scalar array, got {value!r}") from None


def _pair(a: Any, b: Any) -> tuple[jax.Array, jax.Array]:
    """Both as integers if both are, otherwise both as floats."""
    a, b = _number(a), _number(b)
    return (a, b) if a.dtype == b.dtype else (_real(a), _real(b))


def _difference(a: Any, b: Any) -> jax.Array:
    a, b = _pair(a, b)
    return a - b


def _reached(t: Any, boundary: Any) -> jax.Array:
    t, boundary = _pair(t, boundary)
    return t >= boundary


def _elapsed(t: Any, begin: Any) -> jax.Array:
    """Steps from `begin` to `t`, 0 before it."""
    t, begin = _pair(t, begin)
    if jnp.issubdtype(t.dtype, jnp.integer):  # from a negative begin: stop at the largest integer
        t = jnp.minimum(t, jnp.iinfo(t.dtype).max + jnp.minimum(begin, 0))
    return jnp.maximum(t - begin, 0)


def _shares(t: Any, steps: Any, begin: Any = 0) -> tuple[jax.Array, jax.Array]:
    """Which share of the `steps` from `begin` on lies behind `t`, and which ahead; without steps, all at once."""
    elapsed, length = _pair(_elapsed(t, begin), jnp.where(_number(steps) > 0, steps, 1))
    elapsed = jnp.minimum(elapsed, length)
    behind, ahead = _real(elapsed) / _real(length), _real(length - elapsed) / _real(length)
    over = _real(_reached(t, begin))
    return jnp.where(steps > 0, behind, over), jnp.where(steps > 0, ahead, 1 - over)


def _periods(t: jax.Array, period: jax.Array) -> tuple[jax.Array, jax.Array]:
    """How many whole periods lie behind `t`, and the steps since the last one ended."""
    t, period = _pair(t, jnp.where(period > 0, period, 1))
    return jnp.divmod(t, period)


def _power(base: jax.Array, exponent: Any) -> jax.Array:
    """`base ** exponent` for both >= 0, with finite derivatives at base 0."""
    positive = base > 0
    return jnp.where(positive, jnp.where(positive, base, 1) ** exponent, _real(exponent == 0))


def _half_wave(share: jax.Array) -> jax.Array:
    """`(1 - cos(pi share)) / 2`, without its cancellation near 0."""
    return jnp.square(jnp.sin(jnp.pi / 2 * share))


def _mix(end: Any, start: Any, weight: jax.Array) -> jax.Array:
    """`end` at weight 0, `start` at weight 1."""
    return start * weight + end * (1 - weight)


def _geometric(first: jax.Array, ratio: jax.Array, exponent: jax.Array) -> jax.Array:
    """`first * ratio ** exponent` for ratio > 0, which stops growing ten orders of magnitude before it overflows."""
    growth = jnp.where(ratio > 1, ratio, 2)
    room = jnp.log(float(jnp.finfo(first.dtype).max) * 1e-10 / jnp.maximum(jnp.abs(first), 1))
    largest = jax.lax.stop_gradient(jnp.maximum(room / jnp.log(growth), 0))
    return first * ratio ** jnp.where(ratio > 1, jnp.minimum(exponent, largest), exponent)


def _line(t: Any, start: Any, end: Any, steps: Any, begin: Any = 0) -> jax.Array:
    behind, ahead = _shares(t, steps, begin)
    return jnp.where(steps > 0, start * ahead + end * behind, start)


def _exponential(t: Any, init: Any, steps: Any, rate: Any, begin: Any, staircase: bool, end: Any) -> jax.Array:
    length = jnp.where(steps > 0, steps, 1)
    elapsed = _elapsed(t, jnp.maximum(begin, 0))
    exponent = _real(_periods(elapsed, length)[0]) if staircase else _real(elapsed) / _real(length)
    value = _geometric(init, jnp.where(rate > 0, rate, 1), exponent)
    if end is not None:
        value = jnp.where(rate < 1, jnp.maximum(value, end), jnp.minimum(value, end))
    return jnp.where((steps > 0) & (rate > 0), value, init)


def _through(t: Any, points: Sequence[tuple[Any, Any]], shape: str) -> jax.Array:
    """The curve through `points`, pairs (count, value) in order of their counts; constant after the last."""
    value = points[0][1]
    for (begin, start), (end, stop) in pairwise(points):
        behind, ahead = _shares(t, _difference(end, begin), begin)
        if shape == "cosine":
            behind, ahead = _half_wave(behind), _half_wave(ahead)
        value = jnp.where(_reached(t, begin), start * ahead + stop * behind, value)
    return value


def _part(share: Any, steps: Any) -> Any:
    """`share * steps`, rounded down; in Python's floats if both are known, as optax does it."""
    if isinstance(share, jax.core.Tracer) or isinstance(steps, jax.core.Tracer):
        return jnp.floor(_real(share) * _real(steps)).astype(jnp.result_type(int))
    return int(float(share) * float(steps))


def _pieces(given: Pieces) -> list[tuple[Number, Number]]:
    try:
        pieces = [(b, s) for b, s in (given.items() if isinstance(given, Mapping) else given or ())]
    except (TypeError, ValueError):
        wanted = "a dict {boundary: scale} or a sequence of pairs (boundary, scale)"
        raise TypeError(f"boundaries_and_scales must be {wanted}, got {given!r}") from None
    for i, (boundary, scale) in enumerate(pieces):
        _check(f"boundaries_and_scales: boundary {i}", boundary, "(-inf, inf)", {})
        _check(f"boundaries_and_scales: scale {i}", scale, "[0, inf)", {})
    return pieces


@_schedule
def constant_schedule(t: Any, value: Value) -> jax.Array:
    """`value` at every count."""
    return value


@_schedule
def linear_schedule(
    t: Any, init_value: Value, end_value: Value, transition_steps: Steps, transition_begin: Steps = 0
) -> jax.Array:
    """A straight line: `init + (end - init) (t - begin) / steps`; `init` for ever if `transition_steps <= 0`.

    With (rho_0, rho_tau, tau) it is the usual rate of lecture 001's algorithm 8.1.
    Source: I. Goodfellow, Y. Bengio, A. Courville, "Deep learning", 2016, equation 8.14.
    """
    return _line(t, init_value, end_value, transition_steps, jnp.maximum(transition_begin, 0))


@_schedule
def polynomial_schedule(
    t: Any,
    init_value: Value,
    end_value: Value,
    power: NonNegativeValue,
    transition_steps: Steps,
    transition_begin: Steps = 0,
) -> jax.Array:
    """A power of what is left: `end + (init - end) (1 - (t - begin) / steps)^power`; steps as in `linear_schedule`."""
    _, ahead = _shares(t, transition_steps, jnp.maximum(transition_begin, 0))
    return jnp.where(transition_steps > 0, _mix(end_value, init_value, _power(ahead, power)), init_value)


def piecewise_constant_schedule(init_value: Number, boundaries_and_scales: Pieces = None) -> Schedule:
    """`init_value` times the scales of all boundaries `<= t`.

    Args:
      init_value: the value before the first boundary.
      boundaries_and_scales: a dict {boundary: scale}, or pairs (boundary, scale) whose boundaries may be traced;
        scales in [0, inf).
    """
    start, pieces = constant_schedule(init_value), _pieces(boundaries_and_scales)
