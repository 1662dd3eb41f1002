"""Docstrings in plain text and long types, as the package writes them, made ready for the reference pages."""

import inspect
import re
from typing import Any

from sphinx.util.inspect import stringify_signature

from jaxopt_lectures.core.checks import Schedule

_SECTION = re.compile(r"(Args|Arguments|Attributes|Raises|Returns|Yields|Note|Notes|Example|Examples|Sources?):")
_CODE = re.compile(r"(`+[^`]+`+)")
_MARKUP = (".. ", "- ", "* ")
_SCHEDULE = "~collections.abc.Callable[[~typing.Any], ~typing.Any]"
_TYPES = (
    (r"~?(?<![\w.])(?!jaxopt_lectures\.)(?:[a-z_]\w*\.)+(\w+)", r"\1"),  # names of other packages, without the package
    (r"Annotated\[(float \| Array(?: \| None)?), '[^']*', '[^']*'\]", r"\1"),
    (r"float \| Array \| Callable\[\[Any\], Any\]", "Number | Schedule"),  # as in core.checks
    (r"float \| Array", "Number"),
    (r"<PjitFunction of <function (\w+)[^>]*>>|<function (\w+)[^>]*>", r"\1\2"),  # defaults whose repr is no code
    (r"<factory>", "..."),
)


def plain(lines: list[str]) -> list[str]:
    """The same lines, with formulas in indented paragraphs as code, and `|a|` and `w_` taken as they are written."""
    done: list[str] = []
    in_section = in_code = is_markup = False
    for line in lines:
        indented = line.startswith("  ")
        if line.strip() and not indented:
            in_section, in_code = bool(_SECTION.fullmatch(line.strip())), False
            is_markup = line.startswith(_MARKUP) or line.endswith("::")
        elif indented and not (in_section or in_code or is_markup) and done and not done[-1].strip():
            done += ["::", ""]
            in_code = True
        done.append(line if in_code or is_markup else _escaped(line))
    return done


def _escaped(line: str) -> str:
    parts = _CODE.split(line)
    parts[::2] = [re.sub(r"\||(?<=\w)_(?!\w)", r"\\\g<0>", part) for part in parts[::2]]
    return "".join(parts)


def ranges(obj: Any) -> list[str]:
    """A line on the ranges that a schedule's arguments are annotated with, where there is one to tell."""
    declared = vars(obj).get("__signature__") if inspect.isfunction(obj) else None
    parameters = declared.parameters.values() if declared else ()
    found = {p.name: p.annotation.__metadata__[0] for p in parameters if hasattr(p.annotation, "__metadata__")}
    bounded = [f"`{name}` in {interval}" for name, interval in found.items() if interval != "(-inf, inf)"]
    return ["", f"Ranges: {', '.join(bounded)}."] if bounded else []


def process(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Before napoleon sees them."""
    lines[:] = [*plain(lines), *ranges(obj)]


def signature(app: Any, what: str, name: str, obj: Any, options: Any, args: str | None, result: str | None) -> Any:
    """Short types; a class whose metaclass takes any arguments is shown with those of its `__init__`."""
    if what == "class" and args is not None and "*args" in args and "__init__" in vars(obj):
        found = inspect.signature(obj.__init__)
        found = found.replace(parameters=list(found.parameters.values())[1:], return_annotation=found.empty)
        args = stringify_signature(found, short_literals=True)
    for long, short in _TYPES:
        args = args and re.sub(long, short, args)
    declared = vars(obj).get("__signature__") if what == "function" else None
    if (declared and declared.return_annotation == Schedule) or str(result).endswith(
        "Callable[[~typing.Any], ~typing.Any]"
    ):
        result = "Schedule"
    return args, result


def skip(app: Any, what: str, name: str, obj: Any, skipped: bool, options: Any) -> bool | None:
    """The fields of a NamedTuple are in its docstring; "alias for field number 0" says nothing."""
    return True if type(obj).__name__ == "_tuplegetter" else None


def setup(app: Any) -> dict[str, Any]:
    """Connects the three."""
    app.connect("autodoc-process-docstring", process, priority=400)
    app.connect("autodoc-process-signature", signature)
    app.connect("autodoc-skip-member", skip)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
