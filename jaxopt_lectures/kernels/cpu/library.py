"""Where compiled kernels are found: in the package, in the cache, or nowhere; nothing here fails, it says why."""

import concurrent.futures
import ctypes
import functools
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import jax

from jaxopt_lectures.kernels.cpu.compiler import NoCompiler, compiled, digest, own_level, temporary
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
    if named := os.environ.get("JAXOPT_LECTURES_CACHE"):
        return Path(named).absolute()
    try:
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    except RuntimeError:  # a user without a home
        return _own_folder()
    return Path(base).absolute() / "jaxopt_lectures" / "kernels"


_own_folder = functools.cache(temporary)  # of this process alone


def loaded(path: Path) -> Library | str:
    """The library of a file, or why it cannot be used.

    A file whose bytes are not those that its name was made of is not opened: a loader may crash on half a file.
    """
    try:
        if digest(path) != path.stem.rpartition("-")[2]:
            return f"{path} is broken: its content is not what its name says; delete it"
        return _registered(path)
    except (OSError, AttributeError, ValueError, RuntimeError) as error:
        return f"{path} cannot be loaded: {error}"


_opened: dict[str, Library] = {}


def _registered(path: Path) -> Library:
    """The library, which XLA knows by its content: the same file elsewhere is the same library."""
    target = f"jaxopt_lectures.{path.stem.rpartition('-')[2]}"
    if target not in _opened:
        library = ctypes.CDLL(str(path))
        named = library.jaxopt_lectures_kernels
        named.restype = ctypes.c_char_p
        jax.ffi.register_ffi_target(target, jax.ffi.pycapsule(library.jaxopt_lectures_step), platform="cpu")
        _opened[target] = Library(target, frozenset(named().decode().split()))
    return _opened[target]


@functools.cache
def built() -> tuple[Library | str, ...]:
    """What came with the package."""
    return tuple(loaded(path) for path in sorted(BUILT.glob("*.so")))


def are_none() -> bool:
    """Whether no kernels came with the package, none were made by this process, and none are in the cache."""
    return not built() and not _made and not any(cache().glob("*.so"))


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
        library = _of(kernel, path)
        if isinstance(library, Library):
            return _made.setdefault(kernel.name, library)
        reasons.append(library)
    here = "none that came with it is of this rule and dtypes" if built() else "none came with this installation"
    return "; ".join([*reasons, f"no kernel: {here}, and compile=True was not given"])


def made(kernels: Sequence[Kernel]) -> None:
    """Compiles kernels that are missing, several at a time and each once; `found` tells of those that cannot be."""
    kernels = [kernel for kernel in kernels if kernel.name not in _made]
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
        except OSError:  # a cache that cannot be written
            path = compiled([kernel], _own_folder(), f"{kernel.name}-{level}", [level])
    except (NoCompiler, OSError) as error:
        return f"no kernel: {error}"
    return _of(kernel, path)


def _of(kernel: Kernel, path: Path) -> Library | str:
    """The library of a file that is to have a kernel."""
    library = loaded(path)
    if isinstance(library, Library) and kernel.name not in library.names:
        return f"{path} has no kernel {kernel.name} for this processor"
    return library
