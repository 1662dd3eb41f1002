"""The command line."""

import os

# Before LAPACK is loaded, which JAX takes from SciPy: threads that spin beside those of XLA slow a solve 100 times.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from jaxopt_lectures.cli.app import main

__all__ = ["main"]
