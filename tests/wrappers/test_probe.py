"""What is measured is what NumPy measures; the steps stay as they are."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxopt_lectures as jol
from tests.conformance.cases import same_type

W = {"enc": [jnp.float32([[1.0, -2.0], [0.5, 3.0]])], "none": None, "b": jnp.bfloat16([1.0, 2.0])}
G = {"enc": [jnp.float32([[3.0, 0.0], [4.0, 0.0]])], "none": None, "b": jnp.bfloat16([12.0, 0.0])}


def test_by_hand():
    """Clipped from a norm of 13 to 1.3, then a step of 1/2."""
    tx = jol.probe(jol.chain(jol.clip_by_global_norm(1.3), jol.sgd(0.5)))
    _, state = jax.jit(tx.update)(G, tx.init(W), W)
    shown = {name: float(value) for name, value in jol.metrics(state).items()}
    assert len(shown) == 14
    norm = np.sqrt(1 + 4 + 0.25 + 9)
    expected = {
        "grad_norm": 5.0,
        "clipped_norm": 0.5,
        "update_norm": 0.25,
        "weight_norm": norm,
        "update_to_weight": 0.25 / norm,
        "effective_rate": 0.05,
        "cosine_descent": 1.0,
    }
    for name, value in expected.items():
        assert shown[f"{name}/enc/0"] == pytest.approx(value, rel=1e-6), name
    assert shown["grad_norm/b"] == 12.0
    assert shown["clipped_norm/b"] == pytest.approx(1.2, rel=2**-8)


def test_only_leading_clips_count():
    tx = jol.probe(jol.chain(jol.sgd(0.5), jol.clip(1e-3)))
    _, state = tx.update(G, tx.init(W), W)
    assert jol.metrics(state)["clipped_norm/b"] == 12.0
    tx = jol.probe(optax.chain(jol.clip(1e-3), jol.sgd(0.5)))  # hidden
    _, state = tx.update(G, tx.init(W), W)
    assert jol.metrics(state)["clipped_norm/b"] == 12.0
    tx = jol.probe(jol.store(jol.chain(jol.clip(1.0), jol.clip(0.5), jol.adam(0.1)), "int8", min_size=1))
    _, state = tx.update(G, tx.init(W), W)
    assert jol.metrics(state)["clipped_norm/b"] == 0.5


def test_cosine_of_two_updates():
    tx = jol.probe(jol.sgd(1.0), cosine_last=True)
    w, state = {"w": jnp.ones(2)}, None
    state = tx.init(w)
    seen = []
    for g in ([1.0, 0.0], [0.0, 2.0], [3.0, 3.0], [-1.0, -1.0]):
        _, state = tx.update({"w": jnp.float32(g)}, state, w)
        seen.append(float(jol.metrics(state)["cosine_last/w"]))
    np.testing.assert_allclose(seen, [0, 0, np.sqrt(0.5), -1], atol=1e-6)
    assert state.last["w"].dtype == jnp.bfloat16


def test_between_measurements():
    """With 3: the first and the fourth step are measured, the steps between leave what is there."""
    tx = jol.probe(jol.adam(0.1), every=3)
    step, state = jax.jit(tx.update), tx.init(W)
    seen = []
    for scale in (1.0, 2.0, 3.0, 4.0, 5.0):
        _, state = step(jax.tree.map(lambda g, s=scale: g * jnp.asarray(s, g.dtype), G), state, W)
        seen.append(float(jol.metrics(state)["grad_norm/enc/0"]))
    np.testing.assert_allclose(seen, [5, 5, 5, 20, 20], rtol=1e-6)


@pytest.mark.parametrize("every", [1, 2])
def test_steps_are_those_of_the_inner(every):
    inner = jol.chain(jol.clip_by_global_norm(1.0), jol.adamw(0.1))
    tx = jol.probe(inner, every=every, cosine_last=True)
    state, bare = tx.init(W), inner.init(W)
    step, other = jax.jit(tx.update, donate_argnums=1), jax.jit(inner.update)
    for _ in range(3):
        u, state = step(G, state, W)
        v, bare = other(G, bare, W)
        np.testing.assert_allclose(u["enc"][0], v["enc"][0], rtol=1e-6)
    same_type(state, tx.init(W))
    same_type(state.inner_state, bare)


@pytest.mark.parametrize(
    ("factor", "shown"), [(1e-18, 5e-18), (1e18, 5e18), (1e-25, 0.0), (1e25, np.inf), (np.nan, np.nan)]
)
def test_range_of_norms(factor, shown):
    """Within 1e-19 and 1e19 they are right, beyond they show that; the angle is that of what is seen."""
    tx = jol.probe(jol.sgd(1.0))
    g = {"w": jnp.float32([3.0, 4.0]) * factor}
    _, state = tx.update(g, tx.init(g), g)
    found = jol.metrics(state)
    assert found["grad_norm/w"] == pytest.approx(shown, rel=1e-5, nan_ok=True)
    if 0 < shown < np.inf:
        assert found["cosine_descent/w"] == pytest.approx(1.0, rel=1e-5)


def test_many_equal_parameters_share_a_trace():
    """A thousand leaves of one shape are traced once."""
    w = {f"p{k}": jnp.ones(3) for k in range(1000)}
    tx = jol.probe(jol.sgd(0.1), every=2)
    text = str(jax.jit(tx.update).trace(w, jax.eval_shape(tx.init, w), w).jaxpr)
    assert text.count("_measure = {") <= 2, "plainly and with care"


def test_what_states_tell():
    """From the outermost inwards, with names of their own where two are alike; in a compiled program too."""
    w = {"w": jnp.ones(2)}
    inner = jol.by_path({".*": jol.skip_nonfinite(jol.with_hyperparams(jol.adam)(0.1))})
    tx = jol.chain(jol.skip_nonfinite(jol.clip(1.0)), jol.probe(inner))

    @jax.jit
    def step(state):
        _, state = tx.update({"w": jnp.float32([np.nan, 1.0])}, state, w)
        return jol.metrics(state)

    shown = step(tx.init(w))
    assert int(shown["skipped_nonfinite"]) == 1
    assert int(shown["skipped_nonfinite_2"]) == 0
    assert shown["hyperparams/learning_rate"] == np.float32(0.1)
    assert "grad_norm/w" in shown
    assert jol.metrics(jol.adam(0.1).init(w)) == {}


def test_bad_input():
    with pytest.raises(TypeError, match="probe's argument must be a transformation"):
        jol.probe(jol.adam)
    with pytest.raises(ValueError, match="every must be at least 1"):
        jol.probe(jol.adam(0.1), every=0)
    tx = jol.probe(jol.adam(0.1))
    with pytest.raises(ValueError, match="probe reads the parameters"):
        tx.update(G, tx.init(W))
