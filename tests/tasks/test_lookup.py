"""Finding a task: by name, by folder, by the path of the user's own; every wrong word is answered in one sentence."""

import sys

import pytest

from jaxopt_lectures import tasks
from jaxopt_lectures.tasks.task import Task

MODULE = """
from jaxopt_lectures.tasks.task import Task

wanted = Task("mine", "own", None, None, None, None, batch_size=1, target=1.0)
number = 3
kind = Task
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty current folder, and sys.path and sys.modules as they were when the test is over."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


def test_every_name_is_known():
    assert [tasks.known(name) for name in tasks.names()] == list(tasks.names())
    assert len(set(tasks.names())) == len(tasks.names()) == 25
    assert [name for name in tasks.names() if tasks.reads_files(name)] == ["mnist", "fashion_mnist", "cifar10"]


def test_an_unknown_name_is_met_with_the_nearest():
    with pytest.raises(KeyError, match="no task is called 'digit'; did you mean 'digits'"):
        tasks.get("digit")
    with pytest.raises(KeyError, match=f"no task is called 'xyzzy'; known: {', '.join(tasks.names())}"):
        tasks.known("xyzzy")


def test_a_task_of_ones_own_is_found_in_the_current_folder(here):
    (here / "own_problems").mkdir()
    (here / "own_problems" / "first.py").write_text(MODULE)
    path = "own_problems.first:wanted"
    assert tasks.known(path) == path
    assert "own_problems" not in sys.modules
    task = tasks.get(path)
    assert isinstance(task, Task)
    assert task.name == "mine"
    assert tasks.get(path) is task


@pytest.mark.parametrize("path", ["mine:", ":task", "my-file:task", "mine.py:task one", "a..b:c", "a:b:c"])
def test_a_path_that_is_none_is_refused(path):
    with pytest.raises(ValueError, match=f"a task of your own is named package.module:attribute, got '{path}'"):
        tasks.known(path)


@pytest.mark.parametrize(
    ("path", "error", "message"),
    [
        ("nowhere_at_all:task", ValueError, r"no module is called 'nowhere_at_all'; looked in .* and where Python"),
        ("mine_here.deeper:task", ValueError, "no module is called 'mine_here.deeper'"),
        ("mine_here:wantde", ValueError, "no task in module 'mine_here' is called 'wantde'; did you mean 'wanted'?"),
        (
            "mine_here:number",
            ValueError,
            "'mine_here:number' is of type int; needed is an instance of jaxopt",
        ),
        ("mine_here:kind", ValueError, "'mine_here:kind' is the class Task itself; needed is an instance"),
        ("empty_here:task", ValueError, "module 'empty_here' has no attribute 'task', and no task"),
        ("needs_more:task", ValueError, "module 'needs_more' cannot be imported: No module named 'not_installed'"),
        ("asks_wrong:task", ValueError, "module 'asks_wrong' cannot be imported: cannot import name 'nothing'"),
    ],
)
def test_a_wrong_path_is_answered(here, path, error, message):
    (here / "mine_here.py").write_text(MODULE)
    (here / "empty_here.py").write_text("")
    (here / "needs_more.py").write_text("import not_installed")
    (here / "asks_wrong.py").write_text("from math import nothing")
    with pytest.raises(error, match=message):
        tasks.get(path)


def test_a_mistake_in_the_users_module_is_shown_as_python_shows_it(here):
    (here / "mistaken.py").write_text("1 / 0")
    with pytest.raises(ZeroDivisionError):
        tasks.get("mistaken:task")


def test_a_folder_is_for_the_tasks_that_read_one(tmp_path):
    with pytest.raises(ValueError, match="task 'mnist' reads files of yours: name their folder with --data-dir"):
        tasks.get("mnist")
    message = "task 'digits' reads no files; --data-dir is for mnist, fashion_mnist, cifar10"
    with pytest.raises(ValueError, match=message):
        tasks.get("digits", tmp_path)
    with pytest.raises(ValueError, match="task 'own:task' reads no files"):
        tasks.get("own:task", tmp_path)
    with pytest.raises(ValueError, match=r"--data-dir .*nowhere is not a folder"):
        tasks.get("mnist", tmp_path / "nowhere")
