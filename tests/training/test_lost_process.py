"""Where one of several processes is killed the others say so and stop, and all go on; `make soak` kills more often."""

import random
import re
import shutil
import statistics
import sys
import time

import numpy as np

from tests.training.several import begun
from tests.training.test_processes import SOAKED, environment, free, together  # noqa: F401

COUNT, KILLS, STEPS = (4, 20, 800) if SOAKED else (2, 1, 800)
BOUND = 60.0


def killed(environment, folder, instant, victim):  # noqa: F811
    """Starts all, and kills one then: seconds until the others stopped, and what they said; None if all had ended.

    Without an instant it is killed as soon as there is a checkpoint.
    """
    port, began = free(), time.monotonic()
    processes = [begun(environment, port, COUNT, me, f"digits:{STEPS}:{folder}") for me in range(COUNT)]
    while any(process.poll() is None for process in processes):
        if any((folder / "checkpoints").glob("[0-9]*")) if instant is None else time.monotonic() > began + instant:
            break
        time.sleep(0.02)
    processes[victim].kill()
    began = time.monotonic()
    ends = [process.communicate(timeout=BOUND + 30)[1] for process in processes]
    if not any(process.returncode for process in processes):
        return None
    others = [(process.returncode, end) for process, end in zip(processes, ends, strict=True)]
    del others[victim]
    return time.monotonic() - began, others


def test_killed_processes_and_those_that_are_left(environment, tmp_path):  # noqa: F811
    began = time.monotonic()
    (whole,) = together(environment, COUNT, f"digits:{STEPS}:{tmp_path / 'whole'}")
    seconds, rng = time.monotonic() - began, random.Random(0)
    stopped, ends, halves, early, folder = [], 0, 0, 0, tmp_path / "killed"
    for kills in range(1, KILLS + 1):
        # The first while the processes come together, the last while they end.
        instant, victim = seconds * (kills - rng.random()) / KILLS if SOAKED else None, rng.randrange(COUNT)
        lost = killed(environment, folder, instant, victim)
        if lost is not None:
            took, others = lost
            stopped.append(took)
            assert took < BOUND
            for code, said in others:
                line = said.splitlines()[-1] if said else ""
                assert code in (75, 2, 1, 0), said  # 1 and 2: where they had not come together yet
                if code == 75:
                    # On a machine with too much to do another one may be taken for gone, too.
                    # When all is done and only the end is waited for, it is not found out who.
                    named = re.search(rf"process .*\b{victim}\b.* of {COUNT} (is|are) gone", line)
                    assert named or "lost at the end" in line, said
                    assert "start all processes again" in line
                    assert "the last checkpoint is step" in line or "no checkpoint" in line
            sys.stdout.write(f"{instant} s, process {victim}: {took:.1f} s, {[code for code, _ in others]}: {line}\n")
        found = any((folder / "checkpoints").glob("[0-9]*"))
        early += not found
        if found and kills % 4 == 2:  # what is left is gone on with by half as many
            copy = tmp_path / f"copy{kills}"
            shutil.copytree(folder, copy)
            (half,) = together(environment, COUNT // 2, f"digits:{STEPS}:{copy}")
            np.testing.assert_allclose(half["loss"][:1], whole["loss"][:1], rtol=1e-6)
            np.testing.assert_allclose(half["loss"], whole["loss"], rtol=1e-3)
            halves += 1
        if kills % 4 == 0 or kills == KILLS:
            (again,) = together(environment, COUNT, f"digits:{STEPS}:{folder}")
            assert again["digest"] == whole["digest"]
            ends += 1
            shutil.rmtree(folder)
    assert stopped
    sys.stdout.write(
        f"{kills} kills, {early} before the first checkpoint; the others stopped after "
        f"{statistics.median(stopped):.1f} s (median), {max(stopped):.1f} s (most); {ends} ends, all of the same bits, "
        f"and {halves} with half as many processes, the same but for rounding\n"
    )
