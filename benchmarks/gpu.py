"""Steps on a GPU in one pass over its memory: `python -m benchmarks.gpu`.

Saved in benchmarks/results/gpu.json. Without a GPU it says so, and measures nothing.
"""

import functools
import gc
import statistics
import time

import jax
import jax.numpy as jnp
import optax

import jaxopt_lectures as jol
from benchmarks.harness import save

SIZE = 10**9
LEAF = 2**26  # parameters of an array; a kernel counts them in 32 bits
ROUNDS, WARMUP = 20, 3
RATE = 1e-4


def bandwidth():
    """Bytes a second, read and written, of an array that is negated in place."""
    negated = jax.jit(jnp.negative, donate_argnums=0)
    return 2 * 4 * SIZE / seconds(negated, jnp.ones(SIZE, jnp.float32))


def tree(dtype):
    """SIZE parameters in arrays of at most LEAF."""
    sizes = [LEAF] * (SIZE // LEAF) + ([SIZE % LEAF] if SIZE % LEAF else [])
    return {f"{index:03}": jnp.full(size, 0.5, dtype) for index, size in enumerate(sizes)}


def seconds(step, *carry, given=()):
    """Median time of a step of what it returns, each waited for."""
    times = []
    for index in range(ROUNDS + WARMUP):
        start = time.perf_counter()
        carry = jax.block_until_ready(step(*given, *carry))
        if index >= WARMUP:
            times.append(time.perf_counter() - start)
        carry = carry if isinstance(carry, tuple) else (carry,)
    return statistics.median(times)


def plainly(tx, add, grads, state, params):
    """The step that makes updates and adds them."""
    updates, state = tx.update(grads, state, params)
    return state, add(params, updates)


def in_one(tx, grads, state, params):
    """The fused step."""
    params, state = tx.step(grads, state, params)
    return state, params


def measured(step, tx, dtype, speed):
    """A way to step so many parameters: time, bytes it keeps and has beside them, and share of what copying takes."""
    params, grads = tree(dtype), tree(dtype)
    state = jax.jit(tx.init)(params)
    kept, of_weights = (sum(x.nbytes for x in jax.tree.leaves(tree)) for tree in (state, params))
    least = 2 * (kept + of_weights) + of_weights  # state and parameters are read and written, gradients read
    program = jax.jit(step, donate_argnums=(1, 2)).lower(grads, state, params).compile()
    taken = seconds(program, state, params, given=(grads,))
    del params, grads, state
    gc.collect()
    return {
        "ms": 1e3 * taken,
        "state_bytes_per_parameter": kept / SIZE,
        "least_bytes_per_parameter": least / SIZE,
        "temporary_bytes_per_parameter": program.memory_analysis().temp_size_in_bytes / SIZE,
        "share_of_copy_bandwidth": least / taken / speed,
    }


def ways():
    """What is measured: a step, its transformation and the dtype of the weights, by name."""
    plain, standard = jol.adamw(RATE), optax.adamw(RATE)
    coded = jol.round_stochastic(jol.store(plain, "int8"))  # weights of 16 bits, rounded at random
    fused, fused_coded = jol.fuse(plain), jol.fuse(coded)
    return {
        "adamw float32, optax": (functools.partial(plainly, standard, optax.apply_updates), standard, jnp.float32),
        "adamw float32, plain": (functools.partial(plainly, plain, jol.apply_updates), plain, jnp.float32),
        "adamw float32, fused": (functools.partial(in_one, fused), plain, jnp.float32),
        "adamw int8, bfloat16, plain": (functools.partial(plainly, coded, jol.apply_updates), coded, jnp.bfloat16),
        "adamw int8, bfloat16, fused": (functools.partial(in_one, fused_coded), coded, jnp.bfloat16),
    }


def main():
    """Runs and prints."""
    if jax.default_backend() != "gpu":
        print(f"no GPU here ({jax.default_backend()} only): nothing is measured")
        return
    speed = bandwidth()
    rows = {"copy": {"bytes_per_second": speed, "parameters": SIZE}}
    print(f"{jax.devices()[0].device_kind}: copies {speed / 1e12:.3g} TB/s, read and written", flush=True)
    for name, way in ways().items():
        rows[name] = measured(*way, speed)
        rows[name]["over_optax"] = rows[name]["ms"] / rows["adamw float32, optax"]["ms"]
        print(f"{name}: {rows[name]['ms']:.3g} ms, {rows[name]['share_of_copy_bandwidth']:.0%} of copying", flush=True)
    print(f"saved {save('gpu', rows)}")


if __name__ == "__main__":
    main()
