"""The page of a comparison: it needs nothing else, shows what others wrote as it is, and no number breaks it."""

import ast
import dataclasses
import html
import json
import math
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from jaxopt_lectures.comparison import page
from jaxopt_lectures.comparison.drawing import axis, styles
from jaxopt_lectures.comparison.results import Comparison, Record, Result, Study, Twins
from jaxopt_lectures.tuning.trials import Trial

LOOKS = (10, 20, 30)
NASTY = '</script><b>it\'s & "so" <!-- $x %{y} ${z} &lt; \\u003c'


def make_study(seed, score, rates=(0.01, 0.1), metric=(0.2, 0.5, 0.8), loss=(2.0, 1.0, 0.5)):
    """A study whose later trial is better, and chosen."""
    trials = tuple(
        Trial(n, {"learning_rate": rate, "b1": 0.9}, (seed,), (0.5 + 0.1 * n,), (1.0,), 30, False)
        for n, rate in enumerate(rates)
    )
    values = dict(trials[-1].values) if trials else {}
    return Study(seed, seed + 1, trials, values, tuple(loss), tuple(metric), score)


def make_result(name, scores=(0.8, 0.82, 0.81), **rest):
    space = {"learning_rate": {"low": 0.001, "high": 0.1, "scale": "log"}, "kind": {"values": ["a", None]}}
    plain = {"space": space, "code": f"make({name!r})", "edges": {}, "state_bytes_per_parameter": 8.0}
    plain |= {"studies": tuple(make_study(2 * k, score) for k, score in enumerate(scores))}
    return Result(name, **(plain | {"seconds_per_step": 2e-5, "share_of_step": 0.25, "way": "alone"} | rest))


def make_task(name="blobs", **rest):
    plain = {"name": name, "summary": "clouds of points", "metric": "accuracy", "metric_unit": "%"}
    plain |= {"larger_is_better": True, "target": 0.6, "batch_size": 4, "scored": "test", "scored_examples": 50}
    return plain | {"training_examples": 100, "validation_examples": 1, "parameters": 1234} | rest


def make_record(*comparisons, seeds=3, complete=True, baseline="base", **environment):
    """The record of comparisons; of two optimizers on one task if none is given."""
    if not comparisons:
        results = make_result("base"), make_result("other", (0.9, 0.92, 0.91))
        comparisons = (Comparison(make_task(), 30, LOOKS, results),)
    names = list(dict.fromkeys(result.name for one in comparisons for result in one.results)) or [baseline]
    protocol = {"budget": 2, "seeds": seeds, "steps": None, "schedule": "cosine", "warmup": 0, "sampler": "sobol"}
    protocol |= {"seed": 0, "baseline": baseline, "optimizers": names, "twins": False}
    protocol |= {"tasks": [one.task["name"] for one in comparisons]}
    known = {"date": "2026-01-02T03:04:05+00:00", "jax": "0.10.2", "device": "cpu", "devices": 1, "commit": "abc123+"}
    return Record(protocol, known | environment, tuple(comparisons), complete)


def compared(*results, **task):
    """The record of results on one task."""
    return make_record(Comparison(make_task(**task), 30, LOOKS, results), baseline=results[0].name)


class Parsed(HTMLParser):
    """A page's elements, its text outside of scripts and styles, and its tables as rows of (text, attributes)."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.scripts, self.words, self.tables, self.ids = [], [], [], [], set()
        self.inside, self.cell = [], None
        self.feed(text)
        self.close()
        self.text = re.sub(r"\s+", " ", " ".join(self.words))

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.elements.append((tag, attributes))
        self.ids |= {attributes["id"]} if "id" in attributes else set()
        if tag in ("script", "style"):
            self.inside.append(tag)
            self.scripts += [""] if tag == "script" else []
        if tag == "table":
            self.tables.append([])
        if tag == "tr":
            self.tables[-1].append([])
        if tag in ("th", "td"):
            self.cell = ["", attributes]
            self.tables[-1][-1].append(self.cell)
        if tag == "button" and self.cell:
            self.cell[1] = self.cell[1] | {"button": attributes}

    def handle_endtag(self, tag):
        if tag in ("script", "style"):
            self.inside.pop()
        if tag in ("th", "td"):
            self.cell = None

    def handle_data(self, data):
        if not self.inside:
            self.words.append(data)
            if self.cell:
                self.cell[0] += data
        elif self.inside[-1] == "script":
            self.scripts[-1] += data

    @property
    def figures(self):
        """What the script draws, by number."""
        found = [script for script in self.scripts if script.startswith("{")]
        assert len(found) == 1
        return json.loads(found[0], parse_constant=lambda constant: pytest.fail(f"{constant} is not JSON"))

    def column(self, words, table=0):
        """The shown texts and the sorting values of the column whose head begins with the words, by optimizer."""
        heads, *rows = self.tables[table]
        index = next(k for k, (head, _) in enumerate(heads) if head.startswith(words))
        return {row[0][0]: (row[index][0].strip(), row[index][1]["data-value"]) for row in rows}


def parsed(record):
    return Parsed(page.html(record))


@pytest.fixture(scope="module")
def usual():
    """The page of two optimizers on one task."""
    return parsed(make_record())


@pytest.fixture(scope="module")
def nasty():
    """A page on which everything that others write would break out if it could."""
    results = (
        make_result("base", code=NASTY, edges={"learning_rate": "high"}),
        make_result(NASTY, twins=Twins(NASTY, {}, (10, 30), (1e-7, math.nan), (1e-6, 1e-3))),
        Result("gone " + NASTY, {}, error=NASTY),
    )
    told = {"summary": NASTY, "metric": NASTY, "metric_unit": NASTY}
    one = Comparison(make_task("task " + NASTY, **told), 30, LOOKS, results)
    failed = Comparison({**make_task("lost " + NASTY, summary=NASTY)}, error=NASTY)
    return parsed(make_record(one, failed, device=NASTY, flax=NASTY))


@pytest.mark.parametrize("which", ["usual", "nasty"])
def test_it_needs_nothing_else(which, request):
    found = request.getfixturevalue(which)
    for tag, attributes in found.elements:
        assert tag not in ("img", "iframe", "object", "embed", "base", "form"), tag
        for name in ("src", "href", "action", "data", "srcset"):
            assert attributes.get(name, "#").startswith(("#", "data:,")), (tag, attributes)
    assert sum("plotly.js v" in script for script in found.scripts) == 1
    policy = [a["content"] for tag, a in found.elements if a.get("http-equiv") == "Content-Security-Policy"]
    assert len(policy) == 1
    assert policy[0].startswith("default-src 'none'")
    template = Path(page.__file__).with_name("page_template.html").read_text()
    assert not re.search(r"https?:|@import|url\(|//cdn", template)


def test_what_others_wrote_is_shown_as_it_is(nasty, usual):
    count = nasty.text.count(re.sub(r"\s+", " ", NASTY))
    assert count > 30  # name, summary, metric, unit, code, error, counterpart, versions
    assert len(nasty.scripts) == len(usual.scripts) == 4
    assert not nasty.inside
    captions = sum(tag == "figcaption" for tag, _ in nasty.elements)
    assert sum(tag == "b" for tag, _ in nasty.elements) == captions
    named = {name for _, attributes in nasty.elements for name in attributes}
    assert all(re.fullmatch("[a-z0-9-]+", name) and not name.startswith("on") for name in named)  # no quote was ended
    heads = [attributes for tag, attributes in nasty.elements if tag == "th" and attributes["scope"] == "row"]
    assert (
        {head["data-value"] for head in heads} == {head["title"] for head in heads} == {"base", NASTY, "gone " + NASTY}
    )


def test_plotly_is_given_no_markup(nasty):
    script = next(script for script in nasty.scripts if script.startswith("{"))
    assert not re.search("[<>&]", script)

    def strings(part):
        if isinstance(part, str):
            yield part
        elif isinstance(part, dict):
            yield from (text for each in part.values() for text in strings(each))
        elif isinstance(part, list):
            yield from (text for each in part for text in strings(each))

    seen = 0
    for text in strings(nasty.figures):
        bare = text.replace("<br>", "").replace("<extra></extra>", "")
        assert "<" not in bare, text
        seen += NASTY in html.unescape(text)
    assert seen > 5
    for figure in nasty.figures.values():
        assert all(NASTY not in html.unescape(trace.get("hovertemplate", "")) for trace in figure["data"])


def test_plotly_knows_every_part_of_the_figures(usual, nasty):
    from plotly.graph_objects import Figure

    for found in (usual, nasty):
        assert found.figures
        for figure in found.figures.values():
            Figure(figure)  # raises ValueError for what it does not know


def test_every_optimizer_is_in_every_table(nasty):
    names = {"base", NASTY, "gone " + NASTY}
    overview, task, twins = nasty.tables
    for table in (overview, task):
        assert {row[0][0] for row in table[1:]} == names
    assert [row[0][0] for row in twins[1:]] == [NASTY]


@pytest.mark.parametrize("which", ["usual", "nasty"])
def test_tables_can_be_sorted(which, request):
    for table in request.getfixturevalue(which).tables:
        heads, *rows = table
        for text, attributes in heads:
            assert text
            assert attributes["aria-sort"] == "none"
            assert attributes["data-first"] in ("ascending", "descending")
            assert attributes["button"]["type"] == "button"  # the keyboard reaches it
            assert len(attributes["button"]["title"]) > 10
        for row in rows:
            assert len(row) == len(heads)
            for (_, head), (_, cell) in zip(heads, row, strict=True):
                if head.get("data-kind") != "text":
                    assert cell["data-value"] == "" or not math.isnan(float(cell["data-value"]))


def test_the_numbers_of_a_table(usual):
    assert usual.column("accuracy") == {"base": ("81.00", "81"), "other": ("91.00", "91")}
    assert usual.column("difference to base")["base"] == ("-", "")
    shown, value = usual.column("difference to base")["other"]
    assert re.fullmatch(r"\+10\.00 \(\+\d+\.\d\d to \+1\d\.\d\d\)", shown)
    assert float(value) == pytest.approx(0.1)
    assert usual.column("verdict")["other"][0] == "better"
    assert usual.column("probability")["other"][0] == "1.00"
    assert usual.column("steps to 60 %")["other"] == ("30", "30")
    assert usual.column("seconds to 60 %")["other"] == ("0.0006", "0.0006")
    assert usual.column("µs per step")["other"] == ("20", "20")
    assert usual.column("share of step")["other"] == ("25", "25")
    assert usual.column("bytes per parameter")["other"] == ("8", "8")
    assert "Better than base: other." in usual.text


def test_the_head_says_what_was_done(usual):
    assert "2 optimizers on blobs" in usual.text
    assert "3 studies of every optimizer, each with a tuning of 2 trials; rate falls on a cosine." in usual.text
    assert "100 examples to train on, 1 example to validate on, 1,234 parameters" in usual.text
    for words in ("jax 0.10.2", "1 × cpu", "2026-01-02", "abc123 with changes"):
        assert words in usual.text
    assert "Interrupted" not in usual.text
    assert "What these numbers mean" in usual.text


def test_errors_are_compared_by_their_ratio():
    task = {"metric": "error", "metric_unit": "", "larger_is_better": False, "target": 0.01, "scored": "validation"}
    found = parsed(compared(make_result("base", (0.1, 0.1, 0.1)), make_result("zero", (0.0, 0.0, 0.0)), **task))
    shown, value = found.column("ratio to base")["zero"]
    assert shown.startswith("×1.2e-37")
    assert float(value) == pytest.approx(math.log(2**-126 / 0.1))
    assert found.column("error")["zero"] == ("0", "0")
    spread = parsed(compared(make_result("base", (1e-30, 1e30)), make_result("wild", (1e30, 1e-30)), **task))
    assert "∞" in spread.column("ratio to base")["wild"][0]  # exp of it overflows


def test_a_target_that_was_not_reached_and_none_at_all():
    late = make_result("late", studies=tuple(make_study(k, 0.5, metric=(0.1, 0.1, 0.1)) for k in range(3)))
    found = parsed(compared(make_result("base"), late, Result("lost", {}, error="no")))
    assert found.column("steps to")["late"] == ("never", "Infinity")
    assert found.column("seconds to")["late"] == ("never", "Infinity")
    assert found.column("steps to")["lost"] == ("-", "")
    none = parsed(compared(make_result("base"), late, target=None))
    assert set(none.column("steps to target").values()) == {("-", "")}
    assert set(none.column("seconds to target").values()) == {("-", "")}


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_not_shown(value):
    lost = make_study(0, value, metric=(0.3, value, value), loss=(value,) * 3)
    lost = dataclasses.replace(
        lost, trials=(Trial(0, {"learning_rate": 0.1}, (0,), (value,), (value,), 30, True),), values=None
    )
    untimed = {"seconds_per_step": math.nan, "share_of_step": math.nan, "state_bytes_per_parameter": math.nan}
    result = make_result("wild", studies=(lost,) * 3, **untimed)
    for results in ((make_result("base"), result), (result,)):
        found = parsed(compared(*results, scored_examples=50))
        assert not re.search(r"\b(nan|inf|NaN|Infinity)\b", found.text)
        assert found.column("accuracy")["wild"] == ("-", "")
        assert found.column("µs per step")["wild"] == ("-", "")
        assert found.column("verdict")["wild"][0] == "diverged"
        assert "wild diverged in 3 of 3 runs" in found.text
        marks = [
            t["marker"]["symbol"] for f in found.figures.values() for t in f["data"] if "symbol" in t.get("marker", {})
        ]
        assert ["x-thin-open"] * 3 in marks


def test_nothing_is_claimed_where_the_baseline_failed():
    found = parsed(compared(Result("base", {}, error="no"), make_result("other")))
    assert found.column("verdict")["other"] == ("-", "")
    assert "The baseline base failed: no differences." in found.text
    assert "base on blobs: no" in found.text


def test_one_seed_has_no_bands():
    found = parsed(make_record(Comparison(make_task(), 30, LOOKS, (make_result("base", (0.8,)),)), seeds=1))
    roles = {trace["meta"]["role"] for figure in found.figures.values() for trace in figure["data"]}
    assert roles == {"line", "points", "trials"}
    assert found.column("95 % band")["base"] == ("-", "")
    assert "1 study of every optimizer, with a tuning of 2 trials" in found.text
    assert "band from" not in found.text


def test_several_seeds_have_bands(usual):
    studies = tuple(make_study(k, 0.8, metric=(0.2, 0.4 + 0.1 * k, 0.8)) for k in range(3))
    band, line = parsed(compared(make_result("base", studies=studies))).figures["0"]["data"]
    assert band["x"] == [10, 20, 30, 30, 20, 10]
    assert band["y"] == [20, 60, 80, 80, 40, 20]  # in percent
    assert line["y"] == [20, 50, 80]


def test_what_was_interrupted_says_so():
    record = make_record()
    assert "Interrupted" in parsed(dataclasses.replace(record, complete=False)).text
    nothing = Record(record.protocol, record.environment, (), False)
    assert "2 optimizers on blobs" in parsed(nothing).text
    unfinished = Comparison(make_task(), 30, LOOKS)
    assert "Nothing was finished." in parsed(make_record(unfinished)).text


def test_a_task_that_failed_is_told():
    task = {name: make_task()[name] for name in ("name", "summary", "metric", "metric_unit", "larger_is_better")}
    found = parsed(make_record(Comparison({**task, "target": 0.9, "batch_size": 4}, error="ValueError: no examples")))
    assert "ValueError: no examples" in found.text
    assert not found.tables
    assert found.figures == {}


def test_what_has_no_trials_is_left_out_of_them():
    fixed = make_result("fixed", space={}, studies=tuple(make_study(k, 0.8, rates=()) for k in range(3)))
    found = parsed(compared(make_result("base"), fixed))
    assert {trace["name"] for trace in found.figures["3"]["data"]} == {"base"}
    assert "no rate was searched for: fixed" in found.text
    alone = parsed(compared(fixed))
    assert len(alone.figures) == 3
    assert "There is nothing to show." in alone.text


def test_choices_can_be_pasted():
    found = parsed(compared(make_result("base", edges={"learning_rate": "high"})))
    for words in ("make('base')", "learning_rate was chosen at the high end", "learning_rate 0.001 to 0.1 (log)"):
        assert words in found.text
    assert "kind of a, None" in found.text
    assert found.text.count("Copy ") == 1


def test_an_optimizer_looks_the_same_everywhere():
    names = ["base", *(f"optimizer {n}" for n in range(19))]
    tasks = [Comparison(make_task(task), 30, LOOKS, tuple(map(make_result, names[k:]))) for k, task in enumerate("ab")]
    record = make_record(*tasks)
    looks = {}
    found = parsed(record)
    assert len(found.figures) == 9
    for figure in found.figures.values():
        for trace in figure["data"]:
            dash = trace["line"]["dash"] if trace["meta"]["role"] == "line" else None
            looks.setdefault(trace["name"], set()).add((trace["meta"]["slot"], trace["legendgroup"], dash))
    assert set(looks) == set(names)
    assert all(len(each) == 2 for each in looks.values())  # with a dash, and without where there is none
    drawn = {(style.slot, style.dash) for style in styles(record).values()}
    assert len(drawn) == len({(style.slot, style.symbol) for style in styles(record).values()}) == 20
    assert styles(record)["base"].slot == 0
    assert styles(make_record(*tasks, baseline="optimizer 3"))["optimizer 3"].slot == 0
    for number, figure in found.figures.items():
        groups = {trace["legendgroup"] for trace in figure["data"]}
        assert len(groups) in (19, 20), number


def test_several_tasks_have_an_overview():
    first = Comparison(make_task("first"), 30, LOOKS, (make_result("base"), make_result("other", (0.9, 0.92, 0.91))))
    second = Comparison(make_task("second", target=None), 30, LOOKS, (make_result("base"),))
    found = parsed(make_record(first, second))
    assert found.column("first: accuracy, %") == {"base": ("81.0", "81"), "other": ("91.0 +", "91")}
    assert found.column("second")["other"] == ("-", "")
    assert found.column("first to target")["other"] == ("100", "100")  # of the tasks that have a target
    assert "the share of 1 task " in found.text
    links = [a["href"] for tag, a in found.elements if tag == "a"]
    options = [a["value"] for tag, a in found.elements if tag == "option" and a["value"]]
    assert links == ["#task-0", "#task-1"]
    assert {link.lstrip("#") for link in (*links, *options)} <= found.ids
    profile = found.figures["0"]["data"][0]
    assert (profile["x"][0], profile["x"][-1], set(profile["y"])) == (1, 16, {100})


def test_the_page_is_light_to_import():
    for name in ("page.py", "figures.py", "page_table.py", "drawing.py", "plot.py"):
        tree = ast.parse(Path(page.__file__).with_name(name).read_text())
        heads = [node for node in tree.body if isinstance(node, (ast.Import, ast.ImportFrom))]
        assert not any(re.search("plotly|matplotlib|scipy", ast.unparse(node)) for node in heads), name


@pytest.mark.parametrize(
    ("values", "log", "low", "high"),
    [
        ([0.1, 0.5, 0.9], False, 0.05, 0.95),
        ([2.0, 1.5, 1.2, 1.1, 1e30, math.inf, math.nan], False, 1.0, 2.2),
        ([1.0, 1e-2, 1e-4, 1e-6, 1e-8, 0.0, 1e200], True, 1e-9, 10),
        ([], True, 0, 1),
        ([math.nan], False, 0, 1),
        ([3.0], False, 2.9, 3.1),
        ([1e308, -1e308, 1.0, 2.0], False, 0.9, 2.1),
        ([1e-300, 1e299], True, 1e298, 1e300),
    ],
)
def test_an_axis_ends_where_most_values_do(values, log, low, high):
    found = axis(values, log=log)
    assert low <= found.low < found.high <= high
    assert found.log == (log and bool(values))
    for value in (-1e300, 0.0, 1e300, math.inf):
        assert found.shows(found.clipped(value))
        assert not found.shows(math.nan)
    assert all(map(math.isfinite, found.plotly()["range"]))


def test_an_axis_shows_what_matters():
    crowd = [0.9 + 0.001 * k for k in range(40)]
    assert axis([*crowd, 0.5]).low > 0.7
    assert axis([*crowd, 0.5], matter=[0.5]).low < 0.5
    assert axis([*crowd, -1e9], matter=[-1e9]).low > 0.7
