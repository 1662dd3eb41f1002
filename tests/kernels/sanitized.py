"""Kernels under the sanitizers of addresses and of undefined behaviour: `make sanitize`, some minutes.

Each kernel of a few cards in every codec gets arrays of their exact size and nothing around them, shapes of all kinds
(ragged, prime, less than a vector, odd in 4 bits) and any bits as numbers and codes: in one go into other arrays, and
tile by tile in place. Both must give the same bytes. Then JAX calls some of them, many leaves at a time, through the
handler and its threads; and what is compiled for lesser processors must give the same bytes too, NaNs
aside. The first report ends it all.
"""

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import jax
import jax.numpy as jnp

import jaxopt_lectures as jol
from jaxopt_lectures.kernels.cpu import compiler
from jaxopt_lectures.kernels.cpu.source import HEADERS, Kernel
from jaxopt_lectures.kernels.fuse import sources
from jaxopt_lectures.storage.codecs import CODECS

CARDS = ("adamw", "lion", "amsgrad")
FEW = ("f32", "bf16", "fp8", "int8", "int4")
FLAGS = (
    *("-fsanitize=address,undefined,float-cast-overflow", "-fno-sanitize-recover=all"),
    *("-O1", "-g1", "-fno-omit-frame-pointer", "-fvisibility=default"),
)
KINDS = ("float32", "bfloat16", "uint8", "uint16", "u4", "scale")
MAIN = Path(__file__).with_name("sanitized.cc")


def kernels(cards: Sequence[str] = CARDS, codecs: Sequence[str] = tuple(CODECS)) -> list[Kernel]:
    found = {}
    for card in map(jol.registry.get, cards):
        for codec in codecs:
            tx = jol.store(card.factory(card.learning_rate), codec, min_size=1)
            for dtype, way in ((jnp.float32, jol.chain(jol.clip_by_global_norm(1.0), tx)), (jnp.bfloat16, tx)):
                params = {"w": jax.ShapeDtypeStruct((64, 64), dtype)}
                way = jol.round_stochastic(way) if dtype == jnp.bfloat16 else way
                own = sources(way, params)
                if not any("leaf.out[1]" in kernel.text for kernel in own):
                    sys.exit(f"no kernel takes the step of {card.name} in {codec}, {dtype.__name__}")
                found |= {kernel.name: kernel for kernel in own}
    return list(found.values())


def described(kernel: Kernel) -> str:
    """What a kernel's text reads and writes, as C++ of `Described`."""
    text = kernel.text
    reads = {int(place): kind for kind, place in re.findall(r"Load_(\w+)\(in(\d+), at", text)}
    reads |= {int(place): "scale" for place in re.findall(r"const float\*>\(leaf\.in\[(\d+)\]\)\[tile\]", text)}
    writes = {int(place): kind for kind, place in re.findall(r"Store_(\w+)\(out(\d+), at", text)}
    writes |= {int(place): "scale" for place in re.findall(r"<float\*>\(leaf\.out\[(\d+)\]\)\[tile\]", text)}
    together = "[leaf.before + tile]" in text
    writes |= {0: "scale"} if together else {}
    # What is not read lies in place all the same: an output is of the kind of the input after it.
    for place, kind in writes.items():
        if not together:
            assert reads.setdefault(place + 1, kind) == kind, kernel.text
    count = [max([-1, *map(int, re.findall(rf"leaf\.{name}\[(\d+)\]", text))]) + 1 for name in ("uniforms", "words")]
    ins = [KINDS.index(reads.get(place, "float32")) for place in range(max(reads) + 1)]
    outs = [KINDS.index(writes[place]) for place in range(max(writes) + 1)]
    lists = ", ".join("{" + ", ".join(map(str, each)) + "}" for each in (ins, outs))
    return f'{{"{kernel.name}", {lists}, {count[0]}, {count[1]}, {str(together).lower()}}},'


def direct(found: Sequence[Kernel], level: str, folder: Path) -> tuple[Path, str]:
    """A sanitized library, and what was printed by the program that calls all its kernels."""
    library = compiler.compiled(found, folder, "kernels", [level], FLAGS)
    (folder / "described.inc").write_text("\n".join(map(described, found)))
    program = folder / "main"
    command = (compiler.compiler() or "").split()
    options = [*FLAGS, "-std=c++17", f"-I{HEADERS}", f"-I{folder}", str(MAIN), str(library), f"-Wl,-rpath,{folder}"]
    subprocess.run([*command, *options, "-o", str(program)], check=True)
    done = subprocess.run([str(program)], stdout=subprocess.PIPE, text=True, check=True, env=environment())
    return library, done.stdout


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, "UBSAN_OPTIONS": "print_stacktrace=1", **more}


def through_jax(library: Path, codecs: Sequence[str] = FEW) -> str:
    """Runs `steps` where the sanitizer is loaded before all else; returns what was done."""
    command = (compiler.compiler() or "").split()
    first = []
    for name in ("libasan.so", "libstdc++.so"):
        asked = [*command, f"-print-file-name={name}"]
        first.append(subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip())
        if not os.path.isabs(first[-1]):
            return f"not through JAX: this compiler has no {name} to be loaded first"
    more = {"LD_PRELOAD": " ".join(first), "ASAN_OPTIONS": "detect_leaks=0", "JAX_PLATFORMS": "cpu"}
    more["XLA_FLAGS"] = "--xla_backend_optimization_level=0"  # its compiler is slow under a sanitizer
    code = f"from tests.kernels import sanitized; sanitized.steps({str(library)!r}, {codecs!r})"
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, env=environment(**more))
    return "through JAX: " + ", ".join(codecs)


def steps(path: str, codecs: Sequence[str]) -> None:
    """Two steps of many leaves in each codec, in place, all by kernels of that library."""
    from jaxopt_lectures.kernels.cpu import library

    library.BUILT = Path(path).parent
    assert all(isinstance(each, library.Library) for each in library.built()), library.built()
    shapes = [(1,), (2,), (15,), (16,), (17,), (31,), (115,), (257,), (3, 526), (4, 4099), (70_001,), (2, 40_000)]
    bits = jax.random.key(0)
    for codec in codecs:
        card = jol.registry.get(CARDS[0])
        tx = jol.chain(jol.clip_by_global_norm(1.0), jol.store(card.factory(1e-3), codec, min_size=1))
        step = jax.jit(jol.fuse(tx, sharded=False).step, donate_argnums=(1, 2))
        init = jax.jit(tx.init)
        for values in ("normal", "any"):
            params = {f"{place} {shape}": jnp.ones(shape) for place, shape in enumerate(shapes)}
            draw = jax.random.normal if values == "normal" else any_bits
            grads = {name: draw(jax.random.fold_in(bits, len(name)), p.shape) for name, p in params.items()}
            state = init(params)
            for _ in range(2):
                params, state = jax.block_until_ready(step(grads, state, params))


def any_bits(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    return jax.lax.bitcast_convert_type(jax.random.bits(key, shape), jnp.float32)


def main() -> int:
    if compiler.compiler() is None or compiler.own_level() is None:
        print("no C++ compiler was found, or this processor is not known: nothing to look at")  # noqa: T201
        return 1
    every = compiler.levels()
    here = every[every.index(compiler.own_level()) :]
    found = kernels()
    with tempfile.TemporaryDirectory() as name:
        library, wanted = direct(found, here[0], Path(name) / here[0])
        print(f"{here[0]}: {len(found)} kernels of {', '.join(CARDS)}, nothing to report", flush=True)  # noqa: T201
        print(through_jax(library), flush=True)  # noqa: T201
        few = kernels(CARDS[:1], FEW)
        for level in here[1:]:
            _, said = direct(few, level, Path(name) / level)
            differing = set(said.splitlines()) - set(wanted.splitlines())
            if differing:
                print(f"{level} gives other bytes than {here[0]}:", *differing, sep="\n")  # noqa: T201
                return 1
            print(f"{level}: {len(few)} kernels, nothing to report", flush=True)  # noqa: T201
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except subprocess.CalledProcessError as error:
        sys.exit(f"a sanitizer reported something, or a program did not run: exit status {error.returncode}")
