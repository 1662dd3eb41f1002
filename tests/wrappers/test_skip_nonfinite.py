"""A step that is not finite leaves no trace: not in the weights, not in the state, not in a schedule's count."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import jaxopt_lectures as jol
from tests.conformance.cases import equal, every_card, same_type, standard

W = {"a": jnp.float32([1.0, -2.0, 0.5]), "b": {"c": jnp.bfloat16(3.0), "none": None}}
GOOD = [
    {"a": jnp.float32([0.5, 1.0, -1.0]), "b": {"c": jnp.bfloat16(2.0), "none": None}},
    {"a": jnp.float32([-0.25, 0.0, 3.0]), "b": {"c": jnp.bfloat16(-1.0), "none": None}},
]


def spoiled(value, where="a"):
    """The first good gradient with one bad element."""
    if where == "a":
        return GOOD[0] | {"a": GOOD[0]["a"].at[1].set(value)}
    return GOOD[0] | {"b": {"c": jnp.bfloat16(value), "none": None}}


def walk(tx, gradients, params=W, step=None):
    """Weights and state after each step, by one compiled program."""
    step = step or jax.jit(lambda g, s, p: tx.update(g, s, p))
    state, path = tx.init(params), []
    for gradient in gradients:
        updates, state = step(gradient, state, params)
        params = optax.apply_updates(params, updates)
        path.append((params, state))
    return path


def counts(state):
    """In a row, in all, whether the last was taken, whether it gave up."""
    return [int(state.notfinite_count), int(state.total_notfinite), bool(state.last_finite), bool(state.gave_up)]


# ---- what a skipped step leaves


@every_card
def test_as_if_it_had_not_been(card):
    """Bit for bit, all hyper-parameters scheduled: good, bad, bad, good is good, good; each bad one changes nothing."""
    hypers = {"learning_rate": 0.1} | dict(card.off_neutral)
    numbers = {name: value for name, value in hypers.items() if not isinstance(value, bool)}
    rising = {name: lambda count, v=v: v * (1 - 0.5 ** (1 + count.astype(jnp.float32))) for name, v in numbers.items()}
    tx = jol.skip_nonfinite(card.factory(**hypers | rising))
    step = jax.jit(lambda g, s, p: tx.update(g, s, p))
    path = walk(tx, [GOOD[0], spoiled(np.nan), spoiled(-np.inf, "b"), GOOD[1]], step=step)
    clean = walk(tx, GOOD, step=step)
    for index in (1, 2):
        equal(path[index][0], clean[0][0])
        equal(path[index][1].inner_state, clean[0][1].inner_state)
    equal(path[3][0], clean[1][0])
    equal(path[3][1].inner_state, clean[1][1].inner_state)
    assert int(path[3][1].inner_state.count) == 2
    assert [counts(state)[:2] for _, state in path] == [[0, 0], [1, 1], [2, 2], [0, 2]]
    equal(step(spoiled(np.nan), path[0][1], W)[0], jax.tree.map(jnp.zeros_like, W))  # the updates themselves


@pytest.mark.parametrize("inner", [jol.adam(0.1), jol.nesterov(0.1, 0.8)], ids=["adam", "nesterov"])
def test_finite_steps_are_those_of_the_inner(inner):
    wrapped, plain = walk(jol.skip_nonfinite(inner), GOOD), walk(inner, GOOD)
    for (ours, _), (theirs, _) in zip(wrapped, plain, strict=True):
        # two programs may round a step differently: a few units of float32 below 4, one of bfloat16
        np.testing.assert_allclose(ours["a"], theirs["a"], rtol=0, atol=16 * 2.0**-24)
        np.testing.assert_allclose(float(ours["b"]["c"]), float(theirs["b"]["c"]), rtol=2.0**-7)
    same_type(wrapped[-1][1].inner_state, plain[-1][1])


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("where", ["a", "b"])
def test_counts(value, where):
    tx = jol.skip_nonfinite(jol.adam(0.1), max_consecutive=3)
    bad = spoiled(value, where)
    path = walk(tx, [bad, GOOD[0], bad, bad, GOOD[1], GOOD[0], bad])
    assert [counts(state) for _, state in path] == [
        [1, 1, False, False],
        [0, 1, True, False],
        [1, 2, False, False],
        [2, 3, False, False],
        [0, 3, True, False],
        [0, 3, True, False],
        [1, 4, False, False],
    ]
    same_type(path[0][1], tx.init(W))
    assert counts(tx.init(W)) == [0, 0, True, False]


# ---- updates that are not finite although the gradients are


def divide_by(divisors):
    """An optax transformation that divides by a number which may be 0, and counts its own steps."""

    def update(updates, state, params=None):
        del params
        return jax.tree.map(lambda u: u / divisors[state].astype(u.dtype), updates), state + 1

    return optax.GradientTransformation(lambda params: jnp.zeros((), jnp.int32), update)


@pytest.mark.parametrize("gradient", [0.0, 1.0], ids=["0/0", "1/0"])
def test_updates_of_the_inner(gradient):
    """The divisor 0 comes at the inner count 1; it is skipped for ever, as the count waits, and never let through."""
    tx = jol.skip_nonfinite(optax.chain(jol.adam(0.1), optax.trace(0.9), divide_by(jnp.float32([1.0, 0.0]))))
    g = {"w": jnp.full(2, gradient)}
    if gradient == 0.0:
        tx = jol.skip_nonfinite(optax.chain(optax.trace(0.9), divide_by(jnp.float32([1.0, 0.0])), jol.adam(0.1)))
    path = walk(tx, [g] * 4, {"w": jnp.ones(2)})
    assert [counts(state) for _, state in path] == [[0, 0, True, False]] + [[k, k, False, False] for k in (1, 2, 3)]
    for params, state in path[1:]:
        equal(params, path[0][0])
        equal(state.inner_state, path[0][1].inner_state)
    assert np.isfinite(path[0][0]["w"]).all()


def test_overflow_of_the_inner():
    """Two gradients of 3e38 overflow a velocity: the second is skipped, the next small one is taken."""
    tx = jol.skip_nonfinite(jol.sgd(1e-37, momentum=0.9))
    big, small = {"w": jnp.float32([3e38])}, {"w": jnp.float32([1.0])}
    path = walk(tx, [big, big, small], {"w": jnp.zeros(1)})
    assert [bool(state.last_finite) for _, state in path] == [True, False, True]
    # v = 0.9 * 3e38 + 1 = 2.7e38; w = -30 - 27; two roundings each
    np.testing.assert_allclose(path[2][0]["w"], [-57.0], rtol=4 * 2.0**-24)


# ---- giving up


def test_raises_when_it_can():
    """The third step in a row raises, says what to look at, and the state before it is still good."""
    tx = jol.skip_nonfinite(jol.adam(0.1), max_consecutive=3)
    state = tx.init(W)
    for expected in (1, 2):
        updates, state = tx.update(spoiled(np.nan), state, W)
        equal(updates, jax.tree.map(jnp.zeros_like, W))
        assert counts(state) == [expected, expected, False, False]
    with pytest.raises(FloatingPointError, match=r"3 steps in a row .*max_consecutive is 3: look at the loss"):
        tx.update(spoiled(np.nan), state, W)
    updates, state = tx.update(GOOD[0], state, W)
    assert counts(state) == [0, 2, True, False]
    assert (np.asarray(updates["a"]) != 0).all()


def test_raises_at_the_first_if_told_to():
    tx = jol.skip_nonfinite(jol.sgd(0.1), max_consecutive=1)
    with pytest.raises(FloatingPointError, match="1 steps in a row"):
        tx.update(spoiled(np.inf), tx.init(W), W)


def test_good_steps_start_the_count_anew():
    tx = jol.skip_nonfinite(jol.sgd(0.1), max_consecutive=2)
    state = tx.init(W)
    for gradient in [spoiled(np.nan), GOOD[0]] * 5:
        _, state = tx.update(gradient, state, W)
    assert counts(state) == [0, 5, True, False]


def test_compiled_it_reports_and_goes_on_skipping():
    """Sixty steps in one program: the first 5 good, 50 not, 5 good. gave_up turns at the 4th bad one and stays."""
    tx = jol.skip_nonfinite(jol.adam(0.1), max_consecutive=4)
    bad = (np.arange(60) >= 5) & (np.arange(60) < 55)
    gradients = jnp.asarray(np.where(bad, np.nan, 1.0), jnp.float32)

    def step(carry, g):
        params, state = carry
        updates, state = tx.update({"w": jnp.full(3, g)}, state, params)
        params = optax.apply_updates(params, updates)
        return (params, state), (params, state)

    start = {"w": jnp.ones(3)}
    _, (params, states) = jax.jit(lambda c: jax.lax.scan(step, c, gradients))((start, tx.init(start)))
    path = np.asarray(params["w"])
    assert np.isfinite(path).all()
    np.testing.assert_array_equal(path[4:55], np.tile(path[4], (51, 1)))
    assert (path[55:] != path[54:-1]).all(), "it resumes"
    np.testing.assert_array_equal(states.gave_up, np.arange(60) >= 8)
    np.testing.assert_array_equal(states.last_finite, ~bad)
    np.testing.assert_array_equal(states.notfinite_count, np.where(bad, np.arange(60) - 4, 0))
    np.testing.assert_array_equal(states.inner_state.count, np.cumsum(~bad))
    assert int(states.total_notfinite[-1]) == 50


def test_jit_does_not_raise():
    tx = jol.skip_nonfinite(jol.sgd(0.1), max_consecutive=1)
    updates, state = jax.jit(tx.update)(spoiled(np.nan), tx.init(W), W)
    equal(updates, jax.tree.map(jnp.zeros_like, W))
    assert counts(state) == [1, 1, False, True]
    _, state = tx.update(GOOD[0], state, W)
    assert counts(state) == [0, 1, True, True], "gave_up stays True outside jit too"


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "jit"])
def test_lanes_of_vmap_are_alone(compiled):
    """One lane of three meets NaN at its steps 1 and 2; the others go on, nothing raises."""
    tx = jol.skip_nonfinite(jol.adam(0.1), max_consecutive=2)
    grads = jnp.float32([[1.0, 1.0, 1.0], [2.0, np.nan, 1.0], [1.0, np.nan, np.inf], [3.0, 1.0, 1.0]])

    def step(g, state, w):
        updates, state = tx.update({"w": g[None]}, state, {"w": w[None]})
        return w + updates["w"][0], state

    lanes = jax.vmap(step)
    lanes = jax.jit(lanes) if compiled else lanes
    w, state = jnp.ones(3), jax.vmap(lambda w: tx.init({"w": w[None]}))(jnp.ones(3))
    for g in grads:
        w, state = lanes(g, state, w)
    np.testing.assert_array_equal(state.total_notfinite, [0, 2, 1])
    np.testing.assert_array_equal(state.gave_up, [False, True, False])
    np.testing.assert_array_equal(state.inner_state.count, [4, 2, 3])
    for lane, seen in enumerate([[1.0, 2.0, 1.0, 3.0], [1.0, 1.0], [1.0, 1.0, 1.0]]):
        alone, adam = {"w": jnp.ones(1)}, jol.adam(0.1)
        inner = adam.init(alone)
        for g in seen:
            updates, inner = adam.update({"w": jnp.float32([g])}, inner)
            alone = optax.apply_updates(alone, updates)
        np.testing.assert_allclose(w[lane], alone["w"][0], rtol=8 * 2.0**-24)  # a few roundings of numbers near 1


def test_cond_and_donation():
    """The state keeps its type through `lax.cond`, and its buffers may be donated."""
    tx = jol.skip_nonfinite(jol.adam(0.1))
    state = tx.init(W)
    taken = jax.lax.cond(True, lambda s: tx.update(GOOD[0], s, W)[1], lambda s: s, state)
    same_type(taken, state)
    donating = jax.jit(lambda g, s: tx.update(g, s), donate_argnums=1)
    expected = walk(tx, [GOOD[0], spoiled(np.nan)])[-1][1]
    for gradient in (GOOD[0], spoiled(np.nan)):
        _, state = donating(gradient, state)
    equal(state, expected)


# ---- around what others built

OPTAX = {
    "adam": lambda: optax.adam(0.1),
    "scheduled chain": lambda: optax.chain(
        optax.clip_by_global_norm(1.0), optax.adamw(optax.linear_schedule(0.1, 0.0, 4))
    ),
    "momentum": lambda: optax.sgd(0.1, momentum=0.9, nesterov=True),
    "noise": lambda: optax.chain(optax.add_noise(0.1, 0.5, key=jax.random.key(0)), optax.sgd(0.1)),
    "accumulating": lambda: optax.MultiSteps(optax.sgd(0.1), 2).gradient_transformation(),
    "masked": lambda: optax.masked(optax.adam(0.1), {"w": True, "v": False}),
    "injected": lambda: optax.inject_hyperparams(optax.adam)(0.1),
}


@pytest.mark.parametrize("name", OPTAX)
def test_around_optax(name):
    """Random keys, accumulators, schedules, masks: all wait for the next finite step."""
    w = {"w": jnp.float32([1.0, -2.0]), "v": jnp.float32(0.5)}
    good = [{"w": jnp.float32([0.5, 1.0]) * k, "v": jnp.float32(k)} for k in (1.0, 2.0, 3.0)]
    bad = good[0] | {"v": jnp.float32(np.nan)}
    tx = jol.skip_nonfinite(OPTAX[name]())
    with standard():
        step = jax.jit(lambda g, s, p: tx.update(g, s, p))
        path = walk(tx, [good[0], bad, good[1], bad, good[2]], w, step)
        clean = walk(tx, good, w, step)
    for index, other in enumerate([0, 0, 1, 1, 2]):
        equal(path[index][0], clean[other][0])
        keys_as_data = [
            jax.tree.map(
                lambda x: jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x, s.inner_state
            )
            for s in (path[index][1], clean[other][1])
        ]
        equal(*keys_as_data)
    assert counts(path[-1][1]) == [0, 2, True, False]


def test_extra_arguments_reach_the_inner():
    def update(updates, state, params=None, *, value, **extra):
        del params, extra
        return jax.tree.map(lambda u: u * value, updates), state

    inner = optax.GradientTransformationExtraArgs(lambda params: optax.EmptyState(), update)
    tx, g = jol.skip_nonfinite(inner), {"w": jnp.ones(2)}
    updates, state = tx.update(g, tx.init(g), g, value=3.0)
    np.testing.assert_array_equal(updates["w"], [3.0, 3.0])
    updates, state = tx.update(g, state, g, value=jnp.nan)
    np.testing.assert_array_equal(updates["w"], [0.0, 0.0])
    assert counts(state) == [1, 1, False, False]


def test_inside_chains():
    """Around a part it guards that part: a NaN that comes later is not its business."""
    w, g = {"w": jnp.ones(2)}, {"w": jnp.float32([1.0, np.nan])}
    for chain in (jol.chain, optax.chain):
        tx = chain(jol.clip(1.0), jol.skip_nonfinite(jol.adam(0.1)), optax.scale(0.5))
        updates, state = jax.jit(tx.update)(g, tx.init(w), w)
        np.testing.assert_array_equal(updates["w"], [0.0, 0.0])
        assert counts(state[1]) == [1, 1, False, False]


def test_nnx():
    """`nnx.Optimizer`: a batch with a NaN leaves model and state alone, the next trains."""
    model = nnx.Linear(3, 2, rngs=nnx.Rngs(0))
    optimizer = nnx.Optimizer(model, jol.skip_nonfinite(jol.adam(0.1)), wrt=nnx.Param)
    before = np.array(model.kernel[...])

    @nnx.jit
    def step(model, optimizer, x):
        optimizer.update(model, nnx.grad(lambda model: jnp.mean((model(x) - 1.0) ** 2))(model))

    x = jnp.ones((4, 3))
    step(model, optimizer, x.at[0, 0].set(jnp.nan))
    np.testing.assert_array_equal(model.kernel[...], before)
    assert int(optimizer.opt_state.total_notfinite[...]) == 1
    assert int(optimizer.opt_state.inner_state.count[...]) == 0
    step(model, optimizer, x)
    # Adam's first step has the length of the rate; eps and two roundings shorten it
    np.testing.assert_allclose(np.abs(model.kernel[...] - before), 0.1, rtol=1e-5)
    assert bool(optimizer.opt_state.last_finite[...])


@pytest.mark.parametrize("lookahead", [False, True])
def test_evaluation_points_look_through(lookahead):
    inner = jol.nesterov(0.1, lookahead=lookahead)
    g = {"w": jnp.float32([1.0, -1.0])}
    w = {"w": jnp.ones(2)}
    wrapped, alone = jol.skip_nonfinite(inner), inner.init(w)
    state = wrapped.init(w)
    for gradient in (g, {"w": jnp.float32([np.nan, 0.0])}, g):
        _, state = wrapped.update(gradient, state, w)
    for _ in range(2):
        _, alone = inner.update(g, alone, w)
    for question in (jol.eval_params, jol.gradient_point):
        equal(question(state, w), question(alone, w))
        equal(question((state, optax.EmptyState()), w), question(alone, w))
    changed = jol.gradient_point if lookahead else jol.eval_params
    kept = jol.eval_params if lookahead else jol.gradient_point
    assert (np.asarray(changed(state, w)["w"]) != 1.0).all()
    assert kept(state, w) is w


# ---- odd trees and bad input


def test_nothing_to_look_at():
    """No leaves, or only empty ones: nothing is not finite."""
    tx = jol.skip_nonfinite(jol.sgd(0.1))
    for nothing in ({}, {"a": None}, {"a": jnp.zeros((0, 3))}):
        updates, state = tx.update(nothing, tx.init(nothing), nothing)
        equal(updates, nothing)
        assert counts(state) == [0, 0, True, False]


@pytest.mark.parametrize("value", [0, -1])
def test_max_consecutive_out_of_range(value):
    with pytest.raises(ValueError, match=rf"max_consecutive must be at least 1, got {value}"):
        jol.skip_nonfinite(jol.sgd(0.1), max_consecutive=value)


def test_a_factory_is_not_a_transformation():
    with pytest.raises(TypeError, match="skip_nonfinite's inner must be a transformation, got function"):
        jol.skip_nonfinite(jol.sgd)


@pytest.mark.parametrize(
    "value", ["3", None, True, 1j, 0.5, float("nan"), lambda count: 3], ids=lambda v: type(v).__name__
)
def test_max_consecutive_of_another_type(value):
    with pytest.raises(TypeError, match="max_consecutive must be"):
        jol.skip_nonfinite(jol.sgd(0.1), max_consecutive=value)


def test_parts_and_couples():
    """A wrapper says what it wraps, and that one bad element stops all others."""
    inner = jol.adam(0.1)
    tx = jol.skip_nonfinite(inner)
    assert tx.parts == (inner,)
    assert tx.couples == "tree"
