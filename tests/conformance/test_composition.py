"""Every card inside what others built: optax's combinators, NNX, Linen, orbax; and in our own chain."""

import inspect

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest
from flax import nnx
from flax.training.train_state import TrainState

import jaxopt_lectures as jol
from tests.conformance.cases import RATE, build, equal, every_card, flat, gradients, run, same_type, standard, tree


@every_card
@pytest.mark.parametrize("chain", [optax.chain, jol.chain], ids=["optax", "jol"])
def test_chain(card, chain):
    """A chain with a clip and a schedule takes the steps of its parts taken by hand."""
    w = tree()
    grads = gradients(w, 3)
    clip, tx = jol.clip_by_global_norm(2.0), build(card)
    path, state = run(chain(clip, tx), w, grads)
    assert len(state) == 2
    parts = clip.init(w), tx.init(w)
    params = w
    for gradient in grads:
        updates, first = jax.jit(clip.update)(gradient, parts[0], params)
        updates, second = jax.jit(tx.update)(updates, parts[1], params)
        parts, params = (first, second), optax.apply_updates(params, updates)
    np.testing.assert_allclose(flat(params), flat(path[-1]), rtol=1e-5, atol=1e-6)
    same_type(parts, state)


@every_card
def test_masked(card):
    """Masked leaves pass through; the others take the same steps as alone."""
    w = tree()
    grads = gradients(w, 2)
    mask = {name: name in ("matrix", "scalar") for name in w}
    path, _ = run(optax.masked(build(card), mask), w, grads)
    chosen = {name: w[name] for name in ("matrix", "scalar")}
    alone, _ = run(build(card), chosen, [{name: g[name] for name in chosen} for g in grads])
    for name in chosen:
        np.testing.assert_allclose(path[-1][name], alone[-1][name], rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(path[0]["odd"], w["odd"] + grads[0]["odd"], rtol=1e-6)


@every_card
def test_multi_transform(card):
    w = tree()
    grads = gradients(w, 2)
    labels = {name: "ours" if name == "matrix" else "frozen" for name in w}
    path, _ = run(optax.multi_transform({"ours": build(card), "frozen": optax.set_to_zero()}, labels), w, grads)
    alone, _ = run(build(card), {"matrix": w["matrix"]}, [{"matrix": g["matrix"]} for g in grads])
    np.testing.assert_allclose(path[-1]["matrix"], alone[-1]["matrix"], rtol=1e-6, atol=1e-6)
    np.testing.assert_array_equal(path[-1]["odd"], w["odd"])


@every_card
def test_multi_steps(card):
    """Accumulating two gradients is one step on their mean."""
    w = {"w": tree()["matrix"]}
    first, second = gradients(w, 2)
    with standard():
        path, _ = run(optax.MultiSteps(build(card), 2).gradient_transformation(), w, [first, second])
    mean = jax.tree.map(lambda a, b: (a + b) / 2, first, second)
    alone, _ = run(build(card), w, [mean])
    np.testing.assert_array_equal(path[0]["w"], w["w"])
    np.testing.assert_allclose(path[1]["w"], alone[0]["w"], rtol=1e-5, atol=1e-5 * RATE)


@every_card
def test_inject_hyperparams(card):
    """optax's live hyper-parameters drive ours."""
    w = {"w": tree()["matrix"]}
    grads = gradients(w, 2)
    static = tuple(set(inspect.signature(card.factory).parameters) - set(build(card).hypers))
    injected = optax.inject_hyperparams(card.factory, static_args=static)(RATE, **card.off_neutral)
    with standard():
        path, _ = run(injected, w, grads)
    alone, _ = run(build(card), w, grads)
    np.testing.assert_allclose(path[-1]["w"], alone[-1]["w"], rtol=1e-5, atol=1e-6)


@every_card
def test_nnx_optimizer(card):
    model = nnx.Linear(3, 2, rngs=nnx.Rngs(0))
    x = jnp.ones((4, 3))
    optimizer = nnx.Optimizer(model, build(card), wrt=nnx.Param)
    w = {"bias": model.bias[...], "kernel": model.kernel[...]}

    def loss(model):
        return jnp.mean((model(x) - 1.0) ** 2)

    @nnx.jit
    def step(model, optimizer):
        optimizer.update(model, nnx.grad(loss)(model))

    def loss_of(w):
        return jnp.mean((x @ w["kernel"] + w["bias"] - 1.0) ** 2)

    tx = build(card)
    state = tx.init(w)
    for _ in range(2):
        step(model, optimizer)
        updates, state = jax.jit(tx.update)(jax.grad(loss_of)(w), state, w)
        w = optax.apply_updates(w, updates)
    # the loss is a polynomial in two programs; sqrt and sign amplify its roundings by at most 1 / (smallest divisor)
    np.testing.assert_allclose(model.kernel[...], w["kernel"], rtol=1e-4, atol=1e-4)


@every_card
def test_linen_train_state(card):
    model = nn.Dense(2)
    x = jnp.ones((4, 3))
    params = model.init(jax.random.key(0), x)
    state = TrainState.create(apply_fn=model.apply, params=params, tx=build(card))

    @jax.jit
    def step(state):
        return state.apply_gradients(
            grads=jax.grad(lambda p: jnp.mean((state.apply_fn(p, x) - 1.0) ** 2))(state.params)
        )

    after = step(step(state))
    assert int(after.step) == 2
    same_type(state.opt_state, after.opt_state)
    assert np.isfinite(flat(after.params)).all()
    assert (flat(after.params) != flat(params)).any()


@every_card
def test_save_and_restore(card, tmp_path):
    """Saved by orbax after three steps and restored, a run ends where the uninterrupted one does, bit for bit."""
    w = tree()
    del w["empty"]  # orbax cannot save arrays of size 0
    grads, tx = gradients(w, 6), build(card)

    @jax.jit
    def step(gradient, state, params):
        updates, state = tx.update(gradient, state, params)
        return state, optax.apply_updates(params, updates)

    state, params = tx.init(w), w
    for count, gradient in enumerate(grads):
        if count == 3:
            saved = {"params": params, "state": state}
            with ocp.PyTreeCheckpointer() as checkpointer:
                checkpointer.save(tmp_path / "saved", saved)
        state, params = step(gradient, state, params)

    template = {"params": w, "state": tx.init(w)}
    restore = ocp.args.PyTreeRestore(template, ocp.checkpoint_utils.construct_restore_args(template))
    with ocp.PyTreeCheckpointer() as checkpointer:
        back = checkpointer.restore(tmp_path / "saved", args=restore)
    equal(back, saved)
    for gradient in grads[3:]:
        back["state"], back["params"] = step(gradient, back["state"], back["params"])
    equal(back, {"params": params, "state": state})
    assert int(state.count) == 6


@every_card
def test_tree_get(card):
    """optax's tools find our fields by name, through a chain."""
    w = tree()
    tx = jol.chain(jol.clip(1.0), build(card))
    state = tx.init(w)
    for name in build(card).slots:
        assert jax.tree.structure(optax.tree_utils.tree_get(state, name)) == jax.tree.structure(getattr(state[1], name))
