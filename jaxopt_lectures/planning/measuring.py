"""The bytes of a training step on one device, for one choice of what can be chosen."""

import dataclasses
import functools
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import AbstractMesh

from jaxopt_lectures.core.paths import path_text
from jaxopt_lectures.core.transformation import Transformation
from jaxopt_lectures.planning.on_device import Lying, at_once, here, largest, local, on_mesh, state_on_device
from jaxopt_lectures.planning.residuals import Residuals, size_of, with_block
from jaxopt_lectures.planning.subjects import Subject
from jaxopt_lectures.scaling.layouts import Rules
from jaxopt_lectures.storage.store import store
from jaxopt_lectures.wrappers.wrapped import treated


@dataclasses.dataclass(frozen=True)
class Choice:
    """What a plan can vary.

    Attributes:
      zero: 0 nothing is cut along the data axis, 1 the state, 3 parameters and gradients as well.
      code: codec of the state; None as the optimizer keeps it.
      dtype: of the parameters, by its name; None as they are.
      again: whether blocks are rematerialized.
    """

    zero: int
    code: str | None
    dtype: str | None
    again: bool


@dataclasses.dataclass(frozen=True)
class Bytes:
    """Bytes on each device.

    Attributes:
      parameters: exact.
      gradients: as the parameters.
      state: of the optimizer, exact.
      others: of the model, neither parameters nor activations, as batch statistics; exact.
      activations: estimated; 0 where no loss is known.
      temporaries: estimated.
    """

    parameters: int
    gradients: int
    state: int
    others: int
    activations: int
    temporaries: int

    @property
    def pieces(self) -> dict[str, int]:
        """Them all, by what a table calls them."""
        names = ("parameters", "gradients", "optimizer state", "batch statistics", "activations", "temporaries")
        return dict(zip(names, (getattr(self, field.name) for field in dataclasses.fields(Bytes)), strict=True))

    @property
    def total(self) -> int:
        """All together."""
        return sum(self.pieces.values())


class Measuring:
    """Measures one subject on one mesh; what two choices have in common is measured once."""

    def __init__(
        self,
        subject: Subject,
        tx: optax.GradientTransformation,
        mesh: AbstractMesh,
        rules: Rules,
        axis: str,
        compute: Any,
    ) -> None:
        self.subject, self.tx, self.mesh = subject, tx, mesh
        self.rules, self.axis, self.compute = rules, axis, compute
        self.parts = mesh.shape.get(axis, 1)
        self.params = functools.cache(self._params)
        self.state = functools.cache(self._state)
        self.kept = functools.cache(self._kept)

    def __call__(self, choice: Choice) -> Bytes:
        """Raises ValueError for a codec that the optimizer's state cannot be kept in."""
        params = self.params(choice.dtype, choice.zero)
        size = sum(here(p, p.sharding) for p in jax.tree.leaves(params))
        state = self.state(choice.dtype, choice.zero, choice.code)
        kept, temporaries = self.kept(choice.dtype, choice.again), at_once(params)
        if kept is not None:
            # A value and the derivative by it; a block's inside where it is computed again.
            backward = 2 * kept.largest + kept.again + (self._gathered(choice.dtype) if choice.zero == 3 else 0)
            temporaries = max(temporaries, backward)
        activations = 0 if kept is None else kept.kept
        return Bytes(size, size, state.size, self.subject.others, activations, temporaries)

    def stored(self, code: str | None) -> optax.GradientTransformation:
        """The optimizer with its state in that code."""
        return self.tx if code is None else store(self.tx, code)

    def wide(self, choice: Choice) -> bool:
        """Whether a parameter has more than 16 bits."""
        return any(p.dtype.itemsize > 2 for p in jax.tree.leaves(self.params(choice.dtype, choice.zero)))

    def _place(self, params: Any, zero: int) -> Any:
        return on_mesh(params, self.mesh, self.rules, self.axis if zero == 3 else None)

    def _params(self, dtype: str | None, zero: int) -> Any:
        return self._place(self.subject.params(_dtype(dtype)), zero)

    def _state(self, dtype: str | None, zero: int, code: str | None) -> Lying:
        tx = self.stored(code)

        def of(params: Any) -> Lying:
            return state_on_device(tx, params, self.mesh, min(zero, 1), self.axis)

        folded = self.subject.folded(_dtype(dtype))
        if folded is None or not _alike(tx, self.params(dtype, zero)):
            return of(self.params(dtype, zero))
        one, two = of(self._place(folded[0], zero)), of(self._place(folded[1], zero))
        return Lying(*(first + (folded[2] - 1) * (second - first) for first, second in zip(one, two, strict=True)))

    def _kept(self, dtype: str | None, again: bool) -> Residuals | None:
        def place(params: Any) -> Any:
            return self._place(params, 0)

        found = self.subject.kept(place, self.parts, _dtype(dtype), self.compute, again)
        plain = self.kept(dtype, False) if again and found is not None else None
        return found if found is None or plain is None else with_block(found, plain, self.subject.repeats)

    def _gathered(self, dtype: str | None) -> int:
        """Parameters that are spread are put together where they are used: this block's, and the next one's."""
        folded = self.subject.folded(_dtype(dtype))
        if folded is None:
            return 2 * largest(self._place(self.subject.params(_dtype(dtype)), 0))
        one, two = (sum(map(size_of, jax.tree.leaves(local(self._place(tree, 0))))) for tree in folded[:2])
        return 2 * (two - one)


def _dtype(name: str | None) -> Any:
    return None if name is None else jnp.dtype(name)


def _alike(tx: Any, params: Any) -> bool:
    """Whether every block from the second on is treated as the one before, so that state of two tells that of all.

    A transformation of another library, or one that keeps slots by path, cannot be asked.
    """
    if not all(isinstance(part, Transformation) and not _by_path(part) for part in _parts(tx)):
        return False
    found: dict[str, set[str]] = {}
    for path, p in jax.tree_util.tree_leaves_with_path(params):
        text = path_text(path)
        head, _, rest = text.partition("/")
        number, _, inside = rest.partition("/")
        if head == "blocks" and number != "0":
            found.setdefault(inside, set()).add(treated(tx, text, p))
    return all(len(treatments) == 1 for treatments in found.values())


def _by_path(tx: Any) -> bool:
    return getattr(tx.keeping, "keep", None) is not None


def _parts(tx: Any) -> Iterator[Any]:
    yield tx
    for part in tx.parts if isinstance(tx, Transformation) else ():
        yield from _parts(part)
