r"""
State in few bytes
==================

Adam remembers two numbers of each weight: 8 bytes, for a weight that may itself take 2. Dettmers et al. (2021) keep
each of them in one byte: blocks of 256 numbers share a scale :math:`s`, their largest, and a number is the code of the
nearest of 256 levels,

.. math:: x \approx s\, \ell_c, \qquad c = \arg\min_k \left| x / s - \ell_k \right|.

That takes a quarter of the memory. It also fails in two ways that one can see in a plot. ``jol.store`` keeps the same
bytes and does not fail, by three small changes.
"""

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax

import jaxopt_lectures as jol
from jaxopt_lectures.storage.codecs import CODECS
from jaxopt_lectures.storage.codes import decoded

plt.style.use("jaxopt_lectures.diagnostics.lectures")

# %%
# Where the levels lie
# --------------------
# A weight's :math:`v` may be a millionth of its neighbour's, so levels lie on decades, ever fewer of them further down.
# With 4 bits there are 16: for what is never negative they are the powers of one ratio.

figure, axis = plt.subplots(figsize=(7.2, 2.2))
for row, name in enumerate(("int4", "fp8", "int8")):
    levels = np.asarray(CODECS[name].nonnegative.levels.magnitudes)
    axis.plot(levels[levels > 0], np.full((levels > 0).sum(), row), "|", markersize=16, color=f"C{row}")
axis.set(xscale="log", yticks=range(3), yticklabels=["int4", "fp8", "int8"], ylim=(-0.6, 2.6))
axis.set_xlabel("level, over the largest of the block")
axis.grid(axis="y", visible=False)
plt.show()

# %%
# A valley with all curvatures
# ----------------------------
# 4096 curvatures from :math:`10^{-6}` to 1, in any order, in one array: each block has large gradients and tiny ones.
# Where :math:`v` is below the first level it becomes 0, and :math:`m / (\sqrt v + \epsilon)` is a step of thousands.
# Keeping :math:`\sqrt v` instead, and never storing 0 for what is positive, is the first change and the second.

STEPS = 2000
rng = np.random.default_rng(3)
curvatures = jnp.asarray(10 ** rng.uniform(-6, 0, 4096), jnp.float32)
first = jnp.asarray(rng.normal(size=4096), jnp.float32)
rate = jol.linear_schedule(1e-2, 0.0, STEPS)


def loss(w):
    """A diagonal quadratic."""
    return jnp.sum(curvatures * w * w) / 2


def path(tx, w, gradient, steps, seen):
    """What `seen(w, state)` was after each step, in one compiled loop."""

    def step(carry, t):
        w, state = carry
        updates, state = tx.update(gradient(w, t), state, w)
        w = jol.apply_updates(w, updates)
        return (w, state), seen(w, state)

    return jax.jit(lambda w: jax.lax.scan(step, (w, tx.init(w)), jnp.arange(steps))[1])(w)


NAMES = ("f32", "int8", "int4", "int8_nearest")
LABELS = {"f32": "float32", "int8": "int8", "int4": "int4", "int8_nearest": "int8, nearest $v$"}
curves = {
    name: path(jol.store(jol.adam(rate), name), first, lambda w, t: curvatures * w, STEPS, lambda w, s: loss(w))
    for name in NAMES
}
figure, axis = plt.subplots(figsize=(7.2, 3.6))
for name, curve in curves.items():
    axis.semilogy(np.arange(1, STEPS + 1), curve, label=f"{LABELS[name]}: {float(curve[-1]):.1e}")
axis.set(xlabel="step", ylabel="loss")
axis.legend()
plt.show()

# %%
# A mean that does not fall
# -------------------------
# A weight gets gradients for 200 steps and then none, beside one that still does. Its :math:`v` falls by a thousandth a
# step; the next level is further away than that, so the nearest level is always the one where it is. Rounded up or down
# at random, with the probability that makes the mean right, it arrives. That is the third change.

place = jnp.arange(4096) % 256
TOTAL = 4200


def pulses(w, t):
    """One active weight in each block of 256, the others for 200 steps only."""
    return jnp.where((t < 200) | (place == 0), 1.0, 0.0)


def idle(w, state):
    """The mean of v over the idle weights."""
    v = state.nu if isinstance(state.nu, jax.Array) else decoded(state.nu, (4096,))
    return jnp.sum(jnp.where(place == 0, 0.0, v)) / jnp.sum(place != 0)


figure, axis = plt.subplots(figsize=(7.2, 3.2))
left = {}
for name, style in (("f32", "-"), ("int8", "--"), ("int8_nearest", "-")):
    left[name] = path(jol.store(jol.adam(1e-3), name), jnp.zeros(4096), pulses, TOTAL, idle)
    color = f"C{NAMES.index(name)}"
    axis.semilogy(np.arange(1, TOTAL + 1), left[name], style, color=color, label=LABELS[name])
axis.set(xlabel="step", ylabel="$v$ of idle weights")
axis.legend()
plt.show()

# %%
# Weights in bfloat16
# -------------------
# The same rounding lets weights be 2 bytes. Next to 1, bfloat16 has 0.996 and 1.008; an update of -0.001 changes
# nothing, a hundred of them neither. ``jol.round_stochastic`` rounds the sum at random; ``jol.compensate`` keeps what
# was lost.

give = optax.identity()
down = jnp.full(1000, -1e-3)
weights = {
    "added and rounded": give,
    "round_stochastic": jol.round_stochastic(give),
    "compensate": jol.compensate(give),
}
figure, axis = plt.subplots(figsize=(7.2, 3.2))
means = {}
for label, tx in weights.items():
    ones = jnp.ones(1000, jnp.bfloat16)
    means[label] = path(tx, ones, lambda w, t: down, 100, lambda w, s: jnp.mean(w.astype(jnp.float32)))
    axis.plot(np.arange(1, 101), means[label], label=label)
axis.set(xlabel="step", ylabel="mean of 1000 weights")
axis.legend()
plt.show()

# %%
# What it takes
# -------------
# Bytes of state for each parameter of a matrix of a million, by codec.

matrix = {"w": jax.ShapeDtypeStruct((1024, 1024), jnp.float32)}
sizes = {}
for name in ("f32", "bf16", "int8", "int4"):
    state = jax.eval_shape(jol.store(jol.adam(1e-3), name).init, matrix)
    sizes[name] = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state) if leaf.ndim) / 1024**2
    print(f"{name:5} {sizes[name]:.4f} bytes a parameter, {sizes[name] * 175:5.0f} GB for 175e9")

# %%
# Assertions
# ----------

assert sizes["int8"] == 2 * (1 + 4 / 256)
assert sizes["int4"] == 2 * (0.5 + 4 / 128)
assert float(curves["int8"][-1]) < 1e-5 < float(curves["int4"][-1]) < 2e-2
assert float(curves["int8_nearest"][-1]) > 30
exact = (1 - 0.999**200) * 0.999**4000
assert abs(float(left["int8"][-1]) / exact - 1) < 0.1
assert float(left["int8_nearest"][-1]) / exact > 100
assert float(means["added and rounded"][-1]) == 1.0
assert abs(float(means["round_stochastic"][-1]) - 0.9) < 0.005
assert abs(float(means["compensate"][-1]) - 0.9) < 0.002
