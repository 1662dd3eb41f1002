"""From a translated tile to the text of a C++ function: a loop over tiles, in it one loop over elements a phase."""

import functools
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jaxopt_lectures.kernels.cpu.expressions import expression, in_table, literal, type_of
from jaxopt_lectures.kernels.cpu.phases import ordered, placed
from jaxopt_lectures.kernels.cpu.values import Program, Unsupported, Value

_VECTORS = {"float": "F", "int32_t": "I", "uint32_t": "U"}
_KEPT = {"float32": "float", "bfloat16": "uint16_t", "uint16": "uint16_t", "uint8": "uint8_t", "u4": "Nibble"}
HEADERS = Path(__file__).parent / "native"
_REDUCTIONS = {"reduce_sum": "Add", "reduce_max": "Max", "reduce_min": "Min", "reduce_or": "Or", "reduce_and": "And"}
_JOINS = _REDUCTIONS | {"reduce_max": "AtLeast", "reduce_min": "AtMost"}


@dataclass(frozen=True)
class Kernel:
    """A C++ function.

    Attributes:
      name: of it, made of its text and of all that it includes: another text has another name.
      text: the function.
    """

    name: str
    text: str


@dataclass
class _Writer:
    """Writes each value once, in the loop where it is first needed."""

    loops: dict[Value, int]
    lasts: int
    names: dict[Value, str] = field(default_factory=dict)
    tables: dict[tuple[Any, ...], str] = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)

    def operand(self, x: Value, vector: bool) -> str:
        """A value where it is used, as a vector or a number."""
        if x.op == "literal":
            text = literal(x)
        elif x.op == "uniform":
            text = f"u{x.params}"
        else:
            text = self.names[x]
        return f"Splat({text})" if vector and not x.vector else text

    def expression(self, x: Value) -> str:
        """An operation on operands that have names."""
        return expression(
            x,
            lambda y: self.operand(y, x.vector),
            lambda table: self.tables.setdefault(table, f"NAME_{len(self.tables)}"),
        )

    def put(self, x: Value, text: str, indent: int) -> None:
        """Names a value."""
        self.names[x] = name = f"{'v' if x.vector else 's'}{len(self.lines)}"
        kind = type_of(x.dtype)
        self.lines.append(f"{' ' * indent}const {_VECTORS[kind] if x.vector else kind} {name} = {text};")


def kernel(program: Program, tiles: Sequence[str], numbers: Sequence[str], outputs: Sequence[str]) -> Kernel:
    """The function of a program.

    Args:
      program: of a tile.
      tiles: for each tile that is given how it is stored: "index", "u4 POINTER", or "DTYPE POINTER".
      numbers: for each number that is given where it is, a C++ expression.
      outputs: for each output how and where it is stored, as `tiles`, or for a number the C++ place.
    """
    order = ordered(program.outputs)
    loops, buffered = placed(order, program.outputs)
    last = max([x.phase for x in order] + [0])
    writer = _Writer(loops, max([x.phase for x in order if x.vector] + [0]))
    lines = writer.lines
    for place, x in enumerate(program.uniforms):
        kind = type_of(x.dtype)
        lines.append(f"  const {kind} u{x.params} = From<{kind}>(leaf.uniforms[{place}]);")
    for where in sorted({where.split(" ", 1)[1] for where in [*tiles, *outputs] if _is_tile(where)}):
        constant = "const void* const" if "leaf.in" in where else "void* const"
        lines.append(f"  {constant} {_pointer(where)} = {where};")
    slots = {x: f"b{place}" for place, x in enumerate(x for x in order if x in buffered)}
    for x, name in slots.items():
        lines.append(f"  alignas(64) {type_of(x.dtype)} {name}[kLongest];")
    lines += [
        "  for (int64_t tile = first; tile < last; ++tile) {",
        "    const int64_t start = Start(leaf, tile), n = Length(leaf, tile);",
    ]
    for x in order:
        if x.op == "input" and not x.vector:
            kind = type_of(x.dtype)
            writer.put(x, f"From<{kind}>({numbers[x.params - len(tiles)]})", 4)
    for phase in range(last + 1):
        _numbers(writer, order, phase)
        _loop(writer, program, order, phase, tiles, outputs, slots)
    for value, where in zip(program.outputs, outputs, strict=True):
        if not _is_tile(where):
            lines.append(f"    {where} = {writer.operand(value, False)};")
    lines.append("  }")
    tables = [
        f"alignas(64) static const {key[0]} {name}[] = {{{', '.join(in_table(v, key[0]) for v in key[1:])}}};"
        for key, name in writer.tables.items()
    ]
    head = "void NAME(const Leaf& leaf, int64_t first, int64_t last) {"
    text = "\n".join([*tables, head, *lines, "}"])
    name = "jol_" + hashlib.sha256((text + _around()).encode()).hexdigest()[:24]
    return Kernel(name, text.replace("NAME", name))


def _numbers(writer: _Writer, order: Sequence[Value], phase: int) -> None:
    """What is known before a loop and no tile: ends of reductions, and what follows from them."""
    for x in order:
        if x.vector or x.phase != phase or x.op in ("input", "uniform", "literal"):
            continue
        if x.op in _REDUCTIONS:
            writer.put(x, f"{_REDUCTIONS[x.op]}Of(r{order.index(x)})", 4)
        else:
            writer.put(x, writer.expression(x), 4)


def _loop(
    writer: _Writer,
    program: Program,
    order: Sequence[Value],
    phase: int,
    tiles: Sequence[str],
    outputs: Sequence[str],
    slots: dict[Value, str],
) -> None:
    """The loop of a phase, if anything is done in it."""
    here = [x for x in order if x.vector and writer.loops.get(x) == phase]
    ends = [x for x in order if x.op in _REDUCTIONS and x.phase == phase + 1]
    stores = [
        (x, where) for x, where in zip(program.outputs, outputs, strict=True) if _is_tile(where) and x.phase == phase
    ]
    if not (ends or stores):
        return
    for x in ends:
        kind = _VECTORS[type_of(x.dtype)]
        writer.lines.append(f"    {kind} r{order.index(x)} = Splat({_identity(x)});")
    start = len(writer.lines)
    for x in [x for x in order if x in slots and writer.loops[x] < phase and _used_in(x, order, writer, phase, stores)]:
        writer.names.pop(x)
        writer.put(x, f"Load({slots[x]} + i)", 6)
    for x in here:
        if x.op == "input":
            writer.put(x, _load(tiles[x.params]), 6)
        else:
            writer.put(x, writer.expression(x), 6)
        if x in slots:
            writer.lines.append(f"      Store({slots[x]} + i, {writer.names[x]});")
    for x in ends:
        name = f"r{order.index(x)}"
        value = f"Within(m, {writer.operand(x.inputs[0], True)}, Splat({_identity(x)}))"
        writer.lines.append(f"      {name} = {_JOINS[x.op]}({value}, {name});")
    for x, where in stores:
        kind, pointer = where.split(" ", 1)
        writer.lines.append(f"      Store_{kind}({_pointer(pointer)}, at, m, {writer.operand(x, True)});")
    body = writer.lines[start:]
    ahead = [
        f"      __builtin_prefetch(Address<{_KEPT[where.split()[0]]}>({_pointer(where.split()[1])}, at + n));"
        for where in tiles
        if writer.lasts and phase == writer.lasts and where != "index"
    ]
    writer.lines[start:] = [
        f"    int64_t i{phase} = 0;",
        f"    for (; i{phase} + kLanes <= n; i{phase} += kLanes) {{",
        f"      const int64_t i = i{phase}, at = start + i, m = kLanes;",
        *ahead,
        *body,
        "    }",
        f"    if (i{phase} < n) {{",
        f"      const int64_t i = i{phase}, at = start + i, m = n - i;",
        *body,
        "    }",
    ]


def _used_in(x: Value, order: Sequence[Value], writer: _Writer, phase: int, stores: Any) -> bool:
    users = [y for y in order if x in y.inputs]
    return (
        any(y.vector and writer.loops.get(y) == phase for y in users)
        or any(y.op in _REDUCTIONS and y.phase == phase + 1 for y in users)
        or any(y is x for y, _ in stores)
    )


def _identity(x: Value) -> str:
    if x.op in ("reduce_or", "reduce_and"):
        return "int32_t(0)" if x.op == "reduce_or" else "int32_t(-1)"
    if x.dtype == "int32" and x.op != "reduce_sum":
        return {"reduce_max": "kLeast", "reduce_min": "kMost"}[x.op]
    if type_of(x.dtype) != "float":
        raise Unsupported(f"the primitive {x.op!r} of {x.dtype}")
    return {"reduce_sum": "0.0f", "reduce_max": "(-kInfinity)", "reduce_min": "kInfinity"}[x.op]


def _load(where: str) -> str:
    if where == "index":
        return "Splat(uint32_t(at)) + Lanes()"
    kind, pointer = where.split(" ", 1)
    return f"Load_{kind}({_pointer(pointer)}, at, m)"


def _is_tile(where: str) -> bool:
    """Whether it says how a tile is kept, and not where a number is."""
    return where.split(" ", 1)[0] in _KEPT


def _pointer(where: str) -> str:
    """`leaf.in[0]` as a name."""
    return re.sub(r"\W+", "", where.removeprefix("leaf."))


@functools.cache
def _around() -> str:
    """All that is compiled with a kernel."""
    return "".join((HEADERS / name).read_text() for name in ("simd.h", "runtime.h", "library.cc"))
