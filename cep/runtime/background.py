"""Work that may block, done by one thread of its own, one piece after the other."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Outcome(Generic[T]):
    """What came of a piece of work, once `done`: `error`, or the value of `get`."""

    def __init__(self) -> None:
        self.done = False
        self.error: Exception | None = None
        self._value: list[T] = []

    def get(self) -> T:
        """Raises what the work has raised."""
        if self.error is not None:
            raise self.error
        return self._value[0]

    def finish(self, work: Callable[[], T]) -> None:
        """Do it."""
        try:
            self._value.append(work())
        except Exception as error:  # noqa: BLE001 - whoever asked for the work gets it
            self.error = error
        self.done = True


class Background:
    """Its thread begins with the first piece of work, and does not keep the process alive."""

    def __init__(self, name: str, wake: Callable[[], None] = lambda: None) -> None:
        """`wake` is called in the thread whenever something is done."""
        self._name = name
        self._wake = wake
        self._work: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._submitted = 0  # counted by the thread that submits
        self._finished = 0  # and by the one that works

    @property
    def busy(self) -> bool:
        """Is there anything left to do?"""
        return self._submitted != self._finished

    def submit(self, work: Callable[[], T]) -> Outcome[T]:
        """Have it done after all that was submitted before. From one thread only."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
            self._thread.start()
        outcome: Outcome[T] = Outcome()
        self._submitted += 1
        self._work.put(lambda: outcome.finish(work))
        return outcome

    def close(self, wait_seconds: float) -> bool:
        """Do what is left and end, for so long at most; whether it has ended."""
        if self._thread is None:
            return True
        self._work.put(None)
        self._thread.join(wait_seconds)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while (work := self._work.get()) is not None:
            work()
            self._finished += 1  # after `done` is set: who finds nothing left to do finds all of it done
            self._wake()
