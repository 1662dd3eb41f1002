"""Directions against dense NumPy: the matrices that their loops stand for, written out."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxopt_lectures.solvers.directions import bfgs, lbfgsb, newton_cg
from jaxopt_lectures.solvers.directions.bfgs import BFGS
from jaxopt_lectures.solvers.directions.direction import Place, Step, curved, downhill, unit_step
from jaxopt_lectures.solvers.directions.gradient import NonlinearCG, SteepestDescent
from jaxopt_lectures.solvers.directions.lbfgs import LBFGS
from jaxopt_lectures.solvers.directions.lbfgsb import LBFGSB
from jaxopt_lectures.solvers.directions.newton_cg import NewtonCG
from tests.oracles import quasi_newton as oracle

U = 2.0**-53  # half a unit in the last place at 1: the largest relative error of one rounding
KAPPA = 4.0  # condition of the Hessians that the pairs are made of

pytestmark = pytest.mark.usefixtures("x64")


def tolerance(n, m):
    """Of a direction by m pairs, relative to |g|.

    A pair multiplies by I - rho s y' on both sides, whose norm |s| |y| / s'y is at most (kappa + 1) / (2 sqrt(kappa))
    (Kantorovich); each of the 2 m products rounds sums of n terms and a few operations more, ours and the oracle's.
    """
    return 2 * 2 * m * (n + 8) * U * ((KAPPA + 1) / (2 * KAPPA**0.5)) ** (2 * m)


def hessian(rng, n, low=1.0, high=KAPPA):
    basis, _ = np.linalg.qr(rng.normal(size=(n, n)))
    return basis @ np.diag(np.linspace(low, high, n)) @ basis.T


def pairs_of(rng, n, count, **ends):
    A = hessian(rng, n, **ends)
    return [(s, A @ s) for s in rng.normal(size=(count, n))]


def place(g, product=None, x=None, box=None):
    return Place(g if x is None else x, g, product, box)


@functools.partial(jax.jit, static_argnums=0)
def begun(direction, g):
    return direction.init(place(g))


@functools.partial(jax.jit, static_argnums=0)
def told(direction, pairs, core, s, y, g):
    """After a step that was taken: what the loop does, a trial that is recorded and then kept."""
    pairs = direction.record(pairs, core, s, y)
    core, d = direction.turn(pairs, core, Step(s, y, s, jnp.ones(())), place(g))
    return pairs, core, d


@functools.partial(jax.jit, static_argnums=0)
def tried(direction, pairs, core, s, y):
    """After a step that was not taken."""
    return direction.record(pairs, core, s, y)


two_loops = jax.jit(LBFGS.two_loops, static_argnums=0)


# ---- BFGS


@pytest.mark.parametrize("seed", range(3))
def test_bfgs_update_is_the_product(seed):
    rng = np.random.default_rng(seed)
    H, ((s, y),) = np.linalg.inv(hessian(rng, 6)), pairs_of(rng, 6, 1)
    new = np.asarray(jax.jit(bfgs.updated)(H, s, y, s @ y))
    np.testing.assert_allclose(new, oracle.bfgs_inverse(H, s, y), rtol=0, atol=tolerance(6, 1))
    assert np.abs(new @ y - s).max() <= 1e-14 * np.abs(s).max()  # the secant equation
    assert np.abs(new - new.T).max() <= 4 * U * np.abs(new).max()
    assert np.linalg.eigvalsh(new)[0] > 0


def test_bfgs_directions_are_those_of_the_matrix():
    """Also after pairs that are skipped: without curvature, with none at all, and NaN."""
    rng = np.random.default_rng(0)
    n = 6
    good, kept, H = iter(pairs_of(rng, n, 5)), 0, np.eye(n)
    pairs, core, d = begun(BFGS(), rng.normal(size=n))
    for kind in ("good", "uphill", "good", "nan", "good", "none", "good", "good"):
        s, y = next(good) if kind == "good" else (rng.normal(size=n), rng.normal(size=n))
        g = rng.normal(size=n)
        if kind == "uphill":
            y = -s
        elif kind == "none":
            y = np.zeros(n)
        elif kind == "nan":
            y = np.where(np.arange(n) == 2, np.nan, y)
        if kind == "good":
            H = oracle.bfgs_inverse((s @ y) / (y @ y) * np.eye(n) if kept == 0 else H, s, y)
            kept += 1
        pairs, core, d = told(BFGS(), pairs, core, s, y, g)
        assert int(core.count) == kept, kind
        atol = tolerance(n, kept) * np.linalg.norm(g)
        np.testing.assert_allclose(d, -H @ g, rtol=0, atol=atol, err_msg=kind)
    core, d = BFGS().restart(pairs, core, place(jnp.asarray(g)))
    np.testing.assert_array_equal(d, -g)
    np.testing.assert_array_equal(core.H, np.eye(n))
    assert int(core.count) == 0


# ---- L-BFGS


KINDS = ("good", "uphill", "good", "good", "nan", "good", "good", "good", "uphill", "good", "none", "good", "good")


@pytest.mark.parametrize("scaled", [True, False])
def test_lbfgs_directions_are_those_of_the_matrix(scaled):
    """The ring goes round more than twice; trials that are not taken and pairs without curvature leave no trace."""
    rng = np.random.default_rng(1)
    n, memory = 7, 3
    direction = LBFGS(memory, scaled)
    good, kept = iter(pairs_of(rng, n, 9)), []
    pairs, core, d = begun(direction, rng.normal(size=n))
    for turn, kind in enumerate(KINDS):
        s, y, g = rng.normal(size=(3, n))
        if kind == "good":
            s, y = next(good)
            kept.append((s, y))
        elif kind == "uphill":
            y = -2 * s + 1e-3 * y
        elif kind == "none":
            y = np.zeros(n)
        elif kind == "nan":
            s = np.where(np.arange(n) == 0, np.nan, s)
        for junk in (np.nan, np.inf, 1.0)[: turn % 4]:
            pairs = tried(direction, pairs, core, np.full(n, junk), np.full(n, junk))
        pairs, core, d = told(direction, pairs, core, s, y, g)
        assert int(core.count) == len(kept), kind
        H = oracle.lbfgs_inverse(n, kept[-memory:], None if scaled else 1.0)
        atol = tolerance(n, memory) * np.linalg.norm(g)
        np.testing.assert_allclose(d, -H @ g, rtol=0, atol=atol, err_msg=f"{turn} {kind}")
        if kind == "good":
            Hy = np.asarray(two_loops(direction, pairs, core, y))
            assert np.abs(Hy - s).max() <= 1e-14 * np.linalg.norm(s)  # the secant equation
    assert len(kept) == 9
    core, d = direction.restart(pairs, core, place(jnp.asarray(g)))
    np.testing.assert_array_equal(d, -g)
    pairs, core, d = told(direction, pairs, core, *kept[0], g)  # the pairs from before are forgotten
    H = oracle.lbfgs_inverse(n, kept[:1], None if scaled else 1.0)
    np.testing.assert_allclose(d, -H @ g, rtol=0, atol=tolerance(n, 1) * np.linalg.norm(g))


def test_lbfgs_on_a_tree_is_that_on_the_flat_vector():
    rng = np.random.default_rng(2)
    direction, n = LBFGS(4), 11

    def tree(v):
        return {"matrix": v[:6].reshape(2, 3), "scalar": v[6], "vector": v[7:]}

    flat, leaves = (begun(direction, f(np.ones(n))) for f in (lambda v: v, tree))
    for s, y in pairs_of(rng, n, 6):
        g = rng.normal(size=n)
        flat = told(direction, *flat[:2], s, y, g)
        leaves = told(direction, *leaves[:2], tree(s), tree(y), tree(g))
        for expected, found in zip(jax.tree.leaves(tree(np.asarray(flat[2]))), jax.tree.leaves(leaves[2]), strict=True):
            np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance(n, 4) * np.linalg.norm(g))


# ---- L-BFGS-B

MEMORY, N = 4, 6


def remembered(pairs, memory=MEMORY, n=N):
    """The memory after these pairs, and those of them that are held."""
    direction = LBFGS(memory)
    ring, core, _ = begun(direction, np.ones(n))
    for s, y in pairs:
        ring, core, _ = told(direction, ring, core, s, y, np.ones(n))
    return ring, core, pairs[-memory:]


compact = jax.jit(lbfgsb.compact, static_argnums=2)
cauchy_point = jax.jit(lbfgsb.cauchy_point)


@jax.jit
def subspace_minimum(x, g, box, model, z, c):
    """Steps 2 and 3's target: the minimum over the variables that are free at z, cut back into the box."""
    free = (z > box[0]) & (z < box[1])
    return lbfgsb.within(x, g, box, z, z + lbfgsb.subspace_step(x, g, model, z, c, free))


def models():
    """Our models and the oracle's matrices: no pairs, fewer than are remembered, as many, and a ring gone round."""
    for count in (0, 1, 3, 4, 7):
        ring, core, held = remembered(pairs_of(np.random.default_rng(count), N, count))
        yield compact(ring, core, MEMORY), oracle.lbfgs_hessian(N, held)


def error(model, B):
    """What the compact form loses: M comes from an inverse, which multiplies roundings by its condition."""
    return 100 * U * np.linalg.cond(model.M) * np.linalg.norm(B)


def test_compact_form_is_the_matrix():
    for model, B in models():
        dense = model.theta * np.eye(N) - model.W @ model.M @ model.W.T
        np.testing.assert_allclose(dense, B, rtol=0, atol=error(model, B))


def test_compact_form_does_not_depend_on_the_scale():
    """Steps of length 1e-9 and curvatures of 1e6 to 1e7 cost no digits: without a scale the inverse would lose 20."""
    pairs = [(1e-9 * s, 1e-3 * y) for s, y in pairs_of(np.random.default_rng(5), N, 4)]
    ring, core, held = remembered(pairs)
    model, B = compact(ring, core, MEMORY), oracle.lbfgs_hessian(N, held)
    dense = model.theta * np.eye(N) - model.W @ model.M @ model.W.T
    np.testing.assert_allclose(dense, B, rtol=0, atol=1e-12 * np.linalg.norm(B))


def boxes(count, seed):
    """Points in boxes: bounds that are infinite, or where x is already, gradients with zeros; at times all integers."""
    rng = np.random.default_rng(seed)
    for case in range(count):
        x, g = rng.normal(size=(2, N))
        lower, upper = x - rng.exponential(0.5, N), x + rng.exponential(0.5, N)
        if case % 3 == 0:  # integers, so that several variables meet their bounds at once
            x, g = rng.integers(-2, 3, size=(2, N)).astype(float)
            lower, upper = x - rng.integers(0, 3, N), x + rng.integers(0, 3, N)
        lower = np.where(rng.random(N) < 0.2, -np.inf, np.where(rng.random(N) < 0.2, x, lower))
        upper = np.where(rng.random(N) < 0.2, np.inf, np.where(rng.random(N) < 0.2, x, upper))
        yield x, np.where(rng.random(N) < 0.1, 0.0, g), lower, upper


def test_cauchy_point_is_the_first_minimum_of_the_bent_path():
    at_bound = 0
    for model, B in models():
        for x, g, lower, upper in boxes(60, 3):
            z, c = cauchy_point(x, g, (lower, upper), model)
            expected = oracle.cauchy_point(x, g, B, lower, upper)
            atol = error(model, B) * (1 + np.linalg.norm(g))
            np.testing.assert_allclose(z, expected, rtol=0, atol=atol)
            np.testing.assert_allclose(c, model.W.T @ (np.asarray(z) - x), rtol=0, atol=atol * np.abs(model.W).max())
            # who stays free is decided by equality, so a variable at its bound is there exactly
            for bound in (lower, upper):
                np.testing.assert_array_equal(np.asarray(z) == bound, expected == bound)
            at_bound += int(((expected == lower) | (expected == upper)).sum())
    assert at_bound > 300


def test_subspace_minimum_is_that_of_the_dense_equations():
    """Some are projected; all lie in the box."""
    projected = 0
    for model, B in models():
        for x, g, lower, upper in boxes(60, 4):
            z = oracle.cauchy_point(x, g, B, lower, upper)
            p = np.asarray(subspace_minimum(x, g, (lower, upper), model, z, model.W.T @ (z - x)))
            expected = oracle.subspace_minimum(x, g, B, lower, upper, z)
            # B has eigenvalues from 1/kappa^2 at worst: that is what solving for the free ones may multiply errors by
            np.testing.assert_allclose(p, expected, rtol=0, atol=KAPPA**2 * error(model, B) * (1 + np.linalg.norm(g)))
            assert np.all((lower <= p) & (p <= upper))
            free = (z > lower) & (z < upper)
            if free.any():
                step = -np.linalg.solve(B[np.ix_(free, free)], (g + B @ (z - x))[free])
                cut = np.clip(z[free] + step, lower[free], upper[free])
                projected += int(not np.allclose(cut, z[free] + step))
    assert projected > 20


def test_subspace_minimum_is_shortened_where_its_projection_climbs():
    """In long narrow valleys, cut off by the box."""
    shortened = 0
    for seed in range(100):
        rng = np.random.default_rng(seed)
        A = hessian(rng, 2, high=1000.0)
        ring, core, held = remembered([(s, A @ s) for s in np.linalg.eigh(A)[1].T], 2, 2)
        model, B = compact(ring, core, 2), oracle.lbfgs_hessian(2, held)
        x, g = rng.normal(size=(2, 2))
        lower, upper = x - rng.exponential(0.5, 2), x + rng.exponential(0.5, 2)
        z = oracle.cauchy_point(x, g, B, lower, upper)
        p = np.asarray(subspace_minimum(x, g, (lower, upper), model, z, model.W.T @ (z - x)))
        expected = oracle.subspace_minimum(x, g, B, lower, upper, z)
        atol = error(model, B) * np.linalg.cond(B) * (1 + np.linalg.norm(g))
        np.testing.assert_allclose(p, expected, rtol=0, atol=atol)
        assert (p - x) @ g < 0
        free = (z > lower) & (z < upper)
        step = np.linalg.solve(B[np.ix_(free, free)], -(g + B @ (z - x))[free])
        full = np.array(z)
        full[free] = np.clip(z[free] + step, lower[free], upper[free])
        shortened += int((full - x) @ g >= 0)
    assert shortened >= 3


def test_lbfgsb_goes_to_the_minimum_of_its_model():
    """The parts together, in the loop's order: record, keep, Cauchy point, subspace; and it descends."""
    direction = LBFGSB(MEMORY)

    @jax.jit
    def turned(pairs, core, s, y, x, g, box):
        pairs = direction.record(pairs, core, s, y)
        core, d = direction.turn(pairs, core, Step(s, y, s, jnp.ones(())), place(g, None, x, box))
        return pairs, core, d

    pairs, core, _ = begun(LBFGS(MEMORY), np.ones(N))
    history = pairs_of(np.random.default_rng(6), N, 7)
    for k, ((s, y), (x, g, lower, upper)) in enumerate(zip(history, boxes(7, 7), strict=True)):
        pairs, core, d = turned(pairs, core, s, y, x, g, (lower, upper))
        B = oracle.lbfgs_hessian(N, history[max(0, k + 1 - MEMORY) : k + 1])
        z = oracle.cauchy_point(x, g, B, lower, upper)
        expected = oracle.subspace_minimum(x, g, B, lower, upper, z) - x
        model = compact(pairs, core, MEMORY)
        np.testing.assert_allclose(d, expected, rtol=0, atol=KAPPA**2 * error(model, B) * (1 + np.linalg.norm(g)))
        assert g @ d < 0


# ---- Newton-CG


@jax.jit
def newton_direction(g, H, products):
    return newton_cg.newton_direction(g, lambda v: H @ v, products)


SHARE = newton_cg._RESIDUAL


@pytest.mark.parametrize("size", [1e-6, 1e-3, 1.0, 1e5])
def test_newton_direction_solves_as_well_as_it_says(size):
    rng = np.random.default_rng(8)
    n = 8
    for _ in range(10):
        H, g = hessian(rng, n, high=50.0), size * rng.normal(size=n) / n**0.5
        d, products = newton_direction(g, H, 200)
        asked = min(SHARE, np.sqrt(np.linalg.norm(g))) * np.linalg.norm(g)
        assert np.linalg.norm(H @ d + g) <= asked * (1 + 1e-6)
        assert 1 <= int(products) <= n  # conjugate gradients end after n steps
        expected, count = oracle.newton_cg(g, H, 200, SHARE)
        assert int(products) == count
        # the recurrence of residuals loses digits with the condition, 50, at each of at most n steps
        np.testing.assert_allclose(d, expected, rtol=0, atol=50 * n * 16 * U * np.linalg.norm(expected) * 50)


def test_newton_direction_keeps_to_its_products():
    rng = np.random.default_rng(9)
    H, g = hessian(rng, 8, high=500.0), rng.normal(size=8)
    for most in (1, 2, 3):
        d, products = newton_direction(g, H, most)
        assert int(products) == most
        np.testing.assert_allclose(d, oracle.newton_cg(g, H, most, SHARE)[0], rtol=1e-12)
        assert g @ d < 0


def test_newton_direction_descends_where_the_hessian_is_indefinite():
    rng = np.random.default_rng(10)
    at_once = 0
    for _ in range(40):
        basis, _ = np.linalg.qr(rng.normal(size=(6, 6)))
        H, g = basis @ np.diag(rng.uniform(-2, 4, 6)) @ basis.T, rng.normal(size=6)
        d, products = newton_direction(g, H, 200)
        expected, count = oracle.newton_cg(g, H, 200, SHARE)
        assert int(products) == count
        np.testing.assert_allclose(d, expected, rtol=1e-7, atol=1e-9 * np.linalg.norm(expected))
        assert g @ d < 0
        at_once += g @ H @ g <= 0
    assert 1 <= at_once < 40


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 0.0])
def test_newton_direction_without_a_hessian_is_downhill(value):
    """Where products are NaN or infinite, or zero, the direction is finite and along -g."""
    g = np.array([1.0, -2.0, 3.0])
    d, products = newton_direction(g, np.full((3, 3), value), 200)
    assert int(products) == 1
    np.testing.assert_allclose(np.asarray(d) / np.linalg.norm(d), -g / np.linalg.norm(g), rtol=4 * U)


def test_newton_direction_on_a_tree():
    rng = np.random.default_rng(11)
    H, g = hessian(rng, 5), rng.normal(size=5)

    def tree(v):
        return {"a": v[:2], "b": v[2:].reshape(1, 3)}

    def product(v):
        return tree(H @ jnp.concatenate([v["a"], v["b"].ravel()]))

    d, products = jax.jit(lambda g: newton_cg.newton_direction(g, product, 200))(tree(g))
    expected, count = oracle.newton_cg(g, H, 200, SHARE)
    assert int(products) == count
    np.testing.assert_allclose(np.concatenate([d["a"], d["b"].ravel()]), expected, rtol=1e-12)


def test_newton_cg_counts_its_products():
    rng = np.random.default_rng(12)
    H, g = hessian(rng, 5), rng.normal(size=5)
    direction = NewtonCG(200)

    @jax.jit
    def two_and_a_restart(g):
        here = place(g, lambda v: H @ v)
        pairs, core, d = direction.init(here)
        turned = direction.turn(pairs, core, Step(g, g, g, jnp.ones(())), here)
        return d, turned, direction.restart(pairs, turned[0], here)

    d, (core, again), (restarted, down) = two_and_a_restart(g)
    expected, products = oracle.newton_cg(g, H, 200, SHARE)
    np.testing.assert_allclose(d, expected, rtol=1e-12)
    np.testing.assert_array_equal(again, d)
    assert (int(core.count), int(core.products)) == (2, 2 * products)
    np.testing.assert_array_equal(down, -g)
    assert (int(restarted.count), int(restarted.products)) == (0, 2 * products)


# ---- along the gradient


@jax.jit
def conjugate(g, y, d):
    return NonlinearCG().turn((), *NonlinearCG().init(place(g))[1:2], Step(d, y, d, jnp.ones(())), place(g))[1]


def test_nonlinear_cg_is_the_formula_and_descends():
    """Hager and Zhang's theorem 1.1: g'd <= -7/8 |g|^2, whatever the line search did."""
    rng = np.random.default_rng(13)
    n, floored, restarted = 5, 0, 0
    for case in range(200):
        g, y, d = rng.normal(size=(3, n)) * 10.0 ** rng.integers(-2, 3, size=(3, 1))
        if case % 4:
            d = d if d @ y > 0 else -d
        found, expected = np.asarray(conjugate(g, y, d)), oracle.hager_zhang(g, y, d)
        # beta divides by d'y twice: what cancels in d'y is lost in beta
        share = (np.linalg.norm(d) * np.linalg.norm(y) / abs(d @ y)) ** 2
        scale = np.linalg.norm(expected) + np.linalg.norm(g) * (1 + share)
        np.testing.assert_allclose(found, expected, rtol=0, atol=8 * n * U * share * scale)
        restarted += int((found == -g).all())
        floored += int(not np.allclose(expected, oracle.hager_zhang(g, y, d, eta=1e-30)) and d @ y > 0)
        assert g @ found <= -7 / 8 * (g @ g) + 8 * n * U * share * scale * np.linalg.norm(g)
    assert restarted >= 10
    assert floored >= 1


def test_first_steps():
    g, slope, none, last = np.array([3.0, -4.0]), np.float64(-25), np.zeros(2), np.array([0.5, -10])
    first = jax.jit(lambda d, slope, before: SteepestDescent().first_step(None, d, slope, (before[0], before[1])))
    assert float(first(g, slope, none)) == 0.25  # 1 / |g|_inf
    assert float(first(g / 8, slope / 64, none)) == 1  # at most 1
    assert float(first(g, slope, last)) == 0.2  # as much first-order change as before: 0.5 * 10 / 25
    unit = jax.jit(unit_step)
    assert float(unit(True, g)) == pytest.approx(0.2, rel=4 * U, abs=0)  # a distance of 1
    assert float(unit(True, g / 50)) == 1
    assert float(unit(False, g)) == 1


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_downhill_of_a_huge_gradient_has_a_finite_slope(dtype):
    most = np.finfo(dtype).max / 8
    g = np.array([most / 4, -most, 0, 1], dtype)
    d = np.asarray(jax.jit(downhill)(g))
    assert d.dtype == dtype
    np.testing.assert_allclose(d[:3], [-0.25, 1, 0], rtol=4 * np.finfo(dtype).eps)
    assert np.isfinite(float(jnp.vdot(d, g)))
    np.testing.assert_array_equal(jax.jit(downhill)(g / most), -(g / most))


def test_curvature_is_judged_by_the_angle():
    """Not by size: pairs of any length and scale count alike."""
    s, judged = np.array([1.0, 0.0]), jax.jit(curved)
    for length in (1e-100, 1.0, 1e100):
        for angle, kept in ((1.0, True), (1e-12, True), (1e-17, False), (0.0, False), (-1e-12, False), (np.nan, False)):
            y = np.array([angle, 1.0]) * length
            assert bool(judged(s @ y, y @ y, s)) == kept, (length, angle)
