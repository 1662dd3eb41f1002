r"""
Adam's three claims
===================

Adam divides a running mean of the gradient by the root of a running mean of its square:

.. math::

   \begin{aligned}
   m_t &= \beta_1 m_{t-1} + (1 - \beta_1)\, g_t, \qquad v_t = \beta_2 v_{t-1} + (1 - \beta_2)\, g_t^2, \\
   \hat m_t &= \frac{m_t}{1 - \beta_1^t}, \quad \hat v_t = \frac{v_t}{1 - \beta_2^t}, \qquad
   w_{t+1} = w_t - \eta \frac{\hat m_t}{\sqrt{\hat v_t} + \epsilon}.
   \end{aligned}

Lecture 002 quotes three claims for it: AdaGrad's "ability to deal with sparse gradients", RMSProp's "ability to deal
with non-stationary objectives", and "faster progress in terms of both the number of iterations and wall-clock time".
Each is put to a test in which it can fail. The first two hold. The third, in steps, holds against gradient descent,
AdaGrad and RMSProp; momentum, with its rate tuned as carefully, needs as few on this task. In time it depends on what a
step costs.
"""

import time

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from flax import nnx

import jaxopt_lectures as jol
from jaxopt_lectures import tasks
from jaxopt_lectures.diagnostics.trajectories import trajectory

plt.style.use("jaxopt_lectures.diagnostics.lectures")

OPTIMIZERS = {
    "sgd": jol.sgd,
    "momentum": jol.momentum,
    "adagrad": lambda rate: jol.adagrad(rate, initial_accumulator_value=0.0),
    "rmsprop": jol.rmsprop,
    "adam": jol.adam,
}
COLORS = {name: f"C{index}" for index, name in enumerate((*OPTIMIZERS, "nesterov"))}


def steps_until(reached):
    """The first index along the last axis where it is true; infinity where it never is."""
    return np.where(reached.any(axis=-1), reached.argmax(axis=-1), np.inf)


# %%
# Sparse gradients
# ----------------
# A linear rule with 48 inputs, each 1 or -1 where it is present and 0 where not: 16 are present in half of the
# examples, 16 in 5 %, 16 in 0.5 %, as words are in texts. A weight has a gradient only when its input is there, so that
# the loss is 100 times flatter along a rare input's weight than along a common one's. Gradient descent has one rate for
# both. What is counted: steps until the mean squared error of the weights is below 0.1 in each of the three groups,
# with batches of 64. Every optimizer is tried at 13 rates, in one program (``jax.vmap``). The
# adaptive methods need 15 to 34 steps, gradient descent 134; momentum, a help in every valley, 62.

STEPS, BATCH, GROUPS = 1500, 64, (0.5, 0.05, 0.005)
present = jnp.repeat(jnp.asarray(GROUPS), 16)
truth = jnp.where(jnp.arange(48) % 2 == 0, 1.0, -1.0)
keys = jax.random.split(jax.random.key(0), 3)
shape = (STEPS, BATCH, 48)
x = jnp.where(jax.random.uniform(keys[0], shape) < present, jax.random.rademacher(keys[1], shape, jnp.float32), 0)
y = x @ truth + 0.5 * jax.random.normal(keys[2], shape[:2])


def squared_error(w, batch):
    """The mean over one batch."""
    inputs, targets = batch
    return jnp.mean((inputs @ w - targets) ** 2)


def worst_group(w):
    """The mean squared error of the weights, of the group where it is largest."""
    return jnp.max(jnp.mean(((w - truth) ** 2).reshape(3, 16), axis=1))


rates = np.geomspace(3e-3, 3, 13)
sparse_steps = {}
for name, make in OPTIMIZERS.items():
    errors = jax.jit(
        jax.vmap(
            lambda rate, make=make: (
                trajectory(make(rate), squared_error, jnp.zeros(48), STEPS, batches=(x, y), keep=worst_group).points
            )
        )
    )(rates)
    sparse_steps[name] = steps_until(np.asarray(errors) < 0.1)
    at = sparse_steps[name].argmin()
    print(f"sparse gradients, {name:9} best: {sparse_steps[name][at]:4.0f} steps, at rate {rates[at]:.3f}")

# %%
# Non-stationary objectives
# -------------------------
# A minimum that jumps between -1 and 1 every 250 steps, its gradient :math:`w - c_t` seen through noise. AdaGrad's sum
# of squares remembers everything, its steps get shorter and shorter, and it arrives later after each jump, in the end
# not at all. RMSProp and Adam forget, and are as quick after the eighth jump as after the second. (So is plain gradient
# descent: what is dangerous here is a rate that only falls.)

JUMPS, PHASE, COPIES = 8, 250, 64
wanted = jnp.repeat(jnp.where(jnp.arange(JUMPS) % 2 == 0, 1.0, -1.0), PHASE)
seen = (wanted, 0.5 * jax.random.normal(jax.random.key(1), (JUMPS * PHASE, COPIES)))


def moving(w, at):
    """A parabola around the minimum of the day, for 64 copies of the weight, each with its own noise."""
    center, noise = at
    return jnp.sum((w - center) ** 2 / 2 + noise * w)


followers = {
    "sgd": jol.sgd(0.05),
    "adagrad": jol.adagrad(0.25, initial_accumulator_value=0.0),
    "rmsprop": jol.rmsprop(0.05),
    "adam": jol.adam(0.05),
}
tracks, arrivals = {}, {}
for name, tx in followers.items():
    run = jax.jit(lambda tx=tx: trajectory(tx, moving, jnp.full(COPIES, -1.0), JUMPS * PHASE, batches=seen).points)
    tracks[name] = np.asarray(run()).mean(axis=1)
    near = np.abs(tracks[name][1:] - wanted) < 0.2
    arrivals[name] = np.minimum(steps_until(near.reshape(JUMPS, PHASE)) + 1, PHASE)
    print(f"jumping minimum, {name:9} steps to arrive after each jump:", *arrivals[name].astype(int))

figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.6), width_ratios=(1, 1.35))
for name, steps in sparse_steps.items():
    left.loglog(rates, steps, color=COLORS[name], marker="o", markersize=3, label=name)
left.set(title="Sparse gradients: steps to the target", xlabel="learning rate", ylabel="steps", ylim=(8, 2500))
left.legend(loc="lower left")
right.step(np.arange(JUMPS * PHASE), wanted, color="0.75", linewidth=4, label="minimum")
for name in ("adagrad", "rmsprop", "adam"):
    right.plot(tracks[name], color=COLORS[name], linewidth=1.3, label=name)
right.set(title="A minimum that jumps: AdaGrad falls behind", xlabel="step", ylabel="$w$, mean of 64 runs")
right.set(ylim=(-1.3, 1.75))
right.legend(loc="upper right", ncols=4)
plt.show()

# %%
# Iterations and time
# -------------------
# Handwritten digits, a network with 4810 weights, batches of 64. What is counted: steps until the training loss, meaned
# over 10 steps, is below 0.1. Every optimizer is tried at 13 rates between 0.003 and 3 from the same 3 first weights;
# its best rate is the one with the fewest steps in the mean. The clock is read too: all the compiled programs are run
# in turn, three times, and a step's time is the median over these.

SEEDS, LENGTH, SMOOTH, REPEATS = 3, 300, 10, 3
task = tasks.get("digits")
images, labels = (jnp.asarray(part) for part in task.data().train)
graph = nnx.split(task.model(0), nnx.Param)[0]
first = [nnx.split(task.model(seed), nnx.Param)[1] for seed in range(SEEDS)]
first = jax.tree.map(lambda *leaves: jnp.stack(leaves), *first)
rows = jax.random.randint(jax.random.key(2), (SEEDS, LENGTH, BATCH), 0, len(images))


def training_loss(params, batch):
    """Cross-entropy of one batch."""
    return task.loss(nnx.merge(graph, params), images[batch], labels[batch])


def losses(make, rate):
    """The training loss at each step, from each of the first weights."""
    return jax.vmap(
        lambda params, batches: (
            trajectory(make(rate), training_loss, params, LENGTH, batches=batches, keep=lambda w: ()).values
        )
    )(first, rows)


digit_rates = np.geomspace(3e-3, 3, 13)
digits, forgiving, best_losses, best_rates = {}, {}, {}, {}
sweeps = {
    name: jax.jit(jax.vmap(lambda rate, make=make: losses(make, rate))).lower(digit_rates).compile()
    for name, make in (OPTIMIZERS | {"nesterov": jol.nesterov}).items()
}
found, seconds = {}, {name: [] for name in sweeps}
for _ in range(REPEATS):
    for name, sweep in sweeps.items():
        began = time.perf_counter()
        found[name] = jax.block_until_ready(sweep(digit_rates))  # (rates, seeds, steps)
        seconds[name].append(time.perf_counter() - began)
for name in sweeps:
    values = np.nan_to_num(found[name], nan=np.inf)
    per_step = np.median(seconds[name]) / values.size
    # the mean loss over the last 10 steps, at each step from the 10th on
    smooth = np.lib.stride_tricks.sliding_window_view(values, SMOOTH, axis=-1).mean(axis=-1)
    needed = (steps_until(smooth < 0.1) + SMOOTH).mean(axis=1)
    at = needed.argmin()
    digits[name], best_rates[name] = needed[at], digit_rates[at]
    best_losses[name], forgiving[name] = smooth[at].mean(axis=0), np.sum(needed <= 2 * needed[at])
    print(
        f"digits, {name:9} best rate {digit_rates[at]:.4f}: {needed[at]:4.0f} steps of {per_step * 1e6:3.0f} us, "
        f"{needed[at] * per_step * 1e3:.1f} ms; within twice the best at {forgiving[name]} of 13 rates"
    )

# %%
# Counted in steps, Adam needs less than half of gradient descent's, and about half of AdaGrad's and RMSProp's. Momentum
# and Nesterov's method, tuned as carefully, are as good: on this task it is the momentum in Adam that helps. The
# adaptive methods forgive more: more of their rates are within twice the best. The time is that of the steps times what
# one step costs, and that depends on the network, the batch and the machine: Adam's update reads and writes two more
# numbers for every weight than gradient descent's. The times printed above are of one small network on one machine, and
# change from run to run: read them, but take the steps for the result.
#
# The first steps
# ---------------
# Both means start at 0 and are too small at first, by the factors :math:`1 - \beta^t`, which Adam divides by. Without
# it (lecture 003's listing has none) a constant gradient makes steps of
# :math:`\eta (1 - \beta_1^t) / \sqrt{1 - \beta_2^t}` instead of :math:`\eta`: 3.2 times too long at first, 6.6 times at
# the twelfth. It takes some thousand steps until both agree.

FIRST = 3000
corrected, uncorrected = (
    -np.diff(trajectory(tx, lambda w: w, jnp.zeros(()), FIRST).points)
    for tx in (jol.adam(1.0), jol.adam(1.0, bias_correction=False))
)
print(f"first step without bias correction: {uncorrected[0]:.2f}, longest {uncorrected.max():.2f} at step", end=" ")
print(uncorrected.argmax() + 1)

figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.6))
for name, values in best_losses.items():
    label = f"{name}, rate {best_rates[name]:.2g}"
    left.semilogy(np.arange(SMOOTH, LENGTH + 1)[:250], values[:250], color=COLORS[name], linewidth=1.4, label=label)
left.axhline(0.1, color="0.4", linestyle=":", linewidth=1)
left.set(title="Digits, each at its best rate", xlabel="step", ylabel="training loss, nats", ylim=(0.01, 2.6))
left.legend(loc="upper right")
right.semilogx(np.arange(1, FIRST + 1), corrected, color="C4", label="with bias correction")
right.semilogx(np.arange(1, FIRST + 1), uncorrected, color="C4", linestyle="--", label="without")
right.set(title="Steps for a constant gradient", xlabel="step", ylabel="length / learning rate", ylim=(0, 7.5))
right.legend(loc="upper right")
plt.show()

# %%
# Assertions
# ----------

fewest = {name: steps.min() for name, steps in sparse_steps.items()}
for name in ("adagrad", "rmsprop", "adam"):
    assert fewest[name] < fewest["sgd"] / 2, "adaptive methods deal with sparse gradients"
for name in ("sgd", "rmsprop", "adam"):
    assert arrivals[name][1:].max() < 1.5 * arrivals[name][1:].min(), "as quick after each jump"
assert (np.diff(arrivals["adagrad"][:4]) > 0).all()
assert arrivals["adagrad"][-1] > 3 * arrivals["adagrad"][0], "AdaGrad dies"
assert digits["adam"] < 0.7 * digits["sgd"]
assert digits["adam"] < 0.85 * digits["adagrad"]
assert digits["adam"] < 0.85 * digits["rmsprop"]
assert digits["adam"] > 0.6 * min(digits["momentum"], digits["nesterov"]), "tuned momentum is not left behind"
assert min(forgiving[name] for name in ("adagrad", "rmsprop", "adam")) > forgiving["sgd"]
step = np.arange(1, FIRST + 1)
np.testing.assert_allclose(uncorrected, (1 - 0.9**step) / np.sqrt(1 - 0.999**step), rtol=2e-3)
np.testing.assert_allclose(corrected, 1, rtol=2e-3)  # differences of sums up to 3000 in float32: 3000 / 2^24
