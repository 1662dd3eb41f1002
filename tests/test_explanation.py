"""Which parameter is treated how, and what it costs: the bytes are those of the real state."""

import re

import jax
import jax.numpy as jnp
import optax
import pytest

import jaxopt_lectures as jol
from tests.conformance.cases import CARDS, build

W = {
    "embed": jnp.ones((8, 4)),
    "layers": [{"w": jnp.ones((4, 4)), "b": jnp.ones(4, jnp.bfloat16)} for _ in range(12)],
    "none": None,
}


def nbytes(state):
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state))


def test_rows():
    tx = jol.chain(
        jol.clip_by_global_norm(1.0),
        jol.by_path({"embed": None, "b$": jol.sgd(0.1), ".*": jol.store(jol.adam(0.1), "int8", min_size=1)}),
    )
    found = jol.explain(tx, W)
    rows = {row.path: row for row in found.rows}
    assert rows["embed"].treatment == "clip_by_global_norm -> 'embed': frozen"
    assert rows["embed"].state_bytes == 0
    assert rows["layers/3/b"].treatment == "clip_by_global_norm -> 'b$': sgd"
    assert rows["layers/3/b"].dtype == "bfloat16"
    assert rows["layers/3/w"].treatment == "clip_by_global_norm -> '.*': store(adam, 'int8')"
    assert rows["layers/3/w"].state_bytes == nbytes(
        [x[3]["w"] for x in [tx.init(W)[1].inner_states[2].mu["layers"]]] * 2
    )
    assert found.state_bytes == nbytes(tx.init(W))
    assert found.notes == ()


def test_text():
    """Aligned; what differs in numbers only is one line."""
    text = str(jol.explain(jol.average(jol.adam(0.1)), W))
    lines = text.splitlines()
    assert len(lines) == 6
    assert len({len(line) for line in lines}) == 1
    assert re.search(r"layers/\*/w \(x 12\)  \(4, 4\)  float32   average\(adam\) +2.3 kB", text)
    assert lines[-1].startswith("25 parameters")
    assert "(the array)" in str(jol.explain(jol.sgd(0.1), jnp.ones(3)))


def test_abstract_parameters():
    shapes = jax.eval_shape(lambda: W)
    assert jol.explain(jol.adam(0.1), shapes) == jol.explain(jol.adam(0.1), W)


@pytest.mark.parametrize("card", CARDS, ids=lambda card: card.name)
def test_bytes_of_every_card(card):
    w = {"a": jnp.ones((8, 4)), "b": jnp.ones(3)}
    found = jol.explain(build(card), w)
    assert found.state_bytes == nbytes(build(card).init(w))
    assert all(row.treatment for row in found.rows)


def test_what_is_hidden_is_said():
    tx = jol.chain(jol.clip(1.0), optax.chain(optax.clip(1.0), optax.adam(0.1)), jol.average(optax.trace(0.9)))
    found = jol.explain(tx, W)
    assert found.rows[0].treatment == "clip -> optax.chain -> average(optax.trace)"
    assert found.notes == (
        "part 2 is an optax.chain, which hides its parts from store and probe: jol.chain shows them",
        "part 3 (optax.trace) is not of this library: store and probe see it as one piece",
    )
    assert found.state_bytes == nbytes(tx.init(W))
    assert jol.explain(optax.sgd(0.1), W).notes[0].startswith("it ")


def test_live_and_nested():
    tx = jol.probe(jol.accumulate(jol.with_hyperparams(jol.adam)(0.1), 2))
    assert jol.explain(tx, W).rows[0].treatment == "probe(accumulate(adam))"


def test_bad_input():
    with pytest.raises(TypeError, match="explain's argument must be a transformation"):
        jol.explain(jol.adam, W)
