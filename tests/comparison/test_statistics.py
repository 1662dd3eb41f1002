"""The statistics against what is known of them, and against chance itself."""

import itertools
import math
import statistics

import numpy as np
import pytest
from scipy import stats

from jaxopt_lectures.comparison.statistics import band, holm, paired, probability_of_improvement, profile


def test_the_paired_interval_is_students():
    """By hand: differences 1, 2, 3, 4, 5; mean 3, deviation sqrt(2.5), t of 4 degrees of freedom 2.776."""
    difference, low, high, p = paired([2.0, 4.0, 6.0, 8.0, 10.0], [1.0, 2.0, 3.0, 4.0, 5.0])
    assert difference == 3
    half = 2.7764451 * math.sqrt(2.5 / 5)
    assert (low, high) == pytest.approx((3 - half, 3 + half), rel=1e-7)
    assert p == pytest.approx(stats.ttest_rel([2, 4, 6, 8, 10], [1, 2, 3, 4, 5]).pvalue, rel=1e-9)


def test_one_seed_claims_nothing():
    assert paired([5.0], [1.0]) == (4.0, -math.inf, math.inf, 1.0)


def test_equal_runs_differ_by_nothing_and_certain_ones_for_certain():
    assert paired([0.5] * 4, [0.5] * 4) == (0.0, 0.0, 0.0, 1.0)
    assert paired([1.5] * 4, [0.5] * 4) == (1.0, 1.0, 1.0, 0.0)


def test_one_example_more_in_each_of_two_runs_is_no_certainty():
    """Both differences are one example of 360; rounding alone gives a deviation of that over sqrt(6)."""
    one = 1 / 360
    difference, low, high, p = paired([0.9 + one, 0.8 + one], [0.9, 0.8], resolution=one)
    assert difference == pytest.approx(one)
    assert low < 0 < high
    # t = sqrt(6) sqrt(2) = 3.46 with one degree of freedom.
    assert p == pytest.approx(2 * stats.t.sf(math.sqrt(12), 1), rel=1e-6)
    assert p > 0.05


def test_the_paired_interval_is_right_as_often_as_it_says():
    """Of 2000 draws without a difference 5 % are claimed: 100, with a deviation of sqrt(2000 * 0.05 * 0.95) = 9.7."""
    rng = np.random.default_rng(0)
    claims = sum(paired(*rng.normal(size=(2, 5)))[3] < 0.05 for _ in range(2000))
    assert abs(claims - 100) < 4 * 9.7


def test_holm_by_hand():
    found = holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.005})
    assert found == pytest.approx({"d": 0.02, "a": 0.03, "c": 0.06, "b": 0.06})
    assert holm({}) == {}
    assert holm({"a": 0.9, "b": 0.8}) == {"b": 1.0, "a": 1.0}


def test_holm_keeps_the_chance_of_any_false_claim():
    """Ten questions without an answer: some p below 0.05 in 40 % of cases, after Holm in at most 5 %."""
    rng = np.random.default_rng(1)
    draws = rng.uniform(size=(2000, 10))
    raw = sum((draw < 0.05).any() for draw in draws)
    raised = sum(min(holm(dict(enumerate(draw))).values()) < 0.05 for draw in draws)
    assert raw > 700
    assert abs(raised - 100) < 4 * 9.7


def test_the_probability_of_improvement_counts_pairs():
    assert probability_of_improvement([1, 2, 3], [0, 0, 0]) == 1
    assert probability_of_improvement([1, 2], [1, 2]) == 0.5
    ours, theirs = [0.3, 0.5, 0.9], [0.4, 0.5]
    u = stats.mannwhitneyu(ours, theirs).statistic
    assert probability_of_improvement(ours, theirs) == pytest.approx(u / 6)


def test_the_band_is_the_bootstraps():
    values = [0.91, 0.95, 0.93, 0.97, 0.90]
    low, high = band(values)
    assert min(values) <= low < statistics.fmean(values) < high <= max(values)
    assert band(values) == (low, high), "no chance in it"
    assert band([0.5]) == (0.5, 0.5)
    assert band([0.5, 0.5, 0.5]) == (0.5, 0.5)
    assert band([0.5, math.nan]) == (-math.inf, math.inf)
    low, high = band([0.1, 0.2])
    assert 0.1 <= low <= high <= 0.2


def test_profiles_by_hand():
    costs = {
        "fast": {"one": 10.0, "two": 10.0, "three": math.inf},
        "sure": {"one": 20.0, "two": 15.0, "three": 30.0},
        "never": {"one": math.inf, "two": math.inf, "three": math.inf},
    }
    found = profile(costs, (1.0, 1.5, 2.0))
    assert found["fast"] == pytest.approx([2 / 3] * 3)
    assert found["sure"] == pytest.approx([1 / 3, 2 / 3, 1.0])
    assert found["never"] == [0, 0, 0]
    for shares in found.values():
        assert all(a <= b for a, b in itertools.pairwise(shares))


def test_a_profile_without_tasks_is_empty():
    assert profile({"one": {}}, (1.0,)) == {"one": [0.0]}
