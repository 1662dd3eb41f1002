"""The multi-layer perceptron: affine maps with a nonlinearity between them."""

import itertools
from collections.abc import Callable, Sequence

import jax
from flax import nnx
from jax.nn.initializers import Initializer, lecun_normal, zeros

from jaxopt_lectures.models.parts import batch_normalization, dropping


class MLP(nnx.Module):
    """`x -> W_n s(... s(W_1 x + b_1) ...) + b_n`, where s is the activation; the last layer has none.

    The matrix form of lecture 000, for a batch: with rows as samples, `s(X W_1 + b_1)`. `layers` are the affine maps.

    Args:
      sizes: features of the input, of each hidden layer, of the output; at least two.
      activation: the nonlinearity between the layers.
      kernel_init: draws the weights; `jaxopt_lectures.models.initializers` has those that the lectures name.
      bias_init: draws the biases.
      dropout: share of each hidden layer's outputs set to 0 while training, in [0, 1).
      batch_norm: normalise before each activation; the hidden layers then have no bias, which it would undo.
      rngs: where the initial weights are drawn from (`nnx.Rngs(seed)`).

    Raises:
      ValueError: fewer than two sizes, a size below 1, or a share outside its range.

    Sources: lecture 000 (matrix form); N. Srivastava et al., "Dropout", JMLR 2014; S. Ioffe, C. Szegedy, "Batch
    normalization", ICML 2015 (lecture 004).
    """

    def __init__(
        self,
        sizes: Sequence[int],
        *,
        activation: Callable[[jax.Array], jax.Array] = nnx.relu,
        kernel_init: Initializer | None = None,
        bias_init: Initializer = zeros,
        dropout: float = 0.0,
        batch_norm: bool = False,
        rngs: nnx.Rngs,
    ) -> None:
        if len(sizes) < 2 or min(sizes) < 1:
            raise ValueError(f"sizes must name at least the input and the output, each >= 1, got {tuple(sizes)}")
        last = len(sizes) - 2
        self.activation = activation
        self.layers = nnx.List(
            nnx.Linear(
                inputs,
                outputs,
                use_bias=not batch_norm or index == last,
                kernel_init=kernel_init or lecun_normal(),
                bias_init=bias_init,
                rngs=rngs,
            )
            for index, (inputs, outputs) in enumerate(itertools.pairwise(sizes))
        )
        self.norms = nnx.List(batch_normalization(size, rngs=rngs) for size in sizes[1:-1]) if batch_norm else None
        self.dropout = dropping(dropout, rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps (..., sizes[0]) to (..., sizes[-1])."""
        for index, layer in enumerate(self.layers[:-1]):
            x = layer(x)
            if self.norms is not None:
                x = self.norms[index](x)
            x = self.dropout(self.activation(x))
        return self.layers[-1](x)
