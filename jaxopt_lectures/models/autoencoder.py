"""The deep autoencoder: an image through a narrow code and back.

Sources: G. Hinton, R. Salakhutdinov, "Reducing the dimensionality of data with neural networks", Science 313, 2006;
J. Martens, "Deep learning via Hessian-free optimization", ICML 2010; I. Sutskever, J. Martens, G. Dahl, G. Hinton,
"On the importance of initialization and momentum in deep learning", ICML 2013 (lecture 002).
"""

import itertools
from collections.abc import Callable, Sequence

import jax
from flax import nnx
from jax.nn.initializers import Initializer

from jaxopt_lectures.models.initializers import sparse


class Autoencoder(nnx.Module):
    """An encoder to the code, and a decoder of the same sizes in reverse.

    All layers have the activation but two: the code is affine, so that it can take any value, and the last layer
    gives logits (the pixel is their sigmoid). Biases start at 0.

    Args:
      sizes: features of the input, of each layer, of the code: (784, 400, 200, 100, 50, 25, 6) for CURVES.
      activation: of the hidden layers.
      kernel_init: draws the weights; Martens' sparse initialisation if not given.
      rngs: where they are drawn from.

    Raises:
      ValueError: fewer than two sizes, or a size below 1.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        *,
        activation: Callable[[jax.Array], jax.Array] = jax.nn.sigmoid,
        kernel_init: Initializer | None = None,
        rngs: nnx.Rngs,
    ) -> None:
        if len(sizes) < 2 or min(sizes) < 1:
            raise ValueError(f"sizes must name at least the input and the code, each >= 1, got {tuple(sizes)}")
        drawn = kernel_init or sparse()

        def layers(widths: Sequence[int]) -> nnx.List:
            pairs = itertools.pairwise(widths)
            return nnx.List(nnx.Linear(before, after, kernel_init=drawn, rngs=rngs) for before, after in pairs)

        self.activation = activation
        self.encoder, self.decoder = layers(sizes), layers(sizes[::-1])

    def encode(self, x: jax.Array) -> jax.Array:
        """Maps (..., sizes[0]) to its code, (..., sizes[-1])."""
        return self._through(self.encoder, x)

    def decode(self, code: jax.Array) -> jax.Array:
        """Maps a code, (..., sizes[-1]), to logits, (..., sizes[0])."""
        return self._through(self.decoder, code)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps (..., sizes[0]) to the logits of its reconstruction, of the same shape."""
        return self.decode(self.encode(x))

    def _through(self, layers: nnx.List, x: jax.Array) -> jax.Array:
        for layer in layers[:-1]:
            x = self.activation(layer(x))
        return layers[-1](x)
