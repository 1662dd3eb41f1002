"""Two processes and four give the numbers of one; what cannot begin says so, and does not wait forever."""

import json
import os
import shutil
import socket

import numpy as np
import pytest

from jaxopt_lectures import cli
from jaxopt_lectures.training.processes import agreed, anyone, first, joined, settled
from tests.training.several import begun, told, trained

SOAKED = int(os.environ.get("KILLS", "5")) > 5


@pytest.fixture
def environment():
    """One device for each process."""
    flags = os.environ["XLA_FLAGS"].replace("device_count=8", "device_count=1")
    return os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}


def free():
    with socket.create_server(("", 0)) as server:
        return server.getsockname()[1]


def together(environment, count, *runs):
    """What the first of so many processes tells of each run."""
    port = free()
    processes = [begun(environment, port, count, me, *runs) for me in range(count)]
    ends = [process.communicate(timeout=240) for process in processes]
    assert [process.returncode for process in processes] == [0] * count, ends
    assert not any(line.startswith("told") for out, _ in ends[1:] for line in out.splitlines()), "the first one speaks"
    return [json.loads(line.removeprefix("told ")) for line in ends[0][0].splitlines() if line.startswith("told")]


def test_two_and_four_processes_are_one(environment, tmp_path):
    """Two processes train, and leave a run half done; four, and one, go on with it."""
    folder, copy = tmp_path / "run", tmp_path / "copy"
    wide, _ = together(environment, 2, "wide:200:", f"narrow:100:{folder}")
    shutil.copytree(folder, copy)
    again, short = together(environment, 4, f"narrow:200:{folder}", "wide:20:")
    one, exact = told(trained("narrow", 200)), told(trained("wide", 200))
    alone = told(trained("narrow", 200, copy))
    np.testing.assert_allclose(wide["params"], exact["params"], rtol=0, atol=1e-9)
    np.testing.assert_allclose(wide["metric"], exact["metric"], rtol=0, atol=1e-9)
    np.testing.assert_allclose(short["metric"], exact["metric"][:2], rtol=0, atol=1e-9)
    for found in (again, alone):
        np.testing.assert_allclose(found["loss"][0], one["loss"][0], rtol=1e-6)
        np.testing.assert_allclose(found["loss"], one["loss"], rtol=1e-3)
    notes = json.loads((folder / "run.json").read_text())
    assert (notes["mesh"], notes["zero"], notes["processes"]) == ("data=4", 1, 4)
    assert len((folder / "history.jsonl").read_text().splitlines()) == 20, "one process writes"


def test_alone_everyone_agrees():
    value = object()
    assert agreed(value) is value
    assert settled(lambda: value) is value
    assert first()
    assert (anyone(True), anyone(False)) == (True, False)
    with joined(None):
        pass


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--processes", "2"], "need --coordinator HOST:PORT"),
        (["--coordinator", "somewhere"], "--coordinator must be HOST:PORT"),
        (["--coordinator", "127.0.0.1:99999"], "--coordinator must be HOST:PORT"),
        (["--coordinator", "127.0.0.1:5"], "--processes must be a whole number, at least 1"),
        (["--coordinator", "127.0.0.1:5", "--processes", "2"], "--process-id must be a whole number, at least 0"),
        (["--coordinator", "127.0.0.1:5", "--processes", "2", "--process-id", "2"], "from 0 to 1, got 2"),
        (["--coordinator", "auto", "--processes", "2"], "leave out --processes"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_words_that_do_not_fit(words, said, capsys):
    assert cli.main(["train", "xor", *words]) == 2
    out, err = capsys.readouterr()
    assert not out
    assert said in err
    assert len(err.splitlines()) == 1


def test_a_port_in_use_and_nobody_there():
    with socket.create_server(("", 0)) as server:
        port = server.getsockname()[1]
        with (
            pytest.raises(ValueError, match=f"port {port} of --coordinator cannot be had"),
            joined("127.0.0.1:" + str(port), 2, 0),
        ):
            pass
    with (
        pytest.raises(ValueError, match=r"nobody answers at --coordinator .* start process 0 there"),
        joined(f"127.0.0.1:{port}", 2, 1, 0.5),
    ):
        pass


@pytest.mark.skipif(not SOAKED, reason="waits long: make soak")
def test_a_number_given_twice(environment):
    """One of the two is turned away; the others wait for the missing number, and not forever."""
    port = free()
    processes = [begun(environment, port, 3, me, "narrow:20:") for me in (0, 1, 1)]
    ends = [process.communicate(timeout=120)[1] for process in processes]
    assert [process.returncode for process in processes] == [2, 2, 2]
    assert "not all processes came to 127.0.0.1" in ends[0]
    assert any("is each --process-id, from 0 on, given once?" in end.splitlines()[-1] for end in ends)
