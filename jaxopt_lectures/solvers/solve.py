"""One compiled solve: the user's function traced once, the loop, the derivatives, the result."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import io_callback

from jaxopt_lectures.solvers.descent import Descent, Point, State
from jaxopt_lectures.solvers.directions.direction import Direction, Place
from jaxopt_lectures.solvers.implicit import differentiable
from jaxopt_lectures.solvers.objective import Objective
from jaxopt_lectures.solvers.one_kernel import as_one_kernel, fits, small
from jaxopt_lectures.solvers.result import Result, Status, Trace
from jaxopt_lectures.solvers.searches.search import LineSearch
from jaxopt_lectures.solvers.stopping import Limits


@dataclass(frozen=True)
class Program:
    """What is compiled in: other values are another program.

    Attributes:
      direction: where to go.
      line: how far.
      trace: iterations to keep a record of.
      callback: called with a `Result` after each step, outside of the program; True stops. None: no callback.
      plain: whether it is kept a loop of instructions, whatever its size.
    """

    direction: Direction
    line: LineSearch
    trace: int = 0
    callback: Callable[[Result], Any] | None = None
    plain: bool = False


class Solution(NamedTuple):
    """What the loop leaves."""

    at: Point
    nit: jax.Array
    nfev: jax.Array
    nhev: jax.Array
    status: jax.Array
    trace: Trace | None


@functools.partial(jax.jit, static_argnums=(0, 1))
def solve(
    objective: Objective, program: Program, tree: Any, rest: Any, args: tuple[Any, ...], box: Any, limits: Limits
) -> Result:
    """Minimises from `tree`, between the two vectors of `box`, or anywhere if it is None."""
    start = objective.form.vector(tree)
    evaluate = _Lifted(objective.evaluate, start, rest, args)
    product = _Lifted(objective.product, start, start, rest, args) if program.direction.products else None

    def run(x: Any, box: Any, limits: Limits, operands: Any) -> Solution:
        if box is not None:
            x = jax.tree.map(jnp.clip, x, *box)
        descent = Descent(
            lambda x: evaluate(operands[0], x),
            lambda x, v: product(operands[1], x, v) if product else v,
            box,
            limits,
            program.direction,
            program.line,
            program.trace,
            program.callback and functools.partial(_reported, objective, program.callback, rest),
        )
        end = descent.run(x)
        return _solution(end, box)

    plain = program.plain or program.callback is not None  # one function cannot call out
    if not plain and _one_kernel(program.direction, evaluate, product, start, box):
        run = as_one_kernel(run)
    run = differentiable(run, lambda x, operands: evaluate(operands[0], x))
    gtol, ftol, xtol = (jnp.asarray(number).astype(objective.form.dtype) for number in limits[:3])
    limits = limits._replace(gtol=gtol, ftol=ftol, xtol=xtol)
    return _result(objective, run(start, box, limits, (evaluate.operands, product and product.operands)), rest)


class _Lifted:
    """A function of vectors, traced once; what it closes over is an operand, so derivatives and batches see it."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.closed, shape = jax.make_jaxpr(function, return_shape=True)(*arguments)
        self.treedef = jax.tree.structure(shape)
        vectors = len(arguments) - 2
        self.operands = self.closed.consts, arguments[vectors:]

    def __call__(self, operands: Any, *vectors: Any) -> Any:
        consts, more = operands
        out = jax.core.eval_jaxpr(self.closed.jaxpr, consts, *jax.tree.leaves((vectors, more)))
        return self.treedef.unflatten(out)


def _one_kernel(direction: Direction, evaluate: _Lifted, product: Any, start: Any, box: Any) -> bool:
    """Whether the whole loop may be one function."""
    if direction.library or not fits(evaluate.closed) or (product and not fits(product.closed)):
        return False
    place = Place(start, start, lambda v: product(product.operands, start, v) if product else v, box)
    return small(jax.eval_shape(lambda: direction.init(place)))


def _solution(end: State, box: Any) -> Solution:
    nhev = getattr(end.course.core, "products", jnp.zeros((), jnp.int32))
    status = end.status
    if box is not None:
        crossed = [jnp.any(low > high) for low, high in zip(*map(jax.tree.leaves, box), strict=True)]
        status = jnp.where(jnp.any(jnp.stack(crossed)), Status.BAD_BOUNDS, status).astype(jnp.int32)
    return Solution(end.at, end.nit, end.nfev, nhev, status, end.trace)


def _result(objective: Objective, end: Solution, rest: Any) -> Result:
    """The solution in the user's terms."""
    form, at = objective.form, end.at
    return Result(
        form.point(at.x, rest), at.value, form.gradient(at.g), end.nit, end.nfev, end.nfev, end.nhev, end.status,
        at.aux, end.trace,
    )  # fmt: skip


def _reported(objective: Objective, callback: Callable[[Result], Any], rest: Any, state: State) -> jax.Array:
    """Calls the callback from inside the program; its answer is whether to stop."""

    def call(result: Result) -> np.ndarray:
        try:
            return np.asarray(bool(callback(result)))
        except StopIteration:
            return np.asarray(True)

    shape = jax.ShapeDtypeStruct((), jnp.bool_)
    return io_callback(call, shape, _result(objective, _solution(state, None), rest))
