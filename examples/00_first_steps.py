"""Compose a chain with a schedule and a clip, train a Flax NNX network, sweep the learning rate in one program."""

import jax
import jax.numpy as jnp
from flax import nnx

import jaxopt_lectures as jol

key = jax.random.key(0)
x = jax.random.normal(key, (256, 8))
y = jnp.sin(x).sum(axis=1, keepdims=True)


def loss(model, x, y):
    """Mean squared error."""
    return jnp.mean((model(x) - y) ** 2)


# 1. An optimizer: a chain of a clip and AdamW, with a schedule for the rate and another for the weight decay.
schedule = jol.warmup_cosine_decay_schedule(init_value=0.0, peak_value=1e-2, warmup_steps=20, decay_steps=300)
decay = jol.linear_schedule(init_value=1e-2, end_value=0.0, transition_steps=300)
tx = jol.chain(jol.clip_by_global_norm(1.0), jol.adamw(schedule, weight_decay=decay))

# 2. Flax NNX takes it as it takes optax's.
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


# 3. Every number may be traced, so a sweep is a vmap: eight learning rates in one compiled program.
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


rates = jnp.logspace(-4, 0, 8)
found = jax.jit(jax.vmap(final_loss))(rates)
for rate, value in zip(rates, found, strict=True):
    print(f"rate {rate:8.1e}: loss {value:.4f}")

assert losses[-1] < 0.02 * losses[0]
assert found[0] > 2 * found[5], "too small a rate has not arrived after 100 steps"
assert jnp.isfinite(found).all()
