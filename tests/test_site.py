"""The site: formulas become MathML, every card has a page, nothing comes from a network, tables are true."""

import importlib
import re
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxopt_lectures as jol
from jaxopt_lectures import tasks
from jaxopt_lectures.comparison.measures import state_bytes_per_parameter
from tests.conformance.cases import every_card

DOCS = Path(__file__).parent.parent / "docs"


@pytest.fixture
def extension(monkeypatch):
    """Gives a module of docs/_ext by name."""
    monkeypatch.syspath_prepend(DOCS / "_ext")
    return importlib.import_module


# ---- formulas


@every_card
def test_every_formula_becomes_mathml(card, extension):
    mathml = extension("mathml").convert(card.latex, block=True)
    assert mathml.startswith('<math display="block">')
    assert mathml.endswith("</math>")
    assert "munder" not in mathml, "an index stands beside its letter, with an accent too"
    assert mathml.count('accent="true"') == len(re.findall(r"\\(?:hat|bar|overline)\b", card.latex))


@pytest.mark.parametrize("latex", [r"\nosuch x", r"\frac{a", r"a} + b", r"\begin{aligned} a", "", r"\left( a"])
def test_a_wrong_formula_raises(latex, extension):
    with pytest.raises(ValueError, match=r"\w"):
        extension("mathml").convert(latex, block=True)


def test_what_authors_write(extension):
    """Paragraphs are aligned rows, as Sphinx has it; an accented letter takes an index and a power."""
    convert = extension("mathml").convert
    rows = convert("a &= b\n\nc &= d", block=True)
    assert rows.count("<mtr>") == 2
    assert 'displaystyle="true"' in rows
    assert convert("a &= b", block=True).count("<mtd>") == 2
    assert re.search(
        r"<msubsup>\s*<mover.*?</mover>\s*<mi>t</mi>\s*<mn>2</mn>", convert(r"\hat m_t^2", block=False), re.S
    )
    assert "…" in convert(r"1, \dots, n", block=False)
    assert "<mi>f</mi><mo>′′</mo>" in re.sub(r"\s", "", convert("f''(x)", block=False))
    assert convert(r"\lVert x \rVert^2", block=False).count('stretchy="false" lspace="0" rspace="0"') == 2


# ---- the reference


def test_every_card_has_a_page_and_every_public_name_an_entry(extension):
    pages = extension("reference").pages()
    for card in jol.registry.cards():
        page = pages[f"optimizers/{card.name}"]
        assert card.latex in page
        assert f"def {card.factory(card.learning_rate).rule.__name__}(" in page
        assert page.count("\n- ") == len(card.errata) + len(card.differs)
        assert f"`{card.twin.call}`" in page if card.twin else "has no counterpart" in page
        assert f"[{card.name}]({card.name}.md)" in pages["optimizers/index"]
    documented = re.findall(r":: jaxopt_lectures\.(\S+)", "\n".join(pages.values()))
    assert len(documented) == len(set(documented)), "each is documented once"
    elsewhere = {"Signed", "NonNegative", "registry", "apply_updates"}  # annotations, a module, optax's
    assert set(jol.__all__) - elsewhere <= set(documented)
    assert all(f"\n| `{name}` |" in pages["tasks"] for name in tasks.names())
    commands = re.findall(r"^## jaxopt-lectures (\S+)", pages["cli"], re.M)
    assert {"list", "show", "compare"} <= set(commands)


def test_the_rule_of_another_rule_comes_first(extension):
    rules = extension("reference").rules(jol.adamw(0.1).rule)
    assert [rule.__name__ for rule in rules] == ["adam_rule", "adamw_rule"]


def test_docstrings_in_plain_text(extension):
    """Formulas in indented paragraphs are code; sections and lists are left to others; bars and low lines are taken."""
    plain = extension("docstrings").plain
    assert plain(["Steps:", "", "    w <- w - g", "", "for |g| and w_."]) == [
        *["Steps:", "", "::", "", "    w <- w - g", "", r"for \|g\| and w\_."]
    ]
    for lines in (["Args:", "  x: a.", "", "  y: b."], [".. math::", "", "   |a|_b"], ["`|a|` is `w_`"]):
        assert plain(lines) == lines


# ---- no network


def test_no_address_in_the_configuration():
    for path in (DOCS / "conf.py", *(DOCS / "_ext").glob("*.py"), *(DOCS / "_static").glob("*.css")):
        addresses = re.findall(r"https?://\S+", path.read_text())
        assert set(addresses) <= {'http://www.w3.org/1998/Math/MathML"'}, path  # a name space's name
        assert "@import" not in path.read_text()


FETCHED = re.compile(
    r"<(?:script|link|img|iframe|source)\b[^>]*?(?:src|href)\s*=\s*[\"']?(?:https?:)?//", re.IGNORECASE
)

PAGE = r"""# A page

The rate $\eta$, a wrong formula $\nosuch$, `jol.adam`, [source](../jaxopt_lectures/optimizers/adam.py).

```{toctree}
reference/optimizers/adam
```
"""


def test_a_built_page_fetches_nothing(tmp_path):
    """A site of two pages, without the gallery. Its one warning is of the wrong formula."""
    source, html = tmp_path / "docs", tmp_path / "html"
    source.mkdir()
    (source / "index.md").write_text(PAGE)
    (tmp_path / "jaxopt_lectures").symlink_to(Path(jol.__file__).parent)
    command = [sys.executable, "-m", "sphinx", "-q", "-t", "without_gallery", "-c", DOCS]
    command += ["-D", "nitpicky=0", "-D", "reference_only=optimizers/adam", source, html]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    warnings = [line for line in done.stderr.splitlines() if "WARNING" in line or "ERROR" in line]
    assert len(warnings) == 1, done.stderr
    assert r"this formula cannot be converted to MathML: \nosuch: Unknown LaTeX command" in warnings[0]
    pages = {path.relative_to(html).as_posix(): path.read_text() for path in html.rglob("*.html")}
    for name, text in pages.items():
        assert not FETCHED.search(text), name
    for path in html.rglob("*.css"):
        assert not re.search(r"(?:url\(|@import)\s*[\"']?(?:https?:)?//", path.read_text()), path
    index, adam = pages["index.html"], pages["reference/optimizers/adam.html"]
    assert "<mi>η</mi>" in index
    assert 'href="reference/optimizers/adam.html#jaxopt_lectures.adam"' in index
    assert 'href="_modules/jaxopt_lectures/optimizers/adam.html"' in index
    assert "_modules/jaxopt_lectures/optimizers/adam.html" in pages
    assert '<mtable class="ams-align" displaystyle="true">' in adam
    assert "Number | Schedule" in re.sub(r"<[^>]+>", "", adam)


# ---- what the pages say


def code_rows(page, title):
    """The two code cells of each row of the first table after `title`."""
    table = (DOCS / page).read_text().partition(f"\n| {title} ")[2].partition("\n\n")[0]
    return re.findall(r"^\| `([^`]+)`[^|`]*\| `([^`]+)` \|$", table, re.M)


def test_which_optimizer_names_each_with_its_state():
    text = (DOCS / "which-optimizer.md").read_text()
    told = dict(re.findall(r"^\| `jol\.(\w+)` \|.*\| (\d+) \|$", text, re.M))
    parameter = {"w": jax.ShapeDtypeStruct((1024, 1024), jnp.float32)}
    found = {c.name: state_bytes_per_parameter(c.factory(c.learning_rate), parameter) for c in jol.registry.cards()}
    assert {name: round(state) for name, state in found.items()} == {name: int(state) for name, state in told.items()}


NAMES = {"lr": 1e-2, "wd": 0.1, "m": 0.8, "b1": 0.8, "b2": 0.95, "eps": 1e-2, "a": 0.9, "d": 0.1, "g": 0.5}
NAMES |= {"low": 1e-3, "high": 0.1, "jol": jol, "optax": optax}
CURVATURE, START = np.linspace(1.0, 5.0, 20), np.linspace(-2.5, 2.5, 20)


def ours(tx, steps=30):
    w, step = jnp.asarray(START), jax.jit(tx.update)
    with jax.numpy_dtype_promotion("standard"):  # a reader's own arithmetic
        state = tx.init(w)
        for _ in range(steps):
            updates, state = step(CURVATURE * w, state, w)
            w = w + updates
    return np.asarray(w)


def theirs(torch, make, schedule=None, steps=30):
    w = torch.tensor(START, requires_grad=True)
    optimizer = make(w)
    scheduler = schedule and schedule(optimizer)
    for _ in range(steps):
        w.grad = torch.tensor(CURVATURE * w.detach().numpy())
        optimizer.step()
        if scheduler:
            scheduler.step()
    return w.detach().numpy()


@pytest.mark.parametrize(("their", "our"), code_rows("coming-from-torch.md", "`torch.optim`"))
def test_the_same_steps_as_torch(their, our, x64):
    """30 steps of a few roundings each: far below 1e-10."""
    torch = pytest.importorskip("torch", reason="torch is a twin in tests only; pip install torch==2.13.0")
    names = vars(torch.optim) | NAMES
    end = ours(eval(our, dict(NAMES)))
    np.testing.assert_allclose(end, theirs(torch, lambda w: eval(their, names | {"p": [w]})), rtol=0, atol=1e-10)
    assert np.max(np.abs(end - START)) > 1e-3, "it moved"


@pytest.mark.parametrize(("their", "our"), code_rows("coming-from-torch.md", "`torch.optim.lr_scheduler`"))
def test_the_same_schedules_as_torch(their, our, x64):
    """Through 30 steps of gradient descent."""
    torch = pytest.importorskip("torch", reason="torch is a twin in tests only; pip install torch==2.13.0")
    names = vars(torch.optim.lr_scheduler) | NAMES
    rate = NAMES["low"] if "CyclicLR" in their else NAMES["lr"]
    end = ours(jol.sgd(eval(our, dict(NAMES))))
    other = theirs(torch, lambda w: torch.optim.SGD([w], rate), lambda o: eval(their, names | {"o": o}))
    np.testing.assert_allclose(end, other, rtol=0, atol=1e-10)


def test_there_are_rows():
    assert len(code_rows("coming-from-torch.md", "`torch.optim`")) >= 14
    assert len(code_rows("coming-from-torch.md", "`torch.optim.lr_scheduler`")) >= 9
