"""The command line: what it prints and where, what it refuses and how, what it survives."""

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from jaxopt_lectures import registry, tasks
from jaxopt_lectures.cli import main
from jaxopt_lectures.cli.catalogue import print_card, print_list
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


@pytest.mark.parametrize(("codec", "size"), [("bf16", "4"), ("fp8", "2.03"), ("int8", "2.03"), ("int4", "1.06")])
def test_show_stored(codec, size, capsys):
    """The state in a code: what is kept of each slot, and how many bytes that are."""
    assert main(["show", "adam", "--store", codec]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert f"{size} bytes per parameter, 8 if not stored" in text
    assert f'jol.store(jol.adam(0.002), "{codec}")' in text
    assert "nu: nonnegative, shaped like the parameter; " in text


def test_show_without_slots(capsys):
    assert main(["show", "sgd", "--store", "int8"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "0 bytes per parameter; no slot is shaped like the parameters, so int8 changes nothing" in text


def test_show_prints_where_it_should(capsys):
    assert main(["show", TWINLESS]) == 0
    out, err = capsys.readouterr()
    assert out.startswith(f"{TWINLESS}: ")
    assert err == ""


@pytest.mark.parametrize(
    ("line", "given", "hint"),
    [
        ("lst", '"lst"', 'Did you mean "list"?'),
        ("xyzzy", '"xyzzy"', "Available commands: list, show, tasks, compare, report, sweep"),
        ("list --verbos", "--verbos", "list --help"),
        ("show", "NAME", "show --help"),
        ("show adm", "'adm'", "did you mean 'adam'?"),
        ("show xyzzy", "'xyzzy'", "known: sgd, "),
        ("show adam --store int9", "'int9'", "did you mean 'int8'?"),
        ("compare", "--suite", "name a task"),
        ("compare --suite small", "'small'", "known: lectures, full"),
        ("compare digits --suite full", "--suite", "name a task"),
        ("compare digit", "'digit'", "did you mean 'digits'?"),
        ("compare digits,digit", "'digit'", "did you mean 'digits'?"),
        ("compare digits more", "more", "compare --help"),
        ("compare digits --stps 3", "--stps", "Did you mean --steps?"),
        ("compare digits --steps 0", '"0" for --steps', "Must be >= 1"),
        ("compare digits --steps -5", '"-5" for --steps', "Must be >= 1"),
        ("compare digits --steps many", '"many"', "--steps"),
        ("compare digits --steps", "--steps", "requires an argument"),
        ("compare digits --seeds 0", '"0" for --seeds', "Must be >= 1"),
        ("sweep digit", "'digit'", "did you mean 'digits'?"),
        ("sweep digits --trials 0", '"0" for --trials', "Must be >= 1"),
        ("sweep digits --halving 1", '"1" for --halving', "Must be >= 2"),
        ("report nowhere", "nowhere", "No such file"),
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


def test_version_and_wrong_use_of_the_installed_command():
    out, _ = start("--version").communicate()
    assert out.decode().strip().count(".") == 2
    process = start("compare", "digits", "--steps", "0")
    out, err = process.communicate()
    assert (process.returncode, out) == (2, b"")
    assert b"Traceback" not in err


def test_tasks_lists_all_of_them(capsys):
    assert main(["tasks"]) == 0
    out, _ = capsys.readouterr()
    for name in tasks.names():
        assert any(line.startswith(f"{name} ") for line in out.splitlines()), name
    assert "accuracy 95 %" in out
    assert "error <= 1" in out
