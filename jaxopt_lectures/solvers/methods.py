"""The solvers by name: which direction, which line search."""

import dataclasses
import difflib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from jaxopt_lectures.core.checks import whole
from jaxopt_lectures.solvers.directions.bfgs import BFGS
from jaxopt_lectures.solvers.directions.direction import Direction
from jaxopt_lectures.solvers.directions.gradient import NonlinearCG, SteepestDescent
from jaxopt_lectures.solvers.directions.lbfgs import LBFGS
from jaxopt_lectures.solvers.directions.lbfgsb import LBFGSB
from jaxopt_lectures.solvers.directions.newton_cg import NewtonCG
from jaxopt_lectures.solvers.searches.search import LineSearch
from jaxopt_lectures.solvers.searches.strong_wolfe import strong_wolfe


@dataclass(frozen=True)
class Method:
    """A solver: `make(history)` is its direction, `search` its line search, `bounded` whether it knows bounds."""

    name: str
    make: Callable[[int], Direction]
    search: LineSearch
    bounded: bool = False

    def direction(self, history: Any) -> Direction:
        """The direction, remembering `history` pairs if it remembers any."""
        whole("history", history, 1)
        return self.make(int(history))

    def line(self, given: LineSearch | None, most: Any) -> LineSearch:
        """The line search: the one given, or the method's own, of at most `most` evaluations."""
        line = self.search if given is None else given
        if not hasattr(line, "next"):
            raise TypeError(f"linesearch must be strong_wolfe(), hager_zhang() or backtracking(), got {line!r}")
        if most is None:
            return line
        whole("maxls", most, 1)
        return dataclasses.replace(line, max_evaluations=int(most))  # type: ignore[type-var]


METHODS = {
    method.name: method
    for method in (
        Method("lbfgs", LBFGS, strong_wolfe()),
        Method("bfgs", lambda history: BFGS(), strong_wolfe()),
        Method("lbfgsb", LBFGSB, strong_wolfe(c1=1e-3), bounded=True),
        Method("newton_cg", lambda history: NewtonCG(200), strong_wolfe()),
        Method("nonlinear_cg", lambda history: NonlinearCG(), strong_wolfe(c2=0.1)),
        Method("gd", lambda history: SteepestDescent(), strong_wolfe()),
    )
}
_SCIPY = {"l-bfgs": "lbfgs", "l-bfgs-b": "lbfgsb", "cg": "nonlinear_cg", "newton-cg": "newton_cg"}


def get(name: str | None, bounded: bool) -> Method:
    """The method of that name, ours or SciPy's, in any case; without a name the default.

    Raises:
      ValueError: no such method, with the nearest name; or bounds for a method that has none.
    """
    if name is None:
        return METHODS["lbfgsb" if bounded else "lbfgs"]
    key = str(name).lower()
    key = _SCIPY.get(key, key.replace("-", "_"))
    if key not in METHODS:
        near = difflib.get_close_matches(key, METHODS, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(METHODS)}"
        raise ValueError(f"no method is called {name!r}; {hint}")
    if bounded and key == "lbfgs":
        key = "lbfgsb"
    if bounded and not METHODS[key].bounded:
        raise ValueError(f"{name!r} knows no bounds; leave method out, or use 'lbfgsb'")
    return METHODS[key]
