r"""
Second-order methods
====================

Lecture 000 names two optimizers that look at curvature, BFGS and its version with limited memory, L-BFGS; lecture 004
says why nobody trains large networks with the first: "second order methods do not scale well". They all imitate
Newton's step,

.. math:: \mathbf{w} \leftarrow \mathbf{w} - H^{-1} \mathbf{g}, \qquad
   H_{ij} = \frac{\partial^2 f}{\partial w_i \partial w_j},

which goes to the minimum of a quadratic at once, however ill-conditioned it is. The price is the matrix: :math:`p^2`
numbers for :math:`p` parameters. On this page Newton's step is taken on a valley and on a small classifier, its memory
and its work are counted, it walks straight into a saddle point; and it is shown what of :math:`H` is cheap: its product
with a vector.
"""

import math

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
from sklearn.datasets import load_digits

import jaxopt_lectures as jol
from jaxopt_lectures.diagnostics import (
    condition_number,
    extreme_eigenvalues,
    hessian,
    hessian_vector_product,
    trajectory,
)

plt.style.use("jaxopt_lectures.diagnostics.lectures")


def newton_step(fun, w):
    """`w - H^{-1} g`: build the matrix, solve."""
    return w - jnp.linalg.solve(hessian(fun, w), jax.grad(fun)(w))


# %%
# One step for a valley
# ---------------------
# :math:`f(\mathbf{w}) = \frac{1}{2} \mathbf{w}^\top A \mathbf{w} - \mathbf{b}^\top \mathbf{w}` in 20 dimensions with
# condition number 1000. Gradient descent at its best rate, :math:`2 / (L + \mu)`, still has four fifths of the way
# before it after 100 steps. Newton's step is the solution of :math:`A \mathbf{w} = \mathbf{b}`.

with jax.enable_x64(True):
    rotation, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(20, 20)))
    A = jnp.asarray((rotation * np.geomspace(1.0, 1000.0, 20)) @ rotation.T)
    b = jnp.asarray(rotation[:, 0])  # the minimum lies along the floor of the valley, at distance 1

    def valley(w):
        """A quadratic."""
        return w @ A @ w / 2 - b @ w

    start, minimum = jnp.zeros(20), jnp.linalg.solve(A, b)
    kappa = float(condition_number(valley, start))
    after_descent = float(jnp.linalg.norm(trajectory(jol.sgd(2 / 1001), valley, start, 100).params - minimum))
    after_newton = float(jnp.linalg.norm(newton_step(valley, start) - minimum))
print(f"condition number {kappa:.0f}; distance from the minimum, 1 at the start:")
print(f"  100 steps of gradient descent {after_descent:.3f}, 1 step of Newton {after_newton:.0e}")

# %%
# What it has to remember
# -----------------------
# BFGS keeps an estimate of :math:`H^{-1}`, :math:`p^2` numbers. L-BFGS keeps the last :math:`m` steps and the changes
# of the gradient along them, :math:`2 m p` numbers, and multiplies with the matrix that they imply without forming it.
# Adam keeps :math:`2 p`. With 8 bytes a number, BFGS needs 8 TB for a million parameters.

PAIRS, BYTES = 10, 8
memory = {
    "BFGS": lambda p: BYTES * p**2,
    "L-BFGS": lambda p: BYTES * 2 * PAIRS * p,
    "Adam": lambda p: BYTES * 2 * p,
}
NETWORKS = {
    "1000 parameters": 1e3,
    "perceptron on digits": 4810,
    "a million": 1e6,
    "ResNet-50": 25_557_032,
    "GPT-2 small": 124_439_808,
    "GPT-3": 1.75e11,
}


def readable(size):
    """A size in bytes with its unit."""
    power = min(int(math.log10(size)) // 3, 8)
    return f"{size / 1000**power:.3g} {['B', 'kB', 'MB', 'GB', 'TB', 'PB', 'EB', 'ZB', 'YB'][power]}"


print(f"\n{'':22}" + "".join(f"{name:>10}" for name in memory))
for name, p in NETWORKS.items():
    print(f"{name:22}" + "".join(f"{readable(needed(p)):>10}" for needed in memory.values()))

# %%
# optax's L-BFGS, asked for the shapes of its state at a million parameters (nothing is allocated), keeps these
# :math:`2 m p` numbers, one more parameter vector and one more gradient, and :math:`m` weights.

million = jax.ShapeDtypeStruct((1_000_000,), jnp.float32)
state = jax.eval_shape(optax.scale_by_lbfgs(memory_size=PAIRS).init, million)
kept = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(state))
print(f"\noptax's L-BFGS keeps {kept:,} numbers for 1,000,000 parameters")

figure, axes = plt.subplots()
counts = np.geomspace(1e3, 1.75e11, 100)
for (name, needed), at in zip(memory.items(), (3e6, 3e8, 3e8), strict=True):
    (line,) = axes.loglog(counts, needed(counts))
    below = name == "Adam"
    axes.text(at, needed(at) * (0.03 if below else 4), name, color=line.get_color(), ha="left" if below else "right")
axes.axhline(80e9, color="0.5", linestyle=":")
axes.text(1.2e3, 80e9 * 1.8, "an accelerator with 80 GB", color="0.4", fontsize=8)
for name, p in list(NETWORKS.items())[3:]:
    axes.axvline(p, color="0.8", linewidth=0.8, zorder=0)
    axes.text(p * 0.8, 2e22, name, rotation=90, ha="right", va="top", fontsize=7, color="0.4")
axes.set(
    title="p² numbers outgrow a machine at a hundred thousand parameters",
    xlabel="parameters $p$",
    ylabel="optimizer state (bytes)",
    ylim=(1e4, 1e24),
)
plt.show()

# %%
# The product with H is cheap
# ---------------------------
# The matrix is never needed to multiply with it: :math:`H \mathbf{v}` is the derivative of the gradient along
# :math:`\mathbf{v}`. In it every product :math:`A B` of the gradient's computation is joined by
# :math:`\mathrm{d}A\, B + A\, \mathrm{d}B`, so that it costs at most three gradients, for any number of parameters.
# Here the floating-point operations are counted (not the time) for networks of growing depth and width. The whole
# matrix is :math:`p` such products.


def operations(fun, *arguments):
    """Floating-point operations of a compiled function."""
    return jax.jit(fun).lower(*arguments).cost_analysis()["flops"]


def network_loss(sizes, examples=256):
    """The loss of a tanh network as a function of its weights, and the weights."""
    keys = jax.random.split(jax.random.key(0), len(sizes))
    x = jax.random.normal(keys[0], (examples, sizes[0]))
    layers = [
        jax.random.normal(key, (rows, columns)) / rows**0.5
        for key, rows, columns in zip(keys[1:], sizes[:-1], sizes[1:], strict=True)
    ]

    def loss(layers):
        """Mean square of the outputs."""
        hidden = x
        for layer in layers[:-1]:
            hidden = jnp.tanh(hidden @ layer)
        return jnp.mean((hidden @ layers[-1]) ** 2)

    return loss, layers


ratios = {}
print(f"\n{'layers':>22} {'parameters':>10} {'gradient / loss':>16} {'Hv / gradient':>14}")
for sizes in ((64, 16, 10), (64, 256, 10), (64, 64, 64, 64, 10), (64, 256, 256, 10)):
    loss, layers = network_loss(sizes)
    p = sum(layer.size for layer in layers)
    one, two = operations(loss, layers), operations(jax.grad(loss), layers)
    three = operations(lambda w, v, loss=loss: hessian_vector_product(loss, w, v), layers, layers)
    ratios[p] = three / two
    print(f"{'-'.join(map(str, sizes)):>22} {p:10,} {two / one:16.2f} {three / two:14.2f}")

# %%
# Fewer steps, more work
# ----------------------
# A classifier of the digits without hidden layer, 650 parameters, with a small L2 term, is a convex problem with a
# condition number of some hundreds. Near the minimum each step of Newton doubles the number of correct digits; it is
# done after seven. L-BFGS needs about ninety steps, gradient descent thousands. But a step of Newton costs a gradient,
# 650 products with :math:`H`, and :math:`\frac{2}{3} p^3` operations for the system of equations; one of L-BFGS costs a
# gradient and :math:`8 m p` operations. Counted in operations L-BFGS has arrived before Newton has made its first step.

L2, STEPS = 1e-3, 140
with jax.enable_x64(True):
    digits = load_digits()
    images, labels = jnp.asarray(digits.data[:300] / 16), jnp.asarray(digits.target[:300])

    def penalty(w):
        """The L2 term, which makes the minimum unique."""
        return L2 / 2 * jnp.sum(w**2)

    def classifier(w):
        """Cross-entropy of a softmax regression, nats."""
        logits = images @ w[:640].reshape(64, 10) + w[640:]
        return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, labels)) + penalty(w)

    def slope(w):
        """Length of the gradient."""
        return jnp.linalg.norm(jax.grad(classifier)(w))

    @jax.jit
    def newton(w):
        """Eight steps, and the slopes before and after each."""
        end, slopes = jax.lax.scan(lambda w, _: (newton_step(classifier, w), slope(w)), w, length=8)
        return end, jnp.append(slopes, slope(end))

    flat = jnp.zeros(650)
    steepest = extreme_eigenvalues(classifier, flat, jax.random.key(0))[1]
    optimum, slopes = newton(flat)
    curves = {"Newton": slopes}
    for name, tx in {
        "L-BFGS": optax.lbfgs(1.0, memory_size=PAIRS, linesearch=None),
        "gradient descent": jol.sgd(1 / steepest),
    }.items():
        curves[name] = trajectory(tx, classifier, flat, STEPS, keep=slope).points
    curves = {name: np.asarray(curve) for name, curve in curves.items()}
    kappa_digits = float(condition_number(classifier, optimum))
    gradient_work = operations(jax.grad(classifier), flat)
    product_work = operations(lambda w, v: hessian_vector_product(classifier, w, v), flat, flat)

work = {
    "Newton": gradient_work + 650 * product_work + 2 / 3 * 650**3,
    "L-BFGS": gradient_work + 8 * PAIRS * 650,
    "gradient descent": gradient_work,
}
arrived = {name: int(np.argmax(curve < 1e-6)) for name, curve in curves.items()}
print(f"\ncondition number at the minimum {kappa_digits:.0f}")
for name in curves:
    steps = f"{arrived[name]:4d} steps, {arrived[name] * work[name]:.1e} operations" if arrived[name] else "not yet"
    print(f"{name:16} to |gradient| < 1e-6: {steps}; a step costs {work[name] / gradient_work:6.1f} gradients")

figure, (left, right) = plt.subplots(1, 2, figsize=(9.5, 3.6), sharey=True)
for (name, curve), marker in zip(curves.items(), ("o", "", ""), strict=True):
    steps = np.arange(len(curve))
    left.semilogy(steps, curve, marker=marker, markersize=4, label=name)
    right.loglog(np.maximum(steps, 0.5) * work[name], curve, marker=marker, markersize=4)
left.set(title="In steps Newton wins", xlabel="step", ylabel="length of the gradient", ylim=(1e-10, 2))
left.legend(loc="center right", bbox_to_anchor=(1, 0.6))
right.set(title="In work it loses", xlabel="floating-point operations")
plt.show()

# %%
# It likes saddles
# ----------------
# Newton's step looks for a place where the gradient is zero, and does not ask whether that is a minimum. On
# :math:`(x^2 - y^2) / 2` it goes to the saddle at the origin in one step, from anywhere. On the same digits with a
# hidden layer of eight :math:`\tanh` units and small first weights it converges as fast as above, to a stationary point
# whose Hessian has 72 negative eigenvalues; from usual first weights it is thrown far away. Methods that use curvature
# for networks therefore replace :math:`H` by something that cannot be negative, or trust it only nearby.

with jax.enable_x64(True):
    pass_point = np.asarray(newton_step(lambda w: (w[0] ** 2 - w[1] ** 2) / 2, jnp.array([3.0, 0.7])))

    def network(w):
        """Cross-entropy of a network 64-8-10 with the L2 term."""
        one, two = w[:520].reshape(65, 8), w[520:].reshape(9, 10)
        logits = jnp.tanh(images @ one[:-1] + one[-1]) @ two[:-1] + two[-1]
        return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, labels)) + penalty(w)

    normal = jax.random.normal(jax.random.key(0), (610,))
    usual = normal * np.repeat([64**-0.5, 0, 8**-0.5, 0], [512, 8, 80, 10])

    @jax.jit
    def newton_on_network(w):
        """Seven steps: where they end, and the loss on the way."""
        return jax.lax.scan(lambda w, _: (newton_step(network, w), network(w)), w, length=7)

    near, _ = newton_on_network(0.01 * usual)
    negative = int(np.sum(jnp.linalg.eigvalsh(hessian(network, near)) < 0))
    near_slope, near_loss = float(jnp.linalg.norm(jax.grad(network)(near))), float(network(near))
    thrown = np.asarray(newton_on_network(usual)[1])
    rolling = trajectory(jol.momentum(0.5, 0.9), network, 0.01 * usual, 200, keep=lambda w: ())
    descended = float(rolling.values[-1])
print(f"\nsaddle: from (3, 0.7) to ({pass_point[0]:.0f}, {pass_point[1]:.0f}) in one step")
print(f"network, small weights: |gradient| {near_slope:.0e}, loss {near_loss:.3f}, {negative} negative eigenvalues")
print(f"network, small weights, momentum: loss {descended:.3f}")
print(f"network, usual weights: loss {thrown[0]:.2f}, after seven steps of Newton up to {thrown.max():.0f}")

# %%
# Assertions
# ----------

np.testing.assert_allclose(kappa, 1000, rtol=1e-9)
assert after_newton < 1e-12
assert after_descent > 0.7
assert memory["BFGS"](1e6) == 8e12, "8 TB"
assert memory["BFGS"](1.75e11) > 2e23
assert memory["L-BFGS"](1.75e11) == 2.8e13, "28 TB"
assert kept == 2 * PAIRS * 1_000_000 + 2_000_000 + PAIRS + 1
assert all(1 < ratio < 3 for ratio in ratios.values())
assert 0 < arrived["Newton"] <= 8
assert 60 < arrived["L-BFGS"] < 140
assert arrived["gradient descent"] == 0, "not within these steps"
assert arrived["L-BFGS"] * work["L-BFGS"] < work["Newton"], "arrived before Newton's first step"
assert 200 < kappa_digits < 500
np.testing.assert_allclose(pass_point, 0, atol=1e-12)
assert near_slope < 1e-10
assert negative == 72
assert descended < 1.2 < near_loss
assert thrown.max() > 10 * thrown[0]
