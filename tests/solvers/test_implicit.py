"""Derivatives of a solution by what it depends on, against closed forms and differences."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxopt_lectures as jol

GTOL = 1e-12
# Solutions are exact to gtol / curvature, at worst 1e-11 here; derivatives multiply that by numbers below 1e3.
EXACT = 1e-8

RNG = np.random.default_rng(0)
X = RNG.normal(size=(20, 3))
Y = RNG.normal(size=20)
LOG = np.float64(0.3)
ZERO = np.zeros(3)


@pytest.fixture(autouse=True)
def _float64(x64):
    """All of it: differences need the digits."""


def ridge(w, x, y, log):
    return jnp.sum((x @ w - y) ** 2) + jnp.exp(log) * (w @ w)


def closed(x, y, log):
    return jnp.linalg.solve(x.T @ x + jnp.exp(log) * jnp.eye(3), x.T @ y)


def weights(x, y, log, method="lbfgs"):
    return jol.minimize(ridge, ZERO, args=(x, y, log), method=method, gtol=GTOL).x


def close(found, expected, atol=EXACT):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=atol), found, expected)


@pytest.mark.parametrize("mode", [jax.jacfwd, jax.jacrev], ids=["forward", "reverse"])
def test_ridge_regression(mode):
    """By the inputs, the outputs and the penalty, where the solution is a formula."""
    found = jax.jit(mode(weights, argnums=(0, 1, 2)))(X, Y, LOG)
    close(found, jax.jacrev(closed, argnums=(0, 1, 2))(X, Y, LOG))


@pytest.mark.parametrize("method", ["bfgs", "newton_cg"])
def test_every_method_has_the_same_derivative(method):
    found = jax.jit(jax.grad(lambda log: jnp.sum(weights(X, Y, log, method) ** 3)))(LOG)
    close(found, jax.grad(lambda log: jnp.sum(closed(X, Y, log) ** 3))(LOG))


def quartic(x, a):
    return jnp.sum(x**4 / 4 + a["scale"] * x**2 / 2 - a["pull"] * x)


def test_a_quartic_against_differences_and_by_hand():
    """x^3 + s x = p gives dx/dp = 1 / (3 x^2 + s) and dx/ds = -x / (3 x^2 + s); data in a dictionary."""
    a = {"scale": np.array([1.0, 2.0]), "pull": np.array([0.5, -1.0])}

    @jax.jit
    def solution(a):
        return jol.minimize(quartic, jnp.zeros(2), args=a, gtol=GTOL).x

    x = solution(a)
    slope = 1 / (3 * x**2 + a["scale"])
    found = jax.jit(jax.jacrev(solution))(a)
    close(found, {"pull": jnp.diag(slope), "scale": jnp.diag(-x * slope)})
    for name, derivative in found.items():
        for i in range(2):
            h = 1e-4  # truncated at h^2 f'''/6, below 1e-8; rounded at gtol / h, 1e-8
            ends = [solution(a | {name: a[name] + sign * h * np.eye(2)[i]}) for sign in (1, -1)]
            np.testing.assert_allclose(derivative[:, i], (ends[0] - ends[1]) / (2 * h), rtol=0, atol=5e-8)


def test_the_value_obeys_the_envelope_theorem():
    """d f(x*(log), log) / d log is the partial derivative, lambda |w|^2; twice is a derivative of the solution."""

    def value(log):
        return jol.minimize(ridge, ZERO, args=(X, Y, log), gtol=GTOL).fun

    once, twice = jax.jit(jax.value_and_grad(jax.grad(value)))(LOG)
    close(once, jnp.exp(LOG) * jnp.sum(closed(X, Y, LOG) ** 2))
    close(twice, jax.hessian(lambda log: ridge(closed(X, Y, log), X, Y, log))(LOG))


def with_aux(w, log):
    return ridge(w, X, Y, log), {"cubes": log * jnp.sum(w**3)}


def test_aux_and_gradient():
    """Aux has a derivative through the solution and by itself; the gradient is zero whatever the data."""

    @jax.jit
    @jax.jacfwd
    def derivatives(log):
        result = jol.minimize(with_aux, ZERO, args=log, has_aux=True, gtol=GTOL)
        return result.aux["cubes"], result.grad

    by_aux, by_gradient = derivatives(LOG)
    close(by_aux, jax.grad(lambda log: log * jnp.sum(closed(X, Y, log) ** 3))(LOG))
    close(by_gradient, np.zeros(3))


def test_a_batch_of_derivatives_by_what_fun_closes_over():
    def total(log):
        return jnp.sum(jol.minimize(lambda w: ridge(w, X, Y, log), ZERO, gtol=GTOL).x)

    logs = np.array([0.1, 0.3, 2.0])
    found = jax.jit(jax.vmap(jax.grad(total)))(logs)
    close(found, jax.vmap(jax.grad(lambda log: jnp.sum(closed(X, Y, log))))(logs))


def test_the_start_does_not_count():
    found = jax.jit(jax.grad(lambda w: jnp.sum(jol.minimize(ridge, w, args=(X, Y, LOG), gtol=GTOL).x)))(ZERO + 0.1)
    np.testing.assert_array_equal(found, 0)


def test_a_tree():
    """Leaves of two shapes; each is its own ridge regression with a closed form."""

    def fun(tree, pull):
        return jnp.sum((tree["a"] - pull) ** 2) + 3 * jnp.sum((tree["b"] - 2 * pull) ** 2) + jnp.sum(tree["b"]) * pull

    def solution(pull):
        return jol.minimize(fun, {"a": jnp.zeros(()), "b": jnp.zeros((2, 1))}, args=pull, gtol=GTOL).x

    # b = 2 pull - pull / 6
    found = jax.jit(jax.jacfwd(solution))(np.float64(0.7))
    close(found, {"a": jnp.ones(()), "b": jnp.full((2, 1), 11 / 6)})


def test_many_variables_go_through_conjugate_gradients():
    """300 of them, condition number 1000; min of x'Ax/2 - b'x is A^-1 b."""
    n = 300
    diagonal = np.geomspace(1, 1e3, n)
    basis = np.linalg.qr(RNG.normal(size=(n, n)))[0]
    matrix, b = (basis * diagonal) @ basis.T, RNG.normal(size=n)

    def fun(x, b):
        return x @ (matrix @ x) / 2 - b @ x

    weight = RNG.normal(size=n)
    found = jax.jit(jax.grad(lambda b: weight @ jol.minimize(fun, np.zeros(n), args=b, gtol=1e-8).x))(b)
    # Conjugate gradients stop at a residual of eps^(3/4) |weight|, 3e-11, over the smallest eigenvalue, 1.
    close(found, np.linalg.solve(matrix, weight), atol=1e-9)


def test_a_singular_hessian_gives_the_shortest():
    """Only x1 + x2 is determined: it is shared equally."""

    def fun(x, total):
        return (x[0] + x[1] - total) ** 2

    found = jax.jit(jax.jacfwd(lambda total: jol.minimize(fun, np.zeros(2), args=total, gtol=GTOL).x))(np.float64(3))
    close(found, np.array([0.5, 0.5]))


def boxed(x, center):
    """With H = [[2, 1/2, 0], [1/2, 2, 0], [0, 0, 2]]."""
    return jnp.sum((x - center) ** 2) + x[0] * x[1] / 2


CENTER = np.array([2.0, 0.3, -1.0])  # in [-0.5, 1]^3 the first variable is at its upper, the third at its lower bound


def test_between_bounds():
    """Variables at a bound move with it and with nothing else; the free one answers to data and to them.

    2 (x2 - c2) + x1 / 2 = 0 gives dx2/dc2 = 1 and dx2/dx1 = -1/4.
    """

    def solution(center, lower, upper):
        return jol.minimize(boxed, np.zeros(3), args=center, bounds=jol.Bounds(lower, upper), gtol=GTOL).x

    derivatives = jax.jit(jax.jacrev(solution, argnums=(0, 1, 2)))
    by_center, by_lower, by_upper = derivatives(CENTER, np.full(3, -0.5), np.ones(3))
    close(by_center, np.diag([0.0, 1.0, 0.0]))
    close(by_lower, np.diag([0.0, 0.0, 1.0]))
    close(by_upper, np.array([[1.0, 0, 0], [-0.25, 0, 0], [0, 0, 0]]))


def test_by_a_bound_that_all_share():
    """x1 is at it and x2 follows with -1/4; its value's derivative is the multiplier, the gradient there."""

    @jax.jit
    def both(high):
        result = jol.minimize(
            boxed, np.zeros(3), args=CENTER, bounds=[(None, high), (None, None), (-0.5, 0.5)], gtol=GTOL
        )
        return jnp.sum(result.x), result.fun

    by_sum, by_value = jax.jacfwd(both)(np.float64(1))
    x = np.array([1.0, 0.05, -0.5])
    close(by_sum, 0.75)
    close(by_value, 2 * (x[0] - CENTER[0]) + x[1] / 2)


def test_small_curvature_beside_a_bound():
    """One variable is held; the other's curvature is far below 1 and still its own."""

    def small(x, t):
        return 1e-18 * ((x[0] - t) ** 2 + (x[1] - 5) ** 2)

    def at(t):
        return jol.minimize(small, np.zeros(2), args=(t,), bounds=[(None, None), (None, 1.0)], gtol=1e-24).x

    close(at(np.float64(3.0)), np.array([3.0, 1.0]), 1e-5)
    close(jax.jacfwd(at)(np.float64(3.0)), np.array([1.0, 0.0]))


@pytest.mark.parametrize("kind", ["Auto", "Explicit"])
def test_of_a_sharded_start(kind):
    """x = a; the Hessian's equations are solved where the parameters lie."""
    mesh = jax.make_mesh((8,), ("d",), axis_types=(jax.sharding.AxisType[kind],))
    scale = np.arange(1.0, 17.0)
    with jax.set_mesh(mesh):
        x0 = jax.device_put(jnp.zeros(16), jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("d")))

        def total(a):
            return jnp.sum(jol.minimize(lambda x, a: jnp.sum(scale * (x - a) ** 2), x0, args=(a,), gtol=GTOL).x)

        close(jax.grad(total)(jnp.asarray(0.5)), 16.0)
