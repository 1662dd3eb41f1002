"""Training for a comparison: what all runs have in common, and one run.

One compiled program per optimizer takes any number of steps for all seeds at once (`jax.vmap` over weights, state and
batches). Python calls it for a few steps at a time and looks at the weights in between. Weights are drawn outside of
it: inside, compilation takes three times as long.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from jaxopt_lectures.compare.measures import largest_difference
from jaxopt_lectures.compare.results import Curves
from jaxopt_lectures.core.transformation import eval_params, gradient_point
from jaxopt_lectures.tasks.task import Task, check

_CONVOLUTION = "conv_general_dilated"

Step = Callable[..., tuple[Any, Any, jax.Array]]


@dataclass(frozen=True)
class Settings:
    """How a comparison is run.

    Attributes:
      steps: updates of every optimizer.
      seeds: how many times each is trained, from other weights and in another order of the examples.
      every: steps between two looks at the weights.
      first: an early look, while differences between two implementations are still those of one step and not yet
        what training made of them.
      noise: by how much the weights are moved from which the twin starts again, to see what training makes of it.
        A millionth: ten roundings of a weight of 1; two right implementations differ by as much in 10 steps.
    """

    steps: int
    seeds: int = 3
    every: int = 20
    first: int = 10
    noise: float = 1e-6

    def looks(self) -> tuple[int, ...]:
        """The steps at which is looked: the early one, every so many, and the last."""
        regular = range(self.every, self.steps, self.every)
        return tuple(sorted({min(self.first, self.steps), *regular, self.steps}))


class Ground:
    """What all optimizers of a comparison have in common: the task, first weights, batches.

    Args:
      task: what to train.
      settings: how long and how often.

    Raises:
      Unfit: the parts of the task do not fit together, or its data cannot be used.

    Attributes:
      params: first weights, every leaf with a leading axis of seeds.
      rest: what else a model keeps, batch statistics and dropout keys, likewise; often nothing.
      examples: the training examples, on the device.
    """

    def __init__(self, task: Task, settings: Settings) -> None:
        data = task.data()
        check(task, data)
        self.task, self.settings, self.validating = task, settings, len(data.validation.x)
        self.examples = jax.tree.map(jnp.asarray, tuple(data.train))
        models = [task.model(seed) for seed in range(settings.seeds)]
        for model in models:
            model.train()
        parts = [nnx.split(model, nnx.Param, ...) for model in models]
        self.graph = parts[0][0]
        self.params, self.rest = (
            jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees) for trees in list(zip(*parts, strict=True))[1:]
        )
        self.keys = jax.vmap(jax.random.key)(jnp.arange(settings.seeds))
        self.files = data.files
        self.fingerprint = data.sha256

        models[0].eval()
        judged = nnx.graphdef(models[0])
        validation = jax.tree.map(jnp.asarray, tuple(data.validation))
        self.judge = jax.jit(
            jax.vmap(lambda params, rest: task.metric(nnx.merge(judged, params, rest, copy=True), *validation))
        )
        self.distance = jax.jit(largest_difference)
        self._deal = jax.jit(self._batches)

    def batches(self, start: int) -> jax.Array:
        """Which examples the steps from `start` on take: (seeds, `settings.every`, batch size), int32."""
        return jax.block_until_ready(self._deal(self.keys, start))

    def description(self) -> dict[str, Any]:
        """The task as a report tells it."""
        task = self.task
        return {
            "name": task.name,
            "summary": task.summary,
            "metric": task.metric_name,
            "metric_unit": task.metric_unit,
            "larger_is_better": task.larger_is_better,
            "target": task.target,
            "data_sha256": self.fingerprint,
            "files_sha256": dict(self.files),
            "training_examples": len(self.examples[0]),
            "validation_examples": self.validating,
            "parameters": sum(math.prod(leaf.shape[1:]) for leaf in jax.tree.leaves(self.params)),
        }

    def _batches(self, keys: jax.Array, start: jax.Array) -> jax.Array:
        """Every epoch is a fresh permutation that depends on (seed, epoch) alone, cut into whole batches."""
        size, count, wanted = self.task.batch_size, len(self.examples[0]), self.settings.every
        per_epoch = count // size
        first = start // per_epoch
        epochs = first + jnp.arange(wanted // per_epoch + 2)

        def one_seed(key: jax.Array) -> jax.Array:
            orders = jax.vmap(lambda epoch: jax.random.permutation(jax.random.fold_in(key, epoch), count))(epochs)
            batches = orders[:, : per_epoch * size].reshape(-1, size)
            return jax.lax.dynamic_slice_in_dim(batches, start - first * per_epoch, wanted)

        return jax.vmap(one_seed)(keys)


class Run:
    """One optimizer being trained, all seeds at once: weights, state and the compiled program."""

    def __init__(self, ground: Ground, tx: optax.GradientTransformation, params: Any, program: Step | None = None):
        self.ground, self.tx = ground, tx
        # Copies, for they are donated: the first weights are everyone's, and a state may start as the weights.
        self.params, self.rest = jax.tree.map(jnp.copy, (params, ground.rest))
        self.state = jax.tree.map(jnp.copy, jax.vmap(tx.init)(params))
        self.program = program or self._compile()
        self._step(ground.batches(0), 0)  # the first call is slow; this one takes no step
        self.loss: list[np.ndarray] = []
        self.metric: list[np.ndarray] = []
        self.seconds: list[float] = []

    def advance(self, batches: jax.Array, steps: int) -> None:
        """Takes that many steps, times them, and looks."""
        began = time.perf_counter()
        loss = self._step(batches, steps)
        self.seconds.append((time.perf_counter() - began) / steps)
        self.loss.append(np.asarray(loss) / steps)
        weights = jax.vmap(eval_params)(self.state, self.params)
        self.metric.append(np.asarray(self.ground.judge(weights, self.rest)))

    def _step(self, batches: jax.Array, steps: int) -> jax.Array:
        arguments = self.params, self.state, self.rest, self.ground.examples, batches, steps
        self.params, self.state, self.rest, loss = jax.block_until_ready(self.program(*arguments))
        return loss

    def curves(self) -> Curves:
        """What was seen so far; 7 digits are all that float32 has."""
        loss, metric = (
            tuple(tuple(float(f"{value:.7g}") for value in run) for run in np.stack(looks, axis=1))
            for looks in (self.loss, self.metric)
        )
        return Curves(loss, metric, tuple(float(f"{seconds:.4g}") for seconds in self.seconds))

    def _compile(self) -> Step:
        """A program of `(params, state, rest, examples, batches, steps)`, for any number of steps up to `every`.

        Where a step has convolutions, Python calls it step by step: in a loop XLA's CPU computes them 6 times slower.
        """
        task, graph, tx = self.ground.task, self.ground.graph, optax.with_extra_args_support(self.tx)

        def loss(params: Any, rest: Any, x: Any, y: Any) -> Any:
            model = nnx.merge(graph, params, rest, copy=True)
            value = task.loss(model, x, y)
            return value, nnx.split(model, nnx.Param, ...)[2]

        def one(carry: Any, examples: Any, batches: jax.Array, index: jax.Array) -> Any:
            params, state, rest, total = carry
            x, y = (part[batches[index]] for part in examples)
            point = gradient_point(state, params)
            (value, rest), gradients = jax.value_and_grad(loss, has_aux=True)(point, rest, x, y)

            def again(params: Any) -> jax.Array:  # for those that search along a line
                return loss(params, rest, x, y)[0]

            updates, state = tx.update(gradients, state, params, value=value, grad=gradients, value_fn=again)
            return optax.apply_updates(params, updates), state, rest, total + value.astype(jnp.float32)

        def many(carry: Any, examples: Any, batches: jax.Array, steps: jax.Array) -> Any:
            return jax.lax.fori_loop(0, steps, lambda index, carry: one(carry, examples, batches, index), carry)

        def compiled(function: Any) -> Any:
            over_seeds = jax.vmap(function, in_axes=(0, None, 0, None))
            carry = self.params, self.state, self.rest, jnp.zeros(self.ground.settings.seeds)
            traced = jax.jit(over_seeds, donate_argnums=0).trace(carry, self.ground.examples, self.ground.batches(0), 1)
            return None if function is many and _CONVOLUTION in str(traced.jaxpr) else traced.lower().compile()

        loop = compiled(many)
        step: Any = None if loop else compiled(one)

        def program(params: Any, state: Any, rest: Any, examples: Any, batches: jax.Array, steps: int) -> Any:
            carry = params, state, rest, jnp.zeros(self.ground.settings.seeds)
            if loop:
                return loop(carry, examples, batches, steps)
            for index in range(steps):
                carry = step(carry, examples, batches, index)
            return carry

        return program
