"""Wrappers around every card and around optax's optimizers: the bare one's steps, and a state that keeps its type.

One program for each: the bare optimizer and the wrapped ones run side by side in a scan.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxopt_lectures as jol
from jaxopt_lectures.storage.codes import Encoded
from tests.conformance.cases import CARDS, RATE, build, same_type, standard

FOREIGN = {
    "adabelief": optax.adabelief,
    "adadelta": optax.adadelta,
    "adafactor": optax.adafactor,
    "adagrad": optax.adagrad,
    "adam": optax.adam,
    "adamax": optax.adamax,
    "adamw": optax.adamw,
    "adan": optax.adan,
    "amsgrad": optax.amsgrad,
    "fromage": optax.fromage,
    "lamb": optax.lamb,
    "lars": optax.lars,
    "lion": optax.lion,
    "nadam": optax.nadam,
    "noisy_sgd": lambda learning_rate: optax.noisy_sgd(learning_rate, key=jax.random.key(0)),
    "novograd": optax.novograd,
    "optimistic": optax.optimistic_gradient_descent,
    "radam": optax.radam,
    "rmsprop": optax.rmsprop,
    "rprop": optax.rprop,
    "sgd": lambda learning_rate: optax.sgd(learning_rate, momentum=0.9, nesterov=True),
    "sign_sgd": optax.sign_sgd,
    "sm3": optax.sm3,
    "yogi": optax.yogi,
}
MAKERS = {card.name: (card.factory, {"learning_rate": RATE, **card.off_neutral}) for card in CARDS}
MAKERS |= {f"optax-{name}": (factory, {"learning_rate": RATE}) for name, factory in FOREIGN.items()}
NOISY = ("optax-noisy_sgd", "optax-sm3")
"""Whose steps the same gradient twice may change: random numbers, and a choice among equals."""
STEPS = 4
FAST = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
"""To compile; the programs are small."""


def still(factory, **hypers):
    """Everything that changes no step, around live hyper-parameters."""
    live = jol.by_path({".*": jol.with_hyperparams(factory)(**hypers)})
    return jol.probe(jol.skip_spikes(jol.average(jol.lookahead(live, 2, 1.0)), history=4))


def twice(factory, **hypers):
    """What takes each gradient twice for one step."""
    tx = jol.average(jol.accumulate(factory(**hypers), 2), "swa", start=2, every=4)
    return jol.probe(tx, every=2, cosine_last=True)


def parameters():
    rng = np.random.default_rng(0)
    return {"block": {"w": jnp.float32(rng.normal(size=(4, 3))), "none": None}}


@pytest.mark.parametrize("name", MAKERS)
def test_steps_are_those_of_the_bare_one(name):
    w, (factory, hypers) = parameters(), MAKERS[name]
    runs = {"bare": factory(**hypers), "still": still(factory, **hypers), "twice": twice(factory, **hypers)}
    grads = [jax.tree.map(lambda p, k=k: jnp.sin(k + 3 * p), w) for k in range(STEPS)]
    with standard():
        start = {way: (w, tx.init(w)) for way, tx in runs.items()}

        def one(carry, gradient):
            new = {}
            for way, tx in runs.items():
                params, state = carry[way]
                updates, state = tx.update(gradient, state, params)
                if way == "twice":  # the same gradient once more
                    assert jax.tree.structure(updates) == jax.tree.structure(params)
                    updates, state = tx.update(gradient, state, params)
                new[way] = optax.apply_updates(params, updates), state
            return new, {way: params for way, (params, _) in new.items()}

        stacked = jax.tree.map(lambda *g: jnp.stack(g), *grads)
        end, path = jax.jit(lambda c: jax.lax.scan(one, c, stacked), compiler_options=FAST)(start)
    for way in ("still", "twice"):
        same_type(start[way], end[way])
        if name in NOISY and way == "twice":
            continue
        for a, b in zip(jax.tree.leaves(path[way]), jax.tree.leaves(path["bare"]), strict=True):
            # one program, other fusions: roundings of the step, which a root or a sign of a small number enlarges
            np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-5 * RATE, err_msg=way)
    averaged = jol.eval_params(end["twice"][1], w)
    assert jax.tree.structure(averaged) == jax.tree.structure(w)
    shown = jol.metrics(end["still"][1])
    assert shown["grad_norm/block/w"].shape == ()
    np.testing.assert_allclose(shown["grad_norm/block/w"], np.linalg.norm(grads[-1]["block"]["w"]), rtol=1e-5)


def stored(card):
    """How many of its parts `store` encodes."""
    return repr(jol.store(build(card), "int8", min_size=1)).count("'int8'")


SLOTTED = [card for card in CARDS if stored(card)]


@pytest.mark.parametrize("card", SLOTTED, ids=lambda card: card.name)
def test_stored_inside(card):
    """`store` goes through all wrappers at once to the slots; what wrappers keep stays float32. Traced only."""
    w = {**parameters(), "b": jnp.ones(5)}
    live = jol.with_hyperparams(card.factory)(**{"learning_rate": RATE, **card.off_neutral})
    inner = jol.lookahead(jol.accumulate(jol.by_path({"block": live, ".*": build(card)}), 2))
    tx = jol.store(jol.probe(jol.skip_spikes(inner)), "int8", min_size=1)
    assert repr(tx).count("'int8'") == 2 * stored(card)

    def step(carry, _):
        params, state = carry
        updates, state = tx.update(jax.tree.map(jnp.cos, params), state, params)
        return (optax.apply_updates(params, updates), state), None

    state = jax.eval_shape(tx.init, w)
    (_, new), _ = jax.eval_shape(lambda c: jax.lax.scan(step, c, length=2), (w, state))
    assert jax.tree.structure(new) == jax.tree.structure(state)
    encoded = jax.tree.leaves(new, is_leaf=lambda x: isinstance(x, Encoded))
    assert sum(isinstance(x, Encoded) for x in encoded) >= 2
