"""Skip the steps whose gradients or updates are not finite."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxopt_lectures.core.checks import whole
from jaxopt_lectures.core.transformation import Transformation, check_transformation


class SkipNonfiniteState(NamedTuple):
    """What was skipped.

    Attributes:
      inner_state: state of the wrapped transformation; a skipped step leaves it untouched.
      notfinite_count: steps skipped in a row until now, () int32.
      total_notfinite: steps skipped in all, () int32.
      last_finite: whether the last step was taken, () bool.
      gave_up: whether `max_consecutive` steps in a row were ever skipped, () bool. It stays True: under `jit`, where
        nothing can raise, ask for it.
    """

    inner_state: Any
    notfinite_count: jax.Array
    total_notfinite: jax.Array
    last_finite: jax.Array
    gave_up: jax.Array

    def metrics(self) -> dict[str, Any]:
        """What `jol.metrics` gives."""
        return {"skipped_nonfinite": self.total_notfinite}


def skip_nonfinite(inner: optax.GradientTransformation, max_consecutive: int = 10) -> Transformation:
    """Runs `inner`, but skips each step whose gradients, or whose updates, hold an inf or a NaN.

    A skipped step returns updates of 0 and the state as it was, counts included, so that schedules wait too. A NaN is
    never let through. Once `max_consecutive` steps in a row were skipped, training is broken, not unlucky: outside
    `jit`, `update` raises; inside, where it cannot, `gave_up` in the state turns True, and it goes on skipping.

    Args:
      inner: the transformation, ours or optax's.
      max_consecutive: steps in a row after which it raises or reports; >= 1.

    Raises:
      TypeError: `inner` is not a transformation, or `max_consecutive` not an integer.
      ValueError: `max_consecutive` is below 1.
      FloatingPointError: from `update` outside `jit`, see above.
    """
    check_transformation(inner, "skip_nonfinite's inner")
    whole("max_consecutive", max_consecutive, 1)
    wrapped = optax.with_extra_args_support(inner)

    def init(params: Any) -> SkipNonfiniteState:
        in_a_row, total = jnp.zeros((), jnp.int32), jnp.zeros((), jnp.int32)  # two arrays: each may be donated
        return SkipNonfiniteState(wrapped.init(params), in_a_row, total, jnp.ones((), bool), jnp.zeros((), bool))

    def update(updates: Any, state: SkipNonfiniteState, params: Any = None, **extra: Any) -> Any:
        new_updates, new_inner = wrapped.update(updates, state.inner_state, params, **extra)
        fine = all_finite(updates) & all_finite(new_updates)
        new_updates = jax.tree.map(lambda u: jnp.where(fine, u, jnp.zeros_like(u)), new_updates)
        new_inner = jax.tree.map(lambda new, old: jnp.where(fine, new, old), new_inner, state.inner_state)
        in_a_row = jnp.where(fine, 0, optax.safe_increment(state.notfinite_count))
        total = jnp.where(fine, state.total_notfinite, optax.safe_increment(state.total_notfinite))
        gave_up = state.gave_up | (in_a_row >= max_consecutive)
        if not isinstance(in_a_row, jax.core.Tracer) and in_a_row >= max_consecutive:
            raise FloatingPointError(
                f"{int(in_a_row)} steps in a row had gradients or updates that are not finite, max_consecutive is "
                f"{max_consecutive}: look at the loss and the batch, or lower the learning rate"
            )
        return new_updates, SkipNonfiniteState(new_inner, in_a_row, total, fine, gave_up)

    again = functools.partial(skip_nonfinite, max_consecutive=max_consecutive)
    return Transformation(init, update, couples="tree", parts=(inner,), again=again, title="skip_nonfinite")


def all_finite(tree: Any) -> jax.Array:
    """Whether no element of the tree is inf or NaN, () bool."""
    leaves = [jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(tree)]
    return jnp.all(jnp.stack(leaves)) if leaves else jnp.ones((), bool)
