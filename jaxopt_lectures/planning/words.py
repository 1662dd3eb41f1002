"""Bytes and parameters as one reads them."""

from collections.abc import Sequence


def size_text(size: float) -> str:
    """Bytes in three digits: "89.6 GB"."""
    for unit, low in (("TB", 10**12), ("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if size >= low:
            return f"{size / low:.3g} {unit}" if size < 999.5 * low else f"{size / low:.0f} {unit}"
    return f"{size:.0f} B"


def amount(count: int) -> str:
    """A number of parameters: "174.6 billion"."""
    for unit, low in (("billion", 10**9), ("million", 10**6)):
        if count >= low:
            return f"{count / low:.4g} {unit}"
    return f"{count:,}"


def aligned(lines: Sequence[tuple[str, ...]]) -> list[str]:
    """Lines of a table: its second and third column to the right, all others to the left."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]

    def put(place: int, cell: str) -> str:
        return cell.rjust(widths[place]) if place in (1, 2) else cell.ljust(widths[place])

    return ["  ".join(put(place, cell) for place, cell in enumerate(line)).rstrip() for line in lines]
