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


def test_a_single_array():
    """All that is kept like it is its own; counts are not."""
    w = jnp.ones((16, 8))
    for tx, own in (
        (jol.adam(0.1), 8 * 128),
        (jol.soap(0.1), 8 * 128 + 8 * (256 + 64)),
        (jol.store(jol.adam(0.1), "int8", min_size=1), None),
        (optax.adam(0.1), 8 * 128),
    ):
        found, state = jol.explain(tx, w), tx.init(w)
        small = sum(leaf.nbytes for leaf in jax.tree.leaves(state) if not leaf.ndim)
        assert found.shared_bytes == small
        assert found.rows[0].state_bytes == nbytes(state) - small == (own or found.rows[0].state_bytes)


@pytest.mark.parametrize("kind", [list, tuple])
def test_lists_of_parameters(kind):
    """The numbers of parts of chains are not those of parameters."""
    w = kind([jnp.ones((16, 8)), jnp.ones(8), jnp.ones(3)])
    parts = {"0": jol.soap(0.1), "1": jol.average(jol.adam(0.1)), ".*": None}
    for tx in (jol.by_path(parts), jol.chain(jol.clip(1.0), jol.clip_by_global_norm(1.0), jol.by_path(parts))):
        found = jol.explain(tx, w)
        # factors and bases of both sides, two means, and a number
        assert [row.state_bytes for row in found.rows] == [8 * (256 + 64) + 8 * 128 + 4, 3 * 32, 0]
        assert found.state_bytes == nbytes(tx.init(w))


def test_pieces_that_are_called_like_parameters():
    w = {"w": jnp.ones((16, 8)), "left": jnp.ones((4, 4))}
    rows = {row.path: row.state_bytes for row in jol.explain(jol.soap(0.1), w).rows}
    assert rows == {"w": 8 * (256 + 64) + 8 * 128 + 4, "left": 8 * 32 + 8 * 16 + 4}


def test_stored_matrices():
    """What is done with the parameter, and that it is stored, also behind live hyper-parameters."""
    w = {"w": jnp.ones((16, 8)), "b": jnp.ones(8)}
    for tx in (jol.soap(0.1), jol.with_hyperparams(jol.soap)(0.1)):
        words = [row.treatment for row in jol.explain(jol.store(tx, "int8", min_size=1), w).rows]
        assert words == ["store(adam, 'int8')", "store(soap on 16 x 8, 'int8')"]


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
