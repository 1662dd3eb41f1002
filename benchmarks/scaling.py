"""Past one device: what a step sends, what a device holds, how the work on matrices is divided.

`python -m benchmarks.scaling [PART ...]`. Programs for many devices are compiled, not run: each in a process of its own
that is told to have so many.
"""

import json
import os
import re
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import optax

import jaxopt_lectures as jol
from benchmarks.harness import RESULTS, measured
from jaxopt_lectures.scaling.gradients import scattered
from jaxopt_lectures.scaling.layouts import placed, placed_state, slots_sharding
from jaxopt_lectures.scaling.traffic import collectives, sent

COUNTS = (2, 4, 8, 16, 32, 64, 128, 256, 1024)
ESTIMATES = (
    (None, "data=1", 2),
    (None, "data=1", 8),
    ("int8", "data=1", 8),
    (None, "data=8", 16),
    (None, "data=4,model=2", 16),
)
WIDTH = 1024  # every axis of every parameter is divided by every one of them


def traffic():
    """Bytes that a device sends in a step of ZeRO-1 and of FSDP, from compiled programs."""
    return {str(count): _in_a_process("traffic_of", count) for count in COUNTS}


def matrices():
    """Muon and SOAP on 24 matrices of 8 devices: share of the operations, and bytes sent."""
    return _in_a_process("matrices_of", 8)


def state():
    """Bytes of state on one of eight devices over those of all, from live buffers, for each card."""
    return _in_a_process("state_of", 8)


def plan():
    """Seconds and peak memory of the plan of a network of 175 billion parameters, a whole process each."""
    words = ["plan", "gpt3-175b", "--optimizer", "adam", "--store", "int8", "--mesh", "data=64,model=8"]
    code = f"import resource, sys; from jaxopt_lectures.cli.app import main; main({words!r}); "
    code += "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr)"
    found = []
    for _ in range(3):
        began = time.perf_counter()
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        found.append((time.perf_counter() - began, int(done.stderr.split()[-1]) * 1024))
    return {"seconds": sorted(seconds for seconds, _ in found), "peak_bytes": max(size for _, size in found)}


def plans():
    """Plans against live buffers of eight devices, for every card and codec: bytes of state that differ."""
    return _in_a_process("plans_of", 8)


def estimates():
    """Gradients, activations and temporaries of a plan, over the temporary memory of the compiled step."""
    return {
        f"{code or 'float32'}, {mesh}, batch {batch}": _in_a_process("estimate_of", 8, code, mesh, batch)
        for code, mesh, batch in ESTIMATES
    }


def networks():
    """Networks by name: counted and published parameters, and bytes on one device with one example."""
    from jaxopt_lectures.planning import configurations

    found = {}
    for name in configurations.names():
        known = configurations.get(name)
        adam, int8 = (
            jol.memory_plan(name, jol.adam(1e-4), store=code, batch=1, changes=False) for code in (None, "int8")
        )
        found[name] = {"counted": known.counted, "published": known.published, "parameters": adam.parameters}
        found[name] |= {"adam": adam.state, "int8": int8.state, "activations": adam.activations}
        print(name, found[name], flush=True)
    return found


def projection():
    """GPT-3 with Adam, 8 devices along model: bytes held and sent by each device, up to 1,024 of them.

    Held: the plan. Sent: what the compiled programs of `traffic` send for a byte of parameters that a device holds.
    """
    known = json.loads((RESULTS / "scaling.json").read_text())["rows"]["traffic"]["found"]
    found = {}
    for devices in (64, 128, 256, 512, 1024):
        for zero, code in ((0, None), (1, None), (1, "int8"), (3, "int8")):
            tx = jol.adam(1e-4) if code is None else jol.store(jol.adam(1e-4), code)
            held = jol.memory_plan("gpt3-175b", tx, f"data={devices // 8},model=8", zero=zero)
            row = {"parameters": held.parameters, "gradients": held.gradients, "state": held.state}
            if zero:
                kind = known[str(devices // 8)]["found"][f"zero={zero}, scatter"]["sent"]
                whole = jol.memory_plan("gpt3-175b", tx, "model=8", zero=0).parameters
                row["sent"] = kind * 2 * whole * (1 - 8 / devices)
            found[f"{devices}, zero={zero}, {code or 'float32'}"] = row
    print(json.dumps(found), flush=True)
    return found


def traffic_of(count):
    """Of one number of devices; relative to 2 P (N - 1) / N, where P are the bytes of the parameters."""
    mesh = jol.mesh_of({"data": count})
    shapes = {f"{layer}/{name}": (WIDTH, WIDTH) for layer in range(2) for name in ("rise", "fall")}
    shapes |= {f"{layer}/bias": (WIDTH,) for layer in range(2)}
    params = {name: jax.ShapeDtypeStruct(shape, jnp.float32) for name, shape in shapes.items()}
    size = sum(p.size * p.dtype.itemsize for p in params.values())
    least = 2 * size * (count - 1) / count
    found = {}
    for kind, spread in (("zero=1", None), ("zero=3", "data")):
        layout = jol.params_sharding(params, mesh, spread=spread)
        for way, gradient in (
            (
                "scatter",
                scattered(_loss, mesh, "data", layout, slots_sharding(placed(params, layout), mesh, 1, "data")),
            ),
            ("compiler", jax.value_and_grad(_loss, has_aux=True)),
        ):
            compiled = _step(jol.adamw(1e-3), mesh, params, layout, gradient, batch=count)
            kinds = {}
            for one in collectives(compiled):
                kinds[one.kind] = kinds.get(one.kind, 0) + one.sent
            found[f"{kind}, {way}"] = {"sent": sent(compiled) / least, "kinds": kinds} | _memory(compiled)
    return {"parameter_bytes": size, "found": found}


def matrices_of(count):
    """Of so many devices."""
    mesh = jol.mesh_of({"data": count})
    params = {str(number): jax.ShapeDtypeStruct((256, 256), jnp.float32) for number in range(3 * count)}
    size, layout = sum(p.size * 4 for p in params.values()), jol.params_sharding(params, mesh)
    found = {}
    for name in ("muon", "soap", "shampoo", "psgd_kron"):
        tx = getattr(jol, name)(1e-3)
        alone = jax.jit(tx.update).lower(params, jax.eval_shape(tx.init, params), params).compile()
        divided = jol.shard(tx, mesh, 1, params=layout)
        there = placed(params, layout)
        state = placed_state(tx, there, mesh, 1, "data")
        shared = jax.jit(divided.update).lower(there, state, there).compile()
        flops = [program.cost_analysis()["flops"] for program in (shared, alone)]
        found[name] = {"operations": flops[0] / flops[1], "sent_over_parameter_bytes": sent(shared) / size}
    return found


def state_of(count):
    """On one of so many devices."""
    mesh = jol.mesh_of({"data": count})
    params = {"matrix": jnp.ones((512, 512)), "vector": jnp.ones(512)}
    there = jax.device_put(params, jol.params_sharding(params, mesh))
    found = {}
    for card in jol.registry.cards():
        for codec in (None, "int8", "int4"):
            tx = card.factory(learning_rate=0.1)
            kept = tx if codec is None else jol.store(tx, codec)
            leaves = jax.tree.leaves(jol.shard(kept, mesh, 1).init(there))
            if any(leaf.ndim for leaf in leaves):
                mine = sum(leaf.addressable_shards[3].data.nbytes for leaf in leaves)
                found[f"{card.name}, {codec or 'float32'}"] = count * mine / sum(leaf.nbytes for leaf in leaves)
    return found


def plans_of(count):
    """On so many devices, half of them along model."""
    mesh = jol.mesh_of({"data": count // 2, "model": 2})
    rules = {"matrix": (None, "model"), "both": ("model",)}
    params = {"matrix": jnp.ones((64, 128)), "both": jnp.ones((8, 64)), "odd": jnp.ones(7)}
    layout = jol.params_sharding(params, mesh, rules)
    there, compared, different = jax.device_put(params, layout), 0, []
    for card in jol.registry.cards():
        for codec in (None, "int8", "int4", "bf16", "fp8"):
            tx = card.factory(learning_rate=0.1)
            tx = tx if codec is None else jol.store(tx, codec, min_size=64)
            for zero in (0, 1):
                state = jol.shard(tx, mesh, zero, params=layout).init(there)
                mine = sum(leaf.addressable_shards[0].data.nbytes for leaf in jax.tree.leaves(state))
                told = jol.memory_plan(params, tx, mesh, zero=zero, rules=rules, changes=False).state
                compared += 1
                different += [] if told == mine else [f"{card.name}, {codec}, zero={zero}: {told} for {mine}"]
    return {"compared": compared, "different": different}


def estimate_of(count, code, mesh, batch):
    """Of a GPT of 4 layers, width 256, 256 tokens, vocabulary 2048."""
    from flax import nnx

    from jaxopt_lectures.models import GPT

    del count
    mesh = jol.mesh_of(mesh)
    shaped = nnx.eval_shape(lambda: GPT(2048, context=256, layers=4, heads=4, width=256, rngs=nnx.Rngs(0)))
    graph, params = nnx.split(shaped)
    rules = {pattern: spec for pattern, spec in GPT.mesh_rules.items() if "model" in mesh.axis_names}
    layout = jol.params_sharding(params, mesh, rules)
    tx = jol.adam(1e-3) if code is None else jol.store(jol.adam(1e-3), code)
    sharded, there = jol.shard(tx, mesh, 1, params=layout), placed(params, layout)
    state = placed_state(tx, there, mesh, 1, "data")
    tokens = jax.ShapeDtypeStruct((batch, 256), jnp.int32, sharding=jax.NamedSharding(mesh, jax.P("data")))

    def loss(model, x, y):
        return optax.softmax_cross_entropy_with_integer_labels(model(x), y).mean()

    def step(params, state, x, y):
        gradients = jax.grad(lambda params: loss(nnx.merge(graph, params), x, y))(params)
        updates, state = sharded.update(gradients, state, params)
        return jol.apply_updates(params, updates), state

    compiled = jax.jit(step, donate_argnums=(0, 1)).lower(there, state, tokens, tokens).compile()
    held = compiled.memory_analysis()
    plan = jol.memory_plan(shaped, tx, mesh, loss=loss, batch=(tokens, tokens), changes=False)
    arguments = plan.parameters + plan.state + 2 * 4 * 256 * batch // mesh.shape["data"]
    return {
        "measured": held.temp_size_in_bytes,
        "planned": plan.gradients + plan.activations + plan.temporaries,
        "arguments": held.argument_size_in_bytes,
        "planned_arguments": arguments,
    }


def _loss(params, rest, x, y):
    for layer in range(2):
        x = jnp.tanh(x @ params[f"{layer}/rise"] + params[f"{layer}/bias"]) @ params[f"{layer}/fall"]
    return jnp.mean((x - y) ** 2), rest


def _step(tx, mesh, params, layout, gradient, batch):
    sharded, there = jol.shard(tx, mesh, 1, params=layout), placed(params, layout)
    state = placed_state(tx, there, mesh, 1, "data")

    def step(params, state, x, y):
        (value, _), gradients = gradient(params, None, x, y)
        updates, state = sharded.update(gradients, state, params)
        return optax.apply_updates(params, updates), state, value

    x = jax.ShapeDtypeStruct((batch, WIDTH), jnp.float32, sharding=jax.NamedSharding(mesh, jax.P("data")))
    return jax.jit(step, donate_argnums=(0, 1)).lower(there, state, x, x).compile()


def _memory(compiled):
    found = compiled.memory_analysis()
    return {"argument_bytes": found.argument_size_in_bytes, "temporary_bytes": found.temp_size_in_bytes}


def _in_a_process(part, count, *more):
    flags = re.sub(r"--xla_force_host_platform_device_count=\d+", "", os.environ.get("XLA_FLAGS", ""))
    flags += f" --xla_force_host_platform_device_count={count}"
    code = f"import json; from benchmarks import scaling; print(json.dumps(scaling.{part}(*{(count, *more)!r})))"
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | {"XLA_FLAGS": flags}, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    print(f"{part} {count}: {time.perf_counter() - began:.0f} s", done.stdout.strip()[:600], flush=True)
    return json.loads(done.stdout.splitlines()[-1])


PARTS = {
    "traffic": traffic,
    "matrices": matrices,
    "state": state,
    "plan": plan,
    "plans": plans,
    "estimates": estimates,
    "networks": networks,
    "projection": projection,
}


if __name__ == "__main__":
    measured("scaling", PARTS, sys.argv[1:])
