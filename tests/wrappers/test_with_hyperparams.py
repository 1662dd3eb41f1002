"""Live hyper-parameters: in float32, changed without compiling, kept through steps, files and wrappers."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest

import jaxopt_lectures as jol
from tests.conformance.cases import CARDS, equal, same_type, standard

W = {"a": jnp.float32([1.0, -2.0, 0.5]), "none": None, "b": jnp.float32([1.0, 2.0])}
G = {"a": jnp.float32([0.3, 1.0, -1.0]), "none": None, "b": jnp.float32([2.0, -1.0])}


def chained(learning_rate, max_norm=1.0, nesterov=False):
    return jol.chain(jol.clip_by_global_norm(max_norm), jol.sgd(learning_rate, momentum=0.9, nesterov=nesterov))


def test_changed_without_compiling():
    """Each value's steps are those of an optimizer built with it; one program for all."""
    tx = jol.with_hyperparams(jol.adamw)(0.1, weight_decay=0.01)
    traced = []

    @jax.jit
    def step(state):
        traced.append(1)
        return tx.update(G, state, W)

    state, bare_state = tx.init(W), jol.adamw(0.1).init(W)
    for rate in (0.1, 0.02, 3):
        state = jol.set_hyperparams(state, learning_rate=rate, b1=np.float64(0.8))
        updates, state = step(state)
        expected, bare_state = jol.adamw(rate, b1=0.8, weight_decay=0.01).update(G, bare_state, W)
        np.testing.assert_allclose(updates["a"], expected["a"], rtol=1e-6)
        assert state.hyperparams["learning_rate"] == np.float32(rate), "kept through the step"
    assert step._cache_size() == 1
    assert len(traced) == 1
    same_type(state, tx.init(W))


def test_on_a_mesh_without_compiling():
    """The new value lies where the old one lay."""
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    w = {"w": jax.device_put(jnp.ones(16), jax.NamedSharding(mesh, jax.P("data")))}
    tx = jol.with_hyperparams(jol.adam)(0.1)
    step = jax.jit(tx.update)
    _, state = step(w, tx.init(w), w)
    _, state = step(w, state, w)
    before = step._cache_size()
    updates, _ = step(w, jol.set_hyperparams(state, learning_rate=0.2), w)
    assert step._cache_size() == before
    np.testing.assert_allclose(updates["w"], np.full(16, -0.2), rtol=1e-4)


def test_rates_are_float32_for_narrow_parameters():
    """optax casts them to bfloat16, in which 0.01 is 0.01001, and does not see a change of 0.1 %."""
    w = {"w": jnp.ones(3, jnp.bfloat16)}
    for factory in (jol.adam, optax.adam, lambda learning_rate: optax.sgd(learning_rate, momentum=0.9)):
        tx = jol.with_hyperparams(factory)(0.01)
        with standard():
            updates, state = tx.update(w, tx.init(w), w)
        assert state.hyperparams["learning_rate"] == np.float32(0.01)
        assert updates["w"].dtype == jnp.bfloat16
        same_type(state, tx.init(w))
        np.testing.assert_allclose(np.float32(updates["w"]), -0.01, rtol=2**-8)


def test_float64(x64):
    w = {"w": jnp.float64([1.0])}
    tx = jol.with_hyperparams(jol.sgd)(0.1)
    updates, state = tx.update(w, tx.init(w), w)
    assert state.hyperparams["learning_rate"].dtype == jnp.float64
    np.testing.assert_array_equal(updates["w"], [-0.1])


@pytest.mark.parametrize("factory", [jol.sgd, optax.sgd], ids=["jol", "optax"])
def test_schedules_show(factory):
    tx = jol.with_hyperparams(factory)(jol.linear_schedule(1.0, 0.0, 4))
    state, step = tx.init(W), jax.jit(tx.update)
    for value in (1.0, 0.75, 0.5):
        updates, state = step(G, state, W)
        assert state.hyperparams["learning_rate"] == value
        np.testing.assert_allclose(updates["a"], -value * G["a"], rtol=1e-6)
    assert int(state.count) == 3
    with pytest.raises(ValueError, match="learning_rate follows a schedule"):
        jol.set_hyperparams(state, learning_rate=0.1)


def test_what_lives():
    """Floats and declared numbers do; sizes, bools, dtypes, masks and what is named static do not."""

    def live(tx):
        return sorted(tx.init({"w": jnp.ones((4, 4))}).hyperparams)

    assert live(jol.with_hyperparams(jol.adamw)(1, mask=lambda p: True)) == sorted(jol.adamw(1).hypers)
    assert live(jol.with_hyperparams(jol.clip_by_percentile)(20.0, 5)) == ["percentile"]
    assert live(jol.with_hyperparams(lambda rate: jol.adam(rate))(0.1)) == ["rate"]
    assert live(jol.with_hyperparams(chained)(0.1)) == ["learning_rate", "max_norm"]
    assert live(jol.with_hyperparams(chained, static="max_norm")(0.1)) == ["learning_rate"]
    assert live(jol.with_hyperparams(optax.adafactor)(0.1, min_dim_size_to_factor=2)) >= ["clipping_threshold"]
    assert "min_dim_size_to_factor" not in live(jol.with_hyperparams(optax.adafactor)(0.1))
    assert live(jol.with_hyperparams(optax.sgd)(1)) == ["learning_rate"]
    assert live(jol.with_hyperparams(optax.sgd)(0.1, nesterov=True, momentum=0.9)) == ["learning_rate", "momentum"]


@pytest.mark.parametrize("card", CARDS, ids=lambda card: card.name)
def test_every_card_with_its_rate_alone(card):
    """No default is taken for a number that is none: `adam_learning_rate=None` is no live one."""
    tx = jol.with_hyperparams(card.factory)(1e-3)
    found = jax.eval_shape(tx.init, {"w": jnp.ones((4, 2)), "b": jnp.ones(2)}).hyperparams
    assert "learning_rate" in found
    assert not {name for name in found if "frequency" in name or "size" in name or "dim" in name}


@pytest.mark.parametrize("factory", [jol.soap, jol.psgd_kron])
def test_sizes_that_may_be_none(factory):
    """An annotation `int | None` makes a size of 4, as `int` does; `float | None` a number."""
    w = {"w": jnp.ones((8, 4))}
    tx, bare = jol.with_hyperparams(factory)(1e-3, block_size=4), factory(1e-3, block_size=4)
    state, alone = tx.init(w), bare.init(w)
    assert "block_size" not in state.hyperparams
    for _ in range(2):
        u, state = jax.jit(tx.update)(w, state, w)
        v, alone = jax.jit(bare.update)(w, alone, w)
    np.testing.assert_allclose(u["w"], v["w"], rtol=1e-5, atol=1e-8)

    def made(rate: "float | None", size: "int | None" = None):
        return jol.chain(jol.sgd(rate), optax.identity() if size is None else optax.scale(1.0 / size))

    assert list(jol.with_hyperparams(made)(1, 2).init(w).hyperparams) == ["rate"]


def test_keywords_of_the_factory():
    def factory(*transformations, **numbers):
        return jol.chain(*transformations, jol.sgd(numbers["rate"]))

    tx = jol.with_hyperparams(factory)(jol.clip(0.1), rate=0.5)
    state = jol.set_hyperparams(tx.init(W), rate=2.0)
    updates, _ = jax.jit(tx.update)(G, state, W)
    np.testing.assert_allclose(updates["a"], [-0.2, -0.2, 0.2], rtol=1e-6)


def test_anywhere_inside():
    """All that have the name are set; optax's are found too."""
    live = jol.with_hyperparams(jol.adam)
    tx = jol.average(jol.chain(jol.clip(1.0), jol.by_path({"a": live(0.1), "b": live(0.2)})))
    state = jol.set_hyperparams(tx.init(W), learning_rate=0.5)
    assert {float(v) for name, v in jol.metrics(state).items() if "learning_rate" in name} == {0.5}
    with standard():
        theirs = optax.inject_hyperparams(optax.adam)(0.1, b1=optax.constant_schedule(0.9)).init(W)
    assert float(jol.set_hyperparams(theirs, learning_rate=0.25).hyperparams["learning_rate"]) == 0.25
    with pytest.raises(ValueError, match="b1 follows a schedule"):
        jol.set_hyperparams(theirs, b1=0.5)
    nested = jol.with_hyperparams(lambda decay: jol.average(live(0.1), decay=decay))(0.9)
    state = jol.set_hyperparams(nested.init(W), decay=0.5, learning_rate=0.3)
    assert float(state.hyperparams["decay"]) == 0.5
    assert state.inner_state.inner_state.hyperparams["learning_rate"] == np.float32(0.3)


def test_stored_and_rounded_at_random():
    """Both enter what the factory makes; a chain is stored from outside."""
    w = {"w": jnp.ones((16, 64))}
    tx = jol.store(jol.with_hyperparams(jol.adam)(0.1), "int8", min_size=1)
    updates, state = jax.jit(tx.update)(w, tx.init(w), w)
    assert state.inner_state.mu["w"].codes.dtype == jnp.uint8
    updates, state = jax.jit(tx.update)(w, jol.set_hyperparams(state, learning_rate=0.5), w)
    np.testing.assert_allclose(updates["w"], np.full((16, 64), -0.5), rtol=0.05)
    same_type(state, tx.init(w))
    narrow = jol.round_stochastic(jol.with_hyperparams(jol.adam)(1e-3))
    n = {"w": jnp.ones((16, 64), jnp.bfloat16)}
    updates, _ = narrow.update(n, narrow.init(n), n)
    assert updates["w"].dtype == jnp.float32
    outside = jol.store(jol.with_hyperparams(chained)(0.1), "int8", min_size=1)
    _, state = jax.jit(outside.update)(w, outside.init(w), w)
    assert sum(leaf.dtype == jnp.uint8 for leaf in jax.tree.leaves(state)) == 1


def test_saved_and_restored(tmp_path):
    tx = jol.with_hyperparams(chained)(0.1)
    state = jol.set_hyperparams(tx.init({"a": W["a"]}), learning_rate=0.3)
    with ocp.PyTreeCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "saved", state)
        template = tx.init({"a": W["a"]})
        restore = ocp.args.PyTreeRestore(template, ocp.checkpoint_utils.construct_restore_args(template))
        back = checkpointer.restore(tmp_path / "saved", args=restore)
    equal(back, state)


def test_set_inside_a_program_and_for_lanes():
    tx = jol.with_hyperparams(jol.sgd)(0.1)
    set_inside = jax.jit(lambda rate: tx.update(G, jol.set_hyperparams(tx.init(W), learning_rate=rate), W)[0])
    np.testing.assert_allclose(set_inside(jnp.float32(2.0))["a"], -2 * G["a"], rtol=1e-6)
    lanes = jax.vmap(lambda _: tx.init(W))(jnp.ones(2))
    lanes = jol.set_hyperparams(lanes, learning_rate=jnp.float32([1.0, 2.0]))
    updates = jax.vmap(lambda s: tx.update(G, s, W)[0])(lanes)
    np.testing.assert_allclose(updates["a"][1], -2 * G["a"], rtol=1e-6)


@pytest.mark.parametrize(
    ("values", "error", "message"),
    [
        (
            {"rate": 0.1},
            ValueError,
            "no hyper-parameter 'rate' in the state; it has b1, b2, eps, eps_root, learning_rate",
        ),
        ({"b1": 1.0}, ValueError, r"b1 must lie in \[0, 1\), got 1.0"),
        ({"learning_rate": "fast"}, TypeError, "learning_rate must be a number"),
        ({"learning_rate": lambda t: t}, TypeError, "schedules are given to the factory"),
        ({"b1": np.ones(3)}, ValueError, "b1 must be a scalar"),
    ],
)
def test_bad_values(values, error, message):
    state = jol.chain(jol.with_hyperparams(jol.adam)(0.1)).init(W)
    with pytest.raises(error, match=message):
        jol.set_hyperparams(state, **values)


def test_bad_input():
    with pytest.raises(ValueError, match=r"b1 must lie in \[0, 1\), got 1.5"):
        jol.with_hyperparams(jol.adam)(0.1, b1=1.5)
    with pytest.raises(TypeError, match=r"takes the factory, not what it made, with_hyperparams\(f\)\(1e-3\)"):
        jol.with_hyperparams(jol.adam(0.1))
    with pytest.raises(ValueError, match="static names 'rate'; the arguments are learning_rate, max_norm"):
        jol.with_hyperparams(chained, static="rate")
    with pytest.raises(TypeError, match="what the factory makes must be a transformation"):
        jol.with_hyperparams(lambda rate: rate)(0.1)
    with pytest.raises(ValueError, match="no hyper-parameter 'b1' in the state; it has none"):
        jol.set_hyperparams(jol.adam(0.1).init(W), b1=0.5)
