"""Burgers' equation solved by a network that knows it, and the exact solution to judge it by.

`u_t + u u_x = nu u_xx` for x in [-1, 1], t in [0, 1]; u = -sin(pi x) at t = 0, u = 0 at both ends. The viscosity nu is
0.05: the literature's 0.01 / pi makes a front too steep to be learnt in a few minutes.

Sources: M. Raissi, P. Perdikaris, G. Karniadakis, "Physics-informed neural networks", J. Comput. Phys. 378, 2019;
C. Basdevant et al., "Spectral and finite difference solutions of the Burgers equation", Computers & Fluids 14, 1986
(the solution after Cole and Hopf).
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxopt_lectures.models.mlp import MLP
from jaxopt_lectures.tasks.task import Data, Examples, Task

VISCOSITY = 0.05
_POINTS = 4096  # inside, to train
_TIMES, _PLACES = 21, 101  # the grid to validate on
_NODES = 128  # of the quadrature: with 64 it is right to 1e-9, with 128 to rounding


def solution(t: np.ndarray, x: np.ndarray, viscosity: float = VISCOSITY) -> np.ndarray:
    """The exact solution u(t, x), by Gauss-Hermite quadrature in float64.

    With f(y) = exp(-cos(pi y) / (2 pi nu)) and y = x - 2 sqrt(nu t) z, it is
    -int sin(pi y) f(y) exp(-z^2) dz / int f(y) exp(-z^2) dz.

    Args:
      t: times, >= 0.
      x: places, of the same shape.
      viscosity: nu > 0, not much below 0.003: the terms grow as exp(1 / (2 pi nu)).
    """
    z, weight = np.polynomial.hermite.hermgauss(_NODES)
    t, x = np.asarray(t, float), np.asarray(x, float)
    y = x[..., None] - 2 * np.sqrt(viscosity * t)[..., None] * z
    # The largest exponent is taken out: it stands above and below.
    f = weight * np.exp((-np.cos(np.pi * y) - 1) / (2 * np.pi * viscosity))
    return -np.sum(np.sin(np.pi * y) * f, axis=-1) / np.sum(f, axis=-1)


def data() -> Data:
    """Random points (t, x) inside to train, a regular grid to validate; the target is the solution there.

    (n, 2) and (n, 1) float32. The loss does not look at the targets: the equation is all it is told.
    """
    rng = np.random.default_rng(0)
    inside = np.column_stack([rng.uniform(0, 1, _POINTS), rng.uniform(-1, 1, _POINTS)])
    grid = np.stack(np.meshgrid(np.linspace(0, 1, _TIMES), np.linspace(-1, 1, _PLACES), indexing="ij"), axis=-1)
    return Data(*(_solved(points) for points in (inside, grid.reshape(-1, 2))))


def _solved(points: np.ndarray) -> Examples:
    u = solution(points[:, 0], points[:, 1])[:, None]
    return Examples(points.astype(np.float32), u.astype(np.float32))


def residual(model: Any, points: jax.Array) -> jax.Array:
    """`u_t + u u_x - nu u_xx` of the network's u at points (n, 2); (n,)."""

    def at(point: jax.Array) -> jax.Array:
        def u(t: jax.Array, x: jax.Array) -> jax.Array:
            return model(jnp.stack([t, x]))[0]

        t, x = point
        along = jax.grad(u, argnums=1)
        u_t = jax.grad(u)(t, x)
        u_x, u_xx = jax.jvp(lambda x: along(t, x), (x,), (jnp.ones_like(x),))
        return u_t + u(t, x) * u_x - VISCOSITY * u_xx

    return jax.vmap(at)(points)


def violation(model: Any, x: jax.Array, y: jax.Array) -> jax.Array:
    """How far the network is from the equation, its start and its ends: the sum of three mean squares.

    Every example (t, x) gives a point (t, x) for the equation, (0, x) for the start, (t, -1) and (t, 1) for the ends.
    """
    t, place = x[:, :1], x[:, 1:]
    start = model(jnp.concatenate([jnp.zeros_like(t), place], axis=1)) + jnp.sin(jnp.pi * place)
    ends = [model(jnp.concatenate([t, jnp.full_like(t, end)], axis=1)) for end in (-1.0, 1.0)]
    return jnp.mean(residual(model, x) ** 2) + jnp.mean(start**2) + sum(jnp.mean(end**2) for end in ends)


def relative_error(model: Any, x: jax.Array, y: jax.Array) -> jax.Array:
    """|u_network - u| / |u|, both norms over all points."""
    return jnp.linalg.norm(model(x) - y) / jnp.linalg.norm(y)


def model(seed: int) -> nnx.Module:
    """Time and place in, three hidden layers of 24 units with tanh: a solution needs two derivatives."""
    return MLP((2, 24, 24, 24, 1), activation=jnp.tanh, rngs=nnx.Rngs(seed))


burgers = Task(
    name="burgers",
    summary="Burgers' equation with viscosity 0.05, perceptron 2-24-24-24-1",
    model=model,
    loss=violation,
    metric=relative_error,
    data=data,
    batch_size=256,
    target=0.05,
    steps=2000,
    metric_name="error",
    metric_unit="",
    larger_is_better=False,
)
