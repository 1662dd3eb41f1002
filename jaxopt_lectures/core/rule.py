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
from dataclasses import dataclass, replace
from types import FunctionType, SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxopt_lectures.core.checks import Hyper, check_floating, flags, same_shapes, same_structure, slot_dtype
from jaxopt_lectures.core.given import Given, check_result, value_at
from jaxopt_lectures.core.keeping import Keeping, plainly
from jaxopt_lectures.core.numbers import arithmetic_dtype, bounded, weight
from jaxopt_lectures.core.slots import Couples, Kept, Slot, declared_slots
from jaxopt_lectures.core.transformation import Transformation

Arrays = dict[str, Any]
SharedStep = Callable[[Sequence[jax.Array], SimpleNamespace, SimpleNamespace], Arrays]


@dataclass(frozen=True)
class _Formula:
    """What is the same for all leaves of a transformation: the static argument of the inner `jax.jit`."""

    rule: Callable[..., Any]
    options: tuple[tuple[str, Any], ...]
    powers: int
    wide: bool = False


@functools.partial(jax.jit, static_argnums=0)
def _step(formula: _Formula, g: Any, slots: Arrays, shared: Arrays, p: Any, h: Arrays, t: Any) -> Any:
    """One rule on one array, widened to the arithmetic dtype and back. Equal leaves find their trace in the cache."""
    dtype = t.dtype
    wide = g.astype(dtype)
    wide = bounded(wide, formula.powers) if formula.powers else wide
    s = Given("s", **{name: slot.astype(dtype) for name, slot in {**slots, **shared}.items()})
    p = None if p is None else p.astype(dtype)
    result = formula.rule(wide, s, p, Given("h", **h), t, **dict(formula.options))
    update, new = check_result(formula.rule.__name__, result, g, slots)
    update = update if formula.wide else update.astype(g.dtype)
    return update, {name: new[name].astype(slot.dtype) for name, slot in slots.items()}


def from_rule(
    rule: Callable[..., Any],
    state_type: Any,
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
    powers: int = 0,
    needs_params: bool = False,
    params_mask: Any = None,
    counter: str = "count",
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
      powers: highest power of the gradient that is kept: it is brought into the range where that is finite. 0: any.
      needs_params: the rule reads the parameter, so `update` must be given it.
      params_mask: tree of bools (or a function of the parameters that gives one): where False, the rule sees a
        parameter of 0.
      counter: the field that counts the steps; another name where the count is not an optimizer's.

    Raises:
      TypeError: integer or complex parameters, from `init`, naming the leaf.
      ValueError: gradients of another structure or shape than the parameters, from `update`, naming the leaf.
    """
    if counter not in getattr(state_type, "_fields", ()):
        raise TypeError(f"state_type must be a NamedTuple with a field {counter}, got {state_type!r}")
    if not all(isinstance(hyper, Hyper) for hyper in hypers):
        raise TypeError(f"hypers must be a list of interval(name, value, low, high), got {hypers!r}")
    slots = {name: slot for name, slot in declared_slots(state_type).items() if name not in without}
    lifted = _Lifted(
        formula=_Formula(rule, tuple(sorted((options or {}).items())), powers),
        state_type=state_type,
        own={name: slot for name, slot in slots.items() if slot.shape != "tree"},
        common=[name for name, slot in slots.items() if slot.shape == "tree"],
        hypers={hyper.name: hyper for hyper in hypers},
        initial=initial or {},
        dtypes={name: slot_dtype(name, dtype) for name, dtype in (dtypes or {}).items() if dtype is not None},
        decays=decays,
        ahead=ahead,
        shared=shared,
        needs_params=needs_params,
        params_mask=params_mask,
        counter=counter,
    )

    def kept(keeping: Keeping | None, wide: bool) -> Transformation:
        made = replace(lifted, keeping=keeping, formula=replace(lifted.formula, wide=wide))
        declared: dict[str, Any] = {"slots": slots, "couples": couples, "hypers": lifted.hypers}
        return Transformation(made.init, made.update, rule=rule, kept=kept, keeping=keeping, **declared)

    return kept(None, wide=False)


@dataclass(frozen=True, eq=False)
class _Lifted:
    """A rule over trees: the arguments of `from_rule`, and the two functions that follow from them."""

    formula: _Formula
    state_type: Any
    own: Mapping[str, Slot]
    common: Sequence[str]
    hypers: Mapping[str, Hyper]
    initial: Mapping[str, Any]
    dtypes: Mapping[str, Any]
    decays: Sequence[str]
    ahead: Sequence[str]
    shared: SharedStep | None
    needs_params: bool
    params_mask: Any
    counter: str
    keeping: Keeping | None = None

    def init(self, params: Any) -> Any:
        """The first state."""
        check_floating(params, as_arrays(jax.tree.leaves(params)), "parameter")
        first = self._first()
        dtype = arithmetic_dtype(*[jnp.result_type(p) for p in jax.tree.leaves(params)])
        common = {name: jnp.array(first[name], dtype) for name in self.common}  # copies: a state may be donated
        own = {
            name: new_slot(params, name, slot, first[name], self.dtypes.get(name)) for name, slot in self.own.items()
        }
        own = self.keeping.first(own, self.own, params) if self.keeping else own
        return self._state(jnp.zeros((), jnp.int32), own | common)

    def update(self, updates: Any, state: Any, params: Any = None, **extra: Any) -> Any:
        """One step: what to add to the parameters, and the next state."""
        del extra
        if not isinstance(state, self.state_type):
            raise TypeError(
                f"{self.name} keeps a {self.state_type.__name__}, got {type(state).__name__}: "
                "call update(gradients, state, params) with the state that its init or last update returned"
            )
        leaves, treedef = jax.tree.flatten(updates)
        gradients = as_arrays(leaves)
        check_floating(updates, gradients, "gradient")
        slots = self._slots(gradients, treedef, updates, state)
        read = self._read(gradients, treedef, updates, params)
        dtypes = [
            arithmetic_dtype(*[x.dtype for x in (g, *s.values(), p) if x is not None])
            for g, s, p in zip(gradients, slots, read, strict=True)
        ]
        common, seen, h, t = self._scalars(gradients, dtypes, state)
        cast = {dtype: jax.tree.map(lambda x, dtype=dtype: x.astype(dtype), (h, t)) for dtype in set(dtypes)}
        rows = [(g, s, seen, p, *cast[dtype]) for g, s, p, dtype in zip(gradients, slots, read, dtypes, strict=True)]
        steps = self.keeping.steps if self.keeping else plainly
        out = steps(_step, self.formula, getattr(state, self.counter), rows)
        own = {name: treedef.unflatten([new[name] for _, new in out]) for name in self.own}
        return treedef.unflatten([u for u, _ in out]), self._state(
            optax.safe_increment(getattr(state, self.counter)), own | common
        )

    @property
    def name(self) -> str:
        """What messages call it."""
        return self.formula.rule.__name__.removesuffix("_rule")

    def _state(self, count: jax.Array, fields: Arrays) -> Any:
        return self.state_type(**dict.fromkeys(self.state_type._fields) | {self.counter: count} | fields)

    def _first(self) -> Arrays:
        """The slots' first values, by name; schedules are asked only if one of them depends on the hyper-parameters."""
        values = {name: self.initial.get(name, 0.0) for name in (*self.own, *self.common)}
        if any(isinstance(value, FunctionType) for value in values.values()):
            h = self._values(jnp.zeros((), jnp.int32))
            values = {name: value(h) if isinstance(value, FunctionType) else value for name, value in values.items()}
        return values

    def _values(self, count: jax.Array) -> SimpleNamespace:
        """The hyper-parameters at `count`, and at the next count for those announced ahead."""
        now = {name: value_at(hyper, count) for name, hyper in self.hypers.items()}
        coming = {f"{name}_next": value_at(self.hypers[name], count + 1) for name in self.ahead}
        return SimpleNamespace(**now, **coming)

    def _slots(self, gradients: list[Any], treedef: Any, updates: Any, state: Any) -> list[Arrays]:
        """The slots of each leaf, by name."""
        columns, whole = {}, self.keeping.is_kept if self.keeping else lambda leaf: isinstance(leaf, Kept)
        for name, slot in self.own.items():
            columns[name] = same_structure(treedef, updates, getattr(state, name), f"slots {name!r}", whole)
            if self.keeping and slot.shape == "parameter":
                columns[name] = self.keeping.read(name, slot, columns[name], updates)
            elif slot.shape == "parameter":
                same_shapes(updates, gradients, columns[name], f"slot {name!r}")
        return [{name: columns[name][index] for name in columns} for index in range(len(gradients))]

    def _read(self, gradients: list[Any], treedef: Any, updates: Any, params: Any) -> list[Any]:
        """The parameter of each leaf: None if the rule does not read it, a scalar 0 where the mask leaves it out."""
        if params is None:
            if self.needs_params:
                raise ValueError(f"{self.name} reads the parameters: call update(gradients, state, params)")
            return [None] * len(gradients)
        leaves = as_arrays(same_structure(treedef, updates, params, "parameters"))
        same_shapes(updates, gradients, leaves, "the parameter")
        if not self.needs_params:
            return [None] * len(gradients)
        if self.params_mask is None:
            return leaves
        mask = self.params_mask(params) if callable(self.params_mask) else self.params_mask
        return [p if flag else np.zeros((), p.dtype) for p, flag in zip(leaves, flags(mask, updates), strict=True)]

    def _scalars(self, gradients: list[Any], dtypes: list[Any], state: Any) -> tuple[Arrays, Arrays, Arrays, jax.Array]:
        """What all leaves share: the new shared slots, what the rule sees of them, the hyper-parameters, the step."""
        dtype, count = arithmetic_dtype(*dtypes), getattr(state, self.counter)
        h = {name: jnp.asarray(value, dtype) for name, value in vars(self._values(count)).items()}
        nearest = 1 - jnp.finfo(jnp.float32 if jnp.float32 in dtypes else dtype).epsneg
        for name, hyper in self.hypers.items():
            if hyper.high == 1 and not hyper.closed:  # 0.99999999 is 1 in float32, a mean that never moves
                h[name] = jnp.minimum(h[name], jnp.asarray(nearest, dtype))
        t = count.astype(dtype) + 1
        old = {name: getattr(state, name) for name in self.common}
        new = dict(old)
        for name in self.decays:
            new[f"log_{name}"], h[f"{name}_weight"] = weight(h[name], old[f"log_{name}"].astype(dtype), t)
        if self.shared is not None:
            wide = [g.astype(d) for g, d in zip(gradients, dtypes, strict=True)]
            new |= self.shared(wide, SimpleNamespace(count=count, **old), SimpleNamespace(**h))
        seen = {name: value for name, value in new.items() if name.removeprefix("log_") not in self.decays}
        return {name: new[name].astype(old[name].dtype) for name in self.common}, seen, h, t


def as_arrays(leaves: Sequence[Any]) -> list[Any]:
    """The leaves, with Python numbers as arrays."""
    return [leaf if hasattr(leaf, "dtype") else jnp.asarray(leaf) for leaf in leaves]


def new_slot(params: Any, name: str, slot: Slot, value: Any, dtype: Any) -> Any:
    """One slot for every parameter: `value` everywhere, or leaf by leaf if it is a tree like the parameters."""

    def one(p: Any, v: Any) -> jax.Array:
        kept = dtype or arithmetic_dtype(jnp.result_type(p))
        if slot.shape == "scalar":
            return jnp.array(v, kept)
        if jnp.shape(v) not in ((), jnp.shape(p)):
            raise ValueError(f"initial {name!r} has shape {jnp.shape(v)} where the parameter has {jnp.shape(p)}")
        return jnp.full_like(jnp.asarray(p), jnp.array(v, kept), dtype=kept)  # a copy of v: a state may be donated

    if is_number(value):
        return jax.tree.map(lambda p: one(p, value), params)
    if jax.tree.structure(value) != jax.tree.structure(params):
        trees = f"{jax.tree.structure(value)}, the parameters are {jax.tree.structure(params)}"
        raise ValueError(f"initial {name!r} must be a number or a tree like the parameters; it is {trees}")
    return jax.tree.map(one, params, value)


def is_number(value: Any) -> bool:
    """Whether it is one number (or a schedule) and not a tree of arrays."""
    return jax.tree.structure(value) == jax.tree.structure(0) and (callable(value) or np.shape(value) == ())
