"""Problems for a minimiser: where to start, what to find."""

from .chained_rosenbrock import rosenbrock
from .hock_schittkowski import HOCK_SCHITTKOWSKI
from .more_garbow_hillstrom import MORE_GARBOW_HILLSTROM
from .problem import Problem

__all__ = ["HOCK_SCHITTKOWSKI", "MORE_GARBOW_HILLSTROM", "Problem", "rosenbrock"]
