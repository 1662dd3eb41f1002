"""What one pass over memory takes, as tables of the page "One pass", of its committed measurements."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stored import entry, table

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results" / "fused.json"


def leaf(rows: Mapping[str, Any]) -> str:
    """A step on one large leaf."""
    found = rows["leaf"]["found"]
    base = next(key for key in next(iter(found.values())) if key.startswith("over "))
    lines = [[name, f"{own['ms']:.1f}", f"{own[base]:.2f}"] for name, own in found.items()]
    return table(["AdamW, one leaf of 16.8 million", "ms", base], lines)


def many(rows: Mapping[str, Any]) -> str:
    """Steps on many small leaves."""
    found, empty = rows["many"]["found"], rows["many"]["found"]["from Python"]["an empty call"]["ms"]
    lines = []
    for name, own in found["from Python"].items():
        looped = found["in a loop"].get(name)
        above = "-" if name == "torch fused" else f"{own['ms'] - empty:.1f}"
        lines.append([name, f"{own['ms']:.1f}", above, f"{looped['ms a step']:.1f}" if looped else "-"])
    header = ["AdamW, 1000 leaves of 3500", "from Python, ms", "of it above an empty call", "in a compiled loop, ms"]
    return table(header, lines)


def compilation(rows: Mapping[str, Any]) -> str:
    """Seconds until the first step."""
    found = rows["compilation"]["found"]
    header = ["1000 leaves, clipped by their norm", "tracing, s", "tracing and compilation, s"]
    return table(header, ([name, f"{own['trace']:.1f}", f"{own['both']:.1f}"] for name, own in found.items()))


def spare(rows: Mapping[str, Any]) -> str:
    """Temporary memory."""
    sizes = rows["temporaries"]["found"].values()
    return (
        "Temporary memory of a compiled step, clipped by the norm of all gradients, for one leaf of 16.8 million and "
        f"for 1000 of 3500, in f32, bf16, int8 and int4: {min(sizes):,} to {max(sizes):,} bytes.\n"
    )


def cards(rows: Mapping[str, Any]) -> str:
    """Every optimizer that has kernels."""
    found = rows["cards"]["found"]
    lines = [[f"`{name}`", *[f"{own[codec]:.2f}" for codec in own]] for name, own in found.items()]
    return table(["time of the fused step, over the plain one", "f32", "int8"], lines)


setup = entry(RESULTS, (leaf, many, compilation, spare, cards), "fused_", "fused_told.md")
