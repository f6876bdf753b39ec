"""An asyncio loop in a thread of its own: what Kafka and Redis want on time is not kept waiting by whoever computes."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import CancelledError, Future
from typing import Any, Final, TypeVar

T = TypeVar("T")

_CLOSING_SECONDS: Final = 5.0
"""So long what is cancelled may take to end."""


class EventLoop:
    """Runs coroutines for other threads."""

    def __init__(self, name: str) -> None:
        """`name`: of the thread."""
        self._loop = asyncio.new_event_loop()
        self._guard = threading.Lock()
        self._is_closing = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def submit(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Begin something; what is submitted by one thread begins in that order. After `close` it is cancelled at
        once: nobody waits for ever for what nobody does any more."""
        with self._guard:
            if not self._is_closing:
                return asyncio.run_coroutine_threadsafe(work, self._loop)
        work.close()
        refused: Future[T] = Future()
        refused.cancel()
        refused.set_running_or_notify_cancel()
        return refused

    def soon(self, function: Callable[[], None]) -> None:
        """Call a function there, behind what was asked before; not after `close`."""
        with self._guard:
            if not self._is_closing:
                self._loop.call_soon_threadsafe(function)

    def call(self, work: Coroutine[Any, Any, T], timeout: float | None = None) -> T:
        """Wait for something, for `timeout` seconds at most. If the waiting ends early, it is cancelled.

        Raises TimeoutError, CancelledError (`concurrent.futures`) where the loop was closed, and what it raises.
        """
        future = self.submit(work)
        try:
            return future.result(timeout)
        except CancelledError:
            raise
        except BaseException:
            future.cancel()
            raise

    def close(self, last: Callable[[], Awaitable[None]] | None = None) -> None:
        """Cancel what is under way, do one last thing, and end the thread. A second time nothing happens."""

        async def end() -> None:
            others = asyncio.all_tasks() - {asyncio.current_task()}
            for task in others:
                task.cancel()
            if others:
                # a client's task may swallow that it is cancelled; nobody waits for it for ever
                await asyncio.wait(others, timeout=_CLOSING_SECONDS)
            if last is not None:
                await last()
            await self._loop.shutdown_asyncgens()

        with self._guard:
            if self._is_closing:
                return
            self._is_closing = True
            ending = asyncio.run_coroutine_threadsafe(end(), self._loop)
        try:
            ending.result()
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()
