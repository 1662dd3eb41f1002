"""What a comparison has done so far, on disk: an interrupted one goes on from there."""

import contextlib
import hashlib
import inspect
import json
import re
import shutil
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from jaxopt_lectures.comparison.entries import Entry
from jaxopt_lectures.comparison.files import result_from_plain
from jaxopt_lectures.comparison.results import Result
from jaxopt_lectures.records.files import make_writable, write_atomically
from jaxopt_lectures.records.plain import plain
from jaxopt_lectures.tuning.ground import Ground
from jaxopt_lectures.tuning.journal import Journal
from jaxopt_lectures.tuning.trials import Trial


class Unfinished:
    """The finished parts of a comparison, in the folder `unfinished`.

    Each lies under a name that depends on all that decides its numbers, so what was done for another protocol, other
    data or an older version of a user's optimizer is not found.

    Args:
      folder: of the results; nothing is kept if None.
      protocol: what decides the numbers of every optimizer alike.
    """

    def __init__(self, folder: Path | None, protocol: Mapping[str, Any]) -> None:
        self.folder = folder / "unfinished" if folder is not None else None
        self.protocol = dict(protocol)

    def result(self, ground: Ground, one: Entry) -> Result | None:
        """What was found for an optimizer, if it was finished."""
        path = self._path(ground, one)
        try:
            return result_from_plain(json.loads((path / "result.json").read_text(encoding="utf-8"))) if path else None
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def keep(self, ground: Ground, one: Entry, result: Result) -> None:
        """Keeps what was found for an optimizer."""
        path = self._path(ground, one)
        if path:
            with self._forgiven():
                make_writable(path)
                write_atomically(path / "result.json", json.dumps(plain(result), allow_nan=False).encode())

    def trials(self, ground: Ground, one: Entry) -> tuple[list[Trial], Callable[[list[Trial]], None]]:
        """Its trials that were done before, and what keeps others as they come."""
        path, told = self._path(ground, one), {"optimizer": one.name}
        journals: list[Journal] = []
        if path and path.exists():
            with self._forgiven():
                journals.append(Journal(path, told))

        def keep(trials: list[Trial]) -> None:
            if path and self.folder is not None:
                with self._forgiven():
                    if not journals:
                        journals.append(Journal(path, told))
                    journals[0].add(trials)

        return [trial for journal in journals for trial in journal.trials], keep

    @contextlib.contextmanager
    def _forgiven(self) -> Iterator[None]:
        """A disk that is full ends no comparison: from then on nothing is kept."""
        try:
            yield
        except OSError as error:
            warnings.warn(f"an interrupted comparison could not go on: {self.folder}: {error.strerror}", stacklevel=3)
            self.folder = None

    def clear(self) -> None:
        """All is finished, and in the results."""
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)

    def _path(self, ground: Ground, one: Entry) -> Path | None:
        if self.folder is None:
            return None
        told = {
            **self.protocol,
            "data": ground.sha256,
            "task": ground.task.name,
            "steps": ground.task.steps,
            "batch_size": ground.task.batch_size,
            "space": plain(one.space),
            "code": one.code({}),
            "source": _source(one.factory),
        }
        digest = hashlib.sha256(json.dumps(told, sort_keys=True, default=repr).encode()).hexdigest()[:12]
        readable = re.sub(r"\W+", "-", f"{ground.task.name}-{one.name}")
        return self.folder / f"{readable}-{digest}"


def _source(factory: Any) -> str:
    try:
        return inspect.getsource(inspect.getmodule(factory) or factory)
    except (OSError, TypeError):
        return ""
