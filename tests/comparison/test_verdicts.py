"""What may be said: better, worse, or nothing; and that it is said."""

import math

import pytest

from jaxopt_lectures.comparison.verdicts import conclusion, verdicts
from tests.comparison.made import SPACE, comparison, result

BASE = result("base", (0.90, 0.91, 0.92, 0.90, 0.91))


def judged(*results, baseline="base", **task):
    one = comparison(*results, **task)
    found = verdicts(one, baseline)
    return found, conclusion(one, baseline, found)


def test_a_clear_difference_is_told_and_noise_is_called_noise():
    better = result("better", (0.95, 0.96, 0.97, 0.95, 0.96))
    worse = result("worse", (0.80, 0.82, 0.81, 0.80, 0.83))
    same = result("same", (0.91, 0.90, 0.93, 0.89, 0.92))
    found, said = judged(BASE, better, worse, same)
    assert [found[name].kind for name in ("base", "better", "worse", "same")] == [
        "baseline",
        "better",
        "worse",
        "within noise",
    ]
    assert found["better"].difference == pytest.approx(0.05)
    assert found["better"].probability == 1
    assert found["worse"].probability == 0
    assert found["base"].low <= found["base"].mean <= found["base"].high
    assert "better than base: better" in said
    assert "worse than base: worse" in said
    assert any("within noise" in line and line.endswith("same") for line in said)


def test_an_error_is_better_when_smaller_and_compared_by_its_ratio():
    task = {"larger_is_better": False, "metric_unit": "", "metric": "error"}
    base, low = result("base", (1e-3, 1e-2, 1e-1)), result("low", (1e-5, 1e-4, 0.9e-3))
    found, said = judged(base, low, **task)
    assert found["low"].ratio
    assert math.exp(found["low"].difference) == pytest.approx((1e-2 * 1e-2 * 0.9e-2) ** (1 / 3))
    assert found["low"].kind == "better"
    assert found["low"].probability > 0.5
    assert "better than base: low" in said


def test_an_error_of_nothing_is_the_smallest_there_is():
    task = {"larger_is_better": False, "metric_unit": ""}
    found, _ = judged(result("base", (1e-3, 2e-3, 1e-3)), result("exact", (0.0, 0.0, 0.0)), **task)
    assert found["exact"].kind == "better"


def test_falling_metrics_that_may_be_negative_are_compared_by_difference():
    task = {"larger_is_better": False, "metric_unit": "nats"}
    found, _ = judged(result("base", (-1.0, -1.1, -0.9)), result("lower", (-3.0, -3.1, -2.9)), **task)
    assert not found["lower"].ratio
    assert found["lower"].kind == "better"
    assert found["lower"].difference == pytest.approx(-2.0)


def test_many_optimizers_are_held_to_more():
    """p = 0.024 alone is a claim; as one of three questions it is not."""
    near = (0.911, 0.919, 0.925, 0.901, 0.915)
    alone, _ = judged(BASE, result("near", near))
    assert 0.02 < alone["near"].p < 0.05
    assert alone["near"].kind == "better"
    others = [result(name, (0.90, 0.92, 0.91, 0.89, 0.93)) for name in ("one", "two")]
    among, _ = judged(BASE, result("near", near), *others)
    assert among["near"].p == pytest.approx(3 * alone["near"].p)
    assert among["near"].kind == "within noise"


def test_what_diverged_or_failed_is_said_and_not_averaged():
    lost, failed = result("lost", (0.9, math.nan, 0.9, math.nan, 0.9)), result("failed", (), error="boom")
    found, said = judged(BASE, lost, failed)
    assert (found["lost"].kind, found["failed"].kind) == ("diverged", "failed")
    assert math.isnan(found["lost"].mean)
    assert "lost diverged in 2 of 5 runs" in said


def test_a_baseline_that_diverged_is_no_measure():
    lost = result("base", (math.nan,) * 5)
    found, said = judged(lost, result("other", (0.9, 0.91, 0.92, 0.9, 0.91)))
    assert found["other"].kind == "no baseline"
    assert math.isnan(found["other"].difference)
    assert any("the baseline base diverged" in line for line in said)
    assert not any("not told apart" in line for line in said)


def test_one_seed_is_no_evidence():
    found, said = judged(result("base", (0.5,)), result("other", (0.9,)))
    assert found["other"].kind == "one seed"
    assert any("one seed tells nothing" in line for line in said)


def test_a_choice_at_the_edge_is_said_with_what_to_do():
    edge = result("edge", (0.9,) * 5, edges={"learning_rate": "high"})
    _, said = judged(BASE, edge)
    (line,) = [line for line in said if line.startswith("edge chose")]
    assert "the high end of 0.0001 to 1" in line
    assert "--space edge.learning_rate=log:0.0001:100" in line
    assert SPACE["learning_rate"]["high"] == 1.0
