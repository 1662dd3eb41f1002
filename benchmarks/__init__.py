"""Measurements: ratios of two things in one run."""

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # as the command line does
