"""What every card is run on: trees, gradients, and ways to run. No optimizer is named here; cards bring their names."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxopt_lectures as jol

CARDS = jol.registry.cards()
RATE = 0.05

every_card = pytest.mark.parametrize("card", CARDS, ids=lambda card: card.name)


def standard():
    """optax's own side of a twin cannot do strict promotion."""
    return jax.numpy_dtype_promotion("standard")


def build(card, **changes):
    """The card's optimizer with every hyper-parameter off its neutral value."""
    return card.factory(**{"learning_rate": RATE, **card.off_neutral, **changes})


def tree(dtype=jnp.float32, seed=0):
    """Parameters of every shape that has ever broken an optimizer."""
    rng = np.random.default_rng(seed)
    shapes = {"scalar": (), "empty": (0,), "short": (7,), "matrix": (3, 5), "odd": (257,)}
    return {name: jnp.asarray(rng.normal(size=shape), dtype) for name, shape in shapes.items()}


def mixed_tree(seed=0):
    """The same, with bfloat16 and float32 leaves side by side, and None where there is no parameter."""
    wide, narrow = tree(seed=seed), tree(jnp.bfloat16, seed=seed)
    return {"wide": wide, "narrow": narrow, "nothing": None}


def gradients(params, steps, seed=1):
    """One gradient tree a step, of the parameters' shapes and dtypes."""
    rng = np.random.default_rng(seed)
    return [jax.tree.map(lambda p: jnp.asarray(rng.normal(size=p.shape), p.dtype), params) for _ in range(steps)]


def flat(params):
    """All parameters as one float64 vector, in the order of the leaves."""
    return np.concatenate([np.asarray(leaf, np.float64).ravel() for leaf in jax.tree.leaves(params)])


def run(tx, params, grads, jit=True):
    """Parameters after each step, and the last state. Compiles one step."""

    def step(params, state, gradient):
        updates, state = tx.update(gradient, state, params)
        return optax.apply_updates(params, updates), state

    step = jax.jit(step) if jit else step
    state, path = tx.init(params), []
    for gradient in grads:
        params, state = step(params, state, gradient)
        path.append(params)
    return path, state


def same_type(a, b):
    """Asserts that two trees have one structure, and leaf by leaf one shape, dtype and weak type."""
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert jax.typeof(x) == jax.typeof(y), (jax.typeof(x), jax.typeof(y))


def equal(a, b):
    """Asserts that two trees are equal bit for bit."""
    same_type(a, b)
    chex.assert_trees_all_equal(a, b)
