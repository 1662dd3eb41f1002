"""What state in few bytes costs and what it saves: `python -m benchmarks.storage [PART ...]`.

Saved in benchmarks/results/storage.json, part by part.
"""

import statistics
import sys
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxopt_lectures as jol
from benchmarks.harness import in_turn, measured
from jaxopt_lectures import tasks
from jaxopt_lectures.comparison.measures import state_bytes_per_parameter
from jaxopt_lectures.comparison.statistics import paired
from jaxopt_lectures.storage.codecs import CODECS
from jaxopt_lectures.storage.codes import decoded, encoded
from jaxopt_lectures.storage.rounding import words
from jaxopt_lectures.tuning.decay import over_the_run
from jaxopt_lectures.tuning.ground import Ground, Lane
from jaxopt_lectures.tuning.runs import Runs

LOSSES = {"digits_cnn": 600, "digits_autoencoder": 3000, "characters_transformer": 1000}
SEEDS, SMALL = 10, 256


def stored(codec, rate, **options):
    """Adam, all of whose slots are encoded."""
    return jol.store(jol.adam(rate), codec, **{"min_size": 1, **options})


def ran(tx, params, gradient, steps):
    """Parameters and state after so many steps with `gradient(params, count)`, in one program."""

    def step(carry, count):
        params, state = carry
        updates, state = tx.update(gradient(params, count), state, params)
        return (optax.apply_updates(params, updates), state), None

    run = jax.jit(lambda params, state: jax.lax.scan(step, (params, state), jnp.arange(steps))[0])
    return run(params, tx.init(params))


def valley(seed=3, size=4096, steps=2000):
    """Curvatures from 1e-6 to 1 in one array, in any order: the loss after 2000 steps, rate 1e-2 to 0."""
    rng = np.random.default_rng(seed)
    curvatures = jnp.asarray(10 ** rng.uniform(-6, 0, size), jnp.float32)
    first = jnp.asarray(rng.normal(size=size), jnp.float32)
    rate = optax.linear_schedule(1e-2, 0, steps)
    found = {"at the start": float(jnp.sum(curvatures * first**2) / 2)}
    for name in CODECS:
        finals = []
        for key in range(3 if CODECS[name].signed and CODECS[name].signed.stochastic else 1):
            tx = stored(name, rate, key=jax.random.key(key))
            params, _ = ran(tx, first, lambda w, _: curvatures * w, steps)
            finals.append(float(jnp.sum(curvatures * params**2) / 2))
        found[name] = finals
        print(name, finals, flush=True)
    return found


def sequences():
    """Short sequences of gradients at which 8-bit optimizers are known to fail."""
    found = {}
    for name in CODECS:
        pair = ran(
            stored(name, 1e-3),
            jnp.zeros(2),
            lambda w, t: jnp.where(t == 0, jnp.array([1, 2e-4]), jnp.array([1.0, 0])),
            2,
        )
        once = ran(stored(name, 1e-3), jnp.zeros(2), lambda w, t: jnp.array([1, 2e-4]), 1)
        move = float(pair[0][1] - once[0][1])
        # one active coordinate in a block of 256, whose others had 200 gradients and then none
        idle = ran(
            stored(name, 1e-3),
            jnp.zeros(4096),
            lambda w, t: jnp.where((t < 200) | (jnp.arange(4096) % 256 == 0), 1.0, 0.0),
            4200,
        )[1]
        v = decoded_slot(idle.nu, 4096)
        idle_mean = jnp.mean(jnp.where(jnp.arange(4096) % 256 == 0, 0, v)) * 256 / 255
        ratio = float(idle_mean) / ((1 - 0.999**200) * 0.999**4000)
        still = ran(
            stored(name, 1e-3),
            jnp.zeros(256),
            lambda w, t: jnp.where(jnp.arange(256) % 2 == 0, jnp.cos(0.1 * t), 0.0),
            10_000,
        )
        found[name] = {
            "move of the second coordinate": move,
            "v of idle coordinates over the exact one": ratio,
            "largest move where the gradient is always 0": float(jnp.max(jnp.abs(still[0][1::2]))),
        }
        print(name, found[name], flush=True)
    return found


def decoded_slot(slot, size):
    """As an array."""
    return slot if isinstance(slot, jax.Array) else decoded(slot, (size,))


def errors(size=2**20):
    """Mean absolute error of encoding and decoding, and of the worst element of a block, by codec and data."""
    rng = np.random.default_rng(0)
    normal = rng.normal(size=size)
    outliers = np.where(np.arange(size) % 4096 == 0, 1000 * normal, normal)
    data = {"normal": normal, "normal with outliers": outliers, "log-normal": rng.lognormal(0, 2, size=size)}
    found = {}
    for codec in CODECS.values():
        for nature in ("signed", "nonnegative") if codec.signed else ():
            code = codec.code(nature)
            for label, values in data.items():
                x = jnp.asarray(values if nature == "signed" else np.abs(values), jnp.float32)
                kept = jax.jit(partial(encoded, code, block=codec.block))(x, word=words(None, jnp.uint32(0), (1,))[0])
                error = np.abs(np.asarray(decoded(kept, x.shape)) - np.asarray(x))
                found[f"{code.name}, {label}"] = float(error.mean())
    return found


def bytes_per_parameter():
    """Of the state, for every card and codec; a matrix of 1024 x 1024."""
    parameter = {"w": jax.ShapeDtypeStruct((1024, 1024), jnp.float32)}
    return {
        card.name: {
            name: state_bytes_per_parameter(jol.store(card.factory(card.learning_rate), name), parameter)
            for name in CODECS
        }
        for card in jol.registry.cards()
    }


def temporaries(leaves=48, size=1024):
    """Memory of a compiled step beside its arguments and results, in leaves; 48 matrices of 1024 x 1024."""
    params = {str(index): jax.ShapeDtypeStruct((size, size), jnp.float32) for index in range(leaves)}
    found = {}
    for name in CODECS:
        tx = jol.store(jol.adam(1e-3), name)
        state = jax.eval_shape(tx.init, params)
        compiled = jax.jit(tx.update, donate_argnums=1).lower(params, state, params).compile()
        found[name] = compiled.memory_analysis().temp_size_in_bytes / (4 * size * size)
        print(name, found[name], flush=True)
    return found


def times(size=4096, rounds=15):
    """A step on one leaf of 16 million parameters, over that with float32 slots."""
    gradient = jnp.asarray(np.random.default_rng(0).normal(size=(size, size)), jnp.float32)
    programs, states = {}, {}
    for name in CODECS:
        tx = jol.store(jol.adam(1e-3), name)
        states[name] = tx.init(gradient)
        step = jax.jit(tx.update, donate_argnums=1)

        def run(name=name, step=step):
            updates, states[name] = step(gradient, states[name])
            return updates

        programs[name] = run
    taken = in_turn(programs, rounds)
    base = taken["f32"]
    return {
        name: {
            "ms": 1e3 * statistics.median(own),
            "over_f32": statistics.median([a / b for a, b in zip(own, base, strict=True)]),
        }
        for name, own in taken.items()
    }


def losses():
    """Training loss at the end, ten seeds, encoded against float32, paired by seed."""
    found = {}
    for task_name, steps in LOSSES.items():
        ground = Ground(tasks.get(task_name))
        lanes = [Lane({"learning_rate": 1e-3}, seed) for seed in range(SEEDS)]
        ends = {}
        for name in ("f32", "bf16", "fp8", "int8", "int4", "int8_nearest", "int4_nearest"):
            factory = partial(scheduled, name, steps)
            runs = Runs(ground, factory, ["learning_rate"], look=steps // 10)
            outcomes = runs.train(lanes, (steps - steps // 10, steps))
            ends[name] = [outcome.losses[-1] for outcome in outcomes]
            difference, low, high, _ = paired(ends[name], ends["f32"])
            base = statistics.fmean(ends["f32"])
            found.setdefault(task_name, {})[name] = {
                "loss": statistics.fmean(ends[name]),
                "difference": difference,
                "interval": [low, high],
                "in_percent_of_the_loss": [100 * low / base, 100 * high / base],
                "as_good": low <= 0 <= high or max(abs(low), abs(high)) <= 0.01 * base,
            }
            print(task_name, name, found[task_name][name], flush=True)
    return found


def scheduled(codec, steps, learning_rate):
    """Adam with a rate that falls along half a cosine; slots of 256 elements and more encoded."""
    schedule = over_the_run("cosine", steps)[0](learning_rate)
    return jol.store(jol.adam(schedule), codec, min_size=SMALL)


def narrow_weights(seeds=3, steps=3000):
    """bfloat16 weights: a quadratic of 64 dimensions with Adam at 1e-3; 100 updates of -1e-3 on weights of 1."""
    rng = np.random.default_rng(0)
    curvatures = jnp.asarray(rng.uniform(10, 30, 64), jnp.float32)
    first = jnp.asarray(rng.choice([-1, 1], 64) * rng.uniform(0.6, 1, 64), jnp.bfloat16)

    def loss(w):
        return jnp.sum(curvatures * w.astype(jnp.float32) ** 2) / 2

    found = {"loss at the start": float(loss(first))}
    ways = {
        "nearest": lambda key: jol.adam(1e-3),
        "round_stochastic": lambda key: jol.round_stochastic(jol.adam(1e-3), key),
        "compensate": lambda key: jol.compensate(jol.adam(1e-3)),
        "round_stochastic, int8": lambda key: jol.round_stochastic(stored("int8", 1e-3), key),
    }
    for label, way in ways.items():
        ends = [
            ran(way(jax.random.key(seed)), first, lambda w, _: jax.grad(loss)(w), steps)[0] for seed in range(seeds)
        ]
        found[label] = [float(loss(w)) for w in ends]
    down = optax.GradientTransformation(lambda w: optax.EmptyState(), lambda g, s, p=None: (g, s))
    for label, tx in {
        "nearest": down,
        "round_stochastic": jol.round_stochastic(down),
        "compensate": jol.compensate(down),
    }.items():
        w, _ = ran(tx, jnp.ones(1000, jnp.bfloat16), lambda w, _: jnp.full(1000, -1e-3), 100)
        found[f"mean of 1000 weights after 100 updates, {label}"] = float(jnp.mean(w.astype(jnp.float32)))
    return found


PARTS = {
    "valley": valley,
    "sequences": sequences,
    "errors": errors,
    "bytes": bytes_per_parameter,
    "temporaries": temporaries,
    "times": times,
    "losses": losses,
    "narrow_weights": narrow_weights,
}


if __name__ == "__main__":
    measured("storage", PARTS, sys.argv[1:])
