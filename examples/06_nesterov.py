r"""
Nesterov's look-ahead
=====================

Lecture 002: "momentum could overshoot the local minima". Nesterov's gradient looks first where the velocity is about to
carry the weights, and takes the gradient there:

.. math::

   W_{fut} = W_{t-1} - \gamma V_{t-1}, \qquad
   V_t = \gamma V_{t-1} + \alpha \nabla f(W_{fut}), \qquad
   W_t = W_{t-1} - V_t.

The page shows the overshoot, then what the method is famous for: on every convex function it is sure to come near the
minimum as :math:`1 / k^2`, where gradient descent is sure of :math:`1 / k` only. The lecture calls it "superior to
momentum for conventional optimization". The end of the page says under which conditions.
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
# Overshoot
# ---------
# On :math:`w^2 / 2`, from 1, rate 0.1, momentum 0.9: both methods arrive with a velocity that carries them past the
# minimum. The look-ahead sees the slope on the other side one step earlier and brakes, so it goes 0.35 too far where
# momentum goes 0.60.

RATE, DECAY, START = 0.1, 0.9, jnp.ones(())


def parabola(w):
    """Curvature 1, minimum at 0."""
    return w**2 / 2


swings = {
    "momentum": np.asarray(trajectory(jol.momentum(RATE, DECAY), parabola, START, 60).points),
    "Nesterov": np.asarray(trajectory(jol.nesterov(RATE, DECAY), parabola, START, 60).points),
}
for name, path in swings.items():
    print(f"{name}: overshoots by {-path.min():.2f}")

# %%
# Two ways to take the gradient elsewhere
# ---------------------------------------
# An optimizer is handed a gradient and cannot say where it was taken. So either the training loop asks where it is
# wanted (``lookahead=True``; the parameters are :math:`W`),

weights = START
tx = jol.nesterov(RATE, DECAY, lookahead=True)
state = tx.init(weights)
for _ in range(20):
    gradient = jax.grad(parabola)(jol.gradient_point(state, weights))  # at W_fut
    updates, state = tx.update(gradient, state, weights)
    weights = jol.apply_updates(weights, updates)

# %%
# or the parameters *are* the points ahead, the loop is the usual one, and :math:`W` is asked for when it is needed:

ahead = START
tx = jol.nesterov(RATE, DECAY)
state = tx.init(ahead)
for _ in range(20):
    updates, state = tx.update(jax.grad(parabola)(ahead), state, ahead)
    ahead = jol.apply_updates(ahead, updates)
same_weights = jol.eval_params(state, ahead)
print(f"after 20 steps: W = {weights:.6f} and {same_weights:.6f}, while the point ahead is {ahead:.6f}")

# %%
# The promise
# -----------
# Let f be convex with curvatures of at most L, and :math:`x^*` its minimum. With the rate :math:`1 / L` and a momentum
# that grows, 0, 0, 1/4, 2/5, 3/6, ..., that is :math:`(t - 1) / (t + 2)` at update t = 1, 2, ...,
#
# .. math:: f(x_k) - f^* \le \frac{2 L \lVert x_0 - x^* \rVert^2}{(k + 1)^2} \qquad \text{for every } k.
#
# No method that uses gradients alone can promise more than a constant times better while there are more directions than
# steps. Gradient descent is only sure of :math:`L \lVert x_0 - x^* \rVert^2 / 2k`. The function here has 200 curvatures
# between :math:`10^{-6}` and 1, evenly spread on the logarithmic scale: however long one waits, some directions are too
# flat to have arrived.

DIMENSIONS, STEPS = 200, 1000


def flat(w):
    """Curvatures from 1e-6 to L = 1, minimum 0 at 0."""
    return quadratic(1e6, DIMENSIONS)(w) / 1e6


def growing(t):
    """Nesterov's momentum for convex functions; t counts the updates made, from 0."""
    return jnp.maximum(t - 1, 0) / (t + 2)


methods = {
    "gradient descent": jol.sgd(1.0),
    "momentum 0.9": jol.momentum(1.0, 0.9),
    "Nesterov": jol.nesterov(1.0, growing),
}
k = np.arange(1, STEPS + 1)
bound = 2 * DIMENSIONS / (k + 1) ** 2  # L = 1 and |x_0 - x*|^2 = 200
with jax.enable_x64(True):
    exact = {
        name: np.asarray(trajectory(tx, flat, jnp.ones(DIMENSIONS), STEPS, keep=flat).points)[1:]
        for name, tx in methods.items()
    }
print(f"{'f - f* after':17}" + "".join(f"{steps:10} steps" for steps in (10, 100, 1000)))
for name, values in (exact | {"the bound": bound}).items():
    print(f"{name:17}" + "".join(f"{values[steps - 1]:16.1e}" for steps in (10, 100, 1000)))

# %%
# "Superior": where?
# ------------------
# *For convex functions.* The bound needs nothing else, and momentum has no such bound. On a quadratic whose L and
# :math:`\mu` are known, tuned momentum is even faster (see the page on valleys: 3.5e-7 after 100 steps, Nesterov
# 2.9e-4). But the same tuning fails on the next convex function. Its slope is :math:`25 x` up to 1, :math:`x + 24` up
# to 2, then :math:`25 x - 24`: curvatures between 1 and 25. Momentum with the best numbers for quadratics of these
# curvatures runs through the same three points for ever (L. Lessard, B. Recht, A. Packard, 2016, equation 4.11).
# Nesterov's method converges on all of them.


def kinked(x):
    """Strongly convex, curvature 25, 1 and 25 again, minimum 0 at 0."""
    return jnp.where(x < 1, 25 * x**2 / 2, jnp.where(x < 2, x**2 / 2 + 24 * x - 12, 25 * x**2 / 2 - 24 * x + 36))


L, MU = 25.0, 1.0
kappa = L / MU
tuned = {
    "momentum": jol.momentum(4 / (L**0.5 + MU**0.5) ** 2, ((kappa**0.5 - 1) / (kappa**0.5 + 1)) ** 2),
    "Nesterov": jol.nesterov(1 / L, (kappa**0.5 - 1) / (kappa**0.5 + 1)),
}
circles = {name: np.asarray(trajectory(tx, kinked, jnp.array(3.3), 60).points) for name, tx in tuned.items()}
print("momentum on the kinked function, last points:", np.round(circles["momentum"][-6:], 3))
print("Nesterov on the kinked function, last points:", np.round(circles["Nesterov"][-6:], 3))

figure, (left, right) = plt.subplots(1, 2, figsize=(9.5, 3.4))
for (name, path), color in zip(swings.items(), ("C1", "C2"), strict=True):
    left.plot(path, color=color)
    left.plot(path.argmin(), path.min(), "o", color=color, markersize=4)
    left.text(path.argmin() + 6, path.min() - 0.06, f"{name}: {path.min():.2f}", color=color)
left.axhline(0, color="0.5", linewidth=0.8)
left.set(title="Overshoot on $w^2 / 2$", xlabel="step", ylabel="$w$", ylim=(-0.85, 1.05))
for (name, path), color in zip(circles.items(), ("C1", "C2"), strict=True):
    right.plot(path[:31], color=color, marker="o", markersize=3.5, linewidth=1.1, label=name)
right.set(title="A convex function on which momentum circles", xlabel="step", ylabel="$x$", ylim=(-3.6, 4.2))
right.legend(ncols=2, loc="upper right")
plt.show()

# %%
# *For exact gradients.* The growing momentum is a memory that gets longer and longer, and it sums up noise as well.
# With noise of standard deviation 0.001 in every coordinate of every gradient, the distance first falls as before and
# then grows, until Nesterov's method is the worst of the three. Mini-batches of a neural network are of this kind, and
# their functions are not convex: there the momentum is kept below 1 (Sutskever et al., 2013) and nothing is promised.

with jax.enable_x64(True):
    noises = 1e-3 * jax.random.normal(jax.random.key(0), (8, STEPS, DIMENSIONS))  # 8 runs
    noisy = {
        name: np.asarray(
            jax.vmap(
                lambda noise, tx=tx: (
                    trajectory(
                        tx, lambda w, e: flat(w) + e @ w, jnp.ones(DIMENSIONS), STEPS, batches=noise, keep=flat
                    ).points
                )
            )(noises)
        ).mean(axis=0)[1:]
        for name, tx in methods.items()
    }
for name, values in noisy.items():
    print(f"{name:17} f - f* after 1000 steps with noise: {values[-1]:.1e}")

figure, (left, right) = plt.subplots(1, 2, figsize=(9.5, 3.6), sharey=True)
for axes, results in ((left, exact), (right, noisy)):
    for name, values in results.items():
        axes.loglog(k, values, label=name)
left.loglog(k, bound, color="black", linestyle=":", linewidth=1.2)
left.text(40, 0.5, r"bound $2 L \Vert x_0 - x^* \Vert^2 / (k+1)^2$", color="0.2")
left.set(title="Exact gradients: the bound holds at every step", xlabel="step k", ylabel="$f(x_k) - f^*$")
left.legend(loc="lower left")
right.set(title="Noisy gradients: Nesterov ends worst", xlabel="step k", ylim=(1e-5, 200))
plt.show()

# %%
# Assertions
# ----------

assert -swings["Nesterov"].min() < 0.65 * -swings["momentum"].min()
np.testing.assert_allclose(-swings["momentum"].min(), 0.6037, atol=1e-3)
np.testing.assert_allclose(weights, same_weights, atol=1e-5)  # 20 steps of a few float32 roundings each
assert abs(ahead - same_weights) > 1e-3
assert (exact["Nesterov"] <= bound).all(), "the bound holds at every step"
assert (exact["gradient descent"] <= DIMENSIONS / 2 / k).all()
assert exact["Nesterov"][-1] < exact["momentum 0.9"][-1] / 5 < exact["gradient descent"][-1] / 25
assert noisy["Nesterov"][-1] > 1.3 * noisy["gradient descent"][-1] > 1.3 * noisy["momentum 0.9"][-1]
assert noisy["Nesterov"].min() < noisy["Nesterov"][-1] / 2, "it was nearer before"
np.testing.assert_allclose(np.sort(circles["momentum"][-3:]), [-1.8024, 0.6465, 2.1159], atol=1e-3)
assert abs(circles["Nesterov"][-1]) < 1e-6
valley, start = quadratic(100.0), jnp.ones(2)
ends = [
    jnp.linalg.norm(trajectory(tx, valley, start, 100).points[-1])
    for tx in (jol.momentum(4 / 11**2, (9 / 11) ** 2), jol.nesterov(1 / 100, 9 / 11))
]
np.testing.assert_allclose(ends, [3.5e-7, 2.9e-4], rtol=0.1)
