"""Schedules: functions of the step count, for learning rates, momenta and every other hyper-parameter.

Each public function returns a schedule: a callable from t, the updates made so far (0 at the first), to a scalar. The
rho_k of lecture 001 (algorithm 8.1, "scheduled learning"), k = 1, 2, ..., is `schedule(k - 1)`; the book's own choice
(Goodfellow et al., "Deep learning", 2016, equation 8.14) is `linear_schedule`. Names, argument order, defaults and
values are optax's wherever optax 0.2.8 has the schedule. Said once for all of them:

*Reading.* `@_schedule` turns a formula `(t, arguments)` into the function `(arguments) -> schedule` that users call.
An argument's annotation says whether it is a value or steps, and its range: `PositiveSteps` lie in (0, inf).
*Args.* Values (`init_value` at 0, `peak_value` after the warm-up, `end_value` at the end) have the unit of what is
scheduled; steps and boundaries count updates, whole or not; rates, powers, factors and shares have no unit. Each is a
number or a scalar array, traced too (`jax.vmap` over it is a sweep); bools, names and None are static.
*Count.* An int, an integer array or a float; below 0 means 0. It stays an integer while the steps are integers, and a
decay ends with (T - t) / T, not 1 - t / T, so that float32 keeps its digits.
*Returns* a scalar of JAX's default float dtype, finite at every count.
*Raises*, when the schedule is made, for what is not traced: ValueError for a number outside its range (naming argument,
range and number) or an array that is no scalar; TypeError for what is no number.
"""

import functools
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import accumulate, pairwise
from typing import Annotated, Any, Concatenate, Literal, ParamSpec, get_args, get_origin

import jax
import jax.numpy as jnp
import numpy as np

from jaxopt_lectures.core.checks import Number, Schedule, known_number

__all__ = ["constant_schedule", "cosine_decay_schedule", "cosine_onecycle_schedule", "cyclic_schedule"]
__all__ += ["exponential_decay", "inverse_sqrt_schedule", "inverse_time_schedule", "join_schedules"]
__all__ += ["linear_onecycle_schedule", "linear_schedule", "piecewise_constant_schedule"]
__all__ += ["piecewise_interpolate_schedule", "polynomial_schedule", "sgdr_schedule", "step_schedule"]
__all__ += ["sutskever_momentum_schedule", "warm_restarts_schedule", "warmup_constant_schedule"]
__all__ += ["warmup_cosine_decay_schedule", "warmup_exponential_decay_schedule", "warmup_stable_decay_schedule"]

Value = Annotated[Number, "(-inf, inf)", "value"]
ValueOrNone = Annotated[Number | None, "(-inf, inf)", "value"]
Positive = Annotated[Number, "(0, inf)", "value"]
Unsigned = Annotated[Number, "[0, inf)", "value"]
Share = Annotated[Number, "[0, 1]", "value"]
Steps = Annotated[Number, "(-inf, inf)", "steps"]
PositiveSteps = Annotated[Number, "(0, inf)", "steps"]
UnsignedSteps = Annotated[Number, "[0, inf)", "steps"]
Pieces = Mapping[Any, Any] | Sequence[tuple[Any, Any]] | Any  # a dict {boundary: scale} or pairs (boundary, scale)
P = ParamSpec("P")


def _schedule(formula: Callable[Concatenate[Any, P], jax.Array]) -> Callable[P, Schedule]:
    """From `formula(t, arguments)` to `(arguments) -> schedule`; checks at once, converts to arrays at each count."""
    _, *parameters = inspect.signature(formula).parameters.values()
    signature = inspect.Signature(parameters, return_annotation=Schedule)
    marks = {p.name: p.annotation.__metadata__ for p in parameters if get_origin(p.annotation) is Annotated}

    @functools.wraps(formula)
    def make(*args: P.args, **kwargs: P.kwargs) -> Schedule:
        bound = signature.bind(*args, **kwargs)
        given = {p.name: bound.arguments.get(p.name, p.default) for p in parameters}
        for name, kind in ((p.name, p.annotation) for p in parameters):
            if get_origin(kind) is Literal and given[name] not in get_args(kind):
                raise ValueError(f"{name} must be one of {get_args(kind)}, got {given[name]!r}")
            if kind is Pieces:
                given[name] = _pieces(given[name])
            elif name in marks and not (given[name] is None and signature.parameters[name].default is None):
                _check(name, given[name], marks[name][0], given)

        def schedule(count: Any) -> jax.Array:
            steps = {k: given[k] for k in marks if marks[k][1] == "steps" and given[k] is not None}
            t, *whole = _together(count, *steps.values())
            ready = {k: _real(given[k]) for k in marks if given[k] is not None} | dict(zip(steps, whole, strict=True))
            valid = {k: jnp.where(v > 0, v, 1) if marks[k][0] == "(0, inf)" else v for k, v in ready.items()}
            return formula(jnp.maximum(t, 0), **(given | valid))  # type: ignore[call-arg]

        return schedule

    vars(make)["__signature__"] = signature
    return make


def _check(name: str, value: Any, interval: str, given: Mapping[str, Any]) -> None:
    """Raises if `value` is known to lie outside `interval`, whose ends are numbers or names of checked arguments."""
    if callable(value):
        raise TypeError(f"{name} must be a number or a scalar array, not a schedule, got {value!r}")
    number, ends = known_number(name, value), interval[1:-1].split(", ")
    low, high = (known_number(end, given[end]) if end in given else float(end) for end in ends)
    if number is None or low is None or high is None:
        return
    if not (low < number < high or (number == low and interval[0] == "[") or (number == high and interval[-1] == "]")):
        raise ValueError(f"{name} must lie in {interval}, got {value!r}")


def _pieces(given: Any) -> list[tuple[Any, Any]]:
    """`boundaries_and_scales`, checked, as a list."""
    pieces = [(b, s) for b, s in (given.items() if isinstance(given, Mapping) else () if given is None else given)]
    for i, (boundary, scale) in enumerate(pieces):
        _check(f"boundary {i} of boundaries_and_scales", boundary, "(-inf, inf)", {})
        _check(f"scale {i} of boundaries_and_scales", scale, "[0, inf)", {})
    return pieces


def _real(x: Any) -> jax.Array:
    """`x` in JAX's default float dtype."""
    return jnp.asarray(float(x) if isinstance(x, (int, np.integer)) else x, jnp.result_type(float))


def _together(*steps: Any) -> list[jax.Array]:
    """All in JAX's default integer dtype if all are integers that fit, otherwise all in its default float dtype."""
    integer = jnp.result_type(int)
    fit = all(abs(int(x)) <= jnp.iinfo(integer).max for x in steps if isinstance(x, (int, np.integer)))
    whole = fit and all(jnp.issubdtype(jnp.result_type(x), jnp.integer) for x in steps)
    return [jnp.asarray(x, integer) if whole else _real(x) for x in steps]


def _shares(t: Any, steps: Any) -> tuple[jax.Array, jax.Array]:
    """Which share of `steps` lies behind `t` and which ahead, in [0, 1]; without steps all lies behind from 0 on."""
    length = jnp.where(steps > 0, steps, 1)
    elapsed = jnp.where(steps > 0, jnp.clip(t, 0, length), (t >= 0).astype(t.dtype))
    return _real(elapsed) / _real(length), _real(length - elapsed) / _real(length)


def _warmup(t: Any, start: Any, peak: Any, steps: Any, after: Any) -> jax.Array:
    """A line from `start` to `peak`, then `after`."""
    behind, ahead = _shares(t, steps)
    return jnp.where(t >= steps, after, start * ahead + peak * behind)


def _power(base: jax.Array, exponent: Any) -> jax.Array:
    """`base ** exponent` for both >= 0, with finite derivatives at base 0."""
    return jnp.where(base > 0, jnp.where(base > 0, base, 1) ** exponent, _real(exponent == 0))


def _half_wave(share: jax.Array) -> jax.Array:
    """`(1 - cos(pi share)) / 2`, from 0 to 1, without the cancellation near 0."""
    return jnp.square(jnp.sin(jnp.pi / 2 * share))


def _exponential(t: Any, first: Any, steps: Any, rate: Any, staircase: bool, bound: Any = None) -> jax.Array:
    """`first * rate ** (t / steps)` up to `bound`; growth stops ten orders of magnitude before it would overflow."""
    length, ratio, t = jnp.where(steps > 0, steps, 1), jnp.where(rate > 0, rate, 1), jnp.maximum(t, 0)
    exponent = _real(t // length) if staircase else _real(t) / _real(length)
    room = jnp.log(float(jnp.finfo(first.dtype).max) * 1e-10 / jnp.maximum(jnp.abs(first), 1))
    largest = jax.lax.stop_gradient(room / jnp.log(jnp.where(ratio > 1, ratio, 2)))
    value = first * ratio ** jnp.where(ratio > 1, jnp.minimum(exponent, largest), exponent)
    value = value if bound is None else jnp.where(rate < 1, jnp.maximum(value, bound), jnp.minimum(value, bound))
    return jnp.where((steps > 0) & (rate > 0), value, first)


def _through(t: Any, points: Sequence[tuple[Any, Any]], shape: str) -> jax.Array:
    """The curve through `points`, (count, value) in order of their counts, the first at 0; constant after the last."""
    value = points[0][1]
    for (begin, start), (end, stop) in pairwise(points):
        shares = _shares(t - begin, end - begin)
        behind, ahead = (_half_wave(share) for share in shares) if shape == "cosine" else shares
        value = jnp.where(t >= begin, start * ahead + stop * behind, value)
    return value


@_schedule
def constant_schedule(t: Any, value: Value) -> jax.Array:
    """`value` at every count."""
    return _real(value)


@_schedule
def linear_schedule(
    t: Any, init_value: Value, end_value: Value, transition_steps: Steps, transition_begin: Steps = 0
) -> jax.Array:
    """A straight line, `init + (end - init) (t - begin) / steps`; `init` if `steps <= 0`."""
    line = _warmup(t - jnp.maximum(transition_begin, 0), init_value, end_value, transition_steps, end_value)
    return jnp.where(transition_steps > 0, line, init_value)


@_schedule
def polynomial_schedule(
    t: Any, init_value: Value, end_value: Value, power: Unsigned, transition_steps: Steps, transition_begin: Steps = 0
) -> jax.Array:
    """A power of what is left: `end + (init - end) (1 - (t - begin) / steps)^power`; `init` if `steps <= 0`."""
    weight = _power(_shares(t - jnp.maximum(transition_begin, 0), transition_steps)[1], power)
    return jnp.where(transition_steps > 0, init_value * weight + end_value * (1 - weight), init_value)


@_schedule
def piecewise_constant_schedule(t: Any, init_value: Value, boundaries_and_scales: Pieces = None) -> jax.Array:
    """`init_value` times the scales, in [0, inf), of all boundaries up to t, which may be traced if given in pairs."""
    for boundary, scale in boundaries_and_scales:
        now, begin = _together(t, boundary)
        init_value = init_value * jnp.where(now >= begin, _real(scale), 1)
    return init_value


@_schedule
def piecewise_interpolate_schedule(
    t: Any, interpolate_type: Literal["linear", "cosine"], init_value: Value, boundaries_and_scales: Pieces = None
) -> jax.Array:
    """A curve, of lines or half cosine waves, through what `piecewise_constant_schedule` is at 0 and the boundaries."""
    t, first, *boundaries = _together(t, 0, *(boundary for boundary, _ in boundaries_and_scales))
    points = [(first, init_value)]
    for i in jnp.argsort(jnp.stack(boundaries)) if boundaries else ():
        scale = jnp.stack([_real(scale) for _, scale in boundaries_and_scales])[i]
        points.append((jnp.stack(boundaries)[i], points[-1][1] * scale))
    return _through(t, points, interpolate_type)


@_schedule
def linear_onecycle_schedule(
    t: Any, transition_steps: PositiveSteps, peak_value: Value, pct_start: Share = 0.3,
    pct_final: Annotated[Number, "[pct_start, 1]", "value"] = 0.85, div_factor: Positive = 25.0,
    final_div_factor: Positive = 1e4,
) -> jax.Array:  # fmt: skip
    """Three lines: `peak/div` to `peak`, back to `peak/div`, to `peak/div/final_div` at `transition_steps`.

    `pct_start`, `pct_final`: shares of the steps (0.3, not 30) where the first two end, rounded down. Two corners on
    one step (`pct_final=1`) are a jump (optax forgets one). Source: L. Smith, N. Topin, 2017, arXiv:1708.07120.
    """
    low, top, bottom = peak_value / div_factor, pct_start * _real(transition_steps), pct_final * _real(transition_steps)
    corners = [(jnp.floor(top).astype(t.dtype), peak_value), (jnp.floor(bottom).astype(t.dtype), low)]
    return _through(t, [(0, low), *corners, (transition_steps, low / final_div_factor)], "linear")


@_schedule
def cosine_onecycle_schedule(
    t: Any, transition_steps: PositiveSteps, peak_value: Value, pct_start: Share = 0.3, div_factor: Positive = 25.0,
    final_div_factor: Positive = 1e4,
) -> jax.Array:  # fmt: skip
    """Half cosine waves: `peak/div` to `peak`, then to `peak/div/final_div`; else as `linear_onecycle_schedule`."""
    low, top = peak_value / div_factor, jnp.floor(pct_start * _real(transition_steps)).astype(t.dtype)
    return _through(t, [(0, low), (top, peak_value), (transition_steps // 1, low / final_div_factor)], "cosine")


@_schedule
def exponential_decay(
    t: Any, init_value: Value, transition_steps: Steps, decay_rate: Unsigned, transition_begin: Steps = 0,
    staircase: bool = False, end_value: ValueOrNone = None,
) -> jax.Array:  # fmt: skip
    """`init * decay_rate^((t - begin) / steps)`; `init` if `decay_rate = 0` or `steps <= 0`.

    `staircase`: the exponent is rounded down. `end_value`: a lower bound if `decay_rate < 1`, else an upper one.
    """
    begin = jnp.maximum(transition_begin, 0)
    return _exponential(t - begin, init_value, transition_steps, decay_rate, staircase, end_value)


@_schedule
def step_schedule(t: Any, init_value: Value, step_size: PositiveSteps, decay_rate: Positive) -> jax.Array:
    """`init * decay_rate^floor(t / step_size)`: multiplied by `decay_rate` every `step_size` steps."""
    return _exponential(t, init_value, step_size, decay_rate, staircase=True)


@_schedule
def inverse_time_schedule(
    t: Any, init_value: Value, decay_rate: Unsigned, transition_steps: PositiveSteps = 1, power: Unsigned = 1.0
) -> jax.Array:
    """`init / (1 + decay_rate t / steps)^power`, the step lengths of stochastic approximation.

    Lecture 001's algorithm 8.1 converges if the sum of rho_k is infinite and that of rho_k^2 finite: with `decay_rate`
    above 0, exactly for `1/2 < power <= 1`. Source: H. Robbins, S. Monro, "A stochastic approximation method", 1951.
    """
    return init_value * (1 + decay_rate * (_real(t) / _real(transition_steps))) ** -power


@_schedule
def inverse_sqrt_schedule(t: Any, init_value: Value, warmup_steps: PositiveSteps) -> jax.Array:
    """`init * sqrt(w / max(t, w))`: constant during the `w = warmup_steps`, then falling with the root of t.

    Source: C. Raffel et al., "Exploring the limits of transfer learning" (T5), 2020, arXiv:1910.10683, section 3.1.2.
    """
    return init_value * jnp.sqrt(_real(warmup_steps) / _real(jnp.maximum(t, warmup_steps)))


@_schedule
def cosine_decay_schedule(
    t: Any, init_value: Value, decay_steps: PositiveSteps, alpha: Value = 0.0, exponent: Unsigned = 1.0
) -> jax.Array:
    """`init (alpha + (1 - alpha) ((1 + cos(pi t / decay_steps)) / 2)^exponent)`, then `alpha init`."""
    weight = _power(_half_wave(_shares(t, decay_steps)[1]), exponent)
    return init_value * (weight + alpha * (1 - weight))


@_schedule
def warmup_constant_schedule(t: Any, init_value: Value, peak_value: Value, warmup_steps: Steps) -> jax.Array:
    """A line from `init` to `peak`, then `peak`. If `warmup_steps <= 0` it is `init`, as in optax, not `peak`."""
    return jnp.where(warmup_steps > 0, _warmup(t, init_value, peak_value, warmup_steps, peak_value), init_value)


@_schedule
def warmup_cosine_decay_schedule(
    t: Any, init_value: Value, peak_value: Value, warmup_steps: Steps,
    decay_steps: Annotated[Number, "(warmup_steps, inf)", "steps"], end_value: Value = 0.0, exponent: Unsigned = 1.0,
) -> jax.Array:  # fmt: skip
    """A line from `init` to `peak`, then half a cosine wave to `end` at `decay_steps`, or 0 if `peak = 0`."""
    weight = _power(_half_wave(_shares(t - warmup_steps, decay_steps - warmup_steps)[1]), exponent)
    fall = jnp.where(peak_value == 0, 0, peak_value * weight + end_value * (1 - weight))
    return _warmup(t, init_value, peak_value, warmup_steps, fall)


@_schedule
def warmup_exponential_decay_schedule(
    t: Any, init_value: Value, peak_value: Value, warmup_steps: Steps, transition_steps: Steps,
    decay_rate: Unsigned, transition_begin: Steps = 0, staircase: bool = False, end_value: ValueOrNone = None,
) -> jax.Array:  # fmt: skip
    """A line from `init` to `peak`, then `exponential_decay`, its `transition_begin` counted from the peak."""
    rest = jnp.maximum(t - warmup_steps, 0) - jnp.maximum(transition_begin, 0)
    fall = _exponential(rest, peak_value, transition_steps, decay_rate, staircase, end_value)
    return _warmup(t, init_value, peak_value, warmup_steps, fall)


@_schedule
def warmup_stable_decay_schedule(
    t: Any, init_value: Value, peak_value: Value, warmup_steps: UnsignedSteps, stable_steps: UnsignedSteps,
    decay_steps: UnsignedSteps, end_value: Value = 0.0, decay: Literal["1-sqrt", "linear", "cosine"] = "1-sqrt",
) -> jax.Array:  # fmt: skip
    """A line from `init` to `peak`, `peak` for `stable_steps`, then down to `end` in `decay_steps` (WSD).

    At share x of the decay, `1 - sqrt(x)`, `1 - x` or `(1 + cos(pi x)) / 2` of `peak - end` is left.
    Source: A. Hägele et al., 2024, arXiv:2405.18392, who advise "1-sqrt" over the last 20 % of a run.
    """
    behind, ahead = _shares(jnp.maximum(t - warmup_steps, 0) - stable_steps, decay_steps)
    weight = {"1-sqrt": ahead / (1 + _power(behind, 0.5)), "linear": ahead, "cosine": _half_wave(ahead)}[decay]
    return _warmup(t, init_value, peak_value, warmup_steps, peak_value * weight + end_value * (1 - weight))


@_schedule
def cyclic_schedule(
    t: Any, init_value: Value, peak_value: Value, step_size: PositiveSteps,
    mode: Literal["triangular", "triangular2", "exp_range"] = "triangular",
    decay_rate: Annotated[Number, "(0, 1]", "value"] = 0.99994,
) -> jax.Array:  # fmt: skip
    """Lines from `init` to `peak` and back, again and again, each `step_size` steps long.

    "triangular2" halves `peak - init` after each cycle; "exp_range" multiplies all by `decay_rate^t` (PyTorch: only the
    difference). Source: L. Smith, "Cyclical learning rates for training neural networks", 2017, arXiv:1506.01186.
    """
    lines, rest = jnp.divmod(t, step_size)
    share, _ = _shares(jnp.where(lines % 2 == 0, rest, step_size - rest), step_size)
    share = share * 0.5 ** _real(lines // 2) if mode == "triangular2" else share
    return (init_value * (1 - share) + peak_value * share) * (decay_rate ** _real(t) if mode == "exp_range" else 1)


@_schedule
def warm_restarts_schedule(
    t: Any, init_value: Value, period: PositiveSteps, multiplier: Annotated[Number, "[1, inf)", "value"] = 1.0,
    end_value: Value = 0.0,
) -> jax.Array:  # fmt: skip
    """SGDR: half cosine waves from `init` to `end`; wave i = 0, 1, ... is `period * multiplier^i` steps long.

    With a multiplier above 1 restarts are exact up to count 2e6 in float32, and off by less than 1e-6 of it beyond.
    Source: I. Loshchilov, F. Hutter, 2017, arXiv:1608.03983, equation 5.
    """
    time, first, growth = _real(t), _real(period), jnp.where(multiplier > 1, multiplier - 1, 1)
    wave = jnp.floor(jnp.log1p(time * growth / first) / jnp.log1p(growth))  # or one more, or less: logarithms round
    starts = [first * ((1 + growth) ** (wave + i) - 1) / growth for i in (-1, 0, 1)]
    late = time * (1 + 4 * float(jnp.finfo(time.dtype).eps))
    start = functools.reduce(jnp.maximum, [jnp.where(late >= s, s, 0) for s in starts])
    share = jnp.clip((time - start) / (first + growth * start), 0, 1)
    weight = _half_wave(jnp.where(multiplier > 1, 1 - share, _shares(t % period, period)[1]))
    return init_value * weight + end_value * (1 - weight)


@_schedule
def sutskever_momentum_schedule(
    t: Any, max_value: Annotated[Number, "[0, 1)", "value"] = 0.99, period: PositiveSteps = 250,
    final_value: Annotated[Number, "[0, 1)", "value"] = 0.9, final_steps: UnsignedSteps = 1000,
    total_steps: Annotated[Number | None, "[0, inf)", "steps"] = None,
) -> jax.Array:  # fmt: skip
    """The "slowly increasing" momentum of lecture 002: `min(1 - 1 / (2 (floor(t / period) + 1)), max_value)`.

    In the last `final_steps` of `total_steps` (None: no end) it is `min(final_value, max_value)`. Source: I. Sutskever
    et al., "On the importance of initialization and momentum", 2013, as `1 - 2^(-1 - log2(floor(t / 250) + 1))`.
    """
    k = _real(t // period) + 1
    ends = False if total_steps is None else t >= total_steps - final_steps
    return jnp.minimum(jnp.where(ends, final_value, (k - 0.5) / k), max_value)  # (k - 1/2) / k = 1 - 1 / (2 k)


def join_schedules(schedules: Sequence[Schedule], boundaries: Sequence[Number] | jax.Array) -> Schedule:
    """Schedule after schedule: at each of the boundaries, one fewer, the next one begins and counts from 0."""
    schedules, starts = list(schedules), list(boundaries)
    if len(starts) != len(schedules) - 1:
        raise ValueError(f"boundaries must be one fewer than the {len(schedules)} schedules, got {starts}")
    for i, boundary in enumerate(starts):
        _check(f"boundaries[{i}]", boundary, "(-inf, inf)", {})

    def schedule(count: Any) -> jax.Array:
        value = _real(schedules[0](count))
        for boundary, following in zip(starts, schedules[1:], strict=True):
            t, begin = _together(count, boundary)
            value = jnp.where(t >= begin, _real(following(jnp.maximum(t - begin, 0))), value)
        return value

    return schedule


def sgdr_schedule(cosine_kwargs: Iterable[Mapping[str, Any]]) -> Schedule:
    """One `warmup_cosine_decay_schedule(**kwargs)` after the other, each `decay_steps` long, the last for ever."""
    cycles = list(cosine_kwargs)
    schedules, steps = [warmup_cosine_decay_schedule(**c) for c in cycles], [c["decay_steps"] for c in cycles]
    lengths = steps if all(isinstance(step, int) for step in steps) else _together(*steps)
    return join_schedules(schedules, list(accumulate(lengths))[:-1])
