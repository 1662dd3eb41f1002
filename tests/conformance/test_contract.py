"""What holds for every card whatever its formula: types, traces, sweeps, schedules, declarations."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxopt_lectures as jol
from tests.conformance.cases import (
    RATE,
    build,
    equal,
    every_card,
    flat,
    gradients,
    mixed_tree,
    run,
    same_type,
    tree,
)


@every_card
def test_eager_is_jit(card):
    w = mixed_tree()
    grads = gradients(w, 3)
    eager, _ = run(build(card), w, grads, jit=False)
    jitted, _ = run(build(card), w, grads)
    for a, b in zip(jax.tree.leaves(eager[-1]), jax.tree.leaves(jitted[-1]), strict=True):
        # XLA may contract or reorder a rounding when it sees the whole step: a few units in the last place
        bound = 8 * float(jnp.finfo(a.dtype).eps)
        np.testing.assert_allclose(np.asarray(a, np.float64), np.asarray(b, np.float64), rtol=bound, atol=bound)


@every_card
def test_traced_once(card):
    tx, w = build(card), tree()
    chex.clear_trace_counter()
    step = jax.jit(chex.assert_max_traces(lambda g, s, p: tx.update(g, s, p), n=1))
    state = tx.init(w)
    for gradient in gradients(w, 4):
        _, state = step(gradient, state, w)
    assert int(state.count) == 4


@every_card
def test_state_keeps_its_type(card):
    """Through update, scan and cond: structure, shapes, dtypes, weak types."""
    tx, w = build(card), mixed_tree()
    gradient = gradients(w, 1)[0]
    state = tx.init(w)
    updates, new = tx.update(gradient, state, w)
    same_type(state, new)
    same_type(gradient, updates)

    def step(carry, _):
        params, state = carry
        updates, state = tx.update(gradient, state, params)
        return (optax.apply_updates(params, updates), state), None

    (_, scanned), _ = jax.jit(lambda c: jax.lax.scan(step, c, length=3))((w, state))
    assert int(scanned.count) == 3
    same_type(state, jax.lax.cond(True, lambda: step((w, state), None)[0][1], lambda: state))


@every_card
def test_abstract_init(card):
    tx, w = build(card), mixed_tree()
    abstract = jax.eval_shape(tx.init, w)
    same_type(abstract, jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), tx.init(w)))


@every_card
@pytest.mark.parametrize("kind", [jax.sharding.AxisType.Auto, jax.sharding.AxisType.Explicit])
def test_sharding_is_kept(card, kind):
    """On eight devices: state and updates lie where the parameters lie, and are what one device computes."""
    mesh = jax.make_mesh((8,), ("data",), axis_types=(kind,))
    sharding = jax.NamedSharding(mesh, jax.P("data"))
    w = {"w": jax.device_put(jnp.ones((16, 3)), sharding)}
    tx = build(card)
    step = jax.jit(lambda g, s, p: tx.update(g, s, p))
    state = tx.init(w)
    updates, new = step(w, state, w)
    follows = tx.couples != "matrix" or kind == jax.sharding.AxisType.Explicit  # where not, XLA says where products lie
    for leaf in [*jax.tree.leaves(new), *jax.tree.leaves(updates)]:
        if leaf.shape == (16, 3) and follows:
            assert leaf.sharding.is_equivalent_to(sharding, leaf.ndim), leaf.sharding
    for leaf in jax.tree.leaves(state):
        if leaf.shape == (16, 3):
            assert leaf.sharding.is_equivalent_to(sharding, leaf.ndim), "init"
    whole = {"w": jnp.ones((16, 3))}
    alone, _ = step(whole, tx.init(whole), whole)
    # sums over 8 shards in another order; where products follow on products, a dozen times
    np.testing.assert_allclose(flat(updates), flat(alone), rtol=1e-5 if tx.couples == "matrix" else 1e-6)


@pytest.mark.parametrize("clip", [None, jol.clip(1.0), jol.clip_by_global_norm(1.0), jol.clip_by_block_rms(1.0)])
@every_card
def test_inside_shard_map(card, clip):
    """On gradients that differ from device to device, behind each kind of clip."""
    if clip is not None and build(card).couples == "element" and "lecture" not in card.tags:
        return  # a sample of the product: the cards differ in nothing that the clip sees
    tx = build(card) if clip is None else jol.chain(clip, build(card))
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    w = jnp.linspace(-1.0, 1.0, 16)

    def one(w):
        return tx.update(w, tx.init(w), w)[0]

    spread = jax.jit(jax.shard_map(one, mesh=mesh, in_specs=jax.P("data"), out_specs=jax.P("data")))(w)
    apart = [one(w[k : k + 2]) for k in range(0, 16, 2)]
    np.testing.assert_allclose(np.asarray(spread), np.concatenate(apart), rtol=1e-5, atol=1e-6)


@every_card
def test_donated(card):
    """Parameters and state may be donated: no buffer is used twice."""
    tx, w = build(card), tree()
    gradient = gradients(w, 1)[0]

    def step(params, state):
        updates, state = tx.update(gradient, state, params)
        return optax.apply_updates(params, updates), state

    kept = params, state = jax.tree.map(jnp.copy, w), tx.init(w)
    donating, keeping = jax.jit(step, donate_argnums=(0, 1)), jax.jit(step)
    kept = jax.tree.map(jnp.copy, kept)
    for _ in range(3):
        params, state = donating(params, state)
        kept = keeping(*kept)
    equal((params, state), kept)


@every_card
def test_sweep_is_a_loop(card):
    """vmap over each hyper-parameter gives what single runs give."""
    w = {"w": tree()["matrix"]}
    grads = gradients(w, 3)
    for name, value in {"learning_rate": RATE, **card.off_neutral}.items():
        values = jnp.asarray([0.3, 0.6, 0.9]) * value

        def final(v, name=name):
            return run(build(card, **{name: v}), w, grads, jit=False)[0][-1]

        swept = jax.jit(jax.vmap(final))(values)
        one = jax.jit(final)
        for lane, v in enumerate(values):
            np.testing.assert_allclose(swept["w"][lane], one(v)["w"], rtol=2e-6, atol=1e-7, err_msg=name)


@every_card
def test_schedule_is_its_values(card):
    """A schedule gives what an optimizer rebuilt at every step with the schedule's value gives, bit for bit."""
    w = {"w": tree()["matrix"]}
    grads = gradients(w, 4)
    for name, value in {"learning_rate": RATE, **card.off_neutral}.items():
        values = np.float32(value) * np.float32([1.0, 0.5, 0.8, 0.7])
        with_schedule, _ = run(build(card, **{name: lambda count, v=values: jnp.asarray(v)[count]}), w, grads)
        tx = build(card, **{name: float(values[0])})
        params, state = w, tx.init(w)
        for step, gradient in enumerate(grads):
            tx = build(card, **{name: float(values[step])})
            updates, state = jax.jit(tx.update)(gradient, state, params)
            params = optax.apply_updates(params, updates)
        if "ahead" in state._fields:  # it announces the next value, which only a schedule knows
            continue
        np.testing.assert_allclose(params["w"], with_schedule[-1]["w"], rtol=1e-6, atol=1e-7, err_msg=name)


@every_card
def test_low_precision_parameters(card):
    """bfloat16 parameters: float32 slots that do not stall, bfloat16 updates."""
    tx = build(card)
    w = {"w": jnp.ones((3,), jnp.bfloat16)}
    state = tx.init(w)
    for name, slot in tx.slots.items():
        leaves = jax.tree.leaves(getattr(state, name))
        assert all(leaf.dtype == jnp.float32 for leaf in leaves), (name, slot)
    updates, _ = tx.update(w, state, w)
    assert updates["w"].dtype == jnp.bfloat16
    wide = {"w": jnp.ones((3,), jnp.float32)}
    wide_updates, _ = tx.update(wide, tx.init(wide), wide)
    np.testing.assert_array_equal(updates["w"], wide_updates["w"].astype(jnp.bfloat16))


@every_card
def test_mixed_precision_gradients(card):
    """float32 gradients of bfloat16 parameters give float32 updates."""
    tx = build(card)
    w = {"w": jnp.ones((3,), jnp.bfloat16)}
    updates, _ = tx.update({"w": jnp.ones((3,), jnp.float32)}, tx.init(w), w)
    assert updates["w"].dtype == jnp.float32


@every_card
@pytest.mark.parametrize("extreme", [0.0, 1e-42, -1e-30, 1e25, -3e38])
def test_finite_stays_finite(card, extreme):
    """No finite gradient gives a NaN, and after the largest one the next ordinary gradient moves the weights again."""
    tx = card.factory(RATE)
    w = {"w": jnp.ones((4,)), "matrix": jnp.ones((2, 2)), "scalar": jnp.ones(())}
    hard = {"w": jnp.array([extreme, 1.0, 0.0, -1.0]), "scalar": jnp.asarray(extreme, jnp.float32)}
    hard["matrix"] = hard["w"].reshape(2, 2)
    state = tx.init(w)
    for _ in range(2):
        updates, state = tx.update(hard, state, w)
        assert not np.isnan(flat(updates)).any()
        assert not np.isnan(flat(state)).any()
    if abs(extreme) < 1e30:  # two gradients of the largest float overflow any velocity, and should
        updates, state = tx.update(w, state, w)
        moved = flat(updates)
        assert np.isfinite(moved).all()
        if tx.couples == "element":
            assert (moved != 0).all(), moved


@every_card
def test_no_eps(card):
    """Without eps, gradients of 0 give updates of 0."""
    if "eps" not in build(card).hypers:
        return
    tx = card.factory(RATE, eps=0.0)
    w = {"w": jnp.ones((3,))}
    updates, _ = tx.update({"w": jnp.zeros((3,))}, tx.init(w), w)
    bound = RATE * 1e-3 * 1.01 if "weight_decay" in build(card).hypers else 0
    np.testing.assert_allclose(updates["w"], np.zeros(3), atol=bound)


@every_card
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_poison_is_seen_and_stays_where_it_is(card, bad):
    """A NaN is never hidden and spoils no more elements than `couples` permits; inf is a NaN, an inf, or the limit."""
    tx = build(card)
    w = {"a": jnp.ones((2, 2)), "b": jnp.ones((2,))}

    def first_update(value):
        grads = {"a": jnp.array([[1.0, value], [-1.0, 2.0]]), "b": jnp.ones((2,))}
        return flat(tx.update(grads, tx.init(w), w)[0])

    updates = first_update(bad)
    if np.isnan(bad):
        assert np.isnan(updates[1])
    elif np.isfinite(updates[1]):
        assert updates[1] == pytest.approx(first_update(3.4e38)[1], rel=1e-5)
        state = tx.init(w)
        for value in (bad, 1.0, 1.0):
            grads = {"a": jnp.array([[1.0, value], [-1.0, 2.0]]), "b": jnp.ones((2,))}
            later, state = tx.update(grads, state, w)
            assert not np.isnan(flat(later)).any()
    reached = {"element": [1], "tree": [0, 1, 2, 3, 4, 5]}.get(tx.couples, [0, 1, 2, 3])
    spared = np.setdiff1d(np.arange(6), reached)
    assert np.isfinite(updates[spared]).all()


@every_card
def test_couples_is_true(card):
    """Changing one element of the gradient changes only the updates that `couples` permits."""
    tx = build(card)
    w = {"a": jnp.ones((2, 2)), "b": jnp.ones((2,))}
    grads = gradients(w, 3)
    path, _ = run(tx, w, grads)
    other = [{"a": g["a"].at[1, 0].add(1.7), "b": g["b"]} for g in grads]
    changed, _ = run(tx, w, other)
    different = np.flatnonzero(flat(path[-1]) != flat(changed[-1]))
    permitted = {"element": {2}, "tree": set(range(6))}.get(tx.couples, {0, 1, 2, 3})
    assert 2 in different
    assert set(different) <= permitted
    if tx.couples != "element":
        assert len(different) > 1, "declares more coupling than it has"


@every_card
def test_natures_are_true(card):
    """Slots declared non-negative are, and those declared signed take both signs."""
    tx, w = build(card), tree()
    _, state = run(tx, w, gradients(w, 10))
    for name, slot in tx.slots.items():
        values = flat(getattr(state, name))
        if slot.nature == "nonnegative":
            assert (values >= 0).all(), name
        elif slot.shape == "parameter":
            assert (values < 0).any(), name
            assert (values > 0).any(), name


@every_card
def test_differentiable(card):
    """Derivatives through an update exist, also at gradients of 0 (meta-learning)."""
    tx = build(card)
    w = {"w": jnp.array([1.0, -2.0, 0.5])}

    def after(scale, rate):
        tx = build(card, learning_rate=rate)
        updates, state = tx.update({"w": scale * jnp.array([0.0, 1.0, -1.0])}, tx.init(w), w)
        updates, _ = tx.update({"w": scale * jnp.array([0.0, 1.0, 2.0])}, state, w)
        return jnp.sum(updates["w"] ** 2)

    assert tx is not None
    for scale in (0.0, 1.0):
        assert np.isfinite(jax.grad(after, argnums=(0, 1))(scale, RATE)).all()


@every_card
def test_goes_down(card):
    """Smoke only: 200 steps down a quadratic."""
    tx = card.factory(card.learning_rate)
    curvature = jnp.linspace(0.5, 2.0, 16)

    def loss(w):
        return 0.5 * jnp.sum(curvature * (w - 3.0) ** 2)

    def step(carry, _):
        w, state = carry
        updates, state = tx.update(jax.grad(loss)(w), state, w)
        return (optax.apply_updates(w, updates), state), None

    w = jnp.zeros((16,))
    (end, _), _ = jax.jit(lambda c: jax.lax.scan(step, c, length=200))((w, tx.init(w)))
    assert float(loss(end)) < float(loss(w))
