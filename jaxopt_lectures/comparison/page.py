"""A comparison as one HTML page that needs nothing else: tables that sort, figures, what to paste, what it means."""

import importlib.resources
import re
import string
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from jaxopt_lectures.comparison import page_table
from jaxopt_lectures.comparison.drawing import DARK, LIGHT, RATIOS, metric_name, profiles, styles
from jaxopt_lectures.comparison.figures import Figures, profiles_figure
from jaxopt_lectures.comparison.measures import compact
from jaxopt_lectures.comparison.page_table import Column, Rows
from jaxopt_lectures.comparison.results import Comparison, Record
from jaxopt_lectures.comparison.verdicts import conclusion, verdicts
from jaxopt_lectures.tuning.decay import SCHEDULES

_NOTE = "A click on a head sorts. What a column means is told where the pointer rests, and at the end of the page."
_TWINS = "Ours and optax's from one start: the largest difference of a weight"
_SIZES = {
    "training_examples": ("example", " to train on"),
    "validation_examples": ("example", " to validate on"),
    "parameters": ("parameter", ""),
}
_ELSEWHERE = ("date", "device", "devices", "cpus", "platform", "commit")


def html(record: Record) -> str:
    """The page."""
    from plotly.offline import get_plotlyjs

    page = _Page(record)
    text = importlib.resources.files("jaxopt_lectures.comparison").joinpath("page_template.html").read_text("utf-8")
    pairs = enumerate(zip(LIGHT, DARK, strict=True))
    body = page.body()
    return string.Template(text).substitute(
        title=escape(page.title),
        colours="\n".join(f"  --s{slot}: light-dark({light}, {dark});" for slot, (light, dark) in pairs),
        slots="\n".join(f".s{slot} {{ color: var(--s{slot}); }}" for slot in range(len(LIGHT))),
        selector=page.selector(),
        body=body,
        studies=escape(page.studies),
        figures=page.figures.script(),
        plotly=re.sub("</(?=script)", r"<\\/", get_plotlyjs(), flags=re.IGNORECASE),
    )


class _Page:
    """Writes the sections."""

    def __init__(self, record: Record) -> None:
        told = record.protocol
        self.record, self.base, self.look = record, str(told["baseline"]), styles(record)
        self.figures = Figures(self.look)
        every = list(enumerate(record.comparisons))
        self.done = {number: (one, verdicts(one, self.base)) for number, one in every if one.results}
        self.names, tasks = list(self.look), [one.task["name"] for _, one in every] or told["tasks"]
        self.several = len(record.comparisons) > 1
        where = str(tasks[0]) if len(tasks) == 1 else f"{len(tasks)} tasks"
        self.title = f"{_count(len(self.names), 'optimizer')} on {where}"
        each = "each with" if told["seeds"] > 1 else "with"
        warm = f", after {told['warmup']} steps of warm-up" if told["warmup"] else ""
        self.studies = (
            f"{_count(told['seeds'], 'study', 'studies')} of every optimizer, {each} a tuning of "
            f"{_count(told['budget'], 'trial')}; {SCHEDULES.get(told['schedule'], told['schedule'])}{warm}."
        )

    def body(self) -> str:
        """All that differs from page to page."""
        record = self.record
        parts = [f"<h1>{escape(self.title)}</h1>", self.facts()]
        if not record.complete:
            parts.append(
                '<p class="warn">Interrupted: what was finished is below; the same command goes on from here.</p>'
            )
        if record.failed:
            parts.append(_list(record.failed, "Failed:", "warn"))
        if self.several:
            parts += [self.contents(), self.overview()]
        parts += [self.task(number, one) for number, one in enumerate(record.comparisons)]
        return "\n".join(parts)

    def facts(self) -> str:
        """Protocol and environment."""
        told, where = self.record.protocol, self.record.environment
        versions = ", ".join(f"{name} {found}" for name, found in where.items() if name not in _ELSEWHERE and found)
        device = f"{where.get('devices', 1)} × {where.get('device', 'unknown')}, {where.get('cpus', '?')} CPU cores, "
        commit = str(where.get("commit") or "unknown")
        rows = {
            "Protocol": f"{self.studies} Sampler: {told['sampler']}; seed {told['seed']}.",
            "Optimizers": f"{', '.join(self.names)}; compared with {self.base}",
            "Device": device + str(where.get("platform", "")),
            "Versions": versions,
            "Date": str(where.get("date", "unknown")).replace("T", " "),
            "Commit": commit.rstrip("+") + (" with changes" if commit.endswith("+") else ""),
        }
        cells = "".join(f"<dt>{name}</dt><dd>{escape(text)}</dd>" for name, text in rows.items())
        return f'<dl class="facts">{cells}</dl>'

    def selector(self) -> str:
        """Where to jump to, if there is more than one task."""
        if not self.several:
            return ""
        tasks = [(f"#task-{number}", one.task["name"]) for number, one in enumerate(self.record.comparisons)]
        places = [("", "Go to"), ("#overview", "Overview"), *tasks, ("#meaning", "What these numbers mean")]
        options = "".join(f'<option value="{to}">{escape(name)}</option>' for to, name in places)
        return f'<select id="task" aria-label="Go to">{options}</select>'

    def contents(self) -> str:
        """Links to the tasks."""
        links = [
            f'<a href="#task-{number}">{escape(one.task["name"])}</a>: {escape(one.task["summary"])}'
            for number, one in enumerate(self.record.comparisons)
        ]
        return f'<nav aria-label="Tasks"><p>Tasks:</p><ul>{"".join(f"<li>{link}</li>" for link in links)}</ul></nav>'

    def overview(self) -> str:
        """All optimizers on all tasks, and how often each was near the best."""
        done = list(self.done.values())
        goals, shares = profiles(self.record)
        columns = []
        for one, _ in done:
            larger = one.task["larger_is_better"]
            better = f"Mean score; {'larger' if larger else 'smaller'} is better"
            columns.append(Column(f"{one.task['name']}: {metric_name(one)}", better, larger))
        if goals:
            columns.append(
                Column("first to target, %", "Share of tasks whose target it reached in the fewest steps", True)
            )
            columns.append(
                Column("within twice, %", "Share of tasks solved within twice the steps of the fastest", True)
            )
        rows = []
        for name in self.names:
            near = [100 * shares[name][RATIOS.index(ratio)] for ratio in (1, 2)] if goals else []
            cells = [page_table.mean(one, found.get(name)) for one, found in done]
            rows.append((name, cells + [page_table.plain(share, ".0f") for share in near]))
        marks = f"+ better, − worse than {self.base}, = within noise, ! diverged or failed."
        parts = [
            '<section id="overview"><h2>Overview</h2>',
            self._table(columns, rows, "Scores on all tasks", f"{marks} A click on a head sorts."),
        ]
        if goals:
            note = f"the share of {_count(goals, 'task')} that each solves within a multiple of the fastest's steps"
            drawn = profiles_figure(shares, self.look)
            parts.append(f'<div class="figures">{self.figures.figure("Performance profiles", note, drawn)}</div>')
        return "".join(parts) + "</section>"

    def task(self, number: int, one: Comparison) -> str:
        """Everything about one task."""
        parts = [
            f'<section id="task-{number}"><h2>{escape(one.task["name"])}</h2>',
            f"<p>{escape(one.task['summary'])}</p>",
        ]
        if one.error:
            parts.append(f'<p class="warn">Failed: {escape(one.error)}</p>')
        if not one.results:
            return "".join(parts) + ("" if one.error else "<p>Nothing was finished.</p>") + "</section>"
        found, task = self.done[number][1], one.task
        sizes = [f"{_count(one.steps, 'step')} of {_count(task['batch_size'], 'example')}"]
        sizes += [f"{_count(task[name], what)}{use}" for name, (what, use) in _SIZES.items() if name in task]
        said = [_sentence(line, self.names) for line in conclusion(one, self.base, found)]
        parts.append(f'<p class="quiet">{escape(", ".join(sizes))}.</p>')
        parts.append(_list(said or ["There is nothing to compare with."], "", "said"))
        rows = [(result.name, page_table.row(one, result, found[result.name])) for result in one.results]
        columns = page_table.columns(one, self.base, found)
        parts.append(self._table(columns, rows, f"Results on {task['name']}", _NOTE))
        parts.append(f'<div class="figures">{self.figures.of_task(one, found)}</div>')
        parts.append(self._choices(one))
        twins = [(result.name, result.twins) for result in one.results if result.twins]
        if twins:
            looks = sorted({look for _, each in twins for look in each.looks})
            rows = [(name, page_table.twins_row(each, looks)) for name, each in twins]
            columns = page_table.twins_columns(looks)
            parts += [
                f"<h3>{_TWINS}</h3>",
                self._table(columns, rows, _TWINS, "What lies below the noise means nothing."),
            ]
        return "".join(parts) + "</section>"

    def _table(self, columns: Sequence[Column], rows: Rows, what: str, note: str) -> str:
        return page_table.table(columns, rows, self.look, what, note)

    def _choices(self, one: Comparison) -> str:
        """What each optimizer chose, as code, and where was searched."""
        parts = []
        for result in one.results:
            notes = [f"failed: {result.error}"] if result.error else []
            if result.space:
                notes.append("searched: " + ", ".join(_range(name, where) for name, where in result.space.items()))
            notes += [f"{name} was chosen at the {end} end" for name, end in (result.edges or {}).items()]
            code = f'<div class="code"><code>{escape(result.code)}</code><button type="button">Copy</button></div>'
            told = f'<span class="quiet">{escape("; ".join(notes))}</span>'
            parts.append(f"<dt>{page_table.key(self.look[result.name])}{escape(result.name)}</dt>")
            parts.append(f"<dd>{code if result.code else ''}{told}</dd>")
        return f'<h3>What the best tuning of each chose</h3><dl class="choices">{"".join(parts)}</dl>'


def _list(lines: Sequence[str], before: str, look: str) -> str:
    """Lines as a list, with some words before it."""
    items = "".join(f"<li>{escape(line)}</li>" for line in lines)
    return (f"<p>{before}</p>" if before else "") + f'<ul class="{look}">{items}</ul>'


def _sentence(line: str, names: Sequence[str]) -> str:
    """A line with a capital and a stop; an optimizer's name stays as it is."""
    return (line if any(line.startswith(name) for name in names) else line[:1].upper() + line[1:]) + "."


def _count(number: int, one: str, several: str | None = None) -> str:
    return f"{number:,} {one if number == 1 else several or one + 's'}"


def _range(name: str, where: Mapping[str, Any]) -> str:
    if "values" in where:
        return f"{name} of {', '.join(map(str, where['values']))}"
    return f"{name} {compact(where['low'])} to {compact(where['high'])}" + (" (log)" if where["scale"] == "log" else "")
