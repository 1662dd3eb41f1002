"""What a comparison leaves behind: its file, its table, its picture."""

import dataclasses
import io
import json
import math
import os

import numpy as np
import pytest

from jaxopt_lectures.compare import plot, results, table
from jaxopt_lectures.compare.results import Curves, Difference, Report, Result
from jaxopt_lectures.records.files import write_atomically
from jaxopt_lectures.terminal.console import Terminal


@pytest.fixture
def report():
    """Two optimizers, one with a twin; two seeds; three looks."""
    ours = Curves(loss=((1.0, 0.5, 0.25), (1.1, 0.4, 0.2)), metric=((0.1, 0.5, 0.9), (0.2, 0.8, 0.7)), **TIMES)
    twin = Curves(loss=((1.0, 0.5, 0.3), (1.1, 0.4, 0.1)), metric=((0.1, 0.5, 0.8), (0.2, 0.8, 0.7)), **TIMES)
    difference = Difference(to_twin=(0.0, 1e-7, 2e-5), noise=(1e-6, 2e-6, 3e-4))
    return Report(
        task={
            "name": "blobs",
            "summary": "clouds",
            "metric": "accuracy",
            "metric_unit": "%",
            "larger_is_better": True,
            "target": 0.6,
            "validation_examples": 30,
        },
        protocol={"steps": 30, "seeds": 2, "every": 10, "first": 10, "noise": 1e-6, "batch_size": 20},
        environment={"jax": "0.10.2"},
        looks=(10, 20, 30),
        results=(Result("one", 0.002, 8.0, ours, twin, "optax.one()", difference), Result("lonely", 1.0, 0.0, ours)),
        complete=True,
    )


TIMES = {"seconds_per_step": (1e-3, 1e-4, 2e-4)}


def diverged(report):
    """The report, its last result with a loss that stopped being a number."""
    *others, last = report.results
    gone = dataclasses.replace(last.ours, loss=((2.0, math.inf, math.nan),) * 2, metric=((0.1,) * 3,) * 2)
    return dataclasses.replace(report, results=(*others, dataclasses.replace(last, ours=gone)))


def test_results_are_read_back_as_written(report, tmp_path):
    path = report.save(tmp_path)
    assert results.read(path) == report
    assert [file.name for file in tmp_path.iterdir()] == ["results.json"]
    content = json.loads(path.read_text())
    assert content["schema"] == results.SCHEMA == 2
    assert content["environment"] == {"jax": "0.10.2"}
    figures = content["optimizers"][0]["figures"]["ours"]
    assert figures["final_metric_mean"] == pytest.approx(np.mean(np.array(report.results[0].ours.metric)[:, -1]))
    assert figures["steps_to_target"] == report.steps_to_target(report.results[0].ours) == 25  # of 30 and 20


def test_what_is_not_finite_is_null_in_the_file(report):
    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    text = diverged(report).to_json()
    content = json.loads(text, parse_constant=refuse)
    assert content["optimizers"][1]["ours"]["loss"][0] == [2.0, None, None]
    assert content["optimizers"][1]["figures"]["ours"]["steps_to_target"] is None
    assert results.Report.from_json(text).to_json() == text


@pytest.mark.parametrize("text", ['{"schema": 1}', "[]", '{"complete": true}'])
def test_a_file_of_another_schema_is_refused(text):
    with pytest.raises(ValueError, match=r"the results have schema .*, this version reads 2"):
        results.Report.from_json(text)


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "results.json"
    write_atomically(path, b"old")
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError, match="No space left"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert [file.name for file in tmp_path.iterdir()] == ["results.json"]


def test_the_table_fits_80_columns(report, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "xterm")
    widest = dataclasses.replace(report.results[0], name="adagrad_norm", learning_rate=0.0005)
    slow = dataclasses.replace(widest.ours, seconds_per_step=(1e-5,) * 3)
    widest = dataclasses.replace(widest, ours=slow, twin=slow, state_bytes_per_parameter=12)
    screen = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    monkeypatch.setattr(screen, "isatty", lambda: True, raising=False)
    Terminal(screen).table(table.comparison(dataclasses.replace(report, results=(widest,))))
    *_, row = screen.buffer.getvalue().decode().splitlines()
    assert len(row) <= 80
    assert row.split()[:2] == ["adagrad_norm", "0.0005"]
    assert row.split()[-3:] == ["100,000", "100,000", "12"]
    assert "…" not in row


def test_table_and_notes_say_what_the_report_says(report):
    terminal = Terminal(io.StringIO())
    header, units, rule, with_twin, twinless = terminal.rendered(table.comparison(report))
    assert set(rule) == {"-"}
    assert "accuracy" in header
    assert "to 60 %" in units
    assert with_twin.split()[0] == "one"
    assert with_twin.split()[2:] == ["80.0±14.1", "25", "0", "2e-5", "3e-4", "5,000", "5,000", "8"]
    assert twinless.split().count("-") == 4  # no difference, no speed of a twin
    assert max(map(len, table.notes(report, "+-"))) < 80
    assert "nan" not in "".join(terminal.rendered(table.comparison(diverged(report))))  # its metric is still a number
    assert "±" not in "".join(terminal.rendered(table.comparison(report, "+-")))


def test_notes_and_title_wrap_where_the_words_are_long(report):
    words = {"metric": "a metric of many words", "larger_is_better": False, "summary": "many words " * 12}
    task = dict(report.task) | words
    notes = table.notes(dataclasses.replace(report, task=task))
    assert max(map(len, notes)) < 80
    assert any(line.startswith("a metric of many words ") for line in notes)
    title = plot.figure(dataclasses.replace(report, task=task)).get_suptitle()
    assert max(map(len, title.splitlines())) <= 90
    assert "".join(title.split()).endswith("besideeachnamethevalidationametricofmanywords")


def test_an_error_that_is_not_finite_is_shown_as_it_is(report):
    never = (math.nan,) * 3
    gone = dataclasses.replace(report.results[0].ours, metric=((0.5,) * 3, never), loss=(never, never))
    bad = dataclasses.replace(report, results=(dataclasses.replace(report.results[0], ours=gone), *report.results[1:]))
    rows = Terminal(io.StringIO()).rendered(table.comparison(bad))
    assert rows[3].split()[2] == "nan"
    panels = [panel for panel in plot.figure(bad).axes if panel.axison]
    assert {panel.get_yscale() for panel in panels} == {"log"}, "one run that blew up does not flatten the others"


@pytest.mark.parametrize(("value", "text"), [(0, "0"), (2.34e-7, "2e-7"), (0.0996, "1e-1"), (math.nan, "nan")])
def test_numbers_of_one_digit(value, text):
    assert table.number(value) == text


def test_the_picture_has_a_panel_for_each_optimizer(report, tmp_path):
    panels = [panel for panel in plot.figure(report).axes if panel.axison]
    assert [panel.get_title(loc="left") for panel in panels] == ["one", "lonely"]
    assert {panel.get_yscale() for panel in panels} == {"log"}
    mine, twins = (dict(zip(*line.get_data(), strict=True)) for line in panels[0].lines[-2:])
    np.testing.assert_allclose(list(mine.values()), np.mean(report.results[0].ours.loss, axis=0))
    np.testing.assert_allclose(list(twins.values()), np.mean(report.results[0].twin.loss, axis=0))
    path = plot.save(report, tmp_path)
    assert path.read_bytes().startswith(b"\x89PNG")
    assert [file.name for file in tmp_path.iterdir()] == ["curves.png"]


def test_the_picture_stands_what_diverged(report):
    only = dataclasses.replace(diverged(report), results=diverged(report).results[1:])
    figure = plot.figure(only)
    figure.canvas.draw()
    assert [panel.get_title(loc="left") for panel in figure.axes if panel.axison] == [only.results[0].name]
