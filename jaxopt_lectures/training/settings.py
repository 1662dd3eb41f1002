"""What a training run is asked for."""

from dataclasses import dataclass
from typing import Any, Literal

import jax.numpy as jnp

from jaxopt_lectures.core.checks import whole
from jaxopt_lectures.tasks.task import Task
from jaxopt_lectures.training.stopping import Stop
from jaxopt_lectures.training.ways import Way

NonFinite = Literal["skip", "stop", "rollback"]
_LOOKS = 20


@dataclass(frozen=True)
class Settings:
    """What was asked for, checked; see `fit`."""

    steps: int
    seed: int
    eval_every: int
    stop: Stop
    on_nonfinite: NonFinite
    checkpoint_seconds: float
    accumulate: int
    compute_dtype: str | None
    way: Way | Literal["auto"]
    resident: bool | None


def settings(
    task: Task,
    *,
    steps: Any,
    seed: Any,
    eval_every: Any,
    stop: Any,
    on_nonfinite: Any,
    checkpoint_seconds: Any,
    accumulate: Any,
    compute_dtype: Any,
    way: Any,
    resident: Any,
) -> Settings:
    """Checks what was asked for, and fills in what was not; see `fit` for what raises."""
    steps = task.steps if steps is None else steps
    whole("steps", steps, 1)
    whole("seed", seed, 0)
    whole("accumulate", accumulate, 1)
    eval_every = max(1, steps // _LOOKS) if eval_every is None else eval_every
    whole("eval_every", eval_every, 1)
    if task.batch_size % accumulate:
        raise ValueError(f"a batch of {task.batch_size} cannot be cut into accumulate={accumulate} equal parts")
    if stop is not None and not isinstance(stop, Stop):
        raise TypeError(f"stop must be a jol.Stop, got {type(stop).__name__} {stop!r}")
    for name, value, known in (
        ("on_nonfinite", on_nonfinite, ("skip", "stop", "rollback")),
        ("way", way, ("auto", "loop", "single")),
    ):
        if value not in known:
            raise ValueError(f"{name} must be one of {', '.join(map(repr, known))}, got {value!r}")
    if isinstance(checkpoint_seconds, bool) or not isinstance(checkpoint_seconds, (int, float)):
        raise TypeError(f"checkpoint_seconds must be a number, got {checkpoint_seconds!r}")
    if not checkpoint_seconds >= 0:
        raise ValueError(f"checkpoint_seconds must be at least 0, got {checkpoint_seconds!r}")
    if compute_dtype is not None:
        try:
            compute_dtype = jnp.dtype(compute_dtype)
        except TypeError as error:
            raise TypeError(f"compute_dtype must be a floating-point dtype, got {compute_dtype!r}") from error
        if not jnp.issubdtype(compute_dtype, jnp.floating):
            raise TypeError(f"compute_dtype must be a floating-point dtype, got {compute_dtype.name}")
        compute_dtype = compute_dtype.name
    if resident is not None and not isinstance(resident, bool):
        raise TypeError(f"resident must be True, False or None, got {resident!r}")
    return Settings(
        steps,
        seed,
        eval_every,
        stop or Stop(),
        on_nonfinite,
        float(checkpoint_seconds),
        accumulate,
        compute_dtype,
        way,
        resident,
    )
