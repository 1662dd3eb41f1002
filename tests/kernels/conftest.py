"""Kernels are compiled into one folder for the session; without a compiler there is nothing to test."""

import pytest

from jaxopt_lectures.kernels.cpu import compiler, library

if compiler.compiler() is None or compiler.own_level() is None:
    collect_ignore = ["test_cards.py", "test_fuse.py", "test_operations.py"]


@pytest.fixture(autouse=True, scope="session")
def cache(tmp_path_factory):
    """Where kernels are compiled to: the workers of a session share it, and no other session."""
    folder = tmp_path_factory.getbasetemp().parent / "kernels"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAXOPT_LECTURES_CACHE", str(folder))
        yield folder


@pytest.fixture(autouse=True)
def no_built_kernels(monkeypatch):
    """Only what a test compiles is found, whatever this checkout has built."""
    monkeypatch.setattr(library, "built", lambda: ())
