"""What the methods beyond optax cost and bring: `python -m benchmarks.beyond [PART ...]`.

Saved in benchmarks/results/beyond.json, part by part; the comparison itself in benchmarks/results/beyond_tasks/.
"""

import dataclasses
import functools
import json
import math
import statistics
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxopt_lectures as jol
from benchmarks.harness import RESULTS, compared, in_turn, measured
from benchmarks.steps import arrays, step
from jaxopt_lectures import tasks
from jaxopt_lectures.training.program import make_step, start

RATES = {"learning_rate": jol.Range(1e-3, 5e-2)}
STEPS = {"burgers": 800, "digits_autoencoder": 500, "characters_transformer": 120, "digits_resnet": 100}
BUDGET, SEEDS = 4, 5
BASE = "adamw"


def compared_tasks():
    """Five optimizers on four tasks, each with four rates for each of five seeds; judged by the training loss."""
    entries = {"adamw": jol.adamw, "muon": jol.muon, "soap": jol.soap, "psgd_kron": jol.psgd_kron}
    entries["shampoo10"] = functools.partial(jol.shampoo, precondition_frequency=10)
    jol.compare(
        [dataclasses.replace(tasks.get(name), steps=steps) for name, steps in STEPS.items()],
        [(name, factory, RATES) for name, factory in entries.items()],
        budget=BUDGET,
        seeds=SEEDS,
        baseline=BASE,
        out=RESULTS / "beyond_tasks",
    )
    return speeds()


def speeds():
    """For each task and optimizer: steps to the training loss that AdamW ends with, as a share of AdamW's steps.

    From `results.json` of the comparison: for each seed the step from which on the loss, a mean between two looks,
    stays at that of AdamW's end. (On noisy curves AdamW itself passes it early.)
    """
    stored = json.loads((RESULTS / "beyond_tasks" / "results.json").read_text())
    found = {}
    for comparison in stored["comparisons"]:
        losses = {result["name"]: [study["loss"] for study in result["studies"]] for result in comparison["results"]}
        looks = np.array(comparison["looks"], float)
        goal = [curve[-1] for curve in losses[BASE]]
        found[comparison["task"]["name"]] = mine = {}
        for name, curves in losses.items():
            shares = [_steps_to(looks, curve, end) / looks[-1] for curve, end in zip(curves, goal, strict=True)]
            told = [None if math.isinf(share) else share for share in (statistics.median(shares), *shares)]
            mine[name] = {"median": told[0], "seeds": told[1:]}
    return {"steps": STEPS, "budget": BUDGET, "seeds": SEEDS, "tasks": found}


def _steps_to(looks, curve, goal):
    """The step from which on a curve is at the goal, between two looks on a line; inf if it never stays."""
    curve = np.array(curve, float)
    above = np.flatnonzero(curve > goal)
    k = above[-1] + 1 if above.size else 0
    if k == len(curve):
        return float("inf")
    if k == 0:
        return looks[0]
    share = (curve[k - 1] - goal) / (curve[k - 1] - curve[k])
    return looks[k - 1] + share * (looks[k] - looks[k - 1])


def muon(rounds=8):
    """Muon against optax's: 12 layers of width 384, 72 matrices of 3 shapes; compilation and step."""
    width = 384
    shapes = {"qkvo": [(width, width)] * 4, "mlp": [(width, 4 * width), (4 * width, width)]}
    params = {
        f"layer{layer}": {
            f"{name}{k}": _normal(shape, layer + k) for name, all_ in shapes.items() for k, shape in enumerate(all_)
        }
        for layer in range(12)
    }
    sides = {"ours": jol.muon(0.02), "peer": optax.contrib.muon(0.02, consistent_rms=0.2)}
    compiling, programs = {name: [] for name in sides}, {}
    for _ in range(3):
        for name, tx in sides.items():
            jax.clear_caches()
            state = tx.init(params)
            began = time.perf_counter()
            compiled = jax.jit(tx.update).lower(params, state, params).compile()
            compiling[name].append(time.perf_counter() - began)
            programs[name] = functools.partial(compiled, params, state, params)
    step = compared(in_turn(programs, rounds, warmup=1), "ours", "peer")
    memory = {name: program.func.memory_analysis().temp_size_in_bytes for name, program in programs.items()}
    return {"compile": compared(compiling, "ours", "peer"), "step": step, "temporary_bytes": memory}


def first_step():
    """Seconds to make the state and to trace, compile and take the first step: 100 matrices of 256 x 256."""
    params = {f"w{k}": _normal((256, 256), k) for k in range(100)}
    found = {}
    for name, tx in {"soap": jol.soap(1e-3), "shampoo": jol.shampoo(1e-3), "psgd_kron": jol.psgd_kron(1e-3)}.items():
        jax.clear_caches()
        began = time.perf_counter()
        state = jax.block_until_ready(jax.jit(tx.init)(params))
        made = time.perf_counter()
        compiled = jax.jit(tx.update).lower(params, state, params).compile()
        ready = time.perf_counter()
        _, state = jax.block_until_ready(compiled(params, state, params))
        first = time.perf_counter()
        seconds = in_turn({"step": lambda c=compiled, s=state: c(params, s, params)}, 5, warmup=1)["step"]
        found[name] = {
            "init_s": made - began,
            "compile_s": ready - made,
            "first_step_s": first - ready,
            "all_s": first - began,
            "step_s": statistics.median(seconds),
        }
    return found


def wrappers(rounds=60):
    """An AdamW step on 4 M weights inside each wrapper, against the bare one; parameters and state donated."""
    shapes = {f"w{k}": (512, 512) for k in range(16)} | {f"b{k}": (512,) for k in range(16)}
    bare = jol.adamw(1e-3)
    sides = {
        "by_path": jol.by_path({"^b": jol.adamw(1e-3), ".*": jol.adamw(1e-3)}),
        "accumulate, every=1": jol.accumulate(bare, 1),
        "accumulate, every=4": jol.accumulate(bare, 4),
        "average": jol.average(bare),
        "lookahead": jol.lookahead(bare),
        "with_hyperparams": jol.with_hyperparams(jol.adamw)(1e-3),
        "skip_spikes": jol.skip_spikes(bare),
        "skip_spikes over clip_by_global_norm": jol.skip_spikes(bare),
        "probe, every=10": jol.probe(bare, every=10),
    }
    found = {}
    for name, tx in sides.items():
        peer = jol.chain(jol.clip_by_global_norm(1e9), bare) if "over clip" in name else bare
        times = {"ours": [], "peer": []}
        for block in range(4):
            programs = {
                side: _stepping(one, shapes) for side, one in (("ours", tx), ("peer", peer))[:: 1 if block % 2 else -1]
            }
            for side, taken in in_turn(programs, rounds // 4).items():
                times[side] += taken
        found[name] = compared(times, "ours", "peer") | {"mean_ratio": sum(times["ours"]) / sum(times["peer"])}
        print(name, found[name]["ratio"], found[name]["mean_ratio"], flush=True)
    return found


def probe_in_training(rounds=60):
    """A training step with a probe inside, against one without: the character transformer and the digits CNN."""
    found = {}
    for name in ("characters_transformer", "digits_cnn"):
        task = tasks.get(name)
        data = task.data().train
        x, y = jnp.asarray(data.x[: task.batch_size]), jnp.asarray(data.y[: task.batch_size])
        for every in (1, 10):
            programs = {}
            for side, tx in (("ours", jol.probe(jol.adamw(1e-3), every=every)), ("peer", jol.adamw(1e-3))):
                step = jax.jit(make_step(task, tx, guard=False), donate_argnums=0)
                held = [start(task, tx)]

                def program(step=step, held=held, batch=(x, y)):
                    held[0], _ = step(held[0], *batch)
                    return held

                programs[side] = program
            times = in_turn(programs, rounds)
            mean = sum(times["ours"]) / sum(times["peer"])
            found[f"{name}, every={every}"] = compared(times, "ours", "peer") | {"mean_ratio": mean}
    print(json.dumps({name: row["mean_ratio"] for name, row in found.items()}), flush=True)
    return found


def _stepping(tx, shapes):
    params, gradients = arrays(shapes)
    held = [params, tx.init(params)]
    run = step(tx).lower(*held, gradients).compile()

    def program():
        held[:] = run(*held, gradients)
        return held

    return program


def _normal(shape, seed):
    return jax.random.normal(jax.random.key(seed), shape)


PARTS = {
    "tasks": compared_tasks,
    "speeds": speeds,
    "muon": muon,
    "first_step": first_step,
    "wrappers": wrappers,
    "probe": probe_in_training,
}


if __name__ == "__main__":
    measured("beyond", PARTS, sys.argv[1:])
