r"""
Schedules
=========

Lecture 001 lists "scheduled learning" and gives its algorithm 8.1 a sequence of rates, :math:`\rho_1, \rho_2, \ldots`,
without saying which. A schedule here is a function of t, the updates made so far, and :math:`\rho_k` is its value at
:math:`t = k - 1`. The page draws the usual ones, tries them on a noisy quadratic and on handwritten digits, each at its
own best rate, and shows that every number of an optimizer, not the rate alone, may be one. Among them is the "slowly
increasing type of schedule for the momentum parameter" of lecture 002 (Sutskever et al., 2013):

.. math:: \mu_t = \min\left( 1 - \frac{1}{2 (\lfloor t / 250 \rfloor + 1)},\; \mu_{\max} \right).
"""

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from flax import nnx

import jaxopt_lectures as jol
from jaxopt_lectures import tasks
from jaxopt_lectures.diagnostics.trajectories import trajectory
from jaxopt_lectures.tasks.surfaces import quadratic

plt.style.use("jaxopt_lectures.diagnostics.lectures")

# %%
# The shapes
# ----------
# Each from its highest rate, which is 1 here, for a run of so many steps. Large steps first, to come near; small ones
# at the end, to come to rest. The warm-up before them spares the first steps, when the gradients are largest and the
# means of an adaptive method have seen little.

SCHEDULES = {
    "constant": lambda steps: jol.constant_schedule(1.0),
    "step": lambda steps: jol.step_schedule(1.0, step_size=steps // 5, decay_rate=0.3),
    "exponential": lambda steps: jol.exponential_decay(1.0, transition_steps=steps, decay_rate=0.01),
    "cosine": lambda steps: jol.cosine_decay_schedule(1.0, decay_steps=steps),
    "warm-up, cosine": lambda steps: jol.warmup_cosine_decay_schedule(0.0, 1.0, steps // 10, decay_steps=steps),
    "one cycle": lambda steps: jol.cosine_onecycle_schedule(steps, 1.0),
    "warm-up, stable, decay": lambda steps: jol.warmup_stable_decay_schedule(
        0.0, 1.0, warmup_steps=steps // 10, stable_steps=steps - steps // 10 - steps // 5, decay_steps=steps // 5
    ),
    "inverse root": lambda steps: jol.inverse_sqrt_schedule(1.0, warmup_steps=steps // 20),
}


def slowly(steps):
    """Momentum 0.5, 0.75, 0.83... up to 0.9, and 0.5 again at the end to come to rest."""
    return jol.sutskever_momentum_schedule(
        0.9, period=steps // 20, final_value=0.5, final_steps=steps // 10, total_steps=steps
    )


def values_of(schedule, steps):
    """What a schedule is at 0, 1, ..., steps."""
    return jax.jit(jax.vmap(schedule))(jnp.arange(steps + 1))


STEPS = 1000
t = np.arange(STEPS + 1)
figure, axes = plt.subplots(3, 3, figsize=(9.5, 6), sharex=True, sharey=True)
for cell, (name, make) in zip(axes.flat, SCHEDULES.items(), strict=False):
    cell.plot(t, values_of(make(STEPS), STEPS))
    cell.set(title=name, ylim=(0, 1.08))
axes[2, 2].plot(t, values_of(slowly(STEPS), STEPS), color="C1")
axes[2, 2].set_title("Sutskever's momentum")
for cell in axes[2]:
    cell.set_xlabel("step")
for cell in axes[:, 0]:
    cell.set_ylabel("rate / peak")
axes[2, 2].set_ylabel("momentum")
plt.show()

# %%
# A noisy quadratic
# -----------------
# Ten curvatures from 1 to 100, and noise of standard deviation 1 in every gradient. A constant rate has to be a
# compromise: small enough for the noise in the end, and then too small for the way there. A falling rate needs none.
# Every schedule is tried at 12 peaks, 32 runs each. A table is a schedule too, ``lambda t: peak * shape[t]``, and
# ``jax.vmap`` over peaks and shapes makes all of it one program.

DIMENSIONS, RUNS = 10, 32
valley = quadratic(100.0, DIMENSIONS)
noises = jax.random.normal(jax.random.key(0), (RUNS, STEPS, DIMENSIONS))
far = jnp.full(DIMENSIONS, 3.0)
shapes = jnp.stack([values_of(make(STEPS), STEPS) for make in SCHEDULES.values()])
peaks = np.geomspace(1e-4, 0.02, 12)  # 2 / L = 0.02 is the edge


def descend(shape, peak):
    """The function's value before and after each step, the mean of the runs."""
    tx = jol.sgd(lambda t: peak * shape[t])
    return jax.vmap(
        lambda noise: trajectory(tx, lambda w, e: valley(w) + e @ w, far, STEPS, batches=noise, keep=valley).points
    )(noises).mean(axis=0)


curves, ends = {}, {}
values = np.asarray(jax.jit(jax.vmap(jax.vmap(descend, (None, 0)), (0, None)))(shapes, peaks))  # schedule, peak, step
for name, at_peaks in zip(SCHEDULES, values, strict=True):
    last = at_peaks[:, -20:].mean(axis=1)
    curves[name], ends[name] = at_peaks[last.argmin()], last.min()
    print(f"noisy quadratic, {name:23} best peak {peaks[last.argmin()]:.4f}: ends at {last.min():.4f}")

# %%
# Digits
# ------
# The network with 4810 weights, Adam, 300 steps with batches of 16, which are noisy; 8 networks, 5 peaks between 0.008
# and 0.1. What is counted is the loss over all training examples after the last step, at each schedule's best peak.

SEEDS, LENGTH, BATCH = 8, 300, 16
task = tasks.get("digits")
data = task.data()
images, labels = (jnp.asarray(part) for part in data.train)
graph = nnx.split(task.model(0), nnx.Param)[0]
first = [nnx.split(task.model(seed), nnx.Param)[1] for seed in range(SEEDS)]
first = jax.tree.map(lambda *leaves: jnp.stack(leaves), *first)
rows = jax.random.randint(jax.random.key(1), (SEEDS, LENGTH, BATCH), 0, len(images))


def loss(params, batch):
    """Cross-entropy of one batch."""
    return task.loss(nnx.merge(graph, params), images[batch], labels[batch])


def train(shape, peak):
    """Training loss over all examples and validation error in per cent, means of the seeds."""
    tx = jol.adam(lambda t: peak * shape[t])

    def one(params, batches):
        end = trajectory(tx, loss, params, LENGTH, batches=batches, keep=lambda w: ()).params
        model = nnx.merge(graph, end)
        return task.loss(model, images, labels), 100 * (1 - task.metric(model, *data.validation))

    return [value.mean() for value in jax.vmap(one)(first, rows)]


digit_peaks = np.geomspace(8e-3, 1e-1, 5)
digit_shapes = jnp.stack([values_of(make(LENGTH), LENGTH) for make in SCHEDULES.values()])
final, errors = jax.jit(jax.vmap(jax.vmap(train, (None, 0)), (0, None)))(digit_shapes, digit_peaks)
trained = {}
for name, values, wrong in zip(SCHEDULES, np.asarray(final), np.asarray(errors), strict=True):
    at = values.argmin()
    trained[name] = values[at]
    print(
        f"digits, {name:23} best peak {digit_peaks[at]:.4f}: training loss {values[at]:.3f}, "
        f"validation error {wrong[at]:.1f} %"
    )

figure, (left, right) = plt.subplots(1, 2, figsize=(9.5, 3.6), width_ratios=(1.15, 1))
shown = {"constant": "C0", "inverse root": "C1", "warm-up, stable, decay": "C2", "cosine": "C3"}
for name, color in shown.items():
    left.semilogy(t, curves[name], color=color, linewidth=1.4, label=name)
left.set(title="Noisy quadratic: the rate has to fall in the end", xlabel="step", ylabel="f, mean of 32 runs")
left.legend(loc="upper right")
order = sorted(trained, key=trained.__getitem__)
right.barh(order, [trained[name] for name in order], color=[shown.get(name, "0.7") for name in order], height=0.65)
right.set(title="Digits: loss after 300 steps", xlabel="training loss, nats")
right.grid(visible=False, axis="y")
plt.show()

# %%
# What counts is to begin large and to end small. On the quadratic all that fall beat the constant rate. On digits the
# step and the exponential decay gain least: they spend most of so short a run at small rates. Which shape is best
# depends on the task and on the length of the run; a cosine is rarely far from it.
#
# Every number may be a schedule
# ------------------------------
# Momentum, the decays of Adam's means, weight decay: each argument is a number or a function of t. Here momentum
# follows Sutskever while the rate warms up and falls, and AdamW's weight decay fades linearly while its rate follows a
# cosine. Where no gradient acts, all that is left of AdamW is :math:`w_T = w_0 \prod_t (1 - \eta_t \lambda_t)`.

rate = jol.warmup_cosine_decay_schedule(0.0, 0.02, warmup_steps=30, decay_steps=300)
both = trajectory(jol.momentum(rate, slowly(300)), valley, far, 300, keep=valley).points
rate_alone = trajectory(jol.sgd(rate), valley, far, 300, keep=valley).points
print(f"valley without noise, scheduled rate {rate_alone[-1]:.1e}, and scheduled momentum {both[-1]:.1e}")

cosine, fading = jol.cosine_decay_schedule(0.1, 200), jol.linear_schedule(0.5, 0.0, 200)
decayed = trajectory(jol.adamw(cosine, weight_decay=fading), lambda w: 0.0 * w, jnp.ones(()), 200).points
product = jnp.cumprod(1 - values_of(cosine, 199) * values_of(fading, 199))
print(f"AdamW without gradient: w is {decayed[-1]:.6f} after 200 steps, the product is {product[-1]:.6f}")

# %%
# Schedules are joined with ``jol.join_schedules``, and any function of t will do as one: ``lambda t: 0.1 / (1 + t)``.
#
# Assertions
# ----------

assert ends["cosine"] < ends["constant"] / 4
assert all(value < 0.8 * ends["constant"] for name, value in ends.items() if name != "constant")
assert trained["cosine"] < 0.75 * trained["constant"]
assert all(trained[name] < 0.9 * trained["constant"] for name in ("warm-up, cosine", "one cycle", "inverse root"))
assert both[-1] < rate_alone[-1] / 100
np.testing.assert_allclose(decayed[1:], product, rtol=1e-4)  # 200 steps, one rounding of 6e-8 or two at each
