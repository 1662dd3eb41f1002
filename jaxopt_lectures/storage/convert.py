"""A state of one transformation as a state of the same with its slots kept otherwise."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxopt_lectures.core.slots import Kept
from jaxopt_lectures.storage.codes import Encoded, Place, blocks_of_slot, closed, everywhere
from jaxopt_lectures.storage.foreign import StoreState, opened_state
from jaxopt_lectures.storage.rounding import words


def convert_state(
    state: Any, from_tx: optax.GradientTransformation, to_tx: optax.GradientTransformation, params: Any
) -> Any:
    """The state of `from_tx` as a state of `to_tx`, where both differ only in how slots are kept.

    For example a float32 run goes on with int8 slots: `convert_state(state, tx, store(tx, "int8"), params)`, or back.
    Rounding is what `to_tx` would do; what both keep alike is taken over bit for bit.

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
    bare, target = _bare(opened_state(state, params)), _bare(wanted)
    if _structure(bare, kept=True) != _structure(target, kept=True):
        raise ValueError(
            f"from_tx and to_tx differ in more than how slots are kept: {_structure(bare, kept=True)} against "
            f"{_structure(target, kept=True)}"
        )
    return _filled(wanted, bare, words(None, jnp.uint32(0), (1,))[0])


def _filled(wanted: Any, plain: Any, word: jax.Array) -> Any:
    """The plain state in the form of `wanted`."""

    def one(like: Any, x: Any) -> Any:
        if isinstance(like, StoreState):
            return StoreState(jnp.zeros((), jnp.int32), _filled(like.inner_state, x, word))
        if isinstance(like, Encoded):
            wide = jnp.asarray(x, like.dtype)
            return closed(like, wide, blocks_of_slot(like, wide.shape), Place(everywhere(wide.shape), word))
        return jnp.asarray(x, like.dtype)

    return jax.tree.map(one, wanted, plain, is_leaf=lambda node: isinstance(node, (Kept, StoreState)))


def _bare(state: Any) -> Any:
    """Without the wrappers that `store` puts around transformations of others."""
    return jax.tree.map(
        lambda node: _bare(node.inner_state) if isinstance(node, StoreState) else node,
        state,
        is_leaf=lambda node: isinstance(node, (Kept, StoreState)),
    )


def _structure(state: Any, kept: bool = False) -> Any:
    """Of a state; `kept`: with one leaf for each slot, however it is kept."""
    return jax.tree.structure(state, is_leaf=(lambda node: isinstance(node, Kept)) if kept else None)
