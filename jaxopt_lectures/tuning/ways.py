"""Which way to run lanes is fastest on this machine, for this task: a few steps of each tell.

Side by side, lanes share the way from Python to the machine and fill an accelerator. On a CPU small steps are fastest
in one program, convolutions step by step, and programs on several threads use the cores that one leaves idle.
"""

import math
import os
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax

from jaxopt_lectures.tuning.ground import Lane
from jaxopt_lectures.tuning.lanes import Form, Program, Way, filled
from jaxopt_lectures.tuning.memory import allowed
from jaxopt_lectures.tuning.threads import in_parallel

_SMALL = 3e-4
"""Seconds of a lane's step below which one step a program is not worth trying: a call takes 1e-4."""
_WORTH = 4
"""Times its compilation that training must take for another way to be tried."""
_TRIAL = 0.05
"""Seconds that a way is at least tried for."""

New = Callable[[Form, int], Program]


def fastest(new: New, lanes: list[Lane], steps: int) -> tuple[Way, Program, dict[Way, float]]:
    """The fastest way to train those lanes, its program, and the seconds that each way tried would take.

    Args:
      new: makes a program of a form, for a number of lanes on each device.
      lanes: what is to be trained.
      steps: for how long.
    """
    found: dict[Way, float] = {}
    programs: dict[Way, Program] = {}
    devices = new("loop", 1).ground.devices
    device, share = devices[0], math.ceil(len(lanes) / len(devices))

    def small() -> bool:
        # side by side both branches of a `cond` are taken: decompositions at every step, not now and then
        decomposing = any(program.decomposes for program in programs.values())
        return decomposing or min(found.values()) / (len(lanes) * steps) < _SMALL

    for form, count in _candidates(device.platform, share, small):
        began = time.perf_counter()
        program = new(form, count)
        program.start(filled(lanes[:1], program.lanes))
        compiling = time.perf_counter() - began
        room, batches = allowed(device) // max(1, program.nbytes), math.ceil(len(lanes) / program.lanes)
        if room < 1 and found:
            continue
        for workers in sorted({1, min(_processors(devices), batches, max(1, room))}):
            way = Way(form, count, workers)
            found[way] = math.ceil(batches / workers) * steps * _seconds(program, lanes, workers)
            programs[way] = program
        if min(found.values()) < _WORTH * compiling:
            break
    way = min(found, key=lambda way: found[way])
    return way, programs[way], found


def _candidates(platform: str, lanes: int, small: Callable[[], bool]) -> Iterator[tuple[Form, int]]:
    """What is tried, in order of promise; on a CPU the first tells whether steps are `small`."""
    sizes = sorted({min(size, lanes) for size in (1, 4, 16, lanes)})
    if platform != "cpu":
        yield from (("loop", size) for size in reversed(sizes))
        yield from (("single", size) for size in reversed(sizes))
        return
    first, *others = sorted(sizes, key=lambda size: abs(size - 4))
    yield "loop", first
    if small():
        yield from (("loop", size) for size in others)
        yield "map", max(sizes)
    else:
        yield from (("single", size) for size in (first, *others))
        yield from (("loop", size) for size in others)


def _processors(devices: list[jax.Device]) -> int:
    """Programs that may run at once: on several devices, or on an accelerator, one fills them."""
    if len(devices) > 1 or devices[0].platform != "cpu":
        return 1
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _seconds(program: Program, lanes: list[Lane], workers: int) -> float:
    """Of a step, with so many programs at once."""

    def advanced(hypers: Any, state: Any, steps: int) -> None:
        jax.block_until_ready(program.advance(hypers, state, everyone, 0, steps))

    def timed(steps: int) -> float:
        started = [program.start(everyone) for _ in range(workers)]
        jax.block_until_ready(started)
        began = time.perf_counter()
        if workers == 1:
            advanced(started[0][0], started[0][1], steps)
        else:
            in_parallel(lambda begun: advanced(begun[0], begun[1], steps), started, workers)
        return time.perf_counter() - began

    everyone, steps = filled(lanes[: program.lanes], program.lanes), 1
    timed(steps)
    while (seconds := timed(steps)) < _TRIAL and steps < program.capacity:
        steps = min(program.capacity, 4 * steps)
    return min(seconds, timed(steps)) / steps
