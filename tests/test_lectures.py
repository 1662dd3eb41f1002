"""The table of the lectures is complete: no empty cell, no link to nothing, no name that does not exist."""

import ast
import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "lectures.md"
HEADER = ["Lecture", "Topic, as printed", "What is right", "Where"]
LINK = re.compile(r"\[([^\]]+)\]\(([^)\s]+)\)")

# What the five lectures teach, in the order of the page; each must have a row whose topic begins so.
TOPICS = """
Artificial neuron; Perceptron; Sigmoid; Tanh; XOR; Feed-forward; Classes and labels; Mean squared error;
Mean absolute error; Cross-entropy; Cost of all samples; Output error; Four equations; Layer by layer;
Unstable gradients; Back-propagation; Vanishing and exploding gradients; Batch normalization; Gradient clipping;
Valleys; Local minima and saddle points; Second-order methods; Overfitting; Network design; Hyper-parameters;
Computationally expensive; Convolutions; ResNet, VGG; LSTM, GRU; Representation learning; Large networks;
Gradient descent; Stochastic gradient descent; Mini-batch; A single image; Scheduled learning; Momentum, rate inside;
Momentum, rate outside; What momentum is for; Nesterov; "Slowly increasing schedule";
"Well-designed random initialization"; AdaGrad; AdaGrad; RMSProp; AdaDelta; AdaDelta; AdaDelta's claims; Adam;
Adam's claims; "ADAM is very good to start with"; BFGS; L-BFGS; What artificial intelligence; A newborn; The loss
"""


def rows():
    """Every row of the tables, as a list of cells."""
    lines = [line for line in PAGE.read_text().splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [row for row in cells if row != HEADER and not set("".join(row)) <= set("-")]


ROWS = [pytest.param(row, id=re.sub(r"\W+", "-", row[1])[:40]) for row in rows()]
LINKS = sorted({link for row in rows() for link in LINK.findall(row[3])})


def test_every_topic_has_its_row():
    found = [re.match(r"\*\*(.+?)\*\*", row[1])[1] for row in rows()]
    wanted = [" ".join(topic.split()) for topic in TOPICS.split(";")]
    assert len(found) == len(wanted)
    for topic, begins in zip(found, wanted, strict=True):
        assert topic.startswith(begins)


def test_every_table_has_the_same_columns():
    lines = PAGE.read_text().splitlines()
    tables = [line for before, line in zip(["", *lines[:-1]], lines, strict=True) if line[:1] == "|" != before[:1]]
    assert len(tables) == len([line for line in lines if line.startswith("## ")])
    assert {line for line in tables} == {"| " + " | ".join(HEADER) + " |"}


@pytest.mark.parametrize("row", ROWS)
def test_no_cell_is_empty(row):
    lectures, topic, right, where = row  # a fifth cell would be a stray bar, in a formula perhaps
    assert re.fullmatch(r"00[0-4](, 00[0-4])*", lectures)
    assert lectures.split(", ") == sorted(set(lectures.split(", ")))
    assert topic.startswith("**")
    assert len(right) > 10
    assert right.endswith(".")
    for cell in row:
        assert cell.count("$") % 2 == 0, "a formula without an end"
        assert cell.count("`") % 2 == 0, "code without an end"
        assert cell.count("{") == cell.count("}"), "a bracket without its pair"
    assert LINK.findall(where)
    assert re.fullmatch(r"(\[[^\]]+\]\([^)]+\)(, )?)+", where), "nothing but links"


@pytest.mark.parametrize(("text", "target"), LINKS, ids=lambda value: value.split("/")[-1].strip("`"))
def test_every_link_leads_somewhere(text, target):
    """A name in code type is one of the file it is linked to."""
    path = (PAGE.parent / target).resolve()
    assert path.is_file(), f"{target} does not exist"
    assert path.suffix == ".py"
    inside = path.relative_to(ROOT)
    if text.startswith("`"):
        name = text.strip("`")
        if inside.parts[0] == "tests":
            defined = {node.name for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.FunctionDef)}
            assert name in defined
        else:
            module = importlib.import_module(".".join(inside.with_suffix("").parts))
            assert callable(getattr(module, name))
            assert getattr(module, name).__module__ == module.__name__, "linked to where it is written"
    else:
        assert inside.parts[0] == "examples", "pages are named in words, functions in code type"


def test_every_page_of_the_gallery_is_linked():
    pages = {path.name for path in (ROOT / "examples").glob("*.py")}
    assert pages == {Path(target).name for _, target in LINKS if "/examples/" in target}


def test_one_text_for_one_page():
    by_page: dict[str, set] = {}
    for text, target in LINKS:
        if "/examples/" in target:
            by_page.setdefault(target, set()).add(text)
    assert {target: texts for target, texts in by_page.items() if len(texts) > 1} == {}


def test_names_of_other_libraries_exist():
    found = set(re.findall(r"`(optax|jax|flax)\.([\w.]+)`", PAGE.read_text()))
    assert ("optax", "l2_loss") in found
    for library, name in found:
        assert callable(getattr(importlib.import_module(library), name))
