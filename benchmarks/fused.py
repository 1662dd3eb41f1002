"""One pass over memory against XLA's, optax's and torch's steps: `python -m benchmarks.fused [PART ...]`.

Saved in benchmarks/results/fused.json, part by part. Kernels that are not there are compiled; nothing is timed by then.
"""

import json
import statistics
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxopt_lectures as jol
from benchmarks.harness import in_turn, measured

RATE, DECAY = 1e-3, 1e-2
SIZE = 2**24
LEAVES, EACH = 1000, 3500


def adamw(codec="f32", **options):
    """Ours, all of whose slots are encoded."""
    return jol.store(jol.adamw(RATE, weight_decay=DECAY, **options), codec, min_size=1)


def fused(tx):
    """With kernels, compiled if they are not there."""
    return jol.fuse(tx, compile=True)


def plain_step(tx):
    """Of optax's types: update and apply."""

    def step(gradients, state, params):
        updates, state = tx.update(gradients, state, params)
        return jol.apply_updates(params, updates), state

    return step


def optax_step(tx):
    """As optax's users write it."""

    def step(gradients, state, params):
        updates, state = tx.update(gradients, state, params)
        return optax.apply_updates(params, updates), state

    return step


def running(tx, step, params, gradients):
    """A program that takes one step after the other, in place; returns what to wait for.

    JAX gives results the donated buffers of their type in order: what comes back first must go in first.
    """
    run = jax.jit(lambda params, state, gradients: step(gradients, state, params), donate_argnums=(0, 1))
    own = [jax.tree.map(jnp.copy, params), jax.jit(tx.init)(params)]

    def once():
        own[0], own[1] = run(*own, gradients)
        return own[0]

    return once


def torch_step(shapes, gradients):
    """Torch's AdamW by its own fused kernel, on as many threads as there are cores; None where torch is missing."""
    try:
        import torch
    except ImportError:
        return None
    parameters = [torch.ones(shape, requires_grad=True) for shape in shapes]
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = torch.from_numpy(np.array(gradient))
    optimizer = torch.optim.AdamW(parameters, lr=RATE, weight_decay=DECAY, fused=True)

    def once():
        optimizer.step()
        return ()

    return once


def over(times, base):
    """Milliseconds, and the median of the ratios to a peer of the same round."""
    peer = times.get(base)
    return {
        name: {"ms": 1e3 * statistics.median(own), "quartiles_ms": [1e3 * q for q in statistics.quantiles(own)[::2]]}
        | ({f"over {base}": statistics.median([a / b for a, b in zip(own, peer, strict=True)])} if peer else {})
        for name, own in times.items()
    }


def leaf(rounds=21):
    """A step of AdamW on one leaf of 16.8 million parameters."""
    gradient = jnp.asarray(np.random.default_rng(0).normal(size=SIZE), jnp.float32)
    params = jnp.ones(SIZE)
    narrow = params.astype(jnp.bfloat16)
    short = gradient.astype(jnp.bfloat16)
    twin = optax.adamw(RATE, weight_decay=DECAY)
    source, target = np.ones(SIZE, np.float32), np.empty(SIZE, np.float32)
    programs = {
        "a copy in NumPy, one core (8 bytes a parameter)": lambda: np.copyto(target, source) or (),
        "optax": running(twin, optax_step(twin), params, gradient),
        "plain": running(adamw(), plain_step(adamw()), params, gradient),
    }
    torch = torch_step([(SIZE,)], [gradient])
    if torch is not None:
        programs["torch fused"] = torch
    for name in ("f32", "bf16", "fp8", "int8", "int4"):
        tx = fused(adamw(name))
        programs[f"fused {name}"] = running(tx, tx.step, params, gradient)
    for name in ("f32", "int8"):
        tx = fused(jol.round_stochastic(adamw(name)))
        programs[f"fused {name}, parameters bfloat16"] = running(tx, tx.step, narrow, short)
    return over(in_turn(programs, rounds), "torch fused" if torch is not None else "optax")


def many():
    """Trees of 1000 leaves of 3500: from Python, and as one of 50 steps of a compiled loop."""
    params = {f"{place:04}": jnp.ones(EACH) for place in range(LEAVES)}
    gradients = jax.tree.map(lambda p: 1e-3 * p, params)
    twin = optax.adamw(RATE, weight_decay=DECAY)
    tx = fused(adamw())
    ways = {"optax": (twin, optax_step(twin)), "fused": (tx, tx.step)}
    found = {"from Python": {}, "in a loop": {}, "compilation, s": {}}
    programs = {name: running(made, step, params, gradients) for name, (made, step) in ways.items()}
    programs["an empty call"] = running(adamw(), lambda gradients, state, params: (params, state), params, gradients)
    torch = torch_step([(EACH,)] * LEAVES, jax.tree.leaves(gradients))
    if torch is not None:
        programs["torch fused"] = torch
    found["from Python"] = over(in_turn(programs, 21), "an empty call")
    loops = {}
    for name, (made, step) in ways.items():
        run = loop(step, 50)
        state = made.init(params)
        began = time.perf_counter()
        run = jax.jit(run).lower(gradients, state, params).compile()
        found["compilation, s"][f"{name}, in a loop"] = time.perf_counter() - began
        loops[name] = lambda run=run, state=state: run(gradients, state, params)
    found["in a loop"] = {
        name: {"ms a step": 1e3 * statistics.median(own) / 50} for name, own in in_turn(loops, 5, warmup=1).items()
    }
    return found


def loop(step, steps):
    """So many steps in one program."""

    def run(gradients, state, params):
        def one(carry, _):
            params, state = step(gradients, *carry[::-1])
            return (params, state), None

        return jax.lax.scan(one, (params, state), None, length=steps)[0]

    return run


def compilation():
    """Seconds to trace and compile a step on 1000 leaves of 3500, clipped by all gradients; a process for each."""
    found = {}
    for name in ("optax", "fused"):
        code = f"import json; from benchmarks.fused import compiled; print(json.dumps(compiled({name!r})))"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        found |= json.loads(done.stdout.splitlines()[-1])
        print(found, flush=True)
    return found


def compiled(name):
    """The same in this process, for one of the two."""
    params = {f"{place:04}": jax.ShapeDtypeStruct((EACH,), jnp.float32) for place in range(LEAVES)}
    warm, found = {"w": jax.ShapeDtypeStruct((8,), jnp.float32)}, {}
    if name == "fused":
        made = fused(jol.chain(jol.clip_by_global_norm(1.0), adamw()))
        step = made.step
    else:
        made = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(RATE, weight_decay=DECAY))
        step = optax_step(made)
    for label, run in (("", step), (", in a loop", loop(step, 50))):
        jax.jit(run).lower(warm, jax.eval_shape(made.init, warm), warm)  # a kernel that is missing is made here
        state = jax.eval_shape(made.init, params)
        began = time.perf_counter()
        way = jax.jit(lambda params, state, gradients, run=run: run(gradients, state, params), donate_argnums=(0, 1))
        lowered = way.lower(params, state, params)
        traced = time.perf_counter() - began
        lowered.compile()
        found[name + label] = {"trace": traced, "both": time.perf_counter() - began}
    return found


def temporaries():
    """Bytes of a compiled step beside its arguments and results: one leaf of 16.8 million, and 1000 of 3500."""
    trees = {
        "one leaf": {"w": jax.ShapeDtypeStruct((SIZE,), jnp.float32)},
        "1000 leaves": {f"{place:04}": jax.ShapeDtypeStruct((EACH,), jnp.float32) for place in range(LEAVES)},
    }
    found = {}
    for label, params in trees.items():
        for name in ("f32", "bf16", "int8", "int4"):
            tx = fused(jol.chain(jol.clip_by_global_norm(1.0), adamw(name)))
            state = jax.eval_shape(tx.init, params)
            step = jax.jit(lambda p, s, g, tx=tx: tx.step(g, s, p), donate_argnums=(0, 1))
            made = step.lower(params, state, params).compile()
            found[f"{label}, {name}"] = made.memory_analysis().temp_size_in_bytes
    return found


def cards(rounds=7, size=2**22):
    """Each elementwise card, fused over plain, float32 and int8 slots; one leaf of 4 million parameters."""
    gradient = jnp.asarray(np.random.default_rng(0).normal(size=size), jnp.float32)
    found = {}
    for card in jol.registry.cards():
        if card.factory(card.learning_rate).couples != "element":
            continue
        found[card.name] = {}
        for codec in ("f32", "int8"):
            tx = jol.store(card.factory(card.learning_rate), codec, min_size=1)
            own = fused(tx)
            programs = {
                "plain": running(tx, plain_step(tx), jnp.ones(size), gradient),
                "fused": running(own, own.step, jnp.ones(size), gradient),
            }
            found[card.name][codec] = over(in_turn(programs, rounds), "plain")["fused"]["over plain"]
        print(card.name, found[card.name], flush=True)
    return found


PARTS = {
    "leaf": leaf,
    "many": many,
    "compilation": compilation,
    "temporaries": temporaries,
    "cards": cards,
}


if __name__ == "__main__":
    measured("fused", PARTS, sys.argv[1:])
