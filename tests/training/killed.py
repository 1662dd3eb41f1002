"""A training run to be killed: `python -m tests.training.killed FOLDER TASK WAY STEPS`; ends by a line, its digest."""

import hashlib
import sys

import jax
import numpy as np

import jaxopt_lectures as jol


def digest(state):
    """Of every bit of the state."""
    is_key = lambda leaf: jax.numpy.issubdtype(leaf.dtype, jax.dtypes.prng_key)  # noqa: E731
    leaves = [jax.random.key_data(leaf) if is_key(leaf) else leaf for leaf in jax.tree.leaves(state)]
    return hashlib.sha256(b"".join(np.asarray(leaf).tobytes() for leaf in leaves)).hexdigest()


def main(folder, task, way, steps):
    """Trains to the end."""
    tx = jol.adam(jol.cosine_decay_schedule(1e-3, steps))
    history = jol.fit(
        jol.tasks.get(task), tx, steps=steps, checkpoint=folder, checkpoint_seconds=0.2, eval_every=steps // 20, way=way
    )
    sys.stdout.write(f"digest {digest(history.state)}\n")


if __name__ == "__main__":
    main(*sys.argv[1:4], int(sys.argv[4]))
