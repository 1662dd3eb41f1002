"""Kernels for GPU: rules called in the body of a Pallas kernel."""

from typing import Any

from jaxopt_lectures.kernels.body import Kind, Leaf


def ready(kind: Kind, leaf: Leaf, commons: Any, lookup: Any) -> Any:
    """The kernel of a leaf, or why there is none."""
    del commons, lookup
    from jaxopt_lectures.kernels.gpu import pallas

    return pallas.unfit(kind, leaf) or pallas.each(kind)
