"""An asyncio loop in a thread of its own: what Kafka and Redis want on time is not kept waiting by whoever computes."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Collection, Coroutine
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, Final, TypeVar

T = TypeVar("T")

_CLOSING_SECONDS: Final = 5.0
"""So long what is cancelled may take to end."""
_INSISTING_SECONDS: Final = 0.2


async def cancel(tasks: Collection[asyncio.Task[Any]]) -> None:
    """Cancel tasks until they have ended: what waits for a client may swallow that it is cancelled (`asyncio.wait_for`
    of Python 3.11 does, where the answer has just come), so it is told again."""
    while left := [task for task in tasks if not task.done()]:
        for task in left:
            task.cancel()
        await asyncio.wait(left, timeout=_INSISTING_SECONDS)


class EventLoop:
    """Runs coroutines for other threads."""

    def __init__(self, name: str) -> None:
        """`name`: of the thread."""
        self._loop = asyncio.new_event_loop()
        self._guard = threading.Lock()
        self._is_closing = False
        self._under_way: set[Future[Any]] = set()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def submit(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Begin something; what is submitted by one thread begins in that order. After `close` it is cancelled at
        once: nobody waits for ever for what nobody does any more."""
        with self._guard:
            if not self._is_closing:
                future = asyncio.run_coroutine_threadsafe(work, self._loop)
                self._under_way.add(future)
                future.add_done_callback(self._under_way.discard)
                return future
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
        except BaseException:
            future.cancel()
            raise

    def close(self, last: Callable[[], Awaitable[None]] | None = None) -> None:
        """Cancel what is under way, do one last thing, and end the thread. A second time nothing happens."""

        async def end() -> None:
            with suppress(TimeoutError):  # nobody waits for them for ever
                async with asyncio.timeout(_CLOSING_SECONDS):
                    await cancel(asyncio.all_tasks() - {asyncio.current_task()})
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
            for future in list(self._under_way):
                future.cancel()
            self._loop.close()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()
