"""The path that an optimizer takes, as one compiled loop."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxopt_lectures.core.checks import whole
from jaxopt_lectures.core.transformation import check_transformation, eval_params, gradient_point
from jaxopt_lectures.diagnostics.checks import floating, scalar_valued


class Trajectory(NamedTuple):
    """A path and where it ended.

    Attributes:
      points: what was kept of the evaluated parameters (`jol.eval_params`) before the first step and after each: every
        leaf has a leading axis of steps + 1.
      values: the function where each gradient was taken (`jol.gradient_point`), (steps,).
      params: the parameters after the last step, as the optimizer holds them.
      state: the optimizer's state after the last step.
    """

    points: Any
    values: jax.Array
    params: Any
    state: Any


def trajectory(
    tx: optax.GradientTransformation,
    fun: Callable[..., Any],
    params: Any,
    steps: int,
    *,
    batches: Any = None,
    keep: Callable[[Any], Any] | None = None,
    unroll: int = 1,
) -> Trajectory:
    """Minimises `fun` from `params` for `steps` steps and returns the path: one `jax.lax.scan`.

    `g_t = grad fun(gradient_point(s_t, w_t)); u_t, s_{t+1} = update(g_t, s_t, w_t); w_{t+1} = w_t + u_t`

    It can be compiled as a whole (`jax.jit`) and mapped (`jax.vmap`), over starts or over a number of the optimizer:
    `jax.vmap(lambda rate: trajectory(jol.sgd(rate), fun, params, 100).points)(rates)`.

    Args:
      tx: an optimizer, ours or optax's. It is also given `value`, `grad` and `value_fn`, as a line search needs them.
      fun: what to minimise: `fun(params)`, or `fun(params, batch)` when there are batches; one floating-point number.
      params: where to start: any tree of floating-point arrays, `nnx.State` too.
      steps: how many updates, >= 0.
      batches: a tree of arrays whose leading axis is `steps`: step t sees its t-th entries. None: the same function
        every step.
      keep: what to keep of the evaluated parameters at each point; None keeps them whole, and `lambda w: ()` nothing.
      unroll: how many steps are written out in one turn of the loop, >= 1, for where a turn costs more than a step.
        The path is the same up to rounding. Compiling takes that much longer; measure whether running takes less.

    Returns:
      A `Trajectory`.

    Raises:
      TypeError: parameters that are not floating-point, a function whose value is not one number, a `tx` that is no
        optimizer, `steps` or `unroll` that is no integer.
      ValueError: negative `steps`; `unroll` below 1; batches whose leading axis is not `steps`, naming the leaf.
    """
    check_transformation(tx, "tx")
    whole("steps", steps, 0)
    whole("unroll", unroll, 1)
    params = floating(params)
    _check_batches(batches, steps)
    optimizer = optax.with_extra_args_support(tx)
    keep = keep or _all
    slope = jax.value_and_grad(scalar_valued(fun))

    def step(carry: Any, batch: Any) -> Any:
        params, state = carry
        data = () if batches is None else (batch,)
        value, gradient = slope(gradient_point(state, params), *data)
        updates, new = optimizer.update(
            gradient, state, params, value=value, grad=gradient, value_fn=lambda point: fun(point, *data)
        )
        return (optax.apply_updates(params, updates), new), (keep(eval_params(state, params)), value)

    start = params, optimizer.init(params)
    (params, state), (points, values) = jax.lax.scan(step, start, batches, length=steps, unroll=unroll)
    points = jax.tree.map(_append, points, keep(eval_params(state, params)))
    return Trajectory(points, values, params, state)


def _all(params: Any) -> Any:
    return params


def _append(rows: jax.Array, last: Any) -> jax.Array:
    return jnp.concatenate([rows, jnp.asarray(last, rows.dtype)[None]])


def _check_batches(batches: Any, steps: int) -> None:
    for path, leaf in jax.tree_util.tree_leaves_with_path(batches):
        if jnp.shape(leaf)[:1] != (steps,):
            name = jax.tree_util.keystr(path)
            raise ValueError(
                f"batches{name} has shape {jnp.shape(leaf)}: its leading axis must be the number of steps, {steps}"
            )
