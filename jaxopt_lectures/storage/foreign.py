"""State of transformations that declare nothing: arrays shaped like the parameters are found by their paths."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxopt_lectures.core.numbers import arithmetic_dtype
from jaxopt_lectures.core.slots import Kept, Slot, declared_slots
from jaxopt_lectures.core.transformation import Transformation
from jaxopt_lectures.storage.codes import Encoded, Place, blocks_of_slot, closed, decoded, everywhere
from jaxopt_lectures.storage.policy import Policy, is_mapped, path_text

Path = tuple[Any, ...]


class StoreState(NamedTuple):
    """The state of a transformation around which `store` was put.

    Attributes:
      count: steps taken so far, () int32; random bits depend on it.
      inner_state: the transformation's own state, encoded.
    """

    count: jax.Array
    inner_state: Any


class Found(NamedTuple):
    """An array in a state that belongs to a parameter.

    Attributes:
      name: its path in the state without the parameter's, "0/mu".
      nature: "signed" or "nonnegative" where it is declared, None where not.
      path: the parameter's path.
      place: its place among the leaves of the state.
    """

    name: str
    nature: str | None
    path: Path
    place: int


def found_in(state: Any, params: Any) -> list[Found]:
    """The arrays of a state whose path ends in a parameter's, and that have its shape."""
    shapes = _shapes(params)
    found = []
    for place, (path, leaf) in enumerate(leaves_of(state)):
        owner = _owner(path, leaf, shapes)
        if owner is not None:
            before = path[: len(path) - len(owner)]
            found.append(Found(path_text(before), _nature(state, before), owner, place))
    return found


def leaves_of(state: Any) -> list[tuple[Path, Any]]:
    """The leaves of a state with their paths; what is encoded is one leaf."""
    return jax.tree_util.tree_leaves_with_path(state, is_leaf=lambda node: isinstance(node, Kept))


def around(
    tx: optax.GradientTransformation, policy: Policy, nonnegative: Callable[[str], bool] | None
) -> Transformation:
    """`tx` with the arrays of its state that belong to parameters encoded; each step decodes all of them."""
    inner = optax.with_extra_args_support(tx)

    def init(params: Any) -> StoreState:
        state = inner.init(params)
        shaped = dict(jax.tree_util.tree_leaves_with_path(params))
        leaves, treedef = jax.tree.flatten(state)
        found = found_in(state, params)
        word = policy.words(jnp.uint32(0), (len(found), 1))
        for index, one in enumerate(found):
            name, p = one.name.rpartition("/")[2], shaped[one.path]
            slot = Slot(known_nature(one, policy, nonnegative), "parameter")  # type: ignore[arg-type]
            code = policy.code(name, slot, one.path, jnp.size(p))
            if code is not None:
                x = leaves[one.place]
                wide = x.astype(arithmetic_dtype(x.dtype))
                leaves[one.place] = policy.kept(name, code, wide, p, word[index, 0])
        return StoreState(jnp.zeros((), jnp.int32), treedef.unflatten(leaves))

    def update(updates: Any, state: StoreState, params: Any = None, **extra: Any) -> Any:
        if not isinstance(state, StoreState):
            raise TypeError(
                f"store keeps a StoreState, got {type(state).__name__}: "
                "jol.convert_state(state, from_tx, to_tx, params) makes one of a state that was not stored"
            )
        inner_state = _unmapped(state.inner_state, updates, policy, nonnegative)
        updates, new = inner.update(updates, opened_state(inner_state, updates), params, **extra)
        kept, treedef = jax.tree.flatten(inner_state, is_leaf=lambda node: isinstance(node, Kept))
        word = policy.words(state.count + 1, (len(kept), 1))
        rows = zip(kept, treedef.flatten_up_to(new), word[:, 0], strict=True)
        leaves = [closed(old, x, blocks_of_slot(old, jnp.shape(x)), _whole(x, w)) for old, x, w in rows]
        return updates, StoreState(optax.safe_increment(state.count), treedef.unflatten(leaves))

    again = functools.partial(around, policy=policy, nonnegative=nonnegative)
    return Transformation(init, update, couples="tree", parts=(tx,), again=again, keeping=policy, title="store")


def opened_state(state: Any, params: Any) -> Any:
    """A state with its encoded arrays decoded, whole."""
    shapes = _shapes(params)
    leaves = [
        decoded(leaf, shapes[_owner(path, leaf, shapes)]) if isinstance(leaf, Encoded) else leaf  # type: ignore[index]
        for path, leaf in leaves_of(state)
    ]
    return jax.tree.structure(state, is_leaf=lambda node: isinstance(node, Kept)).unflatten(leaves)


def known_nature(one: Found, policy: Policy, nonnegative: Callable[[str], bool] | None) -> str:
    """Whether a slot can be negative: as declared, or by the user's word.

    Raises:
      ValueError: neither.
    """
    codec = policy.codec(one.name.rpartition("/")[2])
    if one.nature is not None or codec is None or codec.indifferent:
        return one.nature or "signed"
    if nonnegative is None:
        raise ValueError(
            f"the state has an array {one.name!r} shaped like the parameters, of which it is not declared whether it "
            'can be negative; say which cannot: nonnegative="nu" (a regular expression), or nonnegative=[] for none'
        )
    return "nonnegative" if nonnegative(one.name) else "signed"


def _unmapped(state: Any, params: Any, policy: Policy, nonnegative: Callable[[str], bool] | None) -> Any:
    """A state in which Flax made mappings of what is encoded, as it was."""
    shapes = _shapes(params)

    def owner(path: Path, node: Any) -> Path | None:
        ends = (path[start:] for start in range(len(path) + 1)) if is_mapped(node) else ()
        return next((end for end in ends if end in shapes), None)

    def one(path: Path, node: Any) -> Any:
        end = owner(path, node)
        if end is None:
            return node
        before = path[: len(path) - len(end)]
        found = Found(path_text(before), _nature(state, before), end, 0)
        return policy.unmapped(found.name.rpartition("/")[2], known_nature(found, policy, nonnegative), node)

    def is_leaf(path: Path, node: Any) -> bool:
        return isinstance(node, Kept) or owner(path, node) is not None

    return jax.tree_util.tree_map_with_path(one, state, is_leaf=is_leaf, is_leaf_takes_path=True)


def _shapes(params: Any) -> dict[Path, tuple[int, ...]]:
    return {path: jnp.shape(p) for path, p in jax.tree_util.tree_leaves_with_path(params)}


def _owner(path: Path, leaf: Any, shapes: dict[Path, tuple[int, ...]]) -> Path | None:
    """The parameter that an array belongs to: the longest path in which its own ends, of the same shape."""
    floating = isinstance(leaf, Encoded) or jnp.issubdtype(jnp.result_type(leaf), jnp.floating)
    for start in range(len(path) + 1) if floating else ():
        end = path[start:]
        if end in shapes and (isinstance(leaf, Encoded) or jnp.shape(leaf) == shapes[end]):
            return end
    return None


def _nature(state: Any, path: Path) -> str | None:
    """What the state's own class declares of the field that the path leads to."""
    found, node = None, state
    for key in path:
        if isinstance(key, jax.tree_util.GetAttrKey):
            slot = _declared(type(node)).get(key.name)
            found, node = slot.nature if slot else None, getattr(node, key.name)
        elif isinstance(key, (jax.tree_util.SequenceKey, jax.tree_util.DictKey)):
            node = node[key.idx if isinstance(key, jax.tree_util.SequenceKey) else key.key]
        else:
            return None
    return found


def _declared(state_type: type) -> dict[str, Slot]:
    try:
        return declared_slots(state_type)
    except (NameError, TypeError):  # hints of others that cannot be read here
        return {}


def _whole(x: jax.Array, word: jax.Array) -> Place:
    return Place(everywhere(jnp.shape(x)), word)
