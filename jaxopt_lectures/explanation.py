"""What a transformation does with each parameter, and what it keeps for it, as a table."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxopt_lectures.core.paths import path_text
from jaxopt_lectures.core.slots import Kept
from jaxopt_lectures.core.transformation import Transformation, check_transformation
from jaxopt_lectures.storage.foreign import leaves_of
from jaxopt_lectures.wrappers.wrapped import foreign_name, treated

Path = tuple[Any, ...]


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
    shapes = {path: jnp.shape(p) for path, p in leaves}
    kept = dict.fromkeys((path for path, _ in leaves), 0)
    shared = 0
    for path, leaf in leaves_of(state):
        size = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(leaf))
        owner = _owner(path, leaf, shapes)
        if owner is None:
            shared += size
        else:
            kept[owner] += size
    rows = []
    for path, p in leaves:
        text = path_text(path)
        rows.append(Row(text, jnp.shape(p), str(jnp.result_type(p)), treated(tx, text, p), kept[path]))
    return Explanation(tuple(rows), shared, tuple(dict.fromkeys(_notes(tx, ""))))


def _owner(path: Path, leaf: Any, shapes: Mapping[Path, tuple[int, ...]]) -> Path | None:
    """The parameter that a piece of state belongs to: its path stands in that of the piece, below all fields.

    What follows are names of the parameter's own pieces, "left" and "right". Before it a field may have numbers and
    names. A parameter that is the whole tree has no path: its pieces are of its shape, or have names of their own.
    """
    if () in shapes:
        own = isinstance(leaf, Kept) or jnp.shape(leaf) == shapes[()]
        return () if own or (isinstance(path[-1], jax.tree_util.DictKey) and leaf.ndim) else None
    ends = [(path[start:end], path[end:]) for start in range(len(path)) for end in range(start + 1, len(path) + 1)]
    field = jax.tree_util.GetAttrKey
    return next((own for own, rest in ends if own in shapes and not any(isinstance(key, field) for key in rest)), None)


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
