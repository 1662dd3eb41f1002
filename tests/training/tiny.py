"""Small tasks to train in tests: a model that keeps batch statistics and dropout keys, and one that keeps nothing."""

import dataclasses

import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxopt_lectures.models.mlp import MLP
from jaxopt_lectures.tasks.task import Data, Examples, Task

COUNT, BATCH = 90, 8  # eleven whole batches an epoch, and two examples left out of it


class Keeping(nnx.Module):
    """Batch statistics and a dropout key beside its parameters."""

    def __init__(self, seed, outputs=1):
        rngs = nnx.Rngs(seed)
        self.one = nnx.Linear(2, 8, rngs=rngs)
        self.norm = nnx.BatchNorm(8, momentum=0.9, rngs=rngs)
        self.dropout = nnx.Dropout(0.5, rngs=rngs)
        self.two = nnx.Linear(8, outputs, rngs=rngs)

    def __call__(self, x):
        return self.two(self.dropout(jnp.tanh(self.norm(self.one(x)))))


def plane():
    """A function of two numbers."""
    x = np.random.default_rng(0).normal(size=(COUNT + 20, 2)).astype(np.float32)
    y = np.sin(x[:, :1]) + 0.5 * x[:, 1:]
    return Data(Examples(x[:COUNT], y[:COUNT]), Examples(x[COUNT:], y[COUNT:]), Examples(x[:10], y[:10]))


def squares(model, x, y):
    return jnp.mean((model(x) - y) ** 2)


TASK = Task(
    name="plane",
    summary="a function of two numbers",
    model=lambda seed: MLP((2, 8, 1), activation=jnp.tanh, rngs=nnx.Rngs(seed)),
    loss=squares,
    metric=squares,
    data=plane,
    batch_size=BATCH,
    target=0.05,
    metric_name="error",
    metric_unit="",
    larger_is_better=False,
)
KEEPING = dataclasses.replace(TASK, model=Keeping)


def poisoned(row=17):
    """The task with one example whose target is not a number: a batch of every epoch has no finite loss."""

    def data():
        clean = plane()
        y = clean.train.y.copy()
        y[row] = np.nan
        return dataclasses.replace(clean, train=Examples(clean.train.x, y))

    return dataclasses.replace(TASK, data=data)
