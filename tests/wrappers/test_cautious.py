"""Cautious: limit cases, signs, what is hidden and what is not, decay inside and outside."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxopt_lectures as jol
from tests.conformance.cases import equal, run, same_type, standard

U = jnp.array([-0.3, 0.2, -0.1, 0.4])


def fixed(u):
    """Whatever the gradient, the update is u."""
    return optax.GradientTransformation(lambda params: optax.EmptyState(), lambda g, s, p=None: (u, s))


def masked(u, g):
    tx = jol.cautious(fixed(u))
    return tx.update(g, tx.init(g), g)[0]


def test_where_all_agree_nothing_changes():
    np.testing.assert_array_equal(masked(U, -3 * U), U)


def test_where_none_agrees_nothing_is_left():
    np.testing.assert_array_equal(masked(U, U), jnp.zeros(4))
    np.testing.assert_array_equal(masked(U, jnp.zeros(4)), jnp.zeros(4))


def test_what_agrees_is_lengthened_by_what_does_not():
    """One of four: four times as long; each array by itself. One of 2000 is lengthened by 1000 only."""
    one = jnp.array([1.0, 1.0, -1.0, 1.0])
    np.testing.assert_allclose(masked(U, one), [-1.2, 0, 0, 0], rtol=1e-6)
    both = masked({"a": U, "b": U}, {"a": one, "b": -U})
    np.testing.assert_array_equal(both["b"], U)
    np.testing.assert_allclose(both["a"][0], -1.2)
    many = jnp.ones(2000)
    np.testing.assert_allclose(masked(-many, many.at[1:].set(-1.0))[0], -1000.0)


def test_signs_of_the_smallest_and_the_largest():
    """Their products are 0 and infinite."""
    np.testing.assert_array_equal(masked(jnp.full(2, -1e-30), jnp.full(2, 1e-30)), jnp.full(2, -1e-30))
    np.testing.assert_array_equal(masked(jnp.full(2, -1e30), jnp.full(2, 1e30)), jnp.full(2, -1e30))


def test_a_nan_is_not_hidden():
    assert np.isnan(masked(U.at[1].set(jnp.nan), -U)[1])
    assert np.isnan(masked(jnp.full(4, jnp.nan), jnp.full(4, jnp.nan))).all()
    np.testing.assert_array_equal(masked(jnp.array([jnp.inf, 1.0]), jnp.array([1.0, -1.0])), [0.0, 2.0])


def test_cautious_adamw_is_adam_masked_and_weights_that_decay(x64):
    grads = [jnp.asarray(np.random.default_rng(k).normal(size=6)) for k in range(12)]
    mine, _ = run(jol.cautious_adamw(0.1, weight_decay=0.2), jnp.ones(6), grads)
    outside = jol.chain(jol.cautious(jol.adam(0.1)), optax.add_decayed_weights(-0.1 * 0.2))
    other, _ = run(outside, jnp.ones(6), grads)
    np.testing.assert_allclose(mine, other, rtol=0, atol=1e-14)
    inside, _ = run(jol.cautious(jol.adamw(0.1, weight_decay=0.2)), jnp.ones(6), grads)
    assert np.max(np.abs(inside[-1] - mine[-1])) > 1e-2, "inside, decay is masked too"
    without_momentum, _ = run(jol.cautious_adamw(0.1, b1=0.0, weight_decay=0.0), jnp.ones(6), grads)
    plain, _ = run(jol.adam(0.1, b1=0.0), jnp.ones(6), grads)
    np.testing.assert_allclose(without_momentum, plain, rtol=0, atol=1e-14)


@pytest.mark.parametrize(
    "tx", [jol.lion(0.1), optax.adam(0.1), jol.chain(jol.clip(1.0), jol.momentum(0.1))], ids=["lion", "optax", "chain"]
)
def test_around_others(tx):
    """The state is that of the inner one; every step goes down this gradient, in bfloat16 too."""
    wrapped = jol.cautious(tx)
    for dtype in (jnp.float32, jnp.bfloat16):
        w = {"a": jnp.ones((3, 5), dtype), "none": None}
        with standard():
            state = wrapped.init(w)
            same_type(state, tx.init(w))
            for k in range(4):
                g = {"a": jax.random.normal(jax.random.key(k), (3, 5)).astype(dtype), "none": None}
                updates, new = jax.jit(wrapped.update)(g, state, w)
                same_type(state, new)
                assert updates["a"].dtype == tx.update(g, state, w)[0]["a"].dtype
                assert (np.asarray(updates["a"] * g["a"], np.float32) <= 0).all()
                state = new


def test_declares_what_it_is():
    tx = jol.cautious(jol.adam(0.1))
    assert tx.couples == "array"
    assert jol.cautious(jol.adagrad_norm(0.1)).couples == "tree"
    assert repr(tx).startswith("cautious(adam(")
    w = {"w": jnp.ones(8)}
    stored = jol.store(tx, "int8", min_size=1).init(w)
    assert stored.mu["w"].codes.dtype == jnp.uint8
    equal(tx.init(w), jol.adam(0.1).init(w))
    with pytest.raises(TypeError, match="cautious's argument must be a transformation"):
        jol.cautious(jol.adam)
