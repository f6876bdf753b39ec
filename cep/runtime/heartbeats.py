"""Signs of life between the processes of a job, both ways: a process that is there but does nothing is found out.

A process that died is noticed by its connection at once. One that was stopped, or hangs, is noticed because it has not
been heard of; any message counts.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final

import msgspec

_START_SECONDS: Final = 60.0
"""So long a process may take until it is heard of for the first time: loading modules on a busy machine."""


class Heartbeats(msgspec.Struct, frozen=True):
    """How often a process gives a sign of life, and after what silence it is taken for dead. Milliseconds."""

    interval_ms: int = 1_000
    timeout_ms: int = 20_000


class Watch:
    """Over one other process."""

    def __init__(self, timeout_seconds: float) -> None:
        self._timeout = timeout_seconds
        self._looked = time.monotonic()
        self._heard = self._looked + max(0.0, _START_SECONDS - timeout_seconds)

    def heard(self) -> None:
        """It has said something; from any thread."""
        self._heard = time.monotonic()

    def silence(self) -> float | None:
        """How long it has not been heard of, in seconds, where that is too long. To be asked all the time."""
        now = time.monotonic()
        if now - self._looked > self._timeout / 2:
            # It was this process that stood still: what the other one has said is still to be read.
            self._heard = max(self._heard, now)
        self._looked = now
        silent = now - self._heard
        return silent if silent > self._timeout else None


class Pulse:
    """Beats in a thread until it is ended."""

    def __init__(self, heartbeats: Heartbeats, beat: Callable[[], None]) -> None:
        """`beat` is called at each interval, and must not block."""
        self._seconds = heartbeats.interval_ms / 1000
        self._beat = beat
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heartbeats", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def end(self) -> None:
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while not self._ended.is_set():
            self._beat()
            self._ended.wait(self._seconds)
