"""The files of a comparison: results.json, from which all others are made again."""

import csv
import io
import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from jaxopt_lectures.comparison.results import Comparison, Record, Result, Series, Study, Twins
from jaxopt_lectures.records.files import make_writable, write_atomically
from jaxopt_lectures.records.plain import plain
from jaxopt_lectures.tuning.trials import Trial

SCHEMA = 3
"""Version of the file's layout; raised when a reader of the older layout would misread a newer file."""


class OtherSchema(ValueError):
    """A file holds no results, or those of another version; the message is a sentence for the user."""


def save(report: Record, folder: Path) -> list[Path]:
    """Writes results.json, results.csv, report.html and the pictures; each file is whole or not there.

    Raises:
      OSError: the folder cannot be written to.
    """
    from jaxopt_lectures.comparison import page, plot

    make_writable(folder)
    written = [folder / "results.json", folder / "results.csv", folder / "report.html"]
    for path, text in zip(written, (to_json(report), to_csv(report), page.html(report)), strict=True):
        write_atomically(path, text.encode())
    return written + plot.save(report, folder)


def read(folder: Path) -> Record:
    """The report in a folder's `results.json`, or in that file itself.

    Raises:
      OSError: no such file.
      OtherSchema: not a results file, or one of another schema.
    """
    path = folder / "results.json" if folder.is_dir() else folder
    return from_json(path.read_text(encoding="utf-8"))


def to_json(report: Record) -> str:
    """Everything as JSON. What is not finite is null there."""
    text = json.dumps({"schema": SCHEMA, **plain(report)}, indent=1, allow_nan=False)
    # A curve on one line, not a line for each of its numbers. A line's end is only between values, never in a text.
    return re.sub(r"\[\n[^][{}\"]*\]", lambda series: "".join(series[0].split()), text) + "\n"


def from_json(text: str) -> Record:
    """The report that `to_json` wrote.

    Raises:
      OtherSchema: not a results file, or one of another schema.
    """
    try:
        content = json.loads(text)
    except ValueError as error:
        raise OtherSchema(f"not a results file: {error}") from error
    found = content.get("schema") if isinstance(content, dict) else None
    if found != SCHEMA:
        raise OtherSchema(f"the results have schema {found!r}, this version reads {SCHEMA}: run the comparison again")
    try:
        comparisons = tuple(map(_comparison, content["comparisons"]))
        return Record(content["protocol"], content["environment"], comparisons, content["complete"])
    except (KeyError, TypeError, AttributeError) as error:
        raise OtherSchema(f"the results are damaged: {type(error).__name__} {error}") from error


def to_csv(report: Record) -> str:
    """One row for each look of each run, and one for each trial: tidy, for a data frame."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["task", "optimizer", "study", "kind", "seed", "step", "loss", "metric", "score", "values"])
    for one in report.comparisons:
        for result in one.results:
            for number, study in enumerate(result.studies):
                for row in _rows(one, study):
                    writer.writerow([one.task["name"], result.name, number, *row])
    return out.getvalue()


def result_from_plain(fields: Mapping[str, Any]) -> Result:
    """The result that `plain` wrote."""
    numbers = ("state_bytes_per_parameter", "seconds_per_step", "share_of_step")
    fields = {name: math.nan if name in numbers and value is None else value for name, value in fields.items()}
    result = Result(**{**fields, "studies": tuple(map(_study, fields["studies"]))})
    twins = fields["twins"]
    if twins is None:
        return result
    series = {name: _series(twins[name]) for name in ("apart", "noise")}
    return replace(result, twins=Twins(**{**twins, **series, "looks": tuple(twins["looks"])}))


def _rows(one: Comparison, study: Study) -> Iterator[list[Any]]:
    for look, loss, metric in zip(one.looks, study.loss, study.metric, strict=False):
        end = (study.score, json.dumps(plain(study.values))) if look == one.looks[-1] else ("", "")
        yield ["run", study.seed, look, loss, metric, *end]
    for trial in study.trials:
        yield [
            "trial",
            study.tuning_seed,
            trial.steps,
            trial.losses[-1],
            trial.metric,
            "",
            json.dumps(plain(trial.values)),
        ]


def _series(values: list[float | None]) -> Series:
    return tuple(math.nan if value is None else value for value in values)


def _comparison(fields: dict[str, Any]) -> Comparison:
    results = tuple(map(result_from_plain, fields["results"]))
    return Comparison(**{**fields, "looks": tuple(fields["looks"]), "results": results})


def _study(fields: dict[str, Any]) -> Study:
    trials = tuple(map(Trial.from_plain, fields["trials"]))
    series = {name: _series(fields[name]) for name in ("loss", "metric")}
    score = math.nan if fields["score"] is None else fields["score"]
    return Study(**{**fields, **series, "trials": trials, "score": score})
