"""What is compared: a name of ours, one of optax, a file of the user's, or a function."""

import importlib
import importlib.util
import inspect
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import optax

from jaxopt_lectures import registry
from jaxopt_lectures.core.card import Card, Choice, Range
from jaxopt_lectures.tuning.space import BadSpace, Space, check_space

_RATE = "learning_rate"
_ANY_RATE = Range(1e-5, 1.0)
"""Where the rate of an optimizer is looked for of which nothing is known."""


class Unknown(ValueError):
    """There is no such optimizer; the message is a sentence for the user."""


@dataclass(frozen=True)
class Entry:
    """An optimizer to be compared.

    Attributes:
      name: what it is called in the report, and what its seed depends on.
      factory: gives the optimizer.
      space: where its arguments are looked for; empty where nothing is tuned.
      call: how the factory is written in code.
      fixed: arguments that are not tuned.
      card: where it has one.
      schedule: what a rate is made of, and how that is written; None where the rate is as it is.
    """

    name: str
    factory: Callable[..., Any]
    space: Space
    call: str
    fixed: Mapping[str, Any]
    card: Card | None = None
    schedule: tuple[Callable[[Any], Any], str] | None = None

    def build(self, **values: Any) -> Any:
        """The optimizer with these values; the rate goes through the schedule."""
        given = {**self.fixed, **values}
        if self.schedule is not None and _RATE in given:
            given[_RATE] = self.schedule[0](given[_RATE])
        return self.factory(**given)

    def code(self, values: Mapping[str, Any]) -> str:
        """What to paste for them."""
        given = {**self.fixed, **values}
        words = []
        for name, value in given.items():
            text = f"{value:.4g}" if isinstance(value, float) else repr(value)
            words.append(f"{name}={self.schedule[1].format(text) if self.schedule and name == _RATE else text}")
        return f"{self.call}({', '.join(words)})"


def entry(asked: Any) -> Entry:
    """What is asked for, ready to be compared.

    Args:
      asked: a name of `registry`, "optax:NAME", "FILE.py:NAME", "package.module:NAME", an `Entry`, a factory, a pair
        (name, factory), a triple (name, factory, space), or an optimizer, which is not tuned.

    Raises:
      Unknown: there is no such thing, or its file cannot be read.
    """
    if isinstance(asked, Entry):
        return asked
    if isinstance(asked, str):
        return _named(asked)
    if isinstance(asked, tuple) and not _is_optimizer(asked) and len(asked) in (2, 3) and isinstance(asked[0], str):
        made = _own(asked[0], asked[1], asked[0])
        return replace(made, space=dict(asked[2])) if len(asked) == 3 else made
    name = getattr(asked, "__name__", type(asked).__name__)
    return _own(name, asked, name)


def with_space(entries: Sequence[Entry], asked: Mapping[str, Range | Choice]) -> list[Entry]:
    """The entries with other places to look: "learning_rate" is everyone's who has it, "adam.b1" one's.

    Raises:
      BadSpace: a name that no entry has, or a space that cannot be searched.
    """
    entries = list(entries)
    for name, where in asked.items():
        owner, _, argument = name.rpartition(".")
        named = [index for index, one in enumerate(entries) if not owner or one.name == owner]
        mine = [index for index in named if argument in entries[index].space or (owner and named)]
        if not mine:
            mine = [index for index in named if argument in inspect.signature(entries[index].factory).parameters]
        if not mine:
            what = (
                f"optimizer {owner!r} to search for"
                if owner and not named
                else f"optimizer with an argument {argument!r}"
            )
            raise BadSpace(f"--space {name}: there is no {what}; compared are {', '.join(one.name for one in entries)}")
        for index in mine:
            entries[index] = replace(entries[index], space={**entries[index].space, argument: where})
            check_space(entries[index].space, entries[index].factory, entries[index].name)
    return entries


def scheduled(one: Entry, schedule: Callable[[Any], Any] | None, text: str) -> Entry:
    """The entry with its rate through that schedule, where it has a rate that is tuned."""
    if schedule is None or _RATE not in {**one.space, **one.fixed} or (one.card and "line search" in one.card.tags):
        return one
    return replace(one, schedule=(schedule, text))


def _named(name: str) -> Entry:
    if name.startswith("optax:"):
        factory = getattr(optax, name.removeprefix("optax:"), None)
        if not callable(factory):
            near = [n for n in dir(optax) if not n.startswith("_") and callable(getattr(optax, n))]
            raise Unknown(registry.unknown(name.removeprefix("optax:"), "optimizer of optax", near))
        return _own(name, factory, f"optax.{name.removeprefix('optax:')}")
    if ":" in name:
        return _own(name, _attribute(name), name.rpartition(":")[2])
    try:
        card = registry.get(name)
    except KeyError as error:
        raise Unknown(str(error.args[0])) from error
    fixed = {} if _RATE in card.space else {_RATE: card.learning_rate}
    return Entry(name, card.factory, card.space, f"jol.{name}", fixed, card)


def _own(name: str, found: Any, call: str) -> Entry:
    """Of a factory or an optimizer."""
    if _is_optimizer(found):
        return Entry(name, lambda: found, {}, call, {})
    if not callable(found):
        raise Unknown(f"{name} is a {type(found).__name__}; needed is an optimizer, or a function that gives one")
    arguments = inspect.signature(found).parameters
    ours = {card.factory: card for card in (*registry.cards(), *registry.solvers())}.get(found)
    if ours is not None:
        fixed = {} if _RATE in ours.space else {_RATE: ours.learning_rate}
        return Entry(name, found, ours.space, f"jol.{ours.name}", fixed, ours)
    short = re.sub(r"^optax:", "", name)
    known = {card.name: card for card in registry.cards()}.get(short)
    space: Space = {_RATE: _ANY_RATE} if _RATE in arguments else {}
    if known is not None and name.startswith("optax:"):
        space = {word: where for word, where in known.space.items() if word in arguments} or space
    return Entry(name, found, space, call, {})


def _is_optimizer(found: Any) -> bool:
    return callable(getattr(found, "init", None)) and callable(getattr(found, "update", None))


def _attribute(name: str) -> Any:
    """What a file or a module of the user's has under a name."""
    where, _, attribute = name.rpartition(":")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        if where.endswith(".py"):
            path = Path(where)
            if not path.is_file():
                raise Unknown(f"there is no file {where}")
            spec = importlib.util.spec_from_file_location(path.stem, path)
            assert spec is not None
            assert spec.loader is not None
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
        else:
            importlib.invalidate_caches()
            module = importlib.import_module(where)
    except Unknown:
        raise
    except SyntaxError as error:
        raise Unknown(f"{where} cannot be read: line {error.lineno}: {error.msg}") from error
    except Exception as error:
        raise Unknown(f"{where} cannot be imported: {type(error).__name__}: {error}") from error
    if not hasattr(module, attribute):
        public = [word for word in vars(module) if not word.startswith("_")]
        raise Unknown(registry.unknown(attribute, f"function in {where}", public))
    return getattr(module, attribute)
