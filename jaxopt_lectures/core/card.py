"""The card of an optimizer: everything a table, a page, a test or a search needs to know about it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import optax


@dataclass(frozen=True)
class Range:
    """Where a search looks for a hyper-parameter: between `low` and `high`, evenly or on a logarithmic scale."""

    low: float
    high: float
    scale: Literal["linear", "log"] = "log"


@dataclass(frozen=True)
class Choice:
    """What a search chooses one of: whatever is no number on a scale. Every combination is a program of its own."""

    values: tuple[Any, ...]


@dataclass(frozen=True)
class Twin:
    """The optax optimizer that takes the same steps.

    `call` is the expression a reader can paste; `factory` builds it from those of our arguments that optax has too.
    """

    call: str
    factory: Callable[..., optax.GradientTransformation]


@dataclass(frozen=True)
class Card:
    """One optimizer. Whoever lists, shows, tests, compares or tunes optimizers reads cards and knows no names.

    Attributes:
      name: the public name, also that of the factory.
      factory: builds the transformation; every argument but `learning_rate` has a default.
      summary: one line.
      plain: the formula for a terminal, one assignment a line.
      latex: the formula for a page.
      source: author, title, year, arXiv id or pages, algorithm.
      lectures: where the lectures have it, file and place.
      errata: what is misprinted there, and what that does.
      differs: how the defaults of optax and torch differ from ours or from each other.
      twin: the optax counterpart, None where optax has none.
      learning_rate: a typical rate for a small network, used where no one has tuned it.
      space: where a search looks, by argument.
      off_neutral: arguments at which no term of the formula drops out; tests use them.
      tags: words to filter by.
      code: the functions that are the formula, where that is not the transformation's rule.
    """

    name: str
    factory: Callable[..., Any]
    summary: str
    plain: str
    latex: str
    source: str
    lectures: tuple[str, ...] = ()
    errata: tuple[str, ...] = ()
    differs: tuple[str, ...] = ()
    twin: Twin | None = None
    learning_rate: float = 1e-3
    space: Mapping[str, Range] = field(default_factory=dict)
    off_neutral: Mapping[str, Any] = field(default_factory=dict)
    tags: tuple[str, ...] = ()
    code: tuple[Callable[..., Any], ...] = ()
