"""The loop of a training run: chunks of steps, and between them looks, checkpoints and reasons to end."""

import math
import time
import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxopt_lectures.tasks.task import Data, Task
from jaxopt_lectures.terminal.interrupts import Interrupts
from jaxopt_lectures.training.batches import Batches, Chunk
from jaxopt_lectures.training.evaluation import gradient_norm, metric, weights_of
from jaxopt_lectures.training.history import Ended, History
from jaxopt_lectures.training.hyperparams import scheduled
from jaxopt_lectures.training.keeper import Keeper
from jaxopt_lectures.training.log import Silent
from jaxopt_lectures.training.parts import parts
from jaxopt_lectures.training.placement import Placement, here
from jaxopt_lectures.training.processes import agreed, anyone
from jaxopt_lectures.training.program import TrainState, is_fine, make_step, skipped
from jaxopt_lectures.training.settings import Settings
from jaxopt_lectures.training.ways import copied, fastest, first_lost, make_epoch, paced, warmed

_PATIENCE = 100
"""Steps in a row that are skipped before training ends."""
_ROLLBACKS = 10
"""Times that training goes back before it ends."""


class Loop:
    """A run, from its first state or from where it was, to its end."""

    def __init__(
        self,
        task: Task,
        tx: optax.GradientTransformation,
        data: Data,
        settings: Settings,
        state: TrainState,
        history: History,
        keeper: Keeper | None,
        display: Silent,
        interrupts: Interrupts,
        placement: Placement | None = None,
    ) -> None:
        self.task, self.tx, self.data, self.settings, self.state = task, tx, data, settings, state
        self.history, self.keeper, self.display, self.interrupts = history, keeper, display, interrupts
        self.placement = placement
        self.step, self.seconds, self.rollbacks, self.pace = 0, 0.0, 0, 1
        self.in_a_row, self.planned, self.loss, self.counted, self.since = 0, 0, 0.0, 0, (0, 0.0)
        if keeper and keeper.found:
            history.records, history.events = keeper.looked()
            self._go_on(*keeper.found)
        scaled = settings.on_nonfinite == "rollback" or self.rollbacks > 0
        cut, dtype = settings.accumulate, settings.compute_dtype
        self.one = make_step(
            task, tx, accumulate=cut, compute_dtype=dtype, guard=False, scaled=scaled, placement=placement
        )
        self.norm, self.is_fine = gradient_norm(task, cut, dtype, placement), jax.jit(is_fine)
        sent = placement.examples if placement else jnp.asarray
        self.validation = tuple(sent(part) for part in data.validation)

    def run(self) -> History:
        """Trains until there is a reason to end."""
        history, total = self.history, self.settings.steps
        self.batches = self._batches()
        try:
            if self.step >= total:
                history.ended = "steps"
                if self.step > total:
                    warnings.warn(f"the run has {self.step} steps already, {total} were asked for", stacklevel=3)
            elif self.in_a_row >= _PATIENCE:
                history.ended = "nonfinite"
            elif history.records and history.records[-1]["step"] == self.step:
                history.ended = self._reason()
            if history.ended is None:
                self._choose_way()
                if self.keeper and self.step == 0 and self.settings.on_nonfinite == "rollback":
                    self._save(None)
            while history.ended is None:
                self._chunk()
            if self.keeper:
                self._save(self._metric_now())
                error = self.keeper.finish(self.step)
                self._check_saved(error)
                history.saved = error is None
        finally:
            self.batches.close()
        history.state = self.state
        history.model = parts(self.task).model(*here((weights_of(self.state), self.state.rest)))
        return history

    def _chunk(self) -> None:
        """Some steps, and what is due after them."""
        steps = self.planned or self._next(self.step)
        chunk, after = self.batches.chunk(self.step, steps), self.step + steps
        self.planned = self._next(after) if after < self.settings.steps else 0
        if self.planned:
            self.batches.prepare(after, self.planned)
        began, before = time.perf_counter(), copied(self.state)
        self.state, losses = self.epoch(self.state, chunk)
        losses, fine = jax.device_get(here((losses, self.is_fine(self.state))))
        losses, lost = losses[:steps], None
        if not (fine and np.isfinite(losses).all()):
            taken, self.state = first_lost(self.epoch, self.is_fine, before, chunk, losses)
            losses, lost = losses[:taken], losses[taken]
        took = agreed(time.perf_counter() - began)
        self.seconds += took
        self._count(losses, took)
        if lost is None:
            self.pace = paced(took / steps, self.batches.capacity, self.pace)
        elif self._lost(float(lost)):
            return
        if self.step % self.settings.eval_every == 0 or self.step == self.settings.steps:
            self._look(chunk)
        if self.history.ended is None and anyone(self.interrupts.heard):
            self.history.ended = "interrupted"
        if self.history.ended is None and self.keeper and self._is_due():
            self._save(self._metric_now())

    def _count(self, losses: np.ndarray, took: float) -> None:
        """Takes note of steps that were taken."""
        self.step += len(losses)
        self.loss, self.counted = self.loss + float(np.sum(losses, dtype=float)), self.counted + len(losses)
        if len(losses):
            self.in_a_row = 0
            self.display.advance(self.step, float(losses[-1]), len(losses) / took)

    def _is_due(self) -> bool:
        """Whether it is time for a checkpoint. Where one may have to go back to it, no clock decides where that is."""
        assert self.keeper is not None
        if self.settings.on_nonfinite == "rollback":
            return self._metric_now() is not None
        return agreed(self.keeper.is_due(self.settings.checkpoint_seconds))

    def _look(self, chunk: Chunk) -> None:
        """Takes the metric, and keeps it with what was seen since the last look."""
        value = float(metric(self.task)(weights_of(self.state), self.state.rest, *self.validation))
        rows = np.asarray(chunk.rows)[chunk.steps - 1]
        norm, skips = float(self.norm(self.state, chunk.examples, rows)), int(self.state.skipped)
        steps, seconds = self.step - self.since[0], self.seconds - self.since[1]
        record = {
            "step": self.step,
            "loss": self.loss / self.counted if self.counted else math.nan,
            "metric": value,
            "gradient_norm": norm,
            "skipped": skips,
            "seconds": self.seconds,
            "steps_per_second": steps / seconds,
            **scheduled(self.tx, self.state.opt_state, self.step - skips),
        }
        self.loss, self.counted, self.since = 0.0, 0, (self.step, self.seconds)
        self.history.records.append(record)
        self._tell(record)
        self.history.ended = self._reason()

    def _reason(self) -> Ended | None:
        if self.step >= self.settings.steps:
            return "steps"
        return self.settings.stop.reason(self.task, self.history.records, self.seconds)

    def _lost(self, loss: float) -> bool:
        """The next step would lose the parameters: leave it out, or (True) end or go back."""
        what, bad = f"loss {loss:.4g}" if not math.isfinite(loss) else "an update that is not finite", self.step
        self.planned, self.pace, self.in_a_row = 0, 1, self.in_a_row + 1
        if self.settings.on_nonfinite == "skip":
            self.state, self.step = skipped(self.state), self.step + 1
            if self.in_a_row < _PATIENCE:
                return False
        if self.settings.on_nonfinite == "rollback" and self.rollbacks < _ROLLBACKS and self.keeper:
            found, seconds = self.keeper.roll_back(self.state, self.rollbacks + 1), self.seconds
            if found is not None:
                self._go_on(*found)
                self.seconds = seconds
                self.history.records = [record for record in self.history.records if record["step"] <= self.step]
                self.batches.close()
                self.batches, self.planned = self._batches(), 0
                self.keeper.rewrite(found[1]["lines"], self.history.events)
                factor = 0.5**self.rollbacks
                self._event("rollback", f"{what} at step {bad}; back to {self.step}, updates times {factor:g}")
                return True
        self._event("nonfinite", f"{what} at step {bad}")
        self.history.ended = "nonfinite"
        return True

    def _go_on(self, state: TrainState, meta: dict[str, Any]) -> None:
        """Takes up what a checkpoint has."""
        self.state = state
        self.in_a_row = meta["in_a_row"] if self.settings.on_nonfinite == "skip" else 0
        self.step, self.seconds, self.rollbacks = meta["step"], meta["seconds"], meta["rollbacks"]
        self.loss, self.counted, self.since = meta["loss"], meta["counted"], tuple(meta["since"])

    def _save(self, metric: float | None) -> None:
        """Begins a checkpoint; where it cannot be written, training goes on, and the last good one stays."""
        assert self.keeper is not None
        meta: dict[str, Any] = {"step": self.step, "seconds": self.seconds, "rollbacks": self.rollbacks}
        meta |= {"in_a_row": self.in_a_row, "loss": self.loss, "counted": self.counted, "since": list(self.since)}
        self._check_saved(self.keeper.save(self.state, meta, metric))

    def _check_saved(self, error: str | None) -> None:
        if error is not None:
            self.history.saved = False
            self._event("checkpoint failed", error)
            warnings.warn(f"a checkpoint could not be written, the last good one stays: {error}", stacklevel=3)

    def _tell(self, entry: dict[str, Any]) -> None:
        self.display.tell(entry)
        if self.keeper:
            self.keeper.append(entry)

    def _event(self, event: str, message: str) -> None:
        entry = {"event": event, "step": self.step, "message": message}
        self.history.events.append(entry)
        self._tell(entry)

    def _metric_now(self) -> float | None:
        """The metric of these weights, if it was just taken."""
        records = self.history.records
        return records[-1]["metric"] if records and records[-1]["step"] == self.step else None

    def _batches(self) -> Batches:
        settings = self.settings
        seed = (settings.seed, self.rollbacks)
        return Batches(self.data.train, self.task.batch_size, seed, settings.resident, self.placement)

    def _choose_way(self) -> None:
        """The way that was asked for, or that the run has had, or the faster one."""
        keeper, way = self.keeper, self.settings.way
        if keeper and way == "auto":
            way = keeper.run.get("way", "auto")
        steps = min(self.settings.steps - self.step, self.batches.capacity)
        chunk = self.batches.chunk(self.step, steps)
        if way != "auto":
            self.epoch = make_epoch(self.one, way)
            seconds = warmed(self.epoch, self.state, chunk)
        else:
            way, self.epoch, tried = fastest(self.one, self.state, chunk, self.settings.steps - self.step)
            seconds = tried[way]
        self.pace = paced(seconds, self.batches.capacity, self.pace)
        if keeper:
            keeper.keep_way(way)

    def _next(self, start: int) -> int:
        """How many steps the chunk from `start` on has: until the next look, and not too long."""
        every = self.settings.eval_every
        return min(self.pace, every - start % every, self.settings.steps - start)
