"""Several gradients to a step: the step on their mean, and nothing in between."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import jaxopt_lectures as jol
from jaxopt_lectures.wrappers.sam import uphill
from tests.conformance.cases import equal, same_type, standard

W = {"a": jnp.float32([1.0, -2.0, 0.5]), "none": None, "b": jnp.bfloat16([1.0, 2.0])}


def grads(count, seed=0):
    rng = np.random.default_rng(seed)
    return [jax.tree.map(lambda p: jnp.asarray(rng.normal(size=p.shape), p.dtype), W) for _ in range(count)]


def walked(tx, gradients, params=W):
    """Updates and state after each step, by one program."""
    step, state, path = jax.jit(tx.update), tx.init(params), []
    for gradient in gradients:
        updates, state = step(gradient, state, params)
        path.append((updates, state))
    return path


@pytest.mark.parametrize("average", [True, False])
def test_by_hand(average):
    """Three gradients, summed in float64 here; the bfloat16 ones in float32 there, rounded once."""
    g = grads(6)
    path = walked(jol.accumulate(jol.sgd(1.0), 3, average), g)
    for index, (updates, state) in enumerate(path):
        for name in ("a", "b"):
            assert updates[name].dtype == W[name].dtype
            expected = np.zeros(W[name].shape)
            if index % 3 == 2:
                expected = -sum(np.asarray(x[name], np.float64) for x in g[index - 2 : index + 1])
                expected /= 3 if average else 1
            eps = float(jnp.finfo(W[name].dtype).eps)
            np.testing.assert_allclose(np.asarray(updates[name], np.float64), expected, rtol=eps, atol=2.0**-22)
        assert int(state.mini_step) == (index + 1) % 3
        assert int(state.gradient_step) == (index + 1) // 3
        assert state.total["b"].dtype == jnp.float32


def test_is_multi_steps():
    tx = jol.chain(jol.clip_by_global_norm(0.5), jol.adamw(jol.linear_schedule(0.1, 0.0, 4)))
    g = [{"a": x["a"]} for x in grads(6)]
    ours = walked(jol.accumulate(tx, 2), g, {"a": W["a"]})
    with standard():
        theirs = walked(optax.MultiSteps(tx, 2).gradient_transformation(), g, {"a": W["a"]})
    for (u, s), (v, t) in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(u["a"], v["a"], rtol=1e-5, atol=1e-8)
        assert int(s.inner_state[1].count) == int(t.inner_opt_state[1].count), "real steps are counted"


def test_every_call_is_the_transformation():
    """With 1: its steps, its state, no sum. A schedule that gives 1 takes the same steps."""
    tx, g = jol.adam(0.1), grads(3)
    for (u, s), (v, t) in zip(walked(jol.accumulate(tx, 1), g), walked(tx, g), strict=True):
        equal((u, s), (v, t))
    for (u, _), (v, _) in zip(walked(jol.accumulate(tx, lambda step: 1), g), walked(tx, g), strict=True):
        np.testing.assert_allclose(u["a"], v["a"], rtol=1e-6)


def test_a_schedule():
    """1 gradient to the first step, 2 to the second, 3 to the third."""
    path = walked(jol.accumulate(jol.sgd(1.0), lambda step: step + 1), grads(6))
    assert [bool((u["a"] != 0).all()) for u, _ in path] == [True, False, True, False, False, True]
    mean = sum(np.asarray(g["a"], np.float64) for g in grads(6)[3:]) / 3
    np.testing.assert_allclose(path[-1][0]["a"], -mean, rtol=1e-6)


def test_small_gradients_are_not_lost():
    """256 of 1 in bfloat16, where 256 + 1 is 256."""
    w = {"w": jnp.zeros(2, jnp.bfloat16)}
    tx = jol.accumulate(jol.sgd(1.0), 512)
    one = {"w": jnp.ones(2, jnp.bfloat16)}

    def step(state, _):
        updates, state = tx.update(one, state, w)
        return state, updates

    _, updates = jax.jit(lambda s: jax.lax.scan(step, s, length=512))(tx.init(w))
    np.testing.assert_array_equal(np.asarray(updates["w"][-1], np.float32), [-1.0, -1.0])


def test_what_was_there_is_not_read():
    """A NaN of one step does not reach the next."""
    tx, w = jol.accumulate(jol.sgd(1.0), 2), {"w": jnp.ones(1)}
    bad, good = {"w": jnp.float32([np.nan])}, {"w": jnp.ones(1)}
    path = walked(tx, [bad, good, good, good], w)
    assert np.isnan(path[1][0]["w"]).all()
    np.testing.assert_array_equal(path[3][0]["w"], [-1.0])


def test_nothing_of_the_inner_is_computed():
    """A part that raises when it runs is not run in between."""
    seen = []

    def update(updates, state, params=None, *, value, **extra):
        del params, extra
        jax.debug.callback(lambda v: seen.append(float(v)), value)
        return updates, state

    inner = optax.GradientTransformationExtraArgs(lambda params: optax.EmptyState(), update)
    tx, w = jol.accumulate(inner, 3), {"w": jnp.ones(1)}
    step, state = jax.jit(tx.update), tx.init(w)
    for value in range(1, 7):
        _, state = step(w, state, w, value=jnp.float32(value))
    jax.effects_barrier()
    assert seen == [3.0, 6.0]


@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit])
def test_sharded(kind):
    mesh = jax.make_mesh((8,), ("data",), axis_types=(kind,))
    there = NamedSharding(mesh, PartitionSpec("data"))
    w = {"w": jax.device_put(jnp.arange(16.0), there)}
    tx = jol.accumulate(jol.chain(jol.clip_by_global_norm(1.0), jol.adam(0.1)), 2)
    step, state = jax.jit(tx.update), tx.init(w)
    for _ in range(2):
        updates, state = step(w, state, w)
    assert updates["w"].sharding.is_equivalent_to(there, 1)
    assert state.total["w"].sharding.is_equivalent_to(there, 1)
    np.testing.assert_allclose(np.asarray(updates["w"])[1:], np.full(15, -0.1), rtol=1e-4)


def test_inside_shard_map():
    """On gradients that differ from device to device, behind a norm that does."""
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    tx = jol.accumulate(jol.chain(jol.clip_by_global_norm(1.0), jol.adam(0.1)), 2)

    def one(w):
        state = tx.init(w)
        for _ in range(2):
            updates, state = tx.update(w, state, w)
        return updates

    w = jnp.linspace(0.5, 1.0, 16)
    spread = jax.jit(jax.shard_map(one, mesh=mesh, in_specs=PartitionSpec("data"), out_specs=PartitionSpec("data")))(w)
    np.testing.assert_allclose(spread, np.concatenate([one(w[k : k + 2]) for k in range(0, 16, 2)]), rtol=1e-5)


def test_narrow_weights_see_float32_steps():
    """`round_stochastic` enters: its steps stay float32 for bfloat16 weights."""
    tx = jol.round_stochastic(jol.accumulate(jol.adam(1e-4), 2))
    w = {"w": jnp.ones(1000, jnp.bfloat16)}
    step, state = jax.jit(tx.update), tx.init(w)
    for _ in range(2):
        updates, state = step(w, state, w)
    # a step of 1e-4 is 1/39 of 2^-8, the spacing below 1: about 26 of 1000 weights move
    moved = int((np.asarray(updates["w"]) != 0).sum())
    assert 5 <= moved <= 60


@pytest.mark.parametrize("way", [jol.round_stochastic, jol.compensate])
@pytest.mark.parametrize("inner", [jol.sgd, optax.sgd], ids=["jol", "optax"])
def test_the_mean_is_not_rounded_inside(way, inner):
    """The mean of 1 and 1 + 2^-7 has a digit more than bfloat16; a `tx` that steps in float32 sees it."""
    w = {"w": jnp.zeros(3, jnp.bfloat16), "wide": jnp.zeros(3)}
    tx = way(jol.accumulate(inner(1.0, momentum=0.9), 2))
    state, first = tx.init(w), tx.init(w)
    with standard():
        for size in (1.0, 1 + 2.0**-7):
            _, state = jax.jit(tx.update)(jax.tree.map(lambda p, size=size: jnp.full_like(p, size), w), state, w)
    same_type(state, first)
    traces = [leaf for leaf in jax.tree.leaves(state.inner_state.inner_state) if leaf.ndim]
    assert len(traces) == 2
    for trace in traces:
        np.testing.assert_array_equal(np.abs(trace), 1 + 2.0**-8)


def test_optax_keeps_its_narrow_state():
    """In strict promotion too: what does not step in float32 is given the gradients' dtype."""
    w = {"w": jnp.ones(3, jnp.bfloat16)}
    for inner in (optax.trace(0.5), jol.chain(jol.sgd(1.0), optax.trace(0.5))):
        tx = jol.accumulate(inner, 2)
        (_, _), (updates, state) = walked(tx, [w, w], w)
        assert updates["w"].dtype == jnp.bfloat16
        same_type(state, tx.init(w))


def loss(w, x):
    return jnp.sum((w["w"] - x) ** 4)


def test_value_fn_is_of_one_batch():
    """What asks for it raises inside, and goes around: SAM on each batch, the step on the mean."""
    w, batches = {"w": jnp.float32([1.0, -2.0])}, jnp.float32([[0.0, 1.0], [2.0, 3.0]])
    for inner in (jol.sam(jol.sgd(0.1)), jol.chain(jol.clip(1.0), jol.lbfgs())):
        tx = jol.accumulate(inner, 2)
        with pytest.raises(ValueError, match=r"value_fn knows the last only.*around, sam\(accumulate"):
            tx.update(w, tx.init(w), w, value=1.0, grad=w, value_fn=lambda w: loss(w, batches[0]))
    tx, second = jol.sam(jol.accumulate(jol.sgd(0.1), 2), 0.2), []
    state = tx.init(w)
    for x in batches:
        g = jax.grad(loss)(w, x)
        updates, state = tx.update(g, state, w, value_fn=lambda w, x=x: loss(w, x))
        second.append(jax.grad(loss)(uphill(w, g, 0.2), x)["w"])
    np.testing.assert_allclose(updates["w"], -0.1 * (second[0] + second[1]) / 2, rtol=1e-5)


def test_donated_and_vmapped():
    tx = jol.accumulate(jol.adam(0.1), 2)
    step = jax.jit(tx.update, donate_argnums=1)
    state, kept = tx.init(W), tx.init(W)
    for g in grads(3):
        u, state = step(g, state, W)
        v, kept = tx.update(g, kept, W)
        np.testing.assert_allclose(u["a"], v["a"], rtol=1e-6)
    same_type(state, tx.init(W))
    lanes = jax.vmap(lambda scale: tx.update({"a": scale * W["a"]}, tx.init({"a": W["a"]}), {"a": W["a"]})[0])
    np.testing.assert_array_equal(lanes(jnp.ones(2))["a"], np.zeros((2, 3)))


@pytest.mark.parametrize(
    ("every", "error", "message"),
    [
        (0, ValueError, "every must be at least 1, got 0"),
        (2.0, TypeError, "every must be an integer, got float 2.0"),
        (True, TypeError, "every must be an integer, got bool True"),
    ],
)
def test_bad_input(every, error, message):
    with pytest.raises(error, match=message):
        jol.accumulate(jol.sgd(0.1), every)


def test_bad_gradients():
    tx = jol.accumulate(jol.sgd(0.1), 2)
    with pytest.raises(TypeError, match="accumulate's argument must be a transformation"):
        jol.accumulate(jol.sgd, 2)
    with pytest.raises(ValueError, match=r"the sum have a leaf|the sum have|sum"):
        tx.update({"a": W["a"]}, tx.init(W), W)
    with pytest.raises(ValueError, match=r"gradient\['a'\] has shape \(2,\), the sum \(3,\)"):
        tx.update({**W, "a": jnp.ones(2)}, tx.init(W), W)
