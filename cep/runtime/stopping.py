"""Stopping between two entries: an interrupt never cuts through a write."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class StopRequested(BaseException):
    """Somebody asked the job to stop while it was waiting for input."""


class Stop:
    """Whether a job has been asked to stop, by `signal` 0 where by the program itself."""

    def __init__(self) -> None:
        self.requested = False
        self.signal = 0
        self._waiting = False

    def request(self, signal: int = 0) -> None:
        """Ask; safe in a signal handler. A second request in earnest, while the first is not yet dealt with, raises.

        Raises:
            StopRequested: the job waits for input, which nothing else could end; or it was asked before.
        """
        again = self.requested
        self.requested = True
        self.signal = signal or self.signal
        if self._waiting or (again and signal):
            raise StopRequested

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Around everything that may wait long and can be given up at any point."""
        self._waiting = True
        try:
            if self.requested:
                raise StopRequested
            yield
        finally:
            self._waiting = False
