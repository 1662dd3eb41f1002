"""The artificial neuron, and the smallest network that one neuron cannot replace.

Sources: W. McCulloch, W. Pitts, 1943; F. Rosenblatt, "The perceptron", 1958 (lectures 000 and 004).
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

Activation = Callable[[jax.Array], jax.Array]


def step(z: Any) -> jax.Array:
    """The perceptron's activation: 1 where z >= 0, otherwise 0 (lecture 004).

    Its derivative is 0 wherever there is one, and the gradient given here is 0 everywhere: a network of such neurons
    can compute, but cannot be trained by back-propagation.

    Args:
      z: real array of any shape.

    Returns:
      Floating-point array of the same shape; not a number stays so.
    """
    z = jnp.asarray(z)
    z = z if jnp.issubdtype(z.dtype, jnp.floating) else z.astype(float)
    return jnp.heaviside(z, jnp.ones((), z.dtype))


def sigmoid(z: Any, alpha: float = 1.0) -> jax.Array:
    """The logistic function `1 / (1 + exp(-alpha z))` (lecture 000; lecture 004 with alpha = 1).

    Lecture 000's identity `tanh(z) = 2 sigmoid(2 z) - 1` holds for alpha = 1.

    Args:
      z: floating-point array of any shape; no value overflows.
      alpha: slope; the derivative at 0 is alpha / 4.
    """
    return jax.nn.sigmoid(alpha * jnp.asarray(z))


def neuron(x: jax.Array, w: jax.Array, b: Any, f: Activation) -> jax.Array:
    """`y = f(w^T x + b)` (lecture 000); with a matrix w, a layer of neurons.

    Args:
      x: inputs, (..., P).
      w: weights, (P,), or (P, units).
      b: bias, () or (units,).
      f: activation.

    Returns:
      (...,), or (..., units).
    """
    return f(x @ w + b)


def xor_net(x: Any) -> jax.Array:
    """Exclusive or, by two layers of step neurons: `h_i = step(w_i^T x + b_i)`, `y = step(w^T h + b)` (lecture 004).

    The first hidden neuron computes or, the second not-and, the output and. No single step neuron can: the four points
    are not separable by a line.

    Args:
      x: truth values 0 and 1, (..., 2).

    Returns:
      0 or 1, (...,).
    """
    x = jnp.asarray(x, float)
    hidden = neuron(x, jnp.array([[1, -1], [1, -1]], x.dtype), jnp.array([-0.5, 1.5], x.dtype), step)
    return neuron(hidden, jnp.array([1, 1], x.dtype), jnp.array(-1.5, x.dtype), step)


class Neuron(nnx.Module):
    """A neuron with weights that can be trained: `x -> f(w^T x + b)`.

    Args:
      inputs: number of inputs P, >= 1.
      activation: f.
      rngs: where the weights are drawn from; the bias starts at 0.

    Raises:
      ValueError: `inputs` below 1.
    """

    def __init__(self, inputs: int, activation: Activation = sigmoid, *, rngs: nnx.Rngs) -> None:
        if inputs < 1:
            raise ValueError(f"inputs must be at least 1, got {inputs}")
        self.activation = activation
        self.affine = nnx.Linear(inputs, 1, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps (..., P) to (...,)."""
        return self.activation(self.affine(x)[..., 0])
