"""The multi-layer perceptron: affine maps with a nonlinearity between them."""

import itertools
from collections.abc import Callable, Sequence

import jax
from flax import nnx


class MLP(nnx.Module):
    """`x -> W_n s(... s(W_1 x + b_1) ...) + b_n`, where s is the activation; the last layer has none.

    Args:
      sizes: features of the input, of each hidden layer, of the output; at least two.
      activation: the nonlinearity between the layers.
      rngs: where the initial weights are drawn from (`nnx.Rngs(seed)`).

    Raises:
      ValueError: fewer than two sizes, or a size below 1.
    """

    def __init__(
        self, sizes: Sequence[int], *, activation: Callable[[jax.Array], jax.Array] = nnx.relu, rngs: nnx.Rngs
    ) -> None:
        if len(sizes) < 2 or min(sizes) < 1:
            raise ValueError(f"sizes must name at least the input and the output, each >= 1, got {tuple(sizes)}")
        self.activation = activation
        self.layers = nnx.List(nnx.Linear(inputs, outputs, rngs=rngs) for inputs, outputs in itertools.pairwise(sizes))

    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps (..., sizes[0]) to (..., sizes[-1])."""
        for layer in self.layers[:-1]:
            x = self.activation(layer(x))
        return self.layers[-1](x)
