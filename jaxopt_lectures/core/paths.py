"""Where a parameter stands in its tree, as text that regular expressions are searched in."""

import re
from collections.abc import Sequence
from typing import Any

import jax


def path_text(path: Sequence[Any]) -> str:
    """Where a leaf stands, as "encoder/0/kernel"; the attribute in which Flax boxes an array is not part of it."""
    boxed = path and isinstance(path[-1], jax.tree_util.GetAttrKey) and path[-1].name == "value"
    path = path[:-1] if boxed else path
    return jax.tree_util.keystr(tuple(path), simple=True, separator="/")


def paths_of(tree: Any) -> list[str]:
    """The paths of all leaves, in their order."""
    return [path_text(path) for path, _ in jax.tree_util.tree_leaves_with_path(tree)]


def compiled(pattern: Any, what: str) -> re.Pattern[str]:
    """The regular expression.

    Raises:
      TypeError: it is no text.
      ValueError: it cannot be read.
    """
    if not isinstance(pattern, str):
        raise TypeError(f"{what} must be a regular expression, got {type(pattern).__name__} {pattern!r}")
    try:
        return re.compile(pattern)
    except re.error as error:
        raise ValueError(f"{what} cannot be read as a regular expression, {pattern!r}: {error}") from error
