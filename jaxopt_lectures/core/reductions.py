"""Numbers made of all arrays, of one number for each part of them; who reads many arrays at once takes over."""

import contextlib
import contextvars
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp

Parts = Callable[..., jax.Array]

_by: contextvars.ContextVar[Parts | None] = contextvars.ContextVar("reductions", default=None)


def parts(function: Callable[..., jax.Array], arrays: Sequence[jax.Array], *operands: Any) -> jax.Array:
    """`function(a, *operands)`, a number, of each array, or of parts that make them up; (n,), n at least 1.

    Args:
      function: a plain function at module level, elementwise and then one reduction over the array.
      arrays: at least one.
      operands: numbers.
    """
    by = _by.get() or one_by_one
    return by(function, arrays, *operands)


def one_by_one(function: Callable[..., jax.Array], arrays: Sequence[jax.Array], *operands: Any) -> jax.Array:
    """A number for each array."""
    return jnp.stack([function(a, *operands) for a in arrays])


@contextlib.contextmanager
def taken_over(by: Parts) -> Iterator[None]:
    """Lets `by(function, arrays, *operands)` do what `parts` does."""
    token = _by.set(by)
    try:
        yield
    finally:
        _by.reset(token)
