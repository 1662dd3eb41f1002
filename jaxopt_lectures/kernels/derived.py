"""Derivatives and `vmap` of kernels: those of what they compute."""

from collections.abc import Callable
from typing import Any

import jax


def derived(kernel: Callable[..., Any], plainly: Callable[..., Any]) -> Callable[..., Any]:
    """The kernel; its derivatives and `vmap` are those of `plainly`, which gives the same without one."""
    batched = jax.custom_batching.custom_vmap(kernel)

    @batched.def_vmap
    def _(size: int, given: Any, *operands: Any) -> Any:
        axes = jax.tree.map(lambda along: 0 if along else None, tuple(given))
        found = jax.vmap(plainly, in_axes=axes, axis_size=size)(*operands)
        return found, jax.tree.map(lambda x: True, found)

    made = jax.custom_jvp(batched)
    made.defjvp(lambda primals, tangents: jax.jvp(plainly, primals, tangents))
    return made
