"""Rosenbrock's valley with n - 1 bends."""

import jax.numpy as jnp
import numpy as np

from .problem import Problem, vector

# From four dimensions on there is a second minimum, near (-1, 1, ..., 1). These are its values for n = 4, 5, ..., 13;
# later ones differ from LIMIT by less than 1e-6.
LOCAL_MINIMA = (
    *(3.701428610430018, 3.930839434133028, 3.973940500930295, 3.9836005364248543, 3.98588776959949),
    *(3.986442823247814, 3.986579112347138, 3.9866127694509754, 3.9866211047205926, 3.986623171864493),
)
LIMIT = 3.9866238543


def chained_rosenbrock(x):
    """sum 100 (x[i+1] - x[i]^2)^2 + (1 - x[i])^2."""
    return jnp.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


def rosenbrock(n: int) -> Problem:
    """The chained problem in n dimensions, from -1.2, 1, -1.2, 1, ..."""
    local = () if n < 4 else ((*LOCAL_MINIMA, LIMIT)[min(n - 4, len(LOCAL_MINIMA))],)
    return Problem(
        name=f"chained_rosenbrock_{n}",
        number="Rosenbrock",
        fun=chained_rosenbrock,
        start=vector(np.resize((-1.2, 1.0), n)),
        minimum=0.0,
        minima=(0.0, *local),
        solution=vector(np.ones(n)),
    )
