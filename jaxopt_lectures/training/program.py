"""The training step.

gradient = mean over microbatches of d loss(parameters) / d parameters
update, state = tx.update(gradient, state, parameters)
parameters += update
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxopt_lectures.core.checks import whole
from jaxopt_lectures.core.transformation import check_transformation, gradient_point
from jaxopt_lectures.kernels.fuse import fuse
from jaxopt_lectures.tasks.task import Task
from jaxopt_lectures.training.parts import narrowed, parts
from jaxopt_lectures.training.placement import AXIS, Placement, put
from jaxopt_lectures.wrappers.narrow_weights import apply_updates
from jaxopt_lectures.wrappers.skip_nonfinite import all_finite


class TrainState(NamedTuple):
    """What training changes.

    Attributes:
      params: the parameters.
      opt_state: the optimizer's state.
      rest: what else the model keeps: batch statistics, keys.
      step: steps so far, () int32.
      skipped: those of them that changed nothing, () int32.
      scale: what updates are multiplied by where that is asked for, () float32.
    """

    params: Any
    opt_state: Any
    rest: Any
    step: jax.Array
    skipped: jax.Array
    scale: jax.Array


Step = Callable[[TrainState, Any, Any], tuple[TrainState, jax.Array]]


def start(
    task: Task, tx: optax.GradientTransformation, seed: int = 0, *, placement: Placement | None = None
) -> TrainState:
    """The state before the first step: parameters as `task.model(seed)` draws them.

    Args:
      task: what to train.
      tx: the optimizer, ours or optax's.
      seed: of the parameters.
      placement: where it lies on a mesh; `tx` is then what `placement.optimizer` gave.
    """
    check_transformation(tx, "tx")
    params, rest = parts(task).start(seed)
    if placement is not None:
        params, rest = put(params, placement.layout), put(rest, placement.whole)
    # Copies: a state may start as the parameters, and both are donated.
    # What lies on a mesh is made in its place by `shard` itself.
    opt_state = jax.tree.map(jnp.copy, (tx.init if placement is not None else jax.jit(tx.init))(params))
    params = jax.tree.map(jnp.copy, params)
    rest = jax.tree.map(jnp.copy, rest)  # a model may share what it keeps with others
    state = begun(params, opt_state, rest)
    if placement is None:
        return state
    counts = put(state[3:], placement.whole)
    return TrainState(params, opt_state, rest, *jax.tree.map(jnp.copy, counts))


def begun(params: Any, opt_state: Any, rest: Any) -> TrainState:
    """The state of a training that has taken no step."""
    none, never = jnp.zeros((), jnp.int32), jnp.zeros((), jnp.int32)  # two arrays: each may be donated
    return TrainState(params, opt_state, rest, none, never, jnp.ones((), jnp.float32))


def make_step(
    task: Task,
    tx: optax.GradientTransformation,
    *,
    accumulate: int = 1,
    compute_dtype: Any = None,
    guard: bool = True,
    scaled: bool = False,
    placement: Placement | None = None,
) -> Step:
    """One step on one batch: a pure function `(state, x, y) -> (state, loss)`, to be jitted with `state` donated.

    Args:
      task: model and loss.
      tx: the optimizer, ours or optax's.
      accumulate: into how many microbatches the batch is cut, whose gradients are averaged: memory for one of them.
        For a loss that is a mean over examples the result is the same.
      compute_dtype: the dtype that parameters and inputs are cast to for the loss; updates stay in the parameters'
        own. "bfloat16" is what accelerators are fast with.
      guard: whether a step whose loss, gradient or new parameters are not finite changes nothing but the counts. It
        costs a small model a third of its speed; `fit` has another way.
      scaled: whether updates are multiplied by `state.scale`.
      placement: where all lies on a mesh; `tx` is then what `placement.optimizer` gave.

    Raises:
      TypeError: `tx` is no transformation, a number is none.
      ValueError: `accumulate` below 1; a batch that `accumulate` does not divide.
    """
    check_transformation(tx, "tx")
    whole("accumulate", accumulate, 1)
    loss, wrapped = batch_loss(task, accumulate, compute_dtype, placement), optax.with_extra_args_support(tx)
    fused = None if scaled or placement is not None else fuse(tx, quiet=True)
    slopes = value_and_gradients(task, accumulate, compute_dtype, placement)

    def step(state: TrainState, x: Any, y: Any) -> tuple[TrainState, jax.Array]:
        point = gradient_point(state.opt_state, state.params)
        (value, rest), gradients = slopes(point, state.rest, x, y)

        def again(params: Any) -> jax.Array:  # for those that search along a line
            return loss(params, state.rest, x, y)[0]

        extra = {"value": value, "grad": gradients, "value_fn": again}
        if fused is not None:
            params, opt_state = fused.step(gradients, state.opt_state, state.params, **extra)
        else:
            updates, opt_state = wrapped.update(gradients, state.opt_state, state.params, **extra)
            if scaled:
                updates = jax.tree.map(lambda u: u * state.scale.astype(u.dtype), updates)
            params = apply_updates(state.params, updates)
        new = TrainState(params, opt_state, rest, state.step + 1, state.skipped, state.scale)
        if guard:
            finite = jnp.isfinite(value) & all_finite(gradients) & is_fine(new)
            new = jax.tree.map(lambda a, b: jnp.where(finite, a, b), new, skipped(state))
        if placement is not None:  # as it came, or the next step would be another program
            params, others = placement.kept(new.params, (new.rest, *new[3:]))
            new = TrainState(params, new.opt_state, *others)
        return new, value.astype(jnp.float32)

    return step


def skipped(state: TrainState) -> TrainState:
    """The state after a step that changed nothing."""
    return state._replace(step=state.step + 1, skipped=state.skipped + 1)


def is_fine(state: TrainState) -> jax.Array:
    """Whether nothing is lost: parameters and what the model keeps are finite, the optimizer's state has no NaN."""
    finite = all_finite([leaf for leaf in jax.tree.leaves((state.params, state.rest)) if _is_floating(leaf)])
    known = [~jnp.any(jnp.isnan(leaf)) for leaf in jax.tree.leaves(state.opt_state) if _is_floating(leaf)]
    return finite & jnp.all(jnp.stack([finite, *known]))


def _is_floating(leaf: Any) -> bool:
    return bool(jnp.issubdtype(leaf.dtype, jnp.floating))


def value_and_gradients(
    task: Task, accumulate: int = 1, compute_dtype: Any = None, placement: Placement | None = None
) -> Callable[..., Any]:
    """`(params, rest, x, y) -> ((value, rest), gradients)` of a batch."""
    if placement is None or not placement.scatter:
        return jax.value_and_grad(batch_loss(task, accumulate, compute_dtype, placement), has_aux=True)
    from jaxopt_lectures.scaling.gradients import scattered

    # Each device has a part of the batch, which it cuts into microbatches itself.
    loss = batch_loss(task, accumulate, compute_dtype)
    wanted = placement.gradients(parts(task).start(0)[0])
    return scattered(loss, placement.mesh, AXIS, placement.layout, wanted)


def batch_loss(
    task: Task, accumulate: int = 1, compute_dtype: Any = None, placement: Placement | None = None
) -> Callable[..., Any]:
    """`(params, rest, x, y) -> (value, rest)`: the mean over microbatches, computed in that dtype."""
    whole_task = parts(task)

    def one(params: Any, rest: Any, x: Any, y: Any) -> tuple[jax.Array, Any]:
        if placement is not None:
            x, y = placement.divided((x, y))
        if compute_dtype is None:
            return whole_task.loss(params, rest, x, y)
        value, new = whole_task.loss(narrowed(params, compute_dtype), rest, narrowed(x, compute_dtype), y)
        # What the model keeps, it keeps as it was: a mean of batches in 8 bits would stand still.
        kept = jax.tree.map(lambda a, b: a if a.dtype == b.dtype else a.astype(b.dtype), new, rest)
        return value.astype(jnp.float32), kept

    def mean(params: Any, rest: Any, x: Any, y: Any) -> tuple[jax.Array, Any]:
        if len(x) % accumulate:
            raise ValueError(f"a batch of {len(x)} cannot be cut into accumulate={accumulate} equal parts")
        x, y = (part.reshape(accumulate, len(part) // accumulate, *part.shape[1:]) for part in (x, y))
        if placement is not None:  # every microbatch on all devices
            x, y = placement.divided((x, y), 1)

        def turn(rest: Any, batch: Any) -> tuple[Any, jax.Array]:
            value, rest = jax.checkpoint(one)(params, rest, *batch)
            return rest, value

        rest, values = jax.lax.scan(turn, rest, (x, y))
        return jnp.mean(values), rest

    return one if accumulate == 1 else mean
