"""What rounding does to training: bfloat16 parameters, and Adam's bias correction in float32."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxopt_lectures as jol
from tests.oracles import oracle


def bfloat16_loss(tx, steps=4000):
    """Loss of a 64-dim quadratic, curvature 1..50, minimum at 0.3, from 1, parameters in bfloat16."""
    curvature = jnp.linspace(1, 50, 64)

    def loss(w):
        return 0.5 * jnp.sum(curvature * (w.astype(jnp.float32) - 0.3) ** 2)

    def step(carry, _):
        w, state = carry
        updates, state = tx.update(jax.grad(loss)(w), state, w)
        return (optax.apply_updates(w, updates), state), None

    w = jnp.ones((64,), jnp.bfloat16)
    (w, _), _ = jax.jit(lambda c: jax.lax.scan(step, c, length=steps))((w, tx.init(w)))
    return float(loss(w))


def distance_to_float64(factory, steps, b2=0.9999, rate=1e-2):
    """Largest error of the sum of Adam's float32 updates against NumPy float64, over 64 coordinates."""
    gradients = np.random.default_rng(0).normal(size=(steps, 64)).astype(np.float32)
    truth = oracle("adam")(np.zeros(64), gradients, learning_rate=rate, b2=b2)[-1]
    tx = factory(rate, b2=b2)

    def step(state, g):
        updates, state = tx.update(g, state)
        return state, updates

    _, updates = jax.jit(lambda s: jax.lax.scan(step, s, gradients))(tx.init(jnp.zeros(64)))
    return float(np.max(np.abs(np.asarray(updates, np.float64).sum(0) - truth)))


def rows():
    """The measured rows."""
    return {
        "bfloat16 parameters, Adam at 1e-2, 4000 steps: loss": {
            "ours": bfloat16_loss(jol.adam(1e-2)),
            "peer": bfloat16_loss(optax.adam(1e-2)),
            "target": "<= 6e-4",
        },
        "Adam against float64, b2=0.9999, 20 steps": {
            "ours": distance_to_float64(jol.adam, 20),
            "peer": distance_to_float64(optax.adam, 20),
            "target": "<= 1e-7",
        },
        "Adam against float64, b2=0.9999, 20,000 steps": {
            "ours": distance_to_float64(jol.adam, 20_000),
            "peer": distance_to_float64(optax.adam, 20_000),
        },
    }
