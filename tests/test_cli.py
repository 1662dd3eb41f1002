"""The command line: what it prints and where, what it refuses and how, what it survives."""

import errno
import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from jaxopt_lectures import registry, tasks
from jaxopt_lectures.cli import main
from jaxopt_lectures.cli.catalogue import print_card, print_list
from jaxopt_lectures.compare import plot, protocol, results
from jaxopt_lectures.terminal.console import Terminal

COMMAND = Path(sys.executable).parent / "jaxopt-lectures"
TWINLESS = next(card.name for card in registry.cards() if card.twin is None)


class Screen(io.TextIOWrapper):
    """A terminal of 80 columns that remembers."""

    def __init__(self):
        super().__init__(io.BytesIO(), encoding="utf-8")

    def isatty(self):
        return True

    def lines(self):
        self.flush()
        return self.buffer.getvalue().decode().splitlines()


@pytest.fixture
def screen(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "1")
    return Screen()


def without_styles(line):
    return line.replace("\x1b[1m", "").replace("\x1b[0m", "")


def start(*arguments, **environment):
    return subprocess.Popen(
        [COMMAND, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, **environment},
    )


def test_list_has_a_row_for_each_card(capsys):
    assert main(["list"]) == 0
    printed = capsys.readouterr().out
    assert "\x1b" not in printed
    _, _, *rows = printed.splitlines()
    for card, row in zip(registry.cards(), rows, strict=False):
        assert row.split()[0] == card.name
        assert row.endswith(card.summary)
        assert (card.twin.call.partition("(")[0] if card.twin else " - ") in row


def test_list_fits_80_columns(screen):
    print_list(Terminal(screen), registry.cards())
    lines = [without_styles(line) for line in screen.lines()]
    assert max(map(len, lines)) <= 80
    assert not any("…" in line for line in lines)
    for card in registry.cards():
        assert card.summary in " ".join(" ".join(lines).split())


@pytest.mark.parametrize("card", registry.cards(), ids=lambda card: card.name)
def test_show_tells_all_of_a_card(card, screen):
    print_card(Terminal(screen), card)
    lines = [without_styles(line) for line in screen.lines()]
    assert max(map(len, lines)) <= 80
    text = " ".join(" ".join(lines).split())
    for told in (card.summary, *card.plain.splitlines(), card.source, *card.lectures, *card.errata, *card.differs):
        assert " ".join(told.split()) in text
    assert (card.twin.call if card.twin else "no counterpart") in text
    assert "bytes per parameter" in text
    assert "learning_rate" in text


def test_show_prints_where_it_should(capsys):
    assert main(["show", TWINLESS]) == 0
    out, err = capsys.readouterr()
    assert out.startswith(f"{TWINLESS}: ")
    assert err == ""


@pytest.mark.parametrize(
    ("line", "given", "hint"),
    [
        ("lst", '"lst"', 'Did you mean "list"?'),
        ("xyzzy", '"xyzzy"', "Available commands: list, show, tasks, compare"),
        ("list --verbos", "--verbos", "list --help"),
        ("show", "NAME", "show --help"),
        ("show adm", "'adm'", "did you mean 'adam'?"),
        ("show xyzzy", "'xyzzy'", "known: sgd, "),
        ("compare", "TASK", "compare --help"),
        ("compare digit", "'digit'", "did you mean 'digits'?"),
        ("compare digits more", "more", "compare --help"),
        ("compare digits --stps 3", "--stps", "Did you mean --steps?"),
        ("compare digits --steps 0", '"0" for --steps', "Must be >= 1"),
        ("compare digits --steps -5", '"-5" for --steps', "Must be >= 1"),
        ("compare digits --steps many", '"many"', "--steps"),
        ("compare digits --steps", "--steps", "requires an argument"),
        ("compare digits --seeds 0", '"0" for --seeds', "Must be >= 1"),
        ("compare digits --optimizers adam,lionn", "'lionn'", "did you mean 'lion'?"),
        ("compare digits --optimizers ,", "','", "known: sgd, "),
    ],
)
def test_what_cannot_be_done_is_refused_in_one_line(line, given, hint, capsys, monkeypatch):
    monkeypatch.setattr(tasks, "get", lambda *_, **__: pytest.fail("went on to train"))
    assert main(line.split()) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("jaxopt-lectures: ")
    assert err.count("\n") == 1
    assert given in err
    assert hint in err


def test_a_folder_that_cannot_be_written_is_refused_before_training(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(protocol, "compare", lambda *_: pytest.fail("went on to train"))
    (tmp_path / "file").touch()
    assert main(["compare", "digits", "--out", str(tmp_path / "file" / "folder")]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert f"cannot write to --out {tmp_path}/file/folder: Not a directory" in err
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def small(out):
    return ["compare", "digits", "--optimizers", f"{TWINLESS}, {TWINLESS}", "--steps", "3", "--out", str(out)]


def test_compare_writes_shows_and_says_where(tmp_path, capsys):
    assert main([*small(tmp_path / "new"), "--seeds", "2"]) == 0
    out, err = capsys.readouterr()
    report = results.read(tmp_path / "new" / "results.json")
    assert report.complete
    assert (report.protocol["steps"], report.protocol["seeds"]) == (3, 2)
    (result,) = report.results  # named twice, trained once
    assert result.name == TWINLESS
    for name in ("results.json", "curves.png"):
        assert f"written: {tmp_path}/new/{name}" in out
    assert (tmp_path / "new" / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert TWINLESS in out.splitlines()[3]
    assert err.startswith(f"1/1  {TWINLESS}")
    assert "\x1b" not in out + err


@pytest.fixture
def trained(monkeypatch):
    """A finished comparison, so that what comes after can be tested without training."""
    curves = results.Curves(loss=((1.0,),), metric=((0.5,),), seconds_per_step=(0.1,))
    report = results.Report(
        task={
            "name": "digits",
            "summary": "",
            "metric": "accuracy",
            "metric_unit": "%",
            "larger_is_better": True,
            "target": 0.9,
            "validation_examples": 5,
        },
        protocol={"steps": 3, "seeds": 1, "every": 3, "noise": 1e-6, "batch_size": 5},
        environment={},
        looks=(3,),
        results=(results.Result(TWINLESS, 0.1, 0.0, curves),),
        complete=False,
    )
    monkeypatch.setattr(protocol, "compare", lambda *arguments: report)
    return report


def test_an_interrupted_comparison_is_kept(trained, tmp_path, capsys):
    assert main(small(tmp_path)) == 130
    out, err = capsys.readouterr()
    assert "interrupted: 1 of 1 optimizers were finished" in err
    assert TWINLESS in out
    assert results.read(tmp_path / "results.json") == trained


def test_a_full_disk_does_not_take_the_table_with_it(trained, tmp_path, capsys, monkeypatch):
    def full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(plot, "save", full)
    assert main(small(tmp_path)) == 2
    out, err = capsys.readouterr()
    assert TWINLESS in out
    assert err == f"jaxopt-lectures: cannot write to {tmp_path}: No space left on device\n"


def test_a_broken_pipe_ends_quietly():
    with start("list") as process:
        process.stdout.close()
        assert process.wait() == 141
        assert process.stderr.read() == b""


def test_a_terminal_without_utf8_is_enough():
    process = start("--help", LC_ALL="C", PYTHONCOERCECLOCALE="0", PYTHONUTF8="0")
    out, err = process.communicate()
    assert (process.returncode, err) == (0, b"")
    assert "compare" in out.decode("ascii")
    ascii_only = Terminal(io.TextIOWrapper(io.BytesIO(), encoding="ascii"))
    assert not ascii_only.can_show("±")
    assert ascii_only.can_show("+-")


def test_ctrl_c_keeps_what_was_finished(tmp_path):
    two = f"{TWINLESS},{next(card.name for card in registry.cards() if card.twin)}"
    process = start("compare", "digits", "--optimizers", two, "--seeds", "1", "--steps", "20", "--out", str(tmp_path))
    first = process.stderr.readline()  # one is done, the other is still being compiled
    process.send_signal(signal.SIGINT)
    out, err = process.communicate()
    assert process.returncode == 130
    assert b"Traceback" not in err
    assert first.split()[1].decode() == TWINLESS
    assert TWINLESS.encode() in out
    content = json.loads((tmp_path / "results.json").read_text())
    assert content["complete"] is False
    assert [result["name"] for result in content["optimizers"]] == [TWINLESS]


def test_version_and_wrong_use_of_the_installed_command():
    out, _ = start("--version").communicate()
    assert out.decode().strip().count(".") == 2
    process = start("compare", "digits", "--steps", "0")
    out, err = process.communicate()
    assert (process.returncode, out) == (2, b"")
    assert b"Traceback" not in err


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
    metric_name="error",
    metric_unit="",
    larger_is_better=False,
)
wide = dataclasses.replace(line, loss=lambda model, x, y: optax.huber_loss(model(x), jnp.zeros((8, 3)) @ y).mean())
broken = dataclasses.replace(line, data=lambda: 1 / 0)
"""


@pytest.fixture
def mine(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "mine", raising=False)
    (tmp_path / "mine.py").write_text(MINE)
    return tmp_path


def test_a_task_of_ones_own_is_compared(mine, capsys):
    assert main(["compare", "mine:line", "--optimizers", TWINLESS, "--steps", "200", "--seeds", "2"]) == 0
    out, _ = capsys.readouterr()
    assert "error" in out
    assert "to 0.01" in out
    assert "smaller is better" in out
    report = results.read(mine / "results" / "compare-mine-line" / "results.json")
    assert report.task["larger_is_better"] is False
    assert len(report.task["data_sha256"]) == 64
    assert max(report.results[0].ours.final_metric) < 1e-3 < report.results[0].ours.metric[0][0]
    assert report.steps_to_target(report.results[0].ours) < 200


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["mine:lime"], "no task in module 'mine' is called 'lime'; did you mean 'line'"),
        (["mine:Data"], "'mine:Data' is of type type; needed is an instance of jaxopt_lectures.tasks.task.Task"),
        (["yours:line"], "no module is called 'yours'"),
        (["mine:wide"], "task 'line': no loss: the model gives float32 (8, 1), the targets are float32 (8, 1)"),
        (["digits", "--data-dir", "."], "task 'digits' reads no files; --data-dir is for mnist"),
        (["mnist"], "task 'mnist' reads files of yours: name their folder with --data-dir"),
        (["mnist", "--data-dir", "nowhere"], "--data-dir nowhere is not a folder"),
        (["mnist", "--data-dir", "."], "no file train-images-idx3-ubyte"),
        (["breast"], "no task is called 'breast'; did you mean 'breast_cancer'"),
    ],
)
def test_a_task_that_cannot_be_used_is_one_line_and_nothing_is_written(mine, capsys, arguments, message):
    before = sorted(mine.rglob("*.json"))
    assert main(["compare", *arguments, "--optimizers", TWINLESS]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err
    assert len(err.splitlines()) == 1
    assert not (mine / "results").exists()
    assert sorted(mine.rglob("*.json")) == before


def test_an_error_in_a_task_of_ones_own_keeps_its_traceback(mine):
    with pytest.raises(ZeroDivisionError):
        main(["compare", "mine:broken"])


def test_tasks_lists_all_of_them(capsys):
    assert main(["tasks"]) == 0
    out, _ = capsys.readouterr()
    for name in tasks.names():
        assert any(line.startswith(f"{name} ") for line in out.splitlines()), name
    assert "accuracy 95 %" in out
    assert "error <= 1" in out
