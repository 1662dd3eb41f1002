"""Recurrent networks: their numbers of parameters, their outputs from NumPy and from torch, their first weights."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxopt_lectures.models.initializers import echo, normal, sparse
from jaxopt_lectures.models.recurrent import Recurrent
from tests.models.shared import array, dense, filled, parameters, run, seeded

N, T, P, H, K = 3, 6, 2, 5, 4
CELLS = {"rnn": 1, "lstm": 4, "gru": 3}


def network(cell, **options):
    return filled(partial(Recurrent, cell, P, H, K, **options))


def sequences():
    return np.random.default_rng(0).normal(size=(N, T, P))


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def numpy_states(cell, model, x):
    """The hidden state at each step, from the formula."""
    w, u = array(model.cell.dense_i.kernel), array(model.cell.dense_h.kernel)
    b = array((model.cell.dense_h if cell == "lstm" else model.cell.dense_i).bias)
    h, c, states = np.zeros((N, H)), np.zeros((N, H)), []
    for t in range(T):
        if cell == "gru":
            z_r, z_z, z_n = np.split(x[:, t] @ w + b, 3, axis=1)
            u_r, u_z, u_n = np.split(h @ u, 3, axis=1)
            z = sigmoid(z_z + u_z)
            h = (1 - z) * np.tanh(z_n + sigmoid(z_r + u_r) * u_n) + z * h
        elif cell == "lstm":
            i, f, g, o = np.split(x[:, t] @ w + h @ u + b, 4, axis=1)
            c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
            h = sigmoid(o) * np.tanh(c)
        else:
            h = np.tanh(x[:, t] @ w + h @ u + b)
        states.append(h)
    return np.stack(states, axis=1)


@pytest.mark.parametrize(("cell", "gates"), CELLS.items())
def test_parameters_are_those_of_the_formula(cell, gates):
    assert parameters(lambda rngs: Recurrent(cell, P, H, K, rngs=rngs)) == gates * H * (P + H + 1) + H * K + K
    many = parameters(lambda rngs: Recurrent(cell, 50, H, K, vocabulary=True, rngs=rngs))
    assert many == 50 * H + gates * H * (H + H + 1) + H * K + K


@pytest.mark.parametrize("cell", CELLS)
def test_outputs_are_those_of_the_formula(x64, cell):
    model, x = network(cell, every_step=True), sequences()
    wanted = dense(numpy_states(cell, model, x), model.readout)
    # six steps, each sums of 7 products of size 1: 42 units of 1.1e-16, grown by less than 10
    np.testing.assert_allclose(run(model, x), wanted, rtol=0, atol=1e-13)
    last = network(cell)
    np.testing.assert_allclose(run(last, x), wanted[:, -1], rtol=0, atol=1e-13)
    assert run(last, x[0]).shape == (K,)


@pytest.mark.parametrize("cell", CELLS)
def test_outputs_are_those_of_torch(x64, cell):
    torch = pytest.importorskip("torch", reason="the twin is torch's recurrent layers")
    model, x = network(cell, every_step=True), sequences()
    twin = {"rnn": torch.nn.RNN, "lstm": torch.nn.LSTM, "gru": torch.nn.GRU}[cell](P, H, batch_first=True).double()
    bias = array((model.cell.dense_h if cell == "lstm" else model.cell.dense_i).bias)
    with torch.no_grad():
        twin.weight_ih_l0.copy_(torch.tensor(array(model.cell.dense_i.kernel).T))
        twin.weight_hh_l0.copy_(torch.tensor(array(model.cell.dense_h.kernel).T))
        twin.bias_ih_l0.copy_(torch.tensor(bias))
        twin.bias_hh_l0.zero_()  # the second bias, which only torch has
        states = twin(torch.tensor(x))[0].numpy()
    np.testing.assert_allclose(run(model, x), dense(states, model.readout), rtol=0, atol=1e-13)


@pytest.mark.parametrize("cell", CELLS)
def test_tokens_are_looked_up(x64, cell):
    model = filled(partial(Recurrent, cell, 7, H, K, vocabulary=True, every_step=True))
    tokens = np.random.default_rng(0).integers(0, 7, size=(N, T))
    vectors = array(model.embedding.embedding)[tokens]
    wanted = dense(numpy_states(cell, model, vectors), model.readout)
    np.testing.assert_allclose(run(model, tokens), wanted, rtol=0, atol=1e-13)


def test_no_step_sees_a_later_one():
    model = filled(partial(Recurrent, "gru", P, H, K, every_step=True))
    x = sequences().astype(np.float32)
    other = x.copy()
    other[:, 4:] += 1
    one, two = run(model, x), run(model, other)
    np.testing.assert_array_equal(one[:, :4], two[:, :4])
    assert (one[:, 4:] != two[:, 4:]).any(axis=-1).all()


@pytest.mark.parametrize(("cell", "gates"), CELLS.items())
def test_each_gate_is_drawn_by_itself(cell, gates):
    model = Recurrent(cell, 40, 30, K, kernel_init=sparse(6), rngs=seeded())
    parts = np.split(np.asarray(model.cell.dense_h.kernel[...]), gates, axis=1)
    for index, part in enumerate(parts):
        # orthogonal: 30 products that sum to 1 or 0, a few units of 6e-8
        np.testing.assert_allclose(part.T @ part, np.eye(30), atol=1e-5)
        assert all((part != other).any() for other in parts[:index])
    assert (np.count_nonzero(model.cell.dense_i.kernel[...], axis=0) == 6).all()


def test_the_initialisation_of_the_paper_can_be_had():
    """Sutskever et al. 2013, table 4: radius 1.1 and 15 connections inside, N(0, 0.1^2) from the inputs."""
    options = {"kernel_init": normal(0.1), "recurrent_init": echo(1.1)}
    w = Recurrent("rnn", P, 40, K, **options, rngs=seeded()).cell.dense_h.kernel[...]
    assert (np.count_nonzero(w, axis=0) == 15).all()
    # as in test_initializers.py
    np.testing.assert_allclose(np.abs(np.linalg.eigvals(np.asarray(w, float))).max(), 1.1, rtol=1e-4)


def test_an_lstm_remembers_from_the_start_and_no_other_bias_is_set():
    bias = Recurrent("lstm", P, H, K, rngs=seeded()).cell.dense_h.bias[...]
    np.testing.assert_array_equal(bias, np.repeat([0, 1, 0, 0], H))
    bias = Recurrent("lstm", P, H, K, forget_bias=0.0, rngs=seeded()).cell.dense_h.bias[...]
    np.testing.assert_array_equal(bias, np.zeros(4 * H))
    for cell in ("rnn", "gru"):
        assert (Recurrent(cell, P, H, K, rngs=seeded()).cell.dense_i.bias[...] == 0).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("elman", P, H, K), "cell must be one of rnn, lstm, gru, got 'elman'"),
        (("lstm", P, 0, K), "inputs, hidden and outputs must be >= 1, got 2, 0, 4"),
    ],
)
def test_recurrent_refuses(arguments, message):
    with pytest.raises(ValueError, match=message):
        Recurrent(*arguments, rngs=seeded())


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((N, T, P + 1), r"x must have shape \(..., steps, 2\), got \(3, 6, 3\)"),
        ((N, 0, P), r"at least one step, got shape \(3, 0, 2\)"),
        ((P,), r"at least one step, got shape \(2,\)"),
    ],
)
def test_sequences_that_do_not_fit_are_refused(shape, message):
    with pytest.raises(ValueError, match=message):
        Recurrent("rnn", P, H, K, rngs=seeded())(jnp.zeros(shape))


def test_tokens_that_are_no_integers_are_refused_and_unknown_ones_stand_out():
    model = filled(partial(Recurrent, "rnn", 7, H, K, vocabulary=True))
    with pytest.raises(ValueError, match="must be an integer"):
        model(jnp.zeros((N, T)))
    assert jnp.isnan(run(model, jnp.array([[1, 2, 7]]))).all()
    assert jax.eval_shape(lambda: model(jnp.zeros((N, T), jnp.int32))).shape == (N, K)
