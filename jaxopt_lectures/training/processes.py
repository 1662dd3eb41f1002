"""Several processes that train together: what one of them sees, all must act upon, or they wait for each other forever.

Everything that depends on a clock, a signal or a disk is agreed upon. In a single process nothing is said or awaited.
"""

import contextlib
import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxopt_lectures.training.watch import Watch, at_abort, say

_SHORT = 256
"""Bytes of a message that needs one exchange; the length goes before it, in four of them."""
_HEARTBEAT = 30
"""Seconds of silence after which JAX's own service gives a process up; `Watch` is earlier."""
_SHUTDOWN = 15
"""Seconds that the processes wait for each other at the very end."""


def first() -> bool:
    """Whether this is the process that writes files and speaks to the terminal."""
    return jax.process_index() == 0


def agreed(value: Any) -> Any:
    """The first process's word, in all of them; all must ask, in the same order.

    Args:
      value: what JSON can tell.
    """
    if jax.process_count() == 1:
        return value
    from jax.experimental.multihost_utils import broadcast_one_to_all

    content = json.dumps(value).encode() if first() else b""
    size = _SHORT - 4
    message = len(content).to_bytes(4, "big") + content[:size]
    said = broadcast_one_to_all(np.frombuffer(message.ljust(_SHORT, b"\0"), np.uint8)).tobytes()
    length, content = int.from_bytes(said[:4], "big"), said[4:] if not first() else content
    if length > size:
        room = -(-length // 4096) * 4096  # so that few programs are compiled
        content = broadcast_one_to_all(np.frombuffer(content.ljust(room, b"\0")[:room], np.uint8)).tobytes()
    return json.loads(content[:length])


def anyone(heard: bool) -> bool:
    """Whether it is so in one of the processes."""
    if jax.process_count() == 1:
        return heard
    from jax.experimental.multihost_utils import process_allgather

    return bool(np.any(process_allgather(np.array([heard]))))


def settled(work: Callable[[], Any]) -> Any:
    """What the work gives in the first process, which alone does it, for all of them; where it fails, all raise.

    The others raise an OSError or a ValueError with the words of the first one's error.
    """
    if jax.process_count() == 1:
        return work()
    told: dict[str, Any] = {}
    error: Exception | None = None
    if first():
        try:
            told = {"value": work()}
        except OSError as failed:
            error, told = failed, {"system": [failed.errno, failed.strerror or str(failed), str(failed.filename)]}
        except ValueError as failed:
            error, told = failed, {"refused": str(failed)}
    told = agreed(told)
    if error is not None:
        raise error
    if "system" in told:
        raise OSError(*told["system"])
    if "refused" in told:
        raise ValueError(told["refused"])
    return told["value"]


@contextlib.contextmanager
def joined(
    coordinator: str | None, count: int | None = None, me: int | None = None, patience: float = 60.0
) -> Iterator[None]:
    """Makes this process one of several that train together, in a `with` statement; before anything is computed.

    Where another one is lost, this one says so and ends, with exit code 75; it never waits for it.

    Args:
      coordinator: HOST:PORT of the first process, the same for all; "auto" where Slurm or Open MPI tells; None for a
        process of its own.
      count: how many processes there are.
      me: which of them this is, from 0 to `count` - 1.
      patience: seconds that are waited for the others to come.

    Raises:
      ValueError: arguments that do not fit together, no coordinator, a port that is in use.
    """
    if coordinator is None:
        if count is not None or me is not None:
            raise ValueError("--processes and --process-id need --coordinator HOST:PORT, the address of process 0")
        yield
        return
    _begin(coordinator, count, me, patience)
    watch = _watches[-1]
    try:
        yield
    except BaseException as error:
        watch.failed(error)
        line = (str(error).splitlines() or [""])[0]
        if not watch.leave(f"{type(error).__name__}: {line}"):
            say(f"process {watch.me} of {watch.count} ends alone: {type(error).__name__}: {line}")
            os._exit(1)
        _end(watch)
        raise
    if not watch.met("end", patience):
        watch.failed(RuntimeError("the connection to the others was lost at the end"))
    _end(watch)


def watched(folder: Path) -> None:
    """Notes where the run is kept, for the last words."""
    for watch in _watches:
        watch.folder = folder


_watches: list[Watch] = []


def _begin(coordinator: str, count: int | None, me: int | None, patience: float) -> None:
    options: dict[str, Any] = {"initialization_timeout": int(patience) + 30, "heartbeat_timeout_seconds": _HEARTBEAT}
    if coordinator != "auto":
        _check(coordinator, count, me)
        assert count is not None
        assert me is not None
        _reach(coordinator, me, patience)
        options |= {"coordinator_address": coordinator, "num_processes": count, "process_id": me}
    elif count is not None or me is not None:
        raise ValueError("--coordinator auto asks Slurm or Open MPI: leave out --processes and --process-id")
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.config.update("jax_enable_preemption_service", False)  # `fit` hears SIGTERM itself
    late = threading.Timer(patience, _too_late, (coordinator, count, me, patience))
    late.daemon = True
    late.start()
    at_abort(lambda: _aborted("the processes did not come together: is each --process-id, from 0 on, given once?"))
    try:
        jax.distributed.initialize(**options, shutdown_timeout_seconds=_SHUTDOWN)
    except (RuntimeError, ValueError) as error:
        at_abort(None)
        raise ValueError(f"the processes cannot begin: {(str(error).splitlines() or [''])[0]}") from error
    finally:
        late.cancel()
    from jax._src import distributed  # the only way to the service's client, which orbax takes as well

    found = distributed.global_state
    watch = Watch(found.client, jax.process_index(), jax.process_count(), found.coordinator_address)
    at_abort(watch.aborted)
    _watches.append(watch)


def _end(watch: Watch) -> None:
    watch.end()
    _watches.remove(watch)
    at_abort(lambda: _aborted("the processes did not end together"))
    with contextlib.suppress(RuntimeError):
        jax.distributed.shutdown()
    at_abort(None)


def _check(coordinator: str, count: Any, me: Any) -> None:
    host, _, port = coordinator.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise ValueError(f"--coordinator must be HOST:PORT, as 10.0.0.1:8476, or auto, got {coordinator!r}")
    for name, value, least in (("--processes", count, 1), ("--process-id", me, 0)):
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise ValueError(f"{name} must be a whole number, at least {least}, beside --coordinator, got {value!r}")
    if me >= count:
        raise ValueError(f"--process-id must be below --processes {count}, from 0 to {count - 1}, got {me}")


def _reach(coordinator: str, me: int, patience: float) -> None:
    """Sees that process 0 can have its port, or that there is somebody at it: JAX would end the process for it."""
    host, _, port = coordinator.rpartition(":")
    host = host.strip("[]")
    if me == 0:
        try:
            with socket.create_server(("", int(port))):
                return
        except OSError as error:
            raise ValueError(
                f"port {port} of --coordinator cannot be had ({error.strerror}): choose another"
            ) from error
    until = time.monotonic() + patience
    while True:
        try:
            with socket.create_connection((host, int(port)), timeout=max(1.0, until - time.monotonic())):
                return
        except OSError as error:
            if time.monotonic() > until:
                raise ValueError(
                    f"nobody answers at --coordinator {coordinator} after {patience:g} s ({error.strerror or error}): "
                    "start process 0 there, or name where it is"
                ) from error
        time.sleep(0.2)


def _too_late(coordinator: str, count: int | None, me: int | None, patience: float) -> None:
    say(
        f"process {me} of {count}: not all processes came to {coordinator} within {patience:g} s: start the others, "
        "each with another --process-id"
    )
    os._exit(2)


def _aborted(line: str) -> None:
    say(line)
    os._exit(2)
