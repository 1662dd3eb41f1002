"""What a kernel computes of one part of an array: the rules of a chain, one after the other, and the sum.

The rules and codes themselves are called here, so a kernel is never another text of the same formula: on CPU this is
traced and translated to C++, on GPU it is the body of a Pallas kernel.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import jax.numpy as jnp

from jaxopt_lectures.core.keeping import Own, Row
from jaxopt_lectures.core.step import Formula, step
from jaxopt_lectures.storage.blocks import Blocks
from jaxopt_lectures.storage.codes import Code, Encoded, Place, decode, encode
from jaxopt_lectures.storage.rounding import bits, summed, word_of

Slots = dict[str, Any]


@dataclass(frozen=True)
class PartKind:
    """What is known of one rule of a chain before it runs.

    Attributes:
      formula: the rule with its options.
      codes: for each slot its name and code, None where it is an array.
      reads: what the rule is given as the parameter: it, a 0 (masked), or None.
    """

    formula: Formula
    codes: tuple[tuple[str, Code | None], ...]
    reads: Literal["parameter", "zero", None]

    def read(self, p: Any) -> Any:
        """What the rule is given for the parameter `p`."""
        return {"parameter": p, "zero": jnp.zeros((), p.dtype), None: None}[self.reads]


@dataclass(frozen=True)
class Kind:
    """What leaves of one kernel have in common.

    Attributes:
      parts: the rules.
      g: dtype of the gradient.
      p: dtype of the parameter.
      slots: dtypes of what is kept, slot by slot of all parts: the array's, or the codes'.
      at_random: whether sums are rounded at random.
    """

    parts: tuple[PartKind, ...]
    g: str
    p: str
    slots: tuple[str, ...]
    at_random: bool

    @property
    def codes(self) -> list[Code | None]:
        """The code of each slot of all parts, in their order."""
        return [code for part in self.parts for _, code in part.codes]


class Leaf(NamedTuple):
    """One leaf, or a part of it: arrays only.

    Attributes:
      g: gradient.
      p: parameter.
      slots: of all parts, in the order of `Kind.codes`: arrays, or `(codes, scale)` with an index for each element
        (4-bit ones not packed) and None or a number for each block.
    """

    g: Any
    p: Any
    slots: tuple[Any, ...]


class Scalars(NamedTuple):
    """What does not depend on the element.

    Attributes:
      commons: for each part what its step gets: shared slots, hyper-parameters, t.
      words: (slots, 2) uint32, of the random bits of each slot, in the order of `Kind.codes`.
      rounding: (2,) uint32, of those of the sum; None where it is rounded to nearest.
    """

    commons: tuple[Any, ...]
    words: Any
    rounding: Any


def advanced(kind: Kind, leaf: Leaf, scalars: Scalars, index: Any, blocks: Blocks) -> tuple[Any, tuple[Any, ...]]:
    """The new parameter and slots.

    Args:
      kind: the rules.
      leaf: arrays of one shape.
      scalars: see there.
      index: the place of each element in its whole array, uint32.
      blocks: how the arrays are cut into blocks that share a scale.
    """
    update, fresh, place = leaf.g, [], 0
    for part, common in zip(kind.parts, scalars.commons, strict=True):
        old = {}
        for at, (name, code) in enumerate(part.codes):
            kept = leaf.slots[place + at]
            old[name] = kept if code is None else decode(code, kept[0], kept[1], blocks)
        update, new = step(part.formula, Own(update, old, part.read(leaf.p), None), common)
        for at, (name, code) in enumerate(part.codes):
            word = word_of(scalars.words, at, place)
            fresh.append(new[name] if code is None else encode(code, new[name], blocks, Place(index, word)))
        place += len(part.codes)
    random = None if scalars.rounding is None else bits(scalars.rounding, index)
    return summed(leaf.p, update, random), tuple(fresh)


def kind_of(rows: Sequence[Row], p: Any, at_random: bool) -> Kind:
    """The kind of a leaf, of its rows part by part; `p` is its parameter, the very object that the rows have."""
    parts, slots = [], []
    for row in rows:
        kept = sorted(row.own.slots.items())
        codes = tuple((name, slot.code if isinstance(slot, Encoded) else None) for name, slot in kept)
        slots += [str(getattr(getattr(slot, "codes", slot), "dtype", None)) for _, slot in kept]
        read = row.own.p
        reads: Any = None if read is None else "parameter" if read is p else "zero"
        parts.append(PartKind(row.formula, codes, reads))
    return Kind(
        tuple(parts), str(rows[0].own.g.dtype), str(p.dtype), tuple(slots), at_random and p.dtype != jnp.float32
    )
