"""What has become of encoded slots."""

from typing import Any

import jax.numpy as jnp

from jaxopt_lectures.core.paths import path_text
from jaxopt_lectures.storage.codes import Encoded
from jaxopt_lectures.storage.foreign import leaves_of


def lost_blocks(state: Any) -> dict[str, int]:
    """How many blocks of which slots a NaN or an infinity has made unreadable: by path, those that lost any.

    One bad element costs its block. The blocks stay lost, as the moments of a plain optimizer stay NaN: go back to a
    checkpoint, or put `skip_nonfinite` around the optimizer before it happens.

    Args:
      state: any state, not traced.
    """
    lost = {
        path_text(path): int(jnp.sum(~jnp.isfinite(leaf.scale)))
        for path, leaf in leaves_of(state)
        if isinstance(leaf, Encoded) and leaf.scale is not None
    }
    return {path: count for path, count in lost.items() if count}
