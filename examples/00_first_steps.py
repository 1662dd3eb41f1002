r"""
First steps
===========

An optimizer is composed from parts, trains a Flax NNX network, and is swept over its learning rate in one compiled
program. The optimizer is AdamW behind a clip of the gradient's norm,

.. math::

   \mathbf{g} \leftarrow \mathbf{g} \min\left(1, \frac{1}{\lVert \mathbf{g} \rVert}\right), \qquad
   w \leftarrow w - \eta_t \left( \frac{\hat m_t}{\sqrt{\hat v_t} + \epsilon} + \lambda_t w \right),

with a schedule for the rate :math:`\eta_t` and another one for the weight decay :math:`\lambda_t`.
"""

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
from flax import nnx

import jaxopt_lectures as jol

plt.style.use("jaxopt_lectures.diagnostics.lectures")

# %%
# Something to learn: a sum of eight sines, from 256 examples.

key = jax.random.key(0)
x = jax.random.normal(key, (256, 8))
y = jnp.sin(x).sum(axis=1, keepdims=True)


def loss(model, x, y):
    """Mean squared error."""
    return jnp.mean((model(x) - y) ** 2)


# %%
# An optimizer
# ------------
# A chain of a clip and AdamW. The rate rises for 20 steps and then follows a cosine; the weight decay fades linearly.

schedule = jol.warmup_cosine_decay_schedule(init_value=0.0, peak_value=1e-2, warmup_steps=20, decay_steps=300)
decay = jol.linear_schedule(init_value=1e-2, end_value=0.0, transition_steps=300)
tx = jol.chain(jol.clip_by_global_norm(1.0), jol.adamw(schedule, weight_decay=decay))

# %%
# Training a network
# ------------------
# Flax NNX takes it as it takes optax's.

model = nnx.Sequential(nnx.Linear(8, 64, rngs=nnx.Rngs(0)), nnx.tanh, nnx.Linear(64, 1, rngs=nnx.Rngs(1)))
optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)


@nnx.jit
def step(model, optimizer):
    """One update."""
    value, gradients = nnx.value_and_grad(loss)(model, x, y)
    optimizer.update(model, gradients)
    return value


losses = [float(step(model, optimizer)) for _ in range(300)]
print(f"NNX: loss {losses[0]:.3f} -> {losses[-1]:.4f}")
print(f"norm of the last gradient before clipping: {float(optimizer.opt_state[0].norm[...]):.3f}")

# %%
# A sweep
# -------
# Every number may be traced, so a sweep is a ``jax.vmap``: 17 learning rates in one compiled program, here for a linear
# model.


def final_loss(rate):
    """Loss after 100 steps at this rate."""
    tx = jol.adam(jol.cosine_decay_schedule(rate, decay_steps=100))
    w = jnp.zeros((8, 1))

    def update(carry, _):
        w, state = carry
        gradient = jax.grad(lambda w: jnp.mean((x @ w - y) ** 2))(w)
        updates, state = tx.update(gradient, state, w)
        return (jol.apply_updates(w, updates), state), None

    (w, _), _ = jax.lax.scan(update, (w, tx.init(w)), length=100)
    return jnp.mean((x @ w - y) ** 2)


rates = jnp.logspace(-4, 0, 17)
found = jax.jit(jax.vmap(final_loss))(rates)
for rate, value in zip(rates[::2], found[::2], strict=True):
    print(f"rate {rate:8.1e}: loss {value:.4f}")

figure, (left, right) = plt.subplots(1, 2, figsize=(9.5, 3.4))
left.semilogy(losses)
left.set(title="A network of 64 hidden units", xlabel="step", ylabel="mean squared error")
right.semilogx(rates, found, marker="o", markersize=4, color="C2")
right.set(
    title="A linear model, 17 rates in one program",
    xlabel="learning rate",
    ylabel="error after 100 steps",
    ylim=(0, 3.4),
)
plt.show()

# %%
# Assertions
# ----------

assert losses[-1] < 0.02 * losses[0]
assert found[0] > 2 * found[10], "too small a rate has not arrived after 100 steps"
assert jnp.isfinite(found).all()
