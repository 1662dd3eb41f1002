"""Trials on disk, line by line, so that what was trained need not be trained again."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxopt_lectures.records.files import make_writable, write_atomically
from jaxopt_lectures.records.plain import plain
from jaxopt_lectures.tuning.trials import Trial

SCHEMA = 1


class OtherSweep(ValueError):
    """A folder holds another sweep; the message is a sentence for the user."""


def check_same(before: Mapping[str, Any], asked: Mapping[str, Any], folder: Path | None, what: str) -> None:
    """Raises OtherSweep, naming the first thing that differs, unless what a folder holds is what is asked for."""
    for name in {**asked, **before}:
        if before.get(name) != asked.get(name):
            raise OtherSweep(
                f"{folder} holds another {what}: its {name} is {before.get(name)!r}, asked is {asked.get(name)!r}; "
                "name another folder"
            )


class Journal:
    """The file `trials.jsonl` of a folder: a line on what is searched, and one for each trial.

    Args:
      folder: where it is; made if it is not there.
      told: what is searched; trials of anything else are not of this sweep.

    Raises:
      OtherSweep: the file is of another sweep, or of another version.
      OSError: the folder cannot be written to.
    """

    def __init__(self, folder: Path, told: Mapping[str, Any]) -> None:
        make_writable(folder)
        self.path = folder / "trials.jsonl"
        header = json.loads(json.dumps({"schema": SCHEMA, **told}))
        found = self._read()
        if found:
            check_same(found[0] if isinstance(found[0], dict) else {}, header, folder, "sweep")
        self.trials = [Trial.from_plain(line) for line in found[1:]]
        self._write([header, *[plain(trial) for trial in self.trials]])  # without a line that was cut off

    def add(self, trials: Sequence[Trial]) -> None:
        """Keeps some trials."""
        self.trials += trials
        with self.path.open("a", encoding="utf-8") as file:
            file.write("".join(_line(plain(trial)) for trial in trials))

    def _read(self) -> list[Any]:
        lines = self.path.read_text(encoding="utf-8").splitlines() if self.path.exists() else []
        found = []
        for line in lines:
            try:
                found.append(json.loads(line))
            except ValueError:  # the process was killed while it wrote this line
                break
        return found

    def _write(self, entries: Sequence[Any]) -> None:
        write_atomically(self.path, "".join(map(_line, entries)).encode())


def _line(entry: Any) -> str:
    return json.dumps(entry, allow_nan=False) + "\n"
