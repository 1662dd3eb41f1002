"""Who of several processes is still there, and the last words where one is not.

JAX ends a process from C++, without a word of Python's, when the first process is gone, and half a minute after another
one has fallen silent; or the process waits in a sum over all devices that will never come. So every process says twice
a second, through JAX's coordination service, that it is there; who misses another one says so and leaves at once.
"""

import contextlib
import ctypes
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

GONE = 75
"""The exit code where another process is gone: "try again", as sendmail has it."""
_BEAT = 0.5
"""Seconds between two signs of life."""
_SILENT = 10.0
"""Seconds without a sign after which a process is gone."""
_ALARMED = 4.0
"""As `_SILENT`, where something was seen to fail already: a connection that was closed."""
_UNKNOWN = 10.0
"""Seconds after a failure in which the one that is gone must have been found."""
_GRACE = 4.0
"""Seconds in which all processes may end for the same reason, and the first one's service outlives the others."""
_ROOM = "jaxopt_lectures"
_FAILURES = ("gloo", "nccl", "rpc", "connection", "socket", "unavailable", "deadline", "coordination", "heartbeat")


class Watch:
    """Signs of life of this process, and those of the others.

    Args:
      client: of JAX's coordination service.
      me: number of this process.
      count: how many there are.
      address: HOST:PORT of that service.
    """

    def __init__(self, client: Any, me: int, count: int, address: str) -> None:
        self.client, self.me, self.count, self.address, self.folder = client, me, count, address, None
        self._over, self._speaking = threading.Event(), threading.Lock()
        self._seen = {other: ("", time.monotonic()) for other in range(count)}
        self._answered, self._alarm, self._leaving = time.monotonic(), (float("inf"), ""), False
        self._left: dict[int, tuple[str, float]] = {}
        self._named: list[int] = []
        self._threads = [threading.Thread(target=work, daemon=True) for work in (self._beat, self._judge)]
        for thread in self._threads:
            thread.start()

    folder: Path | None
    """Of the run, with its checkpoints."""

    def end(self) -> None:
        """Looks no more."""
        self._over.set()
        for thread in self._threads:
            thread.join(5)

    def failed(self, error: BaseException) -> None:
        """After an error: where it comes of a lost connection, the others are looked at, and this does not return."""
        text = f"{type(error).__name__}: {error}".lower()
        if isinstance(error, (RuntimeError, ValueError)) and any(word in text for word in _FAILURES):
            self._alarm = time.monotonic(), (str(error).splitlines() or [""])[0][:160]
            threading.Event().wait()

    def aborted(self) -> NoReturn:
        """Where C++ is about to end this process: the service is gone, or gloo has met a closed connection."""
        host, _, port = self.address.rpartition(":")
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=2).close()
        except OSError:
            self.last_words([0], "its connection was closed")
        self._alarm = time.monotonic(), "JAX ended this process, see above"
        while True:
            time.sleep(_UNKNOWN)  # as this thread does not go on, neither does the end; the others find out

    def leave(self, why: str) -> bool:
        """Says that this process ends; whether all others do, too, so that it may end as ever."""
        self._leaving = True
        with contextlib.suppress(Exception):
            self.client.key_value_set(f"{_ROOM}/left/{self.me}", why[:160], allow_overwrite=True)
        return self.met("left", _GRACE + 1)

    def met(self, where: str, seconds: float) -> bool:
        """Whether all came to that point within so many seconds."""
        try:
            self.client.wait_at_barrier(f"{_ROOM}/{where}", int(1000 * seconds))
        except Exception:  # whatever the service's errors are called
            return False
        return True

    def last_words(self, names: Sequence[int], why: str) -> NoReturn:
        """Says who is gone and how to go on, and ends this process at once; nothing waits for the one that is gone."""
        with self._speaking:
            self._over.set()
            if 0 not in names:  # all shall name the same
                with contextlib.suppress(Exception):
                    self.client.key_value_set(f"{_ROOM}/lost", ",".join(map(str, names)))
            who = f"process {' and '.join(map(str, names))}" if names else "a process"
            say(
                f"{who} of {self.count} {'is' if len(names) < 2 else 'are'} gone ({why}); {kept(self.folder)}; "
                "start all processes again, also with another number of them"
            )
            if self.me == 0 and len(names) < self.count - 1:
                time.sleep(_GRACE / 2)  # with it ends the service, of which the others still have to learn
            os._exit(GONE)

    def _beat(self) -> None:
        count = 0
        while not self._over.wait(_BEAT):
            count += 1
            try:
                self.client.key_value_set(f"{_ROOM}/beat/{self.me}", str(count), allow_overwrite=True)
                found = dict(self.client.key_value_dir_get(f"{_ROOM}/"))
            except Exception as error:
                if not self._over.is_set():
                    self.last_words([0], f"its service does not answer: {(str(error).splitlines() or [''])[0][:80]}")
                return
            now = time.monotonic()
            for key, value in found.items():
                _, kind, *number = key.split("/")
                if kind == "lost":
                    self._named = [int(name) for name in value.split(",") if name]
                elif kind == "left":
                    self._left.setdefault(int(number[0]), (value, now))
                elif self._seen[int(number[0])][0] != value:
                    self._seen[int(number[0])] = value, now
            self._answered = now  # last: what was told with it is known by then

    def _judge(self) -> None:
        while not self._over.wait(_BEAT / 2):
            now, (alarmed, error) = time.monotonic(), self._alarm
            if self._named and self.me not in self._named:
                self.last_words(self._named, "its connection was closed, or there was no sign of life")
            limit = _SILENT if now < alarmed else _ALARMED
            if now - self._answered > limit:
                self.last_words([0], f"no answer for {now - self._answered:.0f} s")
            left = [name for name, (_, when) in self._left.items() if now - when > _GRACE and name != self.me]
            if left and not self._leaving:
                self.last_words(left, f"it ended: {self._left[left[0]][0]}")
            # Up to the last answer: where this process was held up itself, the others are not to blame.
            quiet = {name: self._answered - when for name, (_, when) in self._seen.items() if name != self.me}
            lost = [name for name, seconds in quiet.items() if seconds > limit]
            if lost:
                closed = "its connection was closed" if now >= alarmed else "no sign of life"
                self.last_words(lost, f"{closed}, silent for {max(quiet.values()):.0f} s")
            if now - alarmed > _UNKNOWN:
                self.last_words([], error)


def kept(folder: Path | None) -> str:
    """What there is to go on from."""
    if folder is None:
        return "there is no checkpoint"
    steps = [int(entry.name) for entry in (folder / "checkpoints").glob("[0-9]*") if entry.name.isdecimal()]
    return f"the last checkpoint is step {max(steps)} in {folder}" if steps else f"no checkpoint is in {folder} yet"


def say(line: str) -> None:
    """A line on stderr, past all that Python may hold there."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
    with contextlib.suppress(OSError):
        os.write(2, f"{line}\n".encode())


_HANDLERS: list[Any] = []


def at_abort(words: Any) -> None:
    """Calls that when C++ ends the process by `abort`, of which Python does not hear; None for nothing any more.

    A handler of Python's `signal` would only be called later, by an interpreter that is no more.
    """
    if os.name != "posix":
        return
    system = ctypes.CDLL(None)
    system.signal.argtypes, system.signal.restype = [ctypes.c_int, ctypes.c_void_p], ctypes.c_void_p
    handler = ctypes.CFUNCTYPE(None, ctypes.c_int)(lambda _: words()) if words else None
    _HANDLERS.append(handler)  # as long as the process lives, C++ may call it
    system.signal(signal.SIGABRT, ctypes.cast(handler, ctypes.c_void_p) if handler else None)
