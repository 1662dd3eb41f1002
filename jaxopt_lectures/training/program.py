"""The training step.

    gradient = mean over microbatches of d loss(parameters) / d parameters
    update, state = tx.update(gradient, state, parameters)
    parameters += update

A step whose loss, gradient or new parameters are not finite changes nothing but its count.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxopt_lectures.core.checks import whole
from jaxopt_lectures.core.transformation import check_transformation, gradient_point
from jaxopt_lectures.tasks.task import Task
from jaxopt_lectures.training.parts import Parts, narrowed, parts
from jaxopt_lectures.wrappers.skip_nonfinite import all_finite


class TrainState(NamedTuple):
    """What training changes.

    Attributes:
      params: the parameters.
      opt_state: the optimizer's state.
      rest: what else the model keeps: batch statistics, keys.
      step: steps so far, () int32.
      skipped: those of them that changed nothing, () int32.
      in_a_row: those of them since the last that changed something, () int32.
      scale: what updates are multiplied by, () float32.
    """

    params: Any
    opt_state: Any
    rest: Any
    step: jax.Array
    skipped: jax.Array
    in_a_row: jax.Array
    scale: jax.Array


class Seen(NamedTuple):
    """What steps saw: `loss` of the batch, and `gradient_norm`, the length of its gradient; float32."""

    loss: jax.Array
    gradient_norm: jax.Array


Step = Callable[[TrainState, Any, Any], tuple[TrainState, Seen]]


def start(task: Task, tx: optax.GradientTransformation, seed: int = 0) -> TrainState:
    """The state before the first step: parameters as `task.model(seed)` draws them.

    Args:
      task: what to train.
      tx: the optimizer, ours or optax's.
      seed: of the parameters.
    """
    check_transformation(tx, "tx")
    params, rest = parts(task).start(seed)
    # Copies: a state may start as the parameters, and both are donated.
    opt_state = jax.tree.map(jnp.copy, jax.jit(tx.init)(params))
    params = jax.tree.map(jnp.copy, params)
    none, never, nowhere = (jnp.zeros((), jnp.int32) for _ in range(3))  # three arrays: each may be donated
    rest = jax.tree.map(jnp.copy, rest)  # a model may share what it keeps with others
    return TrainState(params, opt_state, rest, none, never, nowhere, jnp.ones((), jnp.float32))


def make_step(
    task: Task,
    tx: optax.GradientTransformation,
    *,
    accumulate: int = 1,
    compute_dtype: Any = None,
    give_up: int = 100,
    scaled: bool = False,
) -> Step:
    """One step on one batch: a pure function `(state, x, y) -> (state, seen)`, to be jitted with `state` donated.

    Args:
      task: model and loss.
      tx: the optimizer, ours or optax's.
      accumulate: into how many microbatches the batch is cut, whose gradients are averaged: memory for one of them.
        For a loss that is a mean over examples the result is the same.
      compute_dtype: the dtype that parameters and inputs are cast to for the loss; updates stay in the parameters'
        own. "bfloat16" is what accelerators are fast with.
      give_up: after so many steps in a row whose loss or gradient is not finite, steps change nothing at all.
      scaled: whether updates are multiplied by `state.scale`.

    Raises:
      TypeError: `tx` is no transformation, a number is none.
      ValueError: `accumulate` or `give_up` below 1; a batch that `accumulate` does not divide.
    """
    check_transformation(tx, "tx")
    whole("accumulate", accumulate, 1)
    whole("give_up", give_up, 1)
    loss, wrapped = _loss(parts(task), accumulate, compute_dtype), optax.with_extra_args_support(tx)

    def step(state: TrainState, x: Any, y: Any) -> tuple[TrainState, Seen]:
        point = gradient_point(state.opt_state, state.params)
        (value, rest), gradients = jax.value_and_grad(loss, has_aux=True)(point, state.rest, x, y)

        def again(params: Any) -> jax.Array:  # for those that search along a line
            return loss(params, state.rest, x, y)[0]

        norm = optax.tree.norm(gradients).astype(jnp.float32)
        updates, opt_state = wrapped.update(
            gradients, state.opt_state, state.params, value=value, grad=gradients, value_fn=again
        )
        if scaled:
            updates = jax.tree.map(lambda u: u * state.scale.astype(u.dtype), updates)
        params = optax.apply_updates(state.params, updates)
        # The squares of large gradients overflow: only then is each element looked at.
        finite = jnp.isfinite(value) & jax.lax.cond(jnp.isfinite(norm), lambda: True, lambda: all_finite(gradients))
        finite &= all_finite([leaf for leaf in jax.tree.leaves((params, rest)) if _is_floating(leaf)])
        going = state.in_a_row < give_up
        new, old = (params, opt_state, rest), (state.params, state.opt_state, state.rest)
        params, opt_state, rest = jax.tree.map(lambda a, b: jnp.where(finite & going, a, b), new, old)
        one, lost = going.astype(jnp.int32), (going & ~finite).astype(jnp.int32)
        in_a_row = jnp.where(going & finite, 0, state.in_a_row + lost)
        state = TrainState(params, opt_state, rest, state.step + one, state.skipped + lost, in_a_row, state.scale)
        return state, Seen(value.astype(jnp.float32), norm)

    return step


def _is_floating(leaf: Any) -> bool:
    return bool(jnp.issubdtype(leaf.dtype, jnp.floating))


def _loss(task: Parts, accumulate: int, compute_dtype: Any) -> Callable[..., Any]:
    """`(params, rest, x, y) -> (value, rest)`: the mean over microbatches, computed in that dtype."""

    def one(params: Any, rest: Any, x: Any, y: Any) -> tuple[jax.Array, Any]:
        if compute_dtype is None:
            return task.loss(params, rest, x, y)
        value, new = task.loss(narrowed(params, compute_dtype), rest, narrowed(x, compute_dtype), y)
        # What the model keeps, it keeps as it was: a mean of batches in 8 bits would stand still.
        kept = jax.tree.map(lambda a, b: a if a.dtype == b.dtype else a.astype(b.dtype), new, rest)
        return value.astype(jnp.float32), kept

    def mean(params: Any, rest: Any, x: Any, y: Any) -> tuple[jax.Array, Any]:
        if len(x) % accumulate:
            raise ValueError(f"a batch of {len(x)} cannot be cut into accumulate={accumulate} equal parts")
        x, y = (part.reshape(accumulate, len(part) // accumulate, *part.shape[1:]) for part in (x, y))

        def turn(rest: Any, batch: Any) -> tuple[Any, jax.Array]:
            value, rest = jax.checkpoint(one)(params, rest, *batch)
            return rest, value

        rest, values = jax.lax.scan(turn, rest, (x, y))
        return jnp.mean(values), rest

    return one if accumulate == 1 else mean
