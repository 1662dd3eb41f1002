"""A state of one transformation as a state of the same with its slots kept otherwise."""

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxopt_lectures.storage.codes import Encoded
from jaxopt_lectures.storage.foreign import StoreState, is_kept, opened_state, recoded
from jaxopt_lectures.storage.rounding import words


def convert_state(
    state: Any, from_tx: optax.GradientTransformation, to_tx: optax.GradientTransformation, params: Any
) -> Any:
    """The state of `from_tx` as a state of `to_tx`, where both differ only in how slots are kept.

    For example a float32 run goes on with int8 slots: `convert_state(state, tx, store(tx, "int8"), params)`, or back.
    What both keep alike, in the same code and blocks, is taken over bit for bit, the rest is rounded anew.

    Args:
      state: a state of `from_tx`.
      from_tx: what made it.
      to_tx: what shall go on with it.
      params: the parameters, or their shapes.

    Raises:
      ValueError: `state` is not of `from_tx`, or the two transformations are not the same but for storage.
    """
    made, wanted = jax.eval_shape(from_tx.init, params), jax.eval_shape(to_tx.init, params)
    if _structure(state) != _structure(made):
        raise ValueError(
            f"the state is not one of from_tx: it is {_structure(state)}, from_tx makes {_structure(made)}"
        )
    bare, target = _bare(state), _bare(wanted)
    if _structure(bare, kept=True) != _structure(target, kept=True):
        raise ValueError(
            f"from_tx and to_tx differ in more than how slots are kept: {_structure(bare, kept=True)} against "
            f"{_structure(target, kept=True)}"
        )
    if all(isinstance(p, jax.Array) for p in jax.tree.leaves(params)):
        wanted = to_tx.init(params)  # blocks end where shards end
    plain = jax.tree.leaves(_bare(opened_state(state, params)))
    counts = [node.count for node in _stored(state)]
    leaves = jax.tree.leaves(bare, is_leaf=is_kept)
    rows = zip(leaves, plain, words(None, jnp.uint32(0), (len(leaves),)), strict=True)
    return _filled(wanted, rows, iter(counts if len(counts) == len(_stored(wanted)) else ()))


def _filled(wanted: Any, rows: Iterator[tuple[Any, Any, jax.Array]], counts: Iterator[jax.Array]) -> Any:
    """The leaves in the form of `wanted`; `rows`: as they were kept, as arrays, what random bits are made of."""

    def one(like: Any) -> Any:
        if isinstance(like, StoreState):
            return StoreState(next(counts, jnp.zeros((), jnp.int32)), _filled(like.inner_state, rows, counts))
        kept, x, word = next(rows)
        if not isinstance(like, Encoded):
            return jnp.asarray(x, like.dtype)
        same = isinstance(kept, Encoded) and jax.tree.map(jnp.shape, kept) == jax.tree.map(jnp.shape, like)
        return kept if same else recoded(like, jnp.asarray(x, like.dtype), word)

    return jax.tree.map(one, wanted, is_leaf=_is_store_or_kept)


def _stored(state: Any) -> list[StoreState]:
    """The wrappers that `store` put around transformations of others."""
    leaves = jax.tree.leaves(state, is_leaf=lambda node: isinstance(node, StoreState))
    return [node for node in leaves if isinstance(node, StoreState)]


def _bare(state: Any) -> Any:
    """Without the wrappers that `store` puts around transformations of others."""
    return jax.tree.map(
        lambda node: _bare(node.inner_state) if isinstance(node, StoreState) else node,
        state,
        is_leaf=_is_store_or_kept,
    )


def _structure(state: Any, kept: bool = False) -> Any:
    """Of a state; `kept`: with one leaf for each slot, however it is kept."""
    return jax.tree.structure(state, is_leaf=is_kept if kept else None)


def _is_store_or_kept(node: Any) -> bool:
    return isinstance(node, StoreState) or is_kept(node)
