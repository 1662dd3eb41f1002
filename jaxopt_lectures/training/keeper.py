"""What keeps a run on disk: its folder and its checkpoints, and what was found there."""

import time
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
import optax

from jaxopt_lectures.storage.convert import convert_state
from jaxopt_lectures.training.checkpoints import Checkpoints
from jaxopt_lectures.training.folder import Folder
from jaxopt_lectures.training.history import from_lines
from jaxopt_lectures.training.placement import beside
from jaxopt_lectures.training.processes import agreed
from jaxopt_lectures.training.program import TrainState


class Keeper:
    """Keeps a run; a disk that is full ends no training.

    Args:
      folder: of the run.
      checkpoints: in it.
      run: what `run.json` says.
      found: the last checkpoint, state and meta; None where there is none.
      tx: the optimizer.
    """

    def __init__(
        self,
        folder: Folder,
        checkpoints: Checkpoints,
        run: dict[str, Any],
        found: tuple[TrainState, Any] | None,
        tx: optax.GradientTransformation,
    ) -> None:
        self.folder, self.checkpoints, self.run, self.found, self.tx = folder, checkpoints, run, found, tx
        self._saved = time.monotonic()

    def looked(self) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """Records and events until the checkpoint that was found."""
        return from_lines(self.folder.lines())

    def is_due(self, seconds: float) -> bool:
        """Whether the last checkpoint was begun so long ago."""
        return time.monotonic() - self._saved >= seconds

    def has(self, step: int) -> bool:
        """Whether there is a checkpoint of that step."""
        return agreed(step in self.checkpoints.steps())

    def save(self, state: TrainState, meta: dict[str, Any], metric: float | None) -> str | None:
        """Begins a checkpoint, unless there is one of that step; what could not be written, if anything."""
        self._saved, error = time.monotonic(), self._waited()
        try:
            if not self.has(meta["step"]):
                self.checkpoints.save(state, meta | {"lines": len(self.folder.lines())}, metric)
        except OSError as late:
            return str(late)
        return error

    def finish(self, step: int) -> str | None:
        """Waits until all is on disk; what is not, if anything."""
        return self._waited() or (None if self.has(step) else f"there is none of step {step}")

    def roll_back(self, like: TrainState, rollbacks: int) -> tuple[TrainState, dict[str, Any]] | None:
        """The last good checkpoint, to go back to; one to which training went back before is dropped for an earlier.

        It is noted first, so that a run that is killed now is gone on with from there.
        """
        self._waited()
        steps, before = agreed(self.checkpoints.steps()), self.run.get("rollback", {}).get("to")
        if not steps:
            return None
        to = steps[1] if steps[0] == before and len(steps) > 1 else steps[0]
        self.run["rollback"] = {"count": rollbacks, "to": to}
        self.folder.tell(self.run)
        return restored(self.checkpoints, self.run, like, self.tx)

    def _waited(self) -> str | None:
        failed: str | None = None
        try:
            self.checkpoints.wait()
        except OSError as error:
            failed = str(error)
        return agreed(failed)

    def append(self, entry: Mapping[str, Any]) -> None:
        """Adds a line to the history."""
        try:
            self.folder.append(entry)
        except OSError as error:
            warnings.warn(f"the history could not be written: {error}", stacklevel=4)

    def rewrite(self, lines: int, events: Sequence[Mapping[str, Any]]) -> None:
        """Leaves so many lines of the history, and the events of those that come after them."""
        known = from_lines(self.folder.lines()[:lines])[1]
        try:
            self.folder.cut(lines)
        except OSError as error:
            warnings.warn(f"the history could not be written: {error}", stacklevel=4)
            return
        for event in events[len(known) :]:
            self.append(event)

    def keep_way(self, way: str) -> None:
        """Notes how steps are run: a run that is gone on with keeps its way."""
        if self.run.get("way") != way:
            self.run["way"] = way
            self.folder.tell(self.run)


def restored(
    checkpoints: Checkpoints, run: Mapping[str, Any], like: TrainState, tx: optax.GradientTransformation
) -> tuple[TrainState, Any] | None:
    """The checkpoint to go on from: the last, or, where training went back from there, the one that it went back to."""
    back: Mapping[str, int] = run.get("rollback", {"count": 0, "to": 0})

    def converted(state: TrainState) -> TrainState:
        slots = convert_state(state.opt_state, tx, tx, state.params)
        return state._replace(
            opt_state=jax.tree.map(lambda x, as_: jax.device_put(x, as_.sharding), slots, like.opt_state)
        )

    while True:
        found = checkpoints.restore(like, converted)
        if found is None or found[1]["rollbacks"] >= back["count"] or found[1]["step"] <= back["to"]:
            break
        checkpoints.drop(found[1]["step"])
    if found is None:
        return None
    state, meta = found
    rollbacks = max(meta["rollbacks"], back["count"])
    return state._replace(scale=beside(np.float32(0.5**rollbacks), state.scale)), meta | {"rollbacks": rollbacks}
