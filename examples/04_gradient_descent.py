r"""
Gradient descent, one example at a time, mini-batches
=====================================================

Lecture 002 names three ways to use N training examples: all of them for every step (gradient descent), one for every
step (stochastic gradient descent), or a few (mini-batch); lecture 003 proposes 32, 64 or 128. Algorithm 8.1 of lecture
001 covers all three, with :math:`B = N`, 1 or between:

.. math::

   \hat{\mathbf{g}} \leftarrow
   \frac{1}{B} \nabla_\theta \sum_{i=1}^{B} L(f(\mathbf{x}^{(i)}; \theta), \mathbf{y}^{(i)}),
   \qquad \theta \leftarrow \theta - \rho_k \hat{\mathbf{g}}.

The page measures what a batch buys (noise that falls as :math:`1 / B`) and what it costs (examples), what is left of
the noise at the end, and which sequences :math:`\rho_1, \rho_2, \ldots` remove it.
"""

import time

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

import jaxopt_lectures as jol
from jaxopt_lectures.diagnostics.trajectories import trajectory
from jaxopt_lectures.losses import mse

plt.style.use("jaxopt_lectures.diagnostics.lectures")

# %%
# The data: 1024 examples of a linear rule with 8 inputs, and noise of standard deviation 1 in every target. The loss is
# the mean squared error, a parabola with Hessian :math:`H = 2 X^\top X / N`, so that the distance from the best loss,
# :math:`C(\theta) - C^* = (\theta - \theta^*)^\top H (\theta - \theta^*) / 2`, is known without rounding it away.

EXAMPLES, INPUTS, RUNS = 1024, 8, 16
key_x, key_noise = jax.random.split(jax.random.key(0))
x = jax.random.normal(key_x, (EXAMPLES, INPUTS)) * jnp.geomspace(1.0, 0.4, INPUTS)
y = x @ jnp.linspace(1.0, 2.0, INPUTS) + jax.random.normal(key_noise, (EXAMPLES,))
best = jnp.linalg.lstsq(x, y)[0]
hessian = 2 * x.T @ x / EXAMPLES


def loss(theta, rows):
    """The mean over one batch."""
    return mse(y[rows], x[rows] @ theta)


def excess(theta):
    """By how much the loss over all examples is above its minimum."""
    return (theta - best) @ hessian @ (theta - best) / 2


# %%
# What a batch buys
# -----------------
# A batch's gradient is the mean of B examples' gradients, each off by its own noise with covariance :math:`\Sigma`. If
# they are drawn independently,
#
# .. math:: \mathrm{E} \lVert \hat{\mathbf{g}} - \nabla C \rVert^2 = \frac{\mathrm{tr}\, \Sigma}{B}.
#
# Four times the examples for half the noise. (This is also why the mean of lecture 001's "superimposed" gradients is
# taken: the sum would be B times as long.)

gradients = jax.vmap(jax.grad(loss), (None, 0))(best, jnp.arange(EXAMPLES)[:, None])  # one example each
off = np.asarray(gradients - gradients.mean(axis=0))
noise_of_one = np.sum(off.var(axis=0))  # the trace of Sigma
sizes, drawn = np.array([1, 4, 16, 32, 64, 128, 256]), 2000
rows = np.asarray(jax.random.randint(jax.random.key(2), (drawn, sizes[-1]), 0, EXAMPLES))
means = np.cumsum(off[rows], axis=1)[:, sizes - 1] / sizes[:, None]  # of the first B examples of every draw
squares = np.sum(means**2, axis=-1)
noise, error = squares.mean(axis=0), squares.std(axis=0) / drawn**0.5  # with the standard error of that mean

# %%
# What a batch costs
# ------------------
# The same rate for all batch sizes, 16 runs each, all in one program. Two ways to count: steps and examples.

RATE, STEPS = 0.02, {1: 16 * EXAMPLES, 32: 2048, 64: 2048, 128: 2048, EXAMPLES: 2048}


def run(key, size, steps, rate=RATE):
    """The excess before and after each of so many steps with batches of that size, drawn independently."""
    rows = jax.random.randint(key, (steps, size), 0, EXAMPLES)
    rows = jnp.arange(EXAMPLES)[None].repeat(steps, 0) if size == EXAMPLES else rows
    return trajectory(jol.sgd(rate), loss, jnp.zeros(INPUTS), steps, batches=rows, keep=excess).points


def mean_of_runs(size, steps, rate=RATE):
    """The mean over the runs, and the seconds that one run took for one epoch."""
    keys = jax.random.split(jax.random.key(1), 1 if size == EXAMPLES else RUNS)  # all examples: no chance in it
    program = jax.jit(jax.vmap(lambda key: run(key, size, steps, rate))).lower(keys).compile()
    began = time.perf_counter()
    points = np.asarray(program(keys))
    return points.mean(axis=0), (time.perf_counter() - began) / len(keys) / (steps * size / EXAMPLES)


runs, seconds = {}, {}
for size, steps in STEPS.items():
    runs[size], seconds[size] = mean_of_runs(size, steps)

# %%
# Counted in steps, all go the same way: the step is the same in the mean. Each leaves the common line where its own
# noise takes over. A step shrinks the error by :math:`\rho \lambda` of it and adds noise :math:`\rho^2 \Sigma / B`; the
# two balance at
#
# .. math:: C - C^* \approx \frac{\rho\, \mathrm{tr}\, \Sigma}{4 B}.
#
# Counted in examples, one example a step wins by far, until it stands at its floor: it takes 1024 steps where gradient
# descent takes one. Counted in seconds it is different again: a processor works on 32 examples in little more time than
# on one, so that an epoch of single examples takes longest. Hence mini-batches.

floor = {size: RATE * float(noise_of_one) / 4 / size for size in STEPS if size < EXAMPLES}
ends = {size: runs[size][len(runs[size]) // 2 :].mean() for size in STEPS}
print("batch   excess after        excess    rho tr(Sigma)   time of")
print("        32 steps  1 epoch   in the end   / (4 B)      an epoch")
for size, values in runs.items():
    words = f"{floor[size]:.2g}" if size in floor else "-"
    print(
        f"{size:5} {values[32]:9.2f} {values[EXAMPLES // size]:9.2f} {ends[size]:12.1e} {words:>10} "
        f"{seconds[size] * 1e3:12.2f} ms"
    )

figure, (left, right) = plt.subplots(1, 2, figsize=(9.5, 3.6), sharey=True)
names = {1: "1 example", 32: "32", 64: "64", 128: "128", EXAMPLES: "all 1024"}
for size, values in runs.items():
    left.loglog(np.arange(1, 2049), values[1:2049], linewidth=1.4)
    right.loglog(np.arange(1, len(values)) * size, values[1:], linewidth=1.4, label=names[size])
left.set(title="Counted in steps: one line, then the floors", xlabel="steps", ylabel="loss above its minimum")
left.set(ylim=(2e-4, 15), xlim=(1, 1.5e4))
for size, height in (floor | {EXAMPLES: 3e-4}).items():
    left.text(2300 if size < EXAMPLES else 750, height, names[size], va="center", color=f"C{list(STEPS).index(size)}")
right.set(title="Counted in examples: small batches lead", xlabel="examples seen", xlim=(1, 3e6))
right.legend(title="batch", loc="lower left", title_fontsize=8)
plt.show()

# %%
# Removing the floor
# ------------------
# The floor is proportional to the rate, so the rate has to fall; yet if it falls too fast the weights never arrive.
# Both are said by
#
# .. math:: \sum_{k=1}^{\infty} \rho_k = \infty, \qquad \sum_{k=1}^{\infty} \rho_k^2 < \infty,
#
# which is enough to converge. :math:`\rho_k = \rho_1 / (1 + (k - 1) / 200)` satisfies both and removes the noise as
# :math:`1 / k`. :math:`\rho_k = 0.98^{k-1} \rho_1` falls too fast: all its steps together make
# :math:`\rho_1 / 0.02 = 1`, which does not reach the minimum. The algorithm counts from 1, schedules count the updates
# made: :math:`\rho_k` is ``schedule(k - 1)``.

schedules = {
    "constant": jol.constant_schedule(RATE),
    "0.98 to the power k": jol.exponential_decay(RATE, transition_steps=1, decay_rate=0.98),
    "1 / k": jol.inverse_time_schedule(RATE, decay_rate=1 / 200),
}
LONG = 32 * EXAMPLES
fading = {name: mean_of_runs(1, LONG, rate)[0] for name, rate in schedules.items()}
for name, values in fading.items():
    print(f"one example a step, rho_k {name:20} excess after 1, 8, 32 epochs:", end=" ")
    print(", ".join(f"{values[epochs * EXAMPLES]:.1e}" for epochs in (1, 8, 32)))

figure, (left, right) = plt.subplots(1, 2, figsize=(9.5, 3.6))
left.loglog(sizes, noise_of_one / sizes, color="0.6", linewidth=1, label=r"$\mathrm{tr}\,\Sigma / B$")
left.loglog(sizes, noise, "o", label="measured")
left.set(title="Noise of the gradient falls as 1/B", xlabel="batch size B")
left.set_ylabel(r"E $\Vert \hat{g} - \nabla C \Vert^2$")
left.set_xticks([1, 4, 16, 64, 256], ["1", "4", "16", "64", "256"])
left.legend()
for values in fading.values():
    right.loglog(np.arange(1, LONG + 1)[::8], values[1::8], linewidth=1.2)
right.set(title="One example a step: the rate has to fall", xlabel="steps", ylabel="loss above its minimum")
right.set(xlim=(8, 1e5), ylim=(1e-4, 20))
right.text(3e4, 3.5, r"$\rho_k \sim 0.98^k$: stops short", color="C1", ha="right")
right.text(3e4, 0.16, "constant: stays noisy", color="C0", ha="right")
right.text(1200, 2e-3, r"$\rho_k \sim 1/k$: converges", color="C2", ha="right")
plt.show()

# %%
# Shuffled data
# -------------
# Lecture 001 takes its mini-batches "from randomly shuffled data": every example comes once in an epoch. The noise of
# an epoch's batches then cancels, for together they are the whole set, and the floor is lower than that of independent
# draws.

orders = jax.vmap(lambda key: jax.random.permutation(key, EXAMPLES))(jax.random.split(jax.random.key(2), RUNS * 64))
orders = orders.reshape(RUNS, 2048, 32)
shuffled = jax.jit(
    jax.vmap(
        lambda rows: trajectory(jol.sgd(RATE), loss, jnp.zeros(INPUTS), 2048, batches=rows, keep=excess).points[1024:]
    )
)(orders).mean()
print(f"batches of 32, excess in the end: drawn independently {ends[32]:.1e}, from shuffled data {shuffled:.1e}")

# %%
# A misprint
# ----------
# Lecture 001 prints the update as :math:`\theta^{k+1} \leftarrow \theta^{k+1} - \rho \hat{\mathbf{g}}`. As an equation
# it holds only where :math:`\rho \hat{\mathbf{g}} = 0`. What is meant is :math:`\theta^{k+1} = \theta^k - \rho
# \hat{\mathbf{g}}`, which is what ``jol.sgd`` computes:

theta = jnp.ones(INPUTS)
gradient = jax.grad(loss)(theta, jnp.arange(32))
updates, _ = jol.sgd(RATE).update(gradient, jol.sgd(RATE).init(theta), theta)
following = jol.apply_updates(theta, updates)

# %%
# Assertions
# ----------

for size, measured, uncertain in zip(sizes, noise, error, strict=True):
    assert abs(measured - noise_of_one / size) < 5 * uncertain, "the noise of the gradient falls as 1 / B"
np.testing.assert_allclose([runs[size][32] for size in (32, 64, 128)], runs[EXAMPLES][32], rtol=0.05)
after_epoch = [runs[size][EXAMPLES // size] for size in STEPS]
assert after_epoch == sorted(after_epoch), "per example, the smaller the batch the better, at first"
assert after_epoch[0] < after_epoch[-1] / 30
for size, predicted in floor.items():
    # 16 runs, 1024 steps, 8 directions that remember 1 / (2 rho lambda) = 80 steps at most: the mean of some 1600
    # squares, good to 4 %; the formula leaves out terms of rho lambda_max = 4 %, for single examples rho |x|^2 = 16 %
    np.testing.assert_allclose(ends[size], predicted, rtol=0.4)
assert ends[EXAMPLES] < ends[128] / 20, "without noise there is no floor"
late = {name: values[-EXAMPLES:].mean() for name, values in fading.items()}
assert late["1 / k"] < late["constant"] / 50
assert late["0.98 to the power k"] > 1
assert shuffled < ends[32] / 2
np.testing.assert_allclose(following, theta - RATE * gradient, rtol=1e-6)
