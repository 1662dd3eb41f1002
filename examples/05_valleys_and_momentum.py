r"""
Valleys and momentum
====================

Gradient descent sees only the slope under its feet. Lecture 001 names three places where that is not enough: high
curvature, small but consistent gradients, noisy gradients. Its algorithm 8.2 gives the weights a velocity,

.. math::

   \mathbf{v} \leftarrow \alpha \mathbf{v} - \rho\, \mathbf{g}, \qquad
   \theta \leftarrow \theta + \mathbf{v},

an exponentially fading memory of past gradients. Each of the three cases is run here and compared with what the formula
says; lectures 000, 002, 003 and 004 have the same method. At the end stands what momentum does *not* do, and the two
conventions of the lectures, which part as soon as the rate changes.
"""

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

import jaxopt_lectures as jol
from jaxopt_lectures.diagnostics.trajectories import trajectory
from jaxopt_lectures.tasks.surfaces import quadratic

plt.style.use("jaxopt_lectures.diagnostics.lectures")

# %%
# High curvature: a valley
# ------------------------
# The function :math:`f(w) = (\mu w_1^2 + L w_2^2) / 2` with :math:`\mu = 1` and :math:`L = 100` is a valley, a hundred
# times steeper across than along; :math:`\kappa = L / \mu` is the condition number of its Hessian, which lecture 001
# calls "poor". One step of gradient descent multiplies :math:`w_i` by :math:`1 - \rho \lambda_i`. The rate must stay
# below :math:`2 / L` for the steep side, and then crawls along the floor. The best compromise is
# :math:`\rho = 2 / (L + \mu)`, with a factor :math:`(\kappa - 1) / (\kappa + 1) = 0.98` a step.
#
# Polyak's heavy ball does better with the same gradients: with
#
# .. math::
#
#    \rho = \frac{4}{(\sqrt{L} + \sqrt{\mu})^2}, \qquad
#    \alpha = \left( \frac{\sqrt{\kappa} - 1}{\sqrt{\kappa} + 1} \right)^2
#
# the factor becomes :math:`(\sqrt{\kappa} - 1) / (\sqrt{\kappa} + 1) = 0.82`, as if the condition number were 10. The
# price: it swings wider at first.

L, MU = 100.0, 1.0
kappa = L / MU
valley = quadratic(kappa)
start = jnp.ones(2)

descent = jol.sgd(2 / (L + MU))
heavy_ball = jol.momentum(4 / (L**0.5 + MU**0.5) ** 2, ((kappa**0.5 - 1) / (kappa**0.5 + 1)) ** 2)
methods = {"gradient descent": descent, "momentum": heavy_ball}
distances = {name: np.linalg.norm(trajectory(tx, valley, start, 100).points, axis=1) for name, tx in methods.items()}
for name, distance in distances.items():
    print(f"{name:16} |w| after 100 steps: {distance[-1]:.2g}")

# %%
# How long may a step be? On a curvature of 10 the edge is :math:`2 / L = 0.2`: at 0.199 the weight decays, at 0.2 it
# jumps between 1 and -1 for ever, at 0.201 it explodes. Half a per cent decides.

edge_rates = np.array([0.199, 0.2, 0.201])
with jax.enable_x64(True):
    wall = jax.vmap(lambda rate: trajectory(jol.sgd(rate), lambda w: 10 * w**2 / 2, jnp.ones(()), 500).points)
    at_edge = np.abs(wall(edge_rates))
for rate, end in zip(edge_rates, at_edge[:, -1], strict=True):
    print(f"curvature 10, rate {rate:.3f}: |w| after 500 steps {end:.3g}")

figure, (left, middle, right) = plt.subplots(1, 3, figsize=(10.5, 3.4), width_ratios=(1.25, 1, 1))
paths = {name: trajectory(tx, valley, jnp.array([1.0, 0.1]), 30).points for name, tx in methods.items()}
along, across = np.meshgrid(np.linspace(-0.15, 1.15, 120), np.linspace(-0.42, 0.52, 120))
height = jax.vmap(jax.vmap(valley))(jnp.stack([along, across], axis=-1))
left.contour(along, across, height, levels=np.geomspace(0.02, 8, 10), colors="#BBBBBB", linewidths=0.8)
for (name, path), marker in zip(paths.items(), "os", strict=True):
    left.plot(*path.T, marker=marker, markersize=3, linewidth=1.1, label=name)
    middle.semilogy(distances[name], label=name)
left.plot(0, 0, "*", color="black", markersize=10)
left.set(title="The first 30 steps from (1, 0.1)", xlabel="along the valley, $w_1$", ylabel="across the valley, $w_2$")
left.legend(loc="upper center", bbox_to_anchor=(0.5, 1.0), ncols=2, frameon=True, framealpha=1, edgecolor="none")
left.grid(visible=False)
middle.text(45, 0.8, "0.98 a step", color="C0")
middle.text(28, 3e-5, "0.82 a step", color="C1", ha="right")
middle.set(title="Distance from the minimum", xlabel="step", ylabel="$|w|$")
for rate, values, color in zip(edge_rates, at_edge, ("C2", "C6", "C3"), strict=True):
    right.semilogy(values, color=color)
    right.text(300, values[300] * (2.6 if rate > 0.1995 else 0.12), f"rate {rate:.3f}", color=color, ha="center")
right.set(title="The edge 2/L = 0.2", xlabel="step", ylabel="$|w|$")
plt.show()

# %%
# Small but consistent gradients
# ------------------------------
# On a long slope the gradient is small and always the same. Gradient descent takes the same small step for ever. The
# velocity adds up: :math:`\rho g (1 + \alpha + \alpha^2 + \ldots)`, so that the step grows to
#
# .. math:: \frac{\rho\, g}{1 - \alpha},
#
# ten times as long at :math:`\alpha = 0.9`, a hundred times at 0.99. :math:`\rho / (1 - \alpha)` is the *effective*
# rate.

RATE, DECAY = 0.01, 0.9


def slope(w):
    """A plane: the gradient is 1 everywhere."""
    return w.sum()


steps_on_slope = {
    name: -np.diff(trajectory(tx, slope, jnp.zeros(1), 60).points[:, 0])
    for name, tx in {"gradient descent": jol.sgd(RATE), "momentum": jol.momentum(RATE, DECAY)}.items()
}
growth = steps_on_slope["momentum"][-1] / steps_on_slope["gradient descent"][-1]
print(f"on a constant slope the step grows {growth:.2f} times")

# %%
# Noisy gradients
# ---------------
# Now every gradient is 1 plus noise of standard deviation 3, as from a small mini-batch. The velocity is a mean over
# about :math:`1 / (1 - \alpha)` gradients. Its mean grows by :math:`1 / (1 - \alpha)`, its standard deviation only by
# :math:`1 / \sqrt{1 - \alpha^2}`: relative to its mean a step of momentum is
# :math:`\sqrt{(1 + \alpha) / (1 - \alpha)} = 4.36` times less noisy.

NOISE, COPIES = 3.0, 2000
noises = NOISE * jax.random.normal(jax.random.key(0), (400, COPIES))  # every column is a run of its own


def noisy_slope(w, noise):
    """A plane seen through noise."""
    return jnp.sum((1 + noise) * w)


noisy_steps = {
    name: np.diff(-trajectory(tx, noisy_slope, jnp.zeros(COPIES), 400, batches=noises).points, axis=0)[100:]
    for name, tx in {"gradient descent": jol.sgd(RATE), "momentum": jol.momentum(RATE, DECAY)}.items()
}
spread = {name: steps.std() / steps.mean() for name, steps in noisy_steps.items()}
for name, value in spread.items():
    print(f"{name:16} noise of one step over its mean: {value:.2f}")

figure, (left, right) = plt.subplots(1, 2, figsize=(9.5, 3.4))
for name, steps in steps_on_slope.items():
    left.plot(np.arange(1, 61), steps, label=name)
left.axhline(RATE / (1 - DECAY), color="0.5", linestyle=":")
left.text(1, RATE / (1 - DECAY) * 1.03, r"$\rho g / (1 - \alpha)$", color="0.4")
left.set(title="Consistent gradients: the step grows", xlabel="step", ylabel="length of the step", ylim=(0, 0.115))
left.text(60, RATE + 0.003, "gradient descent", color="C0", ha="right")
left.text(22, 0.08, "momentum", color="C1")
for (name, steps), width in zip(noisy_steps.items(), (0.8, 2.2), strict=True):
    right.plot(steps[:120, 0] / steps.mean(), linewidth=width, label=f"{name}: noise {spread[name]:.2f}")
right.axhline(1, color="0.5", linestyle=":")
right.set(title="Noisy gradients: the step is steadier", xlabel="step", ylabel="step / its mean", ylim=(-9.5, 14.5))
right.legend(loc="upper right", ncols=2)
plt.show()

# %%
# What momentum does not do
# -------------------------
# A steadier step is not a better end. Near a minimum, with noise in every gradient, the weights wander about at a
# distance that depends on the effective rate, not on :math:`\alpha`: on :math:`w^2 / 2` the variance is
#
# .. math:: \frac{\rho (1 + \alpha)}{(1 - \alpha) (2 (1 + \alpha) - \rho)} \approx \frac{1}{2} \frac{\rho}{1 - \alpha}.
#
# With a tenth of the rate, momentum 0.9 ends where gradient descent does; at the same rate it is ten times as far.
# Against the noise that is left, only a falling rate helps (or a larger batch).


def bowl(w, noise):
    """A parabola whose gradient w is seen through noise."""
    return jnp.sum(w**2 / 2 + noise * w)


settings = {
    "gradient descent, rate 0.1": (0.1, 0.0),
    "momentum, rate 0.01": (0.01, 0.9),
    "momentum, rate 0.1": (0.1, 0.9),
}
unit_noise = noises[:300] / NOISE
floors, expected = {}, {}
for name, (rate, decay) in settings.items():
    points = trajectory(jol.momentum(rate, decay), bowl, jnp.full(COPIES, 3.0), 300, batches=unit_noise).points
    floors[name] = np.mean(np.asarray(points) ** 2, axis=1)
    expected[name] = rate * (1 + decay) / ((1 - decay) * (2 * (1 + decay) - rate))
    print(f"{name:26} mean of w^2 at the end {floors[name][-1]:.3f}, by the formula {expected[name]:.3f}")

# %%
# The two conventions
# -------------------
# Lectures 000, 001, 002 and 004 put the rate *inside* the velocity, :math:`v \leftarrow \alpha v + \rho g`. Lecture
# 003, optax and torch put it *outside*, :math:`w \leftarrow w - \rho v`. While the rate is constant both take the same
# steps. When it falls, the velocity inside still rolls on with the rates at which it was gathered; the one outside
# brakes at once. Here the gradient is 1 and the rate is halved at every step: after 8 steps the weights are at -10.3
# and -3.6.

halved = jol.step_schedule(1.0, step_size=1, decay_rate=0.5)
where = {
    "inside: jol.momentum(schedule, 0.9)": jol.momentum(halved, 0.9),
    "outside: jol.sgd(schedule, momentum=0.9)": jol.sgd(halved, momentum=0.9),
}
conventions = {name: trajectory(tx, slope, jnp.zeros(1), 8).points[:, 0] for name, tx in where.items()}
for name, points in conventions.items():
    print(f"{name:41} w after 8 halvings {points[-1]:.3f}")

figure, (left, right) = plt.subplots(1, 2, figsize=(9.5, 3.4))
for (name, values), style in zip(floors.items(), ("-", "--", "-"), strict=True):
    left.semilogy(values, linestyle=style, label=name)
left.set(title="Near a noisy minimum the effective rate decides", xlabel="step", ylabel="mean of $w^2$ over 2000 runs")
left.legend(loc="upper right")
for name, points in conventions.items():
    right.plot(points, marker="o", markersize=4, label=name)
right.set(title="Rate halved at every step: two methods", xlabel="step", ylabel="$w$", ylim=(-11, 1.8))
right.legend(loc="upper right")
plt.show()

# %%
# Assertions
# ----------

np.testing.assert_allclose(distances["gradient descent"][-1], 2**0.5 * (99 / 101) ** 100, rtol=1e-3)  # 0.19
assert distances["momentum"][-1] < 1e-6
np.testing.assert_allclose(at_edge[:, -1], [0.99**500, 1, 1.01**500], rtol=1e-6)
np.testing.assert_allclose(growth, (1 - DECAY**60) / (1 - DECAY), rtol=1e-3)
# 300 steps of 2000 runs: descent's 600,000 independent steps and momentum's 30,000 (it remembers about 20) give each of
# the four numbers to 0.4 %, the quotient of quotients to 0.8 %; five times that is 4 %.
gain = spread["gradient descent"] / spread["momentum"]
np.testing.assert_allclose(gain, ((1 + DECAY) / (1 - DECAY)) ** 0.5, rtol=0.04)
for name, values in floors.items():
    # a mean of 2000 squares of normal numbers is good to sqrt(2 / 2000) = 3.2 %; five times that is 16 %
    np.testing.assert_allclose(values[-1], expected[name], rtol=0.16)
np.testing.assert_allclose([p[-1] for p in conventions.values()], [-10.3243, -3.5858], rtol=1e-4)
