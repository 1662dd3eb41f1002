"""Bounds: their forms, the minima inside of them, the variables that end at them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize

import jaxopt_lectures as jol
from jaxopt_lectures.solvers.result import MESSAGES, Status
from tests.problems import HOCK_SCHITTKOWSKI

INF = np.inf
LARGEST = max(problem.start.size for problem in HOCK_SCHITTKOWSKI)


# The published problems


def padded(vector):
    """Of the largest problem's length, so that one program solves all; the rest is fixed at 0."""
    return np.pad(vector, (0, LARGEST - vector.size))


def any_problem(x, which):
    parts = [lambda x, p=problem: p.fun(x[: p.start.size]) for problem in HOCK_SCHITTKOWSKI]
    return jax.lax.switch(which, parts, x)


def active(x, lower, upper):
    return (x >= upper).astype(int) - (x <= lower)


@pytest.mark.parametrize("which", range(len(HOCK_SCHITTKOWSKI)), ids=[problem.name for problem in HOCK_SCHITTKOWSKI])
def test_published_problems(which, x64):
    """The listed minimum, and at its bounds what is at them in the solution."""
    problem = HOCK_SCHITTKOWSKI[which]
    lower, upper = problem.bounds
    result = jol.minimize(
        any_problem,
        padded(problem.start),
        args=(which,),
        bounds=jol.Bounds(padded(lower), padded(upper)),
        gtol=1e-6,
    )
    x = np.asarray(result.x)[: problem.start.size]
    assert result.success
    assert (lower <= x).all()
    assert (x <= upper).all()
    np.testing.assert_array_equal(result.x[problem.start.size :], 0)
    # f - f* is about g'H^-1 g / 2: 1e-12 over the smallest curvature, which in these problems is above 1e-5
    gap = np.abs(result.fun - np.array(problem.minima)) - 1e-7 * (1 + np.abs(problem.minima))
    assert gap.min() <= 0
    if np.argmin(gap) == 0:
        np.testing.assert_array_equal(active(x, lower, upper), active(problem.solution, lower, upper))
        np.testing.assert_allclose(x, problem.solution, rtol=1e-4, atol=1e-4)


def test_a_published_problem_by_itself(x64):
    """Not padded: the same minimum."""
    (problem,) = (p for p in HOCK_SCHITTKOWSKI if p.name == "watson_boxed")
    result = jol.minimize(problem.fun, problem.start, bounds=jol.Bounds(*problem.bounds), gtol=1e-6)
    assert Status(int(result.status)) is Status.AT_BOUND
    assert np.abs(result.fun - np.array(problem.minima)).min() <= 1e-7 * (1 + abs(problem.minimum))


# Forms of bounds


def bowl(x, center, scale):
    return scale * jnp.sum((x - center) ** 2)


CENTER = np.float32([2, -3, 0.25])
START = np.float32([0, 0, 0])


def solved(bounds, x0=START, center=CENTER, scale=1.0, **options):
    return jol.minimize(bowl, x0, args=(center, scale), bounds=bounds, **options)


FORMS = {
    "pairs": [(None, 1), (-1, None), (-1, 1.0)],
    "array": np.array([[-INF, 1], [-1, INF], [-1, 1]]),
    "scipy": scipy.optimize.Bounds([-INF, -1, -1], [1, INF, 1]),
    "ours": jol.Bounds(np.array([-INF, -1, -1]), jnp.array([1, INF, 1])),
    "numbers": jol.Bounds(-1, 1),
    "scipys_numbers": scipy.optimize.Bounds(-1.0, 1.0),
    "mixed": jol.Bounds(-1.0, np.ones(3)),
    "lists": jol.Bounds([-1, -1, -1], [1, 1, 1]),
    "nones": jol.Bounds([None, -1, -1], [1, None, 1]),
}


@pytest.mark.parametrize("form", FORMS)
def test_forms(form):
    """The projection of the center to the box, exactly at its bounds, and one variable free."""
    result = solved(FORMS[form])
    np.testing.assert_array_equal(result.x[:2], [1, -1])
    np.testing.assert_allclose(result.x[2], 0.25, rtol=0, atol=5e-6)
    assert Status(int(result.status)) is Status.AT_BOUND
    assert result.message == MESSAGES[Status.AT_BOUND]


def test_no_bound_on_one_side():
    assert solved(jol.Bounds(None, CENTER[0] - 1)).x[0] == CENTER[0] - 1
    assert Status(int(solved(jol.Bounds(None, None)).status)) is Status.CONVERGED


def test_bounds_make_lbfgsb_of_lbfgs():
    for method in (None, "lbfgs", "lbfgsb", "L-BFGS-B"):
        np.testing.assert_array_equal(solved(FORMS["numbers"], method=method).x[:2], [1, -1])


@pytest.mark.parametrize("method", ["bfgs", "newton_cg", "CG", "gd"])
def test_other_methods_know_no_bounds(method):
    with pytest.raises(ValueError, match=f"'{method}' knows no bounds"):
        solved(FORMS["numbers"], method=method)


def two_bowls(tree):
    return jnp.sum((tree["a"] - 2) ** 2) + jnp.sum((tree["b"] + 3) ** 2)


@pytest.mark.parametrize(
    "bounds",
    [
        jol.Bounds({"a": np.zeros(2), "b": -1.0}, {"a": np.ones(2), "b": np.ones((2, 1))}),
        ({"a": 0, "b": -1}, {"a": 1, "b": 1}),
        jol.Bounds(-1.0, 1.0),
    ],
    ids=["arrays", "pair", "numbers"],
)
def test_trees(bounds):
    result = jol.minimize(two_bowls, {"a": jnp.zeros(2), "b": jnp.zeros((2, 1))}, bounds=bounds)
    np.testing.assert_array_equal(result.x["a"], [1, 1])
    np.testing.assert_array_equal(result.x["b"], [[-1], [-1]])


def test_one_side_is_enough():
    np.testing.assert_allclose(solved(jol.Bounds(lb=-1.0)).x, [2, -1, 0.25], rtol=0, atol=5e-6)
    np.testing.assert_allclose(solved(jol.Bounds(ub=1.0)).x, [1, -3, 0.25], rtol=0, atol=5e-6)


@pytest.mark.parametrize(
    ("bounds", "text"),
    [
        ([(0, 1)], r"bounds of an array of shape \(3,\) must be Bounds\(lower, upper\) or 3 pairs"),
        ([(0, 1, 2)] * 3, "or 3 pairs"),
        (jol.Bounds(np.zeros(2), 1.0), r"a bound has shape \(2,\) where x0 has \(3,\)"),
        (jol.Bounds(np.array([0, 0, 2]), 1), "the lower bound of element 2, 2.0, lies above its upper bound, 1.0"),
        ([(None, 1), (0, -1), (0, 1)], "the lower bound of element 1, 0.0, lies above its upper bound, -1.0"),
        (jol.Bounds(np.nan, 1.0), "bounds must not be NaN"),
        (jol.Bounds(-1.0, np.array([1, np.nan, 1])), "bounds must not be NaN"),
    ],
)
def test_bounds_that_are_none(bounds, text):
    with pytest.raises(ValueError, match=text):
        solved(bounds)


def test_a_start_outside_is_moved_to_the_bounds():
    with pytest.warns(UserWarning, match="x0 lies outside the bounds in 2 of 3 elements") as record:
        result = jol.minimize(bowl, np.float32([5, -7, 0]), args=(CENTER, 1.0), bounds=jol.Bounds(-1, 1), maxiter=0)
    assert record[0].filename == __file__
    np.testing.assert_array_equal(result.x, [1, -1, 0])


# What becomes of the variables


def rosenbrock(x):
    return jnp.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


POINTS = []


def watch(result):
    POINTS.append(np.asarray(result.x))


def valley(lower, upper):
    POINTS.clear()
    x0 = np.array([-1.2, 1.0, 0.25])
    return jol.minimize(rosenbrock, x0, bounds=jol.Bounds(lower, upper), gtol=1e-8, callback=watch)


def test_every_iterate_is_inside(x64):
    lower, upper = np.array([-1.5, -0.5, 0.25]), np.array([0.5, 2.0, 0.25])
    result = valley(lower, upper)
    assert len(POINTS) == result.nit > 3
    assert (lower <= POINTS).all()
    assert (upper >= POINTS).all()
    np.testing.assert_array_equal(np.array(POINTS)[:, 2], 0.25)  # low == high: fixed
    assert Status(int(result.status)) is Status.AT_BOUND


def test_infinite_bounds_are_none(x64):
    """The minimum of the function without them, at 1, where |x - 1| = |H^-1 g| with |g| <= sqrt(3) gtol, twice."""
    flattest = np.linalg.eigvalsh(jax.hessian(rosenbrock)(jnp.ones(3)))[0]
    for wide in (INF, 1e3):
        result = valley(-wide, wide)
        assert Status(int(result.status)) is Status.CONVERGED
        np.testing.assert_allclose(result.x, 1, rtol=0, atol=2 * np.sqrt(3) * 1e-8 / flattest)


def test_the_status_tells_whether_a_bound_holds_it():
    assert Status(int(solved(jol.Bounds(-5, 5)).status)) is Status.CONVERGED
    # at a bound, but not held by it: the gradient is 0 there
    assert Status(int(solved(jol.Bounds(-5, 5), x0=CENTER).status)) is Status.CONVERGED
    assert Status(int(solved(jol.Bounds(CENTER, 5), x0=CENTER).status)) is Status.CONVERGED


def test_all_variables_fixed():
    result = solved(jol.Bounds(0.5, 0.5), x0=np.full(3, 0.5, np.float32))
    assert result.success
    assert result.nfev == 1
    np.testing.assert_array_equal(result.x, 0.5)


def test_a_small_gradient_far_from_zero_is_seen():
    """At 1e6 the digits of float32 are 1/16 apart; the gradient, 0.02, is 2000 times gtol."""
    far = np.full(3, 1e6, np.float32)
    result = solved(jol.Bounds(0.0, 1e8), x0=far, center=2 * far, scale=1e-8)
    assert result.nit > 0
    # 2e-8 (2e6 - x) <= gtol
    np.testing.assert_allclose(result.x, 2e6, rtol=0, atol=1e-5 / 2e-8)


# With jit, with vmap


def test_crossed_bounds_under_jit_and_bounds_in_a_batch():
    """Traced, they cannot raise; each lane has its own box."""
    batched = jax.jit(jax.vmap(lambda high: solved(jol.Bounds(-1.0, high))))
    result = batched(np.float32([0.5, 5, -2]))
    assert [Status(int(s)) for s in result.status] == [Status.AT_BOUND, Status.AT_BOUND, Status.BAD_BOUNDS]
    assert result.message[2] == "a lower bound lies above its upper bound"
    assert result.success.tolist() == [True, True, False]
    np.testing.assert_array_equal(result.x[0, :2], [0.5, -1])
    np.testing.assert_allclose(result.x[0, 2], 0.25, rtol=0, atol=5e-6)
    np.testing.assert_allclose(result.x[1], [2, -1, 0.25], rtol=0, atol=5e-6)
