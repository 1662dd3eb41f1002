"""Cautious: of the step of any optimizer only what agrees with the gradient at hand."""

from typing import Any

import jax
import optax

from jaxopt_lectures.core.transformation import Transformation, couples_of
from jaxopt_lectures.optimizers.cautious import agreeing
from jaxopt_lectures.wrappers.wrapped import wrapped


def cautious(tx: optax.GradientTransformation) -> Transformation:
    """Leaves out of each step what would not go down this step's gradient, and lengthens the rest by as much.

    `u <- u mask / max(mean(mask), 1/1000)`, mask = 1 where u g < 0, else 0, array by array; u is the update of `tx`,
    which is added to the parameters, g the gradient that it is given. The state is that of `tx`.

    A weight decay inside `tx` is part of u, and is masked with it; the paper masks the step alone. So let weights decay
    outside, `jol.chain(jol.cautious(jol.lion(rate, weight_decay=0)), optax.add_decayed_weights(-rate * decay))`, or
    take `jol.cautious_adamw`. A `tx` whose updates are not yet turned downhill, such as `optax.scale_by_adam()`, is
    masked where it agrees: give it with its `optax.scale_by_learning_rate`.

    Args:
      tx: the transformation, ours or optax's, whose updates go downhill.

    Raises:
      TypeError: `tx` is not a transformation.

    Source: K. Liang et al., "Cautious optimizers", 2024, arXiv:2411.16085, algorithm 1.
    """
    inner = wrapped(tx, "cautious's argument")

    def update(updates: Any, state: Any, params: Any = None, **extra: Any) -> Any:
        steps, state = inner.update(updates, state, params, **extra)
        return jax.tree.map(lambda u, g: agreeing(u, g).astype(u.dtype), steps, updates), state

    couples = couples_of(tx, least="array")
    return Transformation(inner.init, update, couples=couples, parts=(tx,), again=cautious, title="cautious")
