"""Networks with a memory: the plain recurrent cell, LSTM and GRU, unrolled over a sequence.

Sources: S. Hochreiter, J. Schmidhuber, "Long short-term memory", 1997, with the forget gate of F. Gers,
J. Schmidhuber, F. Cummins, 2000; K. Cho et al., 2014 (GRU); lecture 000 names both.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.nn.initializers import Initializer, lecun_normal, normal, orthogonal, zeros

from jaxopt_lectures.models.parts import embedding

# Matrices of equal shape that a cell keeps side by side as one.
_GATES = {"rnn": 1, "lstm": 4, "gru": 3}


class Recurrent(nnx.Module):
    """A recurrent cell over a sequence, and a dense layer from its hidden state to the outputs.

    With s the sigmoid, products of vectors elementwise, h and c starting at 0, and several letters on the left for the
    equal parts of the vector on the right:

    - "rnn": `h' = tanh(W x + U h + b)`
    - "lstm": `(i, f, g, o) = W x + U h + b`, `c' = s(f) c + s(i) tanh(g)`, `h' = s(o) tanh(c')`
    - "gru": `(r, z) = s(W x + U h + b)`, `n = tanh(W_n x + b_n + r (U_n h))`, `h' = (1 - z) n + z h`

    Cho et al. multiply by r before U_n, not after. torch adds a second bias vector to each gate, and so counts that
    many parameters more. Parameters of a cell: 1, 4 or 3 times `hidden (inputs + hidden + 1)`.

    Args:
      cell: "rnn", "lstm" or "gru".
      inputs: features at each step; with `vocabulary`, the number of different tokens.
      hidden: size of the hidden state.
      outputs: features of the output.
      every_step: give outputs at every step, not at the last alone.
      vocabulary: the input is tokens, 0 to inputs - 1, each of which gets a trained vector of `hidden` numbers, drawn
        from N(0, 1), and the cell has `hidden` inputs. Any other token yields not-a-number.
      kernel_init: draws W, for each gate anew.
      recurrent_init: draws U, for each gate anew.
      forget_bias: initial bias of an LSTM's forget gate; other biases start at 0. At 1 it remembers from the start.
      rngs: where the weights are drawn from.

    Raises:
      ValueError: an unknown cell, or a size below 1.

    Source of `forget_bias`: R. Jozefowicz, W. Zaremba, I. Sutskever, ICML 2015.
    """

    def __init__(
        self,
        cell: str,
        inputs: int,
        hidden: int,
        outputs: int,
        *,
        every_step: bool = False,
        vocabulary: bool = False,
        kernel_init: Initializer | None = None,
        recurrent_init: Initializer | None = None,
        forget_bias: float = 1.0,
        rngs: nnx.Rngs,
    ) -> None:
        if cell not in _GATES:
            raise ValueError(f"cell must be one of {', '.join(_GATES)}, got {cell!r}")
        if min(inputs, hidden, outputs) < 1:
            raise ValueError(f"inputs, hidden and outputs must be >= 1, got {inputs}, {hidden}, {outputs}")
        gates = _GATES[cell]
        make = {"rnn": _plain, "lstm": nnx.OptimizedLSTMCell, "gru": nnx.GRUCell}[cell]
        self.inputs, self.hidden, self.every_step = inputs, hidden, every_step
        self.embedding = embedding(inputs, hidden, normal(1.0), rngs=rngs) if vocabulary else None
        self.cell = make(
            hidden if vocabulary else inputs,
            hidden,
            kernel_init=_by_gate(kernel_init or lecun_normal(), gates),
            recurrent_kernel_init=_by_gate(recurrent_init or orthogonal(), gates),
            bias_init=_forget(forget_bias) if cell == "lstm" else zeros,
            rngs=rngs,
        )
        self.pair = cell == "lstm"  # (c, h), not h alone
        self.readout = nnx.Linear(hidden, outputs, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps (..., T, inputs), or tokens (..., T), to (..., outputs), or (..., T, outputs) if `every_step`.

        Raises:
          ValueError: another number of features, a sequence without steps, or tokens that are not integers.
        """
        if self.embedding is not None:
            x = self.embedding(x)
        elif x.shape[-1] != self.inputs:
            raise ValueError(f"x must have shape (..., steps, {self.inputs}), got {x.shape}")
        if x.ndim < 2 or x.shape[-2] < 1:
            raise ValueError(f"a sequence needs at least one step, got shape {x.shape}")
        zero = jnp.zeros((*x.shape[:-2], self.hidden), jnp.result_type(x, self.cell.dense_h.kernel))

        def step(state: Any, now: jax.Array) -> Any:
            return self.cell(state, now)

        _, hidden = jax.lax.scan(step, (zero, zero) if self.pair else zero, jnp.moveaxis(x, -2, 0))
        return self.readout(jnp.moveaxis(hidden, 0, -2) if self.every_step else hidden[-1])


def _plain(inputs: int, hidden: int, **options: Any) -> nnx.SimpleCell:
    return nnx.SimpleCell(inputs, hidden, dtype=None, **options)  # as the other cells: the inputs' dtype decides


def _by_gate(init: Initializer, gates: int) -> Initializer:
    """Draws each gate's matrix by itself, since orthogonality and fans are those of one gate."""

    def draw(key: Any, shape: Sequence[int], dtype: Any, out_sharding: Any = None) -> jax.Array:
        del out_sharding
        part = (*shape[:-1], shape[-1] // gates)
        return jnp.concatenate([init(one, part, dtype) for one in jax.random.split(key, gates)], axis=-1)

    return draw


def _forget(bias: float) -> Initializer:
    def draw(key: Any, shape: Sequence[int], dtype: Any, out_sharding: Any = None) -> jax.Array:
        del key, out_sharding
        return jnp.repeat(jnp.array([0, bias, 0, 0], dtype), shape[0] // 4)  # input, forget, candidate, output

    return draw
