"""An asyncio loop in a thread of its own: what Kafka wants on time is not kept waiting by whoever computes."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any, Final, TypeVar

T = TypeVar("T")

_CLOSING_SECONDS: Final = 5.0
"""So long what is cancelled may take to end."""


class EventLoop:
    """Runs coroutines for other threads."""

    def __init__(self, name: str) -> None:
        """`name`: of the thread."""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def submit(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Begin something; what is submitted by one thread begins in that order."""
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def soon(self, function: Callable[[], None]) -> None:
        """Call a function there, behind what was asked before."""
        self._loop.call_soon_threadsafe(function)

    def call(self, work: Coroutine[Any, Any, T], timeout: float | None = None) -> T:
        """Wait for something, for `timeout` seconds at most. If the waiting ends early, it is cancelled.

        Raises TimeoutError, and what it raises.
        """
        future = self.submit(work)
        try:
            return future.result(timeout)
        except BaseException:
            future.cancel()
            raise

    def close(self) -> None:
        """Cancel what is under way and end the thread."""

        async def end() -> None:
            others = asyncio.all_tasks() - {asyncio.current_task()}
            for task in others:
                task.cancel()
            if others:
                # a client's task may swallow that it is cancelled; nobody waits for it for ever
                await asyncio.wait(others, timeout=_CLOSING_SECONDS)
            await self._loop.shutdown_asyncgens()

        self.call(end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()
