"""A transformer that predicts the next token, as GPT-2.

Sources: A. Vaswani et al., "Attention is all you need", 2017; A. Radford et al., "Language models are unsupervised
multitask learners", 2019 (GPT-2).
"""

import math
from collections.abc import Mapping
from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import nnx

from jaxopt_lectures.models.initializers import Initializer, normal
from jaxopt_lectures.models.parts import dropping, embedding


class GPT(nnx.Module):
    """Embedded tokens plus embedded positions, blocks of attention and of dense layers, scores of the next token.

    Each block adds `attention(norm(x))`, then `dense(gelu(dense(norm(x))))` with 4 times the width inside. Attention
    sees no later token, and has its scores in float32. The token embedding is also the last layer (tied). Weights start
    as N(0, 0.02^2), those whose output is added to x as N(0, 0.02^2 / (2 layers)).

    Args:
      vocabulary: number of different tokens.
      context: longest sequence.
      layers: number of blocks.
      heads: of the attention; divides `width`.
      width: features of each position.
      dropout: share of the embedding's and of each addend's features set to 0 while training, in [0, 1). The attention
        weights themselves are not dropped.
      rngs: where weights and dropped features are drawn from.

    Raises:
      ValueError: a size below 1, heads that do not divide the width, a share outside its range.
    """

    mesh_rules: ClassVar[Mapping[str, tuple[str | None, ...]]] = {
        "(query|key|value|rise)/kernel": (None, "model"),
        "(query|key|value|rise)/bias": ("model",),
        "(output|fall)/kernel": ("model", None),
        "tokens/embedding": ("model", None),
    }
    """Which axis of a mesh cuts which axis of a parameter (tensor parallel): a block needs two sums over devices."""

    def __init__(
        self,
        vocabulary: int,
        *,
        context: int,
        layers: int,
        heads: int,
        width: int,
        dropout: float = 0.0,
        rngs: nnx.Rngs,
    ) -> None:
        sizes = {"vocabulary": vocabulary, "context": context, "layers": layers, "heads": heads, "width": width}
        for name, size in sizes.items():
            if size < 1:
                raise ValueError(f"{name} must be at least 1, got {size}")
        if width % heads:
            raise ValueError(f"heads must divide the width, got {heads} heads and width {width}")
        self.context = context
        self.tokens = embedding(vocabulary, width, normal(_SPREAD), rngs=rngs)
        self.positions = embedding(context, width, normal(_SPREAD), rngs=rngs)
        self.dropout = dropping(dropout, rngs)
        added = normal(_SPREAD / math.sqrt(2 * layers))
        self.blocks = nnx.List(_Block(width, heads, dropout, added, rngs=rngs) for _ in range(layers))
        self.norm = nnx.LayerNorm(width, epsilon=1e-5, rngs=rngs)

    def __call__(self, tokens: jax.Array) -> jax.Array:
        """Maps tokens, (N, T) or (T,), to logits of the token after each, (N, T, vocabulary) or (T, vocabulary).

        Tokens are integers from 0 to vocabulary - 1; any other yields not-a-number.

        Raises:
          ValueError: a sequence longer than the context, or tokens that are not integers.
        """
        length = tokens.shape[-1]
        if length > self.context:
            raise ValueError(f"a sequence may have at most {self.context} tokens (the context), got {length}")
        x = self.dropout(self.tokens(tokens) + self.positions(jnp.arange(length)))
        for block in self.blocks:
            x = block(x)
        return self.tokens.attend(self.norm(x))


def gpt2_small(rngs: nnx.Rngs) -> GPT:
    """GPT-2 small, 124,439,808 parameters."""
    return GPT(50257, context=1024, layers=12, heads=12, width=768, dropout=0.1, rngs=rngs)


_SPREAD = 0.02


class _Block(nnx.Module):
    def __init__(self, width: int, heads: int, dropout: float, added: Initializer, *, rngs: nnx.Rngs) -> None:
        def dense(before: int, after: int, init: Initializer) -> nnx.Linear:
            return nnx.Linear(before, after, kernel_init=init, rngs=rngs)

        self.heads, plain = heads, normal(_SPREAD)
        self.norms = nnx.List(nnx.LayerNorm(width, epsilon=1e-5, rngs=rngs) for _ in range(2))
        self.query, self.key, self.value = (dense(width, width, plain) for _ in range(3))
        self.output = dense(width, width, added)
        self.rise, self.fall = dense(width, 4 * width, plain), dense(4 * width, width, added)
        self.dropout = dropping(dropout, rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = x + self.dropout(self.output(self._attention(self.norms[0](x))))
        return x + self.dropout(self.fall(nnx.gelu(self.rise(self.norms[1](x)))))

    def _attention(self, x: jax.Array) -> jax.Array:
        split = (*x.shape[:-1], self.heads, -1)
        query, key, value = (layer(x).reshape(split) for layer in (self.query, self.key, self.value))
        return jax.nn.dot_product_attention(query, key, value, is_causal=True).reshape(x.shape)
