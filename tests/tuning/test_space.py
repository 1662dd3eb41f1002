"""Where a search looks: what is accepted, what is refused, how far along a range a value lies."""

import math

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

import jaxopt_lectures as jol
from jaxopt_lectures.core.card import Choice, Range
from jaxopt_lectures.records.plain import plain
from jaxopt_lectures.tuning.draws import draws
from jaxopt_lectures.tuning.space import BadSpace, at, at_the_edge, check_space, from_plain, parsed, share_of

RATE = Range(1e-4, 1.0)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("learning_rate=log:1e-4:1", ("learning_rate", Range(1e-4, 1.0, "log"))),
        ("b1 = linear:0.8:0.99", ("b1", Range(0.8, 0.99, "linear"))),
        ("momentum=0.9,0.99", ("momentum", Choice((0.9, 0.99)))),
        ("nesterov=true,FALSE,none,word,3", ("nesterov", Choice((True, False, None, "word", 3)))),
        ("adam.b1=linear:0:1", ("adam.b1", Range(0.0, 1.0, "linear"))),
    ],
)
def test_a_space_is_read(text, found):
    assert parsed(text) == found


@pytest.mark.parametrize("text", ["", "rate", "rate=", "=log:1:2", "rate=log:1", "rate=log:a:b", "rate=cubic:1:2"])
def test_what_is_no_space_is_refused_in_one_line(text):
    with pytest.raises(BadSpace) as error:
        parsed(text)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("space", "words"),
    [
        ({"learning_rate": Range(1.0, 0.1)}, "low 1 must be below high 0.1"),
        ({"learning_rate": Range(1.0, 1.0)}, "must be below"),
        ({"learning_rate": Range(0.0, 1.0)}, "begins above 0"),
        ({"learning_rate": Range(-1.0, math.inf, "linear")}, "no range to search"),
        ({"learning_rate": Range(0.1, 1.0, "square")}, "the scale is 'log' or 'linear'"),
        ({"learning_rate": RATE, "lerning": RATE}, "no argument of the optimizer is called 'lerning'"),
        ({"learning_rate": RATE, "momentum": Choice(())}, "nothing to choose from"),
        ({"learning_rate": 0.1}, "a Range or a Choice"),
        ({"momentum": Range(0.0, 0.9, "linear")}, "needs learning_rate"),
        ([RATE], "mapping"),
    ],
)
def test_a_space_that_cannot_be_searched_is_refused(space, words):
    with pytest.raises(BadSpace, match=words):
        check_space(space, jol.momentum)


def test_a_factory_of_any_arguments_takes_any_name():
    assert check_space({"anything": RATE}, lambda **values: None) is None


@hypothesis.given(share=st.floats(0, 1), scale=st.sampled_from(["log", "linear"]))
def test_shares_and_values_are_inverse(share, scale):
    where = Range(1e-5, 10.0, scale)
    value = at(where, share)
    assert where.low <= value <= where.high
    # A logarithm of about 14 is known to 14 * 2^-53, and so is the share that it gives, in some steps.
    assert share_of(where, value) == pytest.approx(share, abs=1e-13)


def test_a_choice_takes_all_of_its_values_alike():
    where = Choice(("a", "b", "c"))
    assert [at(where, share) for share in (0, 0.32, 0.34, 0.66, 0.67, 1.0)] == ["a", "a", "b", "b", "c", "c"]


def test_the_edge_is_the_outermost_of_sixteen():
    space = {"learning_rate": Range(1.0, 16.0, "linear"), "nesterov": Choice((True,))}
    for value, found in ((1.9, "low"), (2.0, None), (15.0, None), (15.1, "high")):
        edges = at_the_edge(space, {"learning_rate": value, "nesterov": True})
        assert edges == ({"learning_rate": found} if found else {})


def test_a_space_survives_json():
    space = {"learning_rate": RATE, "b1": Range(0.8, 0.9, "linear"), "kind": Choice((1, "a", None, True))}
    assert from_plain(plain(space)) == space
    assert plain({"f": Choice((print,))}) == {"f": {"values": [repr(print)]}}, "what JSON has no word for is described"


@pytest.mark.parametrize("sampler", ["sobol", "random"])
def test_draws_depend_on_their_seed_alone(sampler):
    space = {"learning_rate": RATE, "b1": Range(0.8, 0.9, "linear")}
    one, again, other = (draws(space, 12, sampler, seed) for seed in ((0, 1), (0, 1), (0, 2)))
    assert one == again != other
    assert len(one) == 12
    assert all(space[name].low <= point[name] <= space[name].high for point in one for name in space)


def test_sobol_points_are_even_in_every_argument():
    """Of 16 points each sixteenth of every range has one."""
    space = {"learning_rate": RATE, "b1": Range(0.8, 0.9, "linear")}
    for seed in range(5):
        points = draws(space, 16, "sobol", (seed,))
        for name, where in space.items():
            found = sorted(int(16 * share_of(where, point[name])) for point in points)
            assert found == list(range(16))


def test_a_grid_has_ends_and_every_choice():
    points = draws({"learning_rate": RATE, "nesterov": Choice((True, False))}, 8, "grid", (0,))
    assert len(points) == 8
    for choice in (True, False):
        rates = [point["learning_rate"] for point in points if point["nesterov"] is choice]
        np.testing.assert_allclose(rates, np.geomspace(1e-4, 1.0, 4), rtol=1e-12)


def test_nothing_to_search_is_one_setting():
    assert draws({}, 16, "sobol", (0,)) == [{}]
