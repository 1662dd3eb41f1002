"""Deterministic minimisation: directions, line searches, and `minimize`, which puts them together."""

from jaxopt_lectures.solvers.minimize import Bounds, minimize
from jaxopt_lectures.solvers.result import Result, Status, Trace
from jaxopt_lectures.solvers.searches.backtracking import backtracking
from jaxopt_lectures.solvers.searches.hager_zhang import hager_zhang
from jaxopt_lectures.solvers.searches.strong_wolfe import strong_wolfe

__all__ = ["Bounds", "Result", "Status", "Trace", "backtracking", "hager_zhang", "minimize", "strong_wolfe"]
