"""A comparison as text for a terminal of 80 columns: tables, what may be said, and what to paste."""

import io
import math
import textwrap
from collections.abc import Sequence

from rich.table import Table

from jaxopt_lectures.comparison.measures import compact, metric_text, profile_costs
from jaxopt_lectures.comparison.results import Comparison, Record, Result
from jaxopt_lectures.comparison.statistics import profile
from jaxopt_lectures.comparison.verdicts import Verdict, conclusion, verdicts
from jaxopt_lectures.terminal.console import Terminal, new_table
from jaxopt_lectures.tuning.decay import SCHEDULES

_NONE = "-"
_WORDS = {"within noise": "noise", "one seed": _NONE, "no baseline": _NONE}
_MARKS = {"better": " +", "worse": " -", "within noise": " =", "diverged": " !", "failed": " !"}


def lines(record: Record, width: int = 79) -> list[str]:
    """All that is to be said, in lines of at most so many characters where words allow it."""
    found: list[str] = []
    if len(record.comparisons) == 1:
        found = one_task(record, record.comparisons[0], width)
    elif record.comparisons:
        found = several_tasks(record, width)
    if not record.complete:
        found += ["", "interrupted: what was finished is above; the same command goes on from here"]
    return found + [line for text in record.failed for line in _wrapped(f"failed: {text}", width)]


def one_task(record: Record, one: Comparison, width: int) -> list[str]:
    """The table of a task, its columns explained, verdicts, and the choices as code."""
    if one.error or not one.results:
        return []
    found = verdicts(one, record.protocol["baseline"])
    said = [line for text in conclusion(one, record.protocol["baseline"], found) for line in _wrapped(text, width)]
    twins = [
        line for result in one.results if result.twins for line in _wrapped(_twins_text(result), width, "  ", "    ")
    ]
    codes = [result.code for result in one.results if result.code]
    table = _rendered(_table(record, one, found), width)
    if max(map(len, table)) > width:  # a long name: the column that a reader can do without makes room
        table = _rendered(_table(record, one, found, without="opt.\n%"), width)
    return [
        *_wrapped(f"{one.task['name']}: {one.task['summary']}", width),
        *_wrapped(_how(record, one), width),
        "",
        *table,
        "",
        *_notes(record, one, found, width, " ".join(table[:2])),
        "",
        *said,
        *(["", "ours and optax's from one start, the largest difference of a weight:", *twins] if twins else []),
        "",
        "what the best tuning of each chose:",
        *[line for code in codes for line in _wrapped(code, width, "  ", "      ")],
    ]


def several_tasks(record: Record, width: int) -> list[str]:
    """Final metrics of all optimizers on all tasks, and how often each was near the best."""
    done, base = [one for one in record.comparisons if one.results], record.protocol["baseline"]
    found = {one.task["name"]: verdicts(one, base) for one in done}
    tables: list[str] = []
    left = list(done)
    while left:
        size = len(left)  # as many tasks side by side as there is room for
        while size > 1 and max(map(len, _rendered(_scores(record, left[:size], found), width))) > width:
            size -= 1
        tables += [*_rendered(_scores(record, left[:size], found), width), ""]
        left = left[size:]
    names = list(record.protocol["optimizers"])
    profiles = profile(profile_costs(done, names), (1.0, 2.0, 4.0))
    soon = new_table()
    for header in ("\noptimizer", "first to\ntarget", "within\ntwice", "within\n4 times"):
        soon.add_column(header, justify="left" if "optimizer" in header else "right", no_wrap=True)
    for name in names:
        soon.add_row(name, *[f"{100 * share:.0f} %" for share in profiles[name]])
    said = []
    for one in done:
        for text in conclusion(one, base, found[one.task["name"]]):
            said += _wrapped(f"{one.task['name']}: {text}", width, "", "  ")
    marks = f"+ better, - worse than {base}, = within noise, ! diverged or failed"
    return [_protocol(record), "", *tables, *_wrapped(marks, width), "", *_rendered(soon, width), "", *said]


def _scores(record: Record, some: Sequence[Comparison], found: dict[str, dict[str, Verdict]]) -> Table:
    """Final metrics on some tasks, each with a mark of its verdict."""
    table = new_table()
    table.add_column("\noptimizer", no_wrap=True)
    for one in some:
        unit = one.task["metric_unit"] or one.task["metric"]
        table.add_column(f"{_shortened(one.task['name'])}\n{unit}", justify="right", no_wrap=True)
    for name in record.protocol["optimizers"]:
        table.add_row(name, *[_cell(one, name, found[one.task["name"]]) for one in some])
    return table


def _how(record: Record, one: Comparison) -> str:
    size = one.task["batch_size"]
    examples = f"{size} example" + ("s" if size != 1 else "")
    return f"{one.steps:,} steps of {examples}; {_protocol(record)}"


def _protocol(record: Record) -> str:
    told = record.protocol
    warm = f" after {told['warmup']} steps of warm-up" if told["warmup"] else ""
    seeds = f"{told['seeds']} seeds" if told["seeds"] > 1 else "1 seed"
    return f"{seeds}, each with a tuning of {told['budget']} trials; {SCHEDULES[told['schedule']]}{warm}"


def _table(record: Record, one: Comparison, found: dict[str, Verdict], without: str = "") -> Table:
    target, unit, base = one.task["target"], one.task["metric_unit"], record.protocol["baseline"]
    solved = "" if target is None else f"to {100 * target:g} %" if unit == "%" else f"to {compact(target)}"
    ratio = any(verdict.ratio for verdict in found.values())
    headers = (
        f"{one.task['metric']}\n{unit}",
        "95 %\nband",
        f"{'over' if ratio else 'less'}\n{base}",
        "\nverdict",
        f"steps\n{solved}",
        "us per\nstep",
        "opt.\n%",
        "state\nbytes",
    )
    table = new_table()
    table.add_column("\noptimizer", no_wrap=True)
    shown = [index for index, header in enumerate(headers) if header != without]
    for index in shown:
        table.add_column(headers[index], justify="right", no_wrap=True)
    for result in one.results:
        row = _row(one, result, found[result.name])
        table.add_row(result.name, *[row[index] for index in shown])
    return table


def _row(one: Comparison, result: Result, verdict: Verdict) -> list[str]:
    unit, steps = one.task["metric_unit"], one.steps_to_target(result)
    scale, digits = (100, ".1f") if unit == "%" else (1, ".3g")
    shown = math.isfinite(verdict.mean)
    band = f"{compact(scale * verdict.low, digits)}-{compact(scale * verdict.high, digits)}" if shown else _NONE
    return [
        metric_text([verdict.mean], unit) if shown else _NONE,
        band if len(result.studies) > 1 else _NONE,
        _difference(verdict, scale),
        _WORDS.get(verdict.kind, verdict.kind),
        f"{steps:,.0f}" if math.isfinite(steps) else _NONE,
        compact(1e6 * result.seconds_per_step, ".3g") if math.isfinite(result.seconds_per_step) else _NONE,
        f"{100 * result.share_of_step:.0f}" if math.isfinite(result.share_of_step) else _NONE,
        f"{result.state_bytes_per_parameter:.3g}" if math.isfinite(result.state_bytes_per_parameter) else _NONE,
    ]


def _difference(verdict: Verdict, scale: float) -> str:
    if not math.isfinite(verdict.difference):
        return _NONE
    if verdict.ratio:
        return f"×{compact(math.exp(verdict.difference), '.2g')}"
    half = (verdict.far - verdict.near) / 2
    text = compact(scale * verdict.difference, "+.2f" if scale == 100 else "+.2g")
    return f"{text}±{compact(scale * half, '.2f' if scale == 100 else '.1g')}" if math.isfinite(half) else text


def _notes(record: Record, one: Comparison, found: dict[str, Verdict], width: int, headers: str) -> list[str]:
    task, base = one.task, record.protocol["baseline"]
    ratio = any(verdict.ratio for verdict in found.values())
    part = "tested" if task["scored"] == "test" else "validated (the task has none to test on)"
    better = "" if task["larger_is_better"] else ", smaller is better"
    words = {
        task[
            "metric"
        ]: f"at the end, {task['scored_examples']} examples {part}{better}; mean over the seeds, and band (BCa)",
        "over" if ratio else "less": (
            f"ratio to {base}, " if ratio else f"difference to {base} and its 95 % interval, "
        )
        + "seed by seed",
        "verdict": "better or worse only where Student's t, Holm's correction over the optimizers, gives p < 0.05",
        "steps": f"to the target on the validation examples, median of the seeds, looked at {len(one.looks)} times",
        "opt.": "of a step's time, what exceeds a step of plain gradient descent",
        "state": "bytes per parameter, beside its own 4",
    }
    words = {word: text for word, text in words.items() if word in headers}
    wide = max(map(len, words)) + 2
    return [line for word, text in words.items() for line in _wrapped(text, width, f"{word:<{wide}}", " " * wide)]


def _cell(one: Comparison, name: str, found: dict[str, Verdict]) -> str:
    verdict = found.get(name)
    if verdict is None:
        return _NONE
    mark = _MARKS.get(verdict.kind, "  ")
    return (metric_text([verdict.mean], one.task["metric_unit"]) if math.isfinite(verdict.mean) else _NONE) + mark


def _twins_text(result: Result) -> str:
    twins = result.twins
    assert twins is not None
    name = twins.call.partition("(")[0]
    parts = [f"{_number(a)} after {look} steps" for look, a in zip(twins.looks, twins.apart, strict=True)]
    return f"{result.name} and {name}: {', '.join(parts)} (noise {_number(twins.noise[-1])})"


def _number(value: float) -> str:
    """A difference in one digit: 0, 2e-7, 1e-2."""
    return f"{value:g}" if value == 0 or not math.isfinite(value) else compact(value, ".0e")


def _shortened(name: str) -> str:
    """As much of a name as a column has room for."""
    return name if len(name) < 13 else name[:12] + "."


def _wrapped(text: str, width: int, first: str = "", rest: str = "") -> list[str]:
    made = textwrap.TextWrapper(
        width, initial_indent=first, subsequent_indent=rest, break_long_words=False, break_on_hyphens=False
    )
    return made.wrap(text)


def _rendered(table: Table, width: int) -> Sequence[str]:
    """The lines of a table, its columns closer together where it would be too wide."""
    terminal = Terminal(io.StringIO())
    found = terminal.rendered(table)
    if max(map(len, found)) > width:
        table.padding = 0
        found = terminal.rendered(table)
    return found
