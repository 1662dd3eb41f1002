"""`jol.minimize`: what goes in, what comes out, how it ends."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
from flax import nnx
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import jaxopt_lectures as jol
from jaxopt_lectures.solvers.result import MESSAGES, Status
from jaxopt_lectures.solvers.solve import solve

METHODS = ("lbfgs", "bfgs", "lbfgsb", "newton_cg", "nonlinear_cg", "gd")
START = np.array([-1.2, 1.0])
FLATTEST = 0.39  # below the smaller eigenvalue, 0.3994, of Rosenbrock's Hessian at its minimum


def rosenbrock(x):
    return jnp.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


def bowl(x, center):
    """Its Hessian is twice the identity, its minimum 0 at the center."""
    return jnp.sum((x - center) ** 2)


def known(reason):
    return pytest.mark.xfail(strict=True, reason=reason)


def ended(result, status):
    """Checks the status with what follows from it."""
    assert Status(int(result.status)) is status
    assert result.message == MESSAGES[status]
    assert bool(result.success) is (status < Status.ITERATIONS)
    assert bool(jnp.all(jnp.isfinite(result.x)))
    return True


def programs(call):
    """How many programs a call compiles."""
    before = solve._cache_size()
    call()
    return solve._cache_size() - before


# Methods


@pytest.mark.parametrize("method", METHODS)
def test_every_method_finds_rosenbrocks_minimum(method, x64):
    gtol = 1e-4 if method == "gd" else 1e-8  # steepest descent crawls along the valley
    result = jol.minimize(rosenbrock, START, method=method, gtol=gtol)
    assert ended(result, Status.CONVERGED)
    assert np.abs(result.grad).max() <= gtol
    # |x - 1| = |H^-1 g| to first order, with |g| <= sqrt(2) gtol; twice that for the higher orders
    assert np.linalg.norm(result.x - 1) <= 2 * np.sqrt(2) * gtol / FLATTEST
    assert result.nfev == result.njev
    assert result.nfev > result.nit > 0
    assert (result.nhev > 0) == (method == "newton_cg")


@pytest.mark.parametrize(
    ("name", "method"),
    [("BFGS", "bfgs"), ("bFgS", "bfgs"), ("L-BFGS-B", "lbfgsb"), ("newton-CG", "newton_cg"), ("cg", "nonlinear_cg")],
)
def test_scipys_names_in_any_case_are_the_same_program(name, method, x64):
    jol.minimize(rosenbrock, START, method=method, gtol=1e-8)
    assert programs(lambda: jol.minimize(rosenbrock, START, method=name, gtol=1e-8)) == 0


def test_the_default_is_lbfgs(x64):
    jol.minimize(rosenbrock, START, method="lbfgs")
    assert programs(lambda: jol.minimize(rosenbrock, START)) == 0


def test_unknown_methods_suggest_the_nearest():
    with pytest.raises(ValueError, match="no method is called 'lbgfs'; did you mean 'lbfgs'"):
        jol.minimize(rosenbrock, START, method="lbgfs")
    with pytest.raises(ValueError, match=r"'Nelder-Mead'; known: lbfgs, bfgs, lbfgsb, newton_cg, nonlinear_cg, gd"):
        jol.minimize(rosenbrock, START, method="Nelder-Mead")


FUNCTIONS = {
    "rosenbrock": (rosenbrock, START, FLATTEST),
    # log-sum-exp and a bowl: the bowl's curvature, 1, is the least there is
    "log_sum_exp": (lambda x: jax.nn.logsumexp(x * jnp.arange(1.0, 6.0)) + x @ x / 2, np.linspace(-1, 1, 5), 1.0),
    # Bohachevsky's bowl plus a quartic: 2 is the least curvature
    "quartic": (lambda x: jnp.sum((x - 0.5) ** 2 * jnp.arange(1.0, 4.0)) + jnp.sum(x**4), np.ones(3), 2.0),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_same_call_finds_what_scipy_finds(name, x64):
    fun, x0, flattest = FUNCTIONS[name]
    jac = jax.jit(jax.grad(fun))
    ours, theirs = (
        minimize(fun, x0, method="BFGS", jac=jac, tol=1e-8) for minimize in (jol.minimize, scipy.optimize.minimize)
    )
    assert ours.success
    assert theirs.success
    # Each is within |g| / curvature of the minimum, and |g| <= sqrt(n) gtol; twice that for the higher orders.
    gap = 2 * 2 * np.sqrt(x0.size) * 1e-8 / flattest
    np.testing.assert_allclose(ours.x, theirs.x, rtol=0, atol=gap)
    np.testing.assert_allclose(ours.jac, theirs.jac, rtol=0, atol=2e-8)


# What x0 may be


@pytest.mark.parametrize("shape", [(), (1,), (2, 3, 1)], ids=str)
def test_arrays_of_any_rank(shape):
    result = jol.minimize(bowl, jnp.zeros(shape), args=3.0)
    assert result.x.shape == result.grad.shape == shape
    # 1e-5 / 2 from the gradient, and a rounding of 3
    np.testing.assert_allclose(result.x, 3, rtol=0, atol=5e-6 + 3e-7)


LISTS = [[0.0, 1.0], (0.0, 1), [np.float32(0), 1.0], np.array([0.0, 1.0]), [jnp.float32(0), np.float32(1.0)]]


@pytest.mark.parametrize("x0", LISTS, ids=repr)
def test_lists_and_numpy_arrays_are_arrays(x0):
    result = jol.minimize(bowl, x0, args=(jnp.array([1.0, 2.0]),))
    assert isinstance(result.x, jax.Array)
    assert result.x.dtype == jnp.float32
    np.testing.assert_allclose(result.x, [1, 2], rtol=0, atol=5e-6 + 3e-7)


def test_lists_of_lists_are_arrays():
    result = jol.minimize(bowl, [[0.0, 1.0], [2.0, 3.0]], args=(1.0,))
    assert result.x.shape == (2, 2)
    with pytest.raises(ValueError, match="inhomogeneous"):
        jol.minimize(bowl, [[0.0], [1.0, 2.0]], args=(1.0,))


def mixed(tree):
    wide = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), tree)
    return jnp.sum((wide["a"] - 1.5) ** 2) + jnp.sum((wide["b"] - 2) ** 2)


@pytest.mark.parametrize(("narrow", "wide"), [(jnp.bfloat16, jnp.float32), (jnp.float32, jnp.float64)], ids=str)
def test_a_tree_of_mixed_dtypes_keeps_them(narrow, wide, x64):
    x0 = {"a": jnp.zeros(2, narrow), "b": jnp.zeros((2, 2), wide)}
    result = jol.minimize(mixed, x0)
    assert jax.tree.map(lambda leaf: leaf.dtype, result.x) == {"a": narrow, "b": wide}
    assert jax.tree.map(lambda leaf: leaf.dtype, result.grad) == {"a": narrow, "b": wide}
    assert result.fun.dtype == (jnp.float64 if wide == jnp.float64 else jnp.float32)  # what it is computed in
    # Both centers are in every dtype, so what is left is the gradient's tolerance.
    np.testing.assert_allclose(result.x["a"].astype(jnp.float32), 1.5, rtol=0, atol=5e-6 + 2e-7)
    np.testing.assert_allclose(result.x["b"], 2, rtol=0, atol=5e-6 + 2e-7)
    assert not jnp.any(x0["a"])


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16], ids=str)
def test_a_narrow_start_is_computed_wide_and_returned_narrow(dtype):
    seen = []

    def fun(x):
        seen.append(x.dtype)
        return jnp.sum((x.astype(jnp.float32) - 0.3) ** 2)

    result = jol.minimize(fun, jnp.zeros(3, dtype))
    assert set(seen) == {jnp.dtype(dtype)}
    assert result.x.dtype == result.grad.dtype == dtype
    assert result.fun.dtype == jnp.float32
    # fun sees the rounded point, so it has steps; the nearest number to 0.3 is the lowest.
    np.testing.assert_array_equal(result.x, jnp.full(3, 0.3, dtype))


class Model(nnx.Module):
    def __init__(self):
        self.linear = nnx.Linear(2, 1, rngs=nnx.Rngs(0))
        self.mean = nnx.BatchStat(jnp.full(3, 7.0))
        self.calls = nnx.Variable(jnp.zeros((), jnp.int32))


def squares(model, inputs, outputs):
    return jnp.mean((model.linear(inputs) - outputs) ** 2)


@pytest.mark.parametrize("method", ["lbfgs", "bfgs"])
def test_nnx_modules(method):
    """Trained parameters in a module like the start; the start and the other variables stay as they are."""
    model = Model()
    before = jax.tree.map(np.asarray, nnx.to_pure_dict(nnx.state(model)))
    inputs = np.random.default_rng(0).normal(size=(20, 2)).astype(np.float32)
    outputs = inputs @ np.float32([[1], [2]]) + np.float32(0.5)
    result = jol.minimize(squares, model, args=(inputs, outputs), method=method, gtol=1e-4)
    assert isinstance(result.x, Model)
    assert result.success
    design = np.column_stack([inputs, np.ones(20)])
    flattest = 2 * np.linalg.eigvalsh(design.T @ design / 20)[0]
    atol = np.sqrt(3) * 1e-4 / flattest
    np.testing.assert_allclose(result.x.linear.kernel[...], [[1], [2]], rtol=0, atol=atol)
    np.testing.assert_allclose(result.x.linear.bias[...], [0.5], rtol=0, atol=atol)
    np.testing.assert_array_equal(result.x.mean[...], 7)
    assert result.x.calls[...] == 0
    assert result.x.calls is not model.calls
    assert jax.tree.structure(result.grad) == jax.tree.structure(nnx.state(model, nnx.Param))
    jax.tree.map(np.testing.assert_array_equal, before, nnx.to_pure_dict(nnx.state(model)))


def test_integers_are_refused_by_name():
    with pytest.raises(TypeError, match=r"x0\['b'\] has dtype int32, but only real floating-point"):
        jol.minimize(rosenbrock, {"a": jnp.ones(1), "b": jnp.ones(1, jnp.int32)})
    with pytest.raises(TypeError, match="x0 has dtype int"):
        jol.minimize(rosenbrock, [1, 2])
    with pytest.raises(TypeError, match="x0 has dtype complex64"):
        jol.minimize(rosenbrock, jnp.ones(2, complex))


@pytest.mark.parametrize("x0", [None, [], {}, np.zeros(0), {"a": np.zeros((0, 3))}], ids=repr)
def test_nothing_to_minimise_over(x0):
    with pytest.raises(ValueError, match="x0 has no elements"):
        jol.minimize(rosenbrock, x0)


def test_what_is_no_array_is_refused():
    with pytest.raises(TypeError, match="x0 must be an array or a tree of arrays, got 'abc'"):
        jol.minimize(rosenbrock, "abc")
    with pytest.raises(TypeError, match="fun must be a function, got int 3"):
        jol.minimize(3, START)


# Data in args


@pytest.mark.parametrize("args", [(1.5,), 1.5, np.float32(1.5), [1.5], {"value": 1.5}], ids=repr)
def test_args_is_a_tuple_or_one_thing(args):
    def fun(x, value):
        (number,) = jax.tree.leaves(value)
        return jnp.sum((x - number) ** 2)

    np.testing.assert_allclose(jol.minimize(fun, jnp.zeros(2), args=args).x, 1.5, rtol=0, atol=5e-6 + 2e-7)


def test_new_data_compiles_nothing():
    """A hundred solves of new starts and data, each with limits of its own: one program, traced when it is compiled."""
    traced = []

    def fun(x, data):
        traced.append(1)
        return jnp.sum((x - data["center"]) ** 2 * data["scale"])

    rng = np.random.default_rng(0)

    def one(i):
        data = {"center": rng.normal(size=3).astype(np.float32), "scale": rng.uniform(1, 2, 3).astype(np.float32)}
        x0 = rng.normal(size=3).astype(np.float32)
        limits = {"gtol": 10.0 ** -(i % 4), "ftol": i * 1e-9, "xtol": i * 1e-9, "maxiter": 10 + i, "maxfun": 50 + i}
        return jol.minimize(fun, x0, args=(data,), **limits)

    assert programs(lambda: one(0)) == 1
    first = len(traced)
    assert first <= 2  # once for the value with its gradient, once for the Hessian's products
    assert programs(lambda: [one(i) for i in range(1, 100)]) == 0
    assert len(traced) == first


def test_equal_parts_compile_nothing():
    def call(**more):
        return jol.minimize(rosenbrock, np.float32(START), **more)

    call()
    assert programs(lambda: call(linesearch=jol.strong_wolfe(), history=10, tol=1e-3)) == 0


def test_numbers_of_other_types_compile_nothing():
    jol.minimize(rosenbrock, np.float32(START), gtol=1e-3)
    for gtol in (0, np.float64(1e-3), np.float32(1e-3)):
        assert programs(lambda gtol=gtol: jol.minimize(rosenbrock, np.float32(START), gtol=gtol)) == 0


# The function, its gradient, its Hessian


def rosenbrock_and_gradient(x):
    return jax.value_and_grad(rosenbrock)(x)


def test_jac():
    plain = jol.minimize(rosenbrock, np.float32(START))
    for given in (
        jol.minimize(rosenbrock_and_gradient, np.float32(START), jac=True),
        jol.minimize(rosenbrock, np.float32(START), jac=jax.grad(rosenbrock)),
    ):
        # Both stop within gtol; see test_every_method_finds_rosenbrocks_minimum.
        np.testing.assert_allclose(given.x, plain.x, rtol=0, atol=4 * np.sqrt(2) * 1e-5 / FLATTEST)
        assert given.success


def test_jac_is_used():
    """A gradient three times too long ends where it is below gtol, which the true one is at three times gtol."""
    result = jol.minimize(bowl, jnp.zeros(2), args=1.0, jac=lambda x, center: 6 * (x - center), gtol=1e-3)
    np.testing.assert_allclose(result.grad, 6 * (result.x - 1), rtol=1e-6)


def test_jac_of_the_wrong_kind():
    for wrong in (lambda x: x[:1], lambda x: x[0], lambda x: {"x": x, "y": x}):
        with pytest.raises(ValueError, match=r"jac must return a gradient of x's shape, \(\(2,\),\), got"):
            jol.minimize(rosenbrock, START, jac=wrong)
    with pytest.raises(TypeError, match=r"with jac=True, fun must return \(value, gradient\)"):
        jol.minimize(rosenbrock, START, jac=True)


@pytest.mark.parametrize("wrong", [{"jac": "2-point"}, {"hess": "2-point"}, {"hessp": 3}, {"callback": 3}], ids=repr)
def test_what_should_be_a_function_is_one(wrong):
    (name,) = wrong
    with pytest.raises(TypeError, match=f"{name} must be"):
        jol.minimize(rosenbrock, START, method="newton_cg", **wrong)


def test_hess_and_hessp_are_the_products(x64):
    def product(x, v):
        return jax.jvp(jax.grad(rosenbrock), (x,), (v,))[1]

    jax_own = jol.minimize(rosenbrock, START, method="newton_cg", gtol=1e-8)
    for given in (
        jol.minimize(rosenbrock, START, method="newton_cg", gtol=1e-8, hess=jax.hessian(rosenbrock)),
        jol.minimize(rosenbrock, START, method="newton_cg", gtol=1e-8, hessp=product),
    ):
        assert given.success
        np.testing.assert_allclose(given.x, jax_own.x, rtol=0, atol=4 * np.sqrt(2) * 1e-8 / FLATTEST)


def test_a_hessian_that_is_wrong_is_used():
    """Newton's step with twice the Hessian goes half the way."""
    steps = []
    jol.minimize(
        bowl,
        jnp.zeros(2),
        args=1.0,
        method="newton_cg",
        hess=lambda x, center: 4 * jnp.eye(2, dtype=x.dtype),
        callback=lambda result: steps.append(np.asarray(result.x)),
        linesearch=jol.backtracking(),
        maxiter=3,
    )
    np.testing.assert_allclose(steps, np.array([[0.5, 0.5], [0.75, 0.75], [0.875, 0.875]]), rtol=1e-6)


def test_a_hessian_that_is_not_used_is_told():
    with pytest.warns(UserWarning, match="method 'lbfgs' uses no Hessian: hess and hessp are for 'newton_cg'"):
        assert jol.minimize(rosenbrock, START, hess=jax.hessian(rosenbrock)).success


@pytest.mark.parametrize(
    "wrong", [{"hess": lambda x: jnp.eye(3, dtype=x.dtype)}, {"hessp": lambda x, v: v[:1]}], ids=["hess", "hessp"]
)
def test_hessians_of_the_wrong_shape(wrong):
    (name,) = wrong
    with pytest.raises(ValueError, match=f"{name} must return"):
        jol.minimize(rosenbrock, START, method="newton_cg", **wrong)


def test_aux_is_that_of_the_solution():
    def fun(x):
        return rosenbrock(x), {"twice": 2 * x, "count": jnp.int32(3)}

    def fun_and_gradient(x):
        value, aux = fun(x)
        return (value, jax.grad(rosenbrock)(x)), aux

    x0 = np.float32(START)
    results = [
        jol.minimize(fun, x0, has_aux=True),
        jol.minimize(fun_and_gradient, x0, has_aux=True, jac=True),
        jol.minimize(fun, x0, has_aux=True, jac=jax.grad(rosenbrock)),
    ]
    for result in results:
        assert result.success
        np.testing.assert_array_equal(result.aux["twice"], 2 * result.x)
        assert result.aux["count"] == 3
        assert result.aux["count"].dtype == jnp.int32
    assert jol.minimize(rosenbrock, x0).aux is None


@pytest.mark.parametrize(
    ("fun", "options", "error", "text"),
    [
        (lambda x: x**2, {}, ValueError, r"fun must return a scalar, got shape \(2,\)"),
        (lambda x: (x @ x, x), {}, TypeError, "got a tuple: has_aux=True for"),
        (lambda x: None, {}, TypeError, "fun must return a scalar, got NoneType"),
        (lambda x: jnp.array(3), {}, TypeError, "real floating-point number, got dtype int32"),
        (lambda x: x[0] > 1, {}, TypeError, "real floating-point number, got dtype bool"),
        (lambda x: jax.lax.complex(x[0], x[1]), {}, TypeError, "real floating-point number, got dtype complex64"),
        (rosenbrock, {"has_aux": True}, TypeError, r"has_aux=True, fun must return \(a scalar, aux\)"),
    ],
    ids=["vector", "tuple", "None", "integer", "bool", "complex", "no_aux"],
)
def test_what_fun_must_return(fun, options, error, text):
    with pytest.raises(error, match=text):
        jol.minimize(fun, np.float32(START), **options)


def test_numpy_functions_are_told_apart():
    with pytest.raises(jax.errors.TracerArrayConversionError) as error:
        jol.minimize(lambda x: np.linalg.norm(x) ** 2, START)
    assert any("write it with jax.numpy" in note for note in error.value.__notes__)


def test_a_function_that_knows_no_second_derivative():
    """Only newton_cg asks for Hessian-vector products."""

    def outside(x):
        return jax.pure_callback(lambda x: np.float32(np.sum(np.asarray(x) ** 2)), jax.ShapeDtypeStruct((), "f"), x)

    def gradient(x):
        return jax.pure_callback(lambda x: 2 * np.asarray(x), jax.ShapeDtypeStruct((2,), "f"), x)

    np.testing.assert_allclose(jol.minimize(outside, jnp.ones(2), jac=gradient).x, 0, rtol=0, atol=5e-6)


# How it ends

LANDSCAPES = {
    "barrier": lambda x: jnp.sum(x - jnp.log(x)),  # NaN at x < 0; the minimum is at 1
    "wall": lambda x: jnp.sum(jnp.where(x > 0, x - jnp.log(jnp.where(x > 0, x, 1)), jnp.inf)),  # inf there
    "steep": lambda x: jnp.sum(jnp.exp(50 * x) - x),  # the minimum is at -log(50) / 50
    "slope": lambda x: x[0] + 2 * x[1],
    "fall": lambda x: -jnp.sum(jnp.exp(x)),
    "hill": lambda x: -x @ x,
    "constant": lambda x: 3 + 0 * x[0],
    "kink": lambda x: jnp.sum(jnp.abs(x - 1 / 3) * jnp.arange(1, 3, dtype=x.dtype)),
    "flat": lambda x: jnp.sum(x**4),
    "nan": lambda x: x[0] * jnp.nan,
    "inf": lambda x: x[0] + jnp.inf,
    "down": lambda x: x[0] - jnp.inf,
    "nan_gradient": lambda x: 0 * jnp.sum(jnp.sqrt(x - 0.5)),
    "inf_gradient": lambda x: jnp.sum(jnp.sqrt(x - 0.5)),
    "at_minimum": lambda x: jnp.sum((x - 0.5) ** 2),
    "huge": lambda x: 1e30 * jnp.sum((x - 3) ** 2),
}
KINDS = list(LANDSCAPES)


def landscape(x, kind):
    """One function for all of them, so that one program solves them all."""
    return jax.lax.switch(kind, list(LANDSCAPES.values()), x)


def valley(**options):
    """Rosenbrock's function in float32, in a handful of steps."""
    return jol.minimize(rosenbrock, np.full(2, 0.5, np.float32), **{"gtol": 1e-4, "maxiter": 2000} | options)


def solved(kind, method="lbfgs"):
    x0, args = np.full(2, 0.5, np.float32), (KINDS.index(kind),)
    return jol.minimize(landscape, x0, args=args, method=method, gtol=1e-4, maxiter=2000)


some_methods = pytest.mark.parametrize("method", ["lbfgs", "newton_cg", "nonlinear_cg"])


@some_methods
@pytest.mark.parametrize("kind", ["barrier", "wall"])
def test_it_comes_back_from_where_the_function_is_not_finite(kind, method):
    result = solved(kind, method)
    assert ended(result, Status.CONVERGED)
    np.testing.assert_allclose(result.x, 1, rtol=0, atol=2e-4)  # the curvature there is 1


@some_methods
def test_a_scale_that_changes_on_the_way(method):
    """The gradient falls from 4e12 to 0."""
    result = solved("steep", method)
    assert ended(result, Status.CONVERGED)
    np.testing.assert_allclose(result.x, -np.log(50) / 50, rtol=0, atol=1e-4 / 50)  # the curvature there is 50


@some_methods
@pytest.mark.parametrize("kind", ["slope", "fall", "hill"])
def test_without_a_minimum_it_ends_without_success(kind, method):
    result = solved(kind, method)
    assert not result.success
    assert bool(jnp.all(jnp.isfinite(result.x)))
    assert np.isfinite(result.fun)
    assert result.fun < LANDSCAPES[kind](jnp.full(2, 0.5))


@some_methods
def test_a_kink(method):
    """No gradient is small at a kink: no success, and nowhere but below the start, (1 + 2) / 6."""
    result = solved("kink", method)
    assert Status(int(result.status)) in (Status.LINE_SEARCH, Status.PRECISION)
    assert result.fun < 0.2


@some_methods
def test_a_flat_minimum(method):
    result = solved("flat", method)
    assert ended(result, Status.CONVERGED)
    # 4 |x|^3 <= gtol
    assert np.abs(result.x).max() <= (1e-4 / 4) ** (1 / 3)


@some_methods
@pytest.mark.parametrize("kind", ["constant", "at_minimum"])
def test_a_start_that_is_a_minimum_costs_one_evaluation(kind, method):
    result = solved(kind, method)
    assert ended(result, Status.CONVERGED)
    assert (int(result.nit), int(result.nfev)) == (0, 1)
    np.testing.assert_array_equal(result.x, 0.5)


@some_methods
@pytest.mark.parametrize("kind", ["nan", "inf", "down", "nan_gradient", "inf_gradient"])
def test_a_start_where_nothing_is_finite(kind, method):
    result = solved(kind, method)
    assert ended(result, Status.NON_FINITE)
    assert (int(result.nit), int(result.nfev)) == (0, 1)
    np.testing.assert_array_equal(result.x, 0.5)


@some_methods
def test_one_bad_element_of_many(method):
    """A gradient with a NaN among 100 elements, of which the others are 0, is no minimum."""

    def fun(x):
        return jnp.sum((x[1:] - 0.5) ** 2) + 0 * jnp.sqrt(x[0] - 0.5)

    result = jol.minimize(fun, jnp.full(100, 0.5), method=method)
    assert ended(result, Status.NON_FINITE)


@some_methods
def test_huge_gradients(method):
    """1e30 in float32, whose square overflows."""
    result = solved("huge", method)
    # the last digit of x moves the gradient by 1e30 eps, so it ends at 3 but cannot know it
    np.testing.assert_allclose(result.x, 3, rtol=4 * np.finfo(np.float32).eps)


@known("y'y overflows, so pairs are skipped, and steepest descent stops at seven digits")
def test_huge_gradients_in_float64(x64):
    def huge(x):
        return 1e200 * jnp.sum((x - 3) ** 2)

    np.testing.assert_allclose(jol.minimize(huge, np.zeros(2)).x, 3, rtol=4 * np.finfo(float).eps)


def test_limits():
    assert ended(valley(maxiter=3), Status.ITERATIONS)
    assert valley(maxiter=3).nit == 3
    assert ended(valley(maxfun=7), Status.EVALUATIONS)
    assert valley(maxfun=7).nfev == 7
    for nothing in ({"maxiter": 0}, {"maxfun": 0}, {"maxfun": 1}):
        result = valley(**nothing)
        assert not result.success
        assert (int(result.nit), int(result.nfev)) == (0, 1)
        np.testing.assert_array_equal(result.x, 0.5)
    for none in (10**30, float("inf")):
        assert valley(maxiter=none).success


def test_small_changes_and_small_steps():
    """They end at the first step that is small enough."""
    values, points = [], []

    def watch(result):
        values.append(float(result.fun))
        points.append(np.asarray(result.x, np.float64))

    result = valley(ftol=1e-2, callback=watch)
    assert ended(result, Status.SMALL_CHANGE)
    drops = -np.diff([float(rosenbrock(jnp.full(2, 0.5))), *values])
    assert drops[-1] <= 1e-2 < drops[:-1].min()  # |f| < 1, so the measure is 1
    points.clear()
    result = valley(xtol=5e-2, callback=watch)
    assert ended(result, Status.SMALL_STEP)
    steps = np.linalg.norm(np.diff([np.full(2, 0.5), *points], axis=0), axis=1)
    limits = 5e-2 * (5e-2 + np.linalg.norm(points, axis=1))
    assert steps[-1] <= limits[-1]
    assert (steps[:-1] > limits[:-1]).all()


def test_a_gradient_of_the_wrong_sign():
    result = jol.minimize(rosenbrock, np.float32(START), jac=lambda x: -jax.grad(rosenbrock)(x))
    assert ended(result, Status.LINE_SEARCH)
    assert result.nit == 0
    np.testing.assert_array_equal(result.x, np.float32(START))


def raised(x):
    """Least squares on a height of 10000: residuals stay, so the gradient is never 0 but for a chance of rounding."""
    matrix = jnp.cos(jnp.arange(1, 11, dtype=x.dtype)).reshape(5, 2)
    return 1e4 + jnp.sum((matrix @ x - jnp.arange(5, dtype=x.dtype)) ** 2)


@pytest.mark.parametrize("method", ["lbfgs", "bfgs", "nonlinear_cg"])
def test_the_floor_of_the_precision(method):
    """In float32 the digits of 10000 + f end at 1e-3; a few of them are what a sum may lose."""
    result = jol.minimize(raised, np.full(2, 0.5, np.float32), method=method, gtol=0.0)
    assert ended(result, Status.PRECISION)
    matrix = np.cos(np.arange(1.0, 11)).reshape(5, 2)
    least = np.linalg.lstsq(matrix, np.arange(5.0), rcond=None)[1][0]
    assert result.fun <= 1e4 + least + 8e-3


# With jit, with vmap


def shifted(x, center):
    """Rosenbrock's function and a bowl: curvatures of 2 and more."""
    return rosenbrock(x) + bowl(x, center)


def near(found, other, gtol=1e-5, flattest=2.0):
    """Both stopped within gtol: they differ by no more than their gradients over the curvature, twice."""
    np.testing.assert_allclose(found, other, rtol=0, atol=2 * 2 * np.sqrt(2) * gtol / flattest)


STARTS = np.stack([START, START + 1, 2 * START, np.zeros(2)])
ONES = np.ones(2)


def test_under_jit(x64):
    plain = jol.minimize(shifted, START, args=ONES)
    jitted = jax.jit(lambda x, gtol: jol.minimize(shifted, x, args=ONES, gtol=gtol))
    result = jitted(START, 1e-5)
    assert isinstance(result, jol.Result)
    assert ended(result, Status.CONVERGED)
    near(result.x, plain.x)
    assert np.abs(jitted(START, 1e-9).grad).max() <= 1e-9


def test_limits_may_be_traced():
    result = jax.jit(lambda x, n: jol.minimize(bowl, x, args=1.0, maxiter=n, gtol=0.0))(np.zeros(2, np.float32), 0)
    assert result.nit == 0


def test_text_is_for_outside_of_jit():
    def inside(x):
        return jol.minimize(bowl, x, args=1.0).message

    with pytest.raises(TypeError, match="ask for it outside of jit"):
        jax.jit(inside)(np.zeros(2, np.float32))


def test_vmap_over_starts_and_data(x64):
    """Each lane is the single solve, up to rounding: another program multiplies and adds in another order.

    The order of a sum changes last digits, and the iterations carry them on; that both are at the minimum remains.
    """
    batched = jax.jit(jax.vmap(lambda x, center: jol.minimize(shifted, x, args=(center,))))
    centers = np.stack([ONES, 2 * ONES, -ONES, 0 * ONES])
    result = batched(STARTS, centers)
    for i, (x, center) in enumerate(zip(STARTS, centers, strict=True)):
        single = jol.minimize(shifted, x, args=(center,))
        near(result.x[i], single.x)
        assert result.status[i] == single.status
    assert result.message == [MESSAGES[Status.CONVERGED]] * 4
    assert result.success.shape == (4,)
    assert len(set(result.nit.tolist())) > 1  # each stops by itself

    ill = STARTS.copy()
    ill[1] = np.nan
    others = batched(ill, centers)
    assert others.message[1] == MESSAGES[Status.NON_FINITE]
    for lane in (0, 2, 3):  # the same program, so not a bit differs
        jax.tree.map(lambda a, b, i=lane: np.testing.assert_array_equal(a[i], b[i]), result, others)


def test_vmap_of_vmap_has_lists_of_messages():
    solve_all = jax.vmap(jax.vmap(lambda x: jol.minimize(bowl, x, args=1.0)))
    result = solve_all(np.zeros((2, 3, 2), np.float32))
    assert result.message == [[MESSAGES[Status.CONVERGED]] * 3] * 2
    assert "status" in repr(result)


# The record, the callback, the table


def test_the_trace():
    plain = valley(trace=0)
    assert plain.trace is None
    seen = []
    result = valley(trace=100, callback=lambda r: seen.append((r.fun, abs(r.grad).max(), r.nfev)))
    trace, n = result.trace, int(result.nit) + 1
    assert all(getattr(trace, field.name).shape == (100,) for field in dataclasses.fields(trace))
    value, gradient = jax.value_and_grad(rosenbrock)(jnp.full(2, 0.5))
    np.testing.assert_allclose(trace.fun[0], value, rtol=1e-6)
    np.testing.assert_allclose(trace.grad_norm[0], jnp.abs(gradient).max(), rtol=1e-6)
    np.testing.assert_array_equal(trace.fun[1:n], [s[0] for s in seen])
    np.testing.assert_array_equal(trace.grad_norm[1:n], [s[1] for s in seen])
    assert trace.fun[n - 1] == result.fun
    assert (trace.step[1:n] > 0).all()
    for behind in (trace.fun, trace.grad_norm, trace.step):
        assert np.isnan(behind[n:]).all()
    assert (trace.nfev[n:] == 0).all()


def test_the_trace_counts_evaluations():
    seen = []
    result = valley(trace=100, callback=lambda r: seen.append(int(r.nfev)))
    assert result.trace.nfev[: len(seen) + 1].tolist() == [1, *seen]


def test_a_short_trace_holds_the_beginning():
    long, short = valley(trace=100), valley(trace=5)
    assert short.nit == long.nit > 5
    for field in ("fun", "grad_norm", "step"):
        # another program, so up to rounding, which a few steps have not blown up
        np.testing.assert_allclose(getattr(short.trace, field), getattr(long.trace, field)[:5], rtol=1e-3)


@pytest.mark.parametrize("wrong", [-1, 1.5], ids=str)
def test_the_length_of_the_trace_is_checked(wrong):
    with pytest.raises((TypeError, ValueError), match="trace must be"):
        jol.minimize(rosenbrock, START, trace=wrong)


def test_the_callback_sees_each_iteration_in_order():
    seen = []
    result = valley(callback=seen.append)
    assert [int(s.nit) for s in seen] == list(range(1, int(result.nit) + 1))
    assert all(isinstance(s, jol.Result) for s in seen)
    assert all(s.message == MESSAGES[Status.RUNNING] for s in seen[:-1])
    np.testing.assert_array_equal(seen[-1].x, result.x)
    assert np.all(np.diff([float(s.fun) for s in seen]) < 0)


def stops(result):
    return result.nit >= 4


def raises(result):
    if result.nit >= 4:
        raise StopIteration


@pytest.mark.parametrize("callback", [stops, raises])
def test_the_callback_stops(callback):
    result = valley(callback=callback)
    assert ended(result, Status.STOPPED)
    assert result.nit == 4


def test_a_callback_in_a_batch_is_told_what_to_use():
    with pytest.raises(NotImplementedError) as error:
        jax.vmap(lambda x: jol.minimize(rosenbrock, x, callback=stops))(jnp.zeros((2, 2)))
    assert any("use trace=" in note for note in error.value.__notes__)


@pytest.mark.parametrize("method", ["lbfgs", "bfgs", "newton_cg", "nonlinear_cg", "gd"])
@pytest.mark.parametrize("scale", [1e-12, 1e-8, 1e-4])
def test_a_function_may_be_small(method, scale):
    """The size of a function is its unit, no more: from 27 of them down to none, in float32."""
    result = jol.minimize(small, np.zeros(3, np.float32), args=(scale,), method=method, gtol=1e-3 * scale)
    assert ended(result, Status.CONVERGED)
    # |x - 3| = g / curvature, at least 2 scale
    np.testing.assert_allclose(result.x, 3, rtol=0, atol=1e-3)


def small(x, scale):
    return scale * jnp.sum((x - 3) ** 2 * jnp.array([1.0, 10, 100]))


def test_disp_prints_a_table(capfd):
    def table(disp):
        result = valley(disp=disp)
        return int(result.nit), capfd.readouterr().out.splitlines()

    nit, lines = table(True)
    assert lines[0].split() == ["iteration", "evaluations", "value", "gradient"]
    assert [int(line.split()[0]) for line in lines[1:]] == list(range(1, nit + 1))
    nit, lines = table(10)
    assert [int(line.split()[0]) for line in lines[1:]] == [1, *range(10, nit + 1, 10)]
    assert table(False)[1] == []
    assert programs(lambda: table(True)) == 0


# Line searches, options


@pytest.mark.parametrize("search", [jol.hager_zhang(), jol.backtracking()], ids=["hager_zhang", "backtracking"])
@pytest.mark.parametrize("method", ["lbfgs", "bfgs", "newton_cg", "nonlinear_cg", "gd"])
def test_every_line_search_with_every_method(method, search, x64):
    result = jol.minimize(bowl_of_three, np.zeros(2), method=method, linesearch=search, gtol=1e-6)
    assert ended(result, Status.CONVERGED)
    np.testing.assert_allclose(result.x, [1, 0], rtol=0, atol=1e-6)  # curvatures 2 and 20


def bowl_of_three(x):
    return (x[0] - 1) ** 2 + 10 * x[1] ** 2 + (x[0] - 1) ** 4


def test_a_line_search_of_the_wrong_type():
    for wrong in ("hager_zhang", jol.hager_zhang, 3):
        with pytest.raises(
            TypeError, match=r"linesearch must be strong_wolfe\(\), hager_zhang\(\) or backtracking\(\)"
        ):
            jol.minimize(rosenbrock, START, linesearch=wrong)


def test_scipys_options():
    options = {"maxiter": 3, "maxfun": 100, "gtol": 1e-4, "ftol": 0.0, "maxcor": 10, "maxls": 20, "disp": None}
    ours = valley(maxiter=3)
    theirs = jol.minimize(rosenbrock, np.full(2, 0.5, np.float32), options=options)
    assert ours.nit == theirs.nit == 3
    np.testing.assert_array_equal(ours.x, theirs.x)
    assert valley(maxiter=2, options={"maxiter": 5}).nit == 2  # an argument comes first


def test_unknown_options():
    with pytest.raises(ValueError, match="no option is called 'maxitr'; did you mean 'maxiter'"):
        jol.minimize(rosenbrock, START, options={"maxitr": 3})
    for option in ("eps", "finite_diff_rel_step"):
        with pytest.raises(ValueError, match=f"option '{option}' is about numerical derivatives"):
            jol.minimize(rosenbrock, START, options={option: 1e-8})


def test_tol_is_the_default_of_gtol():
    loose, tight = valley(gtol=None, tol=1.0), valley(tol=1.0, gtol=1e-4)
    assert 1e-4 < np.abs(loose.grad).max() <= 1
    assert np.abs(tight.grad).max() <= 1e-4


def test_tol_is_the_default_of_the_option_too():
    result = valley(gtol=None, tol=1.0, options={"gtol": 1e-4})
    assert np.abs(result.grad).max() <= 1e-4


@pytest.mark.parametrize(
    "wrong",
    [{"gtol": -1.0}, {"gtol": np.nan}, {"ftol": -1.0}, {"xtol": -1.0}, {"maxiter": -1}, {"maxfun": -1}],
    ids=repr,
)
def test_numbers_out_of_range(wrong):
    (name,) = wrong
    with pytest.raises(ValueError, match=f"{name} must be at least 0"):
        jol.minimize(rosenbrock, START, **wrong)


def test_history_is_a_positive_integer():
    with pytest.raises(ValueError, match="history must be at least 1, got 0"):
        jol.minimize(rosenbrock, START, history=0)
    with pytest.raises(TypeError, match="history must be an integer"):
        jol.minimize(rosenbrock, START, history=1.5)
    assert jol.minimize(bowl, np.zeros(2, np.float32), args=1.0, history=1).success


# The result


def test_the_result_is_a_tree():
    result = solved("barrier")
    twice = jax.tree.map(lambda leaf: 2 * leaf, result)
    assert isinstance(twice, jol.Result)
    np.testing.assert_array_equal(twice.x, 2 * result.x)
    assert result.jac is result.grad


def test_the_result_can_be_read():
    lines = repr(solved("at_minimum")).splitlines()
    assert lines[0] == "converged: no element of the gradient is larger than gtol"
    assert lines[1].split() == ["fun", "0"]
    assert lines[2].split(maxsplit=1) == ["x", "[0.5 0.5]"]
    assert lines[3].split() == ["0", "iterations,", "1", "evaluations"]


def test_a_tree_of_anything_can_be_read():
    assert "Result" in repr(jax.tree.map(jnp.shape, solved("at_minimum")))


def test_every_status_has_its_words():
    assert set(MESSAGES) == set(Status)
    assert len(set(MESSAGES.values())) == len(Status)


# Arrays on many devices


def waves(x, center):
    """Curvatures from 2 on."""
    return jnp.sum((x - center) ** 2 * jnp.arange(1, 17, dtype=x.dtype)) + jnp.sum(x**4)


def two_leaves(tree, center):
    return waves(tree["w"], center) + jnp.sum((tree["v"] - 1) ** 2)


def residuals(x, matrix):
    return jnp.sum((matrix @ x - 1) ** 2)


@pytest.fixture(params=["Auto", "Explicit"])
def spread(request):
    """Puts an array on eight devices, along its first axis or copied."""
    mesh = jax.make_mesh((8,), ("d",), axis_types=(AxisType[request.param],))
    with jax.set_mesh(mesh):
        yield lambda a, *axes: jax.device_put(jnp.asarray(a), NamedSharding(mesh, PartitionSpec(*axes)))


def same_sharding(one, other):
    return jax.tree.map(lambda a, b: a.sharding.is_equivalent_to(b.sharding, a.ndim), one, other)


def test_a_sharded_start_stays_sharded(spread):
    center = np.linspace(0, 1, 16, dtype=np.float32)
    x0 = spread(np.ones(16, np.float32), "d")
    result = jol.minimize(waves, x0, args=(spread(center, "d"),), method="newton_cg", gtol=1e-4)
    assert result.success
    assert same_sharding(result.x, x0)
    assert same_sharding(result.grad, x0)
    alone = jol.minimize(waves, np.ones(16, np.float32), args=(center,), method="newton_cg", gtol=1e-4)
    # |g| <= 4 gtol for both, curvature at least 2
    np.testing.assert_allclose(result.x, alone.x, rtol=0, atol=2 * 2 * 4 * 1e-4 / 2)


def test_a_sharded_leaf_stays_sharded(spread):
    x0 = {"w": spread(np.ones(16, np.float32), "d"), "v": spread(np.zeros(3, np.float32))}
    result = jol.minimize(two_leaves, x0, args=(jnp.zeros(16),), gtol=1e-4)
    assert result.success
    assert same_sharding(result.x, x0) == {"w": True, "v": True}
    np.testing.assert_allclose(result.x["v"], 1, rtol=0, atol=1e-4)


def test_sharded_data_and_a_start_that_is_not(spread):
    matrix = np.random.default_rng(0).normal(size=(32, 16)).astype(np.float32)
    flattest = 2 * np.linalg.eigvalsh(matrix.T @ matrix)[0]
    exact = np.linalg.lstsq(matrix, np.ones(32), rcond=None)[0]
    for x0 in (np.ones(16, np.float32), spread(np.ones(16, np.float32))):
        result = jol.minimize(residuals, x0, args=(spread(matrix, "d"),), gtol=1e-3)
        assert result.success
        np.testing.assert_allclose(result.x, exact, rtol=0, atol=4 * 1e-3 / flattest)
