"""Two problems that need a long memory and nothing else, for recurrent networks.

Sources: S. Hochreiter, J. Schmidhuber, "Long short-term memory", Neural Computation 9, 1997 (adding, experiment 4);
J. Martens, I. Sutskever, "Learning recurrent neural networks with Hessian-free optimization", ICML 2011 (5-bit memory);
M. Arjovsky, A. Shah, Y. Bengio, arXiv:1511.06464.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxopt_lectures.models.recurrent import Recurrent
from jaxopt_lectures.tasks.measures import cross_entropy, squared_error
from jaxopt_lectures.tasks.task import Data, Examples, Task

ADDING_LENGTH = 50
_TRAIN, _VALIDATION = 10_000, 1_000
BITS, DELAY = 5, 20
_BLANK, _RECALL = 2, 3  # the tokens beside 0 and 1


def draw_adding(length: int, count: int, seed: int) -> Examples:
    """Sequences of two numbers a step, one drawn from U(0, 1), the other a mark; the target is the marked ones' sum.

    One step in the first half and one in the second are marked with 1, the others with 0. Whoever always answers 1
    has a root mean squared error of sqrt(1/6) = 0.408.

    Args:
      length: steps, >= 2.
      count: sequences.
      seed: decides all numbers.

    Returns:
      (count, length, 2) and (count, 1), float32.

    Raises:
      ValueError: fewer than two steps.
    """
    if length < 2:
        raise ValueError(f"length must be >= 2, got {length}")
    rng = np.random.default_rng(seed)
    values = rng.random((count, length), np.float32)
    marks = np.zeros_like(values)
    row = np.arange(count)
    marks[row, rng.integers(0, length // 2, count)] = 1
    marks[row, rng.integers(length // 2, length, count)] = 1
    return Examples(np.stack([values, marks], axis=-1), np.sum(values * marks, axis=1, keepdims=True))


def every_memory(bits: int, delay: int) -> Examples:
    """All 2^bits sequences: the bits, `delay` steps of nothing, then a signal at which the bits are to be repeated.

    Args:
      bits: how many are to be remembered, >= 1.
      delay: steps between the last bit and the signal, >= 0.

    Returns:
      x (2^bits, 2 bits + delay + 1) int32: tokens 0 and 1 for the bits, 2 for nothing, 3 for the signal.
      y of the same shape: 2 for nothing, but the bits at the end.

    Raises:
      ValueError: no bits, or a negative delay.
    """
    if bits < 1 or delay < 0:
        raise ValueError(f"needed are bits >= 1 and delay >= 0, got {bits} and {delay}")
    words = (np.arange(2**bits)[:, None] >> np.arange(bits)[::-1]) & 1
    x = np.full((len(words), 2 * bits + delay + 1), _BLANK, np.int32)
    y = x.copy()
    x[:, :bits] = words
    x[:, bits + delay] = _RECALL
    y[:, -bits:] = words
    return Examples(x, y)


def adding_data() -> Data:
    """10,000 sequences to train, 1000 to validate, of 50 steps."""
    return Data(draw_adding(ADDING_LENGTH, _TRAIN, seed=0), draw_adding(ADDING_LENGTH, _VALIDATION, seed=1))


def memory_data() -> Data:
    """The 32 sequences of 5 bits and a delay of 20: what is trained on is all there is."""
    every = every_memory(BITS, DELAY)
    return Data(every, every)


def root_error(model: Any, x: jax.Array, y: jax.Array) -> jax.Array:
    """Root of the mean squared error."""
    return jnp.sqrt(squared_error(model, x, y))


def recalled(model: Any, x: jax.Array, y: jax.Array) -> jax.Array:
    """Share of the bits that are repeated rightly; half of them without any memory."""
    return jnp.mean(jnp.argmax(model(x)[:, -BITS:], axis=-1) == y[:, -BITS:])


def _adder(seed: int) -> nnx.Module:
    return Recurrent("lstm", 2, 32, 1, rngs=nnx.Rngs(seed))


def _rememberer(seed: int) -> nnx.Module:
    return Recurrent("gru", 4, 32, 3, every_step=True, vocabulary=True, rngs=nnx.Rngs(seed))


adding = Task(
    name="adding",
    summary="the sum of two marked numbers among 50, LSTM of 32 units",
    model=_adder,
    loss=squared_error,
    metric=root_error,
    data=adding_data,
    batch_size=64,
    target=0.1,
    steps=2000,
    metric_name="error",
    metric_unit="",
    larger_is_better=False,
)

memory = Task(
    name="memory",
    summary="five bits repeated after 20 steps, GRU of 32 units",
    model=_rememberer,
    loss=cross_entropy,
    metric=recalled,
    data=memory_data,
    batch_size=32,
    target=0.99,
    steps=2000,
)
