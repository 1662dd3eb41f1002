"""Each operation of a translated tile as a C++ expression of the names in simd.h."""

import math
import re
from collections.abc import Callable
from typing import Any

import numpy as np

from jaxopt_lectures.kernels.cpu.values import Unsupported, Value

_TYPES = {"float32": "float", "bfloat16": "float", "int32": "int32_t", "bool": "int32_t"}
_BINARY = {"add": "+", "sub": "-", "mul": "*", "div": "/", "and": "&", "or": "|", "xor": "^"}
_CALLS = {
    "max": "Max",
    "min": "Min",
    "abs": "Abs",
    "sign": "Sign",
    "sqrt": "Sqrt",
    "floor": "Floor",
    "is_finite": "IsFinite",
    "eq": "Equal",
    "ne": "NotEqual",
    "lt": "Less",
    "le": "LessEqual",
    "gt": "Greater",
    "ge": "GreaterEqual",
    "shift_left": "ShiftLeft",
    "shift_right_logical": "ShiftRight",
    "shift_right_arithmetic": "ShiftRightSigned",
}
_FORMS = {
    "select_n": "Select({0}, {2}, {1})",
    "neg": "-{0}",
    "not": "~{0}",
    "square": "{0} * {0}",
    "rsqrt": "1.0f / Sqrt({0})",
}
_BOUNDS = {"max": "AtLeast", "min": "AtMost"}
_MASKS = {"uint8": "0xffu", "uint16": "0xffffu"}
_ROUNDED = {"add", "sub", "mul", "div", "sqrt", "rsqrt", "square", "integer_pow"}


def expression(x: Value, operand: Callable[[Value], str], table: Callable[[tuple[Any, ...]], str]) -> str:
    """An operation.

    Args:
      x: the operation.
      operand: the name of one of its operands.
      table: the name of a table, `(type, *entries)`.
    """
    args, source = [operand(y) for y in x.inputs], x.inputs[0].dtype
    literals = [y.op == "literal" for y in x.inputs]
    if x.op in _BOUNDS and any(literals):
        bound = literals.index(True)
        text = f"{_BOUNDS[x.op]}({args[1 - bound]}, {args[bound]})"
    elif x.op in _BINARY:
        text = f"{args[0]} {_BINARY[x.op]} {args[1]}"
    elif x.op in _CALLS:
        text = f"{_CALLS[x.op]}({', '.join(args)})"
    elif x.op in _FORMS:
        text = _FORMS[x.op].format(*args)
    elif x.op == "clamp":
        low, high = ("AtLeast" if literals[0] else "Max"), ("AtMost" if literals[2] else "Min")
        text = f"{high}({low}({args[1]}, {args[0]}), {args[2]})"
    elif x.op == "integer_pow":
        text = _power(args[0], x.params)
    elif x.op == "lookup":
        text = _looked_up(x, args[0], table)
    elif x.op == "bitcast_convert_type":
        text = _bitcast(args[0], source, x.dtype)
    else:
        text = _converted(args[0], source, x.dtype)
    wraps = x.dtype in _MASKS and x.op in ("add", "sub", "mul", "neg", "not", "shift_left")
    text = f"({text}) & {_MASKS[x.dtype]}" if wraps else text
    return f"Bf16({text})" if x.dtype == "bfloat16" and x.op in _ROUNDED else text


def _looked_up(x: Value, index: str, table: Callable[[tuple[Any, ...]], str]) -> str:
    """An element of a table, whose length is made a power of 2: no index is beyond its end."""
    size = max(16, 2 ** math.ceil(math.log2(len(x.params))))
    name = table((type_of(x.dtype), *x.params, *[x.params[-1]] * (size - len(x.params))))
    return f"Lookup<{size}>({name}, {index})"


def type_of(dtype: str) -> str:
    """The C++ type of a number."""
    return _TYPES.get(dtype, "uint32_t")


def literal(x: Value) -> str:
    """A constant."""
    return number(x.params, type_of(x.dtype)) if x.dtype != "bool" else ("-1" if x.params else "0")


def number(value: Any, kind: str) -> str:
    """A constant of a C++ type."""
    if kind != "float":
        return f"{kind}({int(value)}u)" if kind == "uint32_t" else f"{kind}({int(value)})"
    value = float(np.float32(value))
    if math.isnan(value):
        return "kNaN"
    if math.isinf(value):
        return "kInfinity" if value > 0 else "(-kInfinity)"
    return f"({re.sub('0+p', 'p', value.hex())}f)"


def in_table(value: Any, kind: str) -> str:
    """A constant in a table."""
    return number(value, kind) if kind == "float" else str(int(value))


def _power(x: str, y: int) -> str:
    """As XLA expands it: squares, and products of them."""
    if abs(y) > 8:
        raise Unsupported(f"the power {y}")
    if y == 0:
        return f"(Zero({x}) + 1.0f)"
    power, product, left = x, "", abs(y)
    while left:
        product = (f"({product} * {power})" if product else power) if left & 1 else product
        power, left = f"({power} * {power})", left >> 1
    return product if y > 0 else f"1.0f / {product}"


def _bitcast(x: str, source: str, to: str) -> str:
    pairs = {
        ("float32", "uint32"): f"AsUint({x})",
        ("float32", "int32"): f"AsInt(AsUint({x}))",
        ("uint32", "float32"): f"AsFloat({x})",
        ("int32", "float32"): f"AsFloat(AsUint({x}))",
        ("int32", "uint32"): f"AsUint({x})",
        ("uint32", "int32"): f"AsInt({x})",
        ("bfloat16", "uint16"): f"(AsUint({x}) >> 16)",
        ("uint16", "bfloat16"): f"AsFloat({x} << 16)",
    }
    if source == to:
        return x
    if (source, to) not in pairs:
        raise Unsupported(f"the bits of {source} as {to}")
    return pairs[source, to]


def _converted(x: str, source: str, to: str) -> str:
    if source == to or (source, to) == ("bfloat16", "float32"):
        return x
    if to == "bool":
        return f"NotEqual({x}, Zero({x}))"
    if source == "bool":
        return {"float": f"ToFloat(-{x})", "int32_t": f"(-{x})", "uint32_t": f"AsUint(-{x})"}[type_of(to)]
    if (source, to) == ("float32", "bfloat16"):
        return f"Bf16({x})"
    if type_of(source) == "float":
        if to != "int32":
            raise Unsupported(f"{source} converted to {to}")
        return f"ToInt({x})"
    if type_of(to) == "float":
        narrow = source in _MASKS
        return f"ToFloat(AsInt({x}))" if narrow else f"ToFloat({x})"
    masked = f"(AsUint({x}) & {_MASKS[to]})" if to in _MASKS else None
    return masked or (f"AsInt({x})" if to == "int32" else f"AsUint({x})")
