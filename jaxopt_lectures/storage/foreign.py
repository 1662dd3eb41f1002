"""State of transformations that declare nothing: arrays shaped like the parameters are found by their paths."""

import functools
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxopt_lectures.core.numbers import arithmetic_dtype
from jaxopt_lectures.core.paths import path_text
from jaxopt_lectures.core.slots import Kept, Slot, declared_slots
from jaxopt_lectures.core.transformation import Transformation
from jaxopt_lectures.storage.codes import Encoded, Place, blocks_of_slot, closed, decoded, everywhere, fits
from jaxopt_lectures.storage.policy import Policy, is_mapped

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


class Sign:
    """Which slots are never negative, by the user's word.

    Args:
      given: a regular expression that is searched in the last part of their names; or names, whole or their last parts.
    """

    def __init__(self, given: str | Sequence[str] | None) -> None:
        self.said = given is not None
        self._pattern = re.compile(given) if isinstance(given, str) else None
        self._names = () if given is None or isinstance(given, str) else tuple(given)

    def __call__(self, name: str) -> bool:
        """Whether the slot of that name, "0/nu", is never negative."""
        last = name.rpartition("/")[2]
        return self._pattern.search(last) is not None if self._pattern else bool({name, last} & {*self._names})


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
    return jax.tree_util.tree_leaves_with_path(state, is_leaf=is_kept)


def around(tx: optax.GradientTransformation, policy: Policy, nonnegative: Sign) -> Transformation:
    """`tx` with the arrays of its state that belong to parameters encoded; each step decodes all of them."""
    inner = optax.with_extra_args_support(tx)

    def init(params: Any) -> StoreState:
        state = inner.init(params)
        shaped = dict(jax.tree_util.tree_leaves_with_path(params))
        leaves, treedef = jax.tree.flatten(state, is_leaf=is_kept)
        if any(map(is_kept, leaves)):
            raise ValueError("a part of the transformation is stored already: call store once, on the whole")
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
        kept, treedef = jax.tree.flatten(inner_state, is_leaf=is_kept)
        word = policy.words(state.count + 1, (len(kept), 1))
        rows = zip(kept, treedef.flatten_up_to(new), word[:, 0], strict=True)
        leaves = [recoded(old, x, w) if is_kept(old) else x for old, x, w in rows]
        return updates, StoreState(optax.safe_increment(state.count), treedef.unflatten(leaves))

    again = functools.partial(around, policy=policy, nonnegative=nonnegative)
    return Transformation(init, update, couples="tree", parts=(tx,), again=again, keeping=policy, title="store")


def opened_state(state: Any, params: Any) -> Any:
    """A state with its encoded arrays decoded, whole."""
    shapes = _shapes(params)

    def opened(path: Path, leaf: Any) -> Any:
        if not isinstance(leaf, Encoded):
            return leaf
        owner = _owner(path, leaf, shapes)
        if owner is None or not fits(leaf, shapes[owner]):
            raise ValueError(
                f"the state has {leaf!r} at {path_text(path)!r}, to which no parameter of its shape belongs"
            )
        return decoded(leaf, shapes[owner])

    return jax.tree_util.tree_map_with_path(opened, state, is_leaf=is_kept)


def known_nature(one: Found, policy: Policy, nonnegative: Sign) -> str:
    """Whether a slot can be negative: as declared, or by the user's word.

    Raises:
      ValueError: neither.
    """
    codec = policy.codec(one.name.rpartition("/")[2])
    if one.nature is not None or codec is None or codec.indifferent:
        return one.nature or "signed"
    if not nonnegative.said:
        raise ValueError(
            f"the state has an array {one.name!r} shaped like the parameters, of which it is not declared whether it "
            'can be negative; say which cannot: nonnegative="nu" (a regular expression), or nonnegative=[] for none'
        )
    return "nonnegative" if nonnegative(one.name) else "signed"


def _unmapped(state: Any, params: Any, policy: Policy, nonnegative: Sign) -> Any:
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


def recoded(like: Encoded, x: jax.Array, word: jax.Array) -> Encoded:
    """A whole array in the code and the blocks of a slot."""
    return closed(like, x, blocks_of_slot(like, x.shape), Place(everywhere(x.shape), word))


def is_kept(node: Any) -> bool:
    """Whether it stands in a state for one array."""
    return isinstance(node, Kept)


def is_masked(node: Any) -> bool:
    """Whether it stands where a mask took parameters out."""
    return isinstance(node, optax.MaskedNode)
