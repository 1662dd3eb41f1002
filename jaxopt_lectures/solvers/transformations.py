"""The solvers one step at a time: `(init, update)` pairs, for chains and for loops of one's own.

    value, gradient = jax.value_and_grad(fun)(params)
    updates, state = tx.update(gradient, state, params, value=value, grad=gradient, value_fn=fun)
    params = jol.apply_updates(params, updates)

A whole line search happens inside one `update`. What it found at the new point is in the state, so that
`optax.value_and_grad_from_state(fun)(params, state=state)` computes nothing twice.
"""

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

import jaxopt_lectures.solvers.vectors as vectors
from jaxopt_lectures.core.checks import HyperLike, interval, whole
from jaxopt_lectures.core.given import value_at
from jaxopt_lectures.core.transformation import Transformation, chain
from jaxopt_lectures.solvers.directions.bfgs import BFGS
from jaxopt_lectures.solvers.directions.direction import Direction, Place, Step, downhill
from jaxopt_lectures.solvers.directions.lbfgs import LBFGS
from jaxopt_lectures.solvers.directions.newton_cg import NewtonCG
from jaxopt_lectures.solvers.objective import Form, taken_apart
from jaxopt_lectures.solvers.searches.search import LineSearch
from jaxopt_lectures.solvers.searches.strong_wolfe import strong_wolfe

_SEARCH = strong_wolfe()


class SolverState(NamedTuple):
    """What a step leaves for the next.

    Attributes:
      count: steps taken, () int32.
      params: the point of the last update, as a vector (see `vectors`).
      updates: the gradient there, likewise.
      pairs: the part of the direction's memory that is written to at every step (see `directions`).
      core: the other part.
    """

    count: jax.Array
    params: Any
    updates: Any
    pairs: Any
    core: Any


class SearchedState(NamedTuple):
    """The same after a line search, by the names that optax looks for.

    Attributes:
      count, params, updates, pairs, core: as in `SolverState`.
      value: the value at the point that the last update leads to, (), inf at first.
      grad: the gradient there, like the parameters.
    """

    count: jax.Array
    params: Any
    updates: Any
    pairs: Any
    core: Any
    value: jax.Array
    grad: Any


def lbfgs(
    learning_rate: HyperLike | None = None,
    memory_size: int = 10,
    scale_init_precond: bool = True,
    linesearch: LineSearch | optax.GradientTransformation | None = _SEARCH,
) -> Transformation:
    """L-BFGS, as a gradient transformation.

    Args:
      learning_rate: what multiplies the direction; None: 1. With a line search, the first step it tries.
      memory_size: pairs to remember, >= 1. Pairs without curvature are left out, so the direction always descends.
      scale_init_precond: whether the first matrix is gamma I, gamma = s'y / y'y; otherwise it is I.
      linesearch: how the step is chosen, ours or optax's; None: it is `learning_rate`.

    Raises:
      ValueError: `memory_size` below 1; from `update`, a line search without `value_fn`.

    Source: D. C. Liu, J. Nocedal, Math. Programming 45, 1989.
    """
    whole("memory_size", memory_size, 1)
    return _stepwise("lbfgs", LBFGS(int(memory_size), bool(scale_init_precond)), learning_rate, linesearch)


def bfgs(
    learning_rate: HyperLike | None = None, linesearch: LineSearch | optax.GradientTransformation | None = _SEARCH
) -> Transformation:
    """BFGS, as a gradient transformation; its state has n^2 numbers for n parameters.

    Args:
      learning_rate: as in `lbfgs`.
      linesearch: as in `lbfgs`.

    Source: C. G. Broyden, R. Fletcher, D. Goldfarb, D. F. Shanno, 1970.
    """
    return _stepwise("bfgs", BFGS(), learning_rate, linesearch)


def newton_cg(
    learning_rate: HyperLike | None = None,
    max_products: int = 200,
    linesearch: LineSearch | optax.GradientTransformation | None = _SEARCH,
) -> Transformation:
    """Newton's method by conjugate gradients, as a gradient transformation; it always needs `value_fn`.

    Args:
      learning_rate: as in `lbfgs`.
      max_products: most Hessian-vector products a step, >= 1.
      linesearch: as in `lbfgs`.

    Source: J. Nocedal, S. J. Wright, Numerical Optimization, 2006, algorithm 7.1.
    """
    whole("max_products", max_products, 1)
    return _stepwise("newton_cg", NewtonCG(int(max_products)), learning_rate, linesearch)


def _stepwise(name: str, direction: Direction, learning_rate: HyperLike | None, line: Any) -> Transformation:
    """The pair of functions."""
    if isinstance(line, optax.GradientTransformation):
        return chain(_stepwise(name, direction, learning_rate, None), line)
    rate = interval("learning_rate", 1.0 if learning_rate is None else learning_rate, 0.0)
    if line is not None and not hasattr(line, "next"):
        raise TypeError(f"linesearch must be strong_wolfe(), hager_zhang(), backtracking() or None, got {line!r}")

    def init(params: Any) -> Any:
        form = _form(params, direction)
        zero = vectors.times(0, form.vector(params))
        place = Place(zero, zero, lambda v: v, None)
        pairs, core, _ = direction.init(place)
        state = SolverState(jnp.zeros((), jnp.int32), zero, zero, pairs, core)
        return SearchedState(*state, jnp.full((), jnp.inf, form.dtype), form.tree(zero)) if line else state

    def update(
        updates: Any,
        state: Any,
        params: Any = None,
        *,
        value: Any = None,
        grad: Any = None,
        value_fn: Callable[..., Any] | None = None,
        **extra: Any,
    ) -> tuple[Any, Any]:
        if params is None:
            raise ValueError(f"{name} reads the parameters: call update(gradients, state, params)")
        if value_fn is None and (line is not None or direction.products):
            raise ValueError(
                f"{name} evaluates the function: call update(gradients, state, params, value=, grad=, value_fn=)"
                + ("" if direction.products else "; or take linesearch=None and a learning_rate")
            )
        form = _form(params, direction)
        x, g = form.vector(params), form.vector(updates)
        evaluate = _evaluated(form, value_fn, extra)
        product = (lambda v: jax.jvp(lambda x: evaluate(x)[1], (x,), (v,))[1]) if direction.products else None
        place = Place(x, g, product or (lambda v: v), None)
        s, y = vectors.minus(x, state.params), vectors.minus(g, state.updates)
        pairs = direction.record(state.pairs, state.core, s, y)

        def first() -> tuple[Any, Any]:
            _, core, d = direction.init(place)
            return core, d

        def later() -> tuple[Any, Any]:
            return direction.turn(pairs, state.core, Step(s, y, s, jnp.ones((), form.dtype)), place)

        core, d = jax.lax.cond(state.count == 0, first, later)
        slope = vectors.dot(d, g)
        d = vectors.choose(slope < 0, d, downhill(g))
        slope = vectors.dot(d, g)
        zero = jnp.zeros_like(slope)
        step = direction.first_step(core, d, slope, (zero, zero)) * jnp.asarray(value_at(rate, state.count), form.dtype)
        after: Any = SolverState(optax.safe_increment(state.count), x, g, pairs, core)
        if line is None:
            move = vectors.times(step, d)
        else:
            true = g if grad is None else form.vector(grad)
            start = evaluate(x)[0] if value is None else jnp.asarray(value).astype(form.dtype)
            move, at = _searched(evaluate, line, x, d, (start, true), step)
            after = SearchedState(**after._asdict(), value=at[0], grad=form.tree(at[1]))
        return jax.tree.map(lambda u, like: u.astype(like.dtype), form.tree(move), updates), after

    return Transformation(init, update, hypers={"learning_rate": rate}, title=name)


def _searched(
    evaluate: Callable[[Any], tuple[jax.Array, Any]],
    line: LineSearch,
    x: Any,
    d: Any,
    start: tuple[jax.Array, Any],
    step: jax.Array,
) -> tuple[Any, tuple[jax.Array, Any]]:
    """The move that the line search takes, 0 if it finds none, with value and gradient where it leads."""

    def trial(carry: Any) -> Any:
        search, _ = carry
        value, g = evaluate(vectors.plus(x, search.step, d))
        return line.next(search, value, vectors.dot(g, d)), (value, g)

    value, g = start
    first = line.start(value, vectors.dot(g, d), step, jnp.inf)
    search, at = jax.lax.while_loop(lambda c: ~(c[0].done | c[0].failed), trial, (first, start))
    move = vectors.times(jnp.where(search.done, search.step, 0), d)
    return move, vectors.choose(search.done, at, start)


def _form(params: Any, direction: Direction) -> Form:
    """The vector that this direction works on: the leaves as they lie, or one array."""
    form, _, _ = taken_apart(params, direction.flat)
    return form if direction.flat else form.of_leaves()


def _evaluated(form: Form, value_fn: Any, extra: Any) -> Callable[[Any], tuple[jax.Array, Any]]:
    """`value_fn` and its gradient on vectors, given those of the extra arguments that it takes."""

    def evaluate(vector: Any) -> tuple[jax.Array, Any]:
        taken = inspect.signature(value_fn).parameters
        every = any(p.kind is p.VAR_KEYWORD for p in taken.values())
        wanted = {key: v for key, v in extra.items() if every or key in taken}
        value, g = jax.value_and_grad(lambda v: jnp.asarray(value_fn(form.tree(v), **wanted)).astype(form.dtype))(
            vector
        )
        return value, g

    return evaluate
