"""Schedules: functions of the step count, for learning rates, momenta and every other hyper-parameter.

Each public function returns a schedule: a callable from t, the number of updates made so far (0 at the first), to a
scalar. The rho_k of the lectures (001, algorithm 8.1 and "scheduled learning"), k = 1, 2, ..., is `schedule(k - 1)`.
Names, argument order, defaults and values are optax's wherever optax 0.2.8 has the schedule. Said once for all:

*Reading.* `@_schedule` turns a formula `(t, arguments)` into the function `(arguments) -> schedule` that users call.
The annotation of an argument says what it is, a value or steps, and its range: `PositiveSteps` lie in (0, inf).

*Arguments.* Values (`init_value` at 0, `peak_value` after the warm-up, `end_value` at the end) have the unit of what
is scheduled. Steps and boundaries count updates and need not be whole. Rates, powers, factors have no unit. Each may
be a number or a scalar array, traced too, so that `jax.vmap` over any is a sweep; bools, names and None are static.

*Count.* An int, an integer array or a float; below 0 means 0. It stays an integer while the steps are integers, and a
decay ends with (T - t) / T, not 1 - t / T: float32 keeps its digits over long runs. The result is a scalar in JAX's
default float dtype, finite at every count.

*Raises* (when a schedule is made, for what is not traced): ValueError for a number outside its range, naming argument,
range and number, or an array that is not a scalar; TypeError for what is not a number.
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

__all__ = [  # fmt: skip
    "constant_schedule", "cosine_decay_schedule", "cosine_onecycle_schedule", "cyclic_schedule", "exponential_decay",
    "inverse_sqrt_schedule", "inverse_time_schedule", "join_schedules", "linear_onecycle_schedule", "linear_schedule",
    "piecewise_constant_schedule", "piecewise_interpolate_schedule", "polynomial_schedule", "sgdr_schedule",
    "step_schedule", "sutskever_momentum_schedule", "warm_restarts_schedule", "warmup_constant_schedule",
    "warmup_cosine_decay_schedule", "warmup_exponential_decay_schedule", "warmup_stable_decay_schedule",
]  # fmt: skip

Value = Annotated[Number, "(-inf, inf)", "value"]
PositiveValue = Annotated[Number, "(0, inf)", "value"]
NonNegativeValue = Annotated[Number, "[0, inf)", "value"]
Steps = Annotated[Number, "(-inf, inf)", "steps"]
PositiveSteps = Annotated[Number, "(0, inf)", "steps"]
NonNegativeSteps = Annotated[Number, "[0, inf)", "steps"]
Pieces = Mapping[Any, Number] | Iterable[tuple[Number, Number]] | None
P = ParamSpec("P")


def _schedule(formula: Callable[Concatenate[Any, P], jax.Array]) -> Callable[P, Schedule]:
    """From `formula(t, arguments)` to `(arguments) -> schedule`; checks at once, converts to arrays at each count."""
    _, *parameters = inspect.signature(formula).parameters.values()
    signature = inspect.Signature(parameters, return_annotation=Schedule)
    marked = {p.name: p.annotation.__metadata__ for p in parameters if hasattr(p.annotation, "__metadata__")}

    @functools.wraps(formula)
    def make(*args: P.args, **kwargs: P.kwargs) -> Schedule:
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        given = bound.arguments
        numbers = {k: marked[k] for k in marked if not (given[k] is None and signature.parameters[k].default is None)}
        for name, (interval, _) in numbers.items():
            _check(name, given[name], interval, given)
        for name, choice in ((p.name, p.annotation) for p in parameters if get_origin(p.annotation) is Literal):
            if given[name] not in get_args(choice):
                raise ValueError(f"{name} must be one of {get_args(choice)}, got {given[name]!r}")
        values, steps = ([k for k, (_, kind) in numbers.items() if kind == wanted] for wanted in ("value", "steps"))

        def schedule(count: Any) -> jax.Array:
            t, *converted = _together(count, *(given[k] for k in steps))
            arrays = dict(zip(steps, converted, strict=True)) | {k: _real(given[k]) for k in values}
            return formula(jnp.maximum(t, 0), **{**given, **arrays})

        return schedule

    make.__signature__ = signature  # type: ignore[attr-defined]
    return make


def _check(name: str, value: Any, interval: str, given: Mapping[str, Any]) -> None:
    """Raises if `value` is known to lie outside `interval`, whose ends are numbers or names of arguments in `given`."""
    number, ends = _known(name, value), interval[1:-1].split(", ")
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


def _real(x: Any) -> jax.Array:
    """`x` in JAX's default float dtype."""
    return jnp.asarray(float(x) if isinstance(x, (int, np.integer)) else x, jnp.result_type(float))


def _together(*steps: Any) -> list[jax.Array]:
    """All in JAX's default integer dtype if all are integers that fit, otherwise all in its default float dtype."""
    integer = jnp.result_type(int)
    known = [x for x in steps if isinstance(x, (int, np.integer))]
    fit = all(abs(int(x)) <= jnp.iinfo(integer).max for x in known)
    whole = fit and all(jnp.issubdtype(jnp.result_type(x), jnp.integer) for x in steps)
    return [jnp.asarray(x, integer) if whole else _real(x) for x in steps]


def _shares(t: jax.Array, steps: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Which share of `steps` lies behind `t` and which ahead, in [0, 1]; without steps all lies behind from 0 on."""
    length = jnp.where(steps > 0, steps, 1)
    elapsed = jnp.where(steps > 0, jnp.clip(t, 0, length), (t >= 0).astype(t.dtype))
    return _real(elapsed) / _real(length), _real(length - elapsed) / _real(length)


def _line(t: jax.Array, start: Any, end: Any, steps: jax.Array) -> jax.Array:
    behind, ahead = _shares(t, steps)
    return jnp.where(steps > 0, start * ahead + end * behind, start)


def _mix(end: Any, start: Any, weight: jax.Array) -> jax.Array:
    return start * weight + end * (1 - weight)


def _power(base: jax.Array, exponent: Any) -> jax.Array:
    """`base ** exponent` for both >= 0, with finite derivatives at base 0."""
    positive = base > 0
    return jnp.where(positive, jnp.where(positive, base, 1) ** exponent, _real(exponent == 0))


def _half_wave(share: jax.Array) -> jax.Array:
    """`(1 - cos(pi share)) / 2`, from 0 to 1, without the cancellation near 0."""
    return jnp.square(jnp.sin(jnp.pi / 2 * share))


def _exponential(t: Any, first: Any, steps: Any, rate: Any, staircase: bool, bound: Any = None) -> jax.Array:
    """`first * rate ** (t / steps)` up to `bound`; growth stops ten orders of magnitude before it would overflow."""
    decays, length = (steps > 0) & (rate > 0), jnp.where(steps > 0, steps, 1)
    elapsed, ratio = jnp.maximum(t, 0), jnp.where(rate > 0, rate, 1)
    exponent = _real(elapsed // length) if staircase else _real(elapsed) / _real(length)
    room = jnp.log(float(jnp.finfo(first.dtype).max) * 1e-10 / jnp.maximum(jnp.abs(first), 1))
    largest = jax.lax.stop_gradient(room / jnp.log(jnp.where(ratio > 1, ratio, 2)))
    value = first * ratio ** jnp.where(ratio > 1, jnp.minimum(exponent, largest), exponent)
    if bound is not None:
        value = jnp.where(rate < 1, jnp.maximum(value, bound), jnp.minimum(value, bound))
    return jnp.where(decays, value, first)


def _through(t: jax.Array, points: Sequence[tuple[Any, Any]], shape: str) -> jax.Array:
    """The curve through `points`, (count, value) in order of their counts; constant after the last."""
    value = points[0][1]
    for (begin, start), (end, stop) in pairwise(points):
        behind, ahead = _shares(t - begin, end - begin)
        if shape == "cosine":
            behind, ahead = _half_wave(behind), _half_wave(ahead)
        value = jnp.where(t >= begin, start * ahead + stop * behind, value)
    return value


def _pieces(given: Pieces) -> list[tuple[Number, Number]]:
    try:
        pieces = [(b, s) for b, s in (given.items() if isinstance(given, Mapping) else () if given is None else given)]
    except (TypeError, ValueError):
        wanted = "a dict {boundary: scale} or a sequence of pairs (boundary, scale)"
        raise TypeError(f"boundaries_and_scales must be {wanted}, got {given!r}") from None
    for boundary, scale in pieces:
        _check("each boundary in boundaries_and_scales", boundary, "(-inf, inf)", {})
        _check("each scale in boundaries_and_scales", scale, "[0, inf)", {})
    return pieces


@_schedule
def constant_schedule(t: Any, value: Value) -> jax.Array:
    """`value` at every count."""
    return value


@_schedule
def linear_schedule(
    t: Any, init_value: Value, end_value: Value, transition_steps: Steps, transition_begin: Steps = 0
) -> jax.Array:
    """A straight line from `transition_begin` on: `init + (end - init) (t - begin) / steps`; `init` if `steps <= 0`.

    With (rho_0, rho_tau, tau) it is the usual learning rate of lecture 001's algorithm 8.1.
    Source: I. Goodfellow, Y. Bengio, A. Courville, "Deep learning", 2016, equation 8.14.
    """
    return _line(t - jnp.maximum(transition_begin, 0), init_value, end_value, transition_steps)


@_schedule
def polynomial_schedule(
    t: Any, init_value: Value, end_value: Value, power: NonNegativeValue, transition_steps: Steps,
    transition_begin: Steps = 0
) -> jax.Array:  # fmt: skip
    """A power of what is left: `end + (init - end) (1 - (t - begin) / steps)^power`; `init` if `steps <= 0`."""
    _, ahead = _shares(t - jnp.maximum(transition_begin, 0), transition_steps)
    return jnp.where(transition_steps > 0, _mix(end_value, init_value, _power(ahead, power)), init_value)


def piecewise_constant_schedule(init_value: Number, boundaries_and_scales: Pieces = None) -> Schedule:
    """`init_value` times the scales of all boundaries up to t.

    `boundaries_and_scales`: a dict {boundary: scale}, or pairs (boundary, scale), whose boundaries may be traced;
    the order does not matter; scales in [0, inf).
    """
    first, pieces = constant_schedule(value=init_value), _pieces(boundaries_and_scales)

    def schedule(count: Any) -> jax.Array:
        t, *boundaries = _together(count, *(b for b, _ in pieces))
        scales = [jnp.where(t >= b, _real(s), 1) for b, (_, s) in zip(boundaries, pieces, strict=True)]
        return functools.reduce(jnp.multiply, scales, first(count))

    return schedule
