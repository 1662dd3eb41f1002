"""What a sweep costs, and how often a comparison is wrong: `python -m benchmarks.comparison [PART ...]`.

Saved in benchmarks/results/comparison.json, part by part.
"""

import dataclasses
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import jax
import numpy as np
from flax import nnx

import jaxopt_lectures as jol
from benchmarks.harness import measured
from benchmarks.training import bare_scan, jitted_loop, nnx_idiom
from jaxopt_lectures import tasks
from jaxopt_lectures.comparison.entries import entry, scheduled, with_space
from jaxopt_lectures.comparison.results import Comparison
from jaxopt_lectures.comparison.statistics import paired
from jaxopt_lectures.comparison.studies import Plan, studied
from jaxopt_lectures.comparison.verdicts import verdicts
from jaxopt_lectures.models.lenet import LeNet
from jaxopt_lectures.tuning.decay import over_the_run
from jaxopt_lectures.tuning.ground import Ground, Lane
from jaxopt_lectures.tuning.runs import Runs
from jaxopt_lectures.tuning.search import Search

SMALL_STEPS = 150
STUDIES, BUDGET = 5, 8


def cnn():
    """The digits, convolutions with 32 and 64 channels."""
    model = lambda seed: LeNet((8, 8, 1), 10, channels=(32, 64), dense=(64,), kernel=3, rngs=nnx.Rngs(seed))  # noqa: E731
    return dataclasses.replace(tasks.get("digits_cnn"), name="digits 32-64 channels", model=model)


def sweeps(rounds=5):
    """A sweep against the same runs one after the other: the idiom of NNX, and the faster compiled loop."""
    found = {}
    for name, task, lanes, steps in (("MLP", tasks.get("digits"), 64, 2000), ("CNN", cnn(), 16, 100)):
        ground, data = Ground(task), task.data().train
        settings = [Lane({"learning_rate": float(rate)}, 0) for rate in np.geomspace(1e-4, 1e-2, lanes)]
        runs = Runs(ground, jol.adam, ["learning_rate"], look=steps)
        began = time.perf_counter()
        tried = runs.choose(settings, steps)
        choosing = time.perf_counter() - began
        peers = {"nnx idiom": nnx_idiom, "jitted loop": jitted_loop, "bare scan": bare_scan}
        # One run of each peer stands for all of its runs: they are alike, and 64 of the idiom take minutes.
        peers = {label: peer(task, data, steps) for label, peer in peers.items()}
        programs = {**peers, "sweep": None}
        taken = {label: [] for label in programs}
        for index in range(rounds + 1):
            for label in list(programs) if index % 2 else list(programs)[::-1]:
                began = time.perf_counter()
                if label == "sweep":
                    runs.train(settings, (steps,))
                else:
                    jax.block_until_ready(programs[label]())
                seconds = time.perf_counter() - began
                if index:
                    per_epoch = len(data.x) // task.batch_size
                    run_steps = steps if label == "sweep" else -(-steps // per_epoch) * per_epoch
                    taken[label].append(seconds / run_steps / (lanes if label == "sweep" else 1))
            print(f"{name} {index}/{rounds}", flush=True)
        median = {label: statistics.median(times) for label, times in taken.items()}
        best = min(("jitted loop", "bare scan"), key=median.get)
        found[name] = {
            "way": str(runs.way),
            "seconds_to_choose_and_compile": choosing,
            "estimates": tried,
            "lane_steps_per_second": {label: 1 / seconds for label, seconds in median.items()},
            "sweep_over": {
                peer: statistics.median([a / b for a, b in zip(taken["sweep"], taken[peer], strict=True)])
                for peer in peers
            },
            "faster_compiled": best,
        }
        print(json.dumps(found[name], indent=1), flush=True)
    return found


def small(name, space):
    """An optimizer on the digits for a few steps, ready to be studied again and again by one search."""
    task = dataclasses.replace(tasks.get("digits"), steps=SMALL_STEPS)
    (one,) = with_space([entry((name, jol.momentum, space))], {})
    one = scheduled(one, *over_the_run("cosine", SMALL_STEPS))
    return Search(Ground(task), one.build, one.space, SMALL_STEPS), one


SPACE = {"learning_rate": jol.Range(1e-3, 10.0), "momentum": jol.Range(0.5, 0.99, "linear")}


def claims(one, results, plan):
    """Whether the protocol tells two apart."""
    told = {"larger_is_better": True, "scored_examples": 360, "metric_unit": "%", "name": "digits"}
    kinds = verdicts(Comparison(told, plan.steps, plan.looks, tuple(results)), results[0].name)
    return kinds[results[1].name].kind


def same(count=200):
    """The same optimizer under two names, its tunings drawn apart: how often is a difference claimed?"""
    sides = [small("one", SPACE), small("other", SPACE)]
    kinds, once = [], 0
    for seed in range(count):
        plan = Plan(BUDGET, STUDIES, seed, (SMALL_STEPS,), "sobol")
        results = [studied(search, one, plan) for search, one in sides]
        kinds.append(claims(None, results, plan))
        once += tuned_once(sides, results, plan)
        if seed % 20 == 19:
            told = sum(kind != "within noise" for kind in kinds)
            print(f"{seed + 1}/{count}: {told} claims; tuned once {once}", flush=True)
    return {
        "comparisons": count,
        "claims": sum(kind in ("better", "worse") for kind in kinds),
        "diverged": kinds.count("diverged"),
        "claims_if_tuned_once_and_run_with_every_seed": once,
        "seeds": STUDIES,
        "budget": BUDGET,
        "steps": SMALL_STEPS,
    }


def tuned_once(sides, results, plan):
    """The same, if the first study's choice were run with all seeds."""
    scores = []
    for (search, _), result in zip(sides, results, strict=True):
        lanes = [Lane(dict(result.studies[0].values), seed) for seed in plan.running]
        outcomes = search.runs(lanes).train(lanes, plan.looks, score=True)
        scores.append([outcome.score for outcome in outcomes])
    return int(paired(*scores, 1 / 360)[3] < 0.05)


def planted(count=20):
    """The same optimizer with a rate ten times too small: how often is it found?"""
    sides = [
        small("right", {"learning_rate": jol.Range(0.1, 0.6)}),
        small("wrong", {"learning_rate": jol.Range(0.01, 0.06)}),
    ]
    kinds = []
    for seed in range(count):
        plan = Plan(BUDGET, STUDIES, seed, (SMALL_STEPS,), "sobol")
        kinds.append(claims(None, [studied(search, one, plan) for search, one in sides], plan))
    print(kinds)
    return {"comparisons": count, "found": kinds.count("worse")}


def six():
    """The command on the digits: six optimizers, budget 16, five seeds."""
    names = "sgd,momentum,adam,adamw,nadam,lion"
    with tempfile.TemporaryDirectory() as folder:
        command = [str(Path(sys.executable).parent / "jaxopt-lectures"), "compare", "digits", "--optimizers", names]
        began = time.perf_counter()
        subprocess.run([*command, "--budget", "16", "--seeds", "5", "--out", folder], check=True)
        return {"seconds": time.perf_counter() - began, "optimizers": names}


PARTS = {"sweeps": sweeps, "same": same, "planted": planted, "six": six}


if __name__ == "__main__":
    measured("comparison", PARTS, sys.argv[1:])
