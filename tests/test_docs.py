"""What is written about each optimizer is there, and true where it can be checked."""

import importlib
import inspect
import re

import pytest

import jaxopt_lectures as jol
from jaxopt_lectures.core.card import Range
from tests.conformance.cases import build, every_card


@every_card
def test_docstring(card):
    """Every argument is described; what raises and the range are said."""
    text = inspect.getdoc(card.factory)
    for name in inspect.signature(card.factory).parameters:
        assert re.search(rf"^\s*{name}: ", text, re.MULTILINE) or "as in `adam`" in text, name
    assert "Raises:" in text


@every_card
def test_source_is_at_the_top_of_the_file(card):
    module = inspect.getmodule(card.factory)
    assert re.search(r"Sources?: ", module.__doc__)
    assert re.search(r"\d{4}", card.source), "a year"


@every_card
def test_card_is_complete(card):
    assert card.name == card.factory.__name__
    assert getattr(jol, card.name) is card.factory
    assert card.plain
    assert card.latex
    assert card.summary[0].islower() or card.summary.startswith("Adam") or card.summary.startswith("RMSProp")
    assert card.latex.count("{") == card.latex.count("}")
    assert set(card.off_neutral) <= set(inspect.signature(card.factory).parameters)
    assert set(card.off_neutral) | {"learning_rate"} == set(build(card).hypers), "all hyper-parameters off neutral"


@every_card
def test_search_space_is_in_range(card):
    assert "learning_rate" in card.space
    for name, space in card.space.items():
        assert isinstance(space, Range)
        assert space.low < space.high
        for value in (space.low, space.high):
            build(card, **{name: value})


def test_public_names():
    assert sorted(jol.__all__) == list(jol.__all__)
    for name in set(jol.__all__) - {"Signed", "NonNegative"}:  # annotations
        assert inspect.getdoc(getattr(jol, name)), name


def test_names_that_are_elsewhere():
    with pytest.raises(AttributeError, match=r"use optax.multi_transform, they work together"):
        _ = jol.multi_transform
    with pytest.raises(AttributeError, match="did you mean 'adam'"):
        _ = jol.adamm
    assert re.match(r"\d+\.\d+", jol.__version__)


def test_unknown_card():
    with pytest.raises(KeyError, match="did you mean 'adamw'"):
        jol.registry.get("adamww")
    with pytest.raises(KeyError, match=r"known: sgd, momentum"):
        jol.registry.get("qqqqqq")


def test_rooms_are_reached_from_the_package():
    assert jol.losses.mse([0.0, 2.0], [0.0, 0.0]) == 2
    assert jol.models.MLP is importlib.import_module("jaxopt_lectures.models.mlp").MLP
    assert jol.tasks.get("xor").name == "xor"
    for room in (jol.models, jol.tasks, jol.diagnostics):
        for name in room.__all__:
            assert inspect.getdoc(getattr(room, name)), name
    assert jol.backprop.__doc__
