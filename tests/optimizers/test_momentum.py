"""Momentum and Nesterov beyond the conformance suite: conventions, start velocities, points, closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import jaxopt_lectures as jol
from tests.conformance.cases import CARDS, build, equal, same_type, standard, tree
from tests.oracles import momentum as oracle


def drive(tx, gradient, w, steps):
    """Params held, `jol.eval_params` and `jol.gradient_point` after each step; gradients where they are wanted."""

    def step(carry, _):
        w, state = carry
        updates, state = tx.update(gradient(jol.gradient_point(state, w)), state, w)
        w = optax.apply_updates(w, updates)
        return (w, state), (w, jol.eval_params(state, w), jol.gradient_point(state, w))

    (_, state), paths = jax.jit(lambda c: jax.lax.scan(step, c, length=steps))((w, tx.init(w)))
    return paths, state


def held(tx, gradient, w, steps):
    """Params after each step, in NumPy."""
    return np.asarray(drive(tx, gradient, jnp.asarray(w), steps)[0][0])


def real(count):
    return jnp.asarray(count, jnp.result_type(float))


def halved(count):
    """1, 1/2, 1/4, ..."""
    return 0.5 ** real(count)


def waving_rate(count):
    return 0.05 * (1 + 0.5 * jnp.sin(real(count)))


def rising_momentum(count):
    return 0.95 - 0.45 / (1 + 0.3 * real(count))


def pull(w):
    """The slope of sum log cosh(w - 1) + (w - 1)^4 / 8 + cos(2 w) / 4: not quadratic, no coordinate like another."""
    return jnp.tanh(w - 1) + (w - 1) ** 3 / 2 - jnp.sin(2 * w) / 2


START = np.array([2.0, -1.0, 0.3, 1.7])

# ---- the rate inside the velocity or outside


def test_inside_is_outside_while_the_rate_is_constant(x64):
    inside = held(jol.momentum(0.05, 0.9), pull, START, 40)
    outside = held(jol.momentum(0.05, 0.9, learning_rate_inside=False), pull, START, 40)
    np.testing.assert_allclose(inside, outside, rtol=0, atol=1e-13)  # 40 steps, ten roundings of numbers of 2
    np.testing.assert_array_equal(outside, held(jol.sgd(0.05, momentum=0.9), pull, START, 40))


def test_inside_is_not_outside_under_a_schedule(x64):
    """Gradient 1 at 8 steps, the rate halved each: -10.3243 inside, -3.5858 outside."""
    ones = [1.0] * 8
    for inside, printed in ((True, -10.3243), (False, -3.5858)):
        ours = held(jol.momentum(halved, 0.9, learning_rate_inside=inside), jnp.ones_like, 0.0, 8)
        truth = oracle.momentum(0.0, ones, lambda t: 0.5**t, 0.9, learning_rate_inside=inside)
        np.testing.assert_allclose(ours, truth, rtol=0, atol=1e-14)  # numbers of 10, 2 roundings in each of 8 steps
        assert ours[-1] == pytest.approx(printed, abs=5e-5)
    np.testing.assert_array_equal(ours, held(jol.sgd(halved, momentum=0.9), jnp.ones_like, 0.0, 8))


def test_conventions_of_optax(x64):
    """sgd keeps the rate outside as optax.sgd does, momentum inside as the chain on its card; schedules show it."""
    pairs = [
        (jol.sgd(halved, momentum=0.9), optax.sgd(halved, momentum=0.9)),
        (jol.sgd(halved, 0.9, nesterov=True), optax.sgd(halved, 0.9, nesterov=True)),
        (jol.momentum(halved, 0.9), optax.chain(optax.scale_by_learning_rate(halved), optax.trace(0.9))),
    ]
    for ours, theirs in pairs:
        with standard():
            twin = held(theirs, pull, START, 20)
        np.testing.assert_allclose(held(ours, pull, START, 20), twin, rtol=0, atol=1e-14)


# ---- the velocity at the start


@pytest.mark.parametrize("inside", [True, False])
def test_initial_velocity_has_the_sign_of_algorithm_8_2(inside, x64):
    """Without a gradient the first step is alpha v_0, the next alpha^2 v_0; outside, times the rate."""
    tx = jol.momentum(0.1, 0.5, learning_rate_inside=inside, initial_velocity=3.0)
    path = held(tx, jnp.zeros_like, 1.0, 2)
    factor = 1.0 if inside else 0.1
    np.testing.assert_allclose(path, [1 + factor * 1.5, 1 + factor * 2.25], rtol=1e-15)


@pytest.mark.parametrize("inside", [True, False])
def test_initial_velocity_as_a_tree(inside, x64):
    """Leaf by leaf, against the oracle; a number in a tree stands for its whole leaf."""
    w = {"a": jnp.asarray(START), "b": jnp.asarray(0.5)}
    first = {"a": jnp.asarray([0.3, -0.2, 0.0, 1.0]), "b": -0.4}
    tx = jol.momentum(0.05, 0.8, learning_rate_inside=inside, initial_velocity=first)
    (path, _, _), _ = drive(tx, lambda w: jax.tree.map(pull, w), w, 20)
    for key in w:
        truth = oracle.momentum(
            w[key], [pull] * 20, 0.05, 0.8, learning_rate_inside=inside, initial_velocity=np.asarray(first[key])
        )
        np.testing.assert_allclose(path[key], truth, rtol=0, atol=1e-13)
    assert (np.asarray(tx.init(w).trace["a"]) == -np.asarray(first["a"])).all(), "the slot points uphill"


def test_initial_velocity_for_a_bare_array(x64):
    """Parameters that are one array are a tree of one leaf, and so is their velocity."""
    path = held(jol.momentum(0.05, 0.8, initial_velocity=jnp.asarray([0.3, -0.2, 0.0, 1.0])), pull, START, 5)
    truth = oracle.momentum(START, [pull] * 5, 0.05, 0.8, initial_velocity=np.array([0.3, -0.2, 0.0, 1.0]))
    np.testing.assert_allclose(path, truth, rtol=0, atol=1e-14)


def test_initial_velocity_can_be_swept(x64):
    found = jax.vmap(lambda v: drive(jol.momentum(0.1, 0.5, initial_velocity=v), pull, jnp.asarray(START), 3)[0][0])(
        jnp.asarray([0.0, 1.0, -2.0])
    )
    for lane, v in enumerate([0.0, 1.0, -2.0]):
        truth = oracle.momentum(START, [pull] * 3, 0.1, 0.5, initial_velocity=v)
        np.testing.assert_allclose(found[lane], truth, rtol=0, atol=1e-14)


@pytest.mark.parametrize("lookahead", [True, False])
def test_initial_velocity_of_nesterov(lookahead, x64):
    tx = jol.nesterov(waving_rate, rising_momentum, lookahead=lookahead, initial_velocity=0.7)
    path = held(tx, pull, START, 30)
    truth = oracle.nesterov(START, [pull] * 30, waving_rate, rising_momentum, lookahead=lookahead, initial_velocity=0.7)
    np.testing.assert_allclose(path, truth, rtol=0, atol=1e-13)


# ---- the two forms of Nesterov

SCHEDULES = {
    "constant": (0.05, 0.9),
    "rate": (waving_rate, 0.9),
    "momentum": (0.05, rising_momentum),
    "both": (waving_rate, rising_momentum),
    "sutskever": (0.05, jol.sutskever_momentum_schedule(period=5)),
}


@pytest.mark.parametrize("first", [0.0, 0.4], ids=["rest", "moving"])
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_two_forms_one_path(schedule, first, x64):
    """Look-ahead: w held, gradient ahead. Re-parametrised: phi held, gradient there. Their w, phi and points agree.

    phi_0 = w_0 - gamma_1 v_0, where v_0 points uphill: v_0 = -initial_velocity.
    """
    rate, gamma = SCHEDULES[schedule]
    gamma_1 = float(gamma(0)) if callable(gamma) else gamma
    w = jnp.asarray(START)
    (ahead_w, ahead_eval, ahead_point), _ = drive(
        jol.nesterov(rate, gamma, lookahead=True, initial_velocity=first), pull, w, 60
    )
    (phi, phi_eval, phi_point), state = drive(
        jol.nesterov(rate, gamma, initial_velocity=first), pull, w + gamma_1 * first, 60
    )
    # the slope of `pull` is below 8 here and the rate 0.075: an error of 10 roundings a step is not amplified much
    np.testing.assert_allclose(phi_eval, ahead_w, rtol=0, atol=1e-12)
    np.testing.assert_allclose(phi, ahead_point, rtol=0, atol=1e-12)
    np.testing.assert_array_equal(ahead_eval, ahead_w)
    np.testing.assert_array_equal(phi_point, phi)
    truth = oracle.nesterov(START, [pull] * 60, rate, gamma, lookahead=True, initial_velocity=first)
    np.testing.assert_allclose(ahead_w, truth, rtol=0, atol=1e-12)
    assert np.max(np.abs(np.asarray(phi) - np.asarray(ahead_w))) > 0.05, "phi is not w"
    assert int(state.count) == 60


def test_before_the_first_step(x64):
    """A fresh state already knows both points."""
    w = {"w": jnp.asarray(START)}
    phi = jol.nesterov(0.1, rising_momentum, initial_velocity=2.0)
    ahead = jol.nesterov(0.1, rising_momentum, lookahead=True, initial_velocity=2.0)
    gamma_1 = float(rising_momentum(0))
    np.testing.assert_allclose(jol.eval_params(phi.init(w), w)["w"], START - gamma_1 * 2.0, rtol=1e-15)
    np.testing.assert_allclose(jol.gradient_point(ahead.init(w), w)["w"], START + gamma_1 * 2.0, rtol=1e-15)


def test_frameworks_hold_phi(x64):
    """At constant rate and momentum optax.sgd(nesterov=True) holds what ours does, raw; ours also gives w."""
    ours = held(jol.nesterov(0.05, 0.9), pull, START, 40)
    with standard():
        theirs = held(optax.sgd(0.05, momentum=0.9, nesterov=True), pull, START, 40)
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-13)
    np.testing.assert_allclose(held(jol.sgd(0.05, 0.9, nesterov=True), pull, START, 40), theirs, rtol=0, atol=1e-13)
    # under a schedule of the momentum no re-use of one gamma is right
    moving = held(jol.nesterov(0.05, rising_momentum), pull, START, 12)
    assert np.max(np.abs(moving - held(jol.sgd(0.05, rising_momentum, nesterov=True), pull, START, 12))) > 1e-3


# ---- points, through whatever wraps them


ELSEWHERE = ("nesterov", "schedule_free_sgd", "schedule_free_adamw")


@pytest.mark.parametrize("card", [c for c in CARDS if c.name not in ELSEWHERE], ids=lambda c: c.name)
def test_others_evaluate_where_they_step(card):
    """No copy, no arithmetic: the very parameters."""
    w = tree()
    state = build(card).init(w)
    assert jol.eval_params(state, w) is w
    assert jol.gradient_point(state, w) is w


def test_optax_evaluates_where_it_steps():
    w = tree()
    for tx in (optax.adam(0.1), optax.chain(optax.clip(1.0), optax.sgd(0.1, 0.9)), optax.identity()):
        assert jol.eval_params(tx.init(w), w) is w
        assert jol.gradient_point(tx.init(w), w) is w


def wrapped(inner):
    """What a nesterov may sit in."""
    mask = {"w": True, "v": True}
    return {
        "chain": jol.chain(jol.clip(100.0), inner),
        "optax chain": optax.chain(optax.clip(100.0), optax.chain(inner, optax.scale(1.0))),
        "masked": optax.masked(inner, mask),
        "skip": jol.skip_nonfinite(inner),
        "all": jol.skip_nonfinite(jol.chain(jol.clip_by_global_norm(100.0), optax.masked(inner, mask))),
        "labels": optax.multi_transform({"x": inner}, {"w": "x", "v": "x"}),
        "injected": optax.inject_hyperparams(lambda learning_rate: inner)(0.1),
    }


@pytest.mark.parametrize("lookahead", [True, False])
@pytest.mark.parametrize("name", wrapped(jol.sgd(0.1)))
def test_points_through_wrappers(name, lookahead):
    inner = jol.nesterov(0.1, rising_momentum, lookahead=lookahead)
    w = {"w": jnp.float32([1.0, -2.0]), "v": jnp.float32(0.5)}
    with standard():
        paths, state = drive(wrapped(inner)[name], lambda w: jax.tree.map(pull, w), w, 4)
    alone, _ = drive(inner, lambda w: jax.tree.map(pull, w), w, 4)
    for a, b in zip(jax.tree.leaves(paths), jax.tree.leaves(alone), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=4 * 16 * 2.0**-24)  # two programs of 4 steps, 8 roundings of 2
    assert jax.tree.structure(jol.eval_params(state, w)) == jax.tree.structure(w)


@pytest.mark.parametrize("mask", [{"w": True, "frozen": False, "none": None}, {"w": True, "frozen": False}])
@pytest.mark.parametrize("lookahead", [True, False])
def test_points_of_masked_leaves(mask, lookahead):
    """Masked leaves, single or whole branches, stay; None stays None."""
    w = {"w": jnp.ones(2), "frozen": {"a": jnp.ones(3), "b": jnp.ones(())}}
    if "none" in mask:
        w["none"] = None
    tx = optax.masked(jol.nesterov(0.1, lookahead=lookahead), mask)
    _, state = tx.update(w, tx.init(w), w)
    found = (jol.gradient_point if lookahead else jol.eval_params)(state, w)
    same_type(found, w)
    equal(found["frozen"], w["frozen"])
    # v = 0.1, ahead 0.9 of it
    np.testing.assert_allclose(found["w"], 1 - 0.09 if lookahead else 1 + 0.09, rtol=4 * 2.0**-24)


@pytest.mark.parametrize("lookahead", [True, False])
def test_points_of_low_precision(lookahead):
    """bfloat16 and float16 weights keep their dtype; the velocity behind them is float32."""
    w = {"b": jnp.ones(3, jnp.bfloat16), "h": jnp.ones(2, jnp.float16), "f": jnp.ones(())}
    tx = jol.nesterov(0.1, lookahead=lookahead)
    _, state = tx.update(w, tx.init(w), w)
    assert all(v.dtype == jnp.float32 for v in state.trace.values())
    found = (jol.gradient_point if lookahead else jol.eval_params)(state, w)
    same_type(found, w)
    expected = 0.91 if lookahead else 1.09
    for key, precision in {"b": 2.0**-8, "h": 2.0**-11, "f": 2.0**-23}.items():
        np.testing.assert_allclose(np.float64(found[key]), expected, rtol=2 * precision)


@pytest.mark.parametrize("lookahead", [True, False])
def test_points_of_a_narrow_velocity(lookahead):
    """A velocity kept in bfloat16 is widened, also under strict promotion."""
    w = {"w": jnp.ones(3)}
    tx = jol.nesterov(0.1, lookahead=lookahead, accumulator_dtype=jnp.bfloat16)
    _, state = tx.update(w, tx.init(w), w)
    assert state.trace["w"].dtype == jnp.bfloat16
    found = (jol.gradient_point if lookahead else jol.eval_params)(state, w)
    np.testing.assert_allclose(found["w"], 0.91 if lookahead else 1.09, rtol=0.1 * 2.0**-8)
    assert found["w"].dtype == jnp.float32


@pytest.mark.parametrize("lookahead", [True, False])
def test_points_of_mixed_wide_leaves(lookahead, x64):
    """float32 beside float64: each leaf keeps its dtype, also under strict promotion."""
    w = {"single": jnp.ones(3, jnp.float32), "double": jnp.ones(2, jnp.float64)}
    tx = jol.nesterov(0.1, lookahead=lookahead)
    _, state = tx.update(w, tx.init(w), w)
    same_type((jol.gradient_point if lookahead else jol.eval_params)(state, w), w)


@pytest.mark.parametrize("inside", [True, False])
def test_velocity_of_bfloat16_weights(inside):
    """200 gradients of 1: the velocity is what the geometric sum says, to float32; updates are bfloat16."""
    w, steps = {"w": jnp.zeros((), jnp.bfloat16)}, 200
    tx = jol.momentum(1e-4, 0.9, learning_rate_inside=inside)
    step, state = jax.jit(tx.update), tx.init(w)
    for _ in range(steps):
        updates, state = step({"w": jnp.bfloat16(1.0)}, state)
    total = (1 - 0.9**steps) / (1 - 0.9)
    # two roundings a step, of which the last ten are remembered
    np.testing.assert_allclose(state.trace["w"], total * (1e-4 if inside else 1), rtol=20 * 2.0**-24)
    assert updates["w"].dtype == jnp.bfloat16
    np.testing.assert_allclose(np.float64(updates["w"]), -1e-4 * total, rtol=2.0**-8)


def test_nnx_weights_to_evaluate():
    """`nnx.as_pure` takes NNX's variables off state and weights; then the points are there."""
    model = nnx.Linear(3, 2, rngs=nnx.Rngs(0))
    optimizer = nnx.Optimizer(model, jol.skip_nonfinite(jol.nesterov(0.1)), wrt=nnx.Param)
    gradients = nnx.grad(lambda model: jnp.sum(model(jnp.ones((1, 3)))))(model)
    optimizer.update(model, gradients)
    weights = nnx.as_pure(nnx.state(model, nnx.Param))
    found = jol.eval_params(nnx.as_pure(optimizer.opt_state), weights)
    # every slope is 1: v = 0.1, w = phi + 0.09
    np.testing.assert_allclose(found["kernel"], weights["kernel"] + 0.09, rtol=0, atol=4 * 2.0**-24)
    np.testing.assert_allclose(found["bias"], weights["bias"] + 0.09, rtol=0, atol=4 * 2.0**-24)


# ---- closed forms: the ill-conditioned valley, the saddle, the edge of divergence


def valley(w):
    """Curvatures 100 and 1."""
    return jnp.asarray([100.0, 1.0], w.dtype) * w


def test_valley(x64):
    """Condition number 100, 100 steps from (1, 1): descent 0.19, heavy ball 3.5e-7, Nesterov 2.9e-4, each at its best.

    Descent shrinks both coordinates by 99/101 a step, exactly.
    """
    start, ratio = np.ones(2), 9 / 11  # (sqrt 100 - 1) / (sqrt 100 + 1)
    descent = np.linalg.norm(held(jol.sgd(2 / 101), valley, start, 100)[-1])
    assert descent == pytest.approx(2**0.5 * (99 / 101) ** 100, rel=1e-12)
    assert descent == pytest.approx(0.19, abs=0.005)
    ball = np.linalg.norm(held(jol.momentum(4 / 11**2, ratio**2), valley, start, 100)[-1])
    assert ball == pytest.approx(3.5e-7, abs=0.05e-7)
    (_, weights, _), _ = drive(jol.nesterov(1 / 100, ratio), valley, jnp.asarray(start), 100)
    assert np.linalg.norm(weights[-1]) == pytest.approx(2.9e-4, abs=0.05e-4)


ESCAPES = {
    "sgd": (jol.sgd(0.1), 145),
    "momentum": (jol.momentum(0.1, 0.9), 52),
    "momentum outside": (jol.sgd(0.1, 0.9), 52),
    "adagrad": (jol.adagrad(0.1, 0.0), 19),
    "adam": (jol.adam(0.1), 11),
    "rmsprop": (jol.rmsprop(0.1), 5),
}


@pytest.mark.parametrize("name", ESCAPES)
def test_saddle(name, x64):
    """x^2/2 - y^2/2 from (1, 1e-6) at 0.1: steps until y has left [-1, 1]."""
    tx, steps = ESCAPES[name]
    path = held(tx, lambda w: jnp.asarray([1.0, -1.0]) * w, np.array([1.0, 1e-6]), steps)
    assert abs(path[-1, 1]) > 1
    assert (np.abs(path[:-1, 1]) <= 1).all()


def test_saddle_without_noise(x64):
    """Exactly on the ridge nothing leaves it, momentum or not."""
    for tx in (jol.sgd(0.1), jol.momentum(0.1), jol.nesterov(0.1)):
        path = held(tx, lambda w: jnp.asarray([1.0, -1.0]) * w, np.array([1.0, 0.0]), 500)
        assert (path[:, 1] == 0).all()


@pytest.mark.parametrize(("rate", "end"), [(0.199, 6.6e-3), (0.2, 1.0), (0.201, 145.0)])
def test_edge_of_divergence(rate, end, x64):
    """Curvature 10: w shrinks by |1 - 10 rate| a step, so 2/L is the edge; 500 steps from 1."""
    path = np.abs(held(jol.sgd(rate), lambda w: 10 * w, 1.0, 500))
    np.testing.assert_allclose(path, np.abs(1 - 10 * rate) ** np.arange(1, 501), rtol=1e-12)  # 500 times 3 roundings
    assert path[-1] == pytest.approx(end, rel=0.01)


def test_momentum_changed_from_outside():
    """The gradient was taken at the old momentum: w, phi and the velocity stay consistent whatever comes next."""
    gammas = [0.1, 0.9, 0.3, 0.8]
    phi = {"w": jnp.float32(1.0)}
    state = jol.nesterov(0.1, gammas[0]).init(phi)
    w, v = 1.0, 0.0  # phi_0 = w_0: no velocity yet
    taken = gammas[0]
    for gamma in gammas:
        g = float(w - taken * v)  # of w^2 / 2, ahead
        np.testing.assert_allclose(phi["w"], g, rtol=1e-6)
        updates, state = jol.nesterov(0.1, gamma).update(phi, state)
        phi = optax.apply_updates(phi, updates)
        v = taken * v + 0.1 * g
        w, taken = w - v, gamma
        np.testing.assert_allclose(jol.eval_params(state, phi)["w"], w, rtol=1e-6)


def test_points_of_many_runs_want_vmap():
    tx = jol.nesterov(0.1)
    w = {"w": jnp.ones((3, 3))}
    state = jax.vmap(tx.init)(w)
    with pytest.raises(ValueError, match=r"use jax\.vmap"):
        jol.eval_params(state, w)
    jax.vmap(jol.eval_params)(state, w)
