"""What bounds do to a point, a direction and a gradient; a box is lower and upper bounds, two vectors, or None."""

from typing import Any

import jax
import jax.numpy as jnp

import jaxopt_lectures.solvers.vectors as vectors
from jaxopt_lectures.core.numbers import quotient

Box = tuple[Any, Any] | None


def steepness(x: Any, g: Any, box: Box) -> jax.Array:
    """The largest element of the gradient; between bounds, of the step to clip(x - g)."""
    return vectors.largest(bent(vectors.negative(g), x, box))


def bent(d: Any, x: Any, box: Box) -> Any:
    """The direction to clip(x + d), computed without x + d, which rounds a small d away."""
    if box is None:
        return d
    return jax.tree.map(lambda x, d, low, high: jnp.clip(d, low - x, high - x), x, d, *box)


def inside(x: Any, box: Box) -> Any:
    """The point in the box; within a few roundings of a bound it is at the bound."""
    if box is None:
        return x

    def one(x: Any, low: Any, high: Any) -> jax.Array:
        eps = 8 * jnp.finfo(x.dtype).eps
        x = jnp.where((x - low <= eps * jnp.abs(low)) & (low > -jnp.inf), low, x)
        return jnp.where((high - x <= eps * jnp.abs(high)) & (high < jnp.inf), high, x)

    return jax.tree.map(one, x, *box)


def longest(x: Any, d: Any, box: Box) -> Any:
    """The longest step along d that stays in the box."""
    if box is None:
        return jnp.inf

    def room(x: Any, d: Any, low: Any, high: Any) -> jax.Array:
        wall = jnp.where(d > 0, high, low)
        return jnp.min(jnp.where(d == 0, jnp.inf, quotient(wall - x, d)), initial=jnp.inf)

    return jnp.min(jnp.stack(jax.tree.leaves(jax.tree.map(room, x, d, *box))))


def held(x: Any, g: Any, box: Box) -> jax.Array:
    """Whether a variable is kept from going down by its bound, ()."""
    if box is None:
        return jnp.zeros((), bool)

    def one(x: Any, g: Any, low: Any, high: Any) -> jax.Array:
        return jnp.any(((x <= low) & (g > 0)) | ((x >= high) & (g < 0)))

    return jnp.any(jnp.stack(jax.tree.leaves(jax.tree.map(one, x, g, *box))))
