"""What the runs say: for each optimizer a band, and whether it differs from the baseline by more than noise."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from jaxopt_lectures.comparison.results import Comparison, Result
from jaxopt_lectures.comparison.statistics import band, holm, paired, probability_of_improvement

Kind = Literal["baseline", "better", "worse", "within noise", "one seed", "no baseline", "diverged", "failed"]
_LEAST = 2.0**-126
_CLAIM = 0.05
"""Chance of a false claim, over all optimizers of a task."""


@dataclass(frozen=True)
class Verdict:
    """One optimizer against the baseline.

    Attributes:
      kind: "better" or "worse" where the difference is more than noise.
      mean: of the scores; not a number where one diverged.
      low, high: a 95 % band for it.
      difference: mean difference to the baseline of runs that share a seed; of its logarithm where `ratio`.
      near, far: its 95 % interval.
      p: chance of such a difference where there is none, raised for the number of optimizers (Holm).
      probability: that a run of this optimizer is better than one of the baseline.
      ratio: whether errors are compared by their ratio.
    """

    kind: Kind
    mean: float = math.nan
    low: float = math.nan
    high: float = math.nan
    difference: float = math.nan
    near: float = math.nan
    far: float = math.nan
    p: float = math.nan
    probability: float = math.nan
    ratio: bool = False


def verdicts(one: Comparison, baseline: str) -> dict[str, Verdict]:
    """A verdict for each optimizer of a task.

    Errors, that is metrics that fall and are never negative, are compared by their ratio: their runs differ by factors.
    An error of 0 counts as the smallest that float32 has. Other metrics are compared by their difference.
    """
    larger = one.task["larger_is_better"]
    results = {result.name: result for result in one.results}
    base = results.get(baseline)
    usable = base is not None and not base.error and not base.diverged
    ratio = not larger and all(score >= 0 for result in one.results for score in result.scores if math.isfinite(score))
    resolution = 1 / one.task["scored_examples"] if one.task["metric_unit"] == "%" else 0.0
    compared = {
        name: paired(_scale(result, ratio), _scale(base, ratio), resolution)
        for name, result in results.items()
        if usable and base is not None and name != baseline and not result.error and not result.diverged
    }
    raised = holm({name: found[3] for name, found in compared.items()})
    return {name: _verdict(result, base, larger, ratio, compared, raised) for name, result in results.items()}


def _verdict(
    result: Result,
    base: Result | None,
    larger: bool,
    ratio: bool,
    compared: dict[str, tuple[float, float, float, float]],
    raised: dict[str, float],
) -> Verdict:
    if result.error:
        return Verdict("failed")
    if result.diverged:
        return Verdict("diverged")
    mean, (low, high) = statistics.fmean(result.scores), band(result.scores)
    if result is base:
        return Verdict("baseline", mean, low, high, ratio=ratio)
    if base is None or result.name not in compared:
        return Verdict("no baseline", mean, low, high, ratio=ratio)
    difference, near, far, _ = compared[result.name]
    p, sign = raised[result.name], 1 if larger else -1
    ours, theirs = ([sign * score for score in one.scores] for one in (result, base))
    kind: Kind = "within noise"
    if len(ours) == 1:
        kind = "one seed"
    elif p < _CLAIM:
        kind = "better" if sign * difference > 0 else "worse"
    chance = probability_of_improvement(ours, theirs)
    return Verdict(kind, mean, low, high, difference, near, far, p, chance, ratio)


def conclusion(one: Comparison, baseline: str, found: dict[str, Verdict]) -> list[str]:
    """The verdicts as sentences."""
    by_kind: dict[str, list[str]] = {}
    for name, verdict in found.items():
        by_kind.setdefault(verdict.kind, []).append(name)
    base, lines = found.get(baseline), []
    if base is None or base.kind in ("diverged", "failed"):
        lines.append(
            f"the baseline {baseline} {'failed' if base and base.kind == 'failed' else 'diverged'}: no differences"
        )
    if "better" in by_kind:
        lines.append(f"better than {baseline}: {', '.join(by_kind['better'])}")
    if "worse" in by_kind:
        lines.append(f"worse than {baseline}: {', '.join(by_kind['worse'])}")
    if base is not None and base.kind == "baseline" and "within noise" in by_kind:
        lines.append(
            f"not told apart from {baseline}, the difference is within noise: {', '.join(by_kind['within noise'])}"
        )
    if "one seed" in by_kind:
        lines.append("one seed tells nothing about noise: ask for more")
    for result in one.results:
        if not result.error and result.diverged:
            lines.append(f"{result.name} diverged in {result.diverged} of {len(result.studies)} runs")
    return lines + _edges(one.results)


def _edges(results: Sequence[Result]) -> list[str]:
    """Winners that sit at an end of where was searched: the best may lie beyond it."""
    lines = []
    for result in results:
        for name, end in (result.edges or {}).items():
            where = result.space[name]
            low, high = where["low"], where["high"]
            wider = f"{low / 100:g}:{high:g}" if end == "low" else f"{low:g}:{high * 100:g}"
            hint = f"; search further: --space {result.name}.{name}=log:{wider}" if where["scale"] == "log" else ""
            lines.append(f"{result.name} chose {name} at the {end} end of {low:g} to {high:g}{hint}")
    return lines


def _scale(result: Result, ratio: bool) -> list[float]:
    return [math.log(max(score, _LEAST)) for score in result.scores] if ratio else list(result.scores)
