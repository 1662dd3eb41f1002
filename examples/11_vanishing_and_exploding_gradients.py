r"""
Vanishing and exploding gradients
=================================

On its way back through a network the gradient picks up a factor in every layer. Lecture 004 shows it on a chain of four
single neurons: there the slope of the cost for the first bias is

.. math::

   \frac{\partial C}{\partial b^1} = \sigma'(z^1)\, w^2 \sigma'(z^2)\, w^3 \sigma'(z^3)\, w^4 \sigma'(z^4)\,
   \nabla_{a^4} C,

a product of as many terms :math:`w \sigma'` as there are layers. Is their size below 1, the first layers hear nothing;
is it above 1, they are shouted at. Here the chain is run, then a network of eleven layers under several activations and
initial weights, and then the lecture's three cures: other activations, batch normalisation, and clipping.
"""

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from flax import nnx

import jaxopt_lectures as jol
from jaxopt_lectures.backprop import chain_bias_gradients
from jaxopt_lectures.diagnostics.gradients import norms_by_layer
from jaxopt_lectures.diagnostics.trajectories import trajectory
from jaxopt_lectures.models.initializers import glorot_normal, he_normal, normal
from jaxopt_lectures.models.mlp import MLP
from jaxopt_lectures.tasks import digits

plt.style.use("jaxopt_lectures.diagnostics.lectures")

# %%
# The lecture's chain
# -------------------
# The sigmoid's slope is at most 1/4, at :math:`z = 0`. If all four neurons are there, each step back multiplies by
# :math:`w / 4`, so that the first bias gets :math:`(w/4)^3` of what the last one gets: 1/64 for :math:`w = 1`, the same
# for :math:`w = 4`, and 15625 times as much for :math:`w = 100`. Back-propagation through the real chain, whose biases
# keep it at :math:`z = 0`, finds the same numbers.

WEIGHTS = (1.0, 4.0, 100.0)


def chain(biases, w):
    """Four neurons, one after the other, on the input 1/2."""
    a = 0.5
    for b in biases:
        a = jax.nn.sigmoid(w * a + b)
    return a


by_formula, by_machine = {}, {}
for w in WEIGHTS:
    with jax.enable_x64(True):
        formula = chain_bias_gradients(np.full(4, w), np.zeros(4), 1.0)
        gradient = jax.grad(chain)(np.full(4, -w / 2), w)
        by_formula[w], by_machine[w] = np.asarray(formula / formula[-1]), np.asarray(gradient / gradient[-1])
    print(f"w = {w:5.0f}: dC/db of the four neurons, of the last as 1:", *(f"{ratio:.6g}" for ratio in by_formula[w]))

# %%
# Eleven layers
# -------------
# The same in a real network: the digits' 64 pixels, ten hidden layers of 64, ten classes. What counts is the spread of
# the initial weights beside the slope of the activation. Glorot and Bengio's variance :math:`2 / (n_{in} + n_{out})`
# lets signals and gradients pass through :math:`\tanh`, whose slope is 1 at 0; He's :math:`2 / n_{in}` allows for
# ReLU's dead half. No spread of this kind helps the sigmoid: its slope is 1/4 at best.

HIDDEN = 10
data = digits.data()
x, y = jnp.asarray(data.train.x), jnp.asarray(data.train.y)


def build(activation, initializer, **options):
    """Parameters of a network at its start, and its loss as a function of them."""
    sizes = (64,) + (64,) * HIDDEN + (10,)
    model = MLP(sizes, activation=activation, kernel_init=initializer, rngs=nnx.Rngs(0), **options)
    graph, params, rest = nnx.split(model, nnx.Param, ...)

    def loss(params, batch):
        """Mean cross-entropy."""
        return digits.cross_entropy(nnx.merge(graph, params, rest, copy=True), *batch)

    return params, loss


def larger(factor):
    """He's weights, too large."""
    return lambda *drawn, **options: factor * he_normal()(*drawn, **options)


NETWORKS = {
    "sigmoid, Glorot": build(jax.nn.sigmoid, glorot_normal()),
    "tanh, N(0, 0.05²)": build(jnp.tanh, normal(0.05)),
    "tanh, N(0, 1)": build(jnp.tanh, normal(1.0)),
    "tanh, Glorot": build(jnp.tanh, glorot_normal()),
    "ReLU, He": build(jax.nn.relu, he_normal()),
    "ReLU, 1.5 times He": build(jax.nn.relu, larger(1.5)),
}


def bias_norms(params, loss):
    """Norm of the gradient of the biases, layer by layer: lecture 004's error delta of the layer."""
    gradient = jax.jit(jax.grad(loss))(params, (x, y))
    return np.array([float(norm) for name, norm in norms_by_layer(gradient).items() if name.endswith("bias")])


norms = {name: bias_norms(*network) for name, network in NETWORKS.items()}
print(f"\n{'norm of dC/db':20} {'layer 1':>9} {'layer 11':>9} {'ratio':>9}")
for name, by_layer in norms.items():
    print(f"{name:20} {by_layer[0]:9.1e} {by_layer[-1]:9.1e} {by_layer[0] / by_layer[-1]:9.1e}")

figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6), width_ratios=(1, 1.5))
for w, ratios in by_formula.items():
    left.plot(range(1, 5), ratios, marker="o", label=f"w = {w:.0f}")
left.set(title="A chain of four neurons", xlabel="neuron", ylabel="dC/db, of the last as 1", yscale="log")
left.set_xticks(range(1, 5))
left.legend()
for name, by_layer in norms.items():
    right.plot(range(1, HIDDEN + 2), by_layer, marker="o", markersize=3, label=name)
right.set(title="Eleven layers, digits", xlabel="layer", ylabel="norm of dC/db", yscale="log", xlim=(0.5, 11.5))
right.legend(loc="center left", bbox_to_anchor=(1, 0.5))
plt.show()

# %%
# Three cures
# -----------
# Gradient descent at one rate for all, 300 batches of 64.
#
# **Other activations.** ReLU's slope is 1 wherever it has one. With He's weights the network learns; with sigmoids it
# stays at :math:`\log 10 = 2.30`, chance.
#
# **Batch normalisation** (Ioffe and Szegedy, 2015) brings every weighted input to mean 0 and variance 1 over the batch,
#
# .. math::
#
#    \hat{z} = \gamma\, \frac{z - \mu}{\sqrt{s^2 + \epsilon}} + \beta .
#
# The gradient then depends no more on the size of the weights, and it passes through *the same sigmoids*.
#
# **Clipping** is for gradients that explode: :math:`g \leftarrow g \min(1, c / \lVert g \rVert)`. With weights 1.5
# times too large three steps throw the network beyond all numbers. Clipped to a norm of 1 it walks back.

RATE, STEPS = 0.1, 300
which = jax.random.randint(jax.random.key(0), (STEPS, 64), 0, len(x))
descent, clipped = jol.sgd(RATE), jol.chain(jol.clip_by_global_norm(1.0), jol.sgd(RATE))
runs = {
    "sigmoid": (descent, *NETWORKS["sigmoid, Glorot"]),
    "sigmoid, batch norm": (descent, *build(jax.nn.sigmoid, glorot_normal(), batch_norm=True)),
    "ReLU": (descent, *NETWORKS["ReLU, He"]),
    "ReLU, weights too large": (descent, *NETWORKS["ReLU, 1.5 times He"]),
    "ReLU, weights too large, clipped": (clipped, *NETWORKS["ReLU, 1.5 times He"]),
}


def train(tx, params, loss):
    """The loss on each batch."""
    learn = jax.jit(lambda params, batches: trajectory(tx, loss, params, STEPS, batches=batches, keep=lambda p: ()))
    return np.asarray(learn(params, (x[which], y[which])).values)


losses = {name: train(*run) for name, run in runs.items()}
final = {name: np.mean(values[-20:]) for name, values in losses.items()}
print()
for name, value in final.items():
    print(f"{name:34} loss at the end {value:.3f}")

figure, axis = plt.subplots(figsize=(7.2, 4.1))
for name, values in losses.items():
    smooth = np.convolve(values, np.ones(10) / 10, mode="valid")
    lost = np.flatnonzero(~np.isfinite(values))
    ends = f": no number from step {lost[0]} on" if len(lost) else ""
    axis.plot(np.arange(len(smooth)) + 9, smooth, label=name + ends)
axis.axhline(np.log(10), color="0.4", linewidth=1, linestyle="--")
axis.annotate(
    "chance", (STEPS, np.log(10)), xytext=(0, 4), textcoords="offset points", ha="right", color="0.3", fontsize=8
)
axis.set(title="Three cures for eleven layers", xlabel="step", ylabel="loss, nats (mean of 10 batches)", yscale="log")
figure.legend(*axis.get_legend_handles_labels(), loc="outside lower center", ncols=2)
plt.show()

# %%
# A cliff
# -------
# Why clip, and not choose a smaller rate? Because large gradients are rare and stand in cliffs. A recurrent neuron,
# :math:`h_t = \sigma(w h_{t-1} + b)` from :math:`h_0 = 1/2`, is to reach 0.7 after 30 steps (after Pascanu, Mikolov,
# Bengio, 2013): one neuron, two numbers, thirty layers. Over most of the plane the slope is below 1. Along one line it
# is in the thousands, and who steps there flies off. 64 starts below the cliff, 100 steps each.


def recurrent(p):
    """Squared distance from 0.7 after 30 steps."""
    h, _ = jax.lax.scan(lambda h, _: (jax.nn.sigmoid(p[0] * h + p[1]), None), jnp.float32(0.5), None, length=30)
    return (h - 0.7) ** 2


low, high = jnp.array([4.5, -4.0]), jnp.array([6.0, -2.8])
starts = jax.random.uniform(jax.random.key(0), (64, 2), minval=low, maxval=high)
ways = {"plain": jol.sgd(1.0), "clipped to 0.2": jol.chain(jol.clip_by_global_norm(0.2), jol.sgd(1.0))}
paths = {
    name: jax.jit(jax.vmap(lambda start, tx=tx: trajectory(tx, recurrent, start, 100)))(starts)
    for name, tx in ways.items()
}
thrown, reached = {}, {}
for name, path in paths.items():
    steps = np.linalg.norm(np.diff(path.points, axis=1), axis=-1)
    thrown[name], reached[name] = np.mean(steps.max(axis=1) > 1), np.median(path.values[:, -1])
    print(
        f"{name:14} longest step {steps.max():6.2f}, thrown {thrown[name]:4.0%}, median final loss {reached[name]:.4f}"
    )

ws, bs = jnp.linspace(4, 6.5, 101), jnp.linspace(-4, -1, 101)
plane = jax.jit(jax.vmap(jax.vmap(lambda w, b: recurrent(jnp.stack([w, b])), (0, None)), (None, 0)))(ws, bs)
seen = int(np.argmax(np.linalg.norm(np.diff(paths["plain"].points, axis=1), axis=-1).max(axis=1)))
figure, axis = plt.subplots(figsize=(7.2, 3.8))
figure.colorbar(axis.contourf(ws, bs, plane, 20), label="loss")
for (name, path), color in zip(paths.items(), ("C3", "white"), strict=True):
    axis.plot(*path.points[seen].T, marker=".", markersize=4, linewidth=1, color=color, label=name)
axis.set(title="A recurrent neuron's cliff", xlabel="w", ylabel="b", xlim=(4, 6.5), ylim=(-4, -1))
axis.legend(labelcolor="white", loc="upper right")
plt.show()

# %%
# Later architectures go round the product altogether. A residual block computes :math:`x + F(x)`, whose derivative is
# :math:`1 + F'`, and an LSTM adds to its memory instead of multiplying it; both have pages of their own.
#
# What this page teaches, as assertions.

for w in WEIGHTS:
    expected = (w / 4) ** np.array([3, 2, 1, 0])
    assert np.allclose(by_formula[w], expected, rtol=1e-12)
    assert np.allclose(by_machine[w], expected, rtol=1e-12)
ratios = {name: by_layer[0] / by_layer[-1] for name, by_layer in norms.items()}
assert ratios["sigmoid, Glorot"] < 1e-4
assert ratios["tanh, N(0, 0.05²)"] < 1e-2
assert ratios["tanh, N(0, 1)"] > 30
assert 0.1 < ratios["tanh, Glorot"] < 10
assert 0.1 < ratios["ReLU, He"] < 10
assert final["sigmoid"] > 2
assert final["sigmoid, batch norm"] < 0.5
assert final["ReLU"] < 0.5
assert not final["ReLU, weights too large"] < 2, "infinite, or not a number"
assert final["ReLU, weights too large, clipped"] < 1
assert thrown["plain"] > 0.5
assert thrown["clipped to 0.2"] == 0
assert reached["clipped to 0.2"] < reached["plain"] / 5
