r"""
Back-propagation
================

How does the cost of a network change with a weight deep inside it? Lecture 004 answers with four equations. Forward,
:math:`z^l = w^l a^{l-1} + b^l` and :math:`a^l = \sigma(z^l)` from :math:`a^0 = x`; then, from the output back, the
error :math:`\delta^l = \partial C / \partial z^l` of every layer, and with it every gradient:

.. math::

   \begin{aligned}
   \delta^L &= \nabla_{a^L} C \odot \sigma'(z^L) \\
   \delta^l &= \left((w^{l+1})^\top \delta^{l+1}\right) \odot \sigma'(z^l) \\
   \frac{\partial C}{\partial b_j^l} &= \delta_j^l \\
   \frac{\partial C}{\partial w_{jk}^l} &= a_k^{l-1} \delta_j^l
   \end{aligned}

This page writes them down for one sample, compares the package's form for many samples with ``jax.grad``, draws the
error on its way back, shows what it does to a step to take the sum over samples where the lecture defines a mean, and
ends with the lecture's chain of four neurons.
"""

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits

import jaxopt_lectures as jol
from jaxopt_lectures import backprop, losses

plt.style.use("jaxopt_lectures.diagnostics.lectures")


def network(sizes, spread, key):
    """Layers (w, b), w of shape (to, from) with entries of standard deviation `spread / sqrt(from)`."""
    keys = jax.random.split(key, len(sizes) - 1)
    return [
        (spread / np.sqrt(come) * jax.random.normal(key, (to, come)), jnp.zeros(to))
        for key, come, to in zip(keys, sizes[:-1], sizes[1:], strict=True)
    ]


# %%
# The four equations
# ------------------
# Three numbers go in, two come out, with a layer of four between; the cost is :math:`(y - a^L)^2`, averaged over the
# two outputs. The slide calls :math:`w_{jk}` the weight "from node j to node k", which would be stored as (from, to);
# its equations, and the code, need (to, from): row :math:`j` holds what comes into node :math:`j`.

(w1, b1), (w2, b2) = layers = network((3, 4, 2), 1.0, jax.random.key(0))
x = jnp.array([0.5, -1.0, 2.0])
y = jnp.array([0.0, 1.0])


def sigma(z):
    """The sigmoid."""
    return 1 / (1 + jnp.exp(-z))


def slope(z):
    """Its derivative."""
    return sigma(z) * (1 - sigma(z))


z1 = w1 @ x + b1  # 1. Forward
a1 = sigma(z1)
z2 = w2 @ a1 + b2
a2 = sigma(z2)
delta2 = (a2 - y) * slope(z2)  # 2. The output's error; grad_a C = 2/2 (a - y)
delta1 = (w2.T @ delta2) * slope(z1)  # 3. The error, one layer back
dc_db2, dc_db1 = delta2, delta1  # 4. The gradients
dc_dw2, dc_dw1 = jnp.outer(delta2, a1), jnp.outer(delta1, x)

# %%
# ``backprop.gradients`` is the same for any number of layers and samples, a sample a row.

cost, ((w1_bar, b1_bar), (w2_bar, b2_bar)) = backprop.gradients(layers, x[None], y[None])
for by_hand, found in [(dc_dw1, w1_bar), (dc_db1, b1_bar), (dc_dw2, w2_bar), (dc_db2, b2_bar)]:
    np.testing.assert_allclose(found, by_hand, rtol=1e-5, atol=1e-7)
print(f"cost of the sample: {cost:.4f}")
print("dC/db^2 =", dc_db2, " by backprop.gradients:", b2_bar)

# %%
# Against jax.grad
# ----------------
# JAX differentiates any program, and knows nothing of these equations. Here 1797 handwritten digits, all at once, go
# through six layers of sigmoids; the last layer is a softmax, the cost the cross-entropy. In double precision the two
# agree to the last digits.

pixels, labels = load_digits(return_X_y=True)
pixels = pixels / 16
SIZES = (64, 40, 40, 40, 40, 40, 10)


def cost_by_jax(layers, x, y):
    """The same cost, for jax.grad to differentiate."""
    for w, b in layers[:-1]:
        x = jax.nn.sigmoid(x @ w.T + b)
    w, b = layers[-1]
    return jnp.mean(losses.cross_entropy_with_logits(y, x @ w.T + b))


with jax.enable_x64(True):
    deep, targets = network(SIZES, 1.0, jax.random.key(1)), backprop.one_hot(labels, 10)
    _, ours = jax.jit(lambda *a: backprop.gradients(*a, cost="cross_entropy"))(deep, pixels, targets)
    theirs = jax.jit(jax.grad(cost_by_jax))(deep, pixels, targets)
    print("\nlayer   largest dC/dw   largest difference to jax.grad")
    apart = []
    for number, ((ours_w, _), (theirs_w, _)) in enumerate(zip(ours, theirs, strict=True), 1):
        apart.append(float(jnp.abs(ours_w - theirs_w).max()))
        print(f"{number:5d} {float(jnp.abs(ours_w).max()):15.1e} {apart[-1]:32.1e}")

assert max(apart) < 1e-12

# %%
# The error on its way back
# -------------------------
# :math:`\delta^l` is a factor of every gradient in layer :math:`l`. The second equation multiplies it by
# :math:`w^\top` and :math:`\sigma'`, once a layer, so that it shrinks or grows like a power. The sigmoid's
# :math:`\sigma'` is at most 1/4, and the error all but vanishes. ReLU's :math:`\sigma'` is 0 or 1, and with weights of
# twice the variance the zeros are made up for: part of the nodes hear nothing (grey), the others all.
#
# By the third equation :math:`\delta` is the gradient by :math:`b`, so that is where the picture takes it from.


def errors(activation, spread):
    """delta^l_j of one digit, a row of nodes for each layer."""
    layers = network(SIZES, spread, jax.random.key(1))
    x, y = pixels[:1].astype(np.float32), backprop.one_hot(labels[:1], 10)
    _, found = backprop.gradients(layers, x, y, activation=activation, cost="cross_entropy")
    return [np.asarray(delta) for _, delta in found]


by_activation = {"sigmoid": errors("sigmoid", 1.0), "relu": errors("relu", np.sqrt(2))}
norms = {name: [float(np.linalg.norm(delta)) for delta in found] for name, found in by_activation.items()}

figure, panels = plt.subplots(1, 2, sharey=True)
colours = plt.get_cmap().with_extremes(bad="#DDDDDD")
for axes, (name, found), title in zip(
    panels, by_activation.items(), ("Sigmoid: the error shrinks", "ReLU: it keeps its size"), strict=True
):
    for number, delta in enumerate(found, 1):
        with np.errstate(divide="ignore"):
            size = np.log10(np.abs(delta))
        nodes = (20 - len(delta) / 2, 20 + len(delta) / 2)
        image = axes.imshow(
            np.ma.masked_invalid(size)[None],
            extent=(*nodes, number - 0.4, number + 0.4),
            vmin=-5,
            vmax=0,
            cmap=colours,
            aspect="auto",
        )
        axes.text(41, number, f"{norms[name][number - 1]:.2g}", va="center", fontsize=8, color="#444444")
    axes.text(41, 6.75, "norm", va="center", fontsize=8, color="#444444")
    axes.set(title=title, xlabel="node", xlim=(0, 50), ylim=(0.4, 7))
    axes.set_xticks([])
    axes.grid(visible=False)
panels[0].set(ylabel="layer $l$; the error comes in at 6", yticks=range(1, 7))
figure.colorbar(image, ax=panels, label="$\\log_{10}|\\delta_j^l|$", ticks=range(-5, 1))
plt.show()

print("\nnorm of delta, layer 6 to layer 1")
for name, found in norms.items():
    print(f"{name:8s}", " ".join(f"{norm:8.1e}" for norm in found[::-1]))

assert norms["sigmoid"][0] < 1e-2 * norms["sigmoid"][-1]
assert norms["relu"][0] > 0.1 * norms["relu"][-1]

# %%
# A sum or a mean
# ---------------
# Lecture 004 defines the cost as a mean over :math:`N` samples, with a factor :math:`1/N`, and some slides later
# differentiates the sum :math:`C = \sum_i C_i`. The gradient of the sum is :math:`N` times as long, and so is the step
# that is taken with the same learning rate. Below, 256 digits are learned for 60 steps at many rates, in one program.

N = 256
x, y = pixels[:N].astype(np.float32), backprop.one_hot(labels[:N], 10)
start = network((64, 20, 10), 1.0, jax.random.key(2))


def cost_after(rate, reduction, steps=60):
    """The mean cost after gradient descent at this rate on the mean, or on the sum."""
    tx = jol.sgd(rate)

    def step(carry, _):
        layers, state = carry
        _, slopes = backprop.gradients(layers, x, y, activation="tanh", cost="cross_entropy", reduction=reduction)
        updates, state = tx.update(slopes, state, layers)
        return (jol.apply_updates(layers, updates), state), None

    (layers, _), _ = jax.lax.scan(step, (start, tx.init(start)), length=steps)
    return backprop.gradients(layers, x, y, activation="tanh", cost="cross_entropy")[0]


rates = 10.0 ** jnp.arange(-5, 1.1, 0.25)
costs = {how: jax.jit(jax.vmap(lambda rate, how=how: cost_after(rate, how)))(rates) for how in ("mean", "sum")}
best = {how: float(rates[jnp.argmin(cost)]) for how, cost in costs.items()}
print("\nbest learning rate on the mean and on the sum:", *(f"{rate:.4f}" for rate in best.values()))

figure, axes = plt.subplots()
for how, at in [("mean", (0.75, 1.2)), ("sum", (0.0031, 1.2))]:
    (line,) = axes.plot(rates, costs[how], "o-", markersize=3)
    axes.text(*at, f"of the {how}", color=line.get_color(), ha="right")
axes.annotate("", (2.0, 3.0), (2.0 / N, 3.0), arrowprops={"arrowstyle": "<->", "color": "#444444"})
axes.text(2.0 / N**0.5, 3.08, "256 times", color="#444444", ha="center")
axes.set(title="The sum over 256 samples wants a learning rate 256 times smaller", xscale="log", ylim=(0, 3.5))
axes.set(xlabel="learning rate", ylabel="mean cost after 60 steps, nats")
plt.show()

# A rate on the sum is N times that rate on the mean.
twin = jax.jit(jax.vmap(lambda rate: cost_after(rate * N, "mean")))(rates[:9])
np.testing.assert_allclose(costs["sum"][:9], twin, rtol=1e-3)
assert 100 < best["mean"] / best["sum"] < 600

# %%
# The chain
# ---------
# Four neurons in a row: lecture 004 writes the four gradients out,
#
# .. math::
#
#    \frac{\partial C}{\partial b^1} = \sigma'(z^1)\, w^2\, \sigma'(z^2)\, w^3\, \sigma'(z^3)\, w^4\, \sigma'(z^4)\,
#    \nabla_{a^4} C,
#
# and those of :math:`b^2, b^3, b^4` by leaving out factors from the left. Where all :math:`z` are 0, each
# :math:`\sigma'` is 1/4, and the first gradient is :math:`(w/4)^3` times the last: it vanishes for weights below 4 and
# explodes above.

print("\n    w   dC/db^1 / dC/db^4   (w/4)^3")
for w in (1.0, 4.0, 100.0):
    found = backprop.chain_bias_gradients(jnp.full(4, w), jnp.zeros(4), 1.0)
    print(f"{w:5.0f} {found[0] / found[3]:19g} {(w / 4) ** 3:9g}")
    assert jnp.allclose(found[0] / found[3], (w / 4) ** 3)

w, z = jnp.array([1.0, 2.0, -1.5, 3.0]), jnp.array([0.3, -0.5, 1.0, 0.2])
printed = slope(z[0]) * w[1] * slope(z[1]) * w[2] * slope(z[2]) * w[3] * slope(z[3])
assert jnp.allclose(backprop.chain_bias_gradients(w, z, 1.0)[0], printed, rtol=1e-5)
