"""What random optimizers draw, for their oracles."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxopt_lectures.optimizers.psgd_kron import when


def whitening(shape, steps, leaf, leaves, seed=0):
    """The oracle's `probes` and `fits` for one parameter of so many."""
    key, probes, fits = jax.random.key(seed), [], []
    seen = shape if len(shape) == 2 and min(shape) > 1 else (int(np.prod(shape)), 1)
    for t in range(steps):
        own = jax.random.fold_in(key, t)
        probes.append(np.asarray(jax.random.normal(jax.random.split(own, leaves)[leaf], seen, jnp.float32)))
        now, balance = np.asarray(jax.random.uniform(own, (2,), jnp.float32))
        fits.append((bool(now < when(jnp.int32(t))), bool(balance < 0.01)))
    return {"probes": probes, "fits": fits}
