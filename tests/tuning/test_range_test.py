"""The range test: the rates are what the formula says, and the answer lies where training can be proved to break."""

import dataclasses
import math

import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import jaxopt_lectures as jol
from jaxopt_lectures.tasks.task import Data, Examples
from jaxopt_lectures.tuning.range_test import range_test
from tests.training.tiny import TASK


class Weight(nnx.Module):
    """One number."""

    def __init__(self, seed):
        self.w = nnx.Param(jnp.full((1,), 3.0))


def parabola():
    """w^2 / 2: gradient descent multiplies w by 1 - rate, which shrinks it below a rate of 2 and not above."""
    ones = np.ones((1, 1), np.float32)
    data = Data(Examples(ones, ones), Examples(ones, ones))

    def half(model, x, y):
        return jnp.sum(model.w[...] ** 2) / 2

    return dataclasses.replace(TASK, model=Weight, data=lambda: data, loss=half, metric=half, batch_size=1)


def test_rates_grow_by_a_factor():
    found = range_test(TASK, jol.sgd, low=1e-5, high=1.0, steps=101)
    np.testing.assert_allclose(found.rates, np.geomspace(1e-5, 1.0, 101), rtol=1e-5)
    assert len(found.losses) == 101
    assert found.rates[0] < found.steepest <= found.highest <= 1.0


def test_a_parabola_breaks_above_two():
    found = range_test(parabola(), optax.sgd, low=1e-3, high=1e3, steps=400)
    w, expected = 3.0, []
    for rate in found.rates:
        expected.append(w * w / 2)
        w *= 1 - rate
    np.testing.assert_allclose(found.losses[:150], expected[:150], rtol=1e-4)
    # The loss turns at 2. The smoothed one remembers twenty steps, in which the rate grows by 1.4.
    assert 2.0 < found.highest < 20.0
    assert found.steepest < 2.0


def test_what_breaks_at_once_is_told_from_nothing():
    found = range_test(parabola(), optax.sgd, low=1e10, high=1e30, steps=20)
    assert found.highest == pytest.approx(1e10, rel=1e-5)
    assert not any(math.isnan(value) for value in found.smoothed)


@pytest.mark.parametrize("rates", [(0.0, 1.0), (1.0, 0.1), (-1.0, 1.0), (1.0, math.inf), (math.nan, 1.0)])
def test_bad_rates(rates):
    with pytest.raises(ValueError, match="0 < low < high"):
        range_test(TASK, jol.sgd, low=rates[0], high=rates[1])
