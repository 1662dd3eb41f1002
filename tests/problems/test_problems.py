"""The problems are the published ones, and their solutions solve them."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.oracles.more_garbow_hillstrom import more_garbow_hillstrom

from . import HOCK_SCHITTKOWSKI, MORE_GARBOW_HILLSTROM, rosenbrock

CHAINED = [rosenbrock(n) for n in (2, 5, 30)]
ALL = [*MORE_GARBOW_HILLSTROM, *HOCK_SCHITTKOWSKI, *CHAINED]

# Minima as the paper prints them, where they are not zero.
PUBLISHED = {
    6: 124.362,
    8: 8.21487e-3,
    9: 1.12793e-8,
    10: 87.9458,
    15: 3.07505e-4,
    16: 85822.2,
    17: 5.46489e-5,
    19: 4.01377e-2,
    20: 2.28767e-3,
    23: 7.08765e-5,
    24: 2.93660e-4,
    32: 20 - 10,
    33: 20 * 19 / (2 * 41),
    34: (20**2 + 3 * 20 - 6) / (2 * 37),
    35: 3.51687e-3,
}
# The book's values at the book's starts, which may lie outside the box.
BOOK_STARTS = {
    1: ((-2, 1), 909.0),
    2: ((-2, 1), 909.0),
    3: ((10, 1), 1.00081),
    4: ((1.125, 0.125), 3.323568),
    5: ((0, 0), 1.0),
    25: ((100, 12.5, 3), 32.835),
    38: ((-3, -1, -3, -1), 19192.0),
    45: ((2,) * 5, 2 - 32 / 120),
    110: ((9,) * 10, -43.134337),
}
GAY = {"helical_valley": 0.99042212, "wood": 1.5567008, "brown_dennis": 88860.48, "biggs_exp6": 5.3209866e-4}

each = pytest.mark.parametrize("problem", ALL, ids=lambda problem: problem.name)


def sum_of_valleys(x):
    return sum(100 * (after - now**2) ** 2 + (1 - now) ** 2 for now, after in itertools.pairwise(x))


def test_the_collections_are_complete():
    assert [problem.number for problem in MORE_GARBOW_HILLSTROM] == [f"MGH {i}" for i in range(1, 36)]
    assert len(HOCK_SCHITTKOWSKI) >= 22
    assert {f"HS {i}" for i in BOOK_STARTS} <= {problem.number for problem in HOCK_SCHITTKOWSKI}
    names = [problem.name for problem in ALL]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("problem", MORE_GARBOW_HILLSTROM, ids=lambda problem: problem.name)
def test_values_are_those_of_the_formulas(problem, x64):
    """At the start, and at points around it where no term vanishes by chance."""
    number = int(problem.number.removeprefix("MGH "))
    noise = np.random.default_rng(number).uniform(-0.03, 0.03, (3, problem.start.size))
    points = np.stack([problem.start, *(problem.start * (1 + noise) + noise / 3)])
    values = jax.jit(jax.vmap(problem.fun))(jnp.asarray(points))
    np.testing.assert_allclose(values, [more_garbow_hillstrom(number, x) for x in points], rtol=1e-11)


@pytest.mark.parametrize("number", PUBLISHED)
def test_minima_are_the_published_ones(number):
    # The paper cuts digits off; it does not round.
    assert MORE_GARBOW_HILLSTROM[number - 1].minimum == pytest.approx(PUBLISHED[number], rel=1e-5)


@pytest.mark.parametrize("number", BOOK_STARTS)
def test_hock_schittkowski_values_are_those_of_the_book(number, x64):
    problem = next(problem for problem in HOCK_SCHITTKOWSKI if problem.number == f"HS {number}")
    start, value = BOOK_STARTS[number]
    assert float(jax.jit(problem.fun)(jnp.asarray(start, jnp.float64))) == pytest.approx(value, rel=1e-6)
    np.testing.assert_array_equal(problem.start, np.clip(start, *problem.bounds))


@pytest.mark.parametrize("name", GAY)
def test_minima_in_the_boxes_of_gay(name):
    problem = next(problem for problem in HOCK_SCHITTKOWSKI if problem.name == f"{name}_boxed")
    assert problem.minimum == pytest.approx(GAY[name], rel=1e-7)


@each
def test_start_is_a_point_of_the_box(problem):
    assert problem.start.dtype == np.float64
    assert problem.start.ndim == 1
    assert problem.minimum == min(problem.minima)
    if problem.bounds is not None:
        lower, upper = problem.bounds
        assert lower.shape == upper.shape == problem.start.shape
        assert np.all((lower <= problem.start) & (problem.start <= upper))


@each
def test_solution_solves(problem, x64):
    """No point nearby is better, |g| is down by ten digits from the start, and the active set is clear."""
    x = problem.solution
    lower, upper = problem.bounds or (-np.inf, np.inf)
    noise = np.random.default_rng(0).uniform(-1e-2, 1e-2, (8, x.size))
    points = np.clip([problem.start, x, *(x + noise * (1 + np.abs(x)))], lower, upper)
    values, gradients = jax.jit(jax.vmap(jax.value_and_grad(problem.fun)))(jnp.asarray(points))
    values, gradients = np.asarray(values), np.asarray(gradients)
    assert values.dtype == gradients.dtype == np.float64

    assert values[1] == pytest.approx(problem.minimum, rel=1e-12, abs=1e-25)
    assert values[1] == values[1:].min()
    # The plateau of HS 25 lies a hair above its start.
    assert all(problem.minimum <= other < values[0] * (1 + 1e-9) for other in problem.minima)

    first, last = gradients[:2]
    projected = x - np.clip(x - last, lower, upper)
    assert np.abs(projected).max() <= 1e-10 * max(np.abs(first).max(), 1e-3)

    at_lower, at_upper = x == lower, x == upper
    assert np.all(last[at_lower & ~at_upper] > 5e-4)
    assert np.all(last[at_upper & ~at_lower] < -5e-4)
    inside = ~(at_lower | at_upper)
    assert np.all(np.minimum(x - lower, upper - x)[inside] > 1e-3)


@each
def test_float32_stays_float32(problem):
    """Under strict promotion a stray float64 constant is an error as well."""
    with jax.enable_x64(True):
        x = jax.ShapeDtypeStruct(problem.start.shape, jnp.float32)
        value, gradient = jax.eval_shape(jax.value_and_grad(problem.fun), x)
    assert value.dtype == gradient.dtype == jnp.float32
    assert value.shape == ()
    assert gradient.shape == problem.start.shape


@pytest.mark.parametrize("problem", MORE_GARBOW_HILLSTROM, ids=lambda problem: problem.name)
def test_float32_gives_the_value_to_its_precision(problem):
    value = jax.jit(problem.fun)(jnp.asarray(problem.start, jnp.float32))
    number = int(problem.number.removeprefix("MGH "))
    assert float(value) == pytest.approx(more_garbow_hillstrom(number, problem.start), rel=1e-3)


@pytest.mark.parametrize("n", [4, 13, 14])
def test_chained_rosenbrock_has_a_second_minimum(n, x64):
    """Newton's method from (-1, 1, ..., 1) finds the value that `minima` promises."""
    problem = rosenbrock(n)
    derivatives = jax.jit(lambda x: (jax.grad(problem.fun)(x), jax.hessian(problem.fun)(x)))
    x = np.where(np.arange(n) == 0, -1.0, 1.0)
    for _ in range(20):
        gradient, hessian = map(np.asarray, derivatives(jnp.asarray(x)))
        x = x - np.linalg.solve(hessian, gradient)
    assert np.linalg.eigvalsh(hessian)[0] > 0
    assert sum_of_valleys(x) == pytest.approx(problem.minima[1], rel=3e-7)
    assert float(jax.jit(problem.fun)(jnp.asarray(problem.start))) == pytest.approx(
        sum_of_valleys(problem.start), rel=1e-13
    )
