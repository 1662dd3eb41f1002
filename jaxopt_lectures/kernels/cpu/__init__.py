"""Kernels for CPU: rules traced to jaxprs, translated to C++, called through XLA's FFI."""

import functools
from typing import Any

from jaxopt_lectures.kernels.body import Kind, Leaf
from jaxopt_lectures.kernels.cpu import kernels, library, reductions

__all__ = ["ready", "reductions"]


def ready(kind: Kind, leaf: Leaf, commons: Any, lookup: library.Lookup) -> Any:
    """The kernel of a leaf, or why there is none."""
    made = kernels.prepared(kind, commons)
    if isinstance(made, str):
        return made
    reason = kernels.unfit(leaf)
    if reason is not None:
        return reason
    found = lookup(made.kernel)
    return found if isinstance(found, str) else functools.partial(kernels.taken, made, found.target)
