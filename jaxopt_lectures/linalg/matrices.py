"""Which parameters are matrices, and how: arrays of any number of axes as stacks of matrices, whole or in blocks.

Every axis of a parameter is written as one letter: `i` for inputs, `o` for outputs, `b` for a stack of matrices that
have nothing to do with each other. A dense kernel is "io", a convolution "iiio", the query of all heads together
"ioo", each head for itself "ibo", the kernels of scanned layers "bio".
"""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

_ATTENTION = ((r"(query|key|value)/kernel$", "ioo"), (r"out/kernel$", "iio"))
"""What the kernels of Flax's attention with three axes are called, and what those axes are."""
_CONVOLUTION = r"(?i)(^|[/_])conv(olutions?)?(\d|_|/|$|transpose)"
_VECTORS = r"(bias|scale)$"
"""What is called so is no matrix, though attention's biases have an axis of heads."""


@dataclass(frozen=True)
class Matrix:
    """An array seen as a stack of matrices of one size.

    Attributes:
      shape: of the array.
      axes: a letter for each of its axes.
      rows, columns: of a matrix of the stack; blocks of the whole where that is larger.
    """

    shape: tuple[int, ...]
    axes: str
    rows: int
    columns: int

    def of(self, x: jax.Array) -> jax.Array:
        """The stack, (n, rows, columns); one matrix alone is (rows, columns)."""
        y = x.transpose(self._order)
        y = y.reshape(-1, self._size("i") // self.rows, self.rows, self._size("o") // self.columns, self.columns)
        y = y.swapaxes(2, 3).reshape(-1, self.rows, self.columns)
        return y[0] if len(y) == 1 else y

    def back(self, y: jax.Array) -> jax.Array:
        """The array of the stack."""
        parts = self._size("i") // self.rows, self._size("o") // self.columns
        y = y.reshape(-1, *parts, self.rows, self.columns).swapaxes(2, 3)
        inverse = sorted(range(len(self.shape)), key=self._order.__getitem__)
        return y.reshape([self.shape[axis] for axis in self._order]).transpose(inverse)

    @property
    def count(self) -> int:
        """How many matrices there are."""
        return math.prod(self.shape) // (self.rows * self.columns)

    @property
    def size(self) -> tuple[int, int]:
        """Rows and columns of each."""
        return self.rows, self.columns

    @property
    def whole(self) -> tuple[int, int]:
        """Rows and columns before they were cut into blocks."""
        return self._size("i"), self._size("o")

    def __str__(self) -> str:
        one = f"{self.rows} x {self.columns}"
        return one if self.count == 1 else f"{self.count} of {one}"

    @property
    def _order(self) -> list[int]:
        return sorted(range(len(self.shape)), key=lambda axis: "bio".index(self.axes[axis]))  # stable

    def _size(self, letter: str) -> int:
        return math.prod(n for n, axis in zip(self.shape, self.axes, strict=True) if axis == letter)


@dataclass(frozen=True)
class Matrices:
    """Says of each parameter which matrices it is made of; None where it is none.

    Attributes:
      given: pairs of a regular expression, searched in the path, and letters, or None for "no matrix". The first that
        is found decides. Where none is, arrays of two axes are "io", those of four or of a convolution "i...io",
        Flax's attention is known by its names, and others are stacks, "b...io". Stacked convolutions must be given.
      block: the most rows or columns of a block; None cuts nothing.
      others: regular expression of what is no matrix, where nothing is given.
    """

    given: tuple[tuple[str, str | None], ...] = ()
    block: int | None = None
    others: str | None = None

    def __call__(self, path: str, shape: tuple[int, ...]) -> dict[str, Matrix | None]:
        """The option `matrix` of a rule for a parameter."""
        return {"matrix": self.of(path, shape)}

    def told(self, matrix: str, other: str) -> Callable[[str, Any], str]:
        """What is done with a parameter: the first for matrices, and how they are cut, the second for others."""

        def words(path: str, p: Any) -> str:
            found = self.of(path, jnp.shape(p))
            return other if found is None else f"{matrix} on {found}"

        return words

    def of(self, path: str, shape: tuple[int, ...]) -> Matrix | None:
        """The matrices of a parameter."""
        axes = self._axes(path, len(shape))
        if axes is None or math.prod(shape) == 0:
            return None
        if len(axes) != len(shape):
            raise ValueError(f"{path!r} has the shape {shape}, but matrices={axes!r} has {len(axes)} letters")
        rows, columns = Matrix(shape, axes, 1, 1).whole
        if min(rows, columns) == 1:
            return None  # a vector
        return Matrix(shape, axes, self._blocked(rows), self._blocked(columns))

    def check(self, paths: Sequence[str]) -> None:
        """Raises ValueError if there is a pattern of the user's that no parameter has."""
        for pattern, _ in self.given:
            if not any(re.search(pattern, path) for path in paths):
                raise ValueError(
                    f"matrices: {pattern!r} is found in none of the parameters {', '.join(map(repr, paths[:8]))}"
                    f"{' ...' if len(paths) > 8 else ''}"
                )

    def _axes(self, path: str, ndim: int) -> str | None:
        for pattern, axes in self.given:
            if re.search(pattern, path):
                return axes
        if ndim < 2 or re.search(_VECTORS, path) or (self.others and re.search(self.others, path)):
            return None
        known = [axes for pattern, axes in _ATTENTION if re.search(pattern, path)] if ndim > 2 else []
        if known:
            return "b" * (ndim - 3) + known[0]
        if ndim == 4 or re.search(_CONVOLUTION, path):
            return "i" * (ndim - 1) + "o"
        return "b" * (ndim - 2) + "io"

    def _blocked(self, size: int) -> int:
        """The largest divisor of `size` that a block may have; `size` if only slivers divide it."""
        if self.block is None or size <= self.block:
            return size
        best = max(part for part in range(1, self.block + 1) if size % part == 0)
        return best if best >= self.block // 4 else size


def chosen(given: Mapping[str, str | None] | None, block: int | None = None, others: str | None = None) -> Matrices:
    """The `Matrices` that a user asks for.

    Args:
      given: letters for parameters by regular expression, None for those to leave out.
      block: the most rows or columns of a block.
      others: see `Matrices`.

    Raises:
      TypeError: no mapping of text to text.
      ValueError: a regular expression that does not compile, letters without `i` or `o`, or others.
    """
    if given is not None and not isinstance(given, Mapping):
        raise TypeError(f'matrices must be a mapping like {{"attention": "ibo"}}, got {type(given).__name__} {given!r}')
    for pattern, axes in (given or {}).items():
        if not isinstance(pattern, str) or not (axes is None or isinstance(axes, str)):
            raise TypeError(f"matrices maps regular expressions to letters or None, got {pattern!r}: {axes!r}")
        try:
            re.compile(pattern)
        except re.error as error:
            raise ValueError(f"matrices: {pattern!r} is no regular expression: {error}") from error
        if axes is not None and (set(axes) - set("iob") or not {"i", "o"} <= set(axes)):
            raise ValueError(
                f"matrices: {pattern!r}: a letter for each axis, i (input), o (output) or b (a stack of matrices), "
                f"and at least one i and one o, got {axes!r}"
            )
    return Matrices(tuple((given or {}).items()), block, others)
