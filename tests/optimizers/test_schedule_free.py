"""Schedule-Free beyond the conformance suite: what is evaluated, warm-up, optax, narrow parameters, other bases."""

import flax.nnx as nnx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxopt_lectures as jol
from tests.conformance.cases import standard
from tests.oracles import schedule_free as oracle

FORMS = {
    "sgd": (jol.schedule_free_sgd, oracle.schedule_free_sgd, {"b1": 0.85, "weight_decay": 0.1}),
    "adamw": (jol.schedule_free_adamw, oracle.schedule_free_adamw, {"b1": 0.85, "b2": 0.95, "weight_decay": 0.1}),
}
every_form = pytest.mark.parametrize("form", FORMS)
START = np.array([2.0, -1.0, 0.3, 1.7])


def pull(w):
    """The slope of sum log cosh(w - 1) + (w - 1)^4 / 8 - cos(2 w) / 4: no coordinate like another."""
    return jnp.tanh(w - 1) + (w - 1) ** 3 / 2 + jnp.sin(2 * w) / 2


def drive(tx, w, steps, gradient=pull):
    """Parameters y and evaluated weights x after each step."""

    def step(carry, _):
        w, state = carry
        updates, state = tx.update(gradient(w), state, w)
        w = optax.apply_updates(w, updates)
        return (w, state), (w, jol.eval_params(state, w))

    w = jnp.asarray(w)
    _, path = jax.jit(lambda c: jax.lax.scan(step, c, length=steps))((w, tx.init(w)))
    return path


# ---- what is evaluated


@every_form
@pytest.mark.parametrize("warmup", [0, 1, 5])
@pytest.mark.parametrize("more", [{}, {"weight_lr_power": 1.0, "r": 1.5}], ids=["plain", "weighted"])
def test_the_authors_algorithm(form, warmup, more, x64):
    """y and x at every step, also while the rate warms up."""
    ours, theirs, hypers = FORMS[form]
    y, x = drive(ours(0.1, warmup, **hypers, **more), START, 40)
    means = []
    path = theirs(START, [lambda w: np.asarray(pull(w))] * 40, 0.1, warmup, **hypers, **more, means=means)
    np.testing.assert_allclose(y, path, rtol=0, atol=1e-12)
    np.testing.assert_allclose(x, means, rtol=0, atol=1e-12)


def test_by_hand(x64):
    """f = w^2 / 2 from 1 at rate 1/2, b1 = 1/2, warm-up of 2.

    k = 0: rate 1/4, z = 3/4, c = 1, x = y = 3/4. k = 1: rate 1/2, z = 3/4 - 3/8 = 3/8, weights 1/16 and 1/4, c = 4/5,
    x = 3/20 + 3/10 = 9/20, y = 9/40 + 3/16 = 33/80.
    """
    y, x = drive(jol.schedule_free_sgd(0.5, 2, 0.5), [1.0], 2, gradient=lambda w: w)
    np.testing.assert_allclose(np.ravel(y), [3 / 4, 33 / 80], rtol=1e-15)
    np.testing.assert_allclose(np.ravel(x), [3 / 4, 9 / 20], rtol=1e-15)


def test_both_ends_of_b1(x64):
    """b1 = 0: gradients at z, and x is the mean of plain descent; b1 = 1: the parameters are x."""
    y, x = drive(jol.schedule_free_sgd(0.1, b1=0.0), START, 30)
    descent, _ = drive(jol.sgd(0.1), START, 30)
    np.testing.assert_allclose(y, descent, rtol=0, atol=1e-13)
    np.testing.assert_allclose(x, np.cumsum(np.asarray(descent), 0) / np.arange(1, 31)[:, None], rtol=0, atol=1e-13)
    y, x = drive(jol.schedule_free_sgd(0.1, b1=1.0), START, 30)
    np.testing.assert_allclose(y, x, rtol=0, atol=1e-14)


def test_a_schedule_counts_by_the_largest_rate_so_far(x64):
    """Rates 1, 3, 2 at power 1 are weights 1, 3, 3."""
    rates = jnp.asarray([1.0, 3.0, 2.0])
    gradient = jnp.ones(1)
    _, x = drive(jol.schedule_free_sgd(lambda t: rates[t], weight_lr_power=1.0), [0.0], 3, lambda w: gradient)
    np.testing.assert_allclose(np.ravel(x), [-1.0, (-1 - 3 * 4) / 4, (-1 - 3 * 4 - 3 * 6) / 7], rtol=1e-15)


def test_rate_zero_moves_nothing():
    y, x = drive(jol.schedule_free_adamw(0.0), START.astype(np.float32), 3)
    for path in (y, x):
        np.testing.assert_allclose(path, np.tile(np.float32(START), (3, 1)), rtol=1e-7)


# ---- optax


def optax_path(tx, w, steps):
    """y and x; optax rebuilds x."""

    def step(carry, _):
        w, state = carry
        updates, state = tx.update(pull(w), state, w)
        w = optax.apply_updates(w, updates)
        return (w, state), (w, optax.contrib.schedule_free_eval_params(state, w))

    w = jnp.asarray(w)
    with standard():
        _, path = jax.jit(lambda c: jax.lax.scan(step, c, length=steps))((w, tx.init(w)))
    return path


@every_form
def test_optax_without_warmup(form, x64):
    """x too; its 1 / b1 magnifies 40 roundings of numbers of about 1."""
    ours, _, hypers = FORMS[form]
    theirs = getattr(optax.contrib, f"schedule_free_{form}")(0.1, **hypers)
    for mine, other in zip(drive(ours(0.1, **hypers), START, 40), optax_path(theirs, START, 40), strict=True):
        np.testing.assert_allclose(mine, other, rtol=0, atol=1e-12)


@every_form
def test_optax_with_warmup_is_another_method(form, x64):
    """Its first step has a rate of 0 and a weight of the second step's rate: far from the authors' after 8 steps."""
    ours, authors, _ = FORMS[form]
    theirs = getattr(optax.contrib, f"schedule_free_{form}")(0.1, warmup_steps=4)
    other, _ = optax_path(theirs, START, 8)
    path = authors(START, [lambda w: np.asarray(pull(w))] * 8, 0.1, 4)
    mine, _ = drive(ours(0.1, 4), START, 8)
    np.testing.assert_allclose(mine, path, rtol=0, atol=1e-13)
    apart = np.max(np.abs(np.asarray(other[-1]) - path[-1]))
    assert 0.03 < apart < 0.3


# ---- narrow parameters


@every_form
def test_bfloat16_parameters_lose_nothing(form):
    """1000 steps from the same gradients: x and z never see the parameters, so x is the float32 run's, rounded."""
    ours, _, _ = FORMS[form]
    tx = ours(0.01)
    gradients = jax.random.normal(jax.random.key(0), (1000, 64)).astype(jnp.bfloat16)

    def run(dtype):
        def step(carry, g):
            w, state = carry
            updates, state = tx.update(g.astype(dtype), state, w)
            return (optax.apply_updates(w, updates), state), None

        w = jnp.full((64,), 1.0, dtype)
        return jax.jit(lambda c: jax.lax.scan(step, c, gradients)[0])((w, tx.init(w)))

    (narrow, state), (_, wide) = run(jnp.bfloat16), run(jnp.float32)
    np.testing.assert_array_equal(state.x, wide.x)
    np.testing.assert_array_equal(jol.eval_params(state, narrow), wide.x.astype(jnp.bfloat16))
    assert jol.eval_params(state, narrow).dtype == jnp.bfloat16
    # the parameters themselves are y, rounded when the update is, and once more in the sum
    y = np.asarray(0.9 * wide.x + 0.1 * wide.z)
    np.testing.assert_allclose(np.asarray(narrow, np.float32), y, rtol=2 * 2**-8)


@every_form
def test_bfloat16_parameters_on_a_loss(form):
    """1000 steps down sum (w - 1/3)^2 / 2: gradients are taken at rounded parameters.

    The loss has the slope y - 1/3, of which rounding takes 2^-8 of |y| < 2 at most: 0.008 of a slope that x follows.
    """
    ours, _, _ = FORMS[form]
    tx = ours(0.05 if form == "sgd" else 0.005)

    def run(dtype):
        w = jnp.linspace(-1.0, 1.5, 16).astype(dtype)

        def step(carry, _):
            w, state = carry
            g = (w.astype(jnp.float32) - 1 / 3).astype(dtype)
            updates, state = tx.update(g, state, w)
            return (optax.apply_updates(w, updates), state), None

        (w, state), _ = jax.jit(lambda c: jax.lax.scan(step, c, length=1000))((w, tx.init(w)))
        return state.x

    np.testing.assert_allclose(run(jnp.bfloat16), run(jnp.float32), atol=2 * 2**-8)


# ---- the wrapper


@every_form
def test_the_wrapper_is_the_optimizer(form, x64):
    """Around bases of ours and of optax."""
    ours, _, hypers = FORMS[form]
    b1, decay, b2 = hypers["b1"], hypers["weight_decay"], hypers.get("b2", 0.999)
    bases = {
        "sgd": [optax.chain(optax.add_decayed_weights(decay), optax.sgd(0.1))],
        "adamw": [jol.adamw(0.1, 0.0, b2, weight_decay=decay), optax.adamw(0.1, 0.0, b2, weight_decay=decay)],
    }
    y, x = drive(ours(0.1, **hypers), START, 30)
    for base in bases[form]:
        with standard():
            mine = drive(jol.schedule_free(base, 0.1, b1), START, 30)
        np.testing.assert_allclose(mine[0], y, rtol=0, atol=1e-12)
        np.testing.assert_allclose(mine[1], x, rtol=0, atol=1e-12)


def test_a_warmup_is_given_to_both(x64):
    """As the schedule that the authors' warm-up is."""

    def warm(count):
        return 0.1 * jnp.minimum((count.astype(float) + 1) / 5, 1)

    for mine, other in zip(
        drive(jol.schedule_free(jol.sgd(warm), warm), START, 20),
        drive(jol.schedule_free_sgd(0.1, 5), START, 20),
        strict=True,
    ):
        np.testing.assert_allclose(mine, other, rtol=0, atol=1e-13)


@pytest.mark.parametrize("base", [jol.adam(0.01, 0.0), optax.adam(0.01, 0.0)], ids=["ours", "optax"])
def test_the_wrapper_steps_bfloat16_in_float32(base):
    """Steps of 1e-2 of weights of about 100, where bfloat16 numbers are 0.5 apart, add up."""
    tx = jol.schedule_free(base, 0.01)
    w = jnp.full((4,), 100.0, jnp.bfloat16)
    g = jnp.ones((4,), jnp.bfloat16)
    state = tx.init(w)

    def step(carry, _):
        w, state = carry
        updates, state = tx.update(g, state, w)
        return (jol.apply_updates(w, updates), state), None

    with standard():
        (w, state), _ = jax.jit(lambda c: jax.lax.scan(step, c, length=200))((w, state))
    # z is 100 - 0.01 k, the mean of k = 1 to 200 is 98.995; sums of 200 numbers near 100
    np.testing.assert_allclose(state[1].x, 98.995, rtol=200 * 2**-24)
    assert w.dtype == jnp.bfloat16


def test_in_a_chain_in_nnx_and_stored():
    """The weights to evaluate are found; x and z stay as they are in every code."""
    tx = jol.chain(jol.clip_by_global_norm(1.0), jol.schedule_free_adamw(0.1))
    w = {"w": jnp.linspace(-1.0, 1.0, 256)}
    stored = jol.store(tx, "int8", min_size=1)
    states = []
    for one in (tx, stored):
        state, params = one.init(w), w
        for _ in range(3):
            updates, state = jax.jit(one.update)(params, state, params)
            params = optax.apply_updates(params, updates)
        evaluated = jol.eval_params(state, params)["w"]
        np.testing.assert_array_equal(evaluated, state[1].x["w"])
        assert jnp.any(evaluated != params["w"])
        states.append(state)
    assert states[1][1].x["w"].dtype == jnp.float32
    assert states[1][1].nu["w"].codes.dtype == jnp.uint8
    np.testing.assert_allclose(states[1][1].x["w"], states[0][1].x["w"], atol=0.05)
    with pytest.raises(ValueError, match="no slot is called 'x'"):
        jol.store(tx, {"x": "int8"})

    model = nnx.Linear(3, 2, rngs=nnx.Rngs(0))
    optimizer = nnx.Optimizer(model, jol.schedule_free_sgd(0.1), wrt=nnx.Param)
    for _ in range(2):
        optimizer.update(model, nnx.grad(lambda m: jnp.mean((m(jnp.ones((4, 3))) - 1.0) ** 2))(model))
    params = nnx.state(model, nnx.Param)
    evaluated = jol.eval_params(optimizer.opt_state, params)
    assert jax.tree.structure(evaluated) == jax.tree.structure(params)
    assert jnp.any(evaluated["kernel"][...] != model.kernel[...])


def test_bad_input():
    with pytest.raises(TypeError, match="schedule_free's base must be a transformation"):
        jol.schedule_free(jol.adam, 0.1)
    with pytest.raises(ValueError, match=r"b1 must lie in \[0, 1\], got 1.1"):
        jol.schedule_free(jol.sgd(0.1), 0.1, 1.1)
    tx = jol.schedule_free(jol.sgd(0.1), 0.1)
    w = jnp.ones(2)
    with pytest.raises(ValueError, match="reads the parameters"):
        tx.update(w, tx.init(w))
