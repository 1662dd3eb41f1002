"""Surfaces: values from the formulas, minima where they are said to be, and points that go there."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxopt_lectures import tasks
from jaxopt_lectures.tasks import surfaces

# surface, start, a minimum, its value
KNOWN = {
    "quadratic": (surfaces.quadratic(100.0), (1.0, 1.0), (0.0, 0.0), 0.0),
    "rosenbrock": (surfaces.rosenbrock, (-1.2, 1.0), (1.0, 1.0), 0.0),
    "beale": (surfaces.beale, (1.0, 1.0), (3.0, 0.5), 0.0),
    "saddle": (surfaces.bounded_saddle, (1.0, 0.0), (0.0, 1.0), -0.25),
    "plateau": (surfaces.plateau, (3.0, 2.0), (0.0, 0.0), 0.0),
}


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", KNOWN)
def test_a_minimum_is_stationary_curved_upwards_and_lowest(name):
    surface, _, minimum, value = KNOWN[name]
    at = jnp.asarray(minimum)
    assert float(surface(at)) == pytest.approx(value, abs=1e-14)
    # Beale's terms of size 3 cancel: a few roundings of 2e-16 times slopes of up to 10
    assert np.abs(jax.grad(surface)(at)).max() < 1e-13
    assert np.linalg.eigvalsh(jax.hessian(surface)(at)).min() > 0.1
    around = np.stack(np.meshgrid(*2 * [np.linspace(-4.5, 4.5, 181)]), -1).reshape(-1, 2)
    assert float(jax.vmap(surface)(jnp.asarray(around)).min()) >= value - 1e-14


@pytest.mark.usefixtures("x64")
def test_values_are_those_of_the_formulas():
    x = np.array([0.3, -1.7, 0.9, 2.1])
    a, b = x[:2]
    wanted = {
        "rosenbrock": sum(100 * (x[i + 1] - x[i] ** 2) ** 2 + (1 - x[i]) ** 2 for i in range(3)),
        "beale": sum((c - a * (1 - b**k)) ** 2 for k, c in ((1, 1.5), (2, 2.25), (3, 2.625))),
        "saddle": a**2 / 2 - b**2 / 2,
        "bounded_saddle": a**2 / 2 - b**2 / 2 + b**4 / 4,
        "plateau": 1 - np.exp(-np.sum(x**2) / 2),
    }
    for name, value in wanted.items():
        at = x if name in ("rosenbrock", "plateau") else x[:2]
        # a dozen operations on numbers up to 1000: 12 roundings of 1.1e-16
        np.testing.assert_allclose(getattr(surfaces, name)(jnp.asarray(at)), value, rtol=2e-15)
    valley = surfaces.quadratic(100.0, 4)
    curvatures = 100.0 ** (np.arange(4) / 3)
    np.testing.assert_allclose(valley(jnp.asarray(x)), np.sum(curvatures * x**2) / 2, rtol=2e-15)
    hessian = jax.hessian(valley)(jnp.asarray(x))
    np.testing.assert_allclose(hessian, np.diag(curvatures), rtol=1e-14, atol=1e-14)


def test_rosenbrock_and_beale_begin_where_the_literature_does():
    """More, Garbow and Hillstrom 1981: 24.2 and 14.203125."""
    assert float(surfaces.rosenbrock(jnp.array([-1.2, 1.0]))) == pytest.approx(24.2, rel=1e-6)
    assert float(surfaces.beale(jnp.array([1.0, 1.0]))) == pytest.approx(14.203125, rel=1e-6)


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16, jnp.float32])
@pytest.mark.parametrize("name", KNOWN)
def test_a_value_has_its_arguments_dtype(name, dtype):
    surface, start, _, _ = KNOWN[name]
    assert surface(jnp.asarray(start, dtype)).dtype == dtype


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0.5,), "kappa must be >= 1, got 0.5"),
        ((float("nan"),), "kappa must be"),
        ((2.0, 1), "dimensions must be >= 2"),
    ],
)
def test_a_valley_that_is_none_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        surfaces.quadratic(*arguments)


@pytest.mark.parametrize("name", KNOWN)
def test_a_point_begins_near_the_start_and_its_seed_says_where(name):
    surface, start, minimum, value = KNOWN[name]
    task = tasks.get(name)
    (x, y), one, other = task.data().train, task.model(0), task.model(1)
    # Six standard deviations of 0.001: exceeded once in 500 million draws, and the seeds are fixed.
    assert 0 < np.abs(one.x[...] - jnp.asarray(start)).max() < 6e-3
    assert (one.x[...] != other.x[...]).all()
    assert task.loss(one, x, y) == surface(one.x[...])
    one.x[...] = jnp.asarray(minimum)
    assert task.loss(one, x, y) == value
    assert task.metric(one, x, y) == 0


@pytest.mark.parametrize("name", KNOWN)
def test_plain_descent_reaches_the_target(name):
    """With a rate below 2 / (largest curvature on the way), in the task's own number of steps."""
    rate = {"quadratic": 0.015, "rosenbrock": 2e-3, "beale": 0.01, "saddle": 0.1, "plateau": 0.5}[name]
    task = tasks.get(name)
    surface, _, _, value = KNOWN[name]
    end = jax.lax.fori_loop(0, task.steps, lambda _, x: x - rate * jax.grad(surface)(x), task.model(0).x[...])
    assert 0 <= surface(end) - value + 1e-7 < task.target
