"""`jol.fit` against the usual ways to train: `python -m benchmarks.training [PART ...]`.

Steps a second, in one run and in turn: the idiom of Flax NNX's documentation, a functional step that is jitted and
called from Python, `lax.scan` over an epoch, PyTorch. All take the metric once at the end; `fit` is measured between
two looks, its history and the length of the gradient included.
Saved in benchmarks/results/training.json, part by part.
"""

import dataclasses
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

import jaxopt_lectures as jol
from benchmarks.harness import measured
from jaxopt_lectures import tasks
from jaxopt_lectures.models.mlp import MLP
from jaxopt_lectures.training.batches import order

RATE = 1e-3


def mlp():
    """The digits, perceptron 64-128-128-10 with relu."""
    model = lambda seed: MLP((64, 128, 128, 10), activation=jax.nn.relu, rngs=nnx.Rngs(seed))  # noqa: E731
    return dataclasses.replace(tasks.get("digits"), name="digits 64-128-128-10", model=model)


TASKS = {
    "MLP": (mlp, 6000),
    "CNN": (lambda: tasks.get("digits_cnn"), 600),
    "transformer": (lambda: tasks.get("characters_transformer"), 400),
}
"""Name -> the task, and how many steps are timed."""


def epochs(task, count, steps):
    """Orders of the examples, in whole batches, for so many steps."""
    per_epoch = count // task.batch_size
    for epoch in range(-(-steps // per_epoch)):
        yield order((0, 0), epoch, count)[: per_epoch * task.batch_size].reshape(per_epoch, task.batch_size)


def nnx_idiom(task, data, steps):
    """`nnx.jit` of a step that changes model and optimizer, called from Python."""
    model = task.model(0)
    optimizer = nnx.Optimizer(model, optax.adam(RATE), wrt=nnx.Param)

    @nnx.jit
    def step(model, optimizer, x, y):
        loss, gradients = nnx.value_and_grad(task.loss)(model, x, y)
        optimizer.update(model, gradients)
        return loss

    def run():
        for rows in epochs(task, len(data.x), steps):
            for batch in rows:
                loss = step(model, optimizer, data.x[batch], data.y[batch])
        return loss

    return run


def functional(task):
    """A pure step of (params, state), and where it starts."""
    graph, params, rest = nnx.split(task.model(0), nnx.Param, ...)
    tx = optax.adam(RATE)

    def step(carry, x, y):
        params, state, rest = carry

        def loss(params):
            model = nnx.merge(graph, params, rest, copy=True)
            value = task.loss(model, x, y)
            return value, nnx.split(model, nnx.Param, ...)[2]

        (value, rest), gradients = jax.value_and_grad(loss, has_aux=True)(params)
        updates, state = tx.update(gradients, state, params)
        return (optax.apply_updates(params, updates), state, rest), value

    return step, (params, tx.init(params), rest)


def jitted_loop(task, data, steps):
    """A jitted functional step, its arguments donated, called from Python; the examples lie on the device."""
    step, carry = functional(task)
    x, y = map(jnp.asarray, data)
    one = jax.jit(lambda carry, batch: step(carry, x[batch], y[batch]), donate_argnums=0)
    held = [jax.tree.map(jnp.copy, carry)]

    def run():
        carry = held.pop()
        for rows in epochs(task, len(data.x), steps):
            for batch in rows:
                carry, loss = one(carry, batch)
        held.append(carry)
        return carry, loss

    return run


def bare_scan(task, data, steps):
    """`lax.scan` over an epoch, its arguments donated; the examples lie on the device."""
    step, carry = functional(task)
    x, y = map(jnp.asarray, data)
    epoch = jax.jit(
        lambda carry, rows: jax.lax.scan(lambda c, batch: step(c, x[batch], y[batch]), carry, rows), donate_argnums=0
    )
    held = [jax.tree.map(jnp.copy, carry)]

    def run():
        carry = held.pop()
        for rows in epochs(task, len(data.x), steps):
            carry, loss = epoch(carry, rows)
        held.append(carry)
        return carry, loss

    return run


def torch_eager(task, data, steps):
    """The perceptron in PyTorch."""
    import torch

    torch.manual_seed(0)
    x, y = torch.from_numpy(np.asarray(data.x)), torch.from_numpy(np.asarray(data.y)).long()
    relu, linear = torch.nn.ReLU, torch.nn.Linear
    model = torch.nn.Sequential(linear(64, 128), relu(), linear(128, 128), relu(), linear(128, 10))
    optimizer, loss_of = torch.optim.Adam(model.parameters(), RATE), torch.nn.CrossEntropyLoss()

    def run():
        for rows in epochs(task, len(x), steps):
            for batch in torch.from_numpy(rows):
                optimizer.zero_grad()
                loss_of(model(x[batch]), y[batch]).backward()
                optimizer.step()

    return run


def seconds_of(run):
    """How long it takes."""
    began = time.perf_counter()
    jax.block_until_ready(run())
    return time.perf_counter() - began


def fitted(task, steps, way, **more):
    """Seconds of so many steps of `fit` and a look, after it has compiled: between two of its records."""
    times = []

    def log(record):
        times.append(time.perf_counter())

    tx = jol.adam(RATE)
    jol.fit(task, tx, steps=2 * steps, eval_every=steps, log=log, way=way, **more)
    return times[-1] - times[0]


def with_metric(task, run):
    """The same, and then the metric, as `fit` takes it."""
    graph, params, rest = nnx.split(task.model(0), nnx.Param, ...)
    metric = jax.jit(lambda params, x, y: task.metric(nnx.merge(graph, params, rest, copy=True), x, y))
    validation = [jnp.asarray(part) for part in task.data().validation]

    def both():
        jax.block_until_ready(run())
        return metric(params, *validation)

    return both


def steps_a_second(rounds=5):
    """The training loops in turn."""
    found = {}
    for name, (make, steps) in TASKS.items():
        task = make()
        data = task.data().train
        runs = {"nnx idiom": nnx_idiom, "jitted loop": jitted_loop, "bare scan": bare_scan}
        runs = {label: peer(task, data, steps) for label, peer in runs.items()}
        if name == "MLP":
            try:
                runs["torch"] = torch_eager(task, data, steps)
            except ImportError:
                print("torch is not installed: left out")
        runs = {label: with_metric(task, run) for label, run in runs.items()}
        for run in runs.values():
            jax.block_until_ready(run())
        way = chosen(task)
        per_epoch = len(data.x) // task.batch_size
        taken = {label: [] for label in [*runs, "fit"]}
        for index in range(rounds):
            for label in list(taken) if index % 2 else list(taken)[::-1]:
                if label == "fit":
                    taken[label].append(fitted(task, steps, way) / steps)
                else:
                    taken[label].append(seconds_of(runs[label]) / (-(-steps // per_epoch) * per_epoch))
            print(f"{name} {index + 1}/{rounds}", flush=True)
        median = {label: statistics.median(times) for label, times in taken.items()}
        best = min(("jitted loop", "bare scan"), key=median.get)
        ratios = {
            peer: statistics.median([a / b for a, b in zip(taken[peer], taken["fit"], strict=True)])
            for peer in taken
            if peer != "fit"
        }
        found[name] = {
            "way": way,
            "steps_per_second": {label: 1 / seconds for label, seconds in median.items()},
            "fit_over": ratios,
            "fit_over_faster_bare": ratios[best],
            "faster_bare": best,
        }
        print(json.dumps(found[name], indent=1), flush=True)
    return found


def chosen(task):
    """The way that `fit` chooses by itself."""
    with tempfile.TemporaryDirectory() as folder:
        jol.fit(task, jol.adam(RATE), steps=1_000_000, checkpoint=folder, stop=jol.Stop(seconds=0.01), eval_every=20)
        return json.loads((Path(folder) / "run.json").read_text())["way"]


def compilations():
    """Programs compiled in 10,000 steps with looks and checkpoints, before and after the first look."""
    compiled, after = [], []
    jax.monitoring.register_event_duration_secs_listener(
        lambda event, *_, **__: compiled.append(event) if event.endswith("backend_compile_duration") else None
    )
    with tempfile.TemporaryDirectory() as folder:
        jol.fit(
            mlp(),
            jol.adam(RATE),
            steps=10_000,
            eval_every=100,
            checkpoint=folder,
            checkpoint_seconds=0.2,
            log=lambda record: after.append(len(compiled)),
        )
    found = {"before the first look": after[0], "after the second": len(compiled) - after[1], "looks": len(after)}
    found["between them"] = after[1] - after[0]
    print(found)
    return found


def checkpoints(rounds=3, steps=60_000):
    """What a checkpoint every two seconds costs: seconds with over seconds without, in turn."""
    task, ratios = mlp(), []
    for index in range(rounds):
        taken = {}
        for kept in (True, False) if index % 2 else (False, True):
            with tempfile.TemporaryDirectory() as folder:
                more = {"checkpoint": folder, "checkpoint_seconds": 2.0} if kept else {}
                taken[kept] = fitted(task, steps, "loop", **more)
        ratios.append(taken[True] / taken[False])
        print(f"checkpoints {index + 1}/{rounds}: {taken[True]:.1f} s with, {taken[False]:.1f} s without", flush=True)
    found = {"with_over_without": statistics.median(ratios), "ratios": ratios, "seconds": taken[True]}
    print(found)
    return found


PARTS = {"steps": steps_a_second, "compilations": compilations, "checkpoints": checkpoints}


if __name__ == "__main__":
    measured("training", PARTS, sys.argv[1:])
