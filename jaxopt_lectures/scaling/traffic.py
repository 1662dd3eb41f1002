"""What a compiled program sends between devices, read from its text.

Bytes are those that each device sends, with rings, the algorithm that sends least:

    all-reduce of B bytes on n devices         2 B (n - 1) / n
    all-gather to B bytes                        B (n - 1) / n
    reduce-scatter of B bytes                    B (n - 1) / n
    all-to-all of B bytes                        B (n - 1) / n
    collective-permute of B bytes                B
"""

import math
import re
from dataclasses import dataclass
from typing import Any

_KINDS = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")
_OTHERS = re.compile(r" (ragged-all-to-all|collective-broadcast)(-start)?\(")
_LINE = re.compile(rf"%\S+ = (?P<shapes>.*?) (?P<kind>{'|'.join(_KINDS)})(?P<start>-start)?\(")
_SHAPE = re.compile(r"\b(?P<dtype>pred|[a-z]+\d+\w*)\[(?P<sizes>[\d,]*)\]")
_LISTED = re.compile(r"replica_groups=\{(?P<groups>\{[\d,{}]*\})\}")
_PAIRS = re.compile(r"\{(\d+),(\d+)\}")
_COUNTS = re.compile(r"(?:num_partitions|replica_count)=(\d+)")
_SPANNED = re.compile(r"replica_groups=\[(?P<groups>\d+),(?P<size>\d+)\]")
_NAMED = re.compile(r"replica_groups=mesh\[(?P<mesh>[^\]]*)\](?:, device_ids=\([^ ]*\))?\s*\{(?P<axes>[^}]*)\}")
_AXIS = re.compile(r"'(?P<name>\w+)'(?::\(\d+\)(?P<part>\d+))?")


@dataclass(frozen=True)
class Collective:
    """One operation.

    Attributes:
      kind: "all-reduce", "all-gather", "reduce-scatter", "all-to-all" or "collective-permute".
      nbytes: of what comes out of it on each device.
      devices: how many take part.
    """

    kind: str
    nbytes: int
    devices: int

    @property
    def sent(self) -> float:
        """Bytes that each device sends."""
        share = (self.devices - 1) / self.devices
        if self.kind == "reduce-scatter":
            return self.nbytes * self.devices * share
        return self.nbytes * {"all-reduce": 2 * share, "collective-permute": 1.0}.get(self.kind, share)


def collectives(compiled: Any) -> list[Collective]:
    """The operations of a compiled program, those inside of a loop once.

    Args:
      compiled: what `jax.jit(f).lower(...).compile()` gives, or its text.
    """
    text = compiled if isinstance(compiled, str) else compiled.as_text()
    everyone = math.prod(int(count) for count in _COUNTS.findall(text.partition("\n")[0]))
    found = []
    for line in text.splitlines():
        if _OTHERS.search(line):
            raise ValueError(f"a collective that is not counted: {line.strip()[:200]}")
        match = _LINE.search(line)
        if match:
            shapes = _SHAPE.findall(match["shapes"])
            if match["start"] and match["kind"] != "all-reduce":
                shapes = [shape for shape in shapes if shape != ("u32", "")]  # of a permutation: what it waits for
                shapes = shapes[len(shapes) // 2 :]  # what went in stands before what comes out
            size = sum(_size(dtype, sizes) for dtype, sizes in shapes)
            found.append(Collective(match["kind"], size, _devices(line, everyone)))
    return [one for one in found if one.devices > 1]


def sent(compiled: Any) -> float:
    """Bytes that each device sends in one call of a compiled program."""
    return sum(one.sent for one in collectives(compiled))


def _size(dtype: str, sizes: str) -> int:
    bits = re.search(r"\d+", dtype)  # f32, bf16, u8, s4; pred is a byte
    return -(-math.prod(int(n) for n in sizes.split(",") if n) * (int(bits[0]) if bits else 8) // 8)


def _devices(line: str, everyone: int) -> int:
    """How many devices are in a group, the largest if they differ."""
    if named := _NAMED.search(line):
        sizes = {name: int(size) for name, size in re.findall(r"'(\w+)'=(\d+)", named["mesh"])}
        return math.prod(int(part) if part else sizes[name] for name, part in _AXIS.findall(named["axes"]))
    if spanned := _SPANNED.search(line):
        return int(spanned["size"])
    if listed := _LISTED.search(line):
        return max(len(group.split(",")) for group in listed["groups"].strip("{}").split("},{"))
    if "replica_groups={}" in line:
        return everyone
    if "source_target_pairs" in line:
        pairs = _PAIRS.findall(line.partition("source_target_pairs=")[2])
        return 2 if any(source != target for source, target in pairs) else 1
    raise ValueError(f"a collective of unknown devices; this XLA writes them otherwise: {line.strip()[:200]}")
