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

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import FunctionType, SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxopt_lectures.core.checks import Hyper, check_floating, flags, same_shapes, same_structure, slot_dtype
from jaxopt_lectures.core.first import first_slot
from jaxopt_lectures.core.given import value_at
from jaxopt_lectures.core.keeping import Keeping, Own, Row
from jaxopt_lectures.core.numbers import arithmetic_dtype, weight
from jaxopt_lectures.core.passes import Part, Passes
from jaxopt_lectures.core.paths import paths_of
from jaxopt_lectures.core.slots import Couples, Kept, Slot, as_it_was, declared_slots, unboxed
from jaxopt_lectures.core.step import Formula, step
from jaxopt_lectures.core.together import one_by_one, whole_matrices
from jaxopt_lectures.core.transformation import Transformation

Arrays = dict[str, Any]
SharedStep = Callable[[Sequence[jax.Array], SimpleNamespace, SimpleNamespace], Arrays]
Layout = Callable[[str, tuple[int, ...]], Mapping[str, Any]]


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
    layout: Layout | None = None,
    treatment: Callable[[str, Any], str] | None = None,
    key: jax.Array | None = None,
    counter: str = "count",
) -> Transformation:
    """Lifts a rule to trees.

    Args:
      rule: see the top of this file. A plain function at module level, so that every use of it shares its traces.
      state_type: a NamedTuple with `count` and declared slots (`core/slots.py`).
      hypers: the numeric hyper-parameters, each a number, a traced scalar or a schedule (`core/checks.py`).
      options: static keyword arguments of the rule (bools, sizes): they choose the formula.
      initial: first values of slots, 0 where not given: a number, a tree like the parameters, a function of the
        hyper-parameters at count 0, `(h) -> number`, or what depends on the parameter (`core/first.py`).
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
      layout: `(path, shape) -> options`, more static keyword arguments of the rule, for each parameter its own. If it
        has a method `check(paths)`, that is called with those of all parameters, and raises.
      treatment: says in words what is done with a parameter, `(path, p) -> text`.
      key: the rule is given `h.key`, a key of its own for each step and parameter, drawn from this one.
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
        formula=Formula(rule, tuple(sorted((options or {}).items())), powers),
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
        layout=layout,
        key=key,
        couples=couples,
        counter=counter,
    )

    def kept(keeping: Keeping | None, wide: bool) -> Transformation:
        made = replace(lifted, keeping=keeping, formula=replace(lifted.formula, wide=wide))
        declared: dict[str, Any] = {
            "slots": slots,
            "couples": couples,
            "hypers": lifted.hypers,
            "treatment": treatment,
        }
        passes = made.passes if key is None and couples not in ("matrix", "array") else None
        return Transformation(made.init, made.update, rule=rule, kept=kept, keeping=keeping, passes=passes, **declared)

    return kept(None, wide=False)


@dataclass(frozen=True, eq=False)
class _Lifted:
    """A rule over trees: the arguments of `from_rule`, and the two functions that follow from them."""

    formula: Formula
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
    layout: Layout | None
    key: jax.Array | None
    couples: Couples
    counter: str
    keeping: Keeping | None = None

    def init(self, params: Any) -> Any:
        """The first state."""
        check_floating(params, as_arrays(jax.tree.leaves(params)), "parameter")
        first = self._first()
        dtype = arithmetic_dtype(*[jnp.result_type(p) for p in jax.tree.leaves(params)])
        common = {name: jnp.array(first[name], dtype) for name in self.common}  # copies: a state may be donated
        getattr(self.layout, "check", lambda paths: None)(paths_of(params))
        options = [dict(formula.options) for formula in self._formulas(params)]
        own = {
            name: first_slot(params, name, slot, first[name], self.dtypes.get(name), options)
            for name, slot in self.own.items()
        }
        own = self.keeping.first(own, self.own, params) if self.keeping else own
        return self._state(jnp.zeros((), jnp.int32), own | common)

    def update(self, updates: Any, state: Any, params: Any = None, **extra: Any) -> Any:
        """One step: what to add to the parameters, and the next state."""
        ((rows, keeping, count),), after, _ = self.passes(updates, state, params, **extra)
        plainly = whole_matrices if self.couples == "matrix" else one_by_one
        out = keeping.steps(step, plainly, count, rows) if keeping else plainly(step, rows)
        return jax.tree.structure(updates).unflatten([u for u, _ in out]), after([[new for _, new in out]])

    def passes(self, updates: Any, state: Any, params: Any = None, **extra: Any) -> Passes:
        """The step leaf by leaf, before it is taken."""
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
        count = getattr(state, self.counter)
        plain = [{name: unboxed(value) for name, value in row.items()} for row in slots]
        owns = list(map(Own, gradients, plain, read, self._keys(count, len(gradients))))
        dtypes = [arithmetic_dtype(*[x.dtype for x in jax.tree.leaves(own._replace(key=None))]) for own in owns]
        common, seen, h, t = self._scalars(gradients, dtypes, state)
        cast = {dtype: jax.tree.map(lambda x, dtype=dtype: x.astype(dtype), (h, t)) for dtype in set(dtypes)}
        rows = [
            Row(formula, own, (seen, *cast[dtype]))
            for formula, own, dtype in zip(self._formulas(updates), owns, dtypes, strict=True)
        ]

        def after(new: Any) -> Any:
            found = list(zip(slots, new[0], strict=True))
            own = {name: treedef.unflatten([as_it_was(old[name], x[name]) for old, x in found]) for name in self.own}
            return self._state(optax.safe_increment(count), own | common)

        return Passes([Part(rows, self.keeping, count)], after)

    @property
    def name(self) -> str:
        """What messages call it."""
        return self.formula.rule.__name__.removesuffix("_rule")

    def _state(self, count: jax.Array, fields: Arrays) -> Any:
        return self.state_type(**dict.fromkeys(self.state_type._fields) | {self.counter: count} | fields)

    def _formulas(self, tree: Any) -> list[Formula]:
        """The formula of each leaf, which may have options of its own."""
        leaves = jax.tree.leaves(tree)
        if self.layout is None:
            return [self.formula] * len(leaves)
        given = dict(self.formula.options)
        found = [self.layout(path, jnp.shape(leaf)) for path, leaf in zip(paths_of(tree), leaves, strict=True)]
        return [replace(self.formula, options=tuple(sorted({**given, **more}.items()))) for more in found]

    def _keys(self, count: jax.Array, leaves: int) -> Sequence[jax.Array | None]:
        """A key for each leaf."""
        if self.key is None:
            return [None] * leaves
        return list(jax.random.split(jax.random.fold_in(self.key, count), leaves)) if leaves else []

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
        columns, is_kept = {}, self.keeping.is_kept if self.keeping else lambda leaf: isinstance(leaf, Kept)
        for name, slot in self.own.items():
            whole = is_kept if slot.shape != "factors" else lambda leaf: True
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
            new |= self.shared(gradients, SimpleNamespace(count=count, **old), SimpleNamespace(**h))
        seen = {name: value for name, value in new.items() if name.removeprefix("log_") not in self.decays}
        return {name: new[name].astype(old[name].dtype) for name in self.common}, seen, h, t


def as_arrays(leaves: Sequence[Any]) -> list[Any]:
    """The leaves, with Python numbers as arrays."""
    return [leaf if hasattr(leaf, "dtype") else jnp.asarray(leaf) for leaf in leaves]
