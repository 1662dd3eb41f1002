"""The comparison: same start, same batches, the right weights looked at."""

import contextlib
import dataclasses
import functools
import json
import math
import os
import signal

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from jaxopt_lectures import registry
from jaxopt_lectures.compare import measures, protocol, runs
from jaxopt_lectures.compare.runs import Ground, Run, Settings
from jaxopt_lectures.core.card import Card, Twin
from jaxopt_lectures.models.mlp import MLP
from jaxopt_lectures.records import environment
from jaxopt_lectures.tasks.task import Data, Examples, Task
from jaxopt_lectures.terminal.interrupts import Interrupts
from tests.training.tiny import Keeping


def blobs():
    """Three clouds in the plane, far enough apart to be told apart, near enough not to be trivial."""
    rng = np.random.default_rng(0)
    y = np.arange(120, dtype=np.int32) % 3
    x = rng.normal(size=(120, 2)).astype(np.float32) + 2 * np.eye(3, 2, dtype=np.float32)[y]
    return Data(Examples(x[:90], y[:90]), Examples(x[90:], y[90:]))


TASK = Task(
    name="blobs",
    summary="three clouds",
    model=lambda seed: MLP((2, 4, 3), activation=jnp.tanh, rngs=nnx.Rngs(seed)),
    loss=lambda m, x, y: optax.softmax_cross_entropy(m(x), jax.nn.one_hot(y, 3)).mean(),
    metric=lambda m, x, y: jnp.mean(m(x).argmax(-1) == y),
    data=blobs,
    batch_size=20,
    target=0.25,
)
SETTINGS = Settings(steps=30, seeds=2, every=10, first=5)
WITH_TWIN = registry.get("adam")
TWINLESS = next(card for card in registry.cards() if card.twin is None)


class Interrupter:
    """Progress that presses Ctrl-C in the middle of an optimizer."""

    def __init__(self, name):
        self.name = name

    def advance(self, name, share):
        if name == self.name and share > 0.3:
            raise KeyboardInterrupt

    def finish(self, name, reached):
        pass


def without_times(curves):
    return dataclasses.replace(curves, seconds_per_step=())


def test_a_report_has_every_seed_and_look_and_the_twin_takes_the_same_steps():
    report = protocol.compare(Ground(TASK, SETTINGS), [WITH_TWIN, TWINLESS])
    assert report.complete
    assert report.looks == (5, 10, 20, 30)
    assert [result.name for result in report.results] == [WITH_TWIN.name, TWINLESS.name]
    with_twin, twinless = report.results
    for curves in (with_twin.ours, with_twin.twin, twinless.ours):
        assert np.shape(curves.loss) == np.shape(curves.metric) == (2, 4)
        assert len(curves.seconds_per_step) == 4
        assert np.mean(curves.loss, axis=0)[-1] < np.mean(curves.loss, axis=0)[0]
        assert curves.steps_per_second > 0
    assert len(with_twin.difference.to_twin) == len(with_twin.difference.noise) == 4
    assert (twinless.twin, twinless.twin_call, twinless.difference) == (None, None, None)
    assert report.task["parameters"] == 2 * 4 + 4 + 4 * 3 + 3
    assert report.protocol["asked"] == [WITH_TWIN.name, TWINLESS.name]
    # optax computes 1 - b2^t in float32: for 0.999 off by 2^-25 of 1e-3, as much again from b2 itself; so the root of
    # the second moment by 3e-5 of itself; over 5 steps of at most the learning rate each. 2^-22: roundings of weights.
    difference = with_twin.difference
    assert difference.to_twin[0] <= 5 * WITH_TWIN.learning_rate * 3e-5 + 2**-22
    assert 0 < difference.noise[0] <= 1e-5  # the millionth it started with, hardly grown


def test_an_optimizer_does_not_differ_from_itself():
    """Same first weights, same batches, same place to look: as its own twin it must agree to the last bit."""
    card = dataclasses.replace(WITH_TWIN, twin=Twin("itself", WITH_TWIN.factory))
    (result,) = protocol.compare(Ground(TASK, SETTINGS), [card]).results
    assert result.difference.to_twin == (0, 0, 0, 0)
    assert without_times(result.ours) == without_times(result.twin)
    assert result.difference.noise[-1] > 0


def test_gradients_and_metrics_are_taken_where_the_method_wants_them():
    """The look-ahead form steps w and wants its gradient elsewhere, the other steps phi and is judged elsewhere.

    They are one method: equal losses and metrics although the weights they hold differ. Were either hook left out,
    the curves would part at the second step.
    """
    nesterov = registry.get("nesterov")
    card = Card(
        name="ahead",
        factory=functools.partial(nesterov.factory, lookahead=True),
        summary="",
        plain="",
        latex="",
        source="",
        twin=Twin("phi", nesterov.factory),
        learning_rate=0.1,
    )
    (result,) = protocol.compare(Ground(TASK, SETTINGS), [card]).results
    assert result.difference.to_twin[0] > 1e-3
    np.testing.assert_allclose(result.ours.loss, result.twin.loss, rtol=1e-5)
    np.testing.assert_allclose(result.ours.metric, result.twin.metric)


def test_batches_are_epochs_cut_into_pieces():
    ground = Ground(TASK, SETTINGS)
    early, late = np.asarray(ground.batches(0)), np.asarray(ground.batches(7))
    assert early.shape == (2, SETTINGS.every, TASK.batch_size)
    np.testing.assert_array_equal(early[:, 7:], late[:, :3])  # the step decides, not where the counting began
    per_epoch = 90 // 20
    for seed in early:
        assert len(set(seed[:per_epoch].ravel())) == per_epoch * 20  # nothing twice within an epoch
    assert (early[0] != early[1]).any()
    assert (early[:, :per_epoch] != early[:, per_epoch : 2 * per_epoch]).any()


def test_the_first_weights_are_left_alone():
    """Programs are given their buffers away (donated); the first weights belong to everyone."""
    ground = Ground(TASK, SETTINGS)
    before = jax.tree.map(np.array, ground.params)
    run = Run(ground, optax.sgd(0.1), ground.params)
    np.testing.assert_array_equal(jax.tree.leaves(run.params)[0], jax.tree.leaves(before)[0])  # warming up is no step
    run.advance(ground.batches(0), 3)
    for leaf, old in zip(jax.tree.leaves(ground.params), jax.tree.leaves(before), strict=True):
        np.testing.assert_array_equal(leaf, old)


def test_a_task_smaller_than_its_batch_is_refused():
    with pytest.raises(ValueError, match="'blobs' has 90 training examples: no batch of 91"):
        Ground(dataclasses.replace(TASK, batch_size=91), SETTINGS)


def test_ctrl_c_keeps_what_was_finished_and_twice_the_same_gives_the_same():
    again, late = (dataclasses.replace(TWINLESS, name=name) for name in ("again", "late"))
    report = protocol.compare(Ground(TASK, SETTINGS), [TWINLESS, again, late], Interrupter("late"))
    assert not report.complete
    assert json.loads(report.to_json())["complete"] is False
    assert [result.name for result in report.results] == [TWINLESS.name, "again"]
    assert without_times(report.results[0].ours) == without_times(report.results[1].ours)


def test_a_dropped_ctrl_c_is_remembered():
    """Python drops a KeyboardInterrupt that is raised in a callback of the garbage collector; JAX has such a one."""
    before = signal.getsignal(signal.SIGINT)
    with Interrupts() as interrupts:
        interrupts.check()
        with contextlib.suppress(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            interrupts.check()
    assert signal.getsignal(signal.SIGINT) == before


@pytest.mark.parametrize(
    ("steps", "looks"), [(1, (1,)), (10, (10,)), (17, (10, 17)), (20, (10, 20)), (45, (10, 20, 40, 45))]
)
def test_looks(steps, looks):
    assert Settings(steps).looks() == looks


def test_steps_to_target():
    ends, metrics = (10, 20, 30), [(0.1, 0.9, 0.2), (0.9, 0.9, 0.9), (0.1, math.nan, 0.95)]
    assert measures.steps_to_target(ends, metrics, 0.9) == 20
    assert measures.steps_to_target(ends, metrics, 0.92) == math.inf  # two of three never: the median run never


@pytest.mark.parametrize(("name", "size"), [("sgd", 0), ("momentum", 4), ("adam", 8), ("amsgrad", 12)])
def test_state_bytes_per_parameter(name, size):
    shapes = {"w": jax.ShapeDtypeStruct((8, 9), jnp.float32), "b": jax.ShapeDtypeStruct((9,), jnp.bfloat16)}
    assert measures.state_bytes_per_parameter(registry.get(name).factory(0.1), shapes) == size


def test_largest_difference():
    one, other = {"a": jnp.array([1.0, 2.0]), "b": jnp.zeros((0,))}, {"a": jnp.array([1.5, -1.0]), "b": jnp.zeros((0,))}
    assert measures.largest_difference(one, other) == 3
    assert math.isnan(measures.largest_difference(one, other | {"a": jnp.array([math.nan, 0.0])}))


def test_the_commit_is_only_named_where_this_code_is_tracked(tmp_path):
    assert environment.commit(tmp_path) is None
    assert set(environment.describe()) >= {"python", "jax", "jaxlib", "optax", "flax", "device", "cpus", "date"}


def test_batch_statistics_and_dropout_keys_are_carried_along():
    task = dataclasses.replace(TASK, model=functools.partial(Keeping, outputs=3))
    ground = Ground(task, SETTINGS)
    card = dataclasses.replace(WITH_TWIN, twin=Twin("itself", WITH_TWIN.factory))
    (result,) = protocol.compare(ground, [card]).results
    assert without_times(result.ours) == without_times(result.twin), "the same keys, the same statistics"
    run = Run(ground, WITH_TWIN.factory(0.0), ground.params)
    looks = []
    for _ in range(2):
        run.advance(ground.batches(0), 1)
        looks.append(run.loss[-1])
    # The weights do not move and the batch is the same: only what the dropout drew can differ.
    assert (looks[0] != looks[1]).any(), "every step draws its own dropout"
    mean = nnx.merge(ground.graph, jax.tree.map(lambda leaf: leaf[0], run.params), seed_of(run.rest, 0)).norm.mean
    x = ground.examples[0][ground.batches(0)[0, 0]]
    one = task.model(0).one
    # Two steps of a running mean with momentum 0.9 from 0; float32 sums of 20 terms of size 1.
    np.testing.assert_allclose(mean[...], (1 - 0.9**2) * one(x).mean(0), atol=20 * 2**-23)


def seed_of(tree, seed):
    return jax.tree.map(lambda leaf: leaf[seed], tree)


def test_the_metric_is_taken_without_dropout_and_with_running_statistics():
    task = dataclasses.replace(TASK, model=functools.partial(Keeping, outputs=3))
    ground = Ground(task, SETTINGS)
    run = Run(ground, WITH_TWIN.factory(0.01), ground.params)
    run.advance(ground.batches(0), 10)
    model = task.model(0)
    nnx.update(model, seed_of(run.params, 0), seed_of(run.rest, 0))
    model.eval()
    validation = task.data().validation
    wanted = float(np.mean(np.argmax(model(jnp.asarray(validation.x)), -1) == validation.y))
    assert float(run.metric[-1][0]) == pytest.approx(wanted, abs=1e-6)


def test_an_error_counts_as_reached_from_above():
    metrics = [(3.0, 1.0, 0.4), (3.0, 0.5, 0.9), (3.0, 2.0, 1.0)]
    assert measures.steps_to_target((1, 2, 3), metrics, 0.5, larger_is_better=False) == 3
    assert measures.steps_to_target((1, 2, 3), metrics, 2.5) == 1


def test_a_metric_is_written_in_its_unit():
    assert measures.metric_text([0.5, 0.7], "%") == "60.0±14.1"
    assert measures.metric_text([0.975], "%") == "97.5"
    assert measures.metric_text([3.14159e-5], "") == "3.1e-5"
    assert measures.metric_text([2e-10, 4e-10], "") == "3e-10±1e-10"
    assert measures.metric_text([3e20], "") == "3e20"
    assert measures.metric_text([20.04, 21.04], "dB", "+-") == "21+-0.7"
    assert measures.metric_text([math.nan, 1.0], "") == "nan"
    assert measures.metric_text([math.inf, 1.0], "%") == "inf"


def test_the_fingerprint_is_of_contents_shapes_and_dtypes():
    x = np.arange(6, dtype=np.float32)
    same = fingerprint(x.copy())
    in_pieces = np.repeat(x, 2)[::2]  # does not lie in one piece
    assert fingerprint(x) == same == fingerprint(in_pieces)
    others = x + 1, x.reshape(2, 3), x.view(np.int32), x[:5]
    assert len({same, *map(fingerprint, others)}) == 5


def fingerprint(array):
    part = Examples(array, array)
    return Data(part, part).sha256


class Seeing(nnx.Module):
    """One convolution."""

    def __init__(self, seed):
        rngs = nnx.Rngs(seed)
        self.convolution = nnx.Conv(1, 2, (2,), rngs=rngs)
        self.logits = nnx.Linear(4, 3, rngs=rngs)

    def __call__(self, x):
        return self.logits(jnp.tanh(self.convolution(x[..., None])).reshape(len(x), -1))


def test_steps_called_one_by_one_are_those_of_the_loop(monkeypatch):
    """Convolutions are not looped over inside of the program; nothing else may change."""
    task = dataclasses.replace(TASK, model=Seeing)
    compiled = []
    compile_ = jax.stages.Lowered.compile
    monkeypatch.setattr(
        jax.stages.Lowered, "compile", lambda lowered, *a: compiled.append(lowered.as_text()) or compile_(lowered, *a)
    )
    (result,) = protocol.compare(Ground(task, SETTINGS), [TWINLESS]).results
    stepped, compiled[:] = compiled[:], []
    monkeypatch.setattr(runs, "_CONVOLUTION", "none is called this")
    (looped,) = protocol.compare(Ground(task, SETTINGS), [TWINLESS]).results
    # The same formulas in another program: sums of 20 terms of size 1 in another order, over 30 steps.
    np.testing.assert_allclose(result.ours.loss, looped.ours.loss, rtol=30 * 20 * 2**-23)
    np.testing.assert_allclose(result.ours.metric, looped.ours.metric)
    assert not any("stablehlo.while" in text for text in stepped)
    assert any("stablehlo.while" in text for text in compiled)
