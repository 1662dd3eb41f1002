"""Which examples a step takes: every epoch once each, the same whenever a run is taken up."""

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxopt_lectures.tasks.task import Examples
from jaxopt_lectures.training.batches import Batches, deal, order

X = np.arange(60, dtype=np.float32).reshape(20, 3)
EXAMPLES = Examples(X, np.arange(20, dtype=np.int32))


def test_an_epoch_is_a_permutation_of_its_own():
    orders = [order((0, 0), epoch, 50) for epoch in range(4)]
    for one in orders:
        np.testing.assert_array_equal(np.sort(one), np.arange(50))
    others = [order((1, 0), 0, 50), order((0, 1), 0, 50)]
    assert len({one.tobytes() for one in [*orders, *others]}) == 6
    assert orders[2].tobytes() == order((0, 0), 2, 50).tobytes()


@given(st.integers(0, 30), st.integers(1, 40), st.integers(1, 20))
def test_what_is_dealt_from_anywhere_is_a_piece_of_the_whole(start, steps, size):
    whole = deal((3, 0), 20, size, 0, 70)
    assert whole.shape == (70, size)
    np.testing.assert_array_equal(deal((3, 0), 20, size, start, steps), whole[start : start + steps])
    per_epoch = 20 // size
    first = whole[:per_epoch].ravel()
    assert len(set(first.tolist())) == len(first) == per_epoch * size


class Source:
    """What data that do not fit into memory look like: a length, and an example for a number."""

    def __init__(self, array):
        self.array, self.asked = array, 0

    def __len__(self):
        return len(self.array)

    def __getitem__(self, index):
        assert isinstance(index, int)
        self.asked += 1
        return self.array[index]


@pytest.mark.parametrize("kind", ["resident", "streamed", "source"])
def test_a_chunk_has_the_batches_that_are_dealt(kind):
    given = Examples(*map(Source, EXAMPLES)) if kind == "source" else EXAMPLES
    batches = Batches(given, 4, (0, 0), resident=kind == "resident")
    try:
        for start, steps in ((0, 3), (3, 7), (10, 1)):
            batches.prepare(start, steps)
            for chunk in (batches.chunk(start, steps), batches.chunk(start, steps)):  # made ready, and made now
                assert chunk.steps == steps
                assert chunk.rows.shape == (batches.capacity, 4)
                assert isinstance(chunk.examples.x, jax.Array)
                rows = np.asarray(chunk.rows[:steps])
                wanted = deal((0, 0), 20, 4, start, steps)
                for part, whole in zip(chunk.examples, EXAMPLES, strict=True):
                    np.testing.assert_array_equal(np.asarray(part)[rows], whole[wanted])
    finally:
        batches.close()
    if kind == "source":
        assert given.x.asked == 1 + 2 * 4 * (3 + 7 + 1)  # one to know their size; only what is used is read


def test_a_chunk_that_was_not_foreseen_is_made():
    batches = Batches(EXAMPLES, 4, (0, 0))
    batches.prepare(5, 2)
    chunk = batches.chunk(1, 3)
    np.testing.assert_array_equal(chunk.rows[:3], deal((0, 0), 20, 4, 1, 3))
    batches.close()


def test_only_what_fits_stays_on_the_device(tmp_path):
    assert Batches(EXAMPLES, 4, (0,)).resident
    assert not Batches(Examples(*map(Source, EXAMPLES)), 4, (0,)).resident
    mapped = np.memmap(tmp_path / "x", np.float32, "w+", shape=(20, 3))
    assert not Batches(Examples(mapped, EXAMPLES.y), 4, (0,)).resident
