"""Each parameter to the transformation that its path asks for."""

import functools
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxopt_lectures.core.checks import same_structure
from jaxopt_lectures.core.paths import compiled, paths_of
from jaxopt_lectures.core.transformation import Transformation, couples_of, gradient_point
from jaxopt_lectures.wrappers.wrapped import treated, wrapped

SHOWN = 8
"""How many parameters a message lists."""


class ByPathState(NamedTuple):
    """The states of the parts, in the order of their regular expressions; () for those that freeze.

    Each is the state for the parameters of its part, with `optax.MaskedNode()` in the places of all others.
    """

    inner_states: tuple[Any, ...]


def by_path(parts: Mapping[str, optax.GradientTransformation | None]) -> Transformation:
    """Gives each parameter to a transformation by its path: `by_path({"bias|norm": sgd(0.1), ".*": adamw(1e-3)})`.

    The regular expressions are searched (`re.search`) in the parameter's path, "encoder/0/kernel", one after the
    other, and the first that is found decides. None freezes: updates of 0, and no state at all.

    A part sees its own parameters only. What couples parameters, the norm of `clip_by_global_norm` above all, couples
    those of its part: to clip by the norm of all gradients, put the clip before, `chain(clip, by_path(...))`. The
    `value_fn` of a part is a function of its own parameters, with the others where their gradients were taken.

    Args:
      parts: the transformations, ours or optax's, or None, by regular expression.

    Raises:
      TypeError: `parts` is no mapping, a key no string, a value neither a transformation nor None.
      ValueError: no parts, or a regular expression that does not compile. From `init`: a parameter that none of them
        matches, or one of them that decides over no parameter.
    """
    if not isinstance(parts, Mapping):
        raise TypeError(f"by_path takes a mapping, {{regular expression: transformation}}, got {type(parts).__name__}")
    patterns, given = [compiled(key, "a key of by_path") for key in parts], list(parts.values())
    if not patterns:
        raise ValueError('by_path needs at least one part, {".*": transformation}')
    return _joined(patterns, given)


def _joined(patterns: list[re.Pattern[str]], given: list[Any]) -> Transformation:
    inner = [
        None if tx is None else wrapped(tx, f"by_path's part {pattern.pattern!r}")
        for pattern, tx in zip(patterns, given, strict=True)
    ]

    @functools.cache
    def owners(treedef: Any) -> list[int]:
        """For each leaf the first pattern found in its path."""
        return _owners(patterns, paths_of(treedef.unflatten(range(treedef.num_leaves))))

    def masked(tree: Any, index: int) -> Any:
        """Where the leaves of other parts are taken out."""
        leaves, treedef = jax.tree.flatten(tree)
        rows = zip(leaves, owners(treedef), strict=True)
        return treedef.unflatten([x if owner == index else optax.MaskedNode() for x, owner in rows])

    def of_own(value_fn: Callable[..., Any], params: Any, index: int) -> Callable[..., Any]:
        """The function of the parameters as one of those of a part."""
        leaves, treedef = jax.tree.flatten(params)

        @functools.wraps(value_fn)
        def value(own: Any, *args: Any, **kwargs: Any) -> Any:
            mine = iter(jax.tree.leaves(own))
            rows = zip(leaves, owners(treedef), strict=True)
            return value_fn(treedef.unflatten([next(mine) if k == index else p for p, k in rows]), *args, **kwargs)

        return value

    def init(params: Any) -> ByPathState:
        owners(jax.tree.structure(params))  # raises where the paths are wrong
        return ByPathState(tuple(() if tx is None else tx.init(masked(params, k)) for k, tx in enumerate(inner)))

    def update(updates: Any, state: ByPathState, params: Any = None, **extra: Any) -> Any:
        gradients, treedef = jax.tree.flatten(updates)
        if params is not None:
            params = treedef.unflatten(same_structure(treedef, updates, params, "parameters"))
        places, states = owners(treedef), list(state.inner_states)
        found = [jnp.zeros_like(g) if inner[owner] is None else g for g, owner in zip(gradients, places, strict=True)]
        for index, tx in enumerate(inner):
            if tx is None:
                continue
            seen = {k: masked(x, index) if jax.tree.structure(x) == treedef else x for k, x in extra.items()}
            if params is not None and extra.get("value_fn") is not None:
                seen["value_fn"] = of_own(extra["value_fn"], gradient_point(state, params), index)
            new, states[index] = tx.update(
                masked(updates, index), states[index], None if params is None else masked(params, index), **seen
            )
            own = iter(jax.tree.leaves(new))
            found = [next(own) if owner == index else u for u, owner in zip(found, places, strict=True)]
        return treedef.unflatten(found), ByPathState(tuple(states))

    def again(*parts: Any) -> Transformation:
        left = iter(parts)
        return _joined(patterns, [None if tx is None else next(left) for tx in given])

    def treatment(path: str, p: Any) -> str:
        owner = _owner(patterns, path)
        if owner is None:
            return "no part"
        tx = given[owner]
        return f"{patterns[owner].pattern!r}: {'frozen' if tx is None else treated(tx, path, p)}"

    live = tuple(tx for tx in given if tx is not None)
    return Transformation(
        init, update, couples=couples_of(*live), parts=live, again=again, title="by_path", treatment=treatment
    )


def _owner(patterns: Sequence[re.Pattern[str]], path: str) -> int | None:
    return next((index for index, pattern in enumerate(patterns) if pattern.search(path)), None)


def _owners(patterns: Sequence[re.Pattern[str]], paths: Sequence[str]) -> list[int]:
    """The pattern of each path; raises ValueError unless each has one, and each pattern a path."""
    found = [_owner(patterns, path) for path in paths]
    left = [path for path, owner in zip(paths, found, strict=True) if owner is None]
    if left:
        raise ValueError(
            f"by_path has no part for {_listed(left)}: add one, {{..., '.*': transformation}} for all that is left, "
            "or None in its place to freeze them"
        )
    owners = [owner for owner in found if owner is not None]
    for index, pattern in enumerate(patterns if paths else ()):
        if index in owners:
            continue
        taken = [owner for path, owner in zip(paths, owners, strict=True) if pattern.search(path)]
        if taken:
            earlier = ", ".join(repr(patterns[owner].pattern) for owner in dict.fromkeys(taken))
            raise ValueError(f"all that {pattern.pattern!r} matches is taken by {earlier}, before it: put it first")
        raise ValueError(f"{pattern.pattern!r} is found in no path; the parameters are {_listed(paths)}")
    return owners


def _listed(paths: Sequence[str]) -> str:
    more = f" and {len(paths) - SHOWN} more" if len(paths) > SHOWN else ""
    return ", ".join(map(repr, paths[:SHOWN])) + more
