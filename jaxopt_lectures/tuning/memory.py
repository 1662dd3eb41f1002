"""How much memory there is, and how much a compiled program takes."""

from pathlib import Path
from typing import Any

_SHARE = 0.5
"""Of what is free that may be taken: other programs live here too."""
_UNKNOWN = 2**32
"""Bytes that are taken to be free where nothing tells."""
_LIMITS = Path("/sys/fs/cgroup")


def allowed(device: Any) -> int:
    """Bytes that may be taken on a device."""
    stats = device.memory_stats() or {}
    if "bytes_limit" in stats:
        return int(_SHARE * (stats["bytes_limit"] - stats.get("bytes_in_use", 0)))
    return int(_SHARE * _free())


def needed(compiled: Any) -> int:
    """Bytes that a compiled program takes while it runs, its arguments included."""
    found = compiled.memory_analysis()
    if found is None:  # not every backend tells
        return 0
    kept = found.argument_size_in_bytes + found.output_size_in_bytes - found.alias_size_in_bytes
    return int(kept + found.temp_size_in_bytes)


def _free() -> int:
    """Free bytes of the machine, or of the container if it is allowed less."""
    free = [_UNKNOWN]
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        free = [1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable")] or free
        free.append(int((_LIMITS / "memory.max").read_text()) - int((_LIMITS / "memory.current").read_text()))
    except (OSError, ValueError):  # another system, or no limit ("max")
        pass
    return max(0, min(free))
