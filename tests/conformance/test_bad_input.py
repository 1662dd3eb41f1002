"""Each bad value raises one clear line that names what was given and what is allowed."""

import jax
import jax.numpy as jnp
import pytest

from tests.conformance.cases import RATE, build, every_card, tree


@every_card
def test_numbers_out_of_range(card):
    hypers = build(card).hypers
    assert "learning_rate" in hypers
    for name, hyper in hypers.items():
        outside = [float("nan")]
        outside += [hyper.low - 1.0] if hyper.low > -float("inf") else []
        outside += [hyper.high + (0.1 if hyper.closed else 0.0)] if hyper.high < float("inf") else [float("inf")]
        for value in outside:
            with pytest.raises(ValueError, match=name) as caught:
                build(card, **{name: value})
            assert str(value) in str(caught.value)
            assert hyper.range in str(caught.value)


@every_card
def test_wrong_types(card):
    for name in build(card).hypers:
        for value in ("0.1", True, 1j, object()):
            with pytest.raises(TypeError, match=name):
                build(card, **{name: value})


@every_card
def test_arrays_are_not_scalars(card):
    with pytest.raises(ValueError, match=r"learning_rate must be a scalar, got shape \(2,\).*vmap"):
        build(card, learning_rate=jnp.ones(2))


@every_card
def test_schedule_of_an_array(card):
    tx, w = build(card, learning_rate=lambda count: jnp.ones(3)), tree()
    with pytest.raises(ValueError, match=r"schedule of learning_rate returned shape \(3,\)"):
        jax.jit(tx.update)(w, build(card).init(w), w)


@every_card
@pytest.mark.parametrize("dtype", [jnp.int32, jnp.complex64, jnp.bool_])
def test_parameters_that_cannot_be_optimized(card, dtype):
    params = {"fine": jnp.ones(2), "layer": {"bad": jnp.ones(2, dtype)}}
    with pytest.raises(TypeError, match=r"parameter\['layer'\]\['bad'\] has dtype"):
        build(card).init(params)


@every_card
def test_gradients_of_another_shape(card):
    tx = build(card)
    w = {"a": jnp.ones((3,)), "b": jnp.ones((2,))}
    wrong = {"a": jnp.ones((3,)), "b": jnp.ones((3,))}
    with pytest.raises(ValueError, match=r"gradient\['b'\] has shape \(3,\).*\(2,\)"):
        tx.update(wrong, tx.init(w), w)


@every_card
def test_gradients_of_another_structure(card):
    tx = build(card)
    w = {"a": jnp.ones((3,)), "b": jnp.ones((2,))}
    with pytest.raises(ValueError, match=r"\['c'\]"):
        tx.update({**w, "c": jnp.ones(1)}, tx.init(w), w)
    with pytest.raises(ValueError, match=r"\['b'\]"):
        tx.update({"a": jnp.ones((3,))}, tx.init(w), w)


@every_card
def test_parameters_missing(card):
    """Those that read the parameters say so; the others do without."""
    tx, w = build(card), {"a": jnp.ones((3,))}
    reads = "weight_decay" in tx.hypers
    if reads:
        with pytest.raises(ValueError, match=r"reads the parameters: call update\(gradients, state, params\)"):
            tx.update(w, tx.init(w))
    else:
        updates, _ = tx.update(w, tx.init(w))
        assert updates["a"].shape == (3,)


@every_card
def test_unknown_argument(card):
    with pytest.raises(TypeError, match="learning_rte"):
        card.factory(RATE, learning_rte=1.0)
