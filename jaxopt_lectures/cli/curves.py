"""A curve in the terminal."""

import math
from collections.abc import Sequence

_EIGHTHS = " ▁▂▃▄▅▆▇█"
_ASCII = " ...:::##"


def curve(
    steps: Sequence[float],
    values: Sequence[float],
    width: int,
    height: int,
    unicode: bool = True,
    log: bool = False,
    ends: tuple[str, str] | None = None,
) -> list[str]:
    """Columns whose tops follow the values, with the largest and smallest beside them and the steps below.

    Args:
      steps: where the values were taken, rising.
      values: what to draw; where they are not finite, nothing is.
      width: columns of the whole.
      height: rows of the drawing.
      unicode: whether the terminal has eighths of a block.
      log: whether equal factors are equal heights; the values are above 0 then, or not finite.
      ends: what is written below the first and the last step, if not their numbers.
    """
    if log:
        values = [math.log10(value) if math.isfinite(value) else value for value in values]
    finite = [value for value in values if math.isfinite(value)]
    if not finite:
        return ["nothing finite to draw"]
    low, high = min(finite), max(finite)
    labels = [f"{10**end if log else end:.4g}" for end in (high, low)]
    margin = max(map(len, labels)) + 1
    columns = max(8, width - margin - 1)
    levels = []
    for column in range(columns):
        at = steps[0] + (steps[-1] - steps[0]) * column / (columns - 1)
        nearest = min(range(len(steps)), key=lambda i: abs(steps[i] - at))
        value = values[nearest]
        share = 0.5 if high == low else (value - low) / (high - low)
        levels.append(1 + round(share * (8 * height - 1)) if math.isfinite(value) else 0)
    blocks = _EIGHTHS if unicode else _ASCII
    rows = []
    for row in range(height - 1, -1, -1):
        label = labels[0] if row == height - 1 else labels[1] if row == 0 else ""
        cells = "".join(blocks[min(8, max(0, level - 8 * row))] for level in levels)
        rows.append(f"{label:>{margin - 1}} {cells}".rstrip())
    first, last = ends or (str(steps[0]), str(steps[-1]))
    rows.append(f"{'':{margin}}{first}{last:>{columns - len(first)}}")
    return rows
