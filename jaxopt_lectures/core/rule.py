"""From a rule, a function of one array, to an (init, update) pair over any tree of arrays.

A rule is `rule(g, s, p, h, t) -> (update, slots)`:

    g       the gradient of one parameter, float32 or wider
    s       its slots (`s.mu`, ...), and the slots that all parameters share
    p       the parameter; None unless the rule declared that it needs it
    h       the hyper-parameters of this step (`h.learning_rate`, ...), scalars
    t       the number of this step, from 1, a scalar
    update  what is added to the parameter
    slots   the new slots by name

Trees, dtypes, schedules, masks and errors are the business of this file and of no rule.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import FunctionType, SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxopt_lectures.core.checks import Hyper, check_parameters, same_shapes, same_structure
from jaxopt_lectures.core.numbers import arithmetic_dtype, bounded
from jaxopt_lectures.core.slots import Couples, Slot, declared_slots
from jaxopt_lectures.core.transformation import Transformation

Scalars = dict[str, jax.Array]
SharedStep = Callable[[Sequence[jax.Array], SimpleNamespace, SimpleNamespace], Scalars]


@dataclass(frozen=True)
class _Leaf:
    """What is the same for all leaves of one transformation: the static part of the inner `jax.jit`."""

    rule: Callable[..., Any]
    options: tuple[tuple[str, Any], ...]
    powers: int


@functools.partial(jax.jit, static_argnums=0)
def _step(leaf: _Leaf, g: Any, slots: dict[str, Any], shared: Scalars, p: Any, h: Scalars, t: Any) -> Any:
    """One rule on one array, widened to the arithmetic dtype and back. Equal leaves find their trace in the cache."""
    dtype = t.dtype
    wide = g.astype(dtype)
    wide = bounded(wide, leaf.powers) if leaf.powers > 1 else wide
    s = SimpleNamespace(**{name: slot.astype(dtype) for name, slot in {**slots, **shared}.items()})
    p = None if p is None else p.astype(dtype)
    update, new = leaf.rule(wide, s, p, SimpleNamespace(**h), t, **dict(leaf.options))
    return update.astype(g.dtype), {name: new[name].astype(slot.dtype) for name, slot in slots.items()}


def from_rule(
    rule: Callable[..., Any],
    state_type: type,
    hypers: Sequence[Hyper] = (),
    *,
    options: Mapping[str, Any] | None = None,
    initial: Mapping[str, Any] | None = None,
    dtypes: Mapping[str, Any] | None = None,
    without: Sequence[str] = (),
    decays: Sequence[str] = (),
    ahead: Sequence[str] = (),
    shared: SharedStep | None = None,
    couples: Couples = "element",
    powers: int = 1,
    needs_params: bool = False,
    params_mask: Any = None,
) -> Transformation:
    """Lifts a rule to trees.

    Args:
      rule: see the top of this file. A plain function at module level, so that every use of it shares its traces.
      state_type: a NamedTuple with `count` and declared slots (`core/slots.py`).
      hypers: the numeric hyper-parameters, each a number, a traced scalar or a schedule (`core/checks.py`).
      options: static keyword arguments of the rule (bools, sizes): they choose the formula.
      initial: first values of slots, 0 where not given: a number, a tree like the parameters, or a function of the
        hyper-parameters at count 0, `(h) -> number`.
      dtypes: slots to keep in another dtype than float32 (float64 for float64 parameters), by name.
      without: slots that these options do not need; their field is None.
      decays: hyper-parameters that weight a running mean. For each such `b` the rule is given `h.b_weight`
        = 1 - b^t, the weight the mean has seen so far (for a schedule one minus the product of all its values).
      ahead: hyper-parameters whose value at the next step the rule is given too, as `h.NAME_next`.
      shared: `(gradients, s, h) -> values by name`, called once a step before the rule, which sees them in `s`. Those
        with the name of a shared slot are its new value. Its `s` has the old shared slots and `count`.
      couples: which elements of the gradient an element of the update may depend on.
      powers: highest power of the gradient that is summed: it is kept in the range where that is finite.
      needs_params: the rule reads the parameter, so `update` must be given it.
      params_mask: tree of bools (or a function of the parameters that gives one): where False, the rule sees a
        parameter of 0.

    Raises:
      TypeError: integer or complex parameters, from `init`, naming the leaf.
      ValueError: gradients of another structure or shape than the parameters, from `update`, naming the leaf.
    """
    live = {name: slot for name, slot in declared_slots(state_type).items() if name not in without}
    weights = [name for name in live if name.startswith("log_")]
    own = {name: slot for name, slot in live.items() if slot.shape != "tree"}
    by_name = {hyper.name: hyper.value for hyper in hypers}
    leaf = _Leaf(rule, tuple(sorted((options or {}).items())), powers)
    initial, dtypes = initial or {}, {k: v for k, v in (dtypes or {}).items() if v is not None}

    def init(params: Any) -> Any:
        check_parameters(params)
        first = SimpleNamespace(**_resolve(by_name, 0, ahead))
        fields: dict[str, Any] = dict.fromkeys(state_type._fields)  # type: ignore[attr-defined]
        fields["count"] = jnp.zeros((), jnp.int32)
        for name, slot in live.items():
            value = initial.get(name, 0.0)
            value = value(first) if isinstance(value, FunctionType) else value
            if slot.shape == "tree":
                dtype = arithmetic_dtype(*[jnp.result_type(p) for p in jax.tree.leaves(params)])
                fields[name] = jnp.asarray(value, dtype)
            else:
                fields[name] = _new_slot(params, name, slot, value, dtypes.get(name))
        return state_type(**fields)

    def update(updates: Any, state: Any, params: Any = None, **extra: Any) -> Any:
        del extra
        if needs_params and params is None:
            raise ValueError(f"{_title(rule)} reads the parameters: call update(gradients, state, params)")
        gradients, treedef = jax.tree.flatten(updates)
        slots = {name: same_structure(treedef, updates, getattr(state, name), f"slots {name!r}") for name in own}
        for name, slot in own.items():
            if slot.shape == "parameter":
                same_shapes(updates, gradients, slots[name], f"slot {name!r}")
        read: list[Any] = [None] * len(gradients)
        if params is not None:
            read = same_structure(treedef, updates, params, "parameters")
            same_shapes(updates, gradients, read, "the parameter")
        read = _masked(read, treedef, updates, params, params_mask) if needs_params else [None] * len(gradients)
        columns = [dict(zip(slots, column, strict=True)) for column in zip(*slots.values(), strict=True)]
        columns = columns or [{}] * len(gradients)
        dtypes = [
            arithmetic_dtype(*[x.dtype for x in (g, p, *c.values()) if x is not None])
            for g, p, c in zip(gradients, read, columns, strict=True)
        ]
        widest = arithmetic_dtype(*dtypes)

        h = {k: jnp.asarray(v, widest) for k, v in _resolve(by_name, state.count, ahead).items()}
        now = {name: getattr(state, name) for name, slot in live.items() if slot.shape == "tree"}
        new_shared, t = dict(now), state.count.astype(widest) + 1
        for name in decays:
            new_shared[f"log_{name}"], h[f"{name}_weight"] = _weight(h[name], now[f"log_{name}"].astype(widest), t)
        if shared is not None:
            wide = [g.astype(d) for g, d in zip(gradients, dtypes, strict=True)]
            new_shared |= shared(wide, SimpleNamespace(count=state.count, **now), SimpleNamespace(**h))
        seen = {name: value for name, value in new_shared.items() if name not in weights}
        new_shared = {name: new_shared[name].astype(old.dtype) for name, old in now.items()}

        scalars = {d: jax.tree.map(lambda x, d=d: x.astype(d), (h, t)) for d in set(dtypes)}
        out = [
            _step(leaf, g, slot, seen, p, *scalars[d])
            for g, slot, p, d in zip(gradients, columns, read, dtypes, strict=True)
        ]
        fields: dict[str, Any] = dict.fromkeys(state_type._fields)  # type: ignore[attr-defined]
        fields |= new_shared | {name: treedef.unflatten([new[name] for _, new in out]) for name in own}
        fields["count"] = optax.safe_increment(state.count)
        return treedef.unflatten([u for u, _ in out]), state_type(**fields)

    return Transformation(
        init,
        update,
        rule=rule,
        slots=live,
        couples=couples,
        hypers={hyper.name: hyper for hyper in hypers},
    )


def _resolve(by_name: Mapping[str, Any], count: Any, ahead: Sequence[str]) -> dict[str, Any]:
    """Every hyper-parameter's value at `count`, and at the next count for those in `ahead`."""

    def value(name: str, at: Any) -> Any:
        found = by_name[name]
        found = found(at) if callable(found) else found
        if np.shape(found) != ():
            raise ValueError(f"the schedule of {name} returned shape {np.shape(found)}, expected a scalar")
        return found

    now = {name: value(name, count) for name in by_name}
    return now | {f"{name}_next": value(name, count + 1) for name in ahead}


def _weight(b: jax.Array, mean_log: jax.Array, t: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The new mean of log b over the steps so far, and 1 - b^t, the weight that a running mean has seen.

    `1 - b**t` cancels in float32, and is wrong when b changes. The mean of the logarithms stays exactly log b while b
    is constant, and `-expm1` of t times it keeps all digits. The floor, exp(-85), stands for b = 0.
    """
    log_b = jnp.log(jnp.maximum(b, 1e-37))
    mean_log = mean_log + (log_b - mean_log) / t
    return mean_log, -jnp.expm1(t * mean_log)


def _new_slot(params: Any, name: str, slot: Slot, value: Any, dtype: Any) -> Any:
    """One slot for every parameter: `value` everywhere, or leaf by leaf if it is a tree like the parameters."""

    def one(p: Any, v: Any) -> jax.Array:
        kept = dtype or arithmetic_dtype(jnp.result_type(p))
        if slot.shape == "scalar":
            return jnp.asarray(v, kept)
        if jnp.shape(v) not in ((), jnp.shape(p)):
            raise ValueError(f"initial {name!r} has shape {jnp.shape(v)} where the parameter has {jnp.shape(p)}")
        return jnp.full_like(jnp.asarray(p), v, dtype=kept)

    is_tree = jax.tree.structure(value) != jax.tree.structure(0)
    return jax.tree.map(one, params, value) if is_tree else jax.tree.map(lambda p: one(p, value), params)


def _masked(read: list[Any], treedef: Any, updates: Any, params: Any, mask: Any) -> list[Any]:
    """The parameters, with a scalar 0 in the place of those that the mask leaves out."""
    if mask is None:
        return read
    mask = mask(params) if callable(mask) else mask
    flags = [flag for flag, part in zip(*_prefix(mask, updates), strict=True) for _ in jax.tree.leaves(part)]
    return [p if flag else np.zeros((), p.dtype) for p, flag in zip(read, flags, strict=True)]


def _prefix(mask: Any, tree: Any) -> tuple[list[Any], list[Any]]:
    flags, treedef = jax.tree.flatten(mask)
    return flags, treedef.flatten_up_to(tree)


def _title(rule: Callable[..., Any]) -> str:
    return rule.__name__.removesuffix("_rule")
