"""`compare`, `report` and `sweep` on the command line: what they print, write, refuse, and survive."""

import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import jax
import pytest

from jaxopt_lectures import registry
from jaxopt_lectures.cli import main
from jaxopt_lectures.comparison import files, plot, report
from jaxopt_lectures.records.plain import plain
from jaxopt_lectures.tuning.lanes import Way
from jaxopt_lectures.tuning.runs import Runs
from tests.comparison import made

COMMAND = Path(sys.executable).parent / "jaxopt-lectures"
DEVICES = jax.devices()[:1]
WRITTEN = {"results.json", "results.csv", "report.html", "curves.png", "sensitivity.png"}

MINE = """
import dataclasses
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jaxopt_lectures.tasks.task import Data, Examples, Task

x = np.linspace(-1, 1, 24, dtype=np.float32)[:, None]
line = Task(
    name="line",
    summary="a straight line",
    model=lambda seed: nnx.Linear(1, 1, rngs=nnx.Rngs(seed)),
    loss=lambda model, x, y: jnp.mean((model(x) - y) ** 2),
    metric=lambda model, x, y: jnp.mean((model(x) - y) ** 2),
    data=lambda: Data(Examples(x, 3 * x), Examples(x, 3 * x)),
    batch_size=8,
    target=0.01,
    steps=40,
    metric_name="error",
    metric_unit="",
    larger_is_better=False,
)
wide = dataclasses.replace(line, loss=lambda model, x, y: optax.huber_loss(model(x), jnp.zeros((8, 3)) @ y).mean())
broken = dataclasses.replace(line, name="broken", data=lambda: 1 / 0)
lost = dataclasses.replace(line, name="lost", loss=lambda model, x, y: line.loss(model, x, y) * jnp.nan)

def my_tx(learning_rate):
    return optax.sgd(learning_rate, 0.9)

def crash(learning_rate):
    raise RuntimeError("no such thing")
"""


@pytest.fixture(autouse=True)
def one_way(monkeypatch):
    """Which way is fastest, and several devices, are tested elsewhere; here two lanes in one program on one."""

    def choose(self, lanes, steps):
        self.way = Way("loop", 2)
        return {}

    monkeypatch.setattr(Runs, "choose", choose)
    monkeypatch.setattr("jaxopt_lectures.tuning.ground.jax.devices", lambda: DEVICES)


@pytest.fixture
def mine(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "mine", raising=False)
    (tmp_path / "mine.py").write_text(MINE)
    return tmp_path


def run(line):
    return main(line.split())


def compare(*arguments):
    return main(["compare", "mine:line", "--budget", "2", "--seeds", "2", *map(str, arguments)])


def test_a_comparison_is_printed_written_and_made_again(mine, capsys):
    assert compare("--optimizers", "adam,optax:sgd,mine.py:my_tx,lbfgs", "--baseline", "optax:sgd", "--twins") == 0
    out, err = capsys.readouterr()
    folder = mine / "results" / "compare-mine-line"
    assert {path.name for path in folder.iterdir()} == WRITTEN
    for name in WRITTEN:
        assert f"written: results/compare-mine-line/{name}" in out
    assert "\x1b" not in out + err
    assert [line.split()[0] for line in err.splitlines()] == ["adam", "optax:sgd", "mine.py:my_tx", "lbfgs"]
    for said in ("over\noptax:sgd", "smaller is better", "jol.adam(learning_rate=jol.cosine_decay_schedule("):
        assert said.split("\n")[0] in out
    assert "my_tx(learning_rate=jol.cosine" in out
    assert "adam and optax.adam" in out
    found = report.read(folder)
    assert found.complete
    assert found.protocol["baseline"] == "optax:sgd"
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    for name in WRITTEN - {"results.json"}:
        (folder / name).unlink()
    assert main(["report", str(folder)]) == 0
    again, _ = capsys.readouterr()
    assert again.split("written:")[0] == out.split("written:")[0]
    for name in ("results.json", "results.csv", "report.html"):
        assert (folder / name).read_bytes() == before[name], name
    assert (folder / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_spaces_targets_and_schedules_are_heard(mine, capsys):
    spaces = "--space learning_rate=log:0.01:0.02 --space adam.b1=linear:0.5:0.6"
    more = "--target 100 --schedule linear --warmup 5 --steps 20"
    assert compare("--optimizers", "adam,sgd", *spaces.split(), *more.split()) == 0
    capsys.readouterr()
    found = report.read(mine / "results" / "compare-mine-line")
    (one,) = found.comparisons
    adam, sgd = one.results
    assert sgd.space == {"learning_rate": {"low": 0.01, "high": 0.02, "scale": "log"}}
    assert all(0.5 <= trial.values["b1"] <= 0.6 for study in adam.studies for trial in study.trials)
    assert one.steps == 20
    assert one.steps_to_target(sgd) == one.looks[0]
    assert "jol.linear_schedule(0.0, 0.01" in sgd.code


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("mine:lime", "no task in module 'mine' is called 'lime'; did you mean 'line'"),
        ("mine:Data", "'mine:Data' is of type type; needed is an instance of jaxopt_lectures.tasks.task.Task"),
        ("yours:line", "no module is called 'yours'"),
        ("mine:wide", "task 'line': no loss: the model gives float32 (8, 1), the targets are float32 (8, 1)"),
        ("mine:broken", "broken: ZeroDivisionError: division by zero (mine.py, line 25)"),
        ("digits --data-dir .", "task 'digits' reads no files; --data-dir is for mnist"),
        ("mnist", "task 'mnist' reads files of yours: name their folder with --data-dir"),
        ("mnist --data-dir nowhere", "--data-dir nowhere is not a folder"),
        ("mnist --data-dir .", "no file train-images-idx3-ubyte"),
        ("breast", "no task is called 'breast'; did you mean 'breast_cancer'"),
        ("mine:line --optimizers adamm", "no optimizer is called 'adamm'; did you mean 'adam'"),
        ("mine:line --optimizers ,", "names none; known: sgd, "),
        ("mine:line --optimizers mine.py:nothing", "no function in mine.py is called 'nothing'"),
        ("mine:line --space learning_rate", "a space is written NAME=log:LOW:HIGH"),
        ("mine:line --space learning_rate=log:1:0.1", "learning_rate: low 1 must be below high 0.1"),
        ("mine:line --space nope=log:1:2", "no optimizer with an argument 'nope'"),
        ("mine:line --schedule step", "no schedule is called 'step'"),
        ("mine:line --warmup 40", "warmup must be below the 40 steps"),
        ("mine:line --baseline nobody", "the baseline 'nobody' is not among"),
        ("mine:line --sampler grid", "sampler must be 'sobol' or 'random'"),
        ("mine:line --out mine.py/folder", "cannot write to --out mine.py/folder"),
        ("mine:line --optimizers mine.py:crash", "crash on line: RuntimeError: no such thing (mine.py, line 32)"),
    ],
)
def test_what_cannot_be_compared_is_one_line_and_nothing_is_written(mine, capsys, arguments, message):
    before = sorted(path for path in mine.rglob("*") if "__pycache__" not in path.parts)
    more = [] if "--optimizers" in arguments or "--baseline" in arguments else ["--optimizers", "sgd"]
    assert main(["compare", *arguments.split(), *more]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err
    assert err.count("jaxopt-lectures: ") == 1
    assert len(err.splitlines()) == 1 + err.count(" failed ")
    assert sorted(path for path in mine.rglob("*") if "__pycache__" not in path.parts) == before


def test_what_fails_is_told_and_the_others_go_on(mine, capsys):
    del mine
    assert run("compare mine:line,mine:broken --optimizers sgd,mine.py:crash --budget 2 --seeds 2 --steps 5") == 1
    out, _ = capsys.readouterr()
    assert "failed: broken: ZeroDivisionError" in out
    assert "failed: mine.py:crash on line: RuntimeError: no such thing" in out.replace("\n", " ")


def test_a_loss_that_is_no_number_is_told(mine, capsys):
    del mine
    assert run("compare mine:lost --optimizers sgd,adam --budget 2 --seeds 2 --steps 5") == 0
    out, _ = capsys.readouterr()
    assert "sgd diverged in 2 of 2 runs" in out


def test_results_of_another_version_are_left_alone(mine, capsys):
    folder = mine / "old"
    folder.mkdir()
    (folder / "results.json").write_text('{"schema": 2}')
    assert compare("--optimizers", "sgd", "--out", folder) == 2
    assert main(["report", str(folder)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("schema 2, this version reads 3") == 2
    assert (folder / "results.json").read_text() == '{"schema": 2}'
    (folder / "results.json").write_text("{broken")
    assert main(["report", str(folder)]) == 2
    assert "not a results file" in capsys.readouterr().err


def test_a_full_disk_does_not_take_the_table_with_it(mine, capsys, monkeypatch):
    del mine

    def full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(plot, "save", full)
    assert compare("--optimizers", "sgd") == 2
    out, err = capsys.readouterr()
    assert "sgd" in out
    assert err.endswith("cannot write to results/compare-mine-line: No space left on device\n")


def test_ctrl_c_keeps_what_was_finished_and_the_same_command_goes_on(mine):
    line = "compare mine:line --optimizers sgd,adam --budget 2 --seeds 2 --steps 3000"
    command = [COMMAND, *line.split()]
    environment = {**os.environ, "XLA_FLAGS": ""}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment)
    assert process.stderr.readline().split()[0] == b"sgd"  # one is done, the next is being compiled
    process.send_signal(signal.SIGINT)
    out, err = process.communicate()
    assert process.returncode == 130
    assert b"Traceback" not in err
    assert b"interrupted" in out
    content = json.loads((mine / "results" / "compare-mine-line" / "results.json").read_text())
    assert content["complete"] is False
    assert [result["name"] for result in content["comparisons"][0]["results"]] == ["sgd"]
    again = subprocess.run(command, capture_output=True, env=environment, check=False)
    assert again.returncode == 0
    found = files.read(mine / "results" / "compare-mine-line")
    assert found.complete
    assert [result.name for result in found.comparisons[0].results] == ["sgd", "adam"]
    kept = content["comparisons"][0]["results"][0]["studies"]
    assert kept == json.loads(json.dumps(plain(found.comparisons[0].results[0].studies)))


def test_the_best_setting_is_printed_as_code(mine, capsys):
    del mine
    assert run("sweep mine:line --optimizer optax:sgd --trials 6 --space learning_rate=log:1e-3:1e30") == 0
    out, _ = capsys.readouterr()
    assert out.startswith("optax:sgd on line: 6 trials, ")
    assert "diverged" in out
    assert out.splitlines()[-1].startswith("optax.sgd(learning_rate=jol.cosine_decay_schedule(")


def test_a_sweep_is_gone_on_with_and_another_refused(mine, capsys):
    arguments = ["sweep", "mine:line", "--optimizer", "sgd", "--trials", "4", "--checkpoint", str(mine / "kept")]
    assert main(arguments) == 0
    first, _ = capsys.readouterr()
    assert main(arguments) == 0
    assert capsys.readouterr().out == first
    assert main([*arguments, "--steps", "7"]) == 2
    assert "holds another sweep" in capsys.readouterr().err


def test_a_range_test(mine, capsys):
    del mine
    assert run("sweep mine:line --optimizer sgd --range-test") == 0
    out, _ = capsys.readouterr()
    assert "steepest at a rate of" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("mine:line --sampler latin", "sampler must be one of"),
        ("mine:line --optimizer lbfgs", "lbfgs has nothing to search"),
        ("mine:line --halving 2 --sampler tpe", "halving goes with samplers"),
        ("mine:line --optimizer nope", "no optimizer is called 'nope'"),
    ],
)
def test_what_cannot_be_searched_is_one_line(mine, capsys, arguments, message):
    del mine
    assert main(["sweep", *arguments.split()]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err
    assert len(err.splitlines()) == 1


def test_the_table_fits_80_columns_and_says_what_it_means():
    names = [card.name for card in registry.cards()]
    results = [made.result(name, (0.97, 0.975, 0.98, 0.971, 0.99)) for name in names]
    text = report.Report(*made_of(made.record(made.comparison(*results)))).table()
    table = [line for line in text.splitlines() if line.split(" ")[0] in names and "30    100" in line]
    assert len(table) == len(names)
    assert max(map(len, text.splitlines())) <= 80
    for column in ("accuracy", "verdict", "steps", "state", "band"):
        assert column in text


def made_of(record):
    return record.protocol, record.environment, record.comparisons, record.complete


def test_several_tasks_are_one_table_with_marks():
    one = made.comparison(made.result("base", (0.9, 0.91, 0.9)), made.result("good", (0.98, 0.99, 0.98)))
    two = made.comparison(made.result("base", (0.9, 0.91, 0.9)), made.result("good", (0.5, 0.51, 0.5)), name="other")
    text = report.Report(*made_of(made.record(one, two))).table()
    row, soon = [line for line in text.splitlines() if line.startswith("good")]
    assert soon.split()[1:] == ["100", "%"] * 3
    assert "98.3 +" in row
    assert "50.3 -" in row
    assert max(map(len, text.splitlines())) <= 80
    assert "blobs: better than base: good" in text
    assert "other: worse than base: good" in text


def test_nothing_finished_is_an_interruption_and_no_table():
    text = report.Report(*made_of(made.record(complete=False))).table()
    assert " ".join(text.split()).startswith("interrupted: ")
    assert "optimizer" not in text


def test_many_tasks_are_several_tables():
    tasks = [
        made.comparison(
            made.result("base", (0.9, 0.91, 0.9)), made.result("good", (0.98, 0.99, 0.98)), name=f"a_task_{n}"
        )
        for n in range(14)
    ]
    lines = report.Report(*made_of(made.record(*tasks))).table().splitlines()
    assert max(map(len, lines)) <= 80
    assert sum(line.startswith("good") for line in lines) > 2, "scores in pieces, and how soon it was there"
    for task in tasks:
        assert any(task.task["name"] in line for line in lines[:20])
