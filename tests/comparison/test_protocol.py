"""The protocol: equal budgets, equal starts, fresh seeds; what fails and what is interrupted."""

import dataclasses
import errno
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import jaxopt_lectures as jol
from jaxopt_lectures.comparison import files
from jaxopt_lectures.comparison.entries import entry
from jaxopt_lectures.comparison.measures import (
    compact,
    largest_difference,
    metric_text,
    state_bytes_per_parameter,
    steps_to_target,
)
from jaxopt_lectures.comparison.protocol import compare, total_steps
from jaxopt_lectures.comparison.side_by_side import Protocol
from jaxopt_lectures.comparison.studies import Plan
from jaxopt_lectures.core.card import Card, Range, Twin
from jaxopt_lectures.tasks.task import Data, Examples
from jaxopt_lectures.tuning.ground import Ground
from jaxopt_lectures.tuning.progress import Silent
from jaxopt_lectures.tuning.runs import Runs
from tests.training.tiny import KEEPING, TASK, plane
from tests.tuning.interrupter import Interrupter

RATE = {"learning_rate": Range(1e-3, 0.3)}
ADAM, SGD = ("ours", jol.adam, RATE), ("theirs", optax.sgd, RATE)
QUICK = {"budget": 3, "seeds": 2, "steps": 24, "devices": jax.devices()[:1]}


@pytest.fixture(scope="module")
def report():
    return compare(TASK, [ADAM, SGD], **QUICK)


def test_every_optimizer_gets_the_same_budget_starts_and_seeds(report):
    (one,) = report.comparisons
    assert [result.name for result in one.results] == ["ours", "theirs"]
    for result in one.results:
        assert [len(study.trials) for study in result.studies] == [3, 3]
        assert [study.tuning_seed for study in result.studies] == [0, 2]
        assert [study.seed for study in result.studies] == [1, 3], "none is used for both"
        for study in result.studies:
            assert {trial.seeds for trial in study.trials} == {(study.tuning_seed,)}
            best = min((trial for trial in study.trials if not trial.diverged), key=lambda trial: trial.metric)
            assert study.values == best.values
            assert len(study.loss) == len(study.metric) == len(one.looks)
            assert math.isfinite(study.score)
    draws = [tuple(trial.values["learning_rate"] for study in r.studies for trial in study.trials) for r in one.results]
    assert len({*draws[0], *draws[1]}) == 12, "each tuning has draws of its own"
    assert one.looks[-1] == one.steps == 24


def test_the_score_is_that_of_a_run_by_fit_at_the_end_on_the_examples_to_test_on(report):
    """The winner's run again, by other code: same seed, same batches, same schedule."""
    (one,) = report.comparisons
    for result, factory in zip(one.results, (jol.adam, optax.sgd), strict=True):
        for study in result.studies:
            tx = factory(jol.cosine_decay_schedule(study.values["learning_rate"], 24))
            history = jol.fit(TASK, tx, steps=24, seed=study.seed, log=None)
            assert jol.evaluate(TASK, history.state, "test") == pytest.approx(study.score, rel=1e-4)
            assert history.records[-1]["metric"] == pytest.approx(study.metric[-1], rel=1e-4)


def test_what_is_to_be_pasted_trains_to_the_same(report):
    (one,) = report.comparisons
    result = one.results[0]
    chosen = [study for study in result.studies if f"{study.values['learning_rate']:.4g}" in result.code]
    assert len(chosen) == 1
    assert result.code.startswith("jol.adam(learning_rate=jol.cosine_decay_schedule(")
    eval(result.code, {"jol": jol})


def test_scores_are_taken_where_the_method_wants_them():
    """The look-ahead form of Nesterov steps other weights than it is judged by; as one method they score alike."""
    forms = [(name, functools.partial(jol.nesterov, lookahead=ahead)) for name, ahead in (("a", True), ("b", False))]
    fixed = {"learning_rate": Range(0.05, 0.05000001)}
    (one,) = compare(TASK, [(name, factory, fixed) for name, factory in forms], **QUICK).comparisons
    # The same rate to seven digits; sums in another order, over 24 steps.
    np.testing.assert_allclose(one.results[0].scores, one.results[1].scores, rtol=1e-4)
    np.testing.assert_allclose(one.results[0].studies[0].loss, one.results[1].studies[0].loss, rtol=1e-4)


def test_without_examples_to_test_on_validation_is_the_last_word_and_it_is_said():
    data = plane()
    task = dataclasses.replace(TASK, data=lambda: Data(data.train, data.validation))
    report = compare(task, [ADAM], **QUICK)
    (one,) = report.comparisons
    assert one.task["scored"] == "validation"
    assert [study.score for study in one.results[0].studies] == [study.metric[-1] for study in one.results[0].studies]
    assert "none to test on" in report.table()


def test_seeds_of_other_comparisons_are_other_seeds():
    plans = [Plan(2, 5, seed, (10,), "sobol") for seed in range(4)]
    used = [set(plan.tuning) | set(plan.running) for plan in plans]
    assert all(len(seeds) == 10 for seeds in used)
    assert len(set.union(*used)) == 40
    one = entry("adam")
    assert plans[0].settings(one) != plans[1].settings(one)


def test_what_is_built_already_is_run_as_it_is():
    (one,) = compare(TASK, [("built", optax.sgd(0.1)), "lbfgs"], **QUICK).comparisons
    for result in one.results:
        assert all(study.trials == () and study.values == {} for study in result.studies)
        assert all(math.isfinite(score) for score in result.scores)
    assert one.result("lbfgs").edges == {}


def test_an_optimizer_that_fails_and_a_task_that_fails_leave_the_others_alone():
    def crash(learning_rate):
        raise RuntimeError("first line\nsecond line")

    def bad_loss(model, x, y):
        raise KeyError("nothing")

    broken = dataclasses.replace(TASK, name="broken", loss=bad_loss)
    report = compare([broken, TASK], [("crash", crash, RATE), ADAM], **QUICK)
    first, second = report.comparisons
    assert first.error is not None
    assert first.results == ()
    assert second.results[0].error.startswith("RuntimeError: first line (test_protocol.py, line ")
    assert math.isfinite(second.results[1].scores[0])
    assert len(report.failed) == 2
    assert all("\n" not in line for line in report.failed)
    assert report.complete


def test_what_never_is_finite_is_told():
    nothing = dataclasses.replace(TASK, metric=lambda model, x, y: TASK.metric(model, x, y) * jnp.nan)
    report = compare(nothing, [ADAM, SGD], **QUICK)
    (one,) = report.comparisons
    assert [result.diverged for result in one.results] == [2, 2]
    assert "ours diverged in 2 of 2 runs" in report.table()
    exploding = ("exploding", optax.sgd, {"learning_rate": Range(1e20, 1e30)})
    (one,) = compare(TASK, [ADAM, exploding], **QUICK).comparisons
    assert one.results[1].diverged == 2
    assert one.results[1].studies[0].values is None
    assert one.results[0].diverged == 0


def test_targets_of_all_or_by_task():
    for targets, wanted in ((1e9, 1e9), ({"plane": 1e9}, 1e9), ({"other": 1.0}, TASK.target), (None, TASK.target)):
        (one,) = compare(TASK, [ADAM], targets=targets, **QUICK).comparisons
        assert one.task["target"] == wanted
        if wanted == 1e9:
            assert one.steps_to_target(one.results[0]) == one.looks[0]
            assert one.seconds_to_target(one.results[0]) > 0
    without = compare(dataclasses.replace(TASK, target=None), [ADAM], **QUICK)
    assert without.comparisons[0].steps_to_target(without.comparisons[0].results[0]) == math.inf
    assert "None" not in without.table()
    (never,) = compare(TASK, [ADAM], targets=-1.0, **QUICK).comparisons
    assert never.steps_to_target(never.results[0]) == math.inf


def test_what_the_model_keeps_is_carried_along():
    # Adam would divide the bias before the normalisation, whose gradient is nothing but roundings, by its size.
    (one,) = compare(KEEPING, [SGD], **QUICK).comparisons
    study = one.results[0].studies[0]
    tx = optax.sgd(jol.cosine_decay_schedule(study.values["learning_rate"], 24))
    history = jol.fit(KEEPING, tx, steps=24, seed=study.seed, log=None)
    assert jol.evaluate(KEEPING, history.state, "test") == pytest.approx(study.score, rel=1e-3)


def test_twins_take_the_same_steps():
    report = compare(TASK, ["adam", "momentum", "nesterov", "adagrad_norm", ADAM], twins=True, **QUICK)
    (one,) = report.comparisons
    adam, momentum, nesterov, lonely, own = one.results
    for result in (adam, momentum, nesterov, own):  # on a cosine: with the rate on the other side they would part
        assert result.twins.looks == (10, 24)
        # Ten steps of at most the rate, each right to the bias correction that optax computes in float32: 3e-5.
        assert result.twins.apart[0] <= 10 * result.twins.values["learning_rate"] * 3e-5 + 2**-20
        assert 0 < result.twins.noise[0] < 1e-3
    assert lonely.twins is None
    assert "adam and optax.adam" in report.table()


def test_a_twin_that_is_none_is_found_out():
    """Were the counterpart another method, the check would show it: here Adam against gradient descent."""
    card = Card(
        name="adam", factory=jol.adam, summary="", plain="", latex="", source="", twin=Twin("optax.sgd()", optax.sgd)
    )
    one = dataclasses.replace(entry(ADAM), card=card)
    (found,) = compare(TASK, [one], twins=True, **QUICK).comparisons
    assert found.results[0].twins.apart[0] > 100 * found.results[0].twins.noise[0]


def test_an_interrupted_comparison_goes_on(tmp_path, monkeypatch, report):
    runs = 2 * (3 + 1) * 24  # of one optimizer
    stopped = compare(TASK, [ADAM, SGD], out=tmp_path, progress=Interrupter(runs + 4 * 24), **QUICK)
    assert not stopped.complete
    assert [result.name for result in stopped.comparisons[0].results] == ["ours"]
    assert not files.read(tmp_path).complete
    assert "interrupted" in stopped.table()
    trained, before = [], Runs.train
    monkeypatch.setattr(
        Runs, "train", lambda self, lanes, *a, **k: trained.append(len(lanes)) or before(self, lanes, *a, **k)
    )
    found = compare(TASK, [ADAM, SGD], out=tmp_path, **QUICK)
    assert found.complete
    assert sum(trained) < 8, "neither the first optimizer nor the trials of the second that were done"
    assert not (tmp_path / "unfinished").exists()
    for one, other in zip(found.comparisons[0].results, report.comparisons[0].results, strict=True):
        np.testing.assert_allclose(one.scores, other.scores, rtol=1e-4)
        assert [s.values for s in one.studies] == [s.values for s in other.studies]


def test_another_protocol_takes_nothing_of_what_was_begun(tmp_path, monkeypatch):
    compare(TASK, [ADAM, SGD], out=tmp_path, progress=Interrupter(2 * 4 * 24 + 1), **QUICK)
    trained, before = [], Runs.train
    monkeypatch.setattr(
        Runs, "train", lambda self, lanes, *a, **k: trained.append(len(lanes)) or before(self, lanes, *a, **k)
    )
    compare(TASK, [ADAM], out=tmp_path, **QUICK | {"seeds": 1})
    assert sum(trained) == 4


def test_a_disk_that_is_full_ends_nothing_but_the_keeping(tmp_path, monkeypatch, report):
    def full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("jaxopt_lectures.tuning.journal.Journal.add", full)
    with pytest.warns(UserWarning, match="could not go on.*No space left on device"):
        found = compare(TASK, [ADAM, SGD], out=tmp_path, **QUICK)
    assert found.complete
    assert not found.failed
    for one, other in zip(found.comparisons[0].results, report.comparisons[0].results, strict=True):
        np.testing.assert_allclose(one.scores, other.scores, rtol=1e-4)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"budget": 0}, "budget must be at least 1"),
        ({"seeds": 0}, "seeds must be at least 1"),
        ({"steps": 0}, "steps must be at least 1"),
        ({"warmup": 24}, "warmup must be below the 24 steps"),
        ({"schedule": "step"}, "no schedule is called 'step'"),
        ({"sampler": "tpe"}, "sampler must be 'sobol' or 'random'"),
        ({"baseline": "nobody"}, "the baseline 'nobody' is not among"),
        ({"space": {"nope": Range(1, 2)}}, "no optimizer with an argument 'nope'"),
    ],
)
def test_bad_arguments(change, words):
    with pytest.raises(ValueError, match=words):
        compare(TASK, [ADAM], **QUICK | change)


def test_nothing_to_compare_and_two_of_one_name():
    with pytest.raises(ValueError, match="nothing to compare"):
        compare(TASK, [], **QUICK)
    with pytest.raises(ValueError, match="two optimizers have one name"):
        compare(TASK, [ADAM, ADAM], **QUICK)


def test_the_bar_knows_all_steps():
    class Counter(Silent):
        steps = 0

        def advance(self, steps):
            self.steps += steps

    counter = Counter()
    compare(TASK, [ADAM, SGD], progress=counter, **QUICK)
    assert counter.steps == total_steps([TASK], [ADAM, SGD], Protocol(3, 2, 24))


def test_steps_to_target():
    ends, metrics = (10, 20, 30), [(0.1, 0.9, 0.2), (0.9, 0.9, 0.9), (0.1, math.nan, 0.95)]
    assert steps_to_target(ends, metrics, 0.9) == 20
    assert steps_to_target(ends, metrics, 0.92) == math.inf  # two of three never: the median run never
    falling = [(3.0, 1.0, 0.4), (3.0, 0.5, 0.9), (3.0, 2.0, 1.0)]
    assert steps_to_target((1, 2, 3), falling, 0.5, larger_is_better=False) == 3
    assert steps_to_target((1, 2, 3), falling, 2.5) == 1


@pytest.mark.parametrize(("name", "size"), [("sgd", 0), ("momentum", 4), ("adam", 8), ("amsgrad", 12)])
def test_state_bytes_per_parameter(name, size):
    shapes = {"w": jax.ShapeDtypeStruct((8, 9), jnp.float32), "b": jax.ShapeDtypeStruct((9,), jnp.bfloat16)}
    assert state_bytes_per_parameter(jol.registry.get(name).factory(0.1), shapes) == size


def test_largest_difference():
    one, other = {"a": jnp.array([1.0, 2.0]), "b": jnp.zeros((0,))}, {"a": jnp.array([1.5, -1.0]), "b": jnp.zeros((0,))}
    assert largest_difference(one, other) == 3
    assert math.isnan(largest_difference(one, other | {"a": jnp.array([math.nan, 0.0])}))
    many = {"a": jnp.zeros(100).at[3].set(math.nan)}
    assert math.isnan(largest_difference(many, {"a": jnp.zeros(100)}))


def test_a_metric_is_written_in_its_unit():
    assert metric_text([0.5, 0.7], "%") == "60.0±14.1"
    assert metric_text([0.975], "%") == "97.5"
    assert metric_text([3.14159e-5], "") == "3.1e-5"
    assert metric_text([2e-10, 4e-10], "") == "3e-10±1e-10"
    assert metric_text([3e20], "") == "3e20"
    assert metric_text([20.04, 21.04], "dB", "+-") == "21+-0.7"
    assert metric_text([math.nan, 1.0], "") == "nan"
    assert metric_text([math.inf, 1.0], "%") == "inf"
    assert compact(1e-4) == "0.0001"
    assert compact(1e-7) == "1e-7"
    assert [compact(value, ".0e") for value in (1.0, 0.5, 20.0, 1e10)] == ["1", "5e-1", "2e1", "1e10"]


class Labels(nnx.Module):
    """No parameters, for tasks that do not fit."""


def test_a_task_that_does_not_fit_is_told_in_the_report():
    report = compare(dataclasses.replace(TASK, model=lambda seed: Labels()), [ADAM], **QUICK)
    assert "needed is a Flax NNX module with parameters" in report.comparisons[0].error
    assert report.failed


def test_the_ground_deals_every_seed_its_own_order():
    ground = Ground(TASK, jax.devices()[:1])
    assert isinstance(ground.data.train, Examples)
    one, other = ground._dealt(0, 0, 5), ground._dealt(1, 0, 5)
    assert (one != other).any()
    np.testing.assert_array_equal(ground._dealt(0, 2, 3), one[2:])
