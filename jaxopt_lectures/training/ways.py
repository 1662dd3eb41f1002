"""How steps are run: many in one program, or one program a step. Which is faster is measured.

Many small steps in one program save the way from Python, which takes longer than they do. But in a loop XLA's CPU
computes convolutions several times slower, and a large step loses nothing by being called.
"""

import math
import time
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxopt_lectures.training.batches import Chunk
from jaxopt_lectures.training.placement import beside
from jaxopt_lectures.training.processes import agreed
from jaxopt_lectures.training.program import Step, TrainState

Way = Literal["loop", "single"]
Epoch = Callable[[TrainState, Chunk], tuple[TrainState, jax.Array]]

_LARGE = 0.02
"""Seconds of a step above which calling it costs nothing: a call takes 0.1 ms."""
_SHORT = 1.0
"""Seconds of training that are over before a second program is compiled."""
_TRIAL = 0.1
"""Seconds that each way is tried for in each of the rounds."""
_ROUNDS = 3
_CHUNK = 0.5
"""Seconds between two moments at which Python has a say."""


class _Carry(NamedTuple):
    """What goes through many steps: the `state`, the `losses`, one entry a step, and how many there were."""

    state: TrainState
    losses: jax.Array
    index: jax.Array


def make_epoch(step: Step, way: Way = "loop") -> Epoch:
    """Many steps: `(state, chunk) -> (state, losses)`, compiled, the state donated.

    `losses` has an entry for each row of the chunk; those of its first `chunk.steps` are meant. A chunk of another
    number of steps compiles nothing.

    Args:
      step: what `make_step` gives.
      way: "loop", all steps in one program; "single", one program a step.

    Raises:
      ValueError: another way.
    """

    def one(carry: _Carry, examples: Any, rows: jax.Array) -> _Carry:
        x, y = (part[rows[carry.index]] for part in examples)
        state, loss = step(carry.state, x, y)
        return _Carry(state, carry.losses.at[carry.index].set(loss), carry.index + 1)

    def many(carry: _Carry, examples: Any, rows: jax.Array, steps: jax.Array) -> _Carry:
        return jax.lax.fori_loop(0, steps, lambda _, carry: one(carry, examples, rows), carry)

    def begin(state: TrainState, chunk: Chunk) -> _Carry:
        losses, index = np.zeros(len(chunk.rows), np.float32), np.zeros((), np.int32)
        return _Carry(state, beside(losses, chunk.rows), beside(index, chunk.rows))

    if way == "loop":
        compiled = _laid_as_it_came(many)

        def loop(state: TrainState, chunk: Chunk) -> tuple[TrainState, jax.Array]:
            carry = begin(state, chunk)
            return compiled(carry)(carry, chunk.examples, chunk.rows, np.int32(chunk.steps))[:2]

        return loop
    if way == "single":
        compiled = _laid_as_it_came(one)

        def single(state: TrainState, chunk: Chunk) -> tuple[TrainState, jax.Array]:
            carry = begin(state, chunk)
            program = compiled(carry)
            for _ in range(chunk.steps):
                carry = program(carry, chunk.examples, chunk.rows)
            return carry[:2]

        return single
    raise ValueError(f"way must be 'loop' or 'single', got {way!r}")


def _laid_as_it_came(steps: Callable[..., _Carry]) -> Callable[[_Carry], Callable[..., _Carry]]:
    """For a carry the program of these steps, which gives each array back on the devices where it came from.

    On a mesh XLA lays what goes around a loop as it likes: the next chunk would be another program, with other
    roundings.
    """
    programs: dict[Any, Callable[..., _Carry]] = {}

    def place(x: Any) -> Any:
        found = getattr(x, "sharding", None)
        return found if found is not None and len(found.device_set) > 1 else None

    def compiled(carry: _Carry) -> Callable[..., _Carry]:
        places = jax.tree.map(place, carry)
        leaves, treedef = jax.tree.flatten(places)
        key = treedef, tuple(leaves)
        if key not in programs:
            programs[key] = jax.jit(steps, donate_argnums=0, out_shardings=places)
        return programs[key]

    return compiled


@jax.jit
def copied(state: TrainState) -> TrainState:
    """A state that may be donated without the loss of this one; one program, as there may be a thousand arrays."""
    return jax.tree.map(jnp.copy, state)


def first_lost(
    epoch: Epoch, is_fine: Callable[[TrainState], jax.Array], before: TrainState, chunk: Chunk, losses: np.ndarray
) -> tuple[int, TrainState]:
    """How many steps of the chunk are good, and the state after them: the next would lose it, or has no finite loss.

    Nothing guards the single step, which would cost each of them; the chunk is taken again from its beginning, and ends
    earlier. It is the same program, so what is good has the bits that it would have had.

    Args:
      epoch: what `make_epoch` gives.
      is_fine: whether a state is good.
      before: the state before the chunk.
      chunk: the batches.
      losses: of its steps, (steps,).
    """

    def after(steps: int) -> TrainState:
        return epoch(copied(before), chunk._replace(steps=steps))[0] if steps else copied(before)

    infinite = np.flatnonzero(~np.isfinite(losses))
    good, lost = 0, int(infinite[0]) if len(infinite) else len(losses)
    state = after(lost)
    if lost < len(losses) and is_fine(state):
        return lost, state
    while lost - good > 1:
        middle = (good + lost) // 2
        good, lost = (middle, lost) if is_fine(after(middle)) else (good, middle)
    return good, after(good)


def fastest(step: Step, state: TrainState, chunk: Chunk, steps: int) -> tuple[Way, Epoch, dict[Way, float]]:
    """The faster way, ready to run, and the seconds a step takes each way that was tried.

    Args:
      step: what `make_step` gives.
      state: to try with; a copy is trained, and dropped.
      chunk: batches to try with.
      steps: how many are to come; for few, a second program is not worth its compilation.
    """
    runs: dict[Way, Epoch] = {"single": make_epoch(step, "single")}
    first = chunk._replace(steps=1)
    seconds = warmed(runs["single"], state, chunk)
    if seconds > _LARGE or seconds * steps < _SHORT:
        return "single", runs["single"], {"single": seconds}
    runs["loop"] = make_epoch(step, "loop")
    _seconds(runs["loop"], state, first)
    several = chunk._replace(steps=max(1, min(chunk.steps, int(_TRIAL / seconds))))
    taken: dict[Way, list[float]] = {way: [] for way in runs}
    for _ in range(_ROUNDS):
        for way, run in runs.items():
            taken[way].append(_seconds(run, state, several) / several.steps)
    best = agreed({way: min(times) for way, times in taken.items()})
    way = min(best, key=lambda way: best[way])
    return way, runs[way], best


def warmed(run: Epoch, state: TrainState, chunk: Chunk) -> float:
    """Compiles it with a copy of the state; the seconds that a step takes after that."""
    first = chunk._replace(steps=1)
    _seconds(run, state, first)
    return agreed(min(_seconds(run, state, first) for _ in range(_ROUNDS)))


def paced(seconds: float, capacity: int, before: int) -> int:
    """Steps of a chunk: a power of two, at most twice what it was, as the first call compiles.

    Args:
      seconds: that a step takes.
      capacity: at most so many.
      before: what it was.
    """
    return min(2 ** int(math.log2(max(1.0, _CHUNK / seconds))), capacity, max(64, 2 * before))


def _seconds(run: Epoch, state: TrainState, chunk: Chunk) -> float:
    """How long a copy of the state trains for that chunk."""
    copy = jax.block_until_ready(copied(state))
    began = time.perf_counter()
    jax.block_until_ready(run(copy, chunk))
    return time.perf_counter() - began
