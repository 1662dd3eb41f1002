"""One of several processes that train: `python -m tests.training.several COORDINATOR COUNT ME RUN...`.

A run is TASK:STEPS:FOLDER, without a folder if that is empty. The first process ends with a line of JSON for each.
"""

import json
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np

import jaxopt_lectures as jol
from jaxopt_lectures.training.placement import here
from jaxopt_lectures.training.processes import first, joined
from tests.training.killed import digest
from tests.training.tiny import TASK
from tests.training.wide import WIDE

ROOT = Path(__file__).parent.parent.parent
PATIENCE = 20.0


def trained(name, steps, folder=None, **more):
    """The run of that name; ten looks."""
    task = {"wide": WIDE, "narrow": TASK}.get(name) or jol.tasks.get(name)
    wide = name == "wide"
    options = {"way": "loop", "eval_every": 10 if wide or name == "narrow" else 100, "log": None} | more
    if folder:
        options |= {"checkpoint": folder, "checkpoint_seconds": 0.3}
    with jax.enable_x64(wide):
        return jol.fit(task, jol.adam(0.02 if task is TASK or wide else 1e-3), steps=steps, **options)


def told(history):
    """What is compared."""
    params = [np.asarray(leaf, float).ravel() for leaf in jax.tree.leaves(here(history.state.params))]
    return {
        "loss": history.loss.tolist(),
        "metric": history.metric.tolist(),
        "params": np.concatenate(params).tolist(),
        "digest": digest(here(history.state)),
    }


def main(coordinator, count, me, *runs):
    """Trains to the end."""
    with joined(coordinator, int(count), int(me), patience=PATIENCE):
        for run in runs:
            name, steps, folder = run.split(":")
            history = trained(name, int(steps), folder)
            found = told(history)
            if first():
                sys.stdout.write(f"told {json.dumps(found)}\n")


def begun(environment, port, count, me, *runs):
    """That process."""
    command = [sys.executable, "-m", "tests.training.several", f"127.0.0.1:{port}", str(count), str(me), *runs]
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, cwd=ROOT, env=environment, **options)


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except ValueError as refused:
        sys.exit(f"{refused}")
