"""Where compiled kernels are found: in the package, in the cache, or nowhere; nothing here fails, it says why."""

import concurrent.futures
import ctypes
import functools
import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import jax

from jaxopt_lectures.kernels.cpu.compiler import NoCompiler, compiled, digest, own_level
from jaxopt_lectures.kernels.cpu.source import Kernel

BUILT = Path(__file__).parent / "built"
"""The libraries that came with the package."""


@dataclass(frozen=True)
class Library:
    """A library that is loaded.

    Attributes:
      target: by which XLA knows its handler.
      names: of its kernels.
    """

    target: str
    names: frozenset[str]


def cache() -> Path:
    """Where kernels go that are compiled on first use; `JAXOPT_LECTURES_CACHE` names another folder."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("JAXOPT_LECTURES_CACHE") or Path(base) / "jaxopt_lectures" / "kernels")


def loaded(path: Path) -> Library | str:
    """The library of a file, or why it cannot be used.

    A file whose bytes are not those that its name was made of is not opened: a loader may crash on half a file.
    """
    try:
        if digest(path) != path.stem.rpartition("-")[2]:
            return f"{path} is broken: its content is not what its name says; delete it"
        return _opened(path)
    except (OSError, AttributeError, ValueError, RuntimeError) as error:
        return f"{path} cannot be loaded: {error}"


@functools.cache
def _opened(path: Path) -> Library:
    library = ctypes.CDLL(str(path))
    named = library.jaxopt_lectures_kernels
    named.restype = ctypes.c_char_p
    target = f"jaxopt_lectures.{path.stem.rpartition('-')[2]}"
    jax.ffi.register_ffi_target(target, jax.ffi.pycapsule(library.jaxopt_lectures_step), platform="cpu")
    return Library(target, frozenset(named().decode().split()))


@functools.cache
def built() -> tuple[Library | str, ...]:
    """What came with the package."""
    return tuple(loaded(path) for path in sorted(BUILT.glob("*.so")))


_made: dict[str, Library | str] = {}


Lookup = Callable[[Kernel], Library | str]
"""Says of a kernel in which library it is, or why there is none."""


def found(kernel: Kernel) -> Library | str:
    """The library that has a kernel; or that there is none, and which libraries could not be loaded."""
    for library in built():
        if isinstance(library, Library) and kernel.name in library.names:
            return library
    if kernel.name in _made:
        return _made[kernel.name]
    reasons = [library for library in built() if isinstance(library, str)]
    for path in sorted(cache().glob(f"{kernel.name}-{own_level()}-*.so")):
        library = loaded(path)
        if isinstance(library, Library) and kernel.name in library.names:
            return _made.setdefault(kernel.name, library)
        reasons.append(str(library))
    here = "none that came with it is of this rule and dtypes" if built() else "none came with this installation"
    return "; ".join([*reasons, f"no kernel: {here}, and compile=True was not given"])


def made(kernels: Sequence[Kernel]) -> None:
    """Compiles kernels that are missing, several at a time; those that cannot be are told of by `found`."""
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for kernel, library in zip(kernels, pool.map(_made_now, kernels), strict=True):
            _made[kernel.name] = library


def _made_now(kernel: Kernel) -> Library | str:
    level, folder = own_level(), cache()
    if level is None:
        return "no kernel: this processor is not known"
    try:
        try:
            path = compiled([kernel], folder, f"{kernel.name}-{level}", [level])
        except OSError:  # a cache that cannot be written: for this process alone
            path = compiled([kernel], Path(tempfile.mkdtemp()), f"{kernel.name}-{level}", [level])
    except (NoCompiler, OSError) as error:
        return f"no kernel: {error}"
    return loaded(path)
