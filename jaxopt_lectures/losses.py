"""The losses that the lectures print: names, formulas and reductions as printed.

Sources: lecture 000 (MSE, MAE), lecture 002 (LAD, LSE, cross-entropy), lecture 004 (the cost C, an MSE). For every
other loss use optax's, `optax.softmax_cross_entropy_with_integer_labels` for one.

Three things to know about the printed formulas:

* Lecture 002's names denote fits, its formulas are means. "Least squares" and "least absolute deviations" are what one
  does with a SUM of squares or magnitudes; the slide divides by m, so `lse` is `mse` and `lad` is `mae`.
* There is no 1/2 in the squares: `optax.l2_loss` carries one, so `mse` is twice the mean of it, gradient and all.
* Lecture 002 does not say that o is the target and y_hat a probability, nor how samples are combined: it prints the
  cross-entropy of one sample. Take the mean, or the sum, over what `cross_entropy` returns.

Common to all: the two arguments are numbers, lists or arrays of ONE shape, of real floats, integers or bools. They are
computed with in float32 (float64 if one of them is), which is also the result's dtype, so that float16 and bfloat16
neither overflow nor stall.
"""

from typing import Any

import jax
import jax.numpy as jnp

from jaxopt_lectures.core.numbers import arithmetic_dtype, finite


def mse(y: Any, y_hat: Any) -> jax.Array:
    """The mean squared error: `L = 1/N sum_i (y_i - y_hat_i)^2`.

    Args:
      y: targets, any shape.
      y_hat: predictions, of the same shape.

    Returns:
      A scalar, >= 0, in the squared unit of y: the mean over all N elements, without 1/2.

    Raises:
      ValueError: the shapes differ, or hold no element.
      TypeError: a complex argument, or no numbers at all.

    Source: lectures 000 and 004.
    """
    return _mean_square(*_pair("y", y, "y_hat", y_hat))


def mae(y: Any, y_hat: Any) -> jax.Array:
    """The mean absolute error: `L = 1/N sum_i |y_i - y_hat_i|`.

    It has no derivative where a residual is 0; 0 is used there, the middle of its subgradients.

    Args:
      y: targets, any shape.
      y_hat: predictions, of the same shape.

    Returns:
      A scalar, >= 0, in the unit of y: the mean over all N elements.

    Raises:
      ValueError: the shapes differ, or hold no element.
      TypeError: a complex argument, or no numbers at all.

    Source: lecture 000.
    """
    return _mean_magnitude(*_pair("y", y, "y_hat", y_hat))


def lad(o: Any, y_hat: Any) -> jax.Array:
    """The "least absolute deviation": `1/m sum_i |o_i - y_hat_i|`, which is `mae`; the name is that of a fit.

    Args:
      o: targets, any shape.
      y_hat: predictions, of the same shape.

    Returns:
      A scalar, >= 0: the mean over all m elements.

    Raises:
      ValueError: the shapes differ, or hold no element.
      TypeError: a complex argument, or no numbers at all.

    Source: lecture 002.
    """
    return _mean_magnitude(*_pair("o", o, "y_hat", y_hat))


def lse(o: Any, y_hat: Any) -> jax.Array:
    """The "least square error": `1/m sum_i (o_i - y_hat_i)^2`, which is `mse`; the name is that of a fit.

    Args:
      o: targets, any shape.
      y_hat: predictions, of the same shape.

    Returns:
      A scalar, >= 0: the mean over all m elements.

    Raises:
      ValueError: the shapes differ, or hold no element.
      TypeError: a complex argument, or no numbers at all.

    Source: lecture 002.
    """
    return _mean_square(*_pair("o", o, "y_hat", y_hat))


def cross_entropy(o: Any, y_hat: Any) -> jax.Array:
    """The cross-entropy of each sample, from probabilities: `- sum_{i=1}^c o_i log(y_hat_i)`.

    As printed it is inf where y_hat_i = 0 and o_i > 0, and so is its gradient; `cross_entropy_with_logits` is finite.
    Where both are 0, the term is 0 (the limit of 0 log y), and so is its gradient.

    Args:
      o: targets, (..., c): shares in [0, 1] that sum to 1 along the last axis, one-hot for classes.
      y_hat: predicted probabilities, of the same shape, in [0, 1]. Neither is checked or normalised.

    Returns:
      One number for each sample, (...), in nats, >= 0: leading axes stay, the mean over them is yours to take.

    Raises:
      ValueError: the shapes differ, there is no last axis, or it is empty.
      TypeError: a complex argument, or no numbers at all.

    Source: lecture 002.
    """
    o, y_hat = _pair("o", o, "y_hat", y_hat, classes=True)
    used = (o != 0) | (y_hat != 0)
    return jnp.sum(jnp.where(used, o * -jnp.log(jnp.where(used, y_hat, 1)), 0), axis=-1)


def cross_entropy_with_logits(o: Any, logits: Any) -> jax.Array:
    """The cross-entropy of each sample, from logits: `- sum_i o_i log(softmax(logits)_i)`.

    The logarithm and the exponential are taken together, `log softmax(z)_i = z_i - log sum_k exp(z_k)`, so that no
    probability can vanish on the way: finite for finite logits, with the gradient `softmax(logits) - o`. An infinite
    logit counts as the largest number there is, so -inf masks a class out.

    Args:
      o: targets, (..., c): shares in [0, 1] that sum to 1 along the last axis, one-hot for classes.
      logits: real numbers, of the same shape; a constant added to all c of a sample changes nothing.

    Returns:
      One number for each sample, (...), in nats, >= 0: leading axes stay, the mean over them is yours to take.

    Raises:
      ValueError: the shapes differ, there is no last axis, or it is empty.
      TypeError: a complex argument, or no numbers at all.

    Source: lecture 002, in the form that can be computed.
    """
    o, z = _pair("o", o, "logits", logits, classes=True)
    z = jnp.where(jnp.isinf(z), finite(z), z)
    # Halves: the difference of two logits may be twice the largest number.
    below = z / 2 - jax.lax.stop_gradient(jnp.max(z, axis=-1, keepdims=True)) / 2
    half = jnp.log(jnp.sum(jnp.exp(2 * below), axis=-1)) / 2 * jnp.sum(o, axis=-1) - jnp.sum(o * below, axis=-1)
    excess = jnp.maximum(half - jnp.finfo(half.dtype).max / 2, 0)
    return 2 * (half - jax.lax.stop_gradient(excess))  # the value stops at the largest number, the gradient does not


def _mean_square(y: jax.Array, y_hat: jax.Array) -> jax.Array:
    return jnp.mean(jnp.square(y - y_hat))


def _mean_magnitude(y: jax.Array, y_hat: jax.Array) -> jax.Array:
    residual = y - y_hat
    return jnp.mean(residual * jnp.sign(residual))  # |r|, but with derivative 0 at 0, where jnp.abs has 1


def _pair(name: str, value: Any, name_hat: str, value_hat: Any, classes: bool = False) -> tuple[jax.Array, jax.Array]:
    """Both as arrays of one shape in the dtype to compute in; with `classes`, of at least one axis."""
    first, second = jnp.asarray(value), jnp.asarray(value_hat)
    for what, array in ((name, first), (name_hat, second)):
        if jnp.issubdtype(array.dtype, jnp.complexfloating):
            raise TypeError(f"{what} must be real, got dtype {array.dtype}")
    shapes = f"{name} has shape {first.shape}, {name_hat} {second.shape}"
    if first.shape != second.shape:
        labels = classes and first.shape == second.shape[:-1]
        hint = "; class labels become rows by backprop.one_hot(labels, classes)" if labels else ""
        raise ValueError(f"{shapes}: they must be equal (nothing is broadcast){hint}")
    if not first.size:
        raise ValueError(f"{shapes}: there is no element to take a loss of")
    if classes and not first.ndim:
        raise ValueError(f"{shapes}: the last axis must be that of the classes")
    dtype = arithmetic_dtype(first.dtype, second.dtype)
    return first.astype(dtype), second.astype(dtype)
