"""A run that is killed at any instant, and started again, ends as one that never was; `make soak` kills more often."""

import contextlib
import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
KILLS = int(os.environ.get("KILLS", "5"))
RUNS = {"mlp": ("digits", "loop", "8000"), "cnn": ("digits_cnn", "single", "400")}


def started(folder, run):
    command = [sys.executable, "-m", "tests.training.killed", str(folder), *RUNS[run]]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def ended(process):
    """The digest; a run that neither ends well nor was killed is an error."""
    out, err = process.communicate()
    if process.returncode < 0:
        return None
    assert process.returncode == 0, err
    assert "Warning" not in err, err
    return out.split()[-1]


@pytest.mark.parametrize("run", RUNS if KILLS > 5 else ["mlp"])
def test_killed_runs_end_as_if_they_had_not_been(run, tmp_path):
    began = time.monotonic()
    whole = ended(started(tmp_path / "whole", run))
    seconds, rng, kills, early = time.monotonic() - began, random.Random(0), 0, 0
    ends = 0
    folder = tmp_path / "killed"
    while kills < KILLS or not ends:
        process = started(folder, run)
        if kills < KILLS:
            # From the first instant on, before there is a checkpoint, to the last.
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(rng.uniform(0, seconds))
            process.kill()
        digest = ended(process)
        if digest is None:
            kills += 1
            early += not any((folder / "checkpoints").glob("[0-9]*"))
            continue
        assert digest == whole
        ends += 1
        shutil.rmtree(folder)
    assert kills >= KILLS
    sys.stdout.write(f"{run}: {kills} kills, {early} before the first checkpoint, {ends} ends, all of the same bits\n")
