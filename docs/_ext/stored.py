"""What state in few bytes takes and costs, as tables of the page "Memory", made of its committed measurements."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxopt_lectures.comparison.measures import compact
from jaxopt_lectures.storage.codecs import CODECS

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results" / "storage.json"
FOLDER = "stored"


def sizes(rows: Mapping[str, Any]) -> str:
    """Bytes of state per parameter, a row for each optimizer, a column for each codec."""
    found = rows["bytes"]["found"]
    names = [name for name in CODECS if not name.endswith("_nearest")]
    return table(["", *names], ([f"`{card}`", *[f"{own[name]:.3g}" for name in names]] for card, own in found.items()))


def failures(rows: Mapping[str, Any]) -> str:
    """Where 8-bit optimizers are known to fail, a row for each codec."""
    valley, short = rows["valley"]["found"], rows["sequences"]["found"]
    header = ["", "valley: loss after 2000 steps", "move after (1, 2e-4), (1, 0)", "idle v, over the exact one"]
    return table(
        header,
        (
            [
                f"`{name}`",
                _range(valley[name]),
                compact(short[name]["move of the second coordinate"], ".2g"),
                compact(short[name]["v of idle coordinates over the exact one"], ".3g"),
            ]
            for name in CODECS
        ),
    )


def losses(rows: Mapping[str, Any]) -> str:
    """The final loss against float32, a row for each codec, a column for each task."""
    found = rows["losses"]["found"]
    names = list(next(iter(found.values())))
    header = ["", *[f"`{task}`" for task in found]]
    lines = [["`f32`, the loss itself", *[compact(own["f32"]["loss"], ".3g") for own in found.values()]]]
    for name in names[1:]:
        percent = [own[name]["in_percent_of_the_loss"] for own in found.values()]
        lines.append([f"`{name}`", *[f"{low:+.2f} to {high:+.2f} %" for low, high in percent]])
    return table(header, lines)


def cost(rows: Mapping[str, Any]) -> str:
    """Time and temporary memory of a step, a row for each codec."""
    times, spare = rows["times"]["found"], rows["temporaries"]["found"]
    header = ["", "ms for 16 million parameters", "over float32", "temporary memory, in leaves"]
    return table(
        header,
        (
            [f"`{name}`", f"{times[name]['ms']:.0f}", f"{times[name]['over_f32']:.1f}", compact(spare[name], ".2g")]
            for name in CODECS
        ),
    )


def weights(rows: Mapping[str, Any]) -> str:
    """Weights in bfloat16: where they end."""
    found = rows["narrow_weights"]["found"]
    first, means = "loss at the start", "mean of 1000 weights after 100 updates, "
    lines = []
    for name in ("nearest", "round_stochastic", "compensate", "round_stochastic, int8"):
        mean = compact(found[means + name], ".4g") if means + name in found else "-"
        lines.append([name, _range(found[name]), mean])
    return table(["", f"loss, from {found[first]:.0f}", "1 after 100 updates of -1e-3"], lines)


def told(record: Mapping[str, Any]) -> str:
    """Machine, versions and commits in a sentence."""
    machine = record["machine"]
    commits = ", ".join(sorted({row["commit"] for row in record["rows"].values()}))
    return f"{machine['cpu']}, {machine['cores']} cores; jax {machine['versions']['jax']}; commits {commits}.\n"


def _range(values: list[float]) -> str:
    ends = sorted({compact(values_end, ".2g") for values_end in (min(values), max(values))}, key=float)
    return " to ".join(ends)


def table(header: list[str], rows: Iterable[list[str]]) -> str:
    """In Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def rewritten(folder: Path, texts: Mapping[str, str]) -> None:
    """Writes what has changed, so that Sphinx builds no page again for nothing."""
    folder.mkdir(exist_ok=True)
    for name, text in texts.items():
        path = folder / name
        if not path.exists() or path.read_text() != text:
            path.write_text(text)


def entry(
    results: Path, pages: Sequence[Callable[[Mapping[str, Any]], str]], prefix: str, about: str
) -> Callable[[Any], dict[str, Any]]:
    """Sphinx's entry of a page whose tables are made of committed measurements, to be included.

    Args:
      results: the measurements.
      pages: for each table what makes it of them; its name is the file's.
      prefix: how the names of the files begin.
      about: the file that says where they were taken.
    """

    def write(app: Any) -> None:
        record = json.loads(results.read_text())
        texts = {f"{prefix}{make.__name__}.md": make(record["rows"]) for make in pages}
        rewritten(Path(app.srcdir) / FOLDER, {**texts, about: told(record)})

    def setup(app: Any) -> dict[str, Any]:
        app.connect("builder-inited", write)
        return {"parallel_read_safe": True}

    return setup


setup = entry(RESULTS, (sizes, failures, losses, cost, weights), "", "told.md")
