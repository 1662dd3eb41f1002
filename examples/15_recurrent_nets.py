r"""
Recurrent nets
==============

A recurrent network reads a sequence step by step and keeps a state,

.. math::

   h_t = \tanh(W x_t + U h_{t-1} + b),

so that the gradient passes through :math:`U` once for every step back in time: a very deep network, with one matrix in
all layers. Lecture 002 quotes Sutskever, Martens, Dahl and Hinton (2013): with a well-designed initialisation and a
slowly increasing momentum, such networks can be trained by first-order methods, which had been thought impossible.
Their test is used here, the *adding problem*: of 25 numbers two are marked, and after the last the network has to give
their sum. Then come the LSTM and the GRU of lectures 000 and 004, whose architecture is the other cure.
"""

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from flax import nnx

import jaxopt_lectures as jol
from jaxopt_lectures import losses
from jaxopt_lectures.diagnostics.trajectories import trajectory
from jaxopt_lectures.models.initializers import normal, orthogonal
from jaxopt_lectures.models.recurrent import Recurrent
from jaxopt_lectures.tasks.sequences import draw_adding

plt.style.use("jaxopt_lectures.diagnostics.lectures")

LENGTH, HIDDEN, STEPS, SEEDS, BATCH = 25, 24, 800, 3, 32
x, y = map(jnp.asarray, draw_adding(LENGTH, 4000, seed=0))
x_new, y_new = map(jnp.asarray, draw_adding(LENGTH, 500, seed=1))

# %%
# The gradient through time
# -------------------------
# How much does the answer depend on what was read at step t? With random weights, before any training: the norm of the
# answer's gradient with respect to the input of step t. If :math:`U` is drawn small, what was read ten steps ago is
# gone. If it is orthogonal, all its singular values are 1 and only the slope of tanh, below 1, is lost on the way; 1.3
# times that makes up for it. An LSTM adds to its memory, :math:`c_t = f_t c_{t-1} + i_t g_t`, with a gate
# :math:`f_t` that starts near 0.73. The GRU's starts at 1/2, and has to be opened by training.

CELLS = {
    "U small, N(0, 0.01²)": ("rnn", normal(0.01)),
    "U half orthogonal": ("rnn", orthogonal(0.5)),
    "U orthogonal": ("rnn", orthogonal()),
    "U 1.3 times orthogonal": ("rnn", orthogonal(1.3)),
    "LSTM": ("lstm", orthogonal()),
    "GRU": ("gru", orthogonal()),
}


def through_time(cell, initializer):
    """Norm of the gradient with respect to each step's input, mean over 20 sequences."""
    model = Recurrent(cell, 2, HIDDEN, 1, recurrent_init=initializer, rngs=nnx.Rngs(0))
    gradient = jax.jit(jax.vmap(jax.grad(lambda sequence: model(sequence[None])[0, 0])))(x[:20])
    return np.mean(np.linalg.norm(gradient, axis=-1), axis=0)


by_step = {name: through_time(*cell) for name, cell in CELLS.items()}
figure, axis = plt.subplots(figsize=(7.2, 3.6))
for name, norms in by_step.items():
    axis.plot(np.arange(LENGTH) - LENGTH + 1, np.maximum(norms / norms[-1], 1e-12), label=name)
axis.set(title="What is left of the gradient, back in time", xlabel="steps before the answer", yscale="log")
axis.set(ylabel="norm, of the last step's as 1", ylim=(1e-8, 30))
axis.legend(loc="center left", bbox_to_anchor=(1, 0.5))
plt.show()

# %%
# The adding problem
# ------------------
# Whoever always answers 1 has a root mean squared error of :math:`\sqrt{1/6} = 0.408`. Lecture 002's two halves, each
# with and without the other: :math:`U` small or orthogonal; gradient descent, or Nesterov's momentum on the slowly
# rising schedule :math:`1 - 1 / (2 (\lfloor t / 40 \rfloor + 1))` up to 0.95. Then the same momentum on an LSTM and a
# GRU. The gradient is clipped to a norm of 1 in all runs (see the page on exploding gradients). 800 batches of 32,
# three seeds.

rising = jol.sutskever_momentum_schedule(0.95, period=40)
DESCENT = jol.sgd(0.06)
MOMENTUM = jol.nesterov(0.02, rising)
RUNS = {
    "descent, U small": (DESCENT, *CELLS["U small, N(0, 0.01²)"]),
    "descent, U orthogonal": (DESCENT, *CELLS["U orthogonal"]),
    "momentum, U small": (MOMENTUM, *CELLS["U small, N(0, 0.01²)"]),
    "momentum, U orthogonal": (MOMENTUM, *CELLS["U orthogonal"]),
    "momentum, LSTM": (jol.nesterov(0.05, rising), *CELLS["LSTM"]),
    "momentum, GRU": (jol.nesterov(0.05, rising), *CELLS["GRU"]),
}
which = jax.random.randint(jax.random.key(0), (STEPS, BATCH), 0, len(x))
batches = x[which], y[which]


def train(tx, cell, initializer, key):
    """The mean squared error on each batch, and the root of that on new sequences at the end."""
    model = Recurrent(cell, 2, HIDDEN, 1, recurrent_init=initializer, rngs=nnx.Rngs(key))
    graph, params, rest = nnx.split(model, nnx.Param, ...)

    def loss(params, batch):
        """Lecture 000's."""
        return losses.mse(batch[1], nnx.merge(graph, params, rest, copy=True)(batch[0]))

    clipped = jol.chain(jol.clip_by_global_norm(1.0), tx)
    run = trajectory(clipped, loss, params, STEPS, batches=batches, keep=lambda params: ())
    return run.values, jnp.sqrt(loss(jol.eval_params(run.state, run.params), (x_new, y_new)))


keys = jax.random.split(jax.random.key(0), SEEDS)
curves, errors = {}, {}
print(f"{'root mean squared error on new sequences':42} mean   of each seed   (always 1: {np.sqrt(1 / 6):.3f})")
for name, setting in RUNS.items():
    values, error = jax.jit(jax.vmap(lambda key, setting=setting: train(*setting, key)))(keys)
    curves[name], errors[name] = np.asarray(values).mean(axis=0), np.asarray(error)
    print(f"{name:42}{errors[name].mean():.3f}  " + " ".join(f"{one:.3f}" for one in errors[name]))

# %%
# Neither half does alone what both do together: the small matrix with plain descent never leaves chance, the
# initialisation alone creeps, momentum alone starts late. The gated cells are three times as exact again.

figure, axis = plt.subplots(figsize=(7.2, 3.8))
for name, values in curves.items():
    smooth = np.sqrt(np.convolve(values, np.ones(25) / 25, mode="valid"))
    axis.plot(np.arange(len(smooth)) + 24, smooth, label=name)
axis.axhline(np.sqrt(1 / 6), color="0.4", linewidth=1, linestyle="--")
axis.annotate("always 1", (STEPS, np.sqrt(1 / 6)), xytext=(0, 4), textcoords="offset points", ha="right", fontsize=8)
axis.set(title="The adding problem, 25 steps", xlabel="step", ylabel="root mean squared error", yscale="log")
axis.minorticks_off()
axis.set_yticks([0.03, 0.1, 0.3], ["0.03", "0.1", "0.3"])
figure.legend(*axis.get_legend_handles_labels(), loc="outside lower center", ncols=3)
plt.show()

# %%
# What this page teaches, as assertions.

left = {name: norms[LENGTH // 2] / norms[-1] for name, norms in by_step.items()}  # 12 steps before the answer
assert left["U small, N(0, 0.01²)"] < 1e-6
assert left["U half orthogonal"] < 1e-2
assert left["U orthogonal"] > 0.02
assert left["U 1.3 times orthogonal"] > 1.5 * left["U orthogonal"]
mean = {name: error.mean() for name, error in errors.items()}
assert mean["descent, U small"] > 0.35, "chance"
assert errors["descent, U orthogonal"].min() < 0.9 * errors["descent, U small"].min(), "some seeds leave it, slowly"
assert mean["momentum, U small"] < 0.8 * mean["descent, U orthogonal"]
assert mean["momentum, U orthogonal"] < 0.9 * mean["momentum, U small"]
assert max(mean["momentum, LSTM"], mean["momentum, GRU"]) < 0.8 * mean["momentum, U orthogonal"]
