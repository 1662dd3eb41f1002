"""What more than one device holds and sends, as tables of the page "Past one device", of its committed measurements."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stored import entry, table

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


def networks(rows: Mapping[str, Any]) -> str:
    """Networks by name."""
    lines = []
    for name, own in rows["networks"]["found"].items():
        apart = own["counted"] / own["published"] - 1
        sizes = [f"{own[piece] / 1e9:.3g}" for piece in ("parameters", "adam", "int8", "activations")]
        published = f"{own['published']:,}" if apart == 0 else f"{own['published'] / 1e9:.4g} B"
        lines.append([f"`{name}`", f"{own['counted']:,}", published, f"{100 * apart:.2g} %" if apart else "0", *sizes])
    header = [
        "",
        "counted parameters",
        "published",
        "difference",
        "parameters, GB",
        "Adam's state",
        "in int8",
        "activations",
    ]
    return table(header, lines)


def estimates(rows: Mapping[str, Any]) -> str:
    """Plans against compiled steps."""
    lines = []
    for name, own in rows["estimates"]["found"].items():
        sizes = [f"{own[piece] / 1e6:.0f}" for piece in ("measured", "planned")]
        exact = f"{own['planned_arguments'] / own['arguments']:.4f}"
        lines.append([name, *sizes, f"{own['planned'] / own['measured']:.2f}", exact])
    return table(
        ["", "measured, MB", "plan, MB", "plan / measured", "parameters, state and batch, plan / measured"], lines
    )


def plans(rows: Mapping[str, Any]) -> str:
    """What plans were compared with, and how long one takes."""
    found, took = rows["plans"]["found"], rows["plan"]["found"]
    return (
        f"Of {found['compared']} plans of optimizer state, every optimizer of `list` in float32, int8, int4, bf16 and "
        f"fp8 with `zero` 0 and 1, {len(found['different'])} differed from the live arrays of eight devices. The plan "
        f"of GPT-3 takes {took['seconds'][1]:.1f} s and {took['peak_bytes'] / 1e6:.0f} MB, a whole process with its "
        "imports.\n"
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


setup = entry(RESULTS, (traffic, matrices, cut_state, networks, estimates, plans, projection), "", "scaled_told.md")
