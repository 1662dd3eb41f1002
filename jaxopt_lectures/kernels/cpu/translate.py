"""From the jaxpr of a tile to single operations on tiles and numbers: what the C++ is written from.

Every array of the jaxpr is a tile, (n,), or a number. Numbers that no tile has a part in (a learning rate, 1 - b1^t)
are left to JAX, which computes them before the kernel is called. Numbers that depend on a whole tile (the largest of
it) divide the operations into phases, each a loop of its own.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
import numpy as np

from jaxopt_lectures.kernels.cpu.values import REDUCTIONS, Program, Uniform, Unsupported, Value, used

_INLINED = ("jaxpr", "call_jaxpr", "fun_jaxpr")
_SAME = {"broadcast_in_dim", "reshape", "squeeze", "expand_dims", "copy", "copy_p", "optimization_barrier"}
_SAME |= {"stop_gradient"}
_ELEMENTWISE = {
    *("add", "sub", "mul", "div", "neg", "max", "min", "abs", "sign", "sqrt", "rsqrt", "square", "integer_pow"),
    *("floor", "is_finite", "clamp", "select_n", "convert_element_type", "bitcast_convert_type", "eq", "ne", "lt"),
    *("le", "gt", "ge", "and", "or", "xor", "not", "shift_left", "shift_right_logical", "shift_right_arithmetic"),
}
_DTYPES = ("float32", "bfloat16", "int32", "uint32", "uint16", "uint8", "bool")
_FLOATS_ONLY = {"div", "sqrt", "rsqrt", "floor", "is_finite", "sign"}
_TABLE = 8192


@dataclass
class _Translator:
    """Keeps one `Value` for each thing that is computed, however often the jaxpr says it."""

    size: int
    known: dict[Any, Value] = field(default_factory=dict)
    replay: list[tuple[Any, list[Uniform], list[Uniform]]] = field(default_factory=list)
    wanted: list[Uniform] = field(default_factory=list)

    def made(self, op: str, dtype: Any, vector: bool, inputs: Sequence[Value] = (), params: Any = None) -> Value:
        if str(dtype) not in _DTYPES:
            raise Unsupported(f"{dtype} numbers")
        key = op, str(dtype), vector, tuple(id(x) for x in inputs), str(params)
        if key not in self.known:
            phase = max((x.phase + (x.vector and op in REDUCTIONS) for x in inputs), default=0)
            self.known[key] = Value(op, str(dtype), vector, tuple(inputs), params, phase)
        return self.known[key]

    def value(self, x: Any) -> Value:
        """A number of the prologue, or a constant, as the kernel sees it."""
        if isinstance(x, Value):
            return x
        if math.prod(x.shape) != 1:
            raise Unsupported(f"an array of shape {x.shape} beside the parameter's")
        if x.value is not None:
            return self.made("literal", x.dtype, False, params=np.asarray(x.value, x.dtype).ravel()[0].item())
        if x not in self.wanted:
            self.wanted.append(x)
        return self.made("uniform", x.dtype, False, params=self.wanted.index(x))

    def walk(self, jaxpr: Any, consts: Sequence[Any], arguments: Sequence[Any]) -> list[Any]:
        """The values of what a jaxpr returns, inner ones inlined."""
        known = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*consts, *arguments], strict=True))

        def read(atom: Any) -> Any:
            if not hasattr(atom, "val"):
                return known[atom]
            return Uniform(np.shape(atom.val), atom.aval.dtype, np.asarray(atom.val))

        for eqn in jaxpr.eqns:
            inputs = [read(atom) for atom in eqn.invars]
            inner = next((eqn.params[name] for name in _INLINED if name in eqn.params), None)
            if inner is not None and eqn.primitive.name not in ("while", "scan", "cond"):
                closed = hasattr(inner, "jaxpr")
                constants = [_constant(c) for c in inner.consts] if closed else []
                found = self.walk(inner.jaxpr if closed else inner, constants, inputs)
            else:
                found = self.equation(eqn, inputs)
            known.update(zip(eqn.outvars, found, strict=True))
        return [read(atom) for atom in jaxpr.outvars]

    def equation(self, eqn: Any, inputs: list[Any]) -> list[Any]:
        """The values of what one equation gives."""
        name, (out, *more) = eqn.primitive.name, eqn.outvars
        shape, dtype = out.aval.shape, out.aval.dtype
        if name in _SAME and not more and math.prod(shape) in (1, self.size):
            one = isinstance(inputs[0], Value) or math.prod(inputs[0].shape) == 1
            if one and not (isinstance(inputs[0], Uniform) and inputs[0].shape == shape):
                return [self.flattened(inputs[0], shape)]
        if name == "convert_element_type" and isinstance(inputs[0], Uniform) and inputs[0].value is not None:
            return [Uniform(shape, dtype, np.asarray(inputs[0].value).astype(dtype))]
        if all(isinstance(x, Uniform) for x in inputs):
            results = [Uniform(v.aval.shape, v.aval.dtype) for v in eqn.outvars]
            self.replay.append((eqn, inputs, results))
            return results
        if name == "gather":
            return [self.looked_up(eqn, *inputs)]
        if name in REDUCTIONS and tuple(eqn.params["axes"]) == (0,):
            return [self.made(name, dtype, False, [self.value(inputs[0])])]
        if name not in _ELEMENTWISE or math.prod(shape) not in (1, self.size):
            raise Unsupported(f"the primitive {name!r}" + (f" of shape {shape}" if name in _ELEMENTWISE else ""))
        values = [self.value(x) for x in inputs]
        integers = name in _FLOATS_ONLY and values[0].dtype not in ("float32", "bfloat16")
        if integers or (name == "select_n" and (values[0].dtype != "bool" or len(values) != 3)):
            raise Unsupported(f"the primitive {name!r} of {values[0].dtype}")
        return [self.made(name, dtype, any(x.vector for x in values), values, eqn.params.get("y"))]

    def flattened(self, x: Any, shape: tuple[int, ...]) -> Any:
        """A tile, or a number, in whatever shape."""
        if isinstance(x, Value):
            return x
        if x.value is not None:
            return Uniform((), x.dtype, np.asarray(x.value).ravel()[0])
        result = Uniform((), x.dtype)
        self.replay.append((None, [x], [result]))
        return result

    def looked_up(self, eqn: Any, table: Any, index: Any) -> Value:
        """An element of a constant table for each index."""
        numbers = eqn.params["dimension_numbers"]
        simple = numbers.offset_dims == () and numbers.collapsed_slice_dims == (0,) and isinstance(table, Uniform)
        if not simple or table.value is None or len(table.shape) != 1 or table.shape[0] > _TABLE:
            raise Unsupported("the primitive 'gather', other than from a small constant table")
        if not isinstance(index, Value):
            raise Unsupported("a number looked up in a table")
        values = tuple(np.asarray(table.value).tolist())
        masked = [x for x in index.inputs if x.op == "literal" and x.params == len(values) - 1 >= 15]
        if index.op == "and" and masked and len(values) & (len(values) - 1) == 0:  # `Lookup` does that itself
            index = next(x for x in index.inputs if x is not masked[0])
        return self.made("lookup", table.dtype, index.vector, [index], values)


def translated(function: Callable[..., Any], tiles: Any, numbers: Any, uniforms: Any, size: int) -> Program:
    """The program of `function(tiles, numbers, uniforms)`, whose arguments are trees of shapes.

    Args:
      function: made of rules and codes.
      tiles: what has one element for each of a tile, (size,).
      numbers: what the kernel is given for each tile or leaf, of one element.
      uniforms: what is the same for all leaves.
      size: of the tile that stands for all.

    Raises:
      Unsupported: saying what.
    """
    with jax.sharding.use_abstract_mesh(jax.sharding.AbstractMesh((), ())):  # the program is there for all meshes
        jaxpr = jax.make_jaxpr(function)(tiles, numbers, uniforms)
    made = _Translator(size)
    inputs = [(x, True) for x in jax.tree.leaves(tiles)] + [(x, False) for x in jax.tree.leaves(numbers)]
    own = [made.made("input", x.dtype, vector, params=place) for place, (x, vector) in enumerate(inputs)]
    given = [Uniform(x.shape, x.dtype) for x in jax.tree.leaves(uniforms)]
    found = made.walk(jaxpr.jaxpr, [_constant(c) for c in jaxpr.consts], [*own, *given])
    outputs = [made.value(x) for x in found]
    needed = used(outputs)
    wanted = [made.made("uniform", x.dtype, False, params=place) for place, x in enumerate(made.wanted)]
    kept = [x for x in wanted if x in needed]
    sources = [made.wanted[x.params] for x in kept]

    def prologue(arguments: Sequence[Any]) -> list[Any]:
        values = dict(zip(given, arguments, strict=True))
        _replayed(made.replay, values, sources)
        return [values[x].reshape(()) for x in sources]

    return Program(outputs, kept, prologue)


def _replayed(replay: Any, values: dict[Uniform, Any], wanted: Sequence[Uniform]) -> None:
    """Computes what is wanted, and no more."""
    makers = {id(result): (eqn, inputs, results) for eqn, inputs, results in replay for result in results}

    def value(x: Uniform) -> Any:
        if x.value is not None and x.shape == ():  # made, not captured: `vmap` takes no captured arrays
            return jax.lax.full((), x.value, x.dtype)
        if x.value is not None:
            return jax.numpy.asarray(x.value, x.dtype)
        if x not in values:
            eqn, inputs, results = makers[id(x)]
            found = [value(y) for y in inputs]
            if eqn is None:
                made = [found[0].reshape(())]
            else:
                made = eqn.primitive.bind(*found, **eqn.params)
                made = made if eqn.primitive.multiple_results else [made]
            values.update(zip(results, made, strict=True))
        return values[x]

    for x in wanted:
        value(x)


def _constant(c: Any) -> Uniform:
    value = np.asarray(c)
    return Uniform(value.shape, value.dtype, value)
