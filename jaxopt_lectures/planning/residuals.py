"""What the forward pass keeps for the backward pass, found out by shapes."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp


@dataclasses.dataclass(frozen=True)
class Residuals:
    """Bytes that wait on a device between forward and backward pass.

    Attributes:
      kept: all of them, without the parameters; the batch itself among them.
      largest: the largest array.
      again: what is computed once more in the backward pass, and alive only then; 0 without rematerialization.
    """

    kept: int
    largest: int
    again: int = 0


def residuals(loss: Callable[..., Any], params: Any, *batch: Any, rest: tuple[Any, ...] = ()) -> Residuals:
    """The arrays in the function that `jax.vjp` of the loss gives, and the batch; nothing is computed.

    Args:
      loss: `(params, *rest, *batch)` -> scalar.
      params: tree of `jax.ShapeDtypeStruct`; where they are among what is kept, they are not counted.
      batch: trees of `jax.ShapeDtypeStruct`, of one device's part.
      rest: what else the model has; not counted either.
    """

    def kept(params: Any, rest: Any, batch: Any) -> Any:
        own = {id(leaf) for leaf in jax.tree.leaves((params, rest, batch))}
        _, back = jax.vjp(lambda params: loss(params, *rest, *batch), params)
        found = {id(leaf): leaf for leaf in jax.tree.leaves(back)}
        return [leaf for key, leaf in found.items() if key not in own]

    sizes = [size_of(leaf) for leaf in jax.eval_shape(kept, params, rest, batch)]
    return Residuals(sum(sizes) + sum(map(size_of, jax.tree.leaves(batch))), max(sizes, default=0))


def extrapolated(one: Residuals, two: Residuals, blocks: int) -> Residuals:
    """Of so many equal blocks, from those of one and of two: each further one keeps the same again."""
    each = two.kept - one.kept
    return Residuals(one.kept + (blocks - 1) * each, max(one.largest, two.largest))


def with_block(again: Residuals, plain: Residuals, blocks: int) -> Residuals:
    """Of a rematerialized model, with what one block of so many keeps while it is computed once more."""
    return dataclasses.replace(again, again=max(0, plain.kept - again.kept) // blocks)


def cast(tree: Any, dtype: Any) -> Any:
    """The tree with its floating-point arrays in another dtype; as it is if that is None."""

    def one(x: Any) -> Any:
        if dtype is None or not jnp.issubdtype(x.dtype, jnp.floating):
            return x
        return jax.ShapeDtypeStruct(x.shape, dtype) if isinstance(x, jax.ShapeDtypeStruct) else x.astype(dtype)

    return jax.tree.map(one, tree)


def size_of(x: Any) -> int:
    """Bytes of an array or of its shape."""
    return int(x.size) * int(x.dtype.itemsize)
