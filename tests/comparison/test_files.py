"""The files of a comparison: nothing is lost, nothing is not JSON, and what is another's is refused."""

import csv
import io
import json
import math

import pytest

from jaxopt_lectures.comparison import files
from jaxopt_lectures.comparison.results import best_choice
from tests.comparison import made

RECORD = made.record(
    made.comparison(
        made.result("adam", (0.97, 0.98), twins=made.TWINS, edges={"learning_rate": "high"}),
        made.result("lost", (math.nan, 0.5), seconds_per_step=math.nan),
        made.result("failed", (), error="RuntimeError: <b>no</b>", code=""),
    ),
    made.comparison(name="broken", target=None),
)


def test_nothing_is_lost_on_the_way_to_disk():
    text = files.to_json(RECORD)
    again = files.from_json(text)
    assert files.to_json(again) == text
    adam, lost, failed = again.comparisons[0].results
    assert adam == RECORD.comparisons[0].results[0]
    assert math.isnan(lost.scores[0])
    assert math.isnan(lost.seconds_per_step)
    assert failed.error == "RuntimeError: <b>no</b>"
    assert again.failed == RECORD.failed == ["failed on blobs: RuntimeError: <b>no</b>"]


def test_a_code_with_brackets_keeps_its_spaces():
    code = "jol.join_schedules([a(0.0, 1), b(1, 0)], [5])"
    record = made.record(made.comparison(made.result("adam", (0.5, 0.6), code=code)))
    assert files.from_json(files.to_json(record)).comparisons[0].results[0].code == code


def test_it_is_json_for_everyone():
    text = files.to_json(RECORD)
    content = json.loads(text, parse_constant=lambda word: pytest.fail(f"{word} is not JSON"))
    assert content["schema"] == files.SCHEMA
    longest = max(len(line) for line in text.splitlines())
    assert longest < 200, "curves on lines of their own"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "not a results file"),
        ("[]", "schema None, this version reads 3"),
        ('{"schema": 2}', "schema 2, this version reads 3"),
        ('{"schema": 3}', "the results are damaged: KeyError 'comparisons'"),
        ('{"schema": 3, "comparisons": [{"no": 1}]}', "the results are damaged"),
        ('{"schema": 3, "comparisons": 5}', "the results are damaged"),
    ],
)
def test_what_is_no_results_file_is_said_in_one_line(text, words):
    with pytest.raises(files.OtherSchema) as error:
        files.from_json(text)
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_the_table_of_everything_is_tidy():
    rows = list(csv.DictReader(io.StringIO(files.to_csv(RECORD))))
    runs = [row for row in rows if row["optimizer"] == "adam" and row["kind"] == "run"]
    assert [int(row["step"]) for row in runs] == [10, 20, 30, 10, 20, 30]
    assert [row["score"] for row in runs] == ["", "", "0.97", "", "", "0.98"]
    trials = [row for row in rows if row["optimizer"] == "adam" and row["kind"] == "trial"]
    assert len(trials) == 4
    assert all(set(json.loads(row["values"])) == {"learning_rate"} for row in trials)
    assert {row["task"] for row in rows} == {"blobs"}


def test_names_with_commas_and_newlines_stay_one_cell():
    record = made.record(made.comparison(made.result('a,"b"\nc', (0.5,))))
    rows = list(csv.DictReader(io.StringIO(files.to_csv(record))))
    assert {row["optimizer"] for row in rows} == {'a,"b"\nc'}


def test_the_choice_that_is_shown_is_the_one_that_did_best_on_validation():
    result = made.result("adam", (0.1, 0.9, 0.5))
    studies = []
    for study, metric in zip(result.studies, (0.6, 0.7, 0.8), strict=True):
        first = made.trial(0, 0.01, metric)
        studies.append(study.__class__(**{**vars(study), "trials": (first,)}))
    tuned = result.__class__(**{**vars(result), "studies": tuple(studies)})
    assert best_choice(tuned, larger_is_better=True) is studies[2], "not the one with the best score"
    assert best_choice(tuned, larger_is_better=False) is studies[0]
    assert best_choice(made.result("none", ()), larger_is_better=True) is None
