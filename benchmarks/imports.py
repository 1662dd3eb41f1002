"""`import jaxopt_lectures` against `import optax`, each in a fresh process, in turn."""

import subprocess
import sys
import time

from benchmarks.harness import compared


def rows(rounds=15):
    """The measured row."""
    times = {"jaxopt_lectures": [], "optax": []}
    for index in range(rounds + 1):
        for module in times:
            start = time.perf_counter()
            subprocess.run([sys.executable, "-c", f"import {module}"], check=True)
            if index:
                times[module].append(time.perf_counter() - start)
    return {"import": compared(times, "jaxopt_lectures", "optax") | {"target": "ratio <= 1.1"}}
