"""SciPy's `options`, by its names."""

import difflib
from collections.abc import Mapping
from typing import Any

_NAMES = {
    "maxiter": "maxiter",
    "maxfun": "maxfun",
    "maxfev": "maxfun",
    "gtol": "gtol",
    "ftol": "ftol",
    "xtol": "xtol",
    "xrtol": "xtol",
    "maxcor": "history",
    "history": "history",
    "maxls": "maxls",
    "disp": "disp",
}
_DIFFERENCES = ("eps", "finite_diff_rel_step", "workers")  # of SciPy's numerical derivatives


def renamed(given: Mapping[str, Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments and options together, by our names; an argument comes before an option.

    Raises:
      ValueError: an option that is not known here.
    """
    named = {}
    for name, value in options.items():
        if name in _DIFFERENCES:
            raise ValueError(f"option {name!r} is about numerical derivatives; here they are exact, leave it out")
        if name not in _NAMES:
            near = difflib.get_close_matches(name, _NAMES, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(_NAMES)}"
            raise ValueError(f"no option is called {name!r}; {hint}")
        if value is not None:
            named[_NAMES[name]] = value
    return named | dict(given)
