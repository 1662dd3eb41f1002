"""The protocol: every optimizer beside its twin, from the same weights, on the same batches, in turn."""

import itertools
from collections.abc import Sequence
from dataclasses import asdict
from statistics import fmean
from typing import Protocol

import jax

from jaxopt_lectures.compare.measures import metric_text, moved, state_bytes_per_parameter
from jaxopt_lectures.compare.results import Difference, Report, Result
from jaxopt_lectures.compare.runs import Ground, Run
from jaxopt_lectures.core.card import Card
from jaxopt_lectures.records import environment


class Progress(Protocol):
    """Who wants to know how far a comparison is."""

    def advance(self, name: str, share: float) -> None:
        """`share` of the optimizer's steps are done, 0 to 1."""

    def finish(self, name: str, reached: str) -> None:
        """One optimizer is done; the metric that it reached, in words."""


class _Silent:
    def advance(self, name: str, share: float) -> None:
        pass

    def finish(self, name: str, reached: str) -> None:
        pass


def compare(ground: Ground, cards: Sequence[Card], progress: Progress | None = None) -> Report:
    """Trains every card's optimizer and its twin on the task. Ctrl-C keeps what was finished.

    Args:
      ground: the task and how it is trained.
      cards: the optimizers, each at its card's learning rate.
      progress: who to tell.
    """
    progress = progress or _Silent()
    results: list[Result] = []
    settings, complete = ground.settings, True
    try:
        for card in cards:
            results.append(_side_by_side(ground, card, progress))
            progress.finish(card.name, metric_text([fmean(results[-1].ours.final_metric)], ground.task.metric_unit))
    except KeyboardInterrupt:
        complete = False
    return Report(
        task=ground.description(),
        protocol=asdict(settings) | {"batch_size": ground.task.batch_size, "asked": [card.name for card in cards]},
        environment=environment.describe(),
        looks=settings.looks(),
        results=tuple(results),
        complete=complete,
    )


def _side_by_side(ground: Ground, card: Card, progress: Progress) -> Result:
    """Trains one optimizer and, in turn with it, its twin."""
    tx = card.factory(card.learning_rate)
    ours, twins = Run(ground, tx, ground.params), _twins(ground, card)
    to_twin, noise = [], []
    looks = ground.settings.looks()
    turn = [ours, *twins]
    for start, end in itertools.pairwise((0, *looks)):
        batches = ground.batches(start)
        for run in turn:
            run.advance(batches, end - start)
        turn.reverse()  # nobody is always first
        if twins:
            to_twin.append(float(ground.distance(ours.params, twins[0].params)))
            noise.append(max(float(ground.distance(twins[0].params, again.params)) for again in twins[1:]))
        progress.advance(card.name, end / looks[-1])
    return Result(
        name=card.name,
        learning_rate=card.learning_rate,
        state_bytes_per_parameter=state_bytes_per_parameter(tx, ground.params),
        ours=ours.curves(),
        twin=twins[0].curves() if twins else None,
        twin_call=card.twin.call if card.twin else None,
        difference=Difference(tuple(to_twin), tuple(noise)) if twins else None,
    )


def _twins(ground: Ground, card: Card) -> list[Run]:
    """The card's twin, and twice again from weights moved by noise; empty if it has none."""
    if card.twin is None:
        return []
    # optax mixes dtypes as the standard promotion allows; under the strict one it cannot even be traced.
    with jax.numpy_dtype_promotion("standard"):
        tx = card.twin.factory(card.learning_rate)
        twin = Run(ground, tx, ground.params)
        starts = [moved(ground.params, ground.settings.noise, seed) for seed in (0, 1)]
        return [twin, *[Run(ground, tx, start, twin.program) for start in starts]]
