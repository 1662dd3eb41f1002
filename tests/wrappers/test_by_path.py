"""Parameters by their paths: what `optax.multi_transform` does by labels, with errors before anything trains."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import jaxopt_lectures as jol
from tests.conformance.cases import equal, same_type, standard

W = {
    "encoder": [{"kernel": jnp.float32([[1.0, -2.0], [0.5, 3.0]]), "bias": jnp.bfloat16([1.0, 2.0])}, {"scale": None}],
    "head": {"kernel": jnp.float32([2.0, -1.0, 0.5]), "table": jnp.int32([1, 2])},
}
LABELS = {"encoder": [{"kernel": "slow", "bias": "fast"}, {"scale": None}], "head": {"kernel": "slow", "table": "no"}}


def grads(seed=0):
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda p: jnp.asarray(rng.normal(size=p.shape), p.dtype), W)


def test_is_multi_transform():
    """Bit for bit, a frozen integer among them; and the masks stand where optax has them."""
    slow, fast = jol.chain(jol.clip_by_global_norm(0.5), jol.adam(0.1)), jol.sgd(0.1, momentum=0.9)
    ours = jol.by_path({"table": None, "bias$": fast, ".*": slow})
    theirs = optax.multi_transform({"slow": slow, "fast": fast, "no": optax.set_to_zero()}, LABELS)
    a, b = ours.init(W), theirs.init(W)
    step, other = jax.jit(ours.update), jax.jit(theirs.update)
    for seed in range(3):
        u, a = step(grads(seed), a, W)
        v, b = other(grads(seed), b, W)
        equal(u, v)
    equal(a.inner_states[2], b.inner_states["slow"].inner_state)
    equal(a.inner_states[1], b.inner_states["fast"].inner_state)
    assert a.inner_states[0] == ()
    same_type(a, ours.init(W))


def test_first_match_wins():
    tx = jol.by_path({"encoder": jol.sgd(1.0), "kernel": jol.sgd(10.0), ".*": None})
    u, _ = tx.update(grads(), tx.init(W), W)
    np.testing.assert_array_equal(u["encoder"][0]["kernel"], -grads()["encoder"][0]["kernel"])
    np.testing.assert_array_equal(u["head"]["kernel"], -10 * grads()["head"]["kernel"])
    np.testing.assert_array_equal(u["head"]["table"], [0, 0])


def test_frozen_keep_nothing():
    w = {"a": jnp.ones(1000), "b": jnp.ones(1)}
    tx = jol.by_path({"a": None, "b": jol.adam(0.1)})
    assert sum(leaf.size for leaf in jax.tree.leaves(tx.init(w))) == 5
    u, _ = tx.update({"a": jnp.full(1000, jnp.nan), "b": jnp.ones(1)}, tx.init(w), w)
    np.testing.assert_array_equal(u["a"], np.zeros(1000))


def test_norms_are_of_the_part():
    tx = jol.by_path({"a": jol.clip_by_global_norm(1.0), "b": jol.clip_by_global_norm(1.0)})
    g = {"a": jnp.float32([3.0]), "b": jnp.float32([0.5])}
    u, _ = tx.update(g, tx.init(g), g)
    np.testing.assert_allclose(u["a"], [1.0], rtol=1e-6)
    np.testing.assert_array_equal(u["b"], [0.5])
    assert tx.couples == "tree"
    assert jol.by_path({".*": jol.adam(0.1)}).couples == "element"


def test_a_single_array():
    tx = jol.by_path({"^$": jol.sgd(0.5)})
    u, _ = tx.update(jnp.ones(2), tx.init(jnp.ones(2)), jnp.ones(2))
    np.testing.assert_array_equal(u, [-0.5, -0.5])


def test_no_parameters():
    tx = jol.by_path({"x": jol.sgd(0.5)})
    assert tx.update({}, tx.init({}), {})[0] == {}


def test_evaluation_points_go_through():
    """Each part's own, and the others as they are."""
    w = {"a": jnp.ones(2), "b": jnp.ones(2)}
    for lookahead, question in ((False, jol.eval_params), (True, jol.gradient_point)):
        inner = jol.nesterov(0.1, 0.8, lookahead=lookahead)
        tx = jol.by_path({"a": inner, "b": jol.adam(0.1)})
        _, state = tx.update(w, tx.init(w), w)
        _, alone = inner.update({"a": w["a"]}, inner.init({"a": w["a"]}))
        asked = question(state, w)
        equal(asked["a"], question(alone, {"a": w["a"]})["a"])
        equal(asked["b"], w["b"])
        assert (asked["a"] != w["a"]).all()


def test_nnx():
    """Through `nnx.Optimizer`, whose state comes back in boxes; paths end in "/value"."""
    model = nnx.Linear(3, 2, rngs=nnx.Rngs(0))
    tx = jol.by_path({"bias": None, "kernel": jol.adam(0.1)})
    optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)
    before = np.array(model.kernel[...]), np.array(model.bias[...])

    @nnx.jit
    def step(model, optimizer):
        optimizer.update(model, nnx.grad(lambda model: jnp.sum((model(jnp.ones((4, 3))) - 1.0) ** 2))(model))

    for _ in range(2):
        step(model, optimizer)
    assert (np.abs(np.array(model.kernel[...]) - before[0]) > 0.1).all()
    np.testing.assert_array_equal(model.bias[...], before[1])


def test_extra_arguments():
    """Trees like the gradients are masked as they are, others passed on."""

    def update(updates, state, params=None, *, value, target, **extra):
        del params, extra
        return jax.tree.map(lambda u, t: value * (t - u), updates, target), state

    inner = optax.GradientTransformationExtraArgs(lambda params: optax.EmptyState(), update)
    tx, g = jol.by_path({"a": inner, ".*": None}), {"a": jnp.ones(2), "b": jnp.ones(2)}
    target = {"a": jnp.full(2, 3.0), "b": jnp.ones(2)}
    u, _ = tx.update(g, tx.init(g), g, value=2.0, target=target)
    np.testing.assert_array_equal(u["a"], [4.0, 4.0])


def coupled(w, scale=1.0):
    """A loss in which each parameter bends the other's."""
    return scale * jnp.sum((w["a"] * w["b"] - 1.0) ** 2) + jnp.sum(w["a"] ** 4)


@pytest.mark.parametrize("frozen", [True, False])
def test_value_fn_of_a_part(frozen):
    """SAM and a line search in a part move its parameters only, the others stand still."""
    w = {"a": jnp.float32([1.0, 2.0]), "b": jnp.float32([0.5, -1.0])}
    other = None if frozen else jol.sgd(0.1)
    for inner, steps in ((jol.sam(jol.sgd(0.1), 0.2), 3), (jol.lbfgs(), 2)):
        tx = jol.by_path({"b": other, "a": inner})
        state, alone, p = tx.init(w), inner.init({"a": w["a"]}), w
        for _ in range(steps):
            value, g = jax.value_and_grad(coupled)(p)
            updates, state = tx.update(g, state, p, value=value, grad=g, value_fn=coupled)
            own = {"a": g["a"]}
            bare, alone = inner.update(
                own, alone, {"a": p["a"]}, value=value, grad=own, value_fn=lambda x, p=p: coupled({**p, **x})
            )
            np.testing.assert_allclose(updates["a"], bare["a"], rtol=1e-5)
            p = optax.apply_updates(p, updates)
    search = jol.by_path({"b": None, "a": jol.lbfgs()})  # more arguments of value_fn go on to it
    g = jax.grad(coupled)(w, 2.0)
    own = {"value": coupled(w, 2.0), "grad": g, "value_fn": coupled, "scale": 2.0}
    updates, _ = search.update(g, search.init(w), w, **own)
    assert coupled(optax.apply_updates(w, updates), 2.0) < coupled(w, 2.0)


def test_value_fn_where_the_others_look_ahead():
    """They stand where their gradients were taken."""
    w = {"a": jnp.float32([1.0, 2.0]), "b": jnp.float32([0.5, -1.0])}
    tx = jol.by_path({"a": jol.sam(jol.sgd(0.1), 0.0), "b": jol.nesterov(0.1, 0.8, lookahead=True)})
    state = tx.init(w)
    for _ in range(2):
        g = jax.grad(coupled)(jol.gradient_point(state, w))
        updates, state = tx.update(g, state, w, value_fn=coupled)
        np.testing.assert_allclose(updates["a"], -0.1 * g["a"], rtol=1e-5)
        w = optax.apply_updates(w, updates)


def test_evaluated_in_nnx():
    """An average of some parameters only, through `nnx.Optimizer`; the others are evaluated as they are."""
    model = nnx.Linear(3, 2, rngs=nnx.Rngs(0))
    tx = jol.by_path({"bias": None, "kernel": jol.average(jol.sgd(0.1), "polyak")})
    optimizer, seen = nnx.Optimizer(model, tx, wrt=nnx.Param), []
    for _ in range(3):
        optimizer.update(model, nnx.grad(lambda model: jnp.sum((model(jnp.ones((4, 3))) - 1.0) ** 2))(model))
        seen.append(np.array(model.kernel[...]))
    params = nnx.state(model, nnx.Param)
    for asked in (
        jol.eval_params(optimizer.opt_state, params),
        jol.eval_params(optimizer.opt_state, nnx.as_pure(params)),
    ):
        found = nnx.as_pure(asked)
        np.testing.assert_allclose(found["kernel"], np.mean(seen, axis=0), rtol=1e-5)
        np.testing.assert_array_equal(found["bias"], model.bias[...])


def test_evaluated_when_stored():
    """Of an encoded slot of one of two parameters; other parameters than the state's are refused."""
    w = {"a": jnp.ones((8, 64)), "b": jnp.ones(2)}
    tx = jol.by_path({"a": jol.store(jol.nesterov(0.1, 0.8), "int8", min_size=1), "b": None})
    _, state = tx.update(w, tx.init(w), w)
    asked = jol.eval_params(state, w)
    bare = jol.nesterov(0.1, 0.8)
    expected = jol.eval_params(bare.update({"a": w["a"]}, bare.init({"a": w["a"]}))[1], {"a": w["a"]})
    np.testing.assert_allclose(asked["a"], expected["a"], rtol=0.01)
    equal(asked["b"], w["b"])
    with pytest.raises(ValueError, match="not of these parameters, b, c: it has 'a'"):
        jol.eval_params(state, {"c": w["a"], "b": w["b"]})


def test_encoded_in_boxes_is_never_mixed_up():
    """`nnx.Optimizer` takes what is encoded apart; two pieces are not two parameters."""
    model = nnx.Linear(3, 2, rngs=nnx.Rngs(0))
    stored = jol.store(jol.nesterov(0.1, 0.8), "int8", min_size=1)
    optimizer = nnx.Optimizer(model, jol.by_path({"bias": None, "kernel": stored}), wrt=nnx.Param)
    optimizer.update(model, nnx.state(model, nnx.Param))
    with pytest.raises(ValueError, match="kernel/value/codes"):
        jol.eval_params(optimizer.opt_state, nnx.state(model, nnx.Param))


def test_donated_in_a_scan_and_a_sweep():
    w = {"a": jnp.ones(2), "b": jnp.ones(2)}

    def end(rate):
        tx = jol.by_path({"a": jol.adam(rate), "b": None})

        def step(carry, _):
            p, s = carry
            u, s = tx.update(p, s, p)
            return (optax.apply_updates(p, u), s), None

        return jax.lax.scan(step, (w, tx.init(w)), length=3)[0][0]

    swept = jax.jit(jax.vmap(end))(jnp.float32([0.1, 0.2]))
    np.testing.assert_allclose(swept["a"][1], jax.jit(end)(0.2)["a"], rtol=1e-6)
    tx = jol.by_path({"a": jol.adam(0.1), "b": None})
    step = jax.jit(tx.update, donate_argnums=(0, 1, 2))
    u, _ = step(jax.tree.map(jnp.copy, w), tx.init(w), jax.tree.map(jnp.copy, w))
    np.testing.assert_allclose(u["a"], [-0.1, -0.1], rtol=1e-5)


def test_optax_parts_are_stored():
    w = {"a": jnp.ones((8, 64)), "b": jnp.ones((8, 64))}
    tx = jol.store(jol.by_path({"a": optax.adam(0.1), "b": None}), "int8", nonnegative="nu", min_size=1)
    with standard():
        u, state = jax.jit(tx.update)(w, tx.init(w), w)
    np.testing.assert_allclose(u["a"], np.full((8, 64), -0.1), rtol=1e-5)
    assert sum(leaf.nbytes for leaf in jax.tree.leaves(state)) < 2.1 * 512


def test_what_it_says():
    tx = jol.by_path({"head": None, ".*": jol.chain(jol.clip(1.0), jol.adam(0.1))})
    assert tx.treatment("head/kernel", None) == "'head': frozen"
    assert tx.treatment("encoder/0/kernel", None) == "'.*': clip -> adam"


# ---- errors


@pytest.mark.parametrize(
    ("parts", "error", "message"),
    [
        ([("a", None)], TypeError, r"takes a mapping, \{regular expression: transformation\}, got list"),
        ({}, ValueError, "at least one part"),
        ({3: jol.sgd(0.1)}, TypeError, "a key of by_path must be a regular expression, got int 3"),
        ({"(": jol.sgd(0.1)}, ValueError, r"cannot be read as a regular expression, '\(': missing \)"),
        ({"a": jol.sgd}, TypeError, r"part 'a' must be a transformation.*call the factory first"),
        ({"a": "freeze"}, TypeError, "part 'a' must be a transformation, got str"),
    ],
)
def test_bad_parts(parts, error, message):
    with pytest.raises(error, match=message):
        jol.by_path(parts)


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"encoder": None}, r"no part for 'head/kernel', 'head/table': add one, \{..., '.\*': transformation\}"),
        ({".*": None, "nothing": None}, "'nothing' is found in no path; the parameters are 'encoder/0/bias'"),
        ({"head": None, "en": None, "head/k": None}, "all that 'head/k' matches is taken by 'head', before it"),
    ],
)
def test_bad_paths(parts, message):
    with pytest.raises(ValueError, match=message):
        jol.by_path(parts).init(W)


def test_many_are_counted():
    w = {f"p{k:02}": jnp.ones(1) for k in range(20)}
    with pytest.raises(ValueError, match="'p08' and 11 more: add one"):
        jol.by_path({"p00": None}).init(w)
