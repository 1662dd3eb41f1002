"""Several gradients to a step: the batch that memory has no room for."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxopt_lectures.core.checks import same_shapes, same_structure, whole
from jaxopt_lectures.core.numbers import arithmetic_dtype
from jaxopt_lectures.core.slots import Signed
from jaxopt_lectures.core.transformation import Transformation, couples_of
from jaxopt_lectures.wrappers.wrapped import either, wrapped


class AccumulateState(NamedTuple):
    """The gradients since the last step.

    Attributes:
      mini_step: how many they are, () int32.
      gradient_step: steps taken, () int32.
      total: their sum, float32 (float64 for float64 parameters). What is in it at `mini_step` 0 is not read.
      inner_state: state of the wrapped transformation.
    """

    mini_step: jax.Array
    gradient_step: jax.Array
    total: Signed
    inner_state: Any


def accumulate(
    tx: optax.GradientTransformation, every: int | Callable[[jax.Array], Any], average: bool = True
) -> Transformation:
    """Adds up gradients and lets `tx` step once in `every` calls, on `(g_1 + ... + g_every) / every`; 0 in between.

    Between its steps nothing of `tx` is computed: its counts and schedules count steps, not calls. The sum is float32
    also where gradients are narrower. With batches of one size and a loss that is a mean over them, this is the step
    on the batch of all. Extra arguments (`value`) are those of the call that steps.

    `value_fn` is of one batch, and the step is of all, so that a `tx` that asks it raises. SAM goes around:
    `sam(accumulate(tx, every), rho)` climbs on each batch by its own gradient, and steps on the mean. A line search
    wants the batch of all.

    With `every=1` it is `tx`, with its state, and no sum. Otherwise the sum takes 4 bytes a parameter.

    Args:
      tx: the transformation, ours or optax's.
      every: calls for each step, an integer >= 1; or a schedule, a function of the number of steps taken so far that
        gives one. What it gives below 1 counts as 1.
      average: True: steps on the mean. False: on the sum.

    Raises:
      TypeError: `tx` is not a transformation, or `every` neither an integer nor a function.
      ValueError: `every` is below 1; or, from `update`, gradients of another structure or shape than the parameters, or
        a `tx` that asks `value_fn`.
    """
    inner = wrapped(tx, "accumulate's argument")
    if not callable(every):
        whole("every", every, 1)
    again = functools.partial(accumulate, every=every, average=average)
    if every == 1:
        return Transformation(
            inner.init, inner.update, couples=couples_of(tx), parts=(tx,), again=again, title="accumulate"
        )

    def init(params: Any) -> AccumulateState:
        total = jax.tree.map(lambda p: jnp.zeros_like(p, dtype=arithmetic_dtype(jnp.result_type(p))), params)
        return AccumulateState(jnp.zeros((), jnp.int32), jnp.zeros((), jnp.int32), total, inner.init(params))

    def update(updates: Any, state: AccumulateState, params: Any = None, **extra: Any) -> Any:
        gradients, treedef = jax.tree.flatten(updates)
        sums = same_structure(treedef, updates, state.total, "sum")
        same_shapes(updates, gradients, sums, "the sum")
        first, added = state.mini_step == 0, state.mini_step + 1
        if extra.get("value_fn") is not None:
            extra["value_fn"] = _of_one_batch
        totals = [jnp.where(first, 0, s) + g.astype(s.dtype) for g, s in zip(gradients, sums, strict=True)]

        def step(dtypes: Sequence[Any]) -> Any:
            wide = [s / added.astype(s.dtype) if average else s for s in totals]
            meant = [s.astype(d) for s, d in zip(wide, dtypes, strict=True)]
            return inner.update(treedef.unflatten(meant), state.inner_state, params, **extra)

        wanted = every(state.gradient_step) if callable(every) else every
        ready = added >= jnp.asarray(wanted).astype(jnp.int32)
        narrow = [g.dtype for g in gradients]
        kinds, _ = jax.eval_shape(lambda: step(narrow))
        given = zip(narrow, sums, jax.tree.leaves(kinds), strict=True)
        # what gives float32 updates to narrower gradients (`widened`) steps in float32, and sees the mean in it
        dtypes = [s.dtype if kind.dtype == s.dtype else dtype for dtype, s, kind in given]
        nothing = jax.tree.map(lambda g, kind: jnp.zeros_like(g, dtype=kind.dtype), updates, kinds)
        new_updates, new_inner = either(ready, lambda: step(dtypes), (nothing, state.inner_state))
        return new_updates, AccumulateState(
            jnp.where(ready, 0, added),
            jnp.where(ready, optax.safe_increment(state.gradient_step), state.gradient_step),
            treedef.unflatten(totals),
            new_inner,
        )

    return Transformation(init, update, couples=couples_of(tx), parts=(tx,), again=again, title="accumulate")


def _of_one_batch(*args: Any, **kwargs: Any) -> Any:
    """What stands in the place of `value_fn`."""
    del args, kwargs
    raise ValueError(
        "accumulate steps on the mean of several batches, of which value_fn knows the last only: put what asks it "
        "around, sam(accumulate(tx, every)); a line search wants the batch of all"
    )
