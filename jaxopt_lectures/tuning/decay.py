"""Schedules of a rate over a whole run, by name, as functions of the rate that they start from."""

from collections.abc import Callable
from typing import Any

from jaxopt_lectures import registry
from jaxopt_lectures.core.checks import whole
from jaxopt_lectures.schedules import cosine_decay_schedule, join_schedules, linear_schedule

SCHEDULES = {
    "constant": "constant rate",
    "cosine": "rate falls on a cosine",
    "linear": "rate falls linearly",
}
"""What there is, and how it is told."""


def over_the_run(name: str, steps: int, warmup: int = 0) -> tuple[Callable[[Any], Any], str]:
    """What a rate becomes over a run, and how that is written, with {0} for the rate.

    Linearly up from 0 in `warmup` steps; then it stays, or falls to 0 at the end, on half a cosine or linearly.

    Args:
      name: "constant", "cosine" or "linear".
      steps: of the run.
      warmup: of its beginning, below `steps`.

    Raises:
      TypeError, ValueError: another name, or a warm-up that does not fit.
    """
    if name not in SCHEDULES:
        raise ValueError(registry.unknown(name, "schedule", list(SCHEDULES)))
    whole("warmup", warmup, 0)
    if warmup >= steps:
        raise ValueError(f"warmup must be below the {steps} steps of the run, got {warmup}")
    left = steps - warmup
    if name == "constant":
        after, text = (lambda rate: rate), "{0}"
    elif name == "cosine":
        after, text = (lambda rate: cosine_decay_schedule(rate, left)), f"jol.cosine_decay_schedule({{0}}, {left})"
    else:
        after, text = (lambda rate: linear_schedule(rate, 0.0, left)), f"jol.linear_schedule({{0}}, 0.0, {left})"
    if not warmup:
        return after, text
    if name == "constant":
        return (
            lambda rate: linear_schedule(0.0, rate, warmup),
            f"jol.linear_schedule(0.0, {{0}}, {warmup})",
        )
    return (
        lambda rate: join_schedules([linear_schedule(0.0, rate, warmup), after(rate)], [warmup]),
        f"jol.join_schedules([jol.linear_schedule(0.0, {{0}}, {warmup}), {text}], [{warmup}])",
    )
