"""`fit`: what it returns, what it keeps, how it goes on and how it ends."""

import dataclasses
import json
import math
import os
import signal
import subprocess
import sys
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import jaxopt_lectures as jol
from jaxopt_lectures.tasks.task import Examples, Unfit
from jaxopt_lectures.training.checkpoints import Unreadable
from tests.training.test_batches import Source
from tests.training.test_program import numbers, same
from tests.training.tiny import COUNT, KEEPING, TASK, Keeping, plane, poisoned

ONE_WAY = {"way": "loop", "eval_every": 10}


def rate(count):
    return 0.02 / (1.0 + jnp.asarray(count, jnp.float32))


def trained(task=TASK, steps=30, folder=None, tx=None, **more):
    """A run in which every look is followed by a checkpoint."""
    if folder is not None:
        more = {"checkpoint": folder, "checkpoint_seconds": 0} | more
    return jol.fit(task, tx or jol.adam(jol.cosine_decay_schedule(0.02, 60)), steps=steps, **(ONE_WAY | more))


# What is returned


def test_a_history_has_the_looks_and_the_trained_model():
    history = trained()
    assert history.ended == "steps"
    assert history.step.tolist() == [10, 20, 30]
    assert history.loss[-1] < history.loss[0]
    data = plane().validation
    assert isinstance(history.model, nnx.Module)
    np.testing.assert_allclose(TASK.metric(history.model, *map(jnp.asarray, data)), history.metric[-1], rtol=1e-5)
    assert jol.evaluate(TASK, history.model) == jol.evaluate(TASK, history.state) == history.metric[-1]
    assert jol.evaluate(TASK, history.state, "test") != history.metric[-1]
    assert history.best["metric"] == min(history.metric)
    assert "step=30" in repr(history)


def test_scheduled_hyper_parameters_are_logged():
    """The value of the last update: that of count 9 after ten steps."""
    tx = jol.chain(jol.clip_by_global_norm(1.0), jol.momentum(rate, 0.9))
    records = trained(tx=tx).records
    assert [record["learning_rate"] for record in records] == pytest.approx([0.002, 0.001, 0.02 / 30])
    assert "momentum" not in records[0], "a number is not a schedule"
    injected = optax.inject_hyperparams(optax.sgd)(rate)
    with jax.numpy_dtype_promotion("standard"):
        assert trained(tx=injected).records[-1]["learning_rate"] == pytest.approx(0.02 / 30)


def test_the_mean_loss_is_that_of_the_steps_between_two_looks():
    whole = trained(steps=20, eval_every=1).loss
    np.testing.assert_allclose(trained(steps=20).loss, [whole[:10].mean(), whole[10:].mean()], rtol=1e-6)


def test_the_weights_that_are_looked_at_are_those_the_method_wants():
    class Average(NamedTuple):
        mean: dict

        def eval_params(self, params):
            return self.mean

    def update(gradients, state, params):
        updates = jax.tree.map(lambda g: -0.1 * g, gradients)
        mean = jax.tree.map(lambda m, p: 0.9 * m + 0.1 * p, state.mean, params)
        return updates, Average(mean)

    history = trained(tx=optax.GradientTransformation(lambda params: Average(params), update))
    at_mean = nnx.merge(nnx.graphdef(TASK.model(0)), history.state.opt_state.mean)
    data = [jnp.asarray(part) for part in plane().validation]
    np.testing.assert_allclose(history.metric[-1], TASK.metric(at_mean, *data), rtol=1e-5)
    same(nnx.state(history.model, nnx.Param), history.state.opt_state.mean)


@pytest.mark.parametrize("tx", [jol.schedule_free_adamw(0.01), jol.schedule_free(jol.sgd(0.1), 0.1)])
def test_schedule_free_is_looked_at_where_its_mean_is(tx):
    """The model that is given back, the metric and the state's own mean are one; the gradients were taken elsewhere."""
    history = trained(tx=tx)
    mean = jol.eval_params(history.state.opt_state, history.state.params)
    at_mean = nnx.merge(nnx.graphdef(TASK.model(0)), mean)
    data = [jnp.asarray(part) for part in plane().validation]
    np.testing.assert_allclose(history.metric[-1], TASK.metric(at_mean, *data), rtol=1e-5)
    same(nnx.state(history.model, nnx.Param), mean)
    leaves = zip(*map(jax.tree.leaves, (mean, history.state.params)), strict=True)
    assert all(jnp.any(x != y) for x, y in leaves)


def test_hyper_parameters_that_a_wrapper_tells_again_are_logged_once():
    """SAM knows those of the optimizer inside it."""
    records = trained(tx=jol.sam(jol.momentum(rate, 0.9))).records
    assert records[-1]["learning_rate"] == pytest.approx(0.02 / 30)
    assert "learning_rate_2" not in records[-1]


def test_a_run_compiles_each_program_once():
    """Two thousand steps with two hundred looks: the loop and the metric, and small programs, all before the second."""
    compiled, second = [], []
    jax.monitoring.register_event_duration_secs_listener(
        lambda event, *_, **__: compiled.append(event) if event.endswith("backend_compile_duration") else None
    )

    def log(record):
        if record["step"] == 20:
            second.append(len(compiled))

    trained(steps=2000, log=log)
    assert second[0] > 0
    assert len(compiled) == second[0]


# What is kept


def same_run(one, other):
    same(one.state, other.state)
    times = ("seconds", "steps_per_second")
    for mine, theirs in zip(one.records, other.records, strict=True):
        assert {k: v for k, v in mine.items() if k not in times} == {k: v for k, v in theirs.items() if k not in times}


@pytest.mark.parametrize("task", [TASK, KEEPING], ids=["plain", "keeping"])
def test_a_run_in_two_parts_is_a_run_in_one(task, tmp_path):
    """Parameters, state, batch statistics, dropout keys, schedule, order of the examples: not a bit apart."""
    with jax.numpy_dtype_promotion("standard"):  # Flax's batch normalisation
        whole = trained(task, 37)
        trained(task, 14, tmp_path)
        parts = trained(task, 37, tmp_path)
    same(whole.state, parts.state)
    # In two parts there is a look at 14 as well, where the first ended.
    assert [step for step in parts.step if step != 14] == whole.step.tolist()
    assert type(parts.state.opt_state) is type(whole.state.opt_state)
    assert jax.tree.structure(parts.state) == jax.tree.structure(whole.state)


def test_the_same_call_again_takes_no_step(tmp_path):
    first = trained(folder=tmp_path)
    before = (tmp_path / "history.jsonl").read_bytes()
    again = trained(folder=tmp_path, resume=True)
    same_run(first, again)
    assert again.ended == "steps"
    assert (tmp_path / "history.jsonl").read_bytes() == before


def test_fewer_steps_than_there_are(tmp_path):
    trained(steps=20, folder=tmp_path)
    with pytest.warns(UserWarning, match="the run has 20 steps already, 10 were asked for"):
        assert int(trained(steps=10, folder=tmp_path).state.step) == 20


def test_a_run_that_reached_its_target_stays_there(tmp_path):
    stop = jol.Stop(target=0.5)
    first = trained(steps=500, folder=tmp_path, stop=stop)
    assert first.ended == "target"
    again = trained(steps=500, folder=tmp_path, stop=stop)
    assert again.ended == "target"
    same_run(first, again)


def test_the_history_on_disk_is_that_in_memory(tmp_path):
    history = trained(folder=tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "history.jsonl").read_text().splitlines()]
    assert lines == history.records
    told = json.loads((tmp_path / "run.json").read_text())
    assert told["task"] == "plane"
    assert told["way"] == "loop"
    assert told["optimizer"].startswith("adam(")
    assert told["environment"]["jax"] == jax.__version__


def test_what_comes_after_the_checkpoint_has_not_happened(tmp_path):
    """A kill between a look and its checkpoint leaves a line too many, and perhaps half of one."""
    trained(folder=tmp_path)
    path = tmp_path / "history.jsonl"
    with path.open("a") as file:
        file.write('{"step": 31, "loss": 0.1}\n{"step": 4')
    after = trained(steps=40, folder=tmp_path)
    assert after.step.tolist() == [10, 20, 30, 40]
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [10, 20, 30, 40]


def kept(folder):
    return sorted(int(path.name) for path in (folder / "checkpoints").iterdir())


def test_the_last_three_and_the_best_are_kept(tmp_path):
    """Twenty steps down, sixty up: the best is not among the last."""
    tx = jol.sgd(lambda count: jnp.where(count < 20, 0.02, -0.005))
    history = trained(steps=80, folder=tmp_path, tx=tx)
    assert history.best["step"] == 20
    assert len(kept(tmp_path)) == 4
    assert kept(tmp_path)[0] == 20
    assert kept(tmp_path)[-1] == 80


def test_the_best_is_kept_by_a_run_that_is_gone_on_with(tmp_path):
    tx = jol.sgd(lambda count: jnp.where(count < 20, 0.02, -0.005))
    for steps in (20, 50, 80):
        trained(steps=steps, folder=tmp_path, tx=tx)
    assert kept(tmp_path)[0] == 20


def test_what_a_kill_leaves_half_written_is_no_part_of_the_folder(tmp_path):
    for name in (".probe.17", ".run.json.17", ".history.jsonl.18"):
        (tmp_path / name).write_text("{")
    assert trained(steps=10, folder=tmp_path).ended == "steps"
    assert not [path.name for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_half_a_line_of_the_history_hides_no_other(tmp_path):
    trained(folder=tmp_path)
    path = tmp_path / "history.jsonl"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], lines[1][:20], lines[2]]) + "\n")
    assert trained(folder=tmp_path).step.tolist() == [10, 30]


def test_a_replicated_run_is_gone_on_with(tmp_path):
    """Parameters on all devices, counts on none in particular: so they are after a checkpoint, too."""
    mesh = jax.make_mesh((4,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    everywhere = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())

    def model(seed):
        made = TASK.model(seed)
        nnx.update(made, jax.tree.map(lambda leaf: jax.device_put(leaf, everywhere), nnx.state(made)))
        return made

    task = dataclasses.replace(TASK, model=model)
    whole = trained(task)
    trained(task, 20, tmp_path)
    again = trained(task, 30, tmp_path)
    same(whole.state, again.state)
    for leaf in jax.tree.leaves(again.state.params):
        assert leaf.sharding.is_equivalent_to(everywhere, leaf.ndim)


def test_what_a_model_keeps_is_not_taken_from_others():
    """A model made of arrays that the user still has: training donates copies."""
    first = Keeping(0)
    graph, state = nnx.split(first)
    task = dataclasses.replace(TASK, model=lambda seed: nnx.merge(graph, state, copy=True))
    with jax.numpy_dtype_promotion("standard"):
        same(trained(task, 10).state, trained(task, 10).state)
    assert all(not leaf.is_deleted() for leaf in jax.tree.leaves(state))


def tear(folder, step):
    """Cuts every file of a checkpoint's arrays to half."""
    for path in (folder / "checkpoints" / str(step) / "state").rglob("*"):
        if path.is_file() and path.stat().st_size > 1:
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def test_a_torn_checkpoint_is_left_out(tmp_path):
    whole = trained()
    trained(folder=tmp_path)
    tear(tmp_path, 30)
    with pytest.warns(UserWarning, match=r"torn checkpoints were left out \(step 30"):
        again = trained(folder=tmp_path)
    same_run(whole, again)
    assert kept(tmp_path)[-1] == 30
    same_run(whole, trained(folder=tmp_path))  # what was written again is whole


def test_no_checkpoint_that_can_be_read(tmp_path):
    trained(folder=tmp_path)
    for step in kept(tmp_path):
        tear(tmp_path, step)
    with pytest.raises(Unreadable, match=r"no checkpoint in .* can be read: step 30"):
        trained(folder=tmp_path)
    assert kept(tmp_path) == [10, 20, 30], "nothing is thrown away"


def test_a_half_written_checkpoint_is_none(tmp_path):
    """What a kill leaves behind while one is being written: a folder that is not yet named as one."""
    whole = trained()
    trained(steps=20, folder=tmp_path)
    half = tmp_path / "checkpoints" / "25.orbax-checkpoint-tmp"
    half.mkdir()
    (half / "state").write_text("half")
    same(whole.state, trained(folder=tmp_path).state)


# What is refused


def test_another_optimizer_is_refused_with_its_first_leaf(tmp_path):
    trained(folder=tmp_path)
    said = r"step 30 is of another optimizer or model: it has .*mu.*\(8,\), this run .*"
    with pytest.warns(UserWarning, match="the optimizer was adam"), pytest.raises(Unreadable, match=said):
        trained(folder=tmp_path, tx=jol.momentum(0.1, 0.9))
    with pytest.warns(UserWarning, match="the optimizer was"), pytest.raises(Unreadable, match="another optimizer"):
        trained(folder=tmp_path, tx=jol.sgd(0.1))


def test_another_rate_is_told(tmp_path):
    trained(folder=tmp_path, tx=jol.sgd(0.1))
    with pytest.warns(UserWarning, match=r"the optimizer was sgd\(learning_rate=0.1.*, is now sgd\(learning_rate=0.05"):
        assert trained(steps=40, folder=tmp_path, tx=jol.sgd(0.05)).ended == "steps"


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("seed", {"seed": 1}),
        ("task", {"task": dataclasses.replace(TASK, name="other")}),
        ("batch_size", {"task": dataclasses.replace(TASK, batch_size=4)}),
        ("data_sha256", {"task": poisoned()}),
        ("accumulate", {"accumulate": 2}),
        ("compute_dtype", {"compute_dtype": jnp.bfloat16}),
    ],
)
def test_another_run_is_refused(name, change, tmp_path):
    trained(steps=10, folder=tmp_path)
    with pytest.raises(Unreadable, match=f"holds a run with {name} "):
        trained(steps=20, folder=tmp_path, **change)


def test_folders_that_are_none(tmp_path):
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "dear.txt").write_text("dear")
    with pytest.raises(Unreadable, match=r"is not empty and not the folder of a run: it holds 'dear.txt'"):
        trained(folder=tmp_path / "letters")
    with pytest.raises(Unreadable, match="holds no run to resume"):
        trained(folder=tmp_path / "new", resume=True)
    trained(steps=10, folder=tmp_path / "run")
    with pytest.raises(Unreadable, match="holds a run already"):
        trained(folder=tmp_path / "run", resume=False)
    (tmp_path / "run" / "run.json").write_text('{"schema": 99}')
    with pytest.raises(Unreadable, match="has schema 99, this version reads 1"):
        trained(folder=tmp_path / "run")
    (tmp_path / "run" / "run.json").write_text("{")
    with pytest.raises(Unreadable, match="is not the folder of a run"):
        trained(folder=tmp_path / "run")
    (tmp_path / "file").write_text("")
    with pytest.raises(FileExistsError, match="file"):
        trained(folder=tmp_path / "file")


def test_two_processes_do_not_train_into_one_folder(tmp_path):
    def log(record):
        with pytest.raises(Unreadable, match="is being trained into by another process"):
            trained(folder=tmp_path)

    assert trained(steps=10, folder=tmp_path, log=log).ended == "steps"


@pytest.mark.parametrize(
    ("change", "error", "said"),
    [
        ({"steps": 0}, ValueError, "steps must be at least 1"),
        ({"steps": 1.5}, TypeError, "steps must be an integer"),
        ({"seed": -1}, ValueError, "seed must be at least 0"),
        ({"eval_every": 0}, ValueError, "eval_every must be at least 1"),
        ({"stop": 0.9}, TypeError, "stop must be a jol.Stop, got float 0.9"),
        ({"on_nonfinite": "hope"}, ValueError, "on_nonfinite must be one of 'skip', 'stop', 'rollback', got 'hope'"),
        ({"on_nonfinite": "rollback"}, ValueError, "name a folder, checkpoint=DIR"),
        ({"way": "fast"}, ValueError, "way must be one of"),
        ({"resume": True}, ValueError, "resume=True needs the folder"),
        ({"resume": "yes"}, ValueError, "resume must be 'auto', True or False"),
        ({"accumulate": 3}, ValueError, "a batch of 8 cannot be cut into accumulate=3"),
        ({"checkpoint_seconds": "2"}, TypeError, "checkpoint_seconds must be a number"),
        ({"checkpoint_seconds": math.nan}, ValueError, "checkpoint_seconds must be at least 0"),
        ({"log": "loud"}, ValueError, "log must be 'auto', 'bar', 'lines'"),
        ({"tx": jol.adam}, TypeError, "tx must be a transformation"),
        ({"task": dataclasses.replace(TASK, batch_size=COUNT + 1)}, Unfit, "no batch of 91"),
        ({"task": dataclasses.replace(TASK, metric=lambda m, x, y: m(x))}, Unfit, "the metric must be one real number"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else None,
)
def test_bad_input(change, error, said):
    with pytest.raises(error, match=said):
        trained(**change)


def test_a_disk_that_has_no_room_is_refused_before_training(tmp_path, monkeypatch):
    import shutil

    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**9, 10**9, 100))
    with pytest.raises(Unreadable, match="has 0 MB free, checkpoints need"):
        trained(folder=tmp_path)


# What orbax had not awaited when its disk filled up is found by the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root may mount a small disk")
def test_a_disk_that_fills_up_leaves_the_last_good_checkpoint(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)], capture_output=True)
    if mounted.returncode:
        pytest.skip("this machine lets nobody mount a small disk")
    try:
        first = trained(steps=10, folder=disk / "run")
        room = os.statvfs(disk)
        (disk / "ballast").write_bytes(b"0" * (room.f_bavail * room.f_frsize - 4096))
        with pytest.warns(UserWarning, match="a checkpoint could not be written, the last good one stays"):
            full = trained(steps=30, folder=disk / "run")
        assert full.ended == "steps", "training went on"
        (disk / "ballast").unlink()
        found = trained(steps=10, folder=disk / "run")
        same(found.state, first.state)
        same(trained(steps=30, folder=disk / "run").state, full.state)
    finally:
        subprocess.run(["umount", str(disk)], check=True)


# Reasons to end


def test_stop_at_a_target():
    history = trained(steps=500, stop=jol.Stop(target=0.5))
    assert history.ended == "target"
    assert history.metric[-1] <= 0.5 < min(history.metric[:-1], default=math.inf)
    assert trained(steps=2000, stop=jol.Stop(target=True), tx=jol.adam(0.02)).metric[-1] <= TASK.target


def test_stop_when_nothing_gets_better():
    rising = jol.sgd(jol.piecewise_constant_schedule(0.05, {30: 1e3}))
    history = trained(steps=1000, stop=jol.Stop(patience=2), tx=rising, on_nonfinite="skip")
    assert history.ended == "patience"
    assert np.argmin(history.metric) == len(history.metric) - 3


def test_stop_at_a_small_gradient_and_at_a_time():
    history = trained(steps=500, stop=jol.Stop(gradient_norm=10.0))
    assert (history.ended, history.step.tolist()) == ("gradient_norm", [10])
    assert trained(steps=500, stop=jol.Stop(seconds=1e-9)).ended == "seconds"


@pytest.mark.parametrize(
    ("given", "error", "said"),
    [
        ({"patience": 0}, ValueError, "patience must be at least 1"),
        ({"seconds": "60"}, TypeError, "Stop's seconds must be a number or None"),
        ({"target": False}, TypeError, "Stop's target"),
        ({"gradient_norm": 0.0}, ValueError, "Stop's gradient_norm must be above 0"),
    ],
)
def test_reasons_that_are_none(given, error, said):
    with pytest.raises(error, match=said):
        jol.Stop(**given)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_being_told_to_stop_keeps_what_is_done(number, tmp_path, capfd):
    def log(record):
        if record.get("step") == 20:
            os.kill(os.getpid(), number)

    handlers = signal.getsignal(number)
    history = trained(steps=60, folder=tmp_path, log=log, checkpoint_seconds=1e9)
    assert (history.ended, int(history.state.step)) == ("interrupted", 20)
    assert signal.getsignal(number) is handlers
    assert "stopping at the next step" in capfd.readouterr().err
    same(trained(steps=60, folder=tmp_path).state, trained(steps=60).state)


# What is not finite


def test_skip_goes_on_without_the_step():
    history = trained(poisoned(), 44, on_nonfinite="skip")
    assert history.ended == "steps"
    assert history.records[-1]["skipped"] == int(history.state.skipped)
    # the example is in one batch of each of the four epochs, or left out of it
    assert 2 <= int(history.state.skipped) <= 4
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(numbers(history.state)))
    assert np.isfinite(history.loss).all()


def test_stop_ends_before_the_step_and_skip_goes_on_from_there(tmp_path):
    stopped = trained(poisoned(), 44, tmp_path)
    assert stopped.ended == "nonfinite"
    assert int(stopped.state.skipped) == 0
    bad = int(stopped.state.step)
    (event,) = stopped.events
    assert event["step"] == bad
    assert "loss nan" in event["message"]
    again = trained(poisoned(), 44, tmp_path)
    assert (again.ended, int(again.state.step)) == ("nonfinite", bad)
    same(
        trained(poisoned(), 44, tmp_path, on_nonfinite="skip").state, trained(poisoned(), 44, on_nonfinite="skip").state
    )


def test_nothing_but_nans_ends_the_skipping():
    task = dataclasses.replace(TASK, loss=lambda m, x, y: jnp.mean(m(x)) * jnp.nan)
    history = trained(task, 1000, on_nonfinite="skip")
    assert history.ended == "nonfinite"
    assert int(history.state.skipped) == 100
    same(history.state.params, nnx.state(TASK.model(0), nnx.Param))


def test_nothing_but_nans_end_it_at_the_same_step_in_parts(tmp_path):
    task = dataclasses.replace(TASK, loss=lambda m, x, y: jnp.mean(m(x)) * jnp.nan)
    trained(task, 50, tmp_path, on_nonfinite="skip")
    history = trained(task, 1000, tmp_path, on_nonfinite="skip")
    assert (history.ended, int(history.state.step)) == ("nonfinite", 100)
    again = trained(task, 1000, tmp_path, on_nonfinite="skip")
    assert (again.ended, int(again.state.step)) == ("nonfinite", 100)


def test_an_update_that_overflows_is_no_step():
    """The gradient, 1e20 and less, is finite; what is added to the weights is not."""
    task = dataclasses.replace(TASK, loss=lambda m, x, y: 1e20 * jnp.mean(m(x)))
    history = trained(task, 20, tx=jol.sgd(1e25))
    assert history.ended == "nonfinite"
    same(history.state.params, nnx.state(TASK.model(0), nnx.Param))


def rough(above):
    """Not finite where the weights are large: smaller steps get by."""

    def loss(model, x, y):
        value = jnp.mean((model(x) - y) ** 2)
        return jnp.where(value > above, jnp.nan, value)

    return dataclasses.replace(TASK, loss=loss)


def test_rollback_goes_back_with_smaller_steps_and_another_order(tmp_path):
    tx = jol.sgd(1.5)
    task = rough(6.0)
    assert trained(task, 60, tx=tx).ended == "nonfinite"
    history = trained(task, 60, tmp_path, tx=tx, on_nonfinite="rollback")
    assert history.ended == "steps"
    assert history.events
    assert {event["event"] for event in history.events} == {"rollback"}
    assert float(history.state.scale) == 0.5 ** len(history.events)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(numbers(history.state)))
    assert history.step.tolist() == sorted(set(history.step.tolist())), "what was gone back on is not in the records"
    lines = [json.loads(line) for line in (tmp_path / "history.jsonl").read_text().splitlines()]
    assert [line for line in lines if "event" in line] == history.events
    assert [line for line in lines if "event" not in line] == history.records


def test_no_clock_and_no_kill_decides_what_rollback_does(tmp_path):
    """Checkpoints at looks alone; where a run went back is noted before it goes on."""
    tx, task = jol.sgd(1.5), rough(6.0)
    whole = trained(task, 60, tmp_path / "whole", tx=tx, on_nonfinite="rollback", checkpoint_seconds=1e9)
    again = trained(task, 60, tmp_path / "again", tx=tx, on_nonfinite="rollback", checkpoint_seconds=0)
    same(whole.state, again.state)

    class Killed(Exception):
        pass

    def log(record):
        if record.get("event") == "rollback":
            raise Killed

    for _ in whole.events:
        with pytest.raises(Killed):
            trained(task, 60, tmp_path / "killed", tx=tx, on_nonfinite="rollback", log=log)
    killed = trained(task, 60, tmp_path / "killed", tx=tx, on_nonfinite="rollback")
    same(whole.state, killed.state)


def test_another_policy_after_a_rollback_keeps_the_smaller_updates(tmp_path):
    tx, task = jol.sgd(1.5), rough(6.0)
    first = trained(task, 30, tmp_path, tx=tx, on_nonfinite="rollback")
    assert float(first.state.scale) < 1
    assert trained(task, 60, tmp_path, tx=tx).ended == "steps"


def test_rollback_gives_up(tmp_path):
    task = dataclasses.replace(TASK, loss=lambda m, x, y: jnp.mean(m(x)) * jnp.nan)
    history = trained(task, 60, tmp_path, on_nonfinite="rollback")
    assert history.ended == "nonfinite"
    assert len([event for event in history.events if event["event"] == "rollback"]) == 10


# Data


def test_data_that_do_not_stay_on_the_device_train_the_same():
    same(trained(resident=True).state, trained(resident=False).state)


def test_examples_may_come_from_anything_with_a_length():
    data = plane()
    listed = dataclasses.replace(data, train=Examples(*map(Source, data.train)))
    same(trained(dataclasses.replace(TASK, data=lambda: listed)).state, trained().state)


# From other libraries


def test_who_is_told(capsys):
    records = []
    trained(steps=20, log=records.append)
    assert [record["step"] for record in records] == [10, 20]
    trained(steps=20, log="lines")
    lines = capsys.readouterr().err.splitlines()
    assert [line.split()[0] for line in lines] == ["10/20", "20/20"]
    assert "error" in lines[0]
    trained(steps=20)
    assert capsys.readouterr() == ("", "")


def test_tensorboard(tmp_path, monkeypatch):
    written = []

    class Writer:
        def __init__(self, folder):
            assert folder == str(tmp_path)

        def add_scalar(self, *entry):
            written.append(entry)

        def flush(self):
            pass

    module = type(sys)("tensorboardX")
    module.SummaryWriter = Writer
    monkeypatch.setitem(sys.modules, "tensorboardX", module)
    history = trained(steps=20, log=jol.training.tensorboard(tmp_path))
    assert ("loss", history.loss[-1], 20) in written
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(ImportError, match="pip install tensorboardX"):
        jol.training.tensorboard(tmp_path)


def test_stored_slots_resume_to_the_bit(tmp_path):
    """A run whose state is in 8 bits goes on as if it had never stopped; another code is refused with the way out."""
    tx = jol.store(jol.adam(0.05), "int8", min_size=1)
    whole = trained(tx=tx)
    trained(steps=20, folder=tmp_path, tx=tx)
    same(whole.state, trained(folder=tmp_path, tx=tx).state)
    with (
        pytest.warns(UserWarning, match="the optimizer was store"),
        pytest.raises(Unreadable, match=r"jol\.convert_state"),
    ):
        trained(folder=tmp_path, tx=jol.adam(0.05))
