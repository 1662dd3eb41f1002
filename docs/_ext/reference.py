"""The reference pages, written before Sphinx reads: one for each card of the registry, one for each room.

What is new in the package, an optimizer, a task or a module, gets its page unasked; `ORDER` names rooms only to say
which come first.
"""

import importlib
import inspect
import pkgutil
import re
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
from docutils import nodes
from docutils.statemachine import StringList
from sphinx.util.docutils import SphinxDirective

import jaxopt_lectures as jol
from jaxopt_lectures import tasks
from jaxopt_lectures.comparison.measures import state_bytes_per_parameter
from jaxopt_lectures.core.card import Card

FOLDER = "reference"
# From what one needs first. Rooms that are not named here follow.
ORDER = (
    "schedules",
    "clipping",
    "wrappers",
    "scaling",
    "kernels",
    "explanation",
    "storage",
    "solvers",
    "losses",
    "backprop",
    "models",
    "tasks",
    "planning",
    "diagnostics",
    "training",
    "tuning",
    "comparison",
    "core",
    "records",
    "terminal",
)
SHAPES = {
    "parameter": "shaped like the parameter",
    "scalar": "one number per array",
    "factors": "matrices for each parameter",
    "tree": "one number for all",
}


def pages(shown: Callable[[str], bool] = lambda name: False, wanted: Sequence[str] = ()) -> dict[str, str]:
    """The pages' texts by their paths under the folder, without the ending.

    Args:
      shown: whether the gallery shows the optimizer of that name.
      wanted: the pages to write, by path; all if empty.
    """
    rooms = {room.__name__.split(".")[1]: room for room in _rooms()}
    makers: dict[str, Callable[[], str]] = {
        "index": partial(_index, rooms),
        "optimizers/index": _optimizers,
        **{f"optimizers/{c.name}": partial(optimizer_page, c, shown(c.name)) for c in _all_cards()},
        **{name: partial(room_page, room) for name, room in rooms.items()},
        "cli": command_line_page,
    }
    return {name: make() for name, make in makers.items() if not wanted or name in wanted}


def optimizer_page(card: Card, in_gallery: bool = False) -> str:
    """All that is known of an optimizer: formula, code, sources, errata, arguments, state, counterparts, uses."""
    tx = card.factory(card.learning_rate)
    lectures = [f"lecture {escaped(place)}" for place in card.lectures] or ["in none of the five"]
    twin = f"`{card.twin.call}`" if card.twin else "it has no counterpart"
    parts = [
        f"# {card.name}",
        f"{escaped(card.summary[0].upper() + card.summary[1:])}.",
        f"```{{math}}\n{card.latex}\n```",
        f"The code that is this formula, {_place(card)}:",
        *[f"```python\n{inspect.cleandoc(inspect.getsource(code))}\n```" for code in (card.code or rules(tx.rule))],
        _table([("Source", escaped(card.source)), ("Lectures", "; ".join(lectures)), ("In optax", twin)], ("", "")),
        "## Use",
        _directive("autofunction", f"jaxopt_lectures.{card.name}"),
        "Every number may be a Python number, a scalar array, traced too, or a schedule of the step count.",
        _table(list(_arguments(card, tx)), ("argument", "default", "allowed", "a search looks at")),
        *_listed("Errata of the lectures", card.errata),
        *_listed("Other defaults, other conventions", card.differs),
        "## State",
        f"{_state_bytes(card)} bytes for each parameter, which itself takes 4. {_sentence(tx.slots)}",
        _table([(f"`{name}`", slot.nature, SHAPES[slot.shape]) for name, slot in tx.slots.items()]) if tx.slots else "",
    ]
    if in_gallery:
        parts += ["## In the gallery", _directive("minigallery", f"jaxopt_lectures.{card.name}")]
    return "\n\n".join(part for part in parts if part) + "\n"


def rules(rule: Callable[..., Any] | None) -> Iterator[Callable[..., Any]]:
    """The rule, after the rules of its own module that it calls."""
    if rule is None:
        return
    for name in rule.__code__.co_names:
        called = rule.__globals__.get(name)
        if name.endswith("_rule") and inspect.isfunction(called):
            yield from rules(called)
    yield rule


def room_page(room: ModuleType) -> str:
    """A room: what it is for, then its modules with all that is public in them."""
    parts = [f"# {_title(room)}", described(room), *([tasks_table()] if room is tasks else []), *_entries(room)]
    for module in _modules(room):
        if entries := list(_entries(module)):
            parts += [f"## {module.__name__.split('.', 2)[2]}", described(module), *entries]
    return "\n\n".join(parts) + "\n"


def tasks_table() -> str:
    """Each task in a row."""
    rows = []
    for name in tasks.names():
        task = tasks.get(name, data_dir="." if tasks.reads_files(name) else None)
        own = "yours" if tasks.reads_files(name) else "included"
        rows.append(
            (f"`{name}`", escaped(task.summary), own, str(task.batch_size), str(task.steps), escaped(task.goal))
        )
    return _table(rows, ("task", "what is trained on what", "data", "batch", "steps", "solved at"))


def command_line_page() -> str:
    """What `--help` says, of every command."""
    from jaxopt_lectures.cli.app import app

    text = app.generate_docs(output_format="markdown").replace(" -m sphinx", "")  # how the site's own program was run
    text = re.sub(r"## Table of Contents\n+(?:\s*-.*\n)+\n*", "", text)
    return text.replace("# jaxopt-lectures\n", "# Command line\n", 1)


def described(module: ModuleType) -> str:
    """A module's docstring as Markdown: its indented formulas are code there, too."""
    return inspect.getdoc(module) or ""


def escaped(text: str) -> str:
    """Plain text that Markdown would read as something else: stars, lines below, brackets, angles, bars."""
    return re.sub(r"([\\`*_{}\[\]<>$|#~])", r"\\\1", text)


class Twins(SphinxDirective):
    """The table of optax's expressions and ours, from the cards."""

    def run(self) -> list[nodes.Node]:
        """The parsed table."""
        box = nodes.container()
        self.state.nested_parse(StringList(twins().splitlines(), source="the cards"), 0, box)
        return box.children


def twins() -> str:
    """Each card's counterpart, and the arguments that only ours has."""
    rows = []
    for card in jol.registry.cards():
        call = f"`{card.twin.call}`" if card.twin else "has none"
        ours = inspect.signature(card.factory).parameters
        theirs = re.findall(r"\w+", card.twin.call) if card.twin else list(ours)
        more = ", ".join(f"`{name}`" for name in ours if name not in theirs) or "-"
        rows.append((f"`jol.{card.name}`", call, more))
    return _table(rows, ("here", "in optax", "not compared, or only here"))


def write(app: Any) -> None:
    """Writes what has changed, and removes pages of what is gone."""
    folder = Path(app.srcdir, FOLDER)
    uses = Path(app.srcdir, "gallery", "backreferences")

    def shown(name: str) -> bool:
        file = uses / f"jaxopt_lectures.{name}.examples"
        return "sphinx_gallery.gen_gallery" in app.extensions and file.exists() and file.stat().st_size > 0

    texts = {folder / f"{name}.md": text for name, text in pages(shown, app.config.reference_only).items()}
    for path in set(folder.rglob("*.md")) - set(texts):
        path.unlink()
    for path, text in texts.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists() or path.read_text() != text:
            path.write_text(text)


def setup(app: Any) -> dict[str, Any]:
    """After the gallery has run, before Sphinx looks for its pages."""
    app.add_config_value("reference_only", [], "env", [list])  # a few pages by name, for a quick build
    app.connect("builder-inited", write, priority=900)
    app.add_directive("twins", Twins)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _index(rooms: dict[str, ModuleType]) -> str:
    rows = [("[optimizers](optimizers/index.md)", "Every optimizer: formula, code, sources, errata, state.")]
    rows += [(f"[{name}]({name}.md)", _first_line(room)) for name, room in rooms.items()]
    rows += [("[command line](cli.md)", "What `jaxopt-lectures --help` says of every command.")]
    names = ["optimizers/index", *rooms, "cli"]
    return "\n\n".join(
        [
            "# Reference",
            "Import the package as `import jaxopt_lectures as jol`; the optimizers, schedules and clips, `jol.chain`, "
            "`jol.from_rule` and what belongs to them are in `jol`, all else is in the module that its heading names.",
            _table(rows, ("", "")),
            _toctree(names),
        ]
    )


def _optimizers() -> str:
    rows = []
    for card in _all_cards():
        lectures = " ".join(dict.fromkeys(place.split()[0] for place in card.lectures)) or "-"
        twin = f"`{card.twin.call.partition('(')[0]}`" if card.twin else "-"
        rows.append((f"[{card.name}]({card.name}.md)", escaped(card.summary), lectures, _state_bytes(card), twin))
    return "\n\n".join(
        [
            "# Optimizers",
            "In the order of the lectures. State is in bytes per parameter, which itself takes four.",
            _table(rows, ("", "what it does", "lectures", "state", "optax")),
            _toctree([card.name for card in _all_cards()]),
        ]
    )


def _all_cards() -> list[Card]:
    return [*jol.registry.cards(), *jol.registry.solvers()]


def _place(card: Card) -> str:
    if card.code:
        whole = "vectors" if "line search" in card.tags else "all parameters together"
        return f"for {whole}, from {_source_link(card.code[0])}"
    return f"for one array, from {_source_link(card.factory)}"


def _rooms() -> Iterator[ModuleType]:
    """The package's rooms in the order of the pages; the optimizers and the command line have pages of their own."""
    names = [info.name for info in pkgutil.iter_modules(jol.__path__)]
    names = [name for name in ORDER if name in names] + sorted(set(names) - set(ORDER))
    for name in names:
        if name not in ("optimizers", "cli") and not name.startswith("_"):
            yield importlib.import_module(f"jaxopt_lectures.{name}")


def _modules(room: ModuleType) -> Iterator[ModuleType]:
    for info in pkgutil.walk_packages(getattr(room, "__path__", ()), f"{room.__name__}."):
        if not info.name.rpartition(".")[2].startswith("_"):
            yield importlib.import_module(info.name)


def _entries(module: ModuleType) -> Iterator[str]:
    """A directive for each public function and class that was written in this module, those of `jol` first."""
    members = [(name, value) for name, value in vars(module).items() if not name.startswith("_")]
    own = [(n, v) for n, v in members if getattr(v, "__module__", None) == module.__name__ and callable(v)]
    own = [(n, v) for n, v in own if n not in {card.name for card in jol.registry.solvers()}]  # they have pages
    public = [(n, v) for n, v in own if getattr(jol, n, None) is v and n in jol.__all__]
    for name, value in [*public, *[member for member in own if member not in public]]:
        full = f"jaxopt_lectures.{name}" if (name, value) in public else f"{module.__name__}.{name}"
        if inspect.isclass(value):
            yield _directive("autoclass", full, ":members:", ":special-members: __call__")
        elif callable(value):
            yield _directive("autofunction", full)
    foreign = [(n, v) for n, v in members if n in getattr(module, "__all__", ()) and _home(v) != "jaxopt_lectures"]
    for home in dict.fromkeys(getattr(v, "__module__", "") for _, v in foreign):
        names = ", ".join(f"`{n}`" for n, v in foreign if getattr(v, "__module__", "") == home)
        yield f"From `{home}`: {names}."


def _home(value: Any) -> str:
    return str(getattr(value, "__module__", "")).partition(".")[0]


def _arguments(card: Card, tx: Any) -> Iterator[tuple[str, ...]]:
    for name, argument in inspect.signature(card.factory).parameters.items():
        default = "required" if argument.default is argument.empty else f"`{argument.default}`"
        allowed = tx.hypers[name].range.replace("[-inf, inf)", "any number") if name in tx.hypers else "-"
        space = card.space.get(name)
        searched = f"{space.low:g} to {space.high:g}, {space.scale}" if space else "-"
        yield f"`{name}`", default, escaped(allowed), searched


def _listed(title: str, lines: tuple[str, ...]) -> list[str]:
    return [f"## {title}", "\n".join(f"- {escaped(line)}" for line in lines)] if lines else []


def _sentence(slots: Any) -> str:
    return "Slots by their field in the state:" if slots else "It keeps a step count, no slots."


def _state_bytes(card: Card) -> str:
    parameter = jax.ShapeDtypeStruct((1024, 1024), jnp.float32)  # large: what is kept once for all does not count
    return f"{state_bytes_per_parameter(card.factory(card.learning_rate), {'w': parameter}):.3g}"


def _source_link(factory: Callable[..., Any]) -> str:
    path = factory.__module__.replace(".", "/") + ".py"
    return f"[{path.removeprefix('jaxopt_lectures/')}](../../../{path})"


def _directive(kind: str, name: str, *options: str) -> str:
    lines = "".join(f"\n   {option}" for option in options)
    return f"```{{eval-rst}}\n.. {kind}:: {name}{lines}\n```"


def _table(rows: list[tuple[str, ...]], header: tuple[str, ...] | None = None) -> str:
    header = header or ("slot", "sign", "shape")
    lines = [header, ("---",) * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _toctree(names: list[str]) -> str:
    return "\n".join(["```{toctree}", ":hidden:", "", *names, "```"]) + "\n"


def _title(room: ModuleType) -> str:
    return room.__name__.split(".")[1].capitalize()


def _first_line(module: ModuleType) -> str:
    return described(module).partition("\n")[0]
