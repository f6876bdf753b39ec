"""What other threads have for the one that waits, and that signals may interrupt.

`queue.SimpleQueue.get` with a timeout waits for ever where a signal's handler ran beyond the deadline (CPython 3.11),
and `queue.Queue` keeps its lock where the handler raises at the wrong moment.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from contextlib import suppress
from queue import Empty
from typing import Generic, TypeVar

T = TypeVar("T")


class Inbox(Generic[T]):
    """First in, first out; any thread may put, one may get."""

    def __init__(self) -> None:
        self._items: deque[T] = deque()
        self._closed = threading.Lock()
        """Open where something may have been put since the last look."""
        self._closed.acquire()

    def put(self, item: T) -> None:
        """Never waits; also for handlers of signals."""
        self._items.append(item)
        with suppress(RuntimeError):  # it is open
            self._closed.release()

    def get(self, timeout: float = 0.0) -> T:
        """The next item, for which it waits so many seconds at most. Raises `queue.Empty`."""
        deadline = time.monotonic() + timeout
        while True:
            with suppress(IndexError):
                return self._items.popleft()
            left = deadline - time.monotonic()
            # what was put before it was opened is seen after it: then there is another look
            if not (self._closed.acquire(timeout=left) if left > 0 else self._closed.acquire(blocking=False)):
                raise Empty
