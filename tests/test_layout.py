"""The layout is a promise: rooms import upwards only, files are short, an optimizer's name stays at home."""

import ast
import re
from pathlib import Path

import pytest

import jaxopt_lectures as jol

ROOT = Path(jol.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))
# From the ground up: a room may import rooms before it, and its own files.
ROOMS = [
    "records",
    "terminal",
    "core",
    "linalg",
    "storage",
    "schedules",
    "clipping",
    "optimizers",
    "wrappers",
    "scaling",
    "kernels",
    "explanation",
    "solvers",
    "registry",
    "losses",
    "backprop",
    "models",
    "tasks",
    "planning",
    "diagnostics",
    "training",
    "tuning",
    "comparison",
    "cli",
]


def room(module):
    return module.split(".")[1] if "." in module else ""


def imports(path):
    """Our own modules that a file imports, at its top or later."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("jaxopt_lectures"):
            yield from (
                [node.module] if node.module != "jaxopt_lectures" else [f"jaxopt_lectures.{a.name}" for a in node.names]
            )
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.startswith("jaxopt_lectures"))


def module_of(path):
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_one_way(path):
    mine = room(module_of(path))
    if mine == "":
        return  # the package's own __init__ gathers the public names
    assert mine in ROOMS, f"{mine} is a new room: give it a place in ROOMS"
    for module in imports(path):
        other = room(module)
        assert ROOMS.index(other) <= ROOMS.index(mine), f"{path.name} imports {module}"


def test_no_circles():
    graph = {module_of(path): set(imports(path)) for path in FILES}
    done: set[str] = set()

    def visit(module, trail):
        assert module not in trail, f"circle: {' -> '.join([*trail, module])}"
        if module not in done:
            for other in graph.get(module, ()):
                if other != module:
                    visit(other, [*trail, module])
            done.add(module)

    for module in graph:
        visit(module, [])
    assert len(done) >= len(FILES)


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_files_are_short(path):
    limit = {"core": 300, "schedules": 400}.get(room(module_of(path)), 250)
    assert len(path.read_text().splitlines()) <= limit


NAMES = [card.name for card in jol.registry.cards()]


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_names_stay_at_home(path):
    """An optimizer's name stands in its family's file, the registry and the package's __init__, nowhere else."""
    mine = room(module_of(path))
    if mine in ("", "optimizers", "registry"):
        return
    tree = ast.parse(path.read_text())
    words = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    words |= {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    words |= {
        word
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and "\n" not in node.value
        for word in re.findall(r"\w+", node.value)
    }
    assert not words & set(NAMES) - {"momentum"}, "momentum is also a word"


def test_oracles_import_numpy_only():
    """An oracle that imports the code under test proves nothing."""
    for path in (ROOT.parent / "tests" / "oracles").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                assert {alias.name.split(".")[0] for alias in node.names} <= {"numpy", "importlib", "math"}, path
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                assert node.module.split(".")[0] in ("numpy", "collections", "__future__", "tests"), path


def test_import_is_light(tmp_path):
    """`import jaxopt_lectures` loads nothing heavy that optax does not load."""
    import subprocess
    import sys

    heavy = "flax orbax scipy sklearn matplotlib rich cyclopts optuna torch jax.experimental.pallas jax.ffi"
    code = "import sys, optax; before = set(sys.modules); import jaxopt_lectures; "
    code += f"print([m for m in {heavy.split()!r} if m in set(sys.modules) - before])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert out.stdout.strip() == "[]"
