"""What to change so that a training run fits."""

import dataclasses
import itertools
from collections.abc import Iterator
from typing import Any

from jaxopt_lectures.planning.measuring import Bytes, Choice, Measuring


@dataclasses.dataclass(frozen=True)
class Change:
    """One change of a plan, or several.

    Attributes:
      what: in words: "int8 state".
      after: bytes on each device after it.
      saves: share of all bytes that it saves, from 0 to 1.
    """

    what: str
    after: Bytes
    saves: float


_LEAST = 0.005
"""Share below which a change is not worth a line."""

# In the order of what they cost: nothing but messages between devices, then time, then digits.
_OPTIONS: tuple[tuple[str, Any, str], ...] = (
    ("zero", 1, "state cut (zero=1)"),
    ("zero", 3, "parameters cut too (zero=3)"),
    ("again", True, "blocks rematerialized"),
    ("code", "int8", "int8 state"),
    ("dtype", "bfloat16", "bfloat16 parameters"),
    ("code", "int4", "int4 state"),
)


def changes_of(
    measuring: Measuring, choice: Choice, memory: int | None
) -> tuple[tuple[Change, ...], Change | None, int]:
    """Each single change that saves something; the least that makes the run fit; the fewest bytes that can be had.

    Args:
      measuring: of the run.
      choice: what is chosen so far.
      memory: bytes of each device; None if nothing must fit.

    Returns:
      The changes; the one, or the combination of fewest and cheapest ones, after which the run fits, None if it does or
      none makes it; the bytes after all of them.
    """
    now = measuring(choice).total

    def change(picked: tuple[int, ...]) -> Change | None:
        """That of these options; None where the optimizer cannot be kept so."""
        asked = dataclasses.replace(choice, **{_OPTIONS[place][0]: _OPTIONS[place][1] for place in picked})
        try:
            after = measuring(asked)
        except ValueError:
            return None
        return Change(", ".join(_OPTIONS[place][2] for place in picked), after, 1 - after.total / now)

    useful = {}
    for place in _open(measuring, choice):
        found = change((place,))
        if found is not None and found.saves >= _LEAST:
            useful[place] = found
    singles = tuple(sorted(useful.values(), key=lambda found: found.after.total))
    strongest = {_OPTIONS[place][0]: place for place in useful}  # later ones of a kind save more
    fewest = change(tuple(strongest.values())) if strongest else None
    least = min([now, *(found.after.total for found in (*singles, *([fewest] if fewest else [])))])
    if memory is None or now <= memory or least > memory:
        return singles, None, least
    for count in range(1, len(strongest) + 1):
        for picked in itertools.combinations(useful, count):
            if len({_OPTIONS[place][0] for place in picked}) == count:
                found = change(picked)
                if found is not None and found.after.total <= memory:
                    return singles, found, least
    return singles, None, least


def _open(measuring: Measuring, choice: Choice) -> Iterator[int]:
    """The options that are not chosen yet, and mean something here."""
    for place, (kind, value, _) in enumerate(_OPTIONS):
        if kind == "zero" and (measuring.parts == 1 or choice.zero >= value):
            continue
        if kind == "again" and (choice.again or not measuring.subject.repeats):
            continue
        if kind == "code" and (choice.code == value or choice.code == "int4"):
            continue
        if kind == "dtype" and not measuring.wide(choice):
            continue
        yield place
