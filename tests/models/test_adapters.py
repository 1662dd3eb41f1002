"""Models of other making train as NNX modules do."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen, nnx

import jaxopt_lectures as jol
from tests.training.tiny import BATCH, TASK, plane


class Net(linen.Module):
    @linen.compact
    def __call__(self, x, train=False):
        x = linen.BatchNorm(use_running_average=not train, momentum=0.9)(linen.Dense(8)(x))
        return linen.Dense(1)(linen.Dropout(0.5, deterministic=not train)(x))


class Plain(linen.Module):
    @linen.compact
    def __call__(self, x):
        return linen.Dense(1)(x)


def init(key):
    return {"w": jax.random.normal(key, (2, 1)), "b": jnp.zeros(1)}


def apply(params, x):
    return x @ params["w"] + params["b"]


def test_two_functions_are_a_model():
    """A step of gradient descent on the functions themselves."""
    task = dataclasses.replace(TASK, model=jol.models.from_functions(init, apply))
    tx = jol.sgd(0.1)
    x, y = (jnp.asarray(part[:BATCH]) for part in plane().train)
    state, _ = jol.make_step(task, tx)(jol.training.start(task, tx, seed=4), x, y)
    params = init(jax.random.key(4))
    gradient = jax.grad(lambda p: jnp.mean((apply(p, x) - y) ** 2))(params)
    wanted = jax.tree.map(lambda p, g: p - 0.1 * g, params, gradient)
    for mine, theirs in zip(jax.tree.leaves(state.params), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-6, atol=1e-7)
    model = task.model(4)
    np.testing.assert_allclose(model(x), apply(params, x), rtol=1e-6)
    assert jol.fit(task, jol.adam(0.05), steps=300).metric[-1] < 0.05


def test_a_linen_module_is_a_model():
    """Its parameters are trained; its batch statistics and dropout keys go along, and are left alone in evaluation."""
    x, y = (jnp.asarray(part[:BATCH]) for part in plane().train)
    with jax.numpy_dtype_promotion("standard"):  # Linen's batch normalisation
        task = dataclasses.replace(TASK, model=jol.models.from_linen(Net(), x))
        model = task.model(0)
        names = {path[-1] for path, _ in nnx.to_flat_state(nnx.state(model, nnx.Param))}
        assert names == {"kernel", "bias", "scale"}
        state = jol.training.start(task, jol.sgd(0.1))
        after, first = jol.make_step(task, jol.sgd(0.1))(state, x, y)
        mean = lambda rest: nnx.to_pure_dict(rest)["inner"]["BatchNorm_0"]["mean"]  # noqa: E731
        dense = model.inner.Dense_0
        hidden = x @ dense["kernel"][...] + dense["bias"][...]
        np.testing.assert_allclose(mean(after.rest), 0.1 * hidden.mean(axis=0), rtol=1e-5, atol=1e-6)
        _, other = jol.make_step(task, jol.sgd(0.0))(after._replace(params=state.params), x, y)
        assert other != first, "another dropout mask"
        model.eval()
        np.testing.assert_array_equal(model(x), model(x))
        assert not np.any(mean(nnx.state(model, nnx.BatchStat)))


def test_a_linen_module_that_asks_for_nothing():
    x = jnp.asarray(plane().train.x[:BATCH])
    model = jol.models.from_linen(Plain(), x)(0)
    assert model(x).shape == (BATCH, 1)
    history = jol.fit(dataclasses.replace(TASK, model=jol.models.from_linen(Plain(), x)), optax.sgd(0.1), steps=200)
    assert history.metric[-1] < 0.05
