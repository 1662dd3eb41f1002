"""One neuron, the step it cannot be trained through, and the two layers that compute exclusive or."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxopt_lectures.models.neuron import Neuron, neuron, sigmoid, step, xor_net

CORNERS = np.array(list(itertools.product((0, 1), repeat=2)))


def test_step_is_one_from_zero_on():
    z = jnp.array([-jnp.inf, -1, -1e-30, -0.0, 0.0, 1e-30, 1, jnp.inf, jnp.nan])
    np.testing.assert_array_equal(step(z), [0, 0, 0, 1, 1, 1, 1, 1, np.nan])
    assert step(z).dtype == z.dtype
    np.testing.assert_array_equal(step(np.array([-1, 0, 1])), [0, 1, 1])


def test_step_has_gradient_zero_everywhere_so_nothing_learns_through_it():
    for z in (-1.0, -1e-30, 0.0, 1e-30, 2.0):
        assert jax.grad(step)(z) == 0
    x = jnp.array([0.5, -2.0])
    gradients = jax.grad(lambda w, b: (neuron(x, w, b, step) - 3.0) ** 2, (0, 1))(jnp.array([1.0, 1.0]), 0.3)
    assert all((leaf == 0).all() for leaf in gradients)


@pytest.mark.parametrize("alpha", [1.0, 2.0, 0.3])
def test_sigmoid_has_its_slope(x64, alpha):
    z = np.linspace(-5, 5, 101)
    # values below 1, a handful of roundings of 1.1e-16
    np.testing.assert_allclose(sigmoid(z, alpha), 1 / (1 + np.exp(-alpha * z)), rtol=0, atol=2e-15)
    np.testing.assert_allclose(jax.grad(sigmoid)(0.0, alpha), alpha / 4, rtol=1e-15)


def test_sigmoid_does_not_overflow():
    np.testing.assert_array_equal(sigmoid(jnp.array([-1e30, 1e30])), [0, 1])


def test_tanh_is_two_sigmoids_less_one_for_slope_one_only(x64):
    x = np.linspace(-4, 4, 81)
    np.testing.assert_allclose(2 * sigmoid(2 * x) - 1, np.tanh(x), rtol=0, atol=2e-15)
    # with slope 2 the lecture's identity gives tanh(2 x)
    np.testing.assert_allclose(2 * sigmoid(2 * x, 2.0) - 1, np.tanh(2 * x), rtol=0, atol=2e-15)


def test_neuron_is_its_formula(x64):
    rng = np.random.default_rng(0)
    x, w, b = rng.normal(size=(5, 3)), rng.normal(size=3), 0.7
    # sums of three products of size 1: a few units of 1.1e-16
    np.testing.assert_allclose(neuron(x, w, b, jnp.tanh), np.tanh(x @ w + b), rtol=0, atol=2e-15)
    matrix, biases = rng.normal(size=(3, 4)), rng.normal(size=4)
    wanted = np.tanh(x @ matrix + biases)
    np.testing.assert_allclose(neuron(x, matrix, biases, jnp.tanh), wanted, rtol=0, atol=2e-15)


@pytest.mark.parametrize("dtype", [np.float32, np.int32, bool])
def test_xor_net_computes_exclusive_or(dtype):
    np.testing.assert_array_equal(xor_net(CORNERS.astype(dtype)), [0, 1, 1, 0])


def test_one_step_neuron_gets_three_of_four_at_best():
    grid = np.linspace(-2, 2, 21)
    w1, w2, b = np.meshgrid(grid, grid, grid, indexing="ij")
    outputs = np.stack([w1 * x1 + w2 * x2 + b >= 0 for x1, x2 in CORNERS])
    right = (outputs == np.array([0, 1, 1, 0])[:, None, None, None]).sum(0)
    assert right.max() == 3


def test_a_neuron_of_its_own_has_its_weights():
    model = Neuron(3, jnp.tanh, rngs=nnx.Rngs(0))
    x = np.linspace(-1, 1, 12, dtype=np.float32).reshape(4, 3)
    w, b = np.asarray(model.affine.kernel[...])[:, 0], np.asarray(model.affine.bias[...])[0]
    # three products below 2 in size: a few float32 units of 6e-8
    np.testing.assert_allclose(model(x), np.tanh(x @ w + b), rtol=0, atol=1e-6)
    assert model(x).shape == (4,)
    assert Neuron(2, rngs=nnx.Rngs(0)).activation is sigmoid


def test_a_neuron_without_inputs_is_refused():
    with pytest.raises(ValueError, match="inputs must be at least 1, got 0"):
        Neuron(0, rngs=nnx.Rngs(0))
