"""Many runs side by side: each lane is the run that it would have been alone."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import jaxopt_lectures as jol
from jaxopt_lectures.core.card import Range
from jaxopt_lectures.tasks.task import Examples
from jaxopt_lectures.training.batches import deal
from jaxopt_lectures.training.parts import parts
from jaxopt_lectures.tuning.ground import Ground, Lane
from jaxopt_lectures.tuning.lanes import Program, Way
from jaxopt_lectures.tuning.memory import allowed, needed
from jaxopt_lectures.tuning.operands import operands
from jaxopt_lectures.tuning.runs import Runs
from jaxopt_lectures.tuning.ways import fastest
from tests.training.tiny import BATCH, COUNT, TASK, Keeping

ONE = jax.devices()[:1]
RATES = (1e-3, 3e-3, 1e-2, 3e-2, 0.1)
LANES = [Lane({"learning_rate": rate, "b1": 0.9 - rate}, seed) for rate in RATES for seed in (0, 3)]


def wide(seed):
    """The model in float64."""
    model = TASK.model(seed)
    nnx.update(model, jax.tree.map(lambda leaf: leaf.astype(jnp.float64), nnx.state(model, nnx.Param)))
    return model


def wide_data():
    return dataclasses.replace(
        TASK.data(), **{name: Examples(*(a.astype(np.float64) for a in getattr(TASK.data(), name))) for name in NAMES}
    )


NAMES = ("train", "validation", "test")
WIDE = dataclasses.replace(TASK, model=wide, data=wide_data)


def trained(way, steps, lanes=LANES, task=TASK, factory=jol.adam, devices=ONE, looks=None):
    runs = Runs(Ground(task, devices), factory, ("learning_rate", "b1"), steps, way)
    return runs.train(lanes, looks or (steps,), score=True, keep=True)


@functools.cache
def alone(task, steps, lane):
    """A run of its own: one step after the other, Python's numbers; of what is tested only the order of examples."""
    whole = parts(task)
    params, rest = whole.start(lane[1])
    tx = jol.adam(*lane[0])
    rows, data = deal((lane[1], 0), COUNT, BATCH, 0, steps), task.data().train

    @jax.jit
    def step(params, state, rest, x, y):
        (value, rest), gradients = jax.value_and_grad(whole.loss, has_aux=True)(params, rest, x, y)
        updates, state = tx.update(gradients, state, params)
        return optax.apply_updates(params, updates), state, rest, value

    state, losses = tx.init(params), []
    for row in rows:
        params, state, rest, value = step(params, state, rest, data.x[row], data.y[row])
        losses.append(float(value))
    return params, np.mean(losses)


def furthest(outcomes, steps, task=TASK):
    distance = 0.0
    for lane, outcome in zip(LANES, outcomes, strict=True):
        params, loss = alone(task, steps, (tuple(lane.values.values()), lane.seed))
        apart = jax.tree.map(lambda a, b: np.max(np.abs(np.asarray(a) - np.asarray(b))), params, outcome.state.params)
        distance = max(distance, *jax.tree.leaves(apart))
        assert outcome.losses[-1] == pytest.approx(loss, rel=1e-4)
    return distance


WAYS = [Way("loop", 4), Way("loop", 10, 2), Way("single", 3, 2), Way("map", 4), Way("loop", 1)]


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_a_lane_is_its_own_run_in_float32(way):
    """Ten steps of Adam at rates up to 0.1: each divides by a root that two programs round differently, by 1e-5."""
    assert furthest(trained(way, 10), 10) <= 1e-5


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("way", [Way("loop", 4, 2), Way("single", 5), Way("map", 10)], ids=str)
def test_a_lane_is_its_own_run_in_float64(way):
    outcomes = trained(way, 100, task=WIDE)
    assert {leaf.dtype for leaf in jax.tree.leaves(outcomes[0].state.params)} == {np.dtype(np.float64)}
    assert furthest(outcomes, 100, WIDE) <= 1e-9


def test_in_turn_the_lanes_are_the_single_runs_to_the_last_bit():
    """`lax.map` runs the program of one lane; so does a program of one lane."""
    for one, other in zip(trained(Way("map", 10), 40), trained(Way("map", 1), 40), strict=True):
        for a, b in zip(jax.tree.leaves(one.state.params), jax.tree.leaves(other.state.params), strict=True):
            np.testing.assert_array_equal(a, b)
        assert (one.metrics, one.score) == (other.metrics, other.score)


def test_threads_change_nothing():
    for one, other in zip(trained(Way("loop", 4), 30), trained(Way("loop", 4, 3), 30), strict=True):
        assert (one.losses, one.metrics, one.score) == (other.losses, other.metrics, other.score)


@pytest.mark.parametrize("form", ["loop", "single"])
def test_several_devices_share_the_lanes(form):
    eight, one = (trained(Way(form, 1), 30, devices=devices) for devices in (jax.devices(), ONE))
    for a, b in zip(eight, one, strict=True):
        # Thirty steps at rates of up to 0.1: roundings of 1e-7 a step, not yet magnified.
        np.testing.assert_allclose(a.metrics, b.metrics, rtol=1e-4)
        assert not a.diverged


def test_looks_end_where_they_are_asked_for():
    looked, ended = trained(Way("loop", 4), 30, looks=(7, 14, 30)), trained(Way("loop", 4), 30)
    for one, other in zip(looked, ended, strict=True):
        assert len(one.losses) == len(one.metrics) == 3
        assert one.metrics[-1] == other.metrics[-1], "looking changes nothing"
        assert np.dot(one.losses, [7, 7, 16]) / 30 == pytest.approx(other.losses[0], rel=1e-5)


def test_what_diverges_is_flagged_and_disturbs_nobody():
    lanes = [Lane({"learning_rate": rate, "b1": 0.9}, 0) for rate in (1e-2, 1e30, 3e-2)]
    for way in (Way("loop", 3), Way("single", 3), Way("map", 3)):
        found = trained(way, 60, lanes, factory=lambda learning_rate, b1: optax.sgd(learning_rate))
        assert [outcome.diverged for outcome in found] == [False, True, False]
        calm = trained(way, 60, [lanes[0]] * 3, factory=lambda learning_rate, b1: optax.sgd(learning_rate))
        assert found[0].metrics == calm[0].metrics


def test_another_value_compiles_nothing():
    runs = Runs(Ground(TASK, ONE), jol.adam, ("learning_rate", "b1"), 20, Way("loop", 5))
    runs.train(LANES, (20,))
    compiled = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda event, *_, **__: compiled.append(event) if event.endswith("backend_compile_duration") else None
    )
    others = [Lane({"learning_rate": 0.5 * rate, "b1": 0.8}, seed) for rate in RATES for seed in (1, 2)]
    runs.train(others, (20,))
    # The weights of the new seeds are drawn by Flax, outside of the program.
    before = len(compiled)
    runs.train([Lane({"learning_rate": 0.3, "b1": 0.7}, lane.seed) for lane in others], (20,))
    assert len(compiled) == before


def test_what_a_model_keeps_is_kept_lane_by_lane():
    task = dataclasses.replace(TASK, model=Keeping)

    # Adam would divide the bias before the normalisation, whose gradient is nothing but roundings, by its size.
    def descent(learning_rate, b1):
        return optax.sgd(learning_rate, b1)

    together, single = (trained(Way("loop", size), 20, task=task, factory=descent) for size in (5, 1))
    for one, other in zip(together, single, strict=True):
        np.testing.assert_allclose(one.metrics, other.metrics, rtol=1e-4)  # as for the devices
    seeds = [outcome.metrics[-1] for outcome in together[:2]]
    assert seeds[0] != seeds[1], "other seeds have other weights, dropout and batches"


def test_training_goes_on_from_a_state_that_was_kept():
    runs = Runs(Ground(TASK, ONE), jol.adam, ("learning_rate", "b1"), 40, Way("loop", 4))
    half = runs.train(LANES, (20,), keep=True)
    begun = {number: (20, outcome.state) for number, outcome in enumerate(half)}
    rest, whole = runs.train(LANES, (40,), begun=begun), runs.train(LANES, (40,))
    assert [outcome.metrics[-1] for outcome in rest] == [outcome.metrics[-1] for outcome in whole]


def test_the_numbers_of_every_card_can_be_operands():
    params = Ground(TASK, ONE).first(0)[0]
    for card in jol.registry.cards():
        values = {name: where.low for name, where in card.space.items()}
        assert operands(card.factory, card.space, values, params) == tuple(card.space), card.name


def test_an_optimizer_that_looks_at_its_numbers_gets_them():
    params = Ground(TASK, ONE).first(0)[0]
    space = {"learning_rate": Range(0.1, 1.0), "decay": Range(0.1, 0.9, "linear")}

    def looks_at_decay(learning_rate, decay):
        return optax.sgd(learning_rate, momentum=decay if decay > 0.5 else None)

    def looks_at_both(learning_rate, decay):
        return optax.sgd(float(learning_rate), momentum=float(decay))

    values = {"learning_rate": 0.1, "decay": 0.6}
    assert operands(looks_at_decay, space, values, params) == ("learning_rate",)
    assert operands(looks_at_both, space, values, params) == ()
    with pytest.raises(ZeroDivisionError):
        operands(lambda learning_rate, decay: 1 / 0, space, values, params)
    lanes = [Lane({"learning_rate": 0.1, "decay": decay}, 0) for decay in (0.2, 0.6, 0.8)]
    found = Runs(Ground(TASK, ONE), looks_at_decay, ("learning_rate",), 20, Way("loop", 2)).train(lanes, (20,))
    assert len({outcome.metrics[-1] for outcome in found}) == 3


def test_the_fastest_way_is_one_of_those_tried_and_fits():
    ground, tried = Ground(TASK, ONE), []

    def new(form, count):
        tried.append((form, count))
        return Program(ground, jol.adam, {}, ("learning_rate", "b1"), form, count, 50)

    way, program, seconds = fastest(new, LANES, 50)
    assert (way.form, way.lanes) in tried
    assert seconds[way] == min(seconds.values())
    assert program.form == way.form
    assert 0 < program.nbytes <= allowed(ONE[0])
    assert all(value > 0 for value in seconds.values())


def test_ways_that_need_too_much_memory_are_left_out(monkeypatch):
    """Memory is what the compiled program says that it takes; what does not fit is not run."""
    ground = Ground(TASK, ONE)
    program = Program(ground, jol.adam, {}, ("learning_rate", "b1"), "loop", 4, 500)
    program.start(LANES[:4])
    monkeypatch.setattr("jaxopt_lectures.tuning.ways.allowed", lambda device: int(1.5 * program.nbytes))
    monkeypatch.setattr("jaxopt_lectures.tuning.ways._WORTH", 0)  # try all

    def new(form, count):
        return Program(ground, jol.adam, {}, ("learning_rate", "b1"), form, count, 500)

    way, _, seconds = fastest(new, LANES * 4, 500)
    assert all(found.lanes <= 4 for found in seconds)
    assert all(found.workers == 1 for found in seconds if found.lanes == 4)
    assert way in seconds


def test_memory_is_that_of_arguments_results_and_temporaries():
    compiled = jax.jit(lambda x: jnp.sin(x) @ x).lower(jnp.zeros((256, 256))).compile()
    size = 256 * 256 * 4
    assert 2 * size <= needed(compiled) <= 4 * size
    assert allowed(ONE[0]) > 0
