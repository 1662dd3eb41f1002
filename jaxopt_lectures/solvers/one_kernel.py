"""A whole solve as one CPU function.

XLA's CPU runs a loop instruction by instruction through a scheduler that takes some tenths of a microsecond for each: a
hundred times longer than the arithmetic of a small problem. It compiles small loops into one function instead, but only
below a size that a solver's state exceeds. Two attributes on the call ask for the same: `xla_cpu_small_call`, and
`inlineable`, so that the call is still there when XLA looks for it. They are notes, not options: where they mean
nothing they change nothing.

Not everything can be in such a function: library calls, sorts, scatters, and sums over so many elements that a library
does them. So a function is looked at first, and only what is known to work is asked for; `docs/minimize.md` has what it
is worth.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental.xla_metadata import set_xla_metadata
from jax.interpreters import partial_eval as pe

_SUMMED = 2048  # elements of an array that is summed
_HELD = 16384  # elements of any array
_WORDS = """
abs acos acosh add add_any and asin asinh atan atan2 atanh bitcast_convert_type broadcast_in_dim cbrt ceil clamp
concatenate convert_element_type copy cos cosh cumsum digamma div dynamic_slice dynamic_update_slice eq erf erf_inv erfc
exp exp2 expm1 floor ge gt integer_pow iota is_finite le lgamma log log1p logistic lt max min mul ne neg nextafter not
or pad pow reduce_and reduce_max reduce_min reduce_or reduce_prod reduce_sum rem reshape rev round rsqrt select_n sign
sin sinh slice split sqrt square squeeze stop_gradient sub tan tanh transpose xor
"""
_SIMPLE = frozenset(_WORDS.split())
_NESTED = frozenset(("jit", "pjit", "closed_call", "custom_jvp_call", "custom_vjp_call", "while", "cond", "scan"))


def fits(closed: Any) -> bool:
    """Whether a program (a ClosedJaxpr) is known to work as one function: small, of simple operations, on the CPU."""
    return jax.default_backend() == "cpu" and on_one_device(closed.consts) and _simple(closed.jaxpr)


def small(arrays: Any) -> bool:
    """Whether arrays, or shapes, are small enough to be held in such a function."""
    return all(math.prod(leaf.shape) <= _HELD for leaf in jax.tree.leaves(arrays))


def on_one_device(arrays: Any) -> bool:
    """Whether arrays lie on one device; where they are traced that is not known, unless there is only one."""
    for leaf in jax.tree.leaves(arrays):
        if isinstance(leaf, jax.core.Tracer):
            if jax.device_count() > 1:
                return False
        elif isinstance(leaf, jax.Array) and len(leaf.sharding.device_set) > 1:
            return False
    return True


def as_one_kernel(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function` as one CPU function; also under `jax.vmap`, where lanes run one after the other."""

    @jax.custom_batching.custom_vmap
    def call(*arguments: Any) -> Any:
        leaves, treedef = jax.tree.flatten(arguments)
        used = _used(function, arguments)

        def of_used(*given: Any) -> Any:
            mine = iter(given)
            every = [next(mine) if u else jnp.zeros(jnp.shape(v), v.dtype) for v, u in zip(leaves, used, strict=True)]
            return function(*treedef.unflatten(every)), given

        # XLA aborts on a parameter of such a function that nothing uses. Those that are not used are not handed over;
        # and what XLA itself may find to be unneeded is a result, too.
        result, _ = jax.jit(of_used)(*[leaf for leaf, u in zip(leaves, used, strict=True) if u])
        # Tagging a result tags the operation it comes from, the call, and nothing inside of it.
        return set_xla_metadata(result, inlineable="false", xla_cpu_small_call="true")

    @call.def_vmap
    def lanes(axis_size: int, batched: Any, *arguments: Any) -> Any:
        del axis_size
        leaves, treedef = jax.tree.flatten(arguments)
        flags = jax.tree.leaves(batched)
        over = [leaf for leaf, flag in zip(leaves, flags, strict=True) if flag]

        def one(lane: Any) -> Any:
            mine = iter(lane)
            return call(*treedef.unflatten([next(mine) if f else a for a, f in zip(leaves, flags, strict=True)]))

        out = jax.lax.map(one, over)
        return out, jax.tree.map(lambda _: True, out)

    return call


def _used(function: Callable[..., Any], arguments: Any) -> list[bool]:
    """Which of the arrays in the arguments the result depends on."""
    jaxpr = jax.make_jaxpr(function)(*arguments).jaxpr
    return list(pe.dce_jaxpr(jaxpr, [True] * len(jaxpr.outvars))[1])


def _simple(jaxpr: Any) -> bool:
    return all(_simple_equation(equation) for equation in jaxpr.eqns) and _small(jaxpr.invars)


def _simple_equation(equation: Any) -> bool:
    name = equation.primitive.name
    if name in _NESTED:
        parts = jax.tree.leaves(list(equation.params.values()), is_leaf=lambda p: hasattr(p, "eqns"))
        bodies = [getattr(part, "jaxpr", part) for part in parts if hasattr(part, "eqns")]
        return bool(bodies) and all(_simple(body) for body in bodies)
    known = name in _SIMPLE or (name == "dot_general" and _vector_product(equation))
    summed = not name.startswith("reduce_") or _size(equation.invars[0]) <= _SUMMED
    return known and summed and _small([*equation.invars, *equation.outvars])


def _vector_product(equation: Any) -> bool:
    """Whether one side of a product is a vector: products of matrices are a library's."""
    (_, _), (batch, _) = equation.params["dimension_numbers"]
    return not batch and min(len(v.aval.shape) for v in equation.invars) == 1


def _small(variables: Any) -> bool:
    return all(_size(v) <= _HELD for v in variables)


def _size(variable: Any) -> int:
    return math.prod(getattr(variable.aval, "shape", ()))
