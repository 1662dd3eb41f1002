"""What a solver returns, and what its status numbers mean."""

import enum
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np


class Status(enum.IntEnum):
    """Why a solve ended; those below 10 are successes."""

    RUNNING = -1
    CONVERGED = 0
    AT_BOUND = 1
    SMALL_CHANGE = 2
    SMALL_STEP = 3
    ITERATIONS = 10
    EVALUATIONS = 11
    LINE_SEARCH = 12
    PRECISION = 13
    NON_FINITE = 14
    BAD_BOUNDS = 15
    STOPPED = 16


MESSAGES = {
    Status.RUNNING: "has not ended",
    Status.CONVERGED: "converged: no element of the gradient is larger than gtol",
    Status.AT_BOUND: "converged, with variables at their bounds: no element of the projected gradient exceeds gtol",
    Status.SMALL_CHANGE: "converged: the value changed by less than ftol asks for",
    Status.SMALL_STEP: "converged: the step was shorter than xtol asks for",
    Status.ITERATIONS: "stopped at maxiter iterations; the gradient is still larger than gtol",
    Status.EVALUATIONS: "stopped at maxfun evaluations; the gradient is still larger than gtol",
    Status.LINE_SEARCH: "the line search found no lower value: is the gradient that of fun, and fun smooth there?",
    Status.PRECISION: "as low as this precision can see: the decrease that is left is smaller than fun's rounding, "
    "but the gradient is larger than gtol; use float64, scale fun, or ask for a larger gtol",
    Status.NON_FINITE: "fun or its gradient is not finite at the start",
    Status.BAD_BOUNDS: "a lower bound lies above its upper bound",
    Status.STOPPED: "stopped by the callback",
}


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Trace:
    """The course of a solve, one entry an iteration, NaN (counts: 0) behind the last; entry 0 is the start.

    Attributes:
      fun: values, (trace,).
      grad_norm: largest elements of the (projected) gradient, (trace,).
      step: lengths of the steps in multiples of the direction, (trace,).
      nfev: evaluations so far, (trace,) int32.
    """

    fun: jax.Array
    grad_norm: jax.Array
    step: jax.Array
    nfev: jax.Array


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Result:
    """What `minimize` returns: a tree of arrays, so it goes through `jit`, `vmap` and `grad`.

    Attributes:
      x: the best point, like `x0`.
      fun: the value there, ().
      grad: the gradient there, like `x0`.
      nit: steps taken, () int32.
      nfev: evaluations of `fun`, () int32.
      njev: evaluations of its gradient, () int32; the two come together.
      nhev: Hessian-vector products, () int32.
      status: why it ended, () int32, a `Status`.
      aux: what else `fun` returned at `x`, with `has_aux`; otherwise None.
      trace: the course, with `trace=`; otherwise None.
    """

    x: Any
    fun: jax.Array
    grad: Any
    nit: jax.Array
    nfev: jax.Array
    njev: jax.Array
    nhev: jax.Array
    status: jax.Array
    aux: Any = None
    trace: Trace | None = None

    @property
    def success(self) -> jax.Array:
        """Whether it converged: the status is one of the first four."""
        return (self.status >= 0) & (self.status < Status.ITERATIONS)

    @property
    def message(self) -> Any:
        """The status in words; a list of them, or a list of lists, where solves are batched.

        Raises:
          TypeError: inside `jit`, where there are no words yet.
        """
        if isinstance(self.status, jax.core.Tracer):
            raise TypeError("message is text: ask for it outside of jit; inside, look at status")
        return jax.tree.map(lambda code: MESSAGES[Status(code)], np.asarray(self.status).tolist())

    @property
    def jac(self) -> Any:
        """The gradient under SciPy's name."""
        return self.grad

    def __repr__(self) -> str:
        known = isinstance(self.status, (jax.Array, np.ndarray, np.generic)) and self.status.shape == ()
        if isinstance(self.status, jax.core.Tracer) or not known:
            fields = ", ".join(f"{name}={getattr(self, name)!r}" for name in ("x", "fun", "nit", "nfev", "status"))
            return f"Result({fields})"
        counts = f"{self.nit} iterations, {self.nfev} evaluations" + (
            f", {self.nhev} Hessian-vector products" if int(self.nhev) else ""
        )
        return f"{self.message}\n  fun  {float(self.fun):.9g}\n  x    {_indented(self.x)}\n  {counts}"


def _indented(x: Any) -> str:
    x = np.asarray(x) if isinstance(x, jax.Array) else x
    lines = (np.array2string(x, precision=6, threshold=20) if isinstance(x, np.ndarray) else repr(x)).splitlines()
    return "\n       ".join(lines if len(lines) <= 12 else [*lines[:12], "..."])
