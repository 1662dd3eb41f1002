"""Independent truth: the papers' formulas in NumPy float64, with no library code and no JAX.

An optimizer oracle is `name(w, gradients, **hyper) -> list`: `w` is the start (one array of any shape),
`gradients` one array per step, the result the weights after each step. It is slow and plain on purpose, and each
method is written out in full, so that two oracles cannot share a mistake.

* Every numeric hyper-parameter is a number or a callable of the step count, which is 0 at the first step.
* An item of `gradients` may also be a callable of the point where the gradient is wanted. Then the oracle
  minimises: `adam(0.0, [lambda w: w - 3.0] * 1000, learning_rate=1e-3)` walks down (w-3)^2/2.
* 0/0 counts as a step of 0: only zero gradients so far, and eps = 0.
"""

import importlib

import numpy as np

MODULES = (
    "momentum",
    "adagrad",
    "rmsprop",
    "adam",
    "schedule_free",
    "mars",
    "cautious",
    "sam",
    "matrix",
    "clipping",
    "errata",
)


def oracle(name):
    """The oracle called `name`, e.g. `oracle("adamw")`; a LookupError lists the known names."""
    known = []
    for module_name in MODULES:
        module = importlib.import_module(f".{module_name}", __name__)
        for key, value in vars(module).items():
            if callable(value) and getattr(value, "__module__", None) == module.__name__:
                if key == name:
                    return value
                known.append(key)
    raise LookupError(f"no oracle {name!r}; known: {', '.join(sorted(known))}")


def at(value, argument):
    """A schedule at its step count, or a gradient at its point; anything that is not callable as it stands."""
    return np.asarray(value(argument) if callable(value) else value, dtype=np.float64)


def ratio(a, b):
    """a / b, elementwise, with 0/0 = 0. x/0 with x not 0 stays inf and warns."""
    a, b = np.broadcast_arrays(a, b)
    return np.divide(a, b, out=np.zeros(a.shape), where=(a != 0) | (b != 0))
