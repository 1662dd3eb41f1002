"""`kernels`: which of them are here, and building those of all cards for a wheel or for this machine."""

import sys
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated

import jax
import jax.numpy as jnp
from cyclopts import Parameter

from jaxopt_lectures import registry
from jaxopt_lectures.cli.refusal import Refusal
from jaxopt_lectures.clipping import clip_by_global_norm
from jaxopt_lectures.core.transformation import chain
from jaxopt_lectures.kernels.cpu import compiler, library
from jaxopt_lectures.kernels.cpu.source import Kernel
from jaxopt_lectures.kernels.fuse import sources
from jaxopt_lectures.storage.codecs import CODECS, codec
from jaxopt_lectures.storage.store import store
from jaxopt_lectures.terminal.console import Terminal
from jaxopt_lectures.wrappers.narrow_weights import round_stochastic

_CODECS = "f32,bf16,int8"


def kernels(
    *,
    build: Annotated[bool, Parameter(negative=())] = False,
    codecs: str = _CODECS,
    everywhere: Annotated[bool, Parameter(negative=())] = False,
    into: Path | None = None,
) -> int:
    """Show the compiled kernels that `fuse` has on CPU; or build those of every optimizer.

    Args:
      build: compile them; needs a C++ compiler, and some minutes.
      codecs: of which codes of the state, or all.
      everywhere: for all processors of this family, as a wheel needs, and not only for one like this.
      into: folder; that of the installed package if not given.
    """
    folder = into or library.BUILT
    if build:
        return _build(_named(codecs), everywhere, folder)
    found = [library.loaded(path) for path in sorted(folder.glob("*.so"))]
    for each in found:
        said = each if isinstance(each, str) else f"{len(each.names)} kernels, {each.target}"
        Terminal(sys.stdout).lines(said)
    if not found:
        Terminal(sys.stdout).lines(
            f"no kernels in {folder}: every step is the plain one, unless fuse(compile=True)",
            f"compiler: {compiler.compiler() or 'none'}; instruction set: {compiler.own_level() or 'not known'}",
        )
    return 0


def wanted(codecs: Iterable[str]) -> Iterator[tuple[str, list[Kernel]]]:
    """Each card's name and kernels: with and without a clipped norm, parameters in float32 and in bfloat16."""
    for card in registry.cards():
        made: dict[str, Kernel] = {}
        for name in codecs:
            tx = store(card.factory(card.learning_rate), name, min_size=1)
            for dtype in (jnp.float32, jnp.bfloat16):
                params = {"w": jax.ShapeDtypeStruct((64, 64), dtype)}
                for way in (tx, chain(clip_by_global_norm(1.0), tx)):
                    way = round_stochastic(way) if dtype == jnp.bfloat16 else way
                    made |= {kernel.name: kernel for kernel in sources(way, params)}
        yield card.name, list(made.values())


def _named(codecs: str) -> list[str]:
    try:
        return list(CODECS) if codecs == "all" else [codec(name).name for name in codecs.split(",")]
    except ValueError as error:
        raise Refusal(str(error)) from error


def _build(codecs: list[str], everywhere: bool, folder: Path) -> int:
    if compiler.compiler() is None:
        raise Refusal("no C++ compiler was found (c++, g++, clang++, or what CXX names); without kernels all works")
    own = compiler.own_level()
    if own is None:
        raise Refusal("kernels are not known for this processor; without them all works")
    terminal = Terminal(sys.stderr)
    found: dict[str, Kernel] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, kernels in wanted(codecs):
            found |= {kernel.name: kernel for kernel in kernels}
            terminal.lines(f"{name}: {len(kernels)} kernels")
    levels = compiler.levels() if everywhere else [own]

    def progress(done: int, of: int) -> None:
        terminal.lines(f"compiled {done} of {of} files")

    try:
        path = compiler.compiled(list(found.values()), folder, "kernels", levels, progress=progress)
    except compiler.NoCompiler as error:
        raise Refusal(str(error)) from error
    for old in folder.glob("kernels-*.so"):  # of a build before; other libraries may lie there
        if old != path:
            old.unlink()
    size = path.stat().st_size / 1e6
    Terminal(sys.stdout).lines(f"{len(found)} kernels for {', '.join(levels)}: {path} ({size:.1f} MB)")
    return 0
