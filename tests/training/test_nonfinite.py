"""A batch that is not finite, every optimizer, every policy; `make soak` takes all policies, the short form one."""

import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxopt_lectures as jol
from jaxopt_lectures.training.batches import deal
from tests.training.test_program import CARDS
from tests.training.tiny import BATCH, COUNT, poisoned

STEPS = 24
WHOLE = int(os.environ.get("KILLS", "5")) > 5
POLICIES = ("skip", "stop", "rollback") if WHOLE else ("skip",)
CHOSEN = range(0, len(CARDS), 1 if WHOLE else 4)  # the step's own guard meets every card in test_program.py


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("index", CHOSEN, ids=[CARDS[i].name for i in CHOSEN])
def test_every_card_survives(index, policy, tmp_path):
    """The example that is no number lies elsewhere for each; the state is that of the steps with a guard."""
    card = CARDS[index]
    row = int(np.random.default_rng(index).integers(COUNT))
    task = poisoned(row)
    tx = card.factory() if "line search" in card.tags else card.factory(0.01)
    history = jol.fit(task, tx, steps=STEPS, on_nonfinite=policy, way="loop", checkpoint=tmp_path, eval_every=5)
    first = jol.training.start(task, tx)  # before its first step a solver's state has no value: it is infinite
    for leaf, before in zip(*(jax.tree.leaves((s.params, s.opt_state)) for s in (history.state, first)), strict=True):
        assert np.isfinite(leaf).all() or np.array_equal(leaf, before, equal_nan=True)
    if policy != "skip":
        return
    rows = deal((0, 0), COUNT, BATCH, 0, STEPS)
    assert int(history.state.skipped) == int((rows == row).any(axis=1).sum())
    x, y = map(jnp.asarray, task.data().train)
    state, step = jol.training.start(task, tx), jax.jit(jol.make_step(task, tx))
    for batch in rows:
        state, _ = step(state, x[batch], y[batch])
    assert int(state.skipped) == int(history.state.skipped)
    # Other programs round differently: a step of Adam's kind is as long where a gradient is nearly 0 as elsewhere.
    for mine, theirs in zip(jax.tree.leaves(history.state.params), jax.tree.leaves(state.params), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-3, atol=2e-3)
