"""What the full suite found, as tables of the page "Which optimizer?", made of its committed results."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jaxopt_lectures.comparison import files, page
from jaxopt_lectures.comparison.measures import compact, metric_text, profile_costs
from jaxopt_lectures.comparison.results import Comparison, Record
from jaxopt_lectures.comparison.statistics import profile
from jaxopt_lectures.comparison.verdicts import Verdict, verdicts

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results" / "suite-full.json"
FOLDER = "suite"
MARKS = {"better": " **+**", "worse": " **−**", "within noise": "", "baseline": ""}
"""Behind a score: what it is beside the baseline's."""


def summary(record: Record) -> str:
    """An optimizer a row: on how many tasks it differs by more than noise, how soon it was there, what it takes."""
    done = [one for one in record.comparisons if one.results]
    base, names = record.protocol["baseline"], list(record.protocol["optimizers"])
    found = [verdicts(one, base) for one in done]
    shares = profile(profile_costs(done, names), (1.0, 2.0, 4.0))
    header = ["", f"better / worse than {base}", "target: first", "<= 2 x", "<= 4 x", "rates that were chosen", "state"]
    lines = [_row(header), _row(["---"] * len(header))]
    for name in names:
        kinds = [verdict[name].kind for verdict in found if name in verdict]
        against = "" if name == base else f"{kinds.count('better')} / {kinds.count('worse')} of {len(kinds)}"
        first, twice, four = (f"{100 * share:.0f} %" for share in shares[name])
        state = next(result for one in done for result in one.results if result.name == name).state_bytes_per_parameter
        lines.append(_row([f"`{name}`", against, first, twice, four, _rates(done, name), f"{state:.3g}"]))
    return "\n".join(lines) + "\n"


def scores(record: Record) -> str:
    """A task a row: the final score of every optimizer."""
    done = [one for one in record.comparisons if one.results]
    base, names = record.protocol["baseline"], list(record.protocol["optimizers"])
    lines = [_row(["", *[f"`{name}`" for name in names]]), _row(["---"] * (1 + len(names)))]
    for one in done:
        found = verdicts(one, base)
        lines.append(_row([_titled(one), *[_score(one, found.get(name)) for name in names]]))
    return "\n".join(lines) + "\n"


def _rates(done: Sequence[Comparison], name: str) -> str:
    """The middle half of the rates that studies chose, over all tasks."""
    results = [result for one in done for result in one.results if result.name == name]
    values = [study.values or {} for result in results for study in result.studies]
    chosen = sorted(float(each["learning_rate"]) for each in values if "learning_rate" in each)
    if not chosen:
        return ""
    return " to ".join(compact(chosen[len(chosen) * quarter // 4], ".1g") for quarter in (1, 3))


def told(record: Record) -> str:
    """The protocol and the machine in a sentence."""
    protocol, environment = record.protocol, record.environment
    base = protocol["baseline"]
    found = [verdict.kind for one in record.comparisons if one.results for verdict in verdicts(one, base).values()]
    better, worse, others = found.count("better"), found.count("worse"), len(found) - found.count("baseline")
    return (
        f"{len(record.comparisons)} tasks, {len(protocol['optimizers'])} optimizers, {protocol['seeds']} studies of "
        f"{protocol['budget']} trials each, the rate falling on a {protocol['schedule']}; jax {environment['jax']}, "
        f"{environment['device']}, {environment['date'][:10]}, commit {str(environment['commit'])[:7]}. Of {others} "
        f"final scores, {better} are better and {worse} worse than {base}'s by more than noise.\n"
    )


def _titled(one: Comparison) -> str:
    task = one.task
    unit = task["metric_unit"] or ("" if task["larger_is_better"] else "error")
    return f"{task['name']}, {unit}".rstrip(", ")


def _score(one: Comparison, verdict: Verdict | None) -> str:
    if verdict is None or verdict.kind in ("failed", "diverged"):
        return "diverged" if verdict is not None and verdict.kind == "diverged" else "-"
    return metric_text([verdict.mean], one.task["metric_unit"]) + MARKS.get(verdict.kind, "")


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def write(app: Any) -> None:
    """The tables, to be included, and the whole report, to be linked."""
    record = files.read(RESULTS)
    folder, extra = Path(app.srcdir) / FOLDER, Path(app.outdir) / FOLDER
    folder.mkdir(exist_ok=True)
    extra.mkdir(parents=True, exist_ok=True)
    texts = {"summary.md": summary(record), "scores.md": scores(record), "told.md": told(record)}
    for name, text in texts.items():
        path = folder / name
        if not path.exists() or path.read_text() != text:
            path.write_text(text)
    (extra / "report.html").write_text(page.html(record))


def setup(app: Any) -> dict[str, Any]:
    """Sphinx's entry."""
    app.connect("builder-inited", write)
    return {"parallel_read_safe": True}
