"""`Transformation`: optax's pair (init, update) that remembers what it was made of; chains and evaluation points."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxopt_lectures.core.checks import Hyper
from jaxopt_lectures.core.keeping import Keeping
from jaxopt_lectures.core.passes import Passes, passes_of_chain
from jaxopt_lectures.core.paths import path_text, paths_of
from jaxopt_lectures.core.slots import Couples, Kept, Slot

ORDER: tuple[Couples, ...] = ("element", "matrix", "array", "tree")
"""How far elements see each other, from the nearest."""


class Transformation(optax.GradientTransformationExtraArgs):
    """A pair of pure functions, usable wherever optax takes one, with what wrappers need to know beside it.

    Attributes:
      init: `init(params) -> state`.
      update: `update(gradients, state, params=None) -> (updates, state)`; the updates are added to the parameters.
      rule: the function of one array that it was derived from, None where there is no single one.
      slots: its live slots by field name.
      couples: which elements see each other, "tree" where nothing better is known.
      hypers: its hyper-parameters by argument name.
      parts: the transformations it is a chain of, or wraps.
      again: makes it again of other parts, `again(*parts)`; None where nothing is known.
      kept: makes it again, `kept(keeping, wide)`, with its slots kept otherwise (`core/keeping.py`), and if `wide` with
        updates in the dtype that it computes in instead of the gradient's; None without a rule.
      keeping: how its slots are kept, None if as arrays.
      title: what its repr calls it where it has no rule.
      treatment: what it does with one parameter, in words, `treatment(path, p)` with the path as "encoder/0/kernel";
        None where it does the same with all.
      passes: `passes(gradients, state, params, **extra)`, its step leaf by leaf (`core/passes.py`), of gradients that
        may be `jax.ShapeDtypeStruct`; None if it cannot be taken so.
    """

    # Class values are what `_replace`, which knows only the pair, leaves behind.
    rule: Callable[..., Any] | None = None
    slots: Mapping[str, Slot] = MappingProxyType({})
    couples: Couples = "tree"
    hypers: Mapping[str, Hyper] = MappingProxyType({})
    parts: tuple[optax.GradientTransformation, ...] = ()
    again: Callable[..., "Transformation"] | None = None
    kept: Callable[..., "Transformation"] | None = None
    keeping: Keeping | None = None
    title: str = "Transformation"
    treatment: Callable[[str, Any], str] | None = None
    passes: Callable[..., Passes] | None = None

    def __new__(
        cls,
        init: Callable[..., Any],
        update: Callable[..., Any],
        *,
        rule: Callable[..., Any] | None = None,
        slots: Mapping[str, Slot] | None = None,
        couples: Couples = "tree",
        hypers: Mapping[str, Hyper] | None = None,
        parts: tuple[optax.GradientTransformation, ...] = (),
        again: Callable[..., "Transformation"] | None = None,
        kept: Callable[..., "Transformation"] | None = None,
        keeping: Keeping | None = None,
        title: str = "Transformation",
        treatment: Callable[[str, Any], str] | None = None,
        passes: Callable[..., Passes] | None = None,
    ) -> "Transformation":
        """The pair and its declarations."""
        self = super().__new__(cls, init, update)
        self.rule, self.couples, self.parts, self.title = rule, couples, parts, title
        self.slots, self.hypers = slots or {}, hypers or {}
        self.again, self.kept, self.keeping, self.treatment, self.passes = again, kept, keeping, treatment, passes
        return self

    def __repr__(self) -> str:
        if self.rule is not None:
            named = ((name, getattr(hyper.value, "__qualname__", hyper.value)) for name, hyper in self.hypers.items())
            numbers = ", ".join(f"{name}={value}" for name, value in named)
            plain = f"{self.rule.__name__.removesuffix('_rule')}({numbers})"
            return f"store({plain}, {self.keeping})" if self.keeping else plain
        parts = [repr(part) if isinstance(part, Transformation) else "an optax transformation" for part in self.parts]
        return f"{self.title}({', '.join(parts)})"


def chain(*transformations: optax.GradientTransformation) -> Transformation:
    """Applies transformations one after the other: the updates of each are the gradients of the next.

    Takes ours and optax's. The state is a tuple with one state per part, as in `optax.chain`, and `parts` stay
    reachable, so that wrappers see through the chain.

    Raises:
      TypeError: an argument is not an (init, update) pair.
    """
    for index, part in enumerate(transformations):
        check_transformation(part, f"argument {index + 1} of chain")
    joined = optax.with_extra_args_support(optax.chain(*transformations) if transformations else optax.identity())
    couples = couples_of(*transformations)
    return Transformation(
        joined.init,
        joined.update,
        couples=couples,
        parts=transformations,
        again=chain,
        title="chain",
        passes=passes_of_chain(transformations),
    )


def couples_of(*parts: Any, least: Couples = "element") -> Couples:
    """Which elements see each other in any of the parts, and `least` at the least."""
    found: list[Any] = [least, *(getattr(part, "couples", "tree") for part in parts)]
    return max(found, key=ORDER.index)


def check_transformation(value: Any, what: str) -> None:
    """Raises TypeError unless `value` is an (init, update) pair."""
    if not isinstance(value, optax.GradientTransformation):
        hint = "give its elements, chain(*list)" if isinstance(value, (list, tuple)) else "call the factory first"
        raise TypeError(f"{what} must be a transformation, got {type(value).__name__} {value!r}; {hint}")


def eval_params(state: Any, params: Any) -> Any:
    """The weights to evaluate, to save and to publish: `params`, unless a method in `state` steps other weights.

    Args:
      state: any optimizer state: ours, optax's, chains and wrappers of both.
      params: the parameters that `update` steps.
    """
    return _asked(state, "eval_params", params)


def gradient_point(state: Any, params: Any) -> Any:
    """Where the next gradient is wanted: `params`, unless a method in `state` looks ahead.

    Use it as `jax.grad(loss)(jol.gradient_point(state, params))`; it costs nothing for methods that do not look ahead.
    """
    return _asked(state, "gradient_point", params)


def _asked(state: Any, question: str, params: Any) -> Any:
    for part in jax.tree.leaves(state, is_leaf=lambda node: hasattr(node, question)):
        if hasattr(part, question):
            params = getattr(part, question)(params)
    return params


def along(function: Callable[..., Any], params: Any, slot: Any) -> Any:
    """`function(p, s)` for each parameter and its slot; a parameter without one stays as it is.

    Raises:
      ValueError: a slot of which there is no parameter.
    """

    def one(p: Any, s: Any) -> Any:
        return function(jnp.asarray(p), s.whole(jnp.shape(p)) if isinstance(s, Kept) else s)

    def fits(p: Any, s: Any) -> bool:
        return isinstance(s, Kept) or jnp.shape(s) == jnp.shape(p)

    leaves, treedef = jax.tree.flatten(params)
    slots = jax.tree_util.tree_leaves_with_path(slot, is_leaf=lambda node: isinstance(node, Kept))
    if len(slots) == len(leaves) and all(fits(p, s) for p, (_, s) in zip(leaves, slots, strict=True)):
        return treedef.unflatten([one(p, s) for p, (_, s) in zip(leaves, slots, strict=True)])
    owned, paths = {path_text(path): s for path, s in slots}, paths_of(params)  # a library boxes leaves of either tree
    strange = sorted(set(owned) - set(paths))
    if strange:
        raise ValueError(f"the state is not of these parameters, {', '.join(paths[:8])}: it has {strange[0]!r}")
    pairs = zip(leaves, paths, strict=True)
    return treedef.unflatten([one(p, owned[path]) if path in owned else p for p, path in pairs])
