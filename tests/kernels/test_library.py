"""Whatever lies where kernels are looked for, and whatever the compiler does: a step is taken, and it is said how."""

import functools
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxopt_lectures as jol
from jaxopt_lectures.cli import kernels as command
from jaxopt_lectures.cli import main
from jaxopt_lectures.kernels import fuse
from jaxopt_lectures.kernels.cpu import compiler, library

BUILT = library.built.__wrapped__  # before a fixture replaces it
NONE = compiler.compiler() is None or compiler.own_level() is None
needs_compiler = pytest.mark.skipif(NONE, reason="no C++ compiler, or a processor that is not known")
PARAMS = {"w": jnp.linspace(-1.0, 1.0, 37)}
GRADS = {"w": jnp.linspace(2.0, -3.0, 37)}


class SignumState(NamedTuple):
    count: jax.Array
    mu: jol.Signed


def signum_rule(g, s, p, h, t):
    mu = h.b1 * s.mu + (1 - h.b1) * g
    return -h.learning_rate * jnp.sign(mu), {"mu": mu}


def tanh_rule(g, s, p, h, t):
    return -h.learning_rate * jnp.tanh(g), {"mu": s.mu}


def lifted(rule):
    return jol.from_rule(rule, SignumState, [jol.interval("learning_rate", 0.1, 0), jol.interval("b1", 0.5, 0, 1)])


SIGNUM = lifted(signum_rule)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """A process that knows of no kernels, and an empty cache."""
    monkeypatch.setenv("JAXOPT_LECTURES_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(library, "_made", {})
    monkeypatch.setattr(library, "_own_folder", functools.cache(compiler.temporary))
    monkeypatch.setattr(fuse, "_told", set())
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    """A kernel, and a library that has it."""
    (kernel,) = jol.kernels.fuse.sources(SIGNUM, PARAMS)
    level = compiler.own_level()
    return kernel, compiler.compiled([kernel], tmp_path_factory.mktemp("good"), f"{kernel.name}-{level}", [level])


def taken(tx=SIGNUM, **options):
    """Asserts that a fused step is the plain one; whether it was taken by a kernel."""
    step = jax.jit(jol.fuse(tx, sharded=False, **options).step)
    text = step.lower(GRADS, tx.init(PARAMS), PARAMS).as_text()
    params, state = step(GRADS, tx.init(PARAMS), PARAMS)
    updates, wanted = tx.update(GRADS, tx.init(PARAMS), PARAMS)
    np.testing.assert_allclose(params["w"], jol.apply_updates(PARAMS, updates)["w"], rtol=1e-6)
    np.testing.assert_allclose(state.mu["w"], wanted.mu["w"], rtol=1e-6, atol=1e-6)
    return "jaxopt_lectures." in text


def plain(words, tx=SIGNUM, **options):
    """Asserts that the plain step is taken, and that a warning says so in these words."""
    with pytest.warns(UserWarning, match=words):
        assert not taken(tx, **options)
    assert not taken(tx, **options)  # said once


def linked(folder, text, *flags):
    """A shared library of a C++ text."""
    folder.mkdir(exist_ok=True)
    (folder / "text.cc").write_text(text)
    made = folder / "text.so"
    command = [*compiler.compiler().split(), "-shared", "-fPIC", *flags, "-o", str(made), str(folder / "text.cc")]
    subprocess.run(command, check=True)
    return made


def named(path, target):
    """A copy named as its content wants it; `target` is the stem."""
    target.parent.mkdir(parents=True, exist_ok=True)
    return shutil.copy(path, target.with_name(f"{target.name}-{compiler.digest(path)}.so"))


def truncated(good, path):
    path.write_bytes(good.read_bytes()[:5000])


def noise(good, path):
    path.write_bytes(np.random.default_rng(0).bytes(10_000))


def changed(good, path):
    path.write_bytes(good.read_bytes() + b"\0")


def empty(good, path):
    path.touch()


def a_folder(good, path):
    path.mkdir()


def dangling(good, path):
    path.symlink_to(path.with_name("nowhere"))


BROKEN = [(truncated, "broken"), (noise, "broken"), (changed, "broken"), (empty, "broken")]
BROKEN += [(a_folder, "cannot be loaded: .*directory"), (dangling, "cannot be loaded: .*No such file")]


@needs_compiler
@pytest.mark.parametrize(("spoil", "words"), BROKEN, ids=[spoil.__name__ for spoil, _ in BROKEN])
def test_a_broken_file(good, folder, monkeypatch, tmp_path, spoil, words):
    path = good[1]
    for place in (folder, tmp_path / "built"):
        place.mkdir()
        spoil(path, place / path.name)
    plain(f"{folder / path.name}.*{words}")
    shutil.rmtree(folder)
    monkeypatch.setattr(library, "BUILT", tmp_path / "built")
    monkeypatch.setattr(library, "built", functools.cache(BUILT))
    plain(f"built/{path.name}.*{words}")


@needs_compiler
def test_a_broken_file_in_the_cache_is_compiled_again(good, folder):
    folder.mkdir()
    truncated(good[1], folder / good[1].name)
    assert taken(compile=True)


@needs_compiler
def test_what_is_no_library_though_its_name_fits(folder, good, tmp_path):
    (tmp_path / "text").write_text("not a library")
    named(tmp_path / "text", folder / good[1].stem.rpartition("-")[0])
    plain("cannot be loaded")


@needs_compiler
def test_a_library_of_something_else(folder, good, tmp_path):
    foreign = linked(tmp_path / "foreign", "int unrelated() { return 1; }")
    named(foreign, folder / good[1].stem.rpartition("-")[0])
    plain("cannot be loaded: .*jaxopt_lectures_kernels")


@needs_compiler
def test_a_library_of_other_kernels(folder, good, tmp_path):
    (other,) = jol.kernels.fuse.sources(jol.registry.get("sgd").factory(0.1), PARAMS)
    level = compiler.own_level()
    path = compiler.compiled([other], tmp_path / "other", "other", [level])
    named(path, folder / good[1].stem.rpartition("-")[0])
    plain(f"has no kernel {good[0].name} for this processor")


OF_ANOTHER_VERSION = """
#include "xla/ffi/api/c_api.h"
extern "C" const char* jaxopt_lectures_kernels() { return "KERNEL\\n"; }
extern "C" XLA_FFI_Error* jaxopt_lectures_step(XLA_FFI_CallFrame* frame) {
  auto* extension = reinterpret_cast<XLA_FFI_Metadata_Extension*>(frame->extension_start);
  extension->metadata->api_version.major_version = 99;
  return nullptr;
}
"""


@needs_compiler
def test_an_interface_that_xla_no_longer_has(folder, good, tmp_path):
    text = OF_ANOTHER_VERSION.replace("KERNEL", good[0].name)
    path = linked(tmp_path / "other", text, f"-I{jax.ffi.include_dir()}")
    named(path, folder / good[1].stem.rpartition("-")[0])
    plain("cannot be loaded: .*version")


@needs_compiler
def test_a_registration_that_fails(folder, good, monkeypatch):
    def refused(*args, **options):
        raise jax.errors.JaxRuntimeError("INVALID_ARGUMENT: not today")

    named(good[1], folder / good[1].stem.rpartition("-")[0])
    monkeypatch.setattr(library, "_opened", {})
    monkeypatch.setattr(jax.ffi, "register_ffi_target", refused)
    plain("cannot be loaded: .*not today")


def no_compiler(monkeypatch):
    monkeypatch.setenv("CXX", "/nowhere/c++")
    monkeypatch.setenv("PATH", "")


def test_no_compiler(monkeypatch):
    no_compiler(monkeypatch)
    plain("no C\\+\\+ compiler was found", compile=True)


COMPILERS = {  # none of them compiles
    "says no": ("#!/bin/sh\necho 'x.cc:1: error: no such thing' >&2; exit 1", "failed: x.cc:1: error: no such thing"),
    "says nothing": ("#!/bin/sh\nexit 3", "failed: exit status 3"),
    "crashes": ("#!/bin/sh\nkill -11 $$", "failed: exit status -11"),
    "no text": ("#!/bin/sh\nprintf 'error \\377' >&2; exit 1", "failed: error"),
    "links nothing": ("#!/bin/sh\nexit 0", "made nothing"),
    "no program": ("\x7fELF", "cannot be run"),
}


@pytest.mark.skipif(compiler.own_level() is None, reason="a processor that is not known")
@pytest.mark.parametrize("name", COMPILERS)
def test_a_compiler_that_does_not_compile(monkeypatch, tmp_path, name):
    text, words = COMPILERS[name]
    path = tmp_path / "c++"
    path.write_text(text)
    path.chmod(0o755)
    monkeypatch.setenv("CXX", str(path))
    plain(words, compile=True)


@needs_compiler
def test_a_compiler_of_several_words(monkeypatch, folder):
    monkeypatch.setenv("CXX", f"{shutil.which('env')} {compiler.compiler()} -DUSELESS")
    assert taken(compile=True)
    assert len(list(folder.iterdir())) == 1  # and nothing half


def test_a_processor_that_is_not_known(monkeypatch):
    compiler.own_level.cache_clear()
    try:
        with monkeypatch.context() as patch:
            patch.setattr(platform, "machine", lambda: "riscv64")
            assert compiler.levels() == []
            plain("this processor is not known", compile=True)
            assert main(["kernels", "--build"]) == 2
    finally:
        compiler.own_level.cache_clear()


@needs_compiler
def test_a_cache_that_cannot_be_written(monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("JAXOPT_LECTURES_CACHE", str(tmp_path / "file" / "cache"))
    assert taken(compile=True)
    assert taken()  # later in the process too
    library._made.clear()
    plain("no kernel")


@needs_compiler
def test_a_user_without_a_home(monkeypatch, good):
    def nowhere():
        raise RuntimeError("Could not determine home directory.")

    for name in ("JAXOPT_LECTURES_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", nowhere)
    plain("no kernel")
    named(good[1], library.cache() / good[1].stem.rpartition("-")[0])
    assert taken()


@needs_compiler
def test_a_cache_in_the_working_folder(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("JAXOPT_LECTURES_CACHE", ".")
    assert taken(compile=True)


AGAIN = """
import warnings; warnings.simplefilter("error")
from tests.kernels.test_library import taken
assert taken()
"""


@needs_compiler
def test_a_rule_of_ones_own_is_compiled_once(monkeypatch, folder):
    plain("compile=True was not given")
    assert taken(compile=True)
    (path,) = folder.iterdir()
    assert path.stem.endswith(compiler.digest(path))
    library._made.clear()
    monkeypatch.setattr(library, "compiled", None)
    assert taken(compile=True)
    assert taken()
    no_compiler(monkeypatch)
    environment = {**os.environ, "XLA_FLAGS": ""}
    subprocess.run([sys.executable, "-c", AGAIN], check=True, cwd=Path(__file__).parents[2], env=environment)


def test_a_rule_of_what_cannot_be_translated():
    plain("no kernel has .*tanh", lifted(tanh_rule), compile=True)


def test_quiet():
    assert not taken(quiet=True)


@needs_compiler
def test_building(monkeypatch, tmp_path, good, capsys):
    monkeypatch.setattr(command, "wanted", lambda codecs: [("signum", [good[0]])])
    into = tmp_path / "into"
    into.mkdir()
    for name in ("kernels-old.so", "other.so"):
        (into / name).write_bytes(b"old")
    assert main(["kernels", "--build", "--into", str(into)]) == 0
    mine, other = sorted(path.name for path in into.iterdir())
    assert mine.startswith("kernels-")
    assert mine != "kernels-old.so"
    assert other == "other.so"  # is not ours
    capsys.readouterr()
    assert main(["kernels", "--into", str(into)]) == 0
    said = capsys.readouterr().out
    assert "1 kernels, jaxopt_lectures." in said
    assert "other.so is broken" in said


@needs_compiler
def test_building_where_nothing_can_be_written(monkeypatch, tmp_path, good, capsys):
    monkeypatch.setattr(command, "wanted", lambda codecs: [("signum", [good[0]])])
    (tmp_path / "file").touch()
    assert main(["kernels", "--build", "--into", str(tmp_path / "file" / "built")]) == 2
    assert "Not a directory" in capsys.readouterr().err


def test_building_without_a_compiler(monkeypatch, capsys):
    no_compiler(monkeypatch)
    assert main(["kernels", "--build"]) == 2
    assert "no C++ compiler was found" in capsys.readouterr().err


def test_building_for_a_codec_that_is_not_known(capsys):
    assert main(["kernels", "--build", "--codecs", "f32,int3"]) == 2
    assert "int3" in capsys.readouterr().err
