"""What a transformation does with each parameter, and what it keeps for it, as a table."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxopt_lectures.core.paths import path_text
from jaxopt_lectures.core.transformation import Transformation, check_transformation
from jaxopt_lectures.storage.foreign import leaves_of
from jaxopt_lectures.wrappers.wrapped import foreign_name, treated


@dataclass(frozen=True)
class Row:
    """One parameter.

    Attributes:
      path: where it stands, "encoder/0/kernel".
      shape: its shape.
      dtype: its dtype.
      treatment: what is done with it, in words.
      state_bytes: what is kept for it.
    """

    path: str
    shape: tuple[int, ...]
    dtype: str
    treatment: str
    state_bytes: int


@dataclass(frozen=True)
class Explanation:
    """What `explain` found; its text is a table.

    Attributes:
      rows: one for each parameter, in their order.
      shared_bytes: what is kept for all parameters together: counts, norms.
      notes: what cannot be seen into, and what follows from it.
    """

    rows: tuple[Row, ...]
    shared_bytes: int
    notes: tuple[str, ...]

    @property
    def state_bytes(self) -> int:
        """All that is kept."""
        return self.shared_bytes + sum(row.state_bytes for row in self.rows)

    def __str__(self) -> str:
        """The table, with parameters that differ only in numbers of their path in one line."""
        folded: dict[tuple[Any, ...], list[Row]] = {}
        for row in self.rows:
            alike = re.sub(r"\d+", "*", row.path), row.shape, row.dtype, row.treatment, row.state_bytes
            folded.setdefault(alike, []).append(row)
        lines = [("parameter", "shape", "dtype", "treatment", "state")]
        for (pattern, shape, dtype, treatment, size), rows in folded.items():
            path = f"{pattern} (x {len(rows)})" if len(rows) > 1 else rows[0].path or "(the array)"
            lines.append((path, str(shape), dtype, treatment, _size(size * len(rows))))
        if self.shared_bytes:
            lines.append(("(shared)", "", "", "", _size(self.shared_bytes)))
        lines.append((f"{len(self.rows)} parameters", "", "", "", _size(self.state_bytes)))
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        left = ["  ".join(map(str.ljust, line[:-1], widths)) + "  " + line[-1].rjust(widths[-1]) for line in lines]
        return "\n".join([*left, *(f"note: {note}" for note in self.notes)])


def explain(tx: optax.GradientTransformation, params: Any) -> Explanation:
    """Which parameter is treated how, and how much is kept for it: `print(jol.explain(tx, params))`.

    Nothing is computed. `->` stands between the parts of a chain.

    Args:
      tx: the transformation, ours or optax's.
      params: a tree of arrays, or of `jax.ShapeDtypeStruct`.

    Raises:
      TypeError: `tx` is not a transformation.
    """
    check_transformation(tx, "explain's argument")
    state = jax.eval_shape(tx.init, params)
    leaves = jax.tree_util.tree_leaves_with_path(params)
    kept = dict.fromkeys((path for path, _ in leaves), 0)
    shared = 0
    for path, leaf in leaves_of(state):
        size = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(leaf))
        owner = _owner(path, kept)
        if owner is None:
            shared += size
        else:
            kept[owner] += size
    rows = []
    for path, p in leaves:
        text = path_text(path)
        rows.append(Row(text, jnp.shape(p), str(jnp.result_type(p)), treated(tx, text, p), kept[path]))
    return Explanation(tuple(rows), shared, tuple(dict.fromkeys(_notes(tx, ""))))


def _owner(path: tuple[Any, ...], kept: dict[tuple[Any, ...], int]) -> tuple[Any, ...] | None:
    """The parameter that a piece of state belongs to: the longest path that is found in its own."""
    for length in range(len(path), 0, -1):
        for start in range(len(path) - length, -1, -1):
            if path[start : start + length] in kept:
                return path[start : start + length]
    return None


def _notes(tx: Any, place: str) -> Iterator[str]:
    """What is hidden, part by part."""
    name = foreign_name(tx) if not isinstance(tx, Transformation) else ""
    here = f"part {place} " if place else "it "
    if name == "optax.chain":
        yield f"{here}is an optax.chain, which hides its parts from store and probe: jol.chain shows them"
    elif name:
        yield f"{here}({name}) is not of this library: store and probe see it as one piece"
    elif tx.title == "chain":
        for number, part in enumerate(tx.parts, 1):
            yield from _notes(part, f"{place}.{number}" if place else str(number))
    else:
        for part in tx.parts:
            yield from _notes(part, place)


def _size(size: int) -> str:
    """Bytes, as one reads them."""
    for unit, low in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if size >= low:
            return f"{size / low:.3g} {unit}"
    return f"{size} B"
