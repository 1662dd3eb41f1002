"""What keeps a run on disk: its folder and its checkpoints, and what was found there."""

import time
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from jaxopt_lectures.training.checkpoints import Checkpoints
from jaxopt_lectures.training.folder import Folder
from jaxopt_lectures.training.history import from_lines
from jaxopt_lectures.training.program import TrainState


class Keeper:
    """Keeps a run; a disk that is full ends no training.

    Args:
      folder: of the run.
      checkpoints: in it.
      run: what `run.json` says.
      found: the last checkpoint, state and meta; None where there is none.
    """

    def __init__(
        self, folder: Folder, checkpoints: Checkpoints, run: dict[str, Any], found: tuple[TrainState, Any] | None
    ) -> None:
        self.folder, self.checkpoints, self.run, self.found = folder, checkpoints, run, found
        self._saved, self._back_to = time.monotonic(), -1

    def looked(self) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """Records and events until the checkpoint that was found."""
        return from_lines(self.folder.lines())

    def is_due(self, seconds: float) -> bool:
        """Whether the last checkpoint was begun so long ago."""
        return time.monotonic() - self._saved >= seconds

    def has(self, step: int) -> bool:
        """Whether there is a checkpoint of that step."""
        return step in self.checkpoints.steps()

    def save(self, state: TrainState, meta: dict[str, Any], metric: float | None) -> str | None:
        """Begins a checkpoint, unless there is one of that step; why the one before failed, if it did."""
        self._saved = time.monotonic()
        try:
            if not self.has(meta["step"]):
                self.checkpoints.save(state, meta | {"lines": len(self.folder.lines())}, metric)
        except OSError as error:
            return str(error)
        return None

    def finish(self, step: int) -> str | None:
        """Waits until all is on disk; why it is not, if so."""
        try:
            self.checkpoints.wait()
        except OSError as error:
            return str(error)
        return None if self.has(step) else f"there is none of step {step}"

    def last(self, like: TrainState) -> tuple[TrainState, dict[str, Any]]:
        """The last good checkpoint to go back to; one from which it went wrong before is dropped for an earlier."""
        self.checkpoints.wait()
        steps = self.checkpoints.steps()
        if steps[0] == self._back_to and len(steps) > 1:
            self.checkpoints.drop(steps[0])
        self._back_to = self.checkpoints.steps()[0]
        found = self.checkpoints.restore(like)
        assert found is not None, "where one may have to go back, there is one of step 0"
        return found

    def append(self, entry: Mapping[str, Any]) -> None:
        """Adds a line to the history."""
        try:
            self.folder.append(entry)
        except OSError as error:
            warnings.warn(f"the history could not be written: {error}", stacklevel=4)

    def rewrite(self, lines: int, events: Sequence[Mapping[str, Any]]) -> None:
        """Leaves so many lines of the history, and the events of those that come after them."""
        known = from_lines(self.folder.lines()[:lines])[1]
        self.folder.cut(lines)
        for event in events[len(known) :]:
            self.append(event)

    def keep_way(self, way: str) -> None:
        """Notes how steps are run: a run that is gone on with keeps its way."""
        if self.run.get("way") != way:
            self.run["way"] = way
            self.folder.tell(self.run)
