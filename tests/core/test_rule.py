"""`from_rule`: one trace for equal leaves, masks, initial values, weights of scheduled means."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxopt_lectures as jol
from jaxopt_lectures.core.checks import interval
from jaxopt_lectures.core.rule import from_rule, weight
from jaxopt_lectures.core.slots import NonNegative, Shared, Signed, declared_slots


class MeanState(NamedTuple):
    count: jax.Array
    mu: Signed
    log_b: Shared


TRACED = []


def mean_rule(g, s, p, h, t):
    TRACED.append(g.shape)
    mu = h.b * s.mu + (1 - h.b) * g
    return mu / h.b_weight, {"mu": mu}


def mean(b):
    """A user's own transformation, in the ten lines that it takes: the bias-corrected running mean of the gradient."""
    return from_rule(mean_rule, MeanState, [interval("b", b, 0, 1)], decays=("b",))


def test_equal_leaves_are_traced_once():
    tx = mean(0.9)
    params = {f"w{i}": jnp.ones((4,)) for i in range(200)} | {"other": jnp.ones((2, 2))}
    TRACED.clear()
    state = tx.init(params)
    jax.jit(tx.update).lower(params, state)
    assert sorted(TRACED) == [(2, 2), (4,)]
    TRACED.clear()
    jax.jit(mean(0.8).update).lower(params, state)
    assert TRACED == [], "another optimizer of the same rule finds the traces of the first"


def test_eager_compiles_once_under_a_schedule():
    tx = mean(lambda count: 1 - 1 / (2.0 + count.astype(jnp.float32)))
    params = {"w": jnp.ones((3, 3))}
    state = tx.init(params)
    TRACED.clear()
    for _ in range(5):
        _, state = tx.update(params, state)
    assert len(TRACED) <= 1


def test_mean_of_a_constant_is_the_constant():
    """Whatever the decays were: the weights seen add up to one. `1 - b**t` of the present b is 57 % off here."""
    tx = mean(optax.linear_schedule(0.5, 0.99, 100))
    params = {"w": jnp.float32([1.0, -3.0])}
    with jax.numpy_dtype_promotion("standard"):
        _, updates = jax.lax.scan(lambda s, _: tx.update(params, s)[::-1], tx.init(params), length=101)
    np.testing.assert_allclose(updates["w"], np.tile([1.0, -3.0], (101, 1)), rtol=101 * 2**-23)


@pytest.mark.parametrize("b", [0.0, 1e-9, 0.5, 0.9, 0.999, 0.9999, 0.999999])
def test_weight(b):
    """1 - b^t to a few units in the last place up to t = 100,000; the float32 power is off by up to 1e-2."""
    b = np.float32(b)
    mean_log, worst = jnp.float32(0), 0.0
    step = jax.jit(weight)
    steps = [1, 2, 3, 10, 100, 1000, 10_000, 100_000]
    for t in range(1, 11):
        mean_log, w = step(b, mean_log, jnp.float32(t))
        worst = (
            max(worst, abs(float(w) / -np.expm1(t * np.log1p(np.float64(b) - 1 or -1 + 1e-300)) - 1)) if b else worst
        )
    for t in steps:
        w = float(-jnp.expm1(jnp.float32(t) * mean_log))
        truth = 1.0 if b == 0 else -np.expm1(t * np.log(np.float64(b)))
        worst = max(worst, abs(w / truth - 1))
    assert worst <= 4 * 2**-23  # log, product, expm1: under two units each


def test_float64_slots_and_shared():
    with jax.enable_x64(True):
        tx = mean(0.9)
        state = tx.init({"w": jnp.ones(2, jnp.float64), "v": jnp.ones(2, jnp.float32)})
        assert (state.mu["w"].dtype, state.mu["v"].dtype, state.log_b.dtype) == (jnp.float64, jnp.float32, jnp.float64)
        updates, _ = tx.update({"w": jnp.ones(2, jnp.float64), "v": jnp.ones(2, jnp.float32)}, state)
        assert (updates["w"].dtype, updates["v"].dtype) == (jnp.float64, jnp.float32)


def test_slot_dtypes():
    """mu_dtype narrows storage, not arithmetic: the first update is that of float32."""
    params = {"w": jnp.float32([1.0, 2.0, 3.0])}
    narrow, wide = jol.adam(0.1, mu_dtype=jnp.bfloat16), jol.adam(0.1)
    state = narrow.init(params)
    assert state.mu["w"].dtype == jnp.bfloat16
    assert state.nu["w"].dtype == jnp.float32
    np.testing.assert_array_equal(narrow.update(params, state)[0]["w"], wide.update(params, wide.init(params))[0]["w"])
    assert jol.sgd(0.1, momentum=0.9, accumulator_dtype="bfloat16").init(params).trace["w"].dtype == jnp.bfloat16


@pytest.mark.parametrize(
    "mask",
    [{"a": True, "b": False}, {"a": {"x": True}, "b": False}, lambda p: jax.tree.map(lambda x: x.ndim > 0, p)],
    ids=["prefix", "full", "function"],
)
def test_decay_mask(mask):
    params = {"a": {"x": jnp.ones(2)}, "b": jnp.float32(1.0)}
    zero = jax.tree.map(jnp.zeros_like, params)
    tx = jol.adamw(0.1, weight_decay=0.5, mask=mask)
    updates, _ = tx.update(zero, tx.init(params), params)
    np.testing.assert_allclose(updates["a"]["x"], -0.05 * np.ones(2), rtol=1e-6)
    assert float(updates["b"]) == 0.0


def test_mask_spares_what_is_not_finite():
    """A parameter that the mask leaves out is not read: 0 times inf would be NaN."""
    params = {"w": jnp.ones(2), "bias": jnp.full(2, -jnp.inf)}
    tx = jol.adamw(0.1, mask={"w": True, "bias": False})
    updates, _ = tx.update(jax.tree.map(jnp.ones_like, params), tx.init(params), params)
    assert np.isfinite(updates["bias"]).all()


def test_initial_tree_of_another_shape():
    tx = jol.momentum(0.1, initial_velocity={"w": jnp.ones((3,))})
    with pytest.raises(ValueError, match=r"initial 'trace' has shape \(3,\) where the parameter has \(2,\)"):
        tx.init({"w": jnp.ones((2,))})


def test_declared_slots():
    assert {k: (s.nature, s.shape) for k, s in declared_slots(MeanState).items()} == {
        "mu": ("signed", "parameter"),
        "log_b": ("signed", "tree"),
    }

    class Pair(NamedTuple):
        count: jax.Array
        nu: NonNegative

    assert declared_slots(Pair)["nu"].nature == "nonnegative"


def test_chain_keeps_parts_and_says_what_couples():
    clip, tx = jol.clip_by_global_norm(1.0), jol.adam(1e-3)
    chained = jol.chain(clip, tx, optax.scale(0.5))
    assert chained.parts[:2] == (clip, tx)
    assert chained.couples == "tree"
    assert jol.chain(jol.clip(1.0), tx).couples == "element"
    assert jol.chain(tx, optax.scale(0.5)).couples == "tree", "nothing is known of optax's"
    params = {"w": jnp.ones(2)}
    assert jol.chain().update(params, jol.chain().init(params), params)[0] is params


def test_chain_of_what_is_not_a_transformation():
    with pytest.raises(
        TypeError, match=r"argument 2 of chain must be a transformation, got function .*call the factory first"
    ):
        jol.chain(jol.clip(1.0), jol.adam)


def test_count_saturates():
    """After 2^31 - 1 steps the count stays, it does not turn negative."""
    tx = jol.adam(0.1)
    params = {"w": jnp.ones(2)}
    state = tx.init(params)._replace(count=jnp.int32(2**31 - 1))
    updates, state = tx.update(params, state)
    assert int(state.count) == 2**31 - 1
    assert np.isfinite(updates["w"]).all()


def test_extra_arguments_are_ignored():
    tx, params = jol.chain(jol.clip(1.0), jol.sgd(0.1)), {"w": jnp.ones(2)}
    updates, _ = tx.update(params, tx.init(params), params, value=1.0, grad=params)
    np.testing.assert_allclose(updates["w"], -0.1, rtol=1e-6)


@pytest.mark.parametrize("x64", [False, True])
def test_a_decay_that_rounds_to_one(x64):
    """0.99999999 is 1 in float32: nu would stay 0, and the first step be 1e8 times too long. So is a traced 1."""
    with jax.enable_x64(x64):
        params = {"w": jnp.ones(2, jnp.float32)}

        def first(b2):
            tx = jol.adam(0.1, b2=b2)
            return tx.update(params, tx.init(params))[0]["w"]

        np.testing.assert_allclose(first(0.99999999), -0.1, rtol=1e-5)
        np.testing.assert_allclose(jax.jit(first)(1.0), -0.1, rtol=1e-5)


def test_points_of_an_nnx_optimizer():
    """NNX boxes the leaves of the state; the weights to evaluate are found all the same."""
    from flax import nnx

    model = nnx.Linear(2, 1, rngs=nnx.Rngs(0))
    optimizer = nnx.Optimizer(model, jol.nesterov(0.1), wrt=nnx.Param)
    gradients = jax.tree.map(jnp.ones_like, nnx.state(model, nnx.Param))
    optimizer.update(model, gradients)
    params = nnx.state(model, nnx.Param)
    found = jol.eval_params(optimizer.opt_state, params)
    assert jax.tree.structure(found) == jax.tree.structure(params)
    for w, phi in zip(jax.tree.leaves(found), jax.tree.leaves(params), strict=True):
        np.testing.assert_allclose(w, phi + 0.9 * 0.1, rtol=1e-6, atol=1e-7)


def test_initial_tree_of_another_structure():
    tx = jol.momentum(0.1, initial_velocity={"a": jnp.ones(2)})
    with pytest.raises(ValueError, match="initial 'trace' must be a number or a tree like the parameters"):
        tx.init({"b": jnp.ones(2)})


def test_numbers_as_parameters():
    """A Python number is a parameter of shape ()."""
    tx = jol.adamw(0.1)
    updates, _ = tx.update({"a": 2.0, "b": 1.0}, tx.init({"a": 1.0, "b": jnp.ones(())}), {"a": 1.0, "b": 1.0})
    np.testing.assert_allclose(updates["a"], -0.1 * (1 + 1e-4), rtol=1e-6)


def test_mistakes_in_a_rule():
    """Who writes a rule and errs reads what was returned and what was declared."""
    params = {"w": jnp.ones((2, 3))}

    def updated(rule, state_type=MeanState, hypers=None):
        tx = from_rule(rule, state_type, hypers or [interval("b", 0.9, 0, 1)], decays=("b",))
        return tx.update(params, tx.init(params))

    def wrong_name_rule(g, s, p, h, t):
        return g, {"mo": g}

    def wrong_slot_rule(g, s, p, h, t):
        return g, {"mu": jnp.sum(g)}

    def wrong_update_rule(g, s, p, h, t):
        return jnp.sum(g), {"mu": g}

    def no_slots_rule(g, s, p, h, t):
        return g

    def unknown_hyper_rule(g, s, p, h, t):
        return h.b1 * g, {"mu": g}

    def unknown_slot_rule(g, s, p, h, t):
        return s.nu, {"mu": g}

    class Uncounted(NamedTuple):
        mu: Signed

    for rule, error, message in (
        (wrong_name_rule, ValueError, r"wrong_name_rule returned the slots \['mo'\], its state declares \['mu'\]"),
        (wrong_slot_rule, ValueError, r"returned slot 'mu' of shape \(\), expected \(2, 3\)"),
        (wrong_update_rule, ValueError, r"returned an update of shape \(\), expected \(2, 3\)"),
        (no_slots_rule, TypeError, r"must return \(update, \{slot: array\}\)"),
        (unknown_hyper_rule, AttributeError, "h has no 'b1'; declared as hypers: b, b_weight"),
        (unknown_slot_rule, AttributeError, r"s has no 'nu'; declared as slots .*: mu"),
    ):
        with pytest.raises(error, match=message):
            updated(rule)
    with pytest.raises(TypeError, match="NamedTuple with a field count"):
        updated(mean_rule, Uncounted)
    with pytest.raises(TypeError, match="hypers must be a list of interval"):
        updated(mean_rule, hypers=[0.9])


def test_a_state_of_another_optimizer():
    params = {"w": jnp.ones(2)}
    with pytest.raises(TypeError, match=r"adam keeps a AdamState, got MomentumState: call update\(gradients, state"):
        jol.adam(0.1).update(params, jol.momentum(0.1).init(params), params)


def test_integer_gradients():
    """They would have given updates of 0."""
    params = {"w": jnp.ones(2)}
    with pytest.raises(TypeError, match=r"gradient\['w'\] has dtype int32"):
        jol.sgd(0.1).update({"w": jnp.ones(2, jnp.int32)}, jol.sgd(0.1).init(params), params)


@pytest.mark.parametrize("mask", ["bias", {"w": 1.0}, lambda params: "x"], ids=["text", "numbers", "function"])
def test_a_mask_that_is_none(mask):
    params = {"w": jnp.ones(2)}
    tx = jol.adamw(0.1, mask=mask)
    with pytest.raises(TypeError, match="a mask must be a tree of bools"):
        tx.update(params, tx.init(params), params)


def test_a_mask_of_another_tree():
    params = {"w": jnp.ones(2), "b": jnp.ones(())}
    tx = jol.adamw(0.1, mask={"w": True})
    with pytest.raises(ValueError, match="the mask is no tree of bools like the parameters"):
        tx.update(params, tx.init(params), params)


@pytest.mark.parametrize("dtype", ["int8", "foo"])
def test_a_slot_dtype_that_is_none(dtype):
    with pytest.raises(TypeError, match=r"dtype of slot 'mu' must be a floating-point dtype, got '?(int8|foo)"):
        jol.adam(0.1, mu_dtype=dtype)


def test_repr():
    tx = jol.chain(jol.clip(1.0), jol.skip_nonfinite(jol.sgd(0.1)), optax.scale(2.0))
    assert repr(tx) == "chain(clip(max_delta=1.0), skip_nonfinite(sgd(learning_rate=0.1)), an optax transformation)"


def test_first_values_are_copies():
    """A donated state must not take the user's arrays with it."""
    value, tree = jnp.float32(0.1), {"w": jnp.ones(2), "v": jnp.ones(2)}
    for tx in (
        jol.adagrad(0.1, value),
        jol.adagrad_norm(0.1, value, per_leaf=True),
        jol.momentum(0.1, initial_velocity=tree),
        jol.skip_nonfinite(jol.adam(0.1)),
        jol.chain(jol.clip_by_global_norm(1.0), jol.clip_by_percentile(), jol.nesterov(0.1, value)),
    ):
        step = jax.jit(lambda g, s, tx=tx: tx.update(g, s)[1], donate_argnums=1)
        for _ in range(2):
            step(tree, tx.init(tree))
    assert float(value) == np.float32(0.1)
    assert float(tree["w"][0]) == 1.0


def test_numpy_leaves():
    """NumPy's float64 is taken as JAX takes it, without a warning."""
    params = {"w": np.ones(3)}
    for tx in (jol.adamw(0.1), jol.clip_by_global_norm(1.0), jol.nesterov(0.1)):
        updates, state = tx.update(params, tx.init(params), params)
        assert updates["w"].dtype == jnp.float32
        jol.eval_params(state, params)


def test_empty_chain_takes_extra_arguments():
    params = {"w": jnp.ones(2)}
    updates, _ = jol.chain().update(params, jol.chain().init(params), params, value=1.0)
    assert updates is params


def test_count_is_the_optimizers():
    """A clip counts too, under another name: optax's tools find one count."""
    tx = jol.chain(jol.clip_by_global_norm(1.0), jol.clip(0.1), jol.adam(0.1))
    assert int(optax.tree_utils.tree_get(tx.init({"w": jnp.ones(2)}), "count")) == 0


def test_a_branch_is_no_leaf():
    tx, params = jol.adam(0.1), {"a": {"b": jnp.ones(2)}}
    with pytest.raises(ValueError, match="not trees of the same structure"):
        tx.update({"a": jnp.ones(2)}, tx.init(params), params)


def test_masks_of_arrays():
    params = {"w": jnp.ones(2), "b": jnp.ones(2)}
    tx = jol.adamw(0.1, weight_decay=0.5, mask=lambda p: jax.tree.map(lambda x: jnp.any(x > 1.5), p))
    updates, _ = tx.update(jax.tree.map(jnp.zeros_like, params), tx.init(params), params)
    np.testing.assert_array_equal(updates["w"], 0.0)


def test_schedules_that_are_none():
    params = {"w": jnp.ones(2)}
    for schedule in (lambda count: None, lambda count: "0.1"):
        tx = jol.sgd(schedule)
        with pytest.raises(TypeError, match="the schedule of learning_rate returned"):
            tx.update(params, tx.init(params))
    tx = jol.sgd(jol.cosine_decay_schedule)  # not called
    with pytest.raises(TypeError) as caught:
        tx.update(params, tx.init(params))
    assert "while asking the schedule of learning_rate" in caught.value.__notes__[0]


def test_a_number_beyond_all_floats():
    with pytest.raises(ValueError, match="learning_rate must lie in"):
        jol.sgd(10**400)


def test_replace_keeps_a_transformation():
    tx = jol.adam(0.1)._replace(init=lambda params: None)
    assert tx.rule is None
    assert tx.couples == "tree"
