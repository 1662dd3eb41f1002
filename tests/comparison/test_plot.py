"""The pictures of a comparison: what each panel shows, and that no number and no name breaks them."""

import dataclasses
import math

import numpy as np
import pytest

from jaxopt_lectures.comparison import plot
from jaxopt_lectures.comparison.drawing import LIGHT, RATIOS
from jaxopt_lectures.comparison.results import Comparison, Record, Result
from tests.comparison.test_page import LOOKS, NASTY, make_record, make_result, make_study, make_task

BLUE, GREY = LIGHT[1], "#D0D0D0"
PNG = b"\x89PNG\r\n"


def pictures(*results, **task):
    """The two pictures of one task, and its record."""
    one = Comparison(make_task(**task), 30, LOOKS, results)
    record = make_record(one, baseline=results[0].name)
    return plot.curves_picture(one, record), plot.trials_picture(one, record)


def panels(figure):
    """The panels that show something, by the optimizer's name."""
    return {panel.get_title(loc="left"): panel for panel in figure.axes if panel.axison}


def lines(panel, color):
    return [line.get_ydata() for line in panel.get_lines() if line.get_color() == color]


def dots(panel, place):
    """The scattered points: 0 the others', then its own, those off the axis, those that were chosen."""
    return np.ma.filled(panel.collections[place].get_offsets(), np.nan)


def test_a_panel_shows_one_optimizer_before_the_others():
    studies = tuple(make_study(k, 0.8, metric=(0.2, 0.4 + 0.1 * k, 0.8)) for k in range(3))
    found = panels(pictures(make_result("ours", studies=studies), make_result("other", (0.9, 0.9, 0.9)))[0])
    assert list(found) == ["ours", "other"]
    panel = found["ours"]
    assert panel.get_title(loc="right") == "80.0 %"
    (middle,) = lines(panel, BLUE)
    assert list(middle) == pytest.approx([20, 50, 80])
    (behind,) = lines(panel, GREY)
    assert list(behind) == [20, 50, 80]
    (band,) = panel.collections
    heights = band.get_paths()[0].vertices[:, 1]
    assert {40.0, 60.0} < set(np.round(heights, 6))
    assert panel.get_xlim() == (0, 30)
    assert panel.get_yscale() == "linear"


def test_one_seed_has_no_band():
    figure = pictures(make_result("ours", (0.8,)))[0]
    assert not panels(figure)["ours"].collections
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["the optimizer", "the other optimizers"]


def test_trials_are_marked():
    better, worse = make_study(0, 0.8), make_study(2, 0.8, rates=(0.001, 0.003))
    lost = dataclasses.replace(worse.trials[0], diverged=True)
    result = make_result("ours", studies=(better, dataclasses.replace(worse, trials=(lost, worse.trials[1]))))
    panel = panels(pictures(result, make_result("other"))[1])["ours"]
    others, mine, edge, chosen = (dots(panel, k) for k in range(4))
    assert len(others) == 6
    assert mine.tolist() == [[0.01, 50]]
    assert edge[0, 0] == 0.001
    low, high = panel.get_ylim()
    assert low < edge[0, 1] < low + 0.02 * (high - low)  # at the bad end: larger is better
    assert chosen.tolist() == pytest.approx(np.array([[0.1, 60], [0.003, 60]]))
    assert panel.get_xscale() == "log"


@pytest.mark.parametrize("larger", [True, False])
def test_what_diverged_does_not_decide_where_axes_end(larger):
    wild = tuple(make_study(k, math.nan, metric=(1.0, 1e30, math.inf)) for k in range(3))
    usual = tuple(make_study(k, 0.3, metric=(1.0, 0.4, 0.3)) for k in range(3))
    results = [make_result("usual", studies=usual), make_result("wild", studies=wild)]
    results += [make_result(f"usual {k}", studies=usual) for k in range(3)]
    figure = pictures(*results, metric_unit="", larger_is_better=larger)[0]
    found = panels(figure)
    low, high = found["usual"].get_ylim()
    assert 0 <= low < 0.3
    assert 1 < high < 3
    assert found["wild"].get_title(loc="right") == "diverged"
    (drawn,) = lines(found["wild"], BLUE)
    assert len(drawn) == 2  # the last is not finite
    assert np.all(np.isfinite(drawn))
    assert np.max(drawn) < 1e6
    figure.canvas.draw()


def test_errors_of_many_magnitudes_have_a_logarithmic_axis():
    studies = tuple(make_study(k, 0.0, metric=(1.0, 1e-6, 0.0)) for k in range(3))
    figure = pictures(make_result("exact", studies=studies), metric_unit="", larger_is_better=False)[0]
    panel = panels(figure)["exact"]
    assert panel.get_yscale() == "log"
    low, high = panel.get_ylim()
    assert 0 < low < 1e-6
    assert 1 < high < 100
    (drawn,) = lines(panel, BLUE)
    assert 0 < drawn[-1] < low  # falls out of the panel rather than vanishing
    figure.canvas.draw()


def test_nothing_finite_is_drawn_as_nothing():
    lost = tuple(make_study(k, math.nan, metric=(math.nan,) * 3) for k in range(2))
    figure = pictures(make_result("lost", studies=lost), Result("gone", {}, error="no"))[0]
    found = panels(figure)
    assert found["lost"].get_title(loc="right") == "diverged"
    assert found["gone"].get_title(loc="right") == "failed"
    assert not lines(found["lost"], BLUE)
    figure.canvas.draw()


@pytest.mark.parametrize(("count", "rows"), [(1, 1), (6, 2), (13, 3)])
def test_panels_fill_their_rows(count, rows):
    figure = pictures(*[make_result(f"name {k}", (0.8,)) for k in range(count)])[0]
    assert len(panels(figure)) == count
    assert len(figure.axes) - count < len(figure.axes) / rows
    assert len({round(panel.get_position().y0, 3) for panel in figure.axes}) == rows
    assert sum(bool(panel.get_xlabel()) for panel in figure.axes) == math.ceil(count / rows)


def test_profiles_show_every_optimizer():
    names = ["base", *(f"optimizer {n}" for n in range(9))]
    tasks = [Comparison(make_task(task), 30, LOOKS, tuple(map(make_result, names))) for task in "ab"]
    (panel,) = plot.profiles_picture(make_record(*tasks)).axes
    assert len(panel.get_lines()) == len(names)
    assert all(list(line.get_xdata()) == list(RATIOS) for line in panel.get_lines())
    assert all(set(line.get_ydata()) == {100} for line in panel.get_lines())
    looks = {(line.get_color(), line.get_linestyle()) for line in panel.get_lines()}
    assert len(looks) == len(names)


def test_files_are_named_after_their_tasks(tmp_path):
    results = make_result("_base"), make_result("$\\frac$ 文")
    tasks = [Comparison(make_task(name, summary=NASTY), 30, LOOKS, results) for name in ("a/b", "a b", NASTY)]
    failed = Comparison(make_task("failed"), error="no")
    paths = plot.save(make_record(*tasks, failed, baseline="_base"), tmp_path)
    names = [path.name for path in paths]
    assert names[:4] == ["curves-a-b.png", "sensitivity-a-b.png", "curves-a-b-2.png", "sensitivity-a-b-2.png"]
    assert names[-1] == "profiles.png"
    assert len(names) == 7
    assert sorted(tmp_path.iterdir()) == sorted(paths)
    assert all(path.read_bytes().startswith(PNG) for path in paths)


def test_one_task_needs_no_name(tmp_path):
    paths = plot.save(dataclasses.replace(make_record(), complete=False), tmp_path)
    assert [path.name for path in paths] == ["curves.png", "sensitivity.png"]
    untuned = make_result("fixed", studies=(make_study(0, 0.8, rates=()),))
    paths = plot.save(make_record(Comparison(make_task(), 30, LOOKS, (untuned,)), baseline="fixed"), tmp_path)
    assert [path.name for path in paths] == ["curves.png"]


def test_nothing_is_written_of_nothing(tmp_path):
    record = make_record(Comparison(make_task(), error="no"))
    assert plot.save(record, tmp_path) == []
    assert plot.save(Record(record.protocol, {}, (), False), tmp_path) == []
    assert not list(tmp_path.iterdir())


def test_an_interrupted_comparison_says_so():
    record = make_record()
    one = record.comparisons[0]
    assert "interrupted" not in plot.curves_picture(one, record).get_suptitle()
    assert "interrupted" in plot.curves_picture(one, dataclasses.replace(record, complete=False)).get_suptitle()
