"""The command line."""

import os

# Before LAPACK is loaded, which JAX takes from SciPy: its threads spin beside those of XLA, and a solve takes 100 times.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from jaxopt_lectures.cli.app import main

__all__ = ["main"]
