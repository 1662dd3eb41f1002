"""What all wrappers ask of what they wrap, and a choice between a step and none."""

from collections.abc import Callable
from typing import Any

import jax
import optax

from jaxopt_lectures.core import sharding
from jaxopt_lectures.core.transformation import Transformation, check_transformation


def wrapped(tx: Any, what: str) -> optax.GradientTransformationExtraArgs:
    """The transformation with an `update` that takes any extra argument; raises TypeError if it is none."""
    check_transformation(tx, what)
    return optax.with_extra_args_support(tx)


def needed(params: Any, what: str) -> None:
    """Raises ValueError if there are no parameters."""
    if params is None:
        raise ValueError(f"{what} reads the parameters: call update(gradients, state, params)")


def unboxed(x: Any) -> Any:
    """The array of a state, which a library may have put into a box."""
    (array,) = jax.tree.leaves(x)
    return array


def either(flag: Any, step: Callable[[], Any], otherwise: Any) -> Any:
    """`step()` where `flag`, and nothing of it computed where not: then `otherwise`, a tree of arrays like its result.

    Both get one type: the dtypes of `otherwise`, and inside `shard_map` the axes over which either varies.
    """
    found = jax.eval_shape(step)

    def typed(tree: Any, other: Any) -> Any:
        cast = jax.tree.map(lambda x, old: x.astype(old.dtype), tree, otherwise)
        return sharding.alike(cast, jax.tree.map(jax.typeof, other))

    return jax.lax.cond(flag, lambda: typed(step(), otherwise), lambda: typed(otherwise, found))


def treated(tx: Any, path: str, p: Any) -> str:
    """What a transformation does with one parameter, in words: "clip_by_global_norm -> store(momentum, int8)".

    Args:
      tx: ours or optax's.
      path: the parameter's, as "encoder/0/kernel".
      p: the parameter, of which shape and dtype may count.
    """
    if not isinstance(tx, Transformation):
        return foreign_name(tx)
    told = tx.treatment(path, p) if tx.treatment is not None else None
    if tx.rule is not None:
        name = told or tx.rule.__name__.removesuffix("_rule")
        return f"store({name}, {tx.keeping})" if tx.keeping else name
    if told is not None:
        return told
    parts = [treated(part, path, p) for part in tx.parts]
    return " -> ".join(parts) or "nothing" if tx.title == "chain" else f"{tx.title}({', '.join(parts)})"


def foreign_name(tx: optax.GradientTransformation) -> str:
    """What is known of another library's transformation: the function that made its update, "optax.trace"."""
    update = getattr(tx.update, "func", tx.update)
    maker, inside, _ = getattr(update, "__qualname__", "").partition(".")
    library = getattr(update, "__module__", "").partition(".")[0]
    return f"{library}.{maker}" if inside and maker != "with_extra_args_support" else "a transformation"
