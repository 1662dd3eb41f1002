"""Strictness for every test: strict dtype promotion, warnings as errors (pyproject.toml), eight CPU devices."""

import gc
import itertools
import os
import subprocess
import sys
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("MPLBACKEND", "Agg")
os.environ.setdefault(
    "OPENBLAS_NUM_THREADS", "1"
)  # its threads spin, and beside those of XLA a solve takes 100 times as long

import hypothesis
import jax
import pytest

# Nearly all programs are small and run once, and three quarters of the time went to XLA's work on them. A flag that
# another version has not would end every process. With `XLA_FLAGS=` they are compiled as users' are.
_QUICKLY = (
    "--xla_backend_optimization_level=0",
    "--xla_cpu_use_fusion_emitters=false",
    "--xla_cpu_parallel_codegen_split_count=1",
)
if "XLA_FLAGS" not in os.environ:
    quickly = {"XLA_FLAGS": " ".join(_QUICKLY)}
    asked = [sys.executable, "-c", "import jax; jax.devices()"]
    known = subprocess.run(asked, env=os.environ | quickly, capture_output=True, check=False)
    os.environ |= quickly if known.returncode == 0 else {}
os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"

jax.config.update("jax_numpy_dtype_promotion", "strict")

# Shapes are fixed in every property, so that examples reuse one compiled program; only the first one compiles.
hypothesis.settings.register_profile("fixed", deadline=None, derandomize=True, max_examples=25)
hypothesis.settings.load_profile("fixed")


@pytest.fixture
def x64():
    """Float64 for one test."""
    with jax.enable_x64(True):
        yield


_MAPS, _TESTS = Path("/proc/self/maps"), itertools.count(1)


@pytest.fixture(autouse=True)
def few_programs():
    """Forgets compiled programs in time: each takes three memory maps, and Linux gives a process 65,530 of them."""
    yield
    if next(_TESTS) % 20 == 0 and _MAPS.exists() and _MAPS.read_bytes().count(b"\n") > 20_000:
        jax.clear_caches()
        gc.collect()
