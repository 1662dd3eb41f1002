"""The code that documents and examples show runs, and ends in the assertions it makes."""

import re
import runpy
from pathlib import Path

import jax
import matplotlib.pyplot as plt
import pytest

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCKS = [
    pytest.param(code, id=f"{page.name}-{index}")
    for page in PAGES
    for index, code in enumerate(re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL))
]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))


def test_there_is_something_to_run():
    assert BLOCKS
    assert EXAMPLES


@pytest.mark.parametrize("code", BLOCKS)
def test_page(code):
    with jax.numpy_dtype_promotion("standard"):  # a reader's own arithmetic
        names: dict = {"__name__": "page"}
        exec(compile(code, "page", "exec"), names)
    assert len(names) > 2


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda p: p.name)
def test_example(path, capsys):
    assert "assert" in path.read_text(), "an example ends in assertions of what it teaches"
    with jax.numpy_dtype_promotion("standard"), plt.rc_context():
        runpy.run_path(str(path), run_name="__main__")
    pictures = plt.get_fignums()
    plt.close("all")
    assert pictures
    assert capsys.readouterr().out
