"""What more than one device holds and sends, as tables of the page "Past one device", of its committed measurements."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stored import FOLDER, rewritten, table, told

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results" / "scaling.json"


def traffic(rows: Mapping[str, Any]) -> str:
    """Bytes sent in a step, a row for each number of devices."""
    found = rows["traffic"]["found"]
    ways = list(next(iter(found.values()))["found"])
    header = [
        "devices",
        *[way.replace("compiler", "by the partitioner").replace("scatter", "`scattered`") for way in ways],
    ]
    return table(
        header, ([count, *[f"{own['found'][way]['sent']:.3f}" for way in ways]] for count, own in found.items())
    )


def matrices(rows: Mapping[str, Any]) -> str:
    """Share of the operations and bytes sent, a row for each method."""
    header = [
        "24 matrices, 8 devices",
        "operations of a device, of those of one alone",
        "bytes sent, of the parameters'",
    ]
    found = rows["matrices"]["found"].items()
    return table(
        header,
        ([f"`{name}`", f"{own['operations']:.3f}", f"{own['sent_over_parameter_bytes']:.2f}"] for name, own in found),
    )


def cut_state(rows: Mapping[str, Any]) -> str:
    """The most that a device keeps."""
    found = rows["state"]["found"]
    return (
        "Measured on eight devices, live buffers: every optimizer of `list` that keeps arrays, in float32, int8 and "
        f"int4, keeps between {min(found.values()):.4f} and {max(found.values()):.4f} times an eighth of its state on "
        "each device (parameters of 512 x 512 and 512; counts and sums are on every device).\n"
    )


def projection(rows: Mapping[str, Any]) -> str:
    """GPT-3 on more and more devices."""
    lines = []
    for name, own in rows["projection"]["found"].items():
        devices, zero, code = name.split(", ")
        sizes = [f"{own[piece] / 1e9:.2f}" for piece in ("parameters", "gradients", "state")]
        sent = f"{own['sent'] / 1e9:.0f}" if "sent" in own else "-"
        lines.append([devices, f"`{zero}`", code, *sizes, sent])
    return table(["devices", "", "state in", "parameters, GB", "gradients, GB", "state, GB", "sent a step, GB"], lines)


def write(app: Any) -> None:
    """The tables, to be included."""
    record = json.loads(RESULTS.read_text())
    texts = {f"{make.__name__}.md": make(record["rows"]) for make in (traffic, matrices, cut_state, projection)}
    rewritten(Path(app.srcdir) / FOLDER, {**texts, "scaled_told.md": told(record)})


def setup(app: Any) -> dict[str, Any]:
    """Sphinx's entry."""
    app.connect("builder-inited", write)
    return {"parallel_read_safe": True}
