"""What the methods beyond optax cost and bring: `python -m benchmarks.beyond [PART ...]`.

Saved in benchmarks/results/beyond.json, part by part; the comparison itself in benchmarks/results/beyond_tasks/.
"""

import dataclasses
import functools
import sys

import numpy as np

import jaxopt_lectures as jol
from benchmarks.harness import RESULTS, measured
from jaxopt_lectures import tasks

RATES = {"learning_rate": jol.Range(1e-3, 5e-2)}
STEPS = {"burgers": 800, "digits_autoencoder": 500, "characters_transformer": 120, "digits_resnet": 100}
BUDGET, SEEDS = 4, 5
BASE = "adamw"


def compared_tasks():
    """Five optimizers on four tasks, each with four rates for each of five seeds; judged by the training loss."""
    entries = {"adamw": jol.adamw, "muon": jol.muon, "soap": jol.soap, "psgd_kron": jol.psgd_kron}
    entries["shampoo10"] = functools.partial(jol.shampoo, precondition_frequency=10)
    report = jol.compare(
        [dataclasses.replace(tasks.get(name), steps=steps) for name, steps in STEPS.items()],
        [(name, factory, RATES) for name, factory in entries.items()],
        budget=BUDGET,
        seeds=SEEDS,
        baseline=BASE,
        out=RESULTS / "beyond_tasks",
    )
    return {"steps": STEPS, "budget": BUDGET, "seeds": SEEDS, "tasks": _speeds(report)}


def _speeds(report):
    """For each task and optimizer: steps to the loss that AdamW ends with, as a share of AdamW's steps."""
    found = {}
    for comparison in report.comparisons:
        losses = {result.name: [study.loss for study in result.studies] for result in comparison.results}
        looks = np.array(comparison.looks, float)
        goal = [curve[-1] for curve in losses[BASE]]
        found[comparison.task["name"]] = {
            name: [_steps_to(looks, curve, end) / looks[-1] for curve, end in zip(curves, goal, strict=True)]
            for name, curves in losses.items()
        }
    return found


def _steps_to(looks, curve, goal):
    """The first step at which a curve is at the goal, between two looks on a line; inf if it never is."""
    curve = np.array(curve, float)
    below = np.flatnonzero(curve <= goal)
    if not below.size:
        return float("inf")
    k = below[0]
    if k == 0:
        return looks[0]
    share = (curve[k - 1] - goal) / (curve[k - 1] - curve[k])
    return looks[k - 1] + share * (looks[k] - looks[k - 1])


PARTS = {"tasks": compared_tasks}


if __name__ == "__main__":
    measured("beyond", PARTS, sys.argv[1:])
