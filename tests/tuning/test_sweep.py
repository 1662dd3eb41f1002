"""`sweep`: it finds what is there, survives what diverges, goes on after an interruption, and says what is wrong."""

import dataclasses
import json
import math
import sys
from concurrent.futures import ThreadPoolExecutor

import jax
import numpy as np
import optax
import pytest

import jaxopt_lectures as jol
from jaxopt_lectures.core.card import Choice, Range
from jaxopt_lectures.tuning.journal import Journal, OtherSweep
from jaxopt_lectures.tuning.lanes import Way
from jaxopt_lectures.tuning.runs import Runs
from jaxopt_lectures.tuning.space import BadSpace
from jaxopt_lectures.tuning.sweep import sweep
from jaxopt_lectures.tuning.trials import Trial, ranked
from tests.training.tiny import KEEPING, TASK
from tests.tuning.interrupter import Interrupter

SPACE = {"learning_rate": Range(1e-5, 1.0)}
QUICK = {"trials": 8, "steps": 30, "way": Way("loop", 4), "devices": jax.devices()[:1]}


def counted(monkeypatch):
    """How many lanes are trained from here on."""
    count, before = [], Runs.train

    def train(self, lanes, *arguments, **more):
        count.append(len(lanes))
        return before(self, lanes, *arguments, **more)

    monkeypatch.setattr(Runs, "train", train)
    return count


@pytest.mark.parametrize("sampler", ["sobol", "random", "grid", "tpe"])
def test_a_rate_that_trains_is_found(sampler):
    found = sweep(TASK, jol.adam, SPACE, sampler=sampler, **QUICK)
    assert len(found.trials) == 8
    assert [trial.number for trial in found.trials] == list(range(8))
    assert found.best.metric == min(trial.metric for trial in found.trials)
    assert 1e-3 < found.best.values["learning_rate"] <= 1.0
    assert {trial.seeds for trial in found.trials} == {(0,)}
    rates = [rate for rate, _ in found.sensitivity()]
    assert rates == sorted(rates)
    assert "8 trials on plane" in repr(found)


def test_the_same_call_gives_the_same_and_another_seed_another():
    one, again, other = (sweep(TASK, jol.adam, SPACE, seed=seed, **QUICK) for seed in (0, 0, 1))
    assert one.trials == again.trials
    assert one.best.values != other.best.values


def test_several_seeds_are_averaged():
    found = sweep(TASK, jol.adam, SPACE, seeds=3, **QUICK)
    single = [sweep(TASK, jol.adam, SPACE, seeds=1, seed=0, **QUICK).trials]
    for trial, alone in zip(found.trials, single[0], strict=True):
        assert trial.seeds == (0, 1, 2)
        assert trial.metrics[0] == alone.metrics[0]
        assert trial.metric == pytest.approx(np.mean(trial.metrics))


def test_arguments_may_go_into_schedules():
    def factory(learning_rate, warmup):
        return jol.adamw(jol.warmup_cosine_decay_schedule(0.0, learning_rate, warmup, 30))

    space = {"learning_rate": Range(1e-3, 0.3), "warmup": Range(1.0, 20.0, "linear")}
    found = sweep(TASK, factory, space, **QUICK)
    assert len({trial.metric for trial in found.trials}) == 8
    alone = jol.fit(TASK, factory(**found.best.values), steps=30, log=None, way="loop")
    # Python's numbers are folded into that program: thirty steps of roundings of 1e-7, magnified at rates of 0.1.
    assert alone.records[-1]["metric"] == pytest.approx(found.best.metric, rel=1e-3)


def test_choices_have_programs_of_their_own():
    space = SPACE | {"momentum": Choice((0.0, 0.9, None))}
    found = sweep(TASK, optax.sgd, space, **QUICK | {"trials": 12}, sampler="grid")
    assert {trial.values["momentum"] for trial in found.trials} == {0.0, 0.9, None}
    finite = [trial.values["momentum"] for trial in found.trials if math.isfinite(trial.metric)]
    assert set(finite) == {0.0, 0.9, None}
    at_rest = {trial.values["learning_rate"]: trial.metric for trial in found.trials if trial.values["momentum"] == 0.0}
    for trial in found.trials:
        if trial.values["momentum"] is None:  # another program, of the same formula
            assert trial.metric == pytest.approx(at_rest[trial.values["learning_rate"]], rel=1e-4, nan_ok=True)


def test_what_diverges_is_last_and_crashes_nothing():
    found = sweep(TASK, optax.sgd, {"learning_rate": Range(1e-2, 1e30)}, **QUICK)
    lost = [trial for trial in found.trials if trial.diverged]
    assert 0 < len(lost) < 8
    assert found.ranked[-len(lost) :] == lost or {t.number for t in found.ranked[-len(lost) :]} == {
        t.number for t in lost
    }
    assert not found.best.diverged
    nothing = sweep(TASK, optax.sgd, {"learning_rate": Range(1e20, 1e30)}, **QUICK)
    with pytest.raises(ValueError, match="all 8 trials diverged"):
        _ = nothing.best
    assert "8 diverged" in repr(nothing)


def test_ranks_are_by_length_then_metric_then_loss():
    def trial(number, metric, loss=1.0, steps=10):
        return Trial(number, {}, (0,), (metric,), (loss,), steps, math.isnan(metric))

    trials = [trial(0, 0.5, steps=5), trial(1, 0.3), trial(2, 0.4, 2.0), trial(3, 0.4, 1.0), trial(4, math.nan)]
    assert [one.number for one in ranked(trials, larger_is_better=True)] == [3, 2, 1, 0, 4]
    assert [one.number for one in ranked(trials, larger_is_better=False)] == [1, 3, 2, 0, 4]


def test_halving_trains_the_better_ones_longer():
    found = sweep(TASK, jol.adam, SPACE, halving=2, **QUICK | {"steps": 32})
    steps = sorted(trial.steps for trial in found.trials)
    assert steps == [4] * 4 + [8] * 2 + [16] + [32]
    whole = sweep(TASK, jol.adam, SPACE, **QUICK | {"steps": 32})
    (best,) = [trial for trial in found.trials if trial.steps == 32]
    assert found.best is best
    assert best.metric == whole.trials[best.number].metric, "with the pauses, the run is the same"
    first = sorted(found.trials, key=lambda trial: trial.metric if trial.steps == 4 else -1)
    assert max(t.metric for t in first[:4]) != min(t.metric for t in first[4:])


def test_halving_goes_on_with_what_a_model_keeps():
    found = sweep(KEEPING, jol.adam, SPACE, halving=2, **QUICK | {"steps": 32})
    whole = sweep(KEEPING, jol.adam, SPACE, **QUICK | {"steps": 32})
    assert found.best.metric == whole.trials[found.best.number].metric


@pytest.mark.parametrize("sampler", ["sobol", "tpe"])
def test_an_interrupted_sweep_goes_on(sampler, tmp_path, monkeypatch):
    options = QUICK | {"trials": 16, "sampler": sampler}
    with pytest.raises(KeyboardInterrupt):
        sweep(TASK, jol.adam, SPACE, checkpoint=tmp_path, progress=Interrupter(9 * 30), **options)
    count = counted(monkeypatch)
    found = sweep(TASK, jol.adam, SPACE, checkpoint=tmp_path, **options)
    assert sum(count) < 16, "what was trained is not trained again"
    assert len(found.trials) == 16
    count.clear()
    assert sweep(TASK, jol.adam, SPACE, checkpoint=tmp_path, **options).trials == found.trials
    assert count == []
    if sampler == "sobol":
        assert found.trials == sweep(TASK, jol.adam, SPACE, **options).trials


def test_a_line_that_was_cut_off_is_trained_again(tmp_path, monkeypatch):
    whole = sweep(TASK, jol.adam, SPACE, checkpoint=tmp_path, **QUICK)
    path = tmp_path / "trials.jsonl"
    path.write_text(path.read_text()[:-20])
    count = counted(monkeypatch)
    assert sweep(TASK, jol.adam, SPACE, checkpoint=tmp_path, **QUICK).trials == whole.trials
    assert sum(count) == 1
    assert len(path.read_text().splitlines()) == 9


@pytest.mark.parametrize("sampler", ["random", "tpe"])
def test_the_folder_of_another_sweep_is_refused(sampler, tmp_path):
    sweep(TASK, jol.adam, SPACE, checkpoint=tmp_path, sampler=sampler, **QUICK)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    with pytest.raises(OtherSweep, match="its steps is 30, asked is 31"):
        sweep(TASK, jol.adam, SPACE, checkpoint=tmp_path, sampler=sampler, **QUICK | {"steps": 31})
    for name, content in before.items():  # a study's file is only ever added to
        assert (tmp_path / name).read_bytes().startswith(content)


def test_more_trials_of_a_study_go_on_with_it(tmp_path, monkeypatch):
    sweep(TASK, jol.adam, SPACE, sampler="tpe", checkpoint=tmp_path, **QUICK)
    count = counted(monkeypatch)
    found = sweep(TASK, jol.adam, SPACE, sampler="tpe", checkpoint=tmp_path, **QUICK | {"trials": 11})
    assert (len(found.trials), sum(count)) == (11, 3)


def test_two_who_share_a_folder_share_the_study(tmp_path):
    """Each finds trials of the other's, and none is lost or trained for both."""
    options = QUICK | {"trials": 24, "sampler": "tpe", "checkpoint": tmp_path}
    with ThreadPoolExecutor(2) as pool:
        futures = [pool.submit(sweep, TASK, jol.adam, SPACE, **options) for _ in range(2)]
        one, other = (future.result() for future in futures)
    together = sweep(TASK, jol.adam, SPACE, **options)
    # Both may have asked for their last eight at once.
    assert 24 <= len(together.trials) <= 32
    assert [trial.number for trial in together.trials] == list(range(len(together.trials)))
    for trials in (one.trials, other.trials):
        assert {trial.number: trial for trial in together.trials}.items() >= {t.number: t for t in trials}.items()


def test_journals_keep_what_is_not_finite_and_nothing_python_alone_reads(tmp_path):
    journal = Journal(tmp_path, {"what": (1, 2)})
    journal.add([Trial(0, {"f": print, "a": 0.1}, (0,), (math.nan,), (math.inf,), 5, True)])
    for line in (tmp_path / "trials.jsonl").read_text().splitlines():
        json.loads(line, parse_constant=lambda word: pytest.fail(f"{word} is not JSON"))
    (again,) = Journal(tmp_path, {"what": [1, 2]}).trials
    assert again.diverged
    assert again.values == {"f": repr(print), "a": 0.1}
    assert math.isnan(again.metric)


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"trials": 0}, ValueError, "trials must be at least 1"),
        ({"steps": 0}, ValueError, "steps must be at least 1"),
        ({"seeds": 1.5}, TypeError, "seeds must be an integer"),
        ({"sampler": "latin"}, ValueError, "sampler must be one of sobol, random, grid, tpe"),
        ({"halving": 1}, ValueError, "halving must be at least 2"),
        ({"halving": 2, "sampler": "tpe"}, ValueError, "halving goes with samplers that draw all"),
    ],
)
def test_bad_arguments(change, error, words):
    with pytest.raises(error, match=words):
        sweep(TASK, jol.adam, SPACE, **QUICK | change)


def test_bad_space():
    with pytest.raises(BadSpace, match="no argument of the optimizer is called 'rate'"):
        sweep(TASK, jol.adam, {"rate": Range(0.1, 1.0)}, **QUICK)


def test_without_optuna_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ImportError, match="pip install optuna"):
        sweep(TASK, jol.adam, SPACE, sampler="tpe", **QUICK)


def test_a_metric_that_rises_is_searched_upwards():
    rising = dataclasses.replace(
        TASK, larger_is_better=True, metric=lambda model, x, y: -TASK.metric(model, x, y), metric_name="score"
    )
    found = sweep(rising, jol.adam, SPACE, **QUICK)
    fallen = sweep(TASK, jol.adam, SPACE, **QUICK)
    assert found.best.values == fallen.best.values
    assert found.best.metric == -fallen.best.metric


def test_trials_are_divided_among_the_devices_of_a_mesh():
    way = Way("loop", 2)
    there = sweep(TASK, jol.adam, SPACE, trials=8, steps=10, way=way, mesh="data=4")
    here = sweep(TASK, jol.adam, SPACE, trials=8, steps=10, way=way, devices=jax.devices()[:1])
    for a, b in zip(there.trials, here.trials, strict=True):
        assert a.values == b.values
        np.testing.assert_allclose(a.losses, b.losses, rtol=1e-5)  # float32 lanes of another program, ten steps
    with pytest.raises(ValueError, match="product is 1 or 2 or 4 or 8"):
        sweep(TASK, jol.adam, SPACE, trials=2, steps=1, mesh="data=3")
    with pytest.raises(ValueError, match="one of the two"):
        sweep(TASK, jol.adam, SPACE, trials=2, steps=1, mesh="data=2", devices=jax.devices())
