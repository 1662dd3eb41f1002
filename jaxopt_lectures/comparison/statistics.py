"""What may be said from a few runs: bands, differences, probabilities, profiles."""

import math
import statistics
from collections.abc import Mapping, Sequence

import numpy as np

_LEVEL = 0.95
_RESAMPLES = 9999


def band(values: Sequence[float]) -> tuple[float, float]:
    """A 95 % interval for the mean, by the bias-corrected and accelerated bootstrap.

    Where a value is not finite, neither are its ends. Of a single value, or of equal ones, it is that value.

    Source: B. Efron, Better bootstrap confidence intervals, JASA 82, 1987.
    """
    if not all(map(math.isfinite, values)):
        return -math.inf, math.inf
    if len(set(values)) == 1:
        return values[0], values[0]
    from scipy.stats import bootstrap

    found = bootstrap((np.asarray(values),), np.mean, confidence_level=_LEVEL, n_resamples=_RESAMPLES, rng=0)
    low, high = map(float, found.confidence_interval)
    return (low, high) if math.isfinite(low + high) else (min(values), max(values))


def paired(
    ours: Sequence[float], theirs: Sequence[float], resolution: float = 0.0
) -> tuple[float, float, float, float]:
    """Mean difference of runs that share a seed, its 95 % t interval, and the p-value of there being none.

    Bootstrap intervals of five runs claim differences that are not there in 13 to 17 % of cases; Student's t does not.
    The standard deviation is at least that which rounding both to the `resolution` of the metric gives,
    resolution / sqrt(6), so that two equal differences of one example are not taken for certainty.

    Args:
      ours: [seed], all finite.
      theirs: [seed], likewise.
      resolution: the smallest difference that the metric can show: 1 / n for the share of n examples.

    Returns:
      The difference, the interval's ends, p. Of one seed the interval is infinite and p is 1.

    Source: Student, Biometrika 6, 1908.
    """
    from scipy.stats import t

    differences = np.subtract(ours, theirs)
    count, mean = len(differences), float(np.mean(differences))
    if count < 2:
        return mean, -math.inf, math.inf, 1.0
    deviation = max(float(np.std(differences, ddof=1)), resolution / math.sqrt(6))
    error = deviation / math.sqrt(count)
    if error == 0:
        return mean, mean, mean, 1.0 if mean == 0 else 0.0
    half = float(t.ppf((1 + _LEVEL) / 2, count - 1)) * error
    return mean, mean - half, mean + half, float(2 * t.sf(abs(mean) / error, count - 1))


def holm(probabilities: Mapping[str, float]) -> dict[str, float]:
    """p-values of several questions asked at once, raised so that the chance of any false claim stays what it was.

    p_(i) <- max over j <= i of min(1, (m - j + 1) p_(j))

    Source: S. Holm, Scandinavian Journal of Statistics 6, 1979.
    """
    raised, highest = {}, 0.0
    for index, name in enumerate(sorted(probabilities, key=lambda name: probabilities[name])):
        highest = max(highest, min(1.0, (len(probabilities) - index) * probabilities[name]))
        raised[name] = highest
    return raised


def probability_of_improvement(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """The share of all pairs of runs in which ours is the larger; a tie counts half.

    Source: R. Agarwal et al., NeurIPS 2021, arXiv:2108.13264, section 4.3.
    """
    wins = [(a > b) + 0.5 * (a == b) for a in ours for b in theirs]
    return statistics.fmean(wins)


def profile(costs: Mapping[str, Mapping[str, float]], ratios: Sequence[float]) -> dict[str, list[float]]:
    """Performance profiles: the share of tasks that an optimizer solves at no more than so many times the best cost.

    Args:
      costs: optimizer -> task -> cost, infinite where it was not solved.
      ratios: where to take the profile, at least 1.

    Source: E. Dolan, J. More, Mathematical Programming 91, 2002; G. Dahl et al., arXiv:2306.07179, section 4.4.
    """
    tasks = sorted({task for by_task in costs.values() for task in by_task})
    best = {task: min(by_task.get(task, math.inf) for by_task in costs.values()) for task in tasks}

    def ratio(name: str, task: str) -> float:
        cost = costs[name].get(task, math.inf)
        return cost / best[task] if math.isfinite(cost) and best[task] > 0 else (1.0 if cost == 0 else math.inf)

    return {
        name: [sum(ratio(name, task) <= most for task in tasks) / max(1, len(tasks)) for most in ratios]
        for name in costs
    }
