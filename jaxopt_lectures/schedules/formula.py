"""From a formula of the step count to a schedule: arguments, their ranges, dtypes, and the shapes curves share.

`@as_schedule` turns a formula `(t, arguments)` into the function `(arguments) -> schedule` that users call. An
argument's annotation says whether it is a value or steps, and its range: `PositiveSteps` lie in (0, inf).
"""

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Annotated, Any, Concatenate, Literal, ParamSpec, get_args, get_origin

import jax
import jax.numpy as jnp
import numpy as np

from jaxopt_lectures.core.checks import Number, Schedule, known_number

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


def as_schedule(formula: Callable[Concatenate[Any, P], jax.Array]) -> Callable[P, Schedule]:
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
                given[name] = checked_pieces(given[name])
            elif name in marks and not (given[name] is None and signature.parameters[name].default is None):
                check(name, given[name], marks[name][0], given)

        def schedule(count: Any) -> jax.Array:
            steps = {k: given[k] for k in marks if marks[k][1] == "steps" and given[k] is not None}
            t, *whole = together(count, *steps.values())
            ready = {k: real(given[k]) for k in marks if given[k] is not None} | dict(zip(steps, whole, strict=True))
            valid = {k: jnp.where(v > 0, v, 1) if marks[k][0] == "(0, inf)" else v for k, v in ready.items()}
            return formula(jnp.maximum(t, 0), **(given | valid))  # type: ignore[call-arg]

        told = (f"{k}={v!r}" for k, v in bound.arguments.items() if isinstance(v, (int, float, str, dict)))
        schedule.__qualname__ = f"{formula.__name__}({', '.join(told)})"
        return schedule

    vars(make)["__signature__"] = signature
    return make


def check(name: str, value: Any, interval: str, given: Mapping[str, Any]) -> None:
    """Raises if `value` is known to lie outside `interval`, whose ends are numbers or names of checked arguments."""
    if callable(value):
        raise TypeError(f"{name} must be a number or a scalar array, not a schedule, got {value!r}")
    number, ends = known_number(name, value), interval[1:-1].split(", ")
    low, high = (known_number(end, given[end]) if end in given else float(end) for end in ends)
    if number is None or low is None or high is None:
        return
    if not (low < number < high or (number == low and interval[0] == "[") or (number == high and interval[-1] == "]")):
        raise ValueError(f"{name} must lie in {interval}, got {value!r}")


def checked_pieces(given: Any) -> list[tuple[Any, Any]]:
    """`boundaries_and_scales`, checked, as a list."""
    pieces = [(b, s) for b, s in (given.items() if isinstance(given, Mapping) else () if given is None else given)]
    for i, (boundary, scale) in enumerate(pieces):
        check(f"boundary {i} of boundaries_and_scales", boundary, "(-inf, inf)", {})
        check(f"scale {i} of boundaries_and_scales", scale, "[0, inf)", {})
    return pieces


def real(x: Any) -> jax.Array:
    """`x` in JAX's default float dtype."""
    return jnp.asarray(float(x) if isinstance(x, (int, np.integer)) else x, jnp.result_type(float))


def together(*steps: Any) -> list[jax.Array]:
    """All in JAX's default integer dtype if all are integers that fit, otherwise all in its default float dtype."""
    integer = jnp.result_type(int)
    fit = all(abs(int(x)) <= jnp.iinfo(integer).max for x in steps if isinstance(x, (int, np.integer)))
    whole = fit and all(jnp.issubdtype(jnp.result_type(x), jnp.integer) for x in steps)
    return [jnp.asarray(x, integer) if whole else real(x) for x in steps]


def shares_of(t: Any, steps: Any) -> tuple[jax.Array, jax.Array]:
    """Which share of `steps` lies behind `t` and which ahead, in [0, 1]; without steps all lies behind from 0 on."""
    length = jnp.where(steps > 0, steps, 1)
    elapsed = jnp.where(steps > 0, jnp.clip(t, 0, length), (t >= 0).astype(t.dtype))
    return real(elapsed) / real(length), real(length - elapsed) / real(length)


def warmed_up(t: Any, start: Any, peak: Any, steps: Any, after: Any) -> jax.Array:
    """A line from `start` to `peak`, then `after`."""
    behind, ahead = shares_of(t, steps)
    return jnp.where(t >= steps, after, start * ahead + peak * behind)


def raised(base: jax.Array, exponent: Any) -> jax.Array:
    """`base ** exponent` for both >= 0, with finite derivatives at base 0."""
    return jnp.where(base > 0, jnp.where(base > 0, base, 1) ** exponent, real(exponent == 0))


def half_wave(share: jax.Array) -> jax.Array:
    """`(1 - cos(pi share)) / 2`, from 0 to 1, without the cancellation near 0."""
    return jnp.square(jnp.sin(jnp.pi / 2 * share))


def growth(t: Any, begin: Any, first: Any, steps: Any, rate: Any, floor: bool, bound: Any = None) -> jax.Array:
    """`first * rate ** ((t - begin) / steps)` up to `bound`; growth stops ten orders of magnitude short of overflow."""
    elapsed = jnp.maximum(t - jnp.maximum(begin, 0), 0)
    length, ratio = jnp.where(steps > 0, steps, 1), jnp.where(rate > 0, rate, 1)
    exponent = real(elapsed // length) if floor else real(elapsed) / real(length)
    room = jnp.log(float(jnp.finfo(first.dtype).max) * 1e-10 / jnp.maximum(jnp.abs(first), 1))
    largest = jax.lax.stop_gradient(room / jnp.log(jnp.where(ratio > 1, ratio, 2)))
    value = first * ratio ** jnp.where(ratio > 1, jnp.minimum(exponent, largest), exponent)
    value = value if bound is None else jnp.where(rate < 1, jnp.maximum(value, bound), jnp.minimum(value, bound))
    return jnp.where((steps > 0) & (rate > 0), value, first)


def curve_through(t: Any, points: Sequence[tuple[Any, Any]], shape: str) -> jax.Array:
    """The curve through `points`, (count, value) in order of their counts, the first at 0; constant after the last."""
    value = points[0][1]
    for (begin, start), (end, stop) in pairwise(points):
        shares = shares_of(t - begin, end - begin)
        behind, ahead = (half_wave(share) for share in shares) if shape == "cosine" else shares
        value = jnp.where(t >= begin, start * ahead + stop * behind, value)
    return value
