"""Losses and metrics that several tasks share, functions of (model, x, y)."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxopt_lectures import losses


def cross_entropy(model: Any, x: jax.Array, y: jax.Array) -> jax.Array:
    """Mean of -log p(y | x), in nats, over all labels: of examples, or of every place in a sequence."""
    return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(model(x), y))


def accuracy(model: Any, x: jax.Array, y: jax.Array) -> jax.Array:
    """Share of the examples whose most probable class is the right one."""
    return jnp.mean(jnp.argmax(model(x), axis=-1) == y)


def squared_error(model: Any, x: jax.Array, y: jax.Array) -> jax.Array:
    """Mean squared error of what the model gives."""
    return losses.mse(y, model(x))
