"""The twin check: ours and its optax counterpart, from the same weights on the same batches: how far they part."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxopt_lectures.comparison.entries import Entry
from jaxopt_lectures.comparison.measures import largest_difference, moved
from jaxopt_lectures.comparison.results import Twins
from jaxopt_lectures.training.batches import Batches
from jaxopt_lectures.training.program import TrainState, make_step, start
from jaxopt_lectures.training.ways import Epoch, Way, make_epoch
from jaxopt_lectures.tuning.ground import Ground
from jaxopt_lectures.tuning.trials import rounded

_NOISE = 1e-6
"""By how much the weights are moved from which the twin starts again: ten roundings of a weight of 1."""
_FIRST = 10
"""An early look, while differences are those of the steps, and not yet what training made of them."""


def twins_of(ground: Ground, one: Entry, values: Mapping[str, Any], steps: int, way: Way) -> Twins | None:
    """The check, after a few steps and at the end; None where optax has no counterpart.

    Args:
      ground: the task.
      one: the optimizer.
      values: its arguments, as far as they were tuned; the counterpart takes those that it has.
      steps: for how long.
      way: how steps are run.
    """
    if one.card is None or one.card.twin is None:
        return None
    twin, shared = _twin(one, values)
    task, seed = ground.task, 0
    looks = tuple(sorted({min(_FIRST, steps), steps}))
    # optax mixes dtypes as the standard promotion allows; under the strict one it cannot even be traced.
    with jax.numpy_dtype_promotion("standard"):
        optimizers = [one.build(**shared), twin]
        epochs = [make_epoch(make_step(task, tx, guard=False), way) for tx in optimizers]
        states = [start(task, tx, seed) for tx in (*optimizers, twin, twin)]
        states[2:] = [_moved(twin, state, draw) for draw, state in enumerate(states[2:])]
        batches = Batches(ground.data.train, task.batch_size, (seed, 0))
        apart, noise, step = [], [], 0
        try:
            for look in looks:
                states = [_advanced(epochs[min(1, k)], state, batches, step, look) for k, state in enumerate(states)]
                ours, theirs, *again = [state.params for state in states]
                apart.append(float(largest_difference(ours, theirs)))
                noise.append(max(float(largest_difference(theirs, other)) for other in again))
                step = look
        finally:
            batches.close()
    return Twins(one.card.twin.call, dict(shared), looks, rounded(apart), rounded(noise))


def _twin(one: Entry, values: Mapping[str, Any]) -> tuple[optax.GradientTransformation, dict[str, Any]]:
    """The counterpart with as many of the values as it takes, and which those are."""
    assert one.card is not None
    assert one.card.twin is not None
    given = {**one.fixed, **values}
    rate = {"learning_rate": given.get("learning_rate", one.card.learning_rate)}
    for shared in (given, rate):
        arguments = dict(shared)
        if one.schedule is not None and "learning_rate" in arguments:
            arguments["learning_rate"] = one.schedule[0](arguments["learning_rate"])
        try:
            return one.card.twin.factory(**arguments), shared
        except TypeError:  # optax does not have one of them
            continue
    return one.card.twin.factory(**arguments), rate


def _moved(tx: optax.GradientTransformation, state: TrainState, draw: int) -> TrainState:
    params = moved(state.params, _NOISE, draw)
    return state._replace(params=params, opt_state=jax.tree.map(jnp.copy, tx.init(params)))


def _advanced(epoch: Epoch, state: TrainState, batches: Batches, step: int, end: int) -> TrainState:
    while step < end:
        steps = min(batches.capacity, end - step)
        state, _ = epoch(state, batches.chunk(step, steps))
        step += steps
    return state
