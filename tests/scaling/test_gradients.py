"""Gradients of a divided batch, added up where the state lies."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

import jaxopt_lectures as jol
from jaxopt_lectures.scaling.gradients import scattered
from jaxopt_lectures.scaling.layouts import slots_sharding
from jaxopt_lectures.scaling.traffic import collectives, sent

SHAPES = {"rise": (16, 24), "bias": (24,), "fall": (24, 8), "odd": (7,)}


def problem():
    rng = np.random.default_rng(0)
    params = {name: jnp.asarray(rng.normal(size=shape)) for name, shape in SHAPES.items()}
    return params, jnp.asarray(rng.normal(size=(32, 16))), jnp.asarray(rng.normal(size=(32, 8)))


def loss(params, rest, x, y):
    hidden = jnp.tanh(x @ params["rise"] + params["bias"])
    return jnp.mean((hidden @ params["fall"] - y) ** 2) + jnp.sum(params["odd"] ** 2), rest


def placed(spread):
    params, x, y = problem()
    mesh = jol.mesh_of("data=8")
    layout = jol.params_sharding(params, mesh, spread="data" if spread else None)
    params = jax.device_put(params, layout)
    batch = jax.device_put((x, y), NamedSharding(mesh, P("data")))
    return mesh, layout, params, slots_sharding(params, mesh, 1, "data"), batch


@pytest.mark.parametrize("spread", [False, True], ids=["zero=1", "zero=3"])
def test_it_is_the_gradient_of_the_whole_batch(spread, x64):
    mesh, layout, params, slots, batch = placed(spread)
    (value, rest), found = jax.jit(scattered(loss, mesh, "data", layout, slots))(params, jnp.ones(2), *batch)
    (expected, _), gradients = jax.value_and_grad(loss, has_aux=True)(*problem()[:1], None, *problem()[1:])
    np.testing.assert_array_equal(rest, jnp.ones(2))
    np.testing.assert_allclose(value, expected, rtol=1e-14)
    for name in SHAPES:
        np.testing.assert_allclose(found[name], gradients[name], rtol=1e-13, atol=1e-15)  # sums of 32 in parts of 4
        assert found[name].sharding.is_equivalent_to(slots[name], found[name].ndim)


def test_a_step_sends_what_it_must_and_no_more():
    """Reduce-scatter of the gradient, all-gather of the update: 2 P (N - 1) / N; an all-reduce would make it 3."""
    mesh, layout, params, slots, batch = placed(spread=False)
    tx = jol.shard(jol.adamw(1e-3), mesh, 1, params=layout)

    def program(gradient):
        def step(params, state, x, y):
            (value, _), gradients = gradient(params, None, x, y)
            updates, state = tx.update(gradients, state, params)
            return optax.apply_updates(params, updates), state, value

        return jax.jit(step, donate_argnums=(0, 1)).lower(params, tx.init(params), *batch).compile()

    cut = sum(p.nbytes for name, p in params.items() if name != "odd")
    # what is not cut is added up everywhere, as is the loss
    least = 2 * cut * 7 / 8 + 2 * (params["odd"].nbytes + 4) * 7 / 8
    compiled = program(scattered(loss, mesh, "data", layout, slots))
    assert sent(compiled) == pytest.approx(least, rel=1e-6)
    assert {one.kind for one in collectives(compiled)} == {"reduce-scatter", "all-gather", "all-reduce"}
    state_arrays = [one for one in collectives(compiled) if one.kind == "all-gather"]
    assert sum(one.nbytes for one in state_arrays) == cut  # the updates, and nothing of the state
    by_the_compiler = program(jax.value_and_grad(loss, has_aux=True))
    assert sent(by_the_compiler) == pytest.approx(1.5 * 2 * cut * 7 / 8, rel=0.02)


def test_bad_input():
    mesh, layout, _, slots, _ = placed(spread=False)
    with pytest.raises(ValueError, match="scattered names the axis 'batch'; the mesh has data=8"):
        scattered(loss, mesh, "batch", layout, slots)
    mesh, cut, *_ = placed(spread=True)
    other = {**slots, "rise": NamedSharding(mesh, P(None, "data"))}
    with pytest.raises(
        ValueError, match="parameter 'rise' is cut along its axis 0: so must its gradient be, not along 1"
    ):
        scattered(loss, mesh, "data", cut, other)
    with pytest.raises(ValueError, match="over a mesh of one axis, got data=4,model=2"):
        scattered(loss, jol.mesh_of("data=4,model=2"), "data", layout, slots)
