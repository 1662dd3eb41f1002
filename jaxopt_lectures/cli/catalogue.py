"""The cards on a terminal: all in a table, one on a page."""

import inspect
import re
import textwrap
from collections.abc import Callable, Sequence
from functools import partial

import jax
import jax.numpy as jnp
from rich.table import Table

from jaxopt_lectures import registry
from jaxopt_lectures.cli.refusal import Refusal
from jaxopt_lectures.comparison.measures import state_bytes_per_parameter
from jaxopt_lectures.core.card import Card
from jaxopt_lectures.core.transformation import Transformation
from jaxopt_lectures.storage.codecs import CODECS
from jaxopt_lectures.storage.store import store
from jaxopt_lectures.tasks.task import Task
from jaxopt_lectures.terminal.console import Terminal, new_table

_INDENT = 4 * " "
_SHAPES = {
    "parameter": "shaped like the parameter",
    "scalar": "one number per parameter array",
    "factors": "matrices for each parameter",
    "tree": "one number for all parameters",
}


def print_list(terminal: Terminal, cards: Sequence[Card]) -> None:
    """One row for each card: source, place in the lectures, state, optax counterpart, what it does."""
    below = [f"{card.summary}{f'; {_twin(card)}' if card.twin else ''}" for card in cards]
    _print(terminal, partial(_listed, cards), below)


def print_tasks(terminal: Terminal, tasks: Sequence[Task]) -> None:
    """One row for each task: what it is, and when it counts as solved."""
    _print(terminal, partial(_listed_tasks, tasks), [task.summary for task in tasks])


def print_card(terminal: Terminal, card: Card, codec: str | None = None) -> None:
    """Everything that is known of one optimizer, in at most the terminal's width; its state in that codec."""
    if codec is not None and codec not in CODECS:
        raise Refusal(registry.unknown(codec, "codec", list(CODECS)))
    terminal.print(f"{card.name}: {card.summary}", style="bold")
    page = Table.grid(padding=(0, 2))
    page.add_column(style="bold", no_wrap=True)
    page.add_column()
    for title, paragraphs in _described(card, codec).items():
        page.add_row("", "")
        for index, paragraph in enumerate(paragraphs):
            page.add_row("" if index else title, paragraph)
    terminal.lines(*terminal.rendered(page, terminal.width))  # prose: wrapped in a pipe too


def _print(terminal: Terminal, made: Callable[[bool], Table], summaries: Sequence[str]) -> None:
    """A table with its summaries; in a narrow terminal each on a line of its own, under the row."""
    table = made(True)
    if terminal.fits(table):
        terminal.table(table)
        return
    header, rule, *rows = terminal.rendered(made(False))
    terminal.lines(header, rule)
    for row, summary in zip(rows, summaries, strict=True):
        terminal.lines(row, *textwrap.wrap(summary, terminal.width, initial_indent=_INDENT, subsequent_indent=_INDENT))


def _listed_tasks(tasks: Sequence[Task], with_summary: bool) -> Table:
    table = new_table()
    for header in ("task", "solved at", "what is trained on what")[: 3 if with_summary else 2]:
        table.add_column(header, no_wrap=True)
    for task in tasks:
        table.add_row(*(task.name, task.goal, task.summary)[: 3 if with_summary else 2])
    return table


def _listed(cards: Sequence[Card], with_summary: bool) -> Table:
    table = new_table()
    for header in ("optimizer", "source", "lectures"):
        table.add_column(header, no_wrap=True)
    table.add_column("state", justify="right", no_wrap=True)
    if with_summary:
        table.add_column("optax", no_wrap=True)
        table.add_column("what it does", no_wrap=True)
    for card in cards:
        lectures = " ".join(dict.fromkeys(place.split()[0] for place in card.lectures))
        cells = card.name, _cited(card), lectures or "-", f"{_state_bytes(card):.3g}"
        table.add_row(*cells, *([_twin(card), card.summary] if with_summary else []))
    return table


def _twin(card: Card) -> str:
    return card.twin.call.partition("(")[0] if card.twin else "-"


def _described(card: Card, codec: str | None) -> dict[str, list[str | Table]]:
    """The paragraphs of a card by title; titles without any are left out."""
    tx = card.factory(card.learning_rate)
    arguments = new_table()
    for header in ("argument", "default", "allowed", "searched"):
        arguments.add_column(header)
    for name, argument in inspect.signature(card.factory).parameters.items():
        default = "required" if argument.default is argument.empty else f"{argument.default}"
        allowed = tx.hypers[name].range.replace("[-inf, inf)", "any number") if name in tx.hypers else "-"
        space = card.space.get(name)
        searched = f"{space.low:g} to {space.high:g}, {space.scale}" if space else "-"
        arguments.add_row(name, default, allowed, searched)
    page: dict[str, list[str | Table]] = {
        "formula": [card.plain],
        "source": [card.source],
        "lectures": [*card.lectures],
        "errata": [*card.errata],
        "arguments": [arguments],
        "optax": [card.twin.call if card.twin else "has no counterpart"],
        "defaults": [*card.differs],
        "state": _state(card, tx, codec),
        "tags": [", ".join(card.tags)],
    }
    return {title: paragraphs for title, paragraphs in page.items() if paragraphs}


def _state(card: Card, tx: Transformation, codec: str | None) -> list[str | Table]:
    """The slots, the bytes they take, and those that they take in other codes."""
    code = CODECS[codec].code if codec else lambda nature: None
    lines: list[str | Table] = []
    for name, slot in tx.slots.items():
        kept = code(slot.nature) if slot.shape == "parameter" else None
        lines.append(f"{name}: {slot.nature}, {_SHAPES[slot.shape]}{f'; {kept}' if kept else ''}")
    if not any(slot.shape == "parameter" and slot.nature != "weights" for slot in tx.slots.values()):
        why = "every slot is weights" if tx.slots else "no slot is shaped like the parameters"
        nothing = f"; {why}, so {codec} changes nothing" if codec else ""
        return [*lines, f"{_state_bytes(card):.3g} bytes per parameter{nothing}"]
    if codec:
        lines.append(f"{codec}: {CODECS[codec].summary} ({CODECS[codec].source})")
        lines.append(f"{_state_bytes(card, codec):.3g} bytes per parameter, {_state_bytes(card):.3g} if not stored")
        lines.append(f'jol.store(jol.{card.name}({card.learning_rate:g}), "{codec}")')
        return lines
    stored = ", ".join(f"{_state_bytes(card, name):.3g} {name}" for name in ("bf16", "int8", "int4"))
    return [*lines, f"{_state_bytes(card):.3g} bytes per parameter; with jol.store {stored}"]


def _state_bytes(card: Card, codec: str = "f32") -> float:
    """Of a float32 parameter. Large, so that what is kept once for all parameters does not count."""
    parameter, tx = jax.ShapeDtypeStruct((1024, 1024), jnp.float32), card.factory(card.learning_rate)
    return state_bytes_per_parameter(tx if codec == "f32" else store(tx, codec), {"w": parameter})


def _cited(card: Card) -> str:
    """First author and year of the source, for a narrow column; the source itself where it has no year."""
    year = re.search(r"\b(1[89]|20)\d\d\b", card.source)
    author = re.split(r",| et al\.", card.source)[0].split()[-1]
    return f"{author} {year[0]}" if year else card.source
