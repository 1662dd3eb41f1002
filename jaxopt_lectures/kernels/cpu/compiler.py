"""The C++ compiler, where there is one, and what it makes of kernels: a shared library for one or more processors."""

import atexit
import concurrent.futures
import functools
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import jax

from jaxopt_lectures.kernels.cpu.source import HEADERS, Kernel

_FLAGS = (
    *("-std=c++17", "-O2", "-fPIC", "-fvisibility=hidden", "-fno-math-errno", "-fno-trapping-math"),
    *("-ffp-contract=off", "-fwrapv", "-w"),
)
_TOGETHER = 12
"""Kernels in one unit of compilation."""

# By family of processors: for each level what the compiler is told, and what the processor must have.
_LEVELS: dict[str, dict[str, tuple[Sequence[str], str]]] = {
    "x86_64": {
        "x86-64-v4": (("-march=x86-64-v4", "-mprefer-vector-width=512"), "avx512f avx512bw avx512cd avx512dq avx512vl"),
        "x86-64-v3": (("-march=x86-64-v3",), "avx2 fma bmi bmi2"),
        "x86-64": ((), ""),
    },
    "aarch64": {"aarch64": ((), "")},
    "arm64": {"arm64": ((), "")},
}


class NoCompiler(RuntimeError):
    """There is no compiler, or it does not compile; the message says which, for the user."""


def compiler() -> str | None:
    """The command of the C++ compiler: that of `CXX`, which may be several words, or the first that is found."""
    commands = [os.environ.get("CXX", ""), "c++", "g++", "clang++"]
    return next((command for command in commands if command.split() and shutil.which(command.split()[0])), None)


def levels() -> list[str]:
    """The instruction sets that kernels are made for, the widest first; none on processors that are not known."""
    return list(_LEVELS.get(platform.machine(), {}))


@functools.cache
def own_level() -> str | None:
    """The widest instruction set of this processor."""
    known = _LEVELS.get(platform.machine(), {})
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    flags = next((set(line.split()) for line in lines if line.startswith("flags")), set())
    return next((name for name, (_, needed) in known.items() if set(needed.split()) <= flags), None)


def compiled(
    kernels: Sequence[Kernel],
    folder: Path,
    stem: str,
    chosen: Sequence[str],
    flags: Sequence[str] = (),
    progress: Callable[[int, int], None] = lambda done, of: None,
) -> Path:
    """A shared library of the kernels, `folder/STEM-HASH.so`, written whole or not at all.

    Args:
      kernels: what it has.
      folder: where it is put; made if it is missing.
      stem: how its name begins.
      chosen: instruction sets of `levels`; the library takes the widest that the processor has.
      flags: more for the compiler.
      progress: told how many of the units are compiled.

    Raises:
      NoCompiler: there is none, or it says no.
    """
    command = compiler()
    if command is None:
        raise NoCompiler("no C++ compiler was found (c++, g++, clang++, or what CXX names)")
    folder.mkdir(parents=True, exist_ok=True)
    known = _LEVELS[platform.machine()]
    groups = [kernels[start : start + _TOGETHER] for start in range(0, len(kernels), _TOGETHER)]
    with tempfile.TemporaryDirectory() as name:
        work, units = Path(name), []
        for level in chosen:
            for place, group in enumerate(groups):
                text = _unit(group, _word(level), place)
                units.append((f"unit_{_word(level)}_{place}.cc", text, known[level][0]))
        units.append(("entries.cc", _entries(len(groups), chosen), ()))

        def one(unit: tuple[str, str, Sequence[str]]) -> str:
            file, text, march = unit
            (work / file).write_text(text)
            return _object(command, work / file, work / f"{file}.o", (*march, *flags))

        with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
            handler, objects = pool.submit(_handler, command, tuple(flags)), []
            for done, found in enumerate(pool.map(one, units), 1):
                objects.append(found)
                progress(done, len(units))
        made = work / "made.so"
        _run([*command.split(), "-shared", *flags, "-o", str(made), *objects, handler.result()])
        if not made.exists():
            raise NoCompiler(f"{command} made nothing")
        target = folder / f"{stem}-{digest(made)}.so"
        part = target.with_suffix(f".{os.getpid()}-{threading.get_ident()}.part")
        try:
            shutil.copyfile(made, part)
            os.replace(part, target)
        finally:
            part.unlink(missing_ok=True)
    return target


def _handler(command: str, flags: tuple[str, ...]) -> str:
    """What every library has beside its kernels, compiled once in a process, by whichever thread comes first."""
    with _ONE_AT_A_TIME:
        return _handler_now(command, flags)


_ONE_AT_A_TIME = threading.Lock()


@functools.cache
def _handler_now(command: str, flags: tuple[str, ...]) -> str:
    return _object(command, HEADERS / "library.cc", temporary() / "library.o", flags)


def temporary() -> Path:
    """A folder that is there until the process ends."""
    folder = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _object(command: str, source: Path, target: Path, flags: Sequence[str]) -> str:
    includes = [f"-I{HEADERS}", f"-I{jax.ffi.include_dir()}"]
    _run([*command.split(), *_FLAGS, *flags, *includes, "-c", str(source), "-o", str(target)])
    return str(target)


def digest(path: Path) -> str:
    """Of a file's bytes, for its name."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def _run(command: Sequence[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    except OSError as error:
        raise NoCompiler(f"{command[0]} cannot be run: {error}") from error
    if done.returncode:
        said = next((line for line in done.stderr.splitlines() if "error" in line), done.stderr.strip()[:300])
        raise NoCompiler(f"{command[0]} failed: {said or f'exit status {done.returncode}'}")


def _word(level: str) -> str:
    return level.replace("-", "_")


def _unit(kernels: Sequence[Kernel], space: str, place: int) -> str:
    """A part of the kernels, for one instruction set."""
    names = ", ".join(f'{{"{kernel.name}", {kernel.name}}}' for kernel in kernels)
    return "\n".join(
        [
            '#include "simd.h"',
            '#include "runtime.h"',
            f"namespace {space} {{",
            f"namespace n{place} {{",
            *[kernel.text for kernel in kernels],
            f"extern const Entry entries[]; const Entry entries[] = {{{names}}};",
            f"extern const int64_t count; const int64_t count = {len(kernels)};",
            "}}",
            "",
        ]
    )


def _entries(groups: int, chosen: Sequence[str]) -> str:
    """The choice among instruction sets, when the library is loaded."""
    known = _LEVELS[platform.machine()]
    lines = ['#include "runtime.h"', "#include <vector>"]
    for level in chosen:
        for place in range(groups):
            declared = "extern const Entry entries[]; extern const int64_t count;"
            lines.append(f"namespace {_word(level)} {{ namespace n{place} {{ {declared} }} }}")
    lines += ["static std::vector<Entry> Chosen() {", "  std::vector<Entry> all;"]
    for level in chosen:
        needed = [f'__builtin_cpu_supports("{flag}")' for flag in known[level][1].split()]
        lines.append(f"  if ({' && '.join(needed) or 'true'}) {{")
        for place in range(groups):
            space = f"{_word(level)}::n{place}"
            lines.append(f"    all.insert(all.end(), {space}::entries, {space}::entries + {space}::count);")
        lines += ["    return all;", "  }"]
    return "\n".join(
        [
            *lines,
            "  return all;",
            "}",
            "const Entry* Entries(int64_t* count) {",
            "  static const std::vector<Entry> all = Chosen();",
            "  *count = int64_t(all.size());",
            "  return all.data();",
            "}",
            "",
        ]
    )
