"""An AdamW step and the time to trace it, against optax in the same run."""

import time

import jax
import jax.numpy as jnp
import optax

import jaxopt_lectures as jol
from benchmarks.harness import compared, in_turn

CASES = {
    "one leaf of 16 M": {"w": (16 * 2**20,)},
    "1000 leaves of 3500": {f"w{i}": (3500,) for i in range(1000)},
}


def optimizers():
    """The two sides."""
    return {"ours": jol.adamw(1e-3), "optax": optax.adamw(1e-3)}


def step(tx):
    """A whole optimizer step, parameters and state donated."""

    def one(params, state, gradients):
        updates, state = tx.update(gradients, state, params)
        return optax.apply_updates(params, updates), state

    return jax.jit(one, donate_argnums=(0, 1))


def arrays(shapes):
    """Parameters and gradients."""
    params = {name: jnp.full(shape, 0.5) for name, shape in shapes.items()}
    return params, jax.tree.map(lambda p: p * 1e-3, params)


def run_time(shapes, rounds, blocks=6):
    """Milliseconds of one step, compiled and warm.

    Where an array lies in memory is worth up to 20 % on some machines, and the first one made has the worse place:
    both sides are made anew in every block, in alternating order.
    """
    compiled = {}
    for name, tx in optimizers().items():
        params, gradients = arrays(shapes)
        compiled[name] = step(tx).lower(params, tx.init(params), gradients).compile()

    times = {"ours": [], "optax": []}
    for block in range(blocks):
        programs = {}
        for name, tx in list(optimizers().items())[:: 1 if block % 2 else -1]:
            params, gradients = arrays(shapes)
            held = [params, tx.init(params)]

            def program(run=compiled[name], held=held, gradients=gradients):
                held[:] = run(*held, gradients)
                return held

            programs[name] = program
        for name, found in in_turn(programs, rounds // blocks).items():
            times[name] += found
    return compared(times, "ours", "optax")


def trace_time(shapes, rounds):
    """Milliseconds to trace the step, with cold caches each time."""
    times = {"ours": [], "optax": []}
    params, gradients = arrays(shapes)
    for _ in range(rounds):
        for name, tx in optimizers().items():
            state = tx.init(params)
            jax.clear_caches()
            start = time.perf_counter()
            step(tx).trace(params, state, gradients)
            times[name].append(time.perf_counter() - start)
    return compared(times, "ours", "optax")


def rows():
    """The measured rows."""
    found = {}
    for case, shapes in CASES.items():
        found[f"AdamW step, {case}"] = run_time(shapes, rounds=60) | {"target": "ratio <= 1.05"}
    case = "1000 leaves of 3500"
    found[f"trace of that step, {case}"] = trace_time(CASES[case], rounds=5) | {"target": "ratio <= 0.5"}
    return found
