"""Which arguments of an optimizer can be operands of a compiled program, so that another value compiles nothing."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxopt_lectures.core.card import Range
from jaxopt_lectures.core.transformation import check_transformation
from jaxopt_lectures.tuning.space import Space, Values

_RATE = "learning_rate"


def operands(factory: Callable[..., Any], space: Space, values: Values, params: Any) -> tuple[str, ...]:
    """All numbers that the space has ranges for; where the optimizer needs to know some, the rate alone, or none.

    Args:
      factory: gives the optimizer.
      space: where is looked.
      values: a setting to try with.
      params: like those to train.

    Raises:
      Whatever the factory raises with plain numbers.
    """
    numbers = tuple(name for name, where in space.items() if isinstance(where, Range))
    for names in dict.fromkeys((numbers, tuple(name for name in numbers if name == _RATE))):
        try:
            _try(factory, values, names, params)
            return names
        except Exception:  # it looks at a number, in one of the many ways that fail
            continue
    _try(factory, values, (), params)
    return ()


def _try(factory: Callable[..., Any], values: Values, names: Sequence[str], params: Any) -> None:
    """Traces the optimizer, not its task: that is quick."""
    fixed = {name: value for name, value in values.items() if name not in names}

    def step(numbers: Any, params: Any) -> Any:
        tx = factory(**fixed, **numbers)
        check_transformation(tx, "the optimizer")
        value = jnp.zeros(())
        update = optax.with_extra_args_support(tx).update
        return update(params, tx.init(params), params, value=value, grad=params, value_fn=lambda params: value)

    jax.eval_shape(step, {name: jnp.asarray(values[name], float) for name in names}, params)
