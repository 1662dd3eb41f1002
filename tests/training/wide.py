"""Tasks in float64, where rounding is far below what is compared, and a small transformer."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxopt_lectures.models.transformer import GPT
from jaxopt_lectures.tasks.task import Data, Examples, Task
from tests.training.tiny import TASK, plane


def doubled(model):
    """The seed's model with parameters in float64."""

    def made(seed):
        found = model(seed)
        nnx.update(found, jax.tree.map(lambda p: p.astype(jnp.float64), nnx.state(found, nnx.Param)))
        return found

    return made


def double_plane():
    """The plane in float64, with a number of examples to judge by that 8 divides."""
    clean = plane()
    train, judged = (Examples(*(part[:count].astype(np.float64) for part in examples)) for examples, count in (
        (clean.train, 90), (clean.validation, 16)
    ))  # fmt: skip
    return Data(train, judged)


WIDE = dataclasses.replace(TASK, model=doubled(TASK.model), data=double_plane)


def sentences():
    """Counting up and down, with the next number to predict."""
    starts = np.random.default_rng(0).integers(0, 16, size=(72, 1))
    tokens = ((starts + np.arange(9)) % 16).astype(np.int32)
    return Data(Examples(tokens[:64, :-1], tokens[:64, 1:]), Examples(tokens[64:, :-1], tokens[64:, 1:]))


def surprise(model, x, y):
    scores = jax.nn.log_softmax(model(x))
    return -jnp.mean(jnp.take_along_axis(scores, y[..., None], axis=-1))


def transformer(dropout=0.0):
    """A task for a transformer of one block."""
    return Task(
        name="counting",
        summary="the next number",
        model=lambda seed: GPT(16, context=8, layers=1, heads=2, width=16, dropout=dropout, rngs=nnx.Rngs(seed)),
        loss=surprise,
        metric=surprise,
        data=sentences,
        batch_size=16,
        target=None,
        metric_name="surprise",
        metric_unit="nats",
        larger_is_better=False,
    )
