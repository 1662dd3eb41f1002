"""Timing as ratios of two things in one run, and the record of the machine it was done on."""

import json
import os
import platform
import statistics
import subprocess
import time
from importlib.metadata import version
from pathlib import Path

import jax

RESULTS = Path(__file__).parent / "results"


def in_turn(programs, rounds, warmup=3):
    """Runs each program once a round, in alternating order; seconds by name. A program returns what to wait for."""
    times = {name: [] for name in programs}
    for index in range(rounds + warmup):
        for name in list(programs) if index % 2 else list(programs)[::-1]:
            start = time.perf_counter()
            jax.block_until_ready(programs[name]())
            if index >= warmup:
                times[name].append(time.perf_counter() - start)
    return times


def compared(times, ours, peer):
    """Medians, and the median of the ratios round by round: what the machine does to both cancels."""
    ratios = [a / b for a, b in zip(times[ours], times[peer], strict=True)]
    quartiles = statistics.quantiles(ratios, n=4)
    return {
        "ours_ms": 1e3 * statistics.median(times[ours]),
        "peer_ms": 1e3 * statistics.median(times[peer]),
        "ratio": statistics.median(ratios),
        "ratio_quartiles": [quartiles[0], quartiles[2]],
        "rounds": len(ratios),
    }


def machine():
    """Where and with what the numbers were taken."""
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    model = next((line.split(":")[1].strip() for line in _cpuinfo() if line.startswith("model name")), "unknown")
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "device": jax.devices()[0].device_kind,
        "python": platform.python_version(),
        "commit": commit.stdout.strip(),
        "versions": {name: version(name) for name in ("jax", "jaxlib", "optax", "flax", "numpy")},
    }


def _cpuinfo():
    path = Path("/proc/cpuinfo")
    return path.read_text().splitlines() if path.exists() else []


def save(name, rows, **more):
    """Writes benchmarks/results/NAME.json whole or not at all."""
    RESULTS.mkdir(exist_ok=True)
    target, part = RESULTS / f"{name}.json", RESULTS / f"{name}.json.part"
    part.write_text(json.dumps({"schema": 1, "machine": machine(), "rows": rows, **more}, indent=2) + "\n")
    os.replace(part, target)
    return target


def measured(name, parts, wanted):
    """Measures the parts of these names, all if none, and keeps those that were measured before."""
    path = RESULTS / f"{name}.json"
    rows = json.loads(path.read_text())["rows"] if path.exists() else {}
    for part in wanted or parts:
        print(f"== {part}: {parts[part].__doc__.splitlines()[0]}", flush=True)
        rows[part] = {"found": parts[part](), "commit": machine()["commit"]}
        save(name, rows)
