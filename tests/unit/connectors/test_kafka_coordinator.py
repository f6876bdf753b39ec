"""A member of a consumer group stops its heartbeats before it joins again."""

from __future__ import annotations

import asyncio

import pytest

from ostinato.cep.connectors.kafka.consumer import StoppingCoordinator


def coordinator_of(heartbeats: asyncio.Task[None]) -> StoppingCoordinator:
    made = StoppingCoordinator.__new__(StoppingCoordinator)
    made._heartbeat_task = heartbeats
    return made


async def begun(deaf_to: int, failure: Exception | None = None) -> asyncio.Task[None]:
    """Heartbeats that swallow so many cancellations."""
    began = asyncio.Event()

    async def beat() -> None:
        heard = 0
        while True:
            began.set()
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                if failure is not None:
                    raise failure from None
                if heard >= deaf_to:
                    raise
                heard += 1

    task = asyncio.create_task(beat())
    await began.wait()
    return task


@pytest.mark.parametrize("deaf_to", [0, 1, 2])
def test_heartbeats_end_though_a_cancellation_is_swallowed(deaf_to: int) -> None:
    """Seen to fail with aiokafka's own: it waits for the task, and the rebalance for the member."""

    async def run() -> None:
        task = await begun(deaf_to)
        made = coordinator_of(task)
        async with asyncio.timeout(20):
            await made._stop_heartbeat_task()
        assert task.cancelled()
        assert made._heartbeat_task is None
        await made._stop_heartbeat_task()

    asyncio.run(run())


def test_what_they_failed_with_is_told() -> None:
    async def run() -> None:
        task = await begun(0, ValueError("not in this group"))
        with pytest.raises(ValueError, match="not in this group"):
            await coordinator_of(task)._stop_heartbeat_task()

    asyncio.run(run())
