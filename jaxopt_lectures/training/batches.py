"""Which examples a step takes, and how they come to the device.

Every epoch is a fresh permutation of the examples, cut into whole batches. It depends on (seed, epoch) alone, so a run
that goes on meets the batches that it would have met.
"""

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxopt_lectures.tasks.task import Examples, is_array, taken
from jaxopt_lectures.training.placement import Placement, put
from jaxopt_lectures.training.processes import agreed

_ROWS = 2**20
"""No more row numbers are dealt at once: 4 MiB."""
_STREAMED = 2**26
"""Bytes of examples that are sent to the device at once where they do not stay there."""
_RESIDENT = 2**31
"""Bytes of examples that stay on a device that does not tell how much memory it has."""


class Chunk(NamedTuple):
    """Some steps' batches.

    Attributes:
      examples: inputs and targets, on the device.
      rows: which of them each step takes, (capacity, batch size) int32; the first `steps` rows are meant.
      steps: how many.
    """

    examples: Examples
    rows: jax.Array
    steps: int


def order(seed: Sequence[int], epoch: int, count: int) -> np.ndarray:
    """The order of the examples in an epoch, (count,) int32.

    Args:
      seed: whole numbers >= 0; others give another order.
      epoch: counted from 0.
      count: how many examples.
    """
    generator = np.random.Generator(np.random.Philox(np.random.SeedSequence([*seed, epoch])))
    return generator.permutation(count).astype(np.int32)


def deal(seed: Sequence[int], count: int, batch_size: int, start: int, steps: int) -> np.ndarray:
    """Which examples the steps from `start` on take, (steps, batch_size) int32.

    What is left of an epoch after its last whole batch is left out; the next epoch is in another order.
    """
    per_epoch = count // batch_size
    epochs = range(start // per_epoch, -(-(start + steps) // per_epoch))
    whole = [order(seed, epoch, count)[: per_epoch * batch_size] for epoch in epochs]
    return np.concatenate(whole).reshape(-1, batch_size)[start % per_epoch :][:steps]


class Batches:
    """The batches of a run in chunks; the next chunk is made ready while one is used.

    Args:
      examples: two arrays, or other sequences with a length that give an example for a number, such as a source of
        `grain`; only what is used of those is read.
      batch_size: examples of a step.
      seed: what the order depends on, beside the epoch.
      resident: whether the examples stay on the device; if None, they do where they fill no more than a quarter of it.
      placement: the mesh on whose devices they are to lie, in whole on each; a step takes its part of them there.
    """

    def __init__(
        self,
        examples: Examples,
        batch_size: int,
        seed: Sequence[int],
        resident: bool | None = None,
        placement: Placement | None = None,
    ) -> None:
        self.examples, self.batch_size, self.seed = examples, batch_size, tuple(seed)
        self.count = len(examples.x)
        self.resident = agreed(_fits(examples)) if resident is None else resident
        self._sharding = None if placement is None else placement.whole
        self.capacity = max(1, _ROWS // batch_size)
        if not self.resident:
            one = sum(np.asarray(part[0]).nbytes for part in examples)
            self.capacity = max(1, _STREAMED // (one * batch_size))
        self.capacity = min(self.capacity, 2**10)
        self._worker = ThreadPoolExecutor(1, "batches")
        self._ahead: tuple[int, int, Future[Chunk]] | None = None
        self._here = Examples(*(self._sent(np.asarray(part)) for part in examples)) if self.resident else None

    def chunk(self, start: int, steps: int) -> Chunk:
        """The batches of so many steps, at most `capacity`, from `start` on."""
        if not self._ahead or self._ahead[:2] != (start, steps):
            if self._ahead:
                self._ahead[2].cancel()
            self.prepare(start, steps)  # there, too: a source is never read by two threads
        assert self._ahead is not None
        found, self._ahead = self._ahead[2].result(), None
        return found

    def prepare(self, start: int, steps: int) -> None:
        """Makes that chunk ready in the background; it is probably the next."""
        self._ahead = start, steps, self._worker.submit(self._made, start, steps)

    def close(self) -> None:
        """Ends the background work."""
        self._worker.shutdown(cancel_futures=True)

    def _made(self, start: int, steps: int) -> Chunk:
        dealt = np.zeros((self.capacity, self.batch_size), np.int32)
        rows = deal(self.seed, self.count, self.batch_size, start, steps)
        if self._here is not None:
            dealt[:steps] = rows
            return Chunk(self._here, self._sent(dealt), steps)
        dealt[:steps] = np.arange(rows.size).reshape(rows.shape)
        size = self.capacity * self.batch_size
        examples = Examples(*(self._sent(_gathered(part, rows.ravel(), size)) for part in self.examples))
        return Chunk(examples, self._sent(dealt), steps)

    def _sent(self, numbers: np.ndarray) -> jax.Array:
        return jnp.asarray(numbers) if self._sharding is None else put(numbers, self._sharding)


def _gathered(part: Any, rows: np.ndarray, size: int) -> np.ndarray:
    """These examples, filled up to that many, so that the program sees one shape."""
    found = taken(part, rows)
    room = np.zeros((size, *found.shape[1:]), found.dtype)
    room[: len(found)] = found
    return room


def _fits(examples: Examples) -> bool:
    if not all(is_array(part) and not isinstance(part, np.memmap) for part in examples):
        return False
    stats = jax.local_devices()[0].memory_stats() or {}
    return sum(part.nbytes for part in examples) <= stats.get("bytes_limit", 4 * _RESIDENT) // 4
