"""What raises, and in which words: a range, a scalar, a tree, a leaf."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from jaxopt_lectures.core.slots import Kept

Number: TypeAlias = float | jax.Array
Schedule: TypeAlias = Callable[[Any], Any]
HyperLike: TypeAlias = Number | Schedule
"""What every numeric hyper-parameter accepts: a number, a scalar array (traced is fine), a schedule of the count."""


@dataclass(frozen=True)
class Hyper:
    """A hyper-parameter with the range its numbers must lie in: [low, high), or [low, high] if `closed`."""

    name: str
    value: HyperLike
    low: float
    high: float
    closed: bool = False

    @property
    def range(self) -> str:
        """The range as text, for messages and pages."""
        end = "]" if self.closed else ")"
        return f"[{self.low:g}, {self.high:g}{end}"


def interval(name: str, value: HyperLike, low: float, high: float = math.inf, *, closed: bool = False) -> Hyper:
    """Declares a hyper-parameter and checks what can be known now: numbers are, tracers and schedules are not.

    Raises:
      TypeError: `value` is not a number, a scalar array or a callable.
      ValueError: a number outside the range, or an array that is not a scalar.
    """
    hyper = Hyper(name, value, low, high, closed)
    if callable(value):
        return hyper
    number = known_number(name, value)
    if number is not None and not (low <= number < high or (closed and number == high)):
        raise ValueError(f"{name} must lie in {hyper.range}, got {value!r}")
    return hyper


def known_number(name: str, value: Any) -> float | None:
    """`value` as a float where it is known now, None where it is traced; see `interval` for what raises."""
    kinds = "a number, a scalar array or a schedule (a callable of the step count)"
    if isinstance(value, bool) or not isinstance(value, (int, float, np.ndarray, np.generic, jax.Array)):
        raise TypeError(f"{name} must be {kinds}, got {type(value).__name__} {value!r}")
    if isinstance(value, int):
        return float(value) if abs(value) < 10**308 else math.inf if value > 0 else -math.inf
    if jnp.shape(value) != ():
        raise ValueError(
            f"{name} must be a scalar, got shape {jnp.shape(value)}; to try many values, use jax.vmap over it"
        )
    dtype = jnp.result_type(value)
    if not (jnp.issubdtype(dtype, jnp.floating) or jnp.issubdtype(dtype, jnp.integer)):
        raise TypeError(f"{name} must be {kinds}, got dtype {dtype}")
    return None if isinstance(value, jax.core.Tracer) else float(value)


def whole(name: str, value: Any, low: int) -> None:
    """Checks a size, which no schedule and no tracer may be: a Python integer of at least `low`."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        array = isinstance(value, jax.Array)
        hint = "; under optax.inject_hyperparams name it in static_args, or use jol.with_hyperparams" if array else ""
        raise TypeError(f"{name} must be an integer, got {type(value).__name__} {value!r}{hint}")
    if value < low:
        raise ValueError(f"{name} must be at least {low}, got {value}")


def sizes(**named: Any) -> None:
    """Checks sizes of which any may be None: integers of at least 1."""
    for name, value in named.items():
        if value is not None:
            whole(name, value, 1)


def check_key(key: Any) -> None:
    """Raises TypeError unless it is a key of random numbers, or None."""
    if key is not None and not isinstance(key, jax.Array):
        raise TypeError(f"key must be a key of jax.random, got {type(key).__name__} {key!r}: jax.random.key({key!r})?")


def check_floating(tree: Any, leaves: list[Any], what: str) -> None:
    """Raises TypeError, naming the leaf, unless every leaf is a real floating-point array."""
    wrong = {dtype for dtype in {leaf.dtype for leaf in leaves} if not jnp.issubdtype(dtype, jnp.floating)}
    for path, leaf in zip(_paths(tree) if wrong else (), leaves, strict=False):
        if leaf.dtype in wrong:
            raise TypeError(
                f"{what}{path} has dtype {leaf.dtype}, but only real floating-point arrays can be optimized: write 1.0 "
                "for 1, leave integers out of the tree (optax.masked, nnx.Param only), split complex numbers into real "
                "and imaginary parts (optax.contrib.split_real_and_imaginary)"
            )


def slot_dtype(name: str, dtype: Any) -> Any:
    """The dtype to keep a slot in; raises TypeError unless it is a floating one."""
    try:
        found = jnp.dtype(dtype)
    except TypeError:
        raise TypeError(f"the dtype of slot {name!r} must be a floating-point dtype, got {dtype!r}") from None
    if not jnp.issubdtype(found, jnp.floating):
        raise TypeError(f"the dtype of slot {name!r} must be a floating-point dtype, got {found}")
    return found


def flags(mask: Any, tree: Any) -> list[bool]:
    """A mask, which may stop short of the leaves of `tree`, as one flag for each of them."""
    values, maskdef = jax.tree.flatten(mask)
    for value in values:
        known = isinstance(value, (bool, np.bool_, np.ndarray, jax.Array)) and not isinstance(value, jax.core.Tracer)
        if not known or jnp.shape(value) != () or jnp.result_type(value) != jnp.bool_:
            raise TypeError(
                f"a mask must be a tree of bools, not traced, or a function that returns one; got {value!r}"
            )
    try:
        parts = maskdef.flatten_up_to(tree)
    except (ValueError, TypeError) as error:
        raise ValueError(f"the mask is no tree of bools like the parameters: {error}") from error
    return [bool(value) for value, part in zip(values, parts, strict=True) for _ in jax.tree.leaves(part)]


def same_structure(
    treedef: Any, updates: Any, other: Any, what: str, whole: Callable[[Any], bool] = lambda leaf: False
) -> list[Any]:
    """Leaves of `other` in the order of `updates`; raises ValueError naming the first path that differs.

    What stands in the place of a leaf is one, if it is `whole`, though it has leaves of its own.
    """
    leaves, structure = jax.tree.flatten(other)
    if structure == treedef:
        return leaves
    try:
        leaves = treedef.flatten_up_to(other)
        odd = [leaf for leaf in leaves if leaf is not None and jax.tree.structure(leaf) != jax.tree.structure(0)]
        if not all(map(whole, odd)):
            raise ValueError("a leaf of one is a branch of the other")
        return leaves
    except (ValueError, TypeError) as error:
        mine, theirs = _paths(updates), _paths(other)
        extra = [p for p in mine if p not in theirs]
        missing = [p for p in theirs if p not in mine]
        if extra:
            difference = f"gradient{extra[0]} is not in the {what}"
        elif missing:
            difference = f"the {what} have{'' if what.endswith('s') else ' a'} leaf {missing[0]}, the gradients do not"
        else:
            difference = f"{jax.tree.structure(updates)} against {jax.tree.structure(other)}"
        raise ValueError(
            f"the gradients and the {what} are not trees of the same structure: {difference}; "
            "give update() the gradients of the parameters that init() saw"
        ) from error


def same_shapes(updates: Any, leaves: list[Any], others: list[Any], what: str) -> None:
    """Raises ValueError naming the first leaf whose shape differs from its counterpart's."""
    for index, (leaf, other) in enumerate(zip(leaves, others, strict=True)):
        if isinstance(other, Kept):
            raise ValueError(
                f"{what} of {_paths(updates)[index]} is kept as {other!r}, which this transformation does not read: "
                "jol.convert_state(state, from_tx, to_tx, params) makes a state for it"
            )
        if other is not None and jnp.shape(leaf) != jnp.shape(other):
            path = _paths(updates)[index]
            raise ValueError(
                f"gradient{path} has shape {jnp.shape(leaf)}, {what} {jnp.shape(other)}: "
                "they must be equal (nothing is broadcast)"
            )


def _paths(tree: Any) -> list[str]:
    return [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(tree)]
