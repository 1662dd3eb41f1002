"""Burgers' equation: the exact solution obeys it, and so would a network that is the solution."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxopt_lectures import tasks
from jaxopt_lectures.tasks import burgers

NU = burgers.VISCOSITY


def test_the_solution_obeys_the_equation():
    t, x = np.meshgrid(np.linspace(0.1, 0.9, 9), np.linspace(-0.95, 0.95, 39), indexing="ij")
    h, u = 1e-3, burgers.solution
    # Five points each: errors of h^4 / 30 times fifth derivatives, which reach 6e5 at the front, so 2e-8.
    first, second = np.array([1, -8, 0, 8, -1]) / (12 * h), np.array([-1, 16, -30, 16, -1]) / (12 * h**2)
    along_t = np.stack([u(t + k * h, x) for k in range(-2, 3)], axis=-1)
    along_x = np.stack([u(t, x + k * h) for k in range(-2, 3)], axis=-1)
    left = along_t @ first + u(t, x) * (along_x @ first)
    np.testing.assert_allclose(left, NU * (along_x @ second), atol=1e-7)
    assert np.abs(left).max() > 1, "something happens"


def test_the_solution_starts_and_ends_where_it_must():
    x = np.linspace(-1, 1, 41)
    np.testing.assert_allclose(burgers.solution(np.zeros(41), x), -np.sin(np.pi * x), atol=1e-14)
    t = np.linspace(0, 1, 11)
    for end in (-1.0, 0.0, 1.0):  # odd and periodic; the quadrature is symmetric, up to rounding
        np.testing.assert_allclose(burgers.solution(t, np.full(11, end)), 0, atol=1e-12)


def test_the_quadrature_has_converged(monkeypatch):
    t, x = np.meshgrid(np.linspace(0.05, 1, 20), np.linspace(-1, 1, 81), indexing="ij")
    one = burgers.solution(t, x)
    monkeypatch.setattr(burgers, "_NODES", 160)
    np.testing.assert_allclose(one, burgers.solution(t, x), atol=1e-12)


def test_finite_differences_give_the_same_solution():
    """Independent of Cole and Hopf: central differences in space, Runge and Kutta's method in time."""
    count = 400
    x = np.linspace(-1, 1, count + 1)
    h = 2 / count

    def slope(u):
        d = np.zeros_like(u)
        d[1:-1] = -(u[2:] ** 2 - u[:-2] ** 2) / (4 * h) + NU * (u[2:] - 2 * u[1:-1] + u[:-2]) / h**2
        return d

    u, steps = -np.sin(np.pi * x), 4000
    k = 0.5 / steps  # NU k / h^2 = 0.25 is stable
    for _ in range(steps):
        a = slope(u)
        b = slope(u + k / 2 * a)
        c = slope(u + k / 2 * b)
        u = u + k / 6 * (a + 2 * b + 2 * c + slope(u + k * c))
    # u h^2 / 6 times third derivatives, which reach 1e3 at the front, for half a unit of time: below 2e-3
    np.testing.assert_allclose(u, burgers.solution(np.full(count + 1, 0.5), x), atol=1e-3)


@pytest.mark.usefixtures("x64")
def test_the_residual_has_the_derivatives_of_the_equation():
    def model(points):  # u = t x^2 + x^3
        t, x = points[..., 0], points[..., 1]
        return (t * x**2 + x**3)[..., None]

    points = jnp.asarray(np.random.default_rng(0).uniform(-1, 1, (6, 2)))
    t, x = points.T
    u, u_t, u_x, u_xx = t * x**2 + x**3, x**2, 2 * t * x + 3 * x**2, 2 * t + 6 * x
    np.testing.assert_allclose(burgers.residual(model, points), u_t + u * u_x - NU * u_xx, rtol=1e-13, atol=1e-14)
    start = u - t * x**2 + jnp.sin(jnp.pi * x)
    ends = jnp.mean((t - 1) ** 2) + jnp.mean((t + 1) ** 2)
    wanted = jnp.mean((u_t + u * u_x - NU * u_xx) ** 2) + jnp.mean(start**2) + ends
    np.testing.assert_allclose(burgers.violation(model, points, None), wanted, rtol=1e-13)


def test_the_targets_are_the_solution_and_the_error_is_relative():
    task = tasks.get("burgers")
    for part in (task.data().train, task.data().validation):
        wanted = burgers.solution(part.x[:, 0].astype(float), part.x[:, 1].astype(float))
        # points were rounded to float32 after: 3e-8 times a slope of at most 7.3, and u itself, 3e-8
        np.testing.assert_allclose(part.y[:, 0], wanted, atol=3e-7)
    x, y = task.data().validation
    assert task.metric(lambda x: y, x, y) == 0
    assert float(task.metric(lambda x: 0.9 * y, x, y)) == pytest.approx(0.1, rel=1e-5)
    assert jax.eval_shape(lambda: task.loss(task.model(0), x, y)).shape == ()
