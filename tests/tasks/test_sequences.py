"""Exclusive or, adding, memory: inputs and targets are those of the problem, and its trivial answers are worth what
the literature says."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxopt_lectures import tasks
from jaxopt_lectures.tasks import sequences


def test_exclusive_or_is_true_for_two_different_inputs():
    task = tasks.get("xor")
    x, y = task.data().train
    assert {(int(a), int(b)): int(c) for (a, b), c in zip(x, y, strict=True)} == {
        (0, 0): 0,
        (0, 1): 1,
        (1, 0): 1,
        (1, 1): 0,
    }
    logits = np.log(np.array([[0.1], [0.9], [0.6], [0.2]]) / np.array([[0.9], [0.1], [0.4], [0.8]])).astype(np.float32)
    # float32 logarithms and sigmoids
    assert float(task.metric(lambda x: logits, x, y)) == pytest.approx(0.4, rel=1e-5)
    wanted = -np.mean(np.log([0.9, 0.9, 0.6, 0.8]))
    assert float(task.loss(lambda x: logits, x, y)) == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize("length", [2, 7, 50])
def test_the_sum_is_of_the_two_marked_numbers(length):
    x, y = sequences.draw_adding(length, 200, seed=3)
    values, marks = x[..., 0], x[..., 1]
    assert x.shape == (200, length, 2)
    assert ((marks == 0) | (marks == 1)).all()
    assert (marks[:, : length // 2].sum(axis=1) == 1).all()
    assert (marks[:, length // 2 :].sum(axis=1) == 1).all()
    assert 0 <= values.min() < values.max() < 1
    np.testing.assert_allclose(y[:, 0], [values[i][marks[i] == 1].sum() for i in range(200)], rtol=1e-6)


def test_always_answering_one_has_the_error_of_two_uniform_numbers():
    task = tasks.get("adding")
    x, y = task.data().validation
    # The variance of a sum of two is 1/6; of 1000 squares, its mean deviates by 0.006: five of them.
    error = float(task.metric(lambda x: jnp.ones_like(y), x, y))
    assert error**2 == pytest.approx(1 / 6, abs=0.03)
    assert task.target < error / 2


def test_training_and_validation_are_other_sequences():
    data = tasks.get("adding").data()
    assert not (data.train.x[:1000] == data.validation.x).all(axis=(1, 2)).any()


@pytest.mark.parametrize(("bits", "delay"), [(5, 20), (3, 0), (1, 4)])
def test_memory_asks_for_the_bits_again(bits, delay):
    x, y = sequences.every_memory(bits, delay)
    assert x.shape == y.shape == (2**bits, 2 * bits + delay + 1)
    assert x.dtype == y.dtype == np.int32
    assert len(np.unique(x, axis=0)) == 2**bits
    np.testing.assert_array_equal(x[:, :bits], y[:, -bits:])
    assert set(np.unique(x[:, :bits])) == {0, 1}
    rest = x[:, bits:].copy()
    assert (rest[:, delay] == 3).all(), "the signal comes after the delay"
    rest[:, delay] = 2
    assert (rest == 2).all()
    assert (y[:, :-bits] == 2).all()


def test_memory_is_judged_by_the_bits_alone():
    task = tasks.get("memory")
    x, y = task.data().train
    right = np.eye(3, dtype=np.float32)[y]
    assert task.metric(lambda x: right, x, y) == 1
    silent = np.eye(3, dtype=np.float32)[np.full_like(y, 2)]
    assert task.metric(lambda x: silent, x, y) == 0
    zeros = np.eye(3, dtype=np.float32)[np.where(y == 1, 0, y)]
    assert task.metric(lambda x: zeros, x, y) == 0.5


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: sequences.draw_adding(1, 5, 0), "length must be >= 2, got 1"),
        (lambda: sequences.every_memory(0, 5), "needed are bits >= 1 and delay >= 0, got 0 and 5"),
        (lambda: sequences.every_memory(2, -1), "needed are bits >= 1 and delay >= 0, got 2 and -1"),
    ],
)
def test_problems_that_are_none_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
