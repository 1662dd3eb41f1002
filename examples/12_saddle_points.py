r"""
Saddle points
=============

Lecture 003 names the place where gradient descent gets stuck: "a point that has zero gradients but isn't that actual
minimum". Lecture 004 prints the matrix that tells such points apart, the Hessian, with a partial sign missing in its
corners (:math:`\partial^2 f / \partial x_1 x_n`); it should be

.. math::

   H = \begin{pmatrix}
   \frac{\partial^2 f}{\partial x_1^2} & \cdots & \frac{\partial^2 f}{\partial x_1 \partial x_n} \\
   \vdots & & \vdots \\
   \frac{\partial^2 f}{\partial x_n \partial x_1} & \cdots & \frac{\partial^2 f}{\partial x_n^2}
   \end{pmatrix}.

Where the gradient is zero and all eigenvalues of :math:`H` are positive lies a minimum; a negative eigenvalue is a way
down. Here five optimizers pass the simplest saddle, noise frees what is stuck on its ridge, and a network that starts
near zero turns out to sit on a saddle whose curvature says how long its training will seem to stand still.
"""

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
from jax.flatten_util import ravel_pytree
from sklearn.datasets import load_digits

import jaxopt_lectures as jol
from jaxopt_lectures.diagnostics import extreme_eigenvalues, grid, hessian, spectral_density, trajectory

plt.style.use("jaxopt_lectures.diagnostics.lectures")

# %%
# The simplest saddle
# -------------------
# :math:`f(x, y) = (x^2 - y^2) / 2` is a pass in the mountains: up along :math:`x`, down along :math:`y`. At the origin
# the gradient :math:`(x, -y)` is zero and the Hessian is :math:`\mathrm{diag}(1, -1)`.


def saddle(w):
    """A mountain pass."""
    return (w[0] ** 2 - w[1] ** 2) / 2


print("Hessian at the pass:", np.asarray(hessian(saddle, jnp.zeros(2))).tolist())

# %%
# How long does it take to get past it? All start at :math:`(1, 10^{-6})`, a millionth beside the ridge, with the same
# rate 0.1, and are past when :math:`|y| > 1`. Gradient descent multiplies :math:`y` by :math:`1 + \eta = 1.1` a step,
# so that it needs :math:`\ln 10^6 / \ln 1.1 = 145` steps. Momentum multiplies by more, for its velocity grows along
# with :math:`y`. Methods that divide by the size of past gradients hardly see how small the slope is: their steps are
# about as long as the learning rate in every coordinate, and a few of those reach 1. What they add to that size must be
# smaller than the slope, though: optax's AdaGrad starts its sum of squares at 0.1 where the paper has 0, and next to
# that a slope of :math:`10^{-6}` is nothing. It needs 64 steps instead of 19.

RATE, STEPS = 0.1, 200
methods = {
    "gradient descent": jol.sgd(RATE),
    "momentum": jol.momentum(RATE, 0.9),
    "AdaGrad": jol.adagrad(RATE, initial_accumulator_value=0.0),
    "Adam": jol.adam(RATE),
    "RMSProp": jol.rmsprop(RATE),
}


def steps_to_pass(points):
    """The first step after which |y| > 1."""
    return int(np.argmax(np.abs(np.asarray(points)[:, 1]) > 1))


paths = {name: trajectory(tx, saddle, jnp.array([1.0, 1e-6]), STEPS).points for name, tx in methods.items()}
passed = {name: steps_to_pass(points) for name, points in paths.items()}
usual_adagrad = steps_to_pass(trajectory(jol.adagrad(RATE), saddle, jnp.array([1.0, 1e-6]), STEPS).points)
for name, count in passed.items():
    print(f"{name:16} {count:4d} steps to |y| > 1")
print(f"AdaGrad from a sum of 0.1 (optax's default): {usual_adagrad} steps")

# %%
# On the ridge itself
# -------------------
# Exactly at :math:`y = 0` the second component of the gradient is 0. No method here can leave: all of them slide to the
# origin and stay for ever. Any noise will do to free them. With noise of standard deviation 0.001 in the gradient, as a
# mini-batch would bring it, :math:`y` is a sum of kicks, each of which grows by 1.1 a step,
#
# .. math:: y_t = \eta \sum_{s \le t} 1.1^{t - s} \xi_s, \qquad
#    \mathrm{std}(y_t) \approx \frac{\eta\, \sigma}{\sqrt{1.1^2 - 1}}\, 1.1^t,
#
# which reaches 1 at step 88. Half of the runs are past a few steps later. What would be a nuisance at a minimum helps
# here.


def noisy_saddle(w, noise):
    """The saddle, its gradient seen through noise."""
    return saddle(w) + noise @ w


ridge = {name: trajectory(tx, saddle, jnp.array([1.0, 0.0]), STEPS).points[-1] for name, tx in methods.items()}
noise = 1e-3 * jax.random.normal(jax.random.key(0), (100, STEPS, 2))
freed = jax.vmap(lambda xi: trajectory(jol.sgd(RATE), noisy_saddle, jnp.array([1.0, 0.0]), STEPS, batches=xi).points)(
    noise
)
freed_after = np.array([steps_to_pass(points) for points in freed])
print(f"from y = 0 without noise: y = {float(ridge['gradient descent'][1])} after {STEPS} steps")
print(f"from y = 0 with noise: past after {np.median(freed_after):.0f} steps (median of 100 runs)")

# %%
# On the left the paths: descent and momentum first roll to the pass, the others leave at once, as steep as it goes,
# because they treat a slope of a millionth like a slope of one. On the right the same on a logarithmic scale.

figure, (left, right) = plt.subplots(1, 2, figsize=(9.5, 3.8))
x, y, height = grid(saddle, (-0.8, 1.25), (-0.15, 1.45), points=80)
left.contour(x, y, height, levels=np.linspace(-1, 0.75, 15), colors="#CCCCCC", linewidths=0.8, linestyles="solid")
shown = {"gradient descent": ("C0", "o"), "momentum": ("C1", "s"), "Adam": ("C2", "^"), "RMSProp": ("C3", "D")}
for name, (color, marker) in shown.items():
    points = np.asarray(paths[name])[: passed[name] + 2]
    left.plot(*points.T, color=color, marker=marker, markersize=3, linewidth=1.1, label=name)
left.plot(0, 0, "+", color="black", markersize=12)
left.set(title="Four ways past a saddle", xlabel="$x$, up", ylabel="$y$, down", xlim=(-0.8, 1.25), ylim=(-0.15, 1.45))
left.legend(loc="upper right", frameon=True, framealpha=1, edgecolor="none")
left.grid(visible=False)
for name, (color, _) in shown.items():
    end = passed[name]
    right.semilogy(np.abs(np.asarray(paths[name])[: end + 1, 1]), color=color)
right.semilogy(np.abs(freed[0][: freed_after[0] + 1, 1]), color="0.6", linewidth=1.0)
right.axhline(1, color="0.5", linestyle=":")
for text, at, color in (
    ("descent", (112, 1e-3), "C0"),
    ("momentum", (33, 3e-6), "C1"),
    ("Adam", (13, 0.2), "C2"),
    ("RMSProp", (7, 2.2), "C3"),
    ("from $y = 0$\nwith noise", (77, 2e-2), "0.5"),
):
    right.text(*at, text, color=color, fontsize=8)
right.set(title="Distance from the ridge", xlabel="step", ylabel="$|y|$", ylim=(5e-7, 8))
plt.show()

# %%
# A network on a saddle
# ---------------------
# A network has such a point where everybody would start if nobody had told them not to: all weights 0. The hidden units
# give 0, so the outgoing weights get no gradient; the outgoing weights are 0, so the incoming ones get none. With
# :math:`\tanh` units and output biases at the logarithms of the classes' shares, the whole gradient is zero. The
# Hessian there is known: it couples the incoming weights of each hidden unit with its outgoing ones and is zero between
# any other weights. Hence its eigenvalues for the weights come in pairs
#
# .. math:: \pm \sigma_i, \qquad \sigma_i \text{ the singular values of } \frac{1}{N} \sum_n \mathbf{x}_n
#    (\mathbf{p} - \mathbf{o}_n)^\top,
#
# once for every hidden unit. Half of what is curved leads down.

HIDDEN = 8
images, labels = (array[:500] for array in load_digits(return_X_y=True))
inputs, targets = jnp.asarray(images / 16, jnp.float32), jax.nn.one_hot(labels, 10)
shares = targets.mean(axis=0)


def loss(w):
    """Mean cross-entropy of a network 64-8-10 on 500 digits."""
    hidden = jnp.tanh(inputs @ w["in"] + w["in bias"])
    return jnp.mean(optax.softmax_cross_entropy(hidden @ w["out"] + w["out bias"], targets))


def weights(scale_in, scale_out):
    """Gaussian weights; biases that know the shares of the classes and nothing else."""
    one, two = jax.random.split(jax.random.key(0))
    return {
        "in": scale_in * jax.random.normal(one, (64, HIDDEN)),
        "in bias": jnp.zeros(HIDDEN),
        "out": scale_out * jax.random.normal(two, (HIDDEN, 10)),
        "out bias": jnp.log(shares),
    }


zero, near_zero, usual = weights(0.0, 0.0), weights(1e-3, 1e-3), weights(64**-0.5, HIDDEN**-0.5)
slope = optax.tree.norm(jax.grad(loss)(zero))
matrix = jax.jit(lambda w: hessian(loss, w))
at_zero, vectors_at_zero = map(np.asarray, jnp.linalg.eigh(matrix(zero)))
sigma = np.linalg.svd(np.asarray(inputs.T @ (shares - targets)) / len(inputs), compute_uv=False)
print(f"at zero weights: |gradient| {slope:.0e}, eigenvalues {at_zero[0]:.4f} to {at_zero[-1]:.4f}")
print(f"largest singular value {sigma[0]:.4f}; {np.sum(at_zero < -1e-3)} of {at_zero.size} eigenvalues are negative")

# %%
# Nobody starts exactly there, but small weights start near. Then the loss stands still for a long time and falls
# suddenly, and the smallest eigenvalue says when: along its eigenvector descent grows by a factor of
# :math:`1 + \eta |\lambda_{\min}|` a step. What looks like a plateau, or like a minimum that is not good enough, is a
# saddle being left.

TRAIN_RATE, TRAIN_STEPS = 0.5, 600


downhill = vectors_at_zero[:, 0]


def way_down(w):
    """How far the weights are from the saddle along the steepest way down."""
    return ravel_pytree(w)[0] @ downhill


trainers = {
    "gradient descent": jol.sgd(TRAIN_RATE),
    "momentum": jol.momentum(TRAIN_RATE, 0.9),
    "Adam, rate 0.01": jol.adam(0.01),
}
runs = {name: trajectory(tx, loss, near_zero, TRAIN_STEPS, keep=way_down) for name, tx in trainers.items()}
stuck = trajectory(jol.adam(0.01), loss, zero, TRAIN_STEPS, keep=way_down)
distances = runs["gradient descent"].points
growth = (distances[30] / distances[10]) ** (1 / 20)
predicted = 1 - TRAIN_RATE * at_zero[0]
print(f"descent leaves the saddle by a factor of {growth:.4f} a step; predicted {predicted:.4f}")

# %%
# After training the way down is gone: what is left of negative curvature is less than a hundredth of the largest
# eigenvalue, at a saddle as much as the largest, and at an ordinary random start more than half of it. The densities on
# the right are not taken from the matrix but from 240 products with it (stochastic Lanczos quadrature), as one would
# do for a network whose matrix does not fit into memory.

places = {"saddle": zero, "random start": usual, "trained": runs["gradient descent"].params}
lanczos = jax.jit(lambda w: extreme_eigenvalues(loss, w, jax.random.key(1), steps=60))
ratios, errors = {}, {}
for name, place in places.items():
    exact = np.asarray(jnp.linalg.eigvalsh(matrix(place)))
    found = np.array(lanczos(place))
    ratios[name] = -exact[0] / exact[-1]
    errors[name] = np.abs(found - exact[[0, -1]]).max() / exact[-1]
    print(f"{name:12} eigenvalues {exact[0]:8.4f} to {exact[-1]:6.3f}; negative / positive {ratios[name]:.4f}")

quadrature = jax.jit(lambda w: spectral_density(loss, w, jax.random.key(2), probes=4, steps=60, width=0.02))
figure, axes = plt.subplot_mosaic([["loss", name] for name in places], figsize=(9.5, 4.2))
for name, run in runs.items():
    axes["loss"].plot(run.values[:200], label=name)
axes["loss"].plot(stuck.values[:200], color="0.5", linestyle=":", label="Adam, from zero weights")
axes["loss"].set(title="A plateau is a saddle", xlabel="step", ylabel="cross-entropy (nats)", ylim=(0, 2.6))
axes["loss"].legend(loc="center right", bbox_to_anchor=(1, 0.7))
for name, place in places.items():
    points, density = quadrature(place)
    for side, color in ((points <= 0, "C1"), (points >= 0, "C0")):
        axes[name].fill_between(points, density, 1e-3, where=side, color=color, linewidth=0)
    axes[name].set(yscale="log", xlim=(-1.5, 2.5), ylim=(1e-3, 60), yticks=[1e-2, 1e0])
    axes[name].text(2.45, 12, name, ha="right", fontweight="bold")
axes["saddle"].set(title="What leads down (left) is gone after training", xticklabels=[])
axes["random start"].set(ylabel="density", xticklabels=[])
axes["trained"].set(xlabel="eigenvalue of the Hessian")
plt.show()

# %%
# Assertions
# ----------

assert abs(passed["gradient descent"] - np.log(1e6) / np.log(1.1)) < 1.5
assert passed == {"gradient descent": 145, "momentum": 52, "AdaGrad": 19, "Adam": 11, "RMSProp": 5}
assert usual_adagrad == 64
assert all(point[1] == 0 for point in ridge.values()), "exactly on the ridge nobody leaves"
assert 75 < np.median(freed_after) < 115, "with noise descent is past near step 89"
assert slope < 1e-6
np.testing.assert_allclose(at_zero[[0, -1]], [-sigma[0], sigma[0]], rtol=1e-3)
assert np.sum(at_zero < -1e-3) == 9 * HIDDEN, "nine singular values (the ten classes sum to 0) for each hidden unit"
np.testing.assert_allclose(growth, predicted, rtol=2e-3)
assert np.ptp(stuck.values) < 1e-4, "from zero weights the loss stays"
assert runs["gradient descent"].values[40] > 2.2
assert runs["momentum"].values[40] < 1.5, "momentum leaves the saddle earlier"
np.testing.assert_allclose(ratios["saddle"], 1, rtol=1e-3)
assert ratios["random start"] > 0.1
assert ratios["trained"] < 0.02
assert max(errors.values()) < 1e-3, "60 products find the ends of a spectrum of 610 eigenvalues"
