"""The folder of a run: `run.json` says what it is, `history.jsonl` how it went, `checkpoints/` how to go on."""

import contextlib
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from jaxopt_lectures.records.files import make_writable, write_atomically
from jaxopt_lectures.training.checkpoints import Unreadable
from jaxopt_lectures.training.history import to_line
from jaxopt_lectures.training.processes import first, settled

SCHEMA = 1
_OURS = {"run.json", "history.jsonl", "checkpoints", "run.lock", "curves.png"}


class Folder:
    """The files of a run beside its checkpoints; of several processes the first writes them, and tells what it reads.

    Args:
      path: the folder; made if it is not there.

    Raises:
      OSError: it cannot be written to.
      Unreadable: there are other files in it, and none of a run.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        settled(self._made)

    def _made(self) -> None:
        path = self.path
        make_writable(path)
        found = {entry.name for entry in path.iterdir() if not _is_left_behind(entry.name)}
        if "run.json" not in found and found - _OURS:
            raise Unreadable(f"{path} is not empty and not the folder of a run: it holds {sorted(found - _OURS)[0]!r}")

    def told(self) -> dict[str, Any] | None:
        """What `run.json` says, None where there is none yet."""
        return settled(lambda: read(self.path) if (self.path / "run.json").exists() else None)

    def tell(self, run: Mapping[str, Any]) -> None:
        """Writes `run.json`."""
        text = json.dumps({"schema": SCHEMA, **run}, indent=1, allow_nan=False) + "\n"
        settled(lambda: write_atomically(self.path / "run.json", text.encode()))

    def lines(self) -> list[str]:
        """The lines of the history."""
        return settled(lambda: lines(self.path))

    def cut(self, count: int) -> None:
        """Leaves that many lines of the history: what comes after them has not happened."""
        kept = "".join(f"{line}\n" for line in self.lines()[:count])
        settled(lambda: write_atomically(self.path / "history.jsonl", kept.encode()))

    def append(self, entry: Mapping[str, Any]) -> None:
        """Adds a line to the history."""
        if not first():
            return
        with (self.path / "history.jsonl").open("ab", buffering=0) as file:
            end = file.tell()
            try:
                file.write(to_line(entry).encode())
            except OSError:
                file.truncate(end)  # no half of a line, to which the next would be added
                raise

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """While no other process trains into this folder.

        Raises:
          Unreadable: another one does.
        """
        with contextlib.ExitStack() as stack:
            settled(lambda: stack.enter_context(self._locked()))
            yield

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        try:
            import fcntl
        except ImportError:  # not on this system
            yield
            return
        with (self.path / "run.lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise Unreadable(f"{self.path} is being trained into by another process") from None
            except OSError:  # a file system without locks
                pass
            for entry in self.path.iterdir():
                if _is_left_behind(entry.name):
                    entry.unlink(missing_ok=True)
            yield  # the system takes the lock back, however the process ends


def _is_left_behind(name: str) -> bool:
    """Whether it is a file that a process was killed in the middle of writing, before it had its name."""
    return bool(re.fullmatch(r"\.(probe|run\.json|history\.jsonl|curves\.png)\.\d+", name))


def lines(path: Path) -> list[str]:
    """The lines of the history in the folder."""
    file = path / "history.jsonl"
    return file.read_text(encoding="utf-8").splitlines() if file.exists() else []


def read(path: Path) -> dict[str, Any]:
    """What a `run.json` says.

    Raises:
      Unreadable: it is none, or of another version.
    """
    try:
        told = json.loads((path / "run.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise Unreadable(f"{path} is not the folder of a run: {error}") from error
    found = told.get("schema") if isinstance(told, dict) else None
    if found != SCHEMA:
        raise Unreadable(f"{path / 'run.json'} has schema {found!r}, this version reads {SCHEMA}")
    return dict(told)
