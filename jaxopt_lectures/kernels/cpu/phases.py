"""In which loop each tile of a program is computed."""

from collections.abc import Sequence

from jaxopt_lectures.kernels.cpu.values import REDUCTIONS, Value


def ordered(outputs: Sequence[Value]) -> list[Value]:
    """All values that outputs need, inputs before users."""
    found: dict[Value, None] = {}

    def visit(x: Value) -> None:
        if x not in found:
            for y in x.inputs:
                visit(y)
            found[x] = None

    for x in outputs:
        visit(x)
    return list(found)


def placed(order: Sequence[Value], outputs: Sequence[Value]) -> tuple[dict[Value, int], set[Value]]:
    """For each tile the loop that computes it, the last that can; and which are needed in a later one again."""
    uses: dict[Value, set[int]] = {x: set() for x in order}
    for x in outputs:
        uses[x].add(x.phase)
    loops, buffered = {}, set()
    for x in reversed(order):
        if x.vector:
            loops[x] = min(uses[x])
            if len(uses[x]) > 1:
                buffered.add(x)
            for y in x.inputs:
                uses[y].add(loops[x])
        elif x.op in REDUCTIONS:
            uses[x.inputs[0]].add(x.phase - 1)
    return loops, buffered
