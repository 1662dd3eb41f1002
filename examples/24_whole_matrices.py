r"""
Whole matrices
==============

Adam gives each weight a rate of its own. But the weights of a layer are a matrix, and gradients of layers have a few
large singular values and many small ones: what is to be learnt along the small ones waits. Muon takes the momentum's
singular value decomposition and makes all singular values 1,

.. math:: M = U \Sigma V^T, \qquad W \leftarrow W - \eta\, U V^T,

without a decomposition: a polynomial of odd powers, :math:`p(X) = a X + b\, X X^T X + c\, (X X^T)^2 X`, takes every
singular value :math:`\sigma` to :math:`p(\sigma)` and leaves :math:`U` and :math:`V`.
"""

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

import jaxopt_lectures as jol
from jaxopt_lectures.linalg.orthogonal import coefficients

plt.style.use("jaxopt_lectures.diagnostics.lectures")

# %%
# Five polynomials
# ----------------
# Jordan's quintic is one polynomial, as steep at 0 as it can be; the Polar Express is another at every step, each the
# best for what the one before has left.

sigma = np.geomspace(1e-3, 1, 2000)
figure, axis = plt.subplots(figsize=(7.2, 2.8))
ends = {}
for preset, steps in (("quintic", 5), ("polar_express", 5), ("polar_express", 8)):
    s = sigma
    for a, b, c in coefficients(preset, steps):
        s = a * s + b * s**3 + c * s**5
    ends[preset, steps] = s
    axis.plot(sigma, s, label=f"{preset.replace('_', ' ')}, {steps} steps")
axis.set(xscale="log", xlabel="singular value before", ylabel="after", ylim=(0, 1.3))
axis.legend(loc="lower right")
plt.show()

assert ends["quintic", 5][sigma > 0.01].min() > 0.68
assert ends["quintic", 5].max() < 1.21
assert np.abs(ends["polar_express", 8] - 1).max() < 0.02

# %%
# A layer whose inputs differ in size
# -----------------------------------
# Inputs of 32 directions, from 1 to 1/30, turned so that no weight belongs to one of them. AdamW's rates for single
# weights do not help; what sees the matrix finds the directions. Each has the best of six rates.

rng = np.random.default_rng(0)
turn = np.linalg.qr(rng.normal(size=(32, 32)))[0]
x = jnp.asarray(rng.normal(size=(512, 32)) * np.geomspace(1, 1 / 30, 32) @ turn, jnp.float32)
target = x @ jnp.asarray(turn.T @ rng.normal(size=(32, 24)), jnp.float32)
STEPS = 300


def loss(w):
    """Mean squared error of a linear layer."""
    return jnp.mean((x @ w - target) ** 2)


def descent(factory, rate):
    """The losses of a run, its rate falling to 0."""
    tx = factory(jol.linear_schedule(rate, 0.0, STEPS))

    def step(carry, _):
        w, state = carry
        value, gradient = jax.value_and_grad(loss)(w)
        updates, state = tx.update(gradient, state, w)
        return (jol.apply_updates(w, updates), state), value

    w = jnp.zeros((32, 24))
    return jax.lax.scan(step, (w, tx.init(w)), length=STEPS)[1]


methods = {
    "adamw": jol.adamw,
    "muon": jol.muon,
    "soap": jol.soap,
    "shampoo": jol.shampoo,
    "psgd_kron": jol.psgd_kron,
}
rates = np.geomspace(3e-3, 1, 6)
best = {}
for name, factory in methods.items():
    run = jax.jit(lambda rate, factory=factory: descent(factory, rate))
    curves = [np.asarray(run(float(rate))) for rate in rates]
    best[name] = min(curves, key=lambda curve: curve[-1] if np.isfinite(curve[-1]) else np.inf)

figure, axis = plt.subplots(figsize=(7.2, 3.2))
for name, curve in best.items():
    axis.plot(curve, label=name)
axis.set(yscale="log", xlabel="step", ylabel="loss")
axis.legend(ncols=2)
plt.show()

for name, curve in best.items():
    print(f"{name:10} {curve[-1]:.1e}")
assert min(best["soap"][-1], best["shampoo"][-1]) < best["adamw"][-1] / 10

# %%
# What is a matrix?
# -----------------
# Not every array is one: embeddings and last layers map tokens and classes, biases are vectors. ``jol.explain`` says
# what an optimizer does with each parameter, and what it keeps.

params = {
    "embed": {"embedding": jnp.ones((50, 8))},
    "block": {"kernel": jnp.ones((8, 8)), "bias": jnp.ones(8)},
    "conv": {"kernel": jnp.ones((3, 3, 8, 16))},
    "head": {"kernel": jnp.ones((8, 50))},
}
print(jol.explain(jol.muon(3e-3), params))
assert {row.path: row.treatment for row in jol.explain(jol.muon(3e-3), params).rows}["head/kernel"] == "adamw"
