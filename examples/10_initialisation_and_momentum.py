r"""
Initialisation and momentum
===========================

Lecture 002 quotes a claim: deep networks "were considered to be almost impossible to train using stochastic gradient
descent with momentum", until Sutskever et al. (2013) took a well-designed random initialisation and a slowly increasing
momentum. Both halves are run here, on a deep autoencoder that squeezes handwritten digits through six numbers,
64-100-50-25-6-25-50-100-64, with logistic units. The lecture prints no formula for either half. The paper's are: every
unit starts with 15 random weights and listens to nothing else, and the momentum at step :math:`t` is

.. math::

   \mu_t = \min \left( 1 - \frac{1}{2 (\lfloor t / 250 \rfloor + 1)}, \; \mu_{\max} \right) .

The paper's steps are counted in hundreds of thousands; here are 3000, so the period is 25 instead of 250.
"""

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from flax import nnx

import jaxopt_lectures as jol
from jaxopt_lectures.diagnostics import trajectory
from jaxopt_lectures.models.autoencoder import Autoencoder
from jaxopt_lectures.models.initializers import normal, sparse
from jaxopt_lectures.tasks.digits import data

plt.style.use("jaxopt_lectures.diagnostics.lectures")
x = jnp.asarray(data().train.x)
sizes = (64, 100, 50, 25, 6)
SEEDS = 2


def network(seed, kernel_init):
    """An autoencoder with freshly drawn weights, biases 0."""
    return Autoencoder(sizes, kernel_init=kernel_init, rngs=nnx.Rngs(seed))


# %%
# Where the signal goes
# ---------------------
# Why should the first weights matter so much? Send all digits through the untrained network and ask of every layer how
# much its units differ from one digit to the next. With dense weights of standard deviation 0.01, a usual choice of
# the time, each logistic layer passes on a few hundredths of the differences. After eight layers only roundings of
# float32 are left, and no gradient comes back either. Fifteen weights of size 1 for each unit, and no others, keep the
# differences alive at any width.

initial = {"sparse": sparse(15), "dense": normal(0.01)}
signals = {}
for name, kernel_init in initial.items():
    model, signal, spreads = network(0, kernel_init), x, [float(jnp.std(x, axis=0).mean())]
    for layer in [*model.encoder, *model.decoder]:
        code = layer is model.encoder[-1]
        signal = layer(signal) if code else jax.nn.sigmoid(layer(signal))  # the code itself is affine
        spreads.append(float(jnp.std(signal, axis=0).mean()))
    signals[name] = spreads
    print(f"{name:6} what is left of the differences: {spreads[-1] / spreads[0]:.1e}")

figure, axes = plt.subplots(figsize=(6.4, 3.2))
for name, spreads in signals.items():
    axes.semilogy(spreads, marker="o", markersize=4)
    axes.annotate(name, (8, spreads[-1]), xytext=(8, 0), textcoords="offset points", va="center")
axes.set_xticks(range(9), ["pixels", "100", "50", "25", "code", "25", "50", "100", "pixels"])
axes.set(title="Sparse weights keep the digits apart", xlabel="layer", ylabel="standard deviation over the digits")
plt.show()

# %%
# The race
# --------
# All methods take the same batches of 200 digits from the same weights at the same rate, 0.1. Plain descent is momentum
# with :math:`\mu_{\max} = 0`, so one program, mapped over :math:`\mu_{\max}` and two seeds, does for each method.
# The error is the squared error of a digit, summed over its 64 pixels; 4.68 is that of answering the mean digit always.

STEPS, BATCH, RATE = 3000, 200, 0.1
per_epoch = len(x) // BATCH


def batches(seed):
    """Every epoch another order of the digits: (STEPS, BATCH) indices."""
    keys = jax.random.split(jax.random.key(seed), STEPS // per_epoch + 1)
    orders = jax.vmap(lambda key: jax.random.permutation(key, len(x)))(keys)
    return orders[:, : per_epoch * BATCH].reshape(-1, BATCH)[:STEPS]


def errors(method, kernel_init, largest):
    """Batch errors on the way and the trained weights, for every largest momentum and seed."""
    graph = nnx.graphdef(network(0, kernel_init))
    starts = [nnx.state(network(seed, kernel_init)) for seed in range(SEEDS)]

    def error(weights, chosen):
        images = x[chosen]
        return jnp.mean(jnp.sum((jax.nn.sigmoid(nnx.merge(graph, weights)(images)) - images) ** 2, axis=1))

    def train(run):
        largest, start, order = run
        mu = jol.sutskever_momentum_schedule(largest, period=25, final_steps=250, total_steps=STEPS)
        path = trajectory(method(RATE, mu), error, start, STEPS, batches=order, keep=lambda w: ())
        weights = jol.eval_params(path.state, path.params)
        return path.values, error(weights, jnp.arange(len(x))), weights

    runs = [(mu, start, batches(seed)) for mu in jnp.asarray(largest) for seed, start in enumerate(starts)]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *runs)
    values, final, weights = jax.jit(lambda runs: jax.lax.map(train, runs))(stacked)
    shape = len(largest), SEEDS
    return np.reshape(values, (*shape, STEPS)), np.reshape(final, shape), (graph, weights)


classical, classical_final, _ = errors(jol.momentum, sparse(15), [0.0, 0.99, 0.995])
nesterov, nesterov_final, trained = errors(jol.nesterov, sparse(15), [0.99, 0.995])
dense, dense_final, _ = errors(jol.nesterov, normal(0.01), [0.99])
chance = float(jnp.sum(jnp.var(x, axis=0)))

labels = ["plain descent", "momentum, 0.99", "momentum, 0.995", "Nesterov, 0.99", "Nesterov, 0.995", "Nesterov, dense"]
curves = np.concatenate([classical, nesterov, dense]).mean(axis=1)
finals = np.concatenate([classical_final, nesterov_final, dense_final])
for label, final in zip(labels, finals, strict=True):
    print(f"{label:16} error {final.mean():.3f}, seeds {', '.join(f'{one:.3f}' for one in final)}")
print(f"{'the mean digit':16} error {chance:.3f}")

# %%
# With the dense weights the network answers the mean digit, whatever it is shown. With the sparse ones plain descent
# learns, and momentum goes on to a fraction of its error in the same time; Nesterov's look-ahead pays most where the
# momentum is highest, as in the paper. The step down at the end is the paper's other advice: take the last steps with
# a momentum of 0.9, so that the weights settle.

WIDTH = 50  # steps, of the running mean that is drawn
smooth = [np.convolve(curve, np.ones(WIDTH) / WIDTH, "valid") for curve in curves]
figure, axes = plt.subplots(figsize=(7.2, 4))
for curve, label, colour, line in zip(
    smooth, labels, ["C0", "C1", "C1", "C2", "C2", "C6"], ["-", "-", "--", "-", "--", "-"], strict=True
):
    axes.semilogy(np.arange(len(curve)) + WIDTH, curve, color=colour, linestyle=line, linewidth=1.5, label=label)
axes.axhline(chance, color="#999999", linewidth=0.8, linestyle=":")
axes.annotate("the mean digit", (STEPS, chance), xytext=(-4, 4), textcoords="offset points", ha="right", fontsize=8)
axes.set(title="Both halves of the claim", xlabel="step", ylabel="squared error of a digit", xlim=(0, STEPS))
axes.set_yticks([0.3, 0.5, 1, 2, 4], ["0.3", "0.5", "1", "2", "4"])
axes.set_yticks([], minor=True)
axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))
plt.show()

# %%
# What six numbers keep of a digit
# --------------------------------

graph, weights = trained
best = nnx.merge(graph, jax.tree.map(lambda leaf: leaf[-1], weights))
shown = x[:10]
rows = {"digit": shown, "through six numbers": jax.nn.sigmoid(best(shown))}
figure, panels = plt.subplots(2, 10, figsize=(7.2, 1.9))
for (title, images), line in zip(rows.items(), panels, strict=True):
    line[0].set_title(title)
    for image, panel in zip(images, line, strict=True):
        panel.imshow(np.reshape(image, (8, 8)), cmap="Greys", vmin=0, vmax=1)
        panel.set_axis_off()
plt.show()

# %%
# What was shown: without the initialisation nothing is learnt; with it, momentum divides the error of plain descent by
# more than three; at the highest momentum the look-ahead is better than the classical form. The same on CURVES, with
# tuned rates and beside the paper's figures, is in the measurements.

plain, _, classical_highest, _, nesterov_highest, from_dense = finals
assert from_dense.min() > 0.95 * chance
assert plain.max() < 0.6 * chance
assert plain.min() > 3 * classical_highest.max()
assert nesterov_highest.mean() < 0.95 * classical_highest.mean()
