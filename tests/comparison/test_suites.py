"""The suites name tasks that exist, and fit them."""

import pytest

from jaxopt_lectures import tasks
from jaxopt_lectures.comparison.suites import SUITES, suite


@pytest.mark.parametrize("name", SUITES)
def test_a_suite_is_a_list_of_tasks_that_need_no_files(name):
    found = suite(name)
    assert [task.name for task in found] == list(SUITES[name])
    for task, steps in zip(found, SUITES[name].values(), strict=True):
        assert not tasks.reads_files(task.name)
        assert task.steps == (steps or tasks.get(task.name).steps)


def test_the_small_suite_is_part_of_the_full_one():
    assert len(SUITES["lectures"]) == 6
    assert set(SUITES["lectures"]) < set(SUITES["full"])
    with pytest.raises(KeyError):
        suite("none")
