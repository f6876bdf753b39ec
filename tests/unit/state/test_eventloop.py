"""A loop in a thread: whoever waits for it is told when it ends."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import CancelledError
from contextlib import suppress

import pytest

from ostinato.state import eventloop
from ostinato.state.eventloop import EventLoop


@pytest.fixture
def loop() -> Iterator[EventLoop]:
    loop = EventLoop("test")
    yield loop
    loop.close()


async def forever() -> None:
    await asyncio.Event().wait()


async def answer(value: int) -> int:
    return value


def test_what_is_submitted_begins_in_that_order(loop: EventLoop) -> None:
    seen: list[int] = []

    async def note(number: int) -> None:
        seen.append(number)

    for number in range(5):
        loop.submit(note(number))
    assert loop.call(answer(5)) == 5
    assert seen == [0, 1, 2, 3, 4]


def test_a_function_is_called_there(loop: EventLoop) -> None:
    called = threading.Event()
    loop.soon(called.set)
    assert called.wait(10)


def test_waiting_that_ends_cancels_the_work(loop: EventLoop) -> None:
    ended = threading.Event()

    async def work() -> None:
        try:
            await forever()
        finally:
            ended.set()

    with pytest.raises(TimeoutError):
        loop.call(work(), 0.05)
    assert ended.wait(10)


def test_closing_ends_what_is_under_way(loop: EventLoop) -> None:
    under_way = loop.submit(forever())
    last: list[str] = []

    async def say() -> None:
        last.append("said")

    loop.close(say)
    with pytest.raises(CancelledError):
        under_way.result(10)
    assert last == ["said"]


def test_what_comes_after_closing_is_cancelled_at_once(loop: EventLoop) -> None:
    """Seen to fail when it was handed to the loop that had ended: a process waited for it for ever at its end."""
    loop.close()
    with pytest.raises(CancelledError):
        loop.submit(answer(1)).result(10)
    with pytest.raises(CancelledError):
        loop.call(answer(1))
    loop.soon(lambda: pytest.fail("called"))


def test_a_task_that_swallows_its_end_is_not_waited_for_for_ever(
    loop: EventLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(eventloop, "_CLOSING_SECONDS", 0.5)
    began = threading.Event()

    async def deaf() -> None:
        began.set()
        while True:
            with suppress(asyncio.CancelledError):
                await forever()

    future = loop.submit(deaf())
    assert began.wait(10)
    loop.close()
    with pytest.raises(CancelledError):  # nor does whoever waits for it
        future.result(10)


def test_a_task_that_swallows_its_end_once_is_told_again(loop: EventLoop) -> None:
    began, ended = threading.Event(), threading.Event()

    async def hard_of_hearing() -> None:
        began.set()
        try:
            with suppress(asyncio.CancelledError):
                await forever()
            await forever()
        finally:
            ended.set()

    loop.submit(hard_of_hearing())
    assert began.wait(10)
    loop.close()
    assert ended.is_set()
