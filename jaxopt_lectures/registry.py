"""The one list of the optimizers' cards; tables, tests, comparisons and searches read it."""

import difflib

from jaxopt_lectures.core.card import Card
from jaxopt_lectures.optimizers import (
    adadelta,
    adagrad,
    adam,
    adamax,
    amsgrad,
    cautious,
    lion,
    mars,
    momentum,
    muon,
    nesterov,
    psgd_kron,
    rmsprop,
    schedule_free,
    shampoo,
    soap,
)
from jaxopt_lectures.solvers.cards import CARDS as SOLVERS
from jaxopt_lectures.wrappers import sam

DEFAULT = "adam"
"""What is taken where nothing is asked for."""

_LECTURES = (momentum, nesterov, adagrad, rmsprop, adadelta, adam, adamax, amsgrad)
_FAMILIES = (*_LECTURES, lion, cautious, mars, schedule_free, muon, soap, shampoo, psgd_kron)
_CARDS = {card.name: card for family in _FAMILIES for card in family.CARDS}
_SOLVERS = {card.name: card for card in (*SOLVERS, *sam.CARDS)}


def cards() -> tuple[Card, ...]:
    """Every card of a method that steps by gradients alone, in the order of the lectures."""
    return tuple(_CARDS.values())


def solvers() -> tuple[Card, ...]:
    """Every card of a method that evaluates the function as well: `update` needs `value_fn`."""
    return tuple(_SOLVERS.values())


def get(name: str) -> Card:
    """The card of that name.

    Raises:
      KeyError: no such optimizer; the message has the nearest name, or all of them.
    """
    known = _CARDS | _SOLVERS
    if name not in known:
        raise KeyError(unknown(name, "optimizer", list(known)))
    return known[name]


def unknown(name: str, kind: str, known: list[str]) -> str:
    """One line on a name that does not exist: the nearest one that does, or all of them."""
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"
    return f"no {kind} is called {name!r}; {hint}"
