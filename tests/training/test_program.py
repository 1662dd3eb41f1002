"""One step and many: the update is the optimizer's, what is not finite leaves no trace, both ways are the same."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import jaxopt_lectures as jol
from jaxopt_lectures.tasks.task import Examples
from jaxopt_lectures.training.batches import Chunk, deal
from jaxopt_lectures.training.evaluation import gradient_norm
from jaxopt_lectures.training.program import TrainState, is_fine, make_step, start
from jaxopt_lectures.training.ways import fastest, first_lost, make_epoch
from tests.training.tiny import BATCH, COUNT, KEEPING, TASK, plane

DATA = plane().train
X, Y = jnp.asarray(DATA.x[:BATCH]), jnp.asarray(DATA.y[:BATCH])
CARDS = [*jol.registry.cards(), *jol.registry.solvers()]


def chunk(steps):
    rows = np.zeros((32, BATCH), np.int32)
    rows[:steps] = deal((0, 0), COUNT, BATCH, 0, steps)
    return Chunk(Examples(*map(jnp.asarray, DATA)), jnp.asarray(rows), steps)


def same(one, other):
    jax.tree.map(np.testing.assert_array_equal, numbers(one), numbers(other))


def numbers(tree):
    is_key = lambda leaf: jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)  # noqa: E731
    return jax.tree.map(lambda leaf: np.asarray(jax.random.key_data(leaf) if is_key(leaf) else leaf), tree)


def test_a_step_is_gradient_update_and_addition():
    """Against the steps written out with optax."""
    tx = optax.sgd(0.1, momentum=0.9)
    state = start(TASK, tx, seed=3)
    model = TASK.model(3)
    graph, params = nnx.split(model, nnx.Param)
    opt_state = tx.init(params)

    @jax.jit
    def by_hand(params, opt_state):
        value, gradients = jax.value_and_grad(lambda p: TASK.loss(nnx.merge(graph, p), X, Y))(params)
        updates, opt_state = tx.update(gradients, opt_state, params)
        return optax.apply_updates(params, updates), opt_state, value, optax.tree.norm(gradients)

    step = jax.jit(make_step(TASK, tx))
    for count in range(1, 4):
        before = state
        state, loss = step(state, X, Y)
        params, opt_state, value, norm = by_hand(params, opt_state)
        # One program computes a norm beside the rest and one does not: a rounding or two of float32 apart.
        for mine, theirs in zip(jax.tree.leaves(state.params), jax.tree.leaves(params), strict=True):
            np.testing.assert_allclose(mine, theirs, rtol=1e-6, atol=1e-7)
        np.testing.assert_allclose(loss, value, rtol=1e-6)
        np.testing.assert_allclose(gradient_norm(TASK, 1, None)(before, (X, Y), np.arange(BATCH)), norm, rtol=1e-5)
        assert state.step == count
        assert state.skipped == 0


@pytest.mark.parametrize("way", ["loop", "single"])
def test_many_steps_are_single_steps(way):
    with jax.numpy_dtype_promotion("standard"):  # Flax's batch normalisation
        tx = jol.adam(0.01)
        state, dealt, losses = start(KEEPING, tx), chunk(20), []
        step = jax.jit(make_step(KEEPING, tx))
        for rows in dealt.rows[:20]:
            state, loss = step(state, dealt.examples.x[rows], dealt.examples.y[rows])
            losses.append(loss)
        many, found = make_epoch(make_step(KEEPING, tx), way)(start(KEEPING, tx), dealt)
    assert many.step == 20
    np.testing.assert_array_equal(found[20:], 0)
    # Other programs round differently: where a gradient is nothing but roundings, of a bias before the norm, 20 steps
    # of Adam at 0.01 may go apart, each by 20 * 0.01; elsewhere they differ by roundings.
    np.testing.assert_allclose(found[:20], losses, rtol=1e-4)
    for (path, mine), theirs in zip(
        jax.tree_util.tree_leaves_with_path(many.params), jax.tree.leaves(state.params), strict=True
    ):
        before_norm = jax.tree_util.keystr(path) == "['one']['bias'].value"
        np.testing.assert_allclose(mine, theirs, rtol=1e-3, atol=2 * 20 * 0.01 if before_norm else 1e-4)
    keys = [part for part in jax.tree.leaves(many.rest) if jnp.issubdtype(part.dtype, jnp.unsignedinteger)]
    assert [int(count) for count in keys] == [20], "one dropout mask a step"


def test_chunks_of_other_lengths_compile_nothing_and_add_up():
    tx = jol.adam(0.01)
    epoch = make_epoch(make_step(TASK, tx))
    whole, _ = epoch(start(TASK, tx), chunk(20))
    part, dealt = start(TASK, tx), chunk(20)
    for begin, end in ((0, 7), (7, 8), (8, 20)):
        rows = jnp.zeros_like(dealt.rows).at[: end - begin].set(dealt.rows[begin:end])
        part, _ = epoch(part, Chunk(dealt.examples, rows, end - begin))
    same(part, whole)


def test_unknown_ways():
    with pytest.raises(ValueError, match="way must be 'loop' or 'single', got 'fast'"):
        make_epoch(make_step(TASK, jol.sgd(0.1)), "fast")


def test_the_faster_way_is_taken_and_the_state_is_not():
    """Of few steps none but the single program is compiled; of many both are, and the faster is that with less time."""
    tx = jol.adam(0.01)
    state = start(TASK, tx)
    before = numbers(state)
    way, _, seconds = fastest(make_step(TASK, tx), state, chunk(20), 20)
    assert way == "single"
    assert set(seconds) == {"single"}
    way, epoch, seconds = fastest(make_step(TASK, tx), state, chunk(20), 10**9)
    assert seconds[way] == min(seconds["loop"], seconds["single"])
    same(before, state)
    assert epoch(state, chunk(3))[0].step == 3


def test_accumulation_is_the_whole_batch():
    """The mean of means of equal parts; apart by the rounding of sums of eight numbers."""
    tx = jol.sgd(0.1)
    whole, loss = make_step(TASK, tx)(start(TASK, tx), X, Y)
    for parts in (2, 8):
        state, mean = make_step(TASK, tx, accumulate=parts)(start(TASK, tx), X, Y)
        np.testing.assert_allclose(mean, loss, rtol=8 * 1.2e-7)
        for mine, theirs in zip(jax.tree.leaves(state.params), jax.tree.leaves(whole.params), strict=True):
            np.testing.assert_allclose(mine, theirs, rtol=1e-6, atol=1e-7)
    with pytest.raises(ValueError, match="a batch of 8 cannot be cut into accumulate=3 equal parts"):
        make_step(TASK, tx, accumulate=3)(start(TASK, tx), X, Y)


def test_narrow_computation_keeps_wide_parameters():
    """bfloat16 has 8 bits: the loss is within a few 2^-8 of the wide one; the parameters move by less."""
    tx = jol.sgd(1e-4)
    seen = {}

    def loss(model, x, y):
        seen["dtypes"] = {leaf.dtype for leaf in (*jax.tree.leaves(nnx.state(model, nnx.Param)), x)}
        return jnp.mean((model(x) - y.astype(x.dtype)) ** 2)

    task = dataclasses.replace(TASK, loss=loss)
    first = start(task, tx)
    _, exact = make_step(TASK, tx)(first, X, Y)
    state, narrow = make_step(task, tx, compute_dtype="bfloat16")(first, X, Y)
    assert seen["dtypes"] == {jnp.dtype("bfloat16")}
    assert narrow.dtype == jnp.float32
    np.testing.assert_allclose(narrow, exact, rtol=8 * 2**-8)
    for leaf, old in zip(jax.tree.leaves(state.params), jax.tree.leaves(first.params), strict=True):
        assert leaf.dtype == jnp.float32
        assert jnp.any(leaf != old), "1e-4 of a gradient is below a rounding of bfloat16, and not lost"


@pytest.mark.parametrize("card", CARDS, ids=lambda card: card.name)
def test_what_is_not_finite_leaves_no_trace(card):
    """With every optimizer: a NaN in the batch, an infinite one; then the steps are those of a run without them."""
    tx = card.factory() if "line search" in card.tags else card.factory(0.01)
    step = jax.jit(make_step(TASK, tx))
    clean = first = start(TASK, tx)
    dirty, _ = step(first, X, Y.at[3].set(jnp.nan))
    same(dirty[:3], first[:3])
    for y in (Y, Y.at[0].set(jnp.inf), Y):
        dirty, loss = step(dirty, X, y)
        if jnp.isfinite(loss):
            clean, _ = step(clean, X, y)
    same(dirty[:3], clean[:3])
    assert (int(dirty.step), int(dirty.skipped), int(clean.step)) == (4, 2, 2)


def test_a_finite_loss_with_a_gradient_that_is_not():
    task = dataclasses.replace(TASK, loss=lambda m, x, y: jnp.sum(jnp.sqrt(jnp.maximum(m(x) * 0, 0))))
    first = start(task, jol.sgd(0.1))
    state, loss = make_step(task, jol.sgd(0.1))(first, X, Y)
    assert loss == 0
    assert state.skipped == 1
    same(state.params, first.params)


def test_gradients_whose_square_overflows_are_taken():
    """1e25 is a finite gradient, and Adam's step of it is its rate."""
    task = dataclasses.replace(TASK, loss=lambda m, x, y: 1e25 * jnp.mean(m(x)))
    state, _ = make_step(task, jol.adam(0.01))(start(task, jol.adam(0.01)), X, Y)
    assert state.skipped == 0


@pytest.mark.parametrize("row", [0, 40])
@pytest.mark.parametrize("way", ["loop", "single"])
@pytest.mark.parametrize("kind", ["loss", "gradient"])
def test_the_first_step_that_would_lose_the_state_is_found(row, way, kind):
    """From the chunk without a guard: as many steps as are good, and the state after them, to the last bit."""

    def loss(model, x, y):
        value = jnp.mean((model(x) - jnp.where(y == 7, 0, y)) ** 2)
        marked = jnp.any(y == 7)
        if kind == "loss":
            return value * jnp.where(marked, jnp.inf, 1)
        return jnp.sqrt(value * jnp.where(marked, 0, 1))  # 0, with a gradient of 0 / 0

    tx, dealt = jol.sgd(0.01), chunk(20)
    task = dataclasses.replace(TASK, loss=loss)
    epoch = make_epoch(make_step(task, tx, guard=False), way)
    marked = dealt._replace(examples=Examples(dealt.examples.x, dealt.examples.y.at[row].set(7.0)))
    first = next(step for step in range(20) if row in dealt.rows[step])
    good, _ = epoch(start(task, tx), marked._replace(steps=first))
    state, losses = epoch(start(task, tx), marked)
    assert is_fine(good)
    assert not is_fine(state)
    taken, found = first_lost(epoch, jax.jit(is_fine), start(task, tx), marked, np.asarray(losses[:20]))
    assert taken == first
    same(found, good)


def test_a_state_is_fine_or_not():
    state = start(TASK, optax.contrib.reduce_on_plateau(0.5, 3))
    assert is_fine(state), "an optimizer may begin with an infinite best value"
    bad = jax.tree.map(lambda leaf: leaf.at[0].set(jnp.inf), state.params)
    assert not is_fine(state._replace(params=bad))
    adam = start(TASK, jol.adam(0.1))
    assert not is_fine(
        adam._replace(
            opt_state=jax.tree.map(lambda leaf: leaf * jnp.nan, adam.opt_state._replace(count=jnp.float32(0)))
        )
    )


def test_the_gradient_is_taken_where_the_optimizer_wants_it():
    class Ahead(NamedTuple):
        def gradient_point(self, params):
            return jax.tree.map(lambda p: p + 1, params)

    tx = optax.GradientTransformation(lambda params: Ahead(), lambda g, s, p=None: (jax.tree.map(jnp.negative, g), s))
    state = start(TASK, tx)
    graph = nnx.graphdef(TASK.model(0))
    moved = jax.tree.map(lambda p: p + 1, state.params)
    gradient = jax.grad(lambda p: TASK.loss(nnx.merge(graph, p), X, Y))(moved)
    after, _ = make_step(TASK, tx)(state, X, Y)
    for mine, p, g in zip(*map(jax.tree.leaves, (after.params, state.params, gradient)), strict=True):
        np.testing.assert_allclose(mine, p - g, rtol=1e-6, atol=1e-7)


def test_updates_are_scaled_on_request():
    tx = jol.sgd(0.1)
    first = start(TASK, tx)
    half = first._replace(scale=jnp.float32(0.5))
    whole, _ = make_step(TASK, tx)(first, X, Y)
    scaled, _ = make_step(TASK, tx, scaled=True)(half, X, Y)
    for a, b, p in zip(*map(jax.tree.leaves, (whole.params, scaled.params, first.params)), strict=True):
        np.testing.assert_allclose(b - p, (a - p) / 2, rtol=0, atol=2e-7)  # roundings of weights of about 1


def test_bad_input():
    with pytest.raises(TypeError, match="tx must be a transformation"):
        make_step(TASK, jol.adam)
    with pytest.raises(ValueError, match="accumulate must be at least 1, got 0"):
        make_step(TASK, jol.adam(0.1), accumulate=0)


def test_states_are_trees_that_may_be_donated():
    state = start(TASK, jol.adam(0.1))
    assert isinstance(state, TrainState)
    pointers = [leaf.unsafe_buffer_pointer() for leaf in jax.tree.leaves(state)]
    assert len(set(pointers)) == len(pointers)
