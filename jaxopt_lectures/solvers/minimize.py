"""`minimize`: SciPy's arguments, one compiled solve.

result = jol.minimize(fun, x0, args=(data,))
"""

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import jaxopt_lectures.solvers.methods as methods
from jaxopt_lectures.core.checks import whole
from jaxopt_lectures.solvers.objective import Form, Objective, taken_apart
from jaxopt_lectures.solvers.one_kernel import on_one_device
from jaxopt_lectures.solvers.options import renamed
from jaxopt_lectures.solvers.progress import printer
from jaxopt_lectures.solvers.result import Result
from jaxopt_lectures.solvers.searches.search import LineSearch
from jaxopt_lectures.solvers.solve import Program, solve
from jaxopt_lectures.solvers.stopping import Limits

_UNLIMITED = 2**31 - 1


class Bounds(NamedTuple):
    """Lower and upper bounds: trees like `x0`, or numbers for all elements; infinite where there is none."""

    lb: Any = -np.inf
    ub: Any = np.inf


def minimize(
    fun: Callable[..., Any],
    x0: Any,
    args: Any = (),
    method: str | None = None,
    jac: Any = None,
    hess: Callable[..., Any] | None = None,
    hessp: Callable[..., Any] | None = None,
    bounds: Any = None,
    *,
    tol: float | None = None,
    gtol: float | None = None,
    ftol: float | None = None,
    xtol: float | None = None,
    maxiter: int | None = None,
    maxfun: int | None = None,
    callback: Callable[[Result], Any] | None = None,
    options: Mapping[str, Any] | None = None,
    has_aux: bool = False,
    history: int | None = None,
    linesearch: LineSearch | None = None,
    trace: int = 0,
    disp: int | bool = False,
) -> Result:
    """Minimises a scalar function, in one compiled program.

    It goes through `jit`, `vmap` (each start stops by itself) and `grad` with respect to `args` and `bounds` (implicit
    differentiation). A second call with the same functions and shapes compiles nothing: data goes into `args`, and
    `fun` is defined once, not in the loop that calls `minimize`.

    Args:
      fun: `fun(x, *args)`, a scalar, written with `jax.numpy`.
      x0: where to start: an array, a list of floats, a tree of arrays, or an NNX module (then `fun(module, *args)`, and
        its parameters, `nnx.Param`, are minimised over).
      args: what else `fun` takes; a tuple of trees of arrays, or one array.
      method: "lbfgs" (the default), "bfgs", "lbfgsb" (the default with `bounds`), "newton_cg", "nonlinear_cg", "gd", or
        SciPy's "L-BFGS-B", "BFGS", "CG", "Newton-CG", in any case.
      jac: None for JAX's gradient; True if `fun` returns `(value, gradient)`; or `jac(x, *args)`.
      hess: `hess(x, *args)`, an (n, n) matrix, for "newton_cg"; None for JAX's products.
      hessp: `hessp(x, v, *args)`, the Hessian times v.
      bounds: `Bounds(lower, upper)`, SciPy's or ours; for an array `x0` of one axis also n pairs `(low, high)`, None
        where there is none; for other trees also a pair of trees.
      tol: the default of `gtol`.
      gtol: stop where no element of the gradient (with bounds: the projected one) exceeds this; >= 0, default 1e-5.
      ftol: stop where a step lowers the value by less than `ftol max(|f|, 1)`; 0, the default, never.
      xtol: stop where a step is shorter than `xtol (xtol + |x|)`; 0, the default, never.
      maxiter: most steps, default 15000.
      maxfun: most evaluations, default 2^31 - 1.
      callback: called with a `Result` after each step; True, or StopIteration, stops. It costs microseconds a step.
      options: the same by SciPy's names (`{"maxiter": 100, "maxcor": 20}`).
      has_aux: `fun` returns `(value, aux)`; the aux at the solution is in the result.
      history: pairs that "lbfgs" and "lbfgsb" remember, >= 1, default 10.
      linesearch: `strong_wolfe()`, `hager_zhang()` or `backtracking()`; None for the method's own.
      trace: iterations to keep in `Result.trace`, 0 for none.
      disp: print every iteration (True), or every `disp`-th.

    Returns:
      A `Result`: `x fun grad nit nfev njev nhev status aux trace`, and `success`, `message`, `jac`.

    Raises:
      TypeError: `x0` or the value of `fun` is not of real floating-point numbers, or something is of the wrong kind.
      ValueError: `fun` does not return a scalar, a number is out of range, an unknown method or option, crossed bounds,
        bounds with a method that has none. Inside a solve nothing raises: look at `success` and `message`.
    """
    given = {
        "gtol": gtol,
        "ftol": ftol,
        "xtol": xtol,
        "maxiter": maxiter,
        "maxfun": maxfun,
        "history": history,
        "disp": disp or None,
    }
    named = renamed({name: value for name, value in given.items() if value is not None}, options or {})
    if tol is not None:
        named.setdefault("gtol", tol)
    _functions(fun, jac or None, hess, hessp, callback)
    whole("trace", trace, 0)
    chosen = methods.get(method, bounded=bounds is not None)
    direction = chosen.direction(named.get("history", 10))
    line = chosen.line(linesearch, named.get("maxls"))
    if (hess is not None or hessp is not None) and not direction.products:
        warnings.warn(f"method {chosen.name!r} uses no Hessian: hess and hessp are for 'newton_cg'", stacklevel=2)
    form, tree, rest = taken_apart(x0, direction.flat or hess is not None)
    args = args if isinstance(args, tuple) else (args,)
    box = None
    if chosen.bounded:
        box = _box(bounds, form, tree)
    objective = Objective(fun, jac or None, hess, hessp, has_aux, form)
    report = printer(named["disp"], callback) if named.get("disp") else callback
    program = Program(direction, line, int(trace), report, plain=not on_one_device((tree, rest, args, box)))
    try:
        return solve(objective, program, tree, rest, args, box, _limits(named))
    except jax.errors.TracerArrayConversionError as error:
        error.add_note("minimize compiles fun: write it with jax.numpy (and jax.scipy), not with numpy")
        raise
    except NotImplementedError as error:
        if report is not None:
            error.add_note("callback and disp do not go through vmap: use trace=, which keeps a record of each solve")
        raise


def _functions(fun: Any, jac: Any, hess: Any, hessp: Any, callback: Any) -> None:
    """Raises TypeError unless what must be a function is one."""
    for name, value in {"fun": fun, "hess": hess, "hessp": hessp, "callback": callback}.items():
        if not callable(value) and (value is not None or name == "fun"):
            raise TypeError(f"{name} must be a function, got {type(value).__name__} {value!r}")
    if not (jac is None or jac is True or callable(jac)):
        raise TypeError(f"jac must be None (JAX's gradient), True or a function, got {type(jac).__name__} {jac!r}")


def _limits(named: Mapping[str, Any]) -> Limits:
    values = {"gtol": 1e-5, "ftol": 0.0, "xtol": 0.0, "maxiter": 15000, "maxfun": _UNLIMITED}
    for name in values:
        value = named.get(name, values[name])
        if not isinstance(value, jax.core.Tracer):
            if not float(value) >= 0:
                raise ValueError(f"{name} must be at least 0, got {value!r}")
            # one type each, so that another kind of number is no other program
            value = np.int32(min(value, _UNLIMITED)) if name.startswith("max") else float(value)
        values[name] = value
    return Limits(**values)


def _box(bounds: Any, form: Form, tree: Any) -> tuple[Any, Any]:
    """The bounds as two vectors; warns if the start is outside."""
    lower, upper = map(_without_none, _two_trees(bounds, form), (-np.inf, np.inf))
    box = tuple(form.vector(_filled(side, form)) for side in (lower, upper))
    arrays = (*box, *jax.tree.leaves(tree))
    if not any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(arrays)):
        low, high, start = (np.asarray(v) for v in (*box, form.vector(tree)))
        if np.isnan(low).any() or np.isnan(high).any():
            raise ValueError("bounds must not be NaN; where there is none, give -inf, inf or None")
        if (low > high).any():
            i = int(np.argmax(low > high))
            raise ValueError(f"the lower bound of element {i}, {low[i]}, lies above its upper bound, {high[i]}")
        outside = int(((start < low) | (start > high)).sum())
        if outside:
            warnings.warn(
                f"x0 lies outside the bounds in {outside} of {start.size} elements; the start is moved to them",
                stacklevel=3,
            )
    return box


def _two_trees(bounds: Any, form: Form) -> tuple[Any, Any]:
    if bounds is None:
        return -np.inf, np.inf
    if hasattr(bounds, "lb") and hasattr(bounds, "ub"):
        return bounds.lb, bounds.ub
    array = len(form.shapes) == 1 and form.treedef == jax.tree.structure(0)
    if not array:
        if isinstance(bounds, Sequence) and len(bounds) == 2:
            return bounds[0], bounds[1]
        raise ValueError(f"bounds of a tree must be (lower, upper) or Bounds(lower, upper), got {bounds!r}")
    (shape,) = form.shapes
    pairs = list(bounds)
    if len(shape) != 1 or len(pairs) != shape[0] or any(len(pair) != 2 for pair in pairs):
        raise ValueError(
            f"bounds of an array of shape {shape} must be Bounds(lower, upper)"
            + (f" or {shape[0]} pairs (low, high), got {len(pairs)}" if len(shape) == 1 else "")
        )
    low, high = (_without_none([pair[i] for pair in pairs], infinite) for i, infinite in enumerate((-np.inf, np.inf)))
    return _stacked(low), _stacked(high)


def _without_none(side: Any, infinite: float) -> Any:
    """One bound with infinity for None."""
    return jax.tree.map(lambda v: infinite if v is None else v, side, is_leaf=lambda v: v is None)


def _stacked(values: list[Any]) -> Any:
    traced = any(isinstance(value, jax.core.Tracer) for value in values)
    return jnp.stack([jnp.asarray(value, float) for value in values]) if traced else np.asarray(values, float)


def _filled(side: Any, form: Form) -> Any:
    """One bound as a tree like the point: numbers are for all elements."""
    shapes = form.treedef.unflatten([jax.ShapeDtypeStruct(shape, form.dtype) for shape in form.shapes])
    if isinstance(side, (list, tuple)) and len(form.shapes) == 1:
        side = np.asarray(side, float)
    if jax.tree.structure(side) == jax.tree.structure(0):
        return jax.tree.map(lambda leaf: _broadcast(side, leaf), shapes)
    return jax.tree.map(lambda leaf, value: _broadcast(value, leaf), shapes, side)


def _broadcast(value: Any, leaf: Any) -> jax.Array:
    value = value.reshape(()) if np.size(value) == 1 and hasattr(value, "reshape") else value  # SciPy's are (1,)
    if jnp.shape(value) not in ((), leaf.shape):
        raise ValueError(f"a bound has shape {jnp.shape(value)} where x0 has {leaf.shape}")
    return jnp.broadcast_to(jnp.asarray(value).astype(leaf.dtype), leaf.shape)
