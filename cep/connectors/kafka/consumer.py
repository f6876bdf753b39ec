"""aiokafka's consumer, giving blocks of records instead of one object for each.

aiokafka's fetcher names two classes where an answer has come: one that walks through its batches, and one that makes
records of them. Two of its methods are taken over here with other classes behind these names, for consumers of this
class only. What stands in them, and all the rest (positions, pauses, seeks, rebalances), is aiokafka's.
"""

from __future__ import annotations

import asyncio
import types
from collections.abc import Iterator
from typing import Any, cast

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.consumer import consumer as consumer_module
from aiokafka.consumer import fetcher as fetcher_module
from aiokafka.consumer.group_coordinator import GroupCoordinator
from aiokafka.errors import KafkaConnectionError, KafkaError
from aiokafka.record.memory_records import MemoryRecords

from ostinato.cep.connectors.base import ConnectorError
from ostinato.cep.connectors.kafka.options import Isolation
from ostinato.cep.connectors.kafka.records import RecordBlock, take_apart, warm
from ostinato.state.eventloop import cancel


class _RawRecords:
    """The bytes of an answer, in the place of aiokafka's `MemoryRecords`."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        # whether it has whole batches, which is asked before anything else is done
        self._has_next = MemoryRecords(data).has_next()

    def has_next(self) -> bool:
        return bool(self._has_next)

    def size_in_bytes(self) -> int:
        return len(self.data)


class _OneBlock:
    """All that came of a partition as one block, in the place of aiokafka's `PartitionRecords`."""

    def __init__(
        self,
        place: TopicPartition,
        records: _RawRecords,
        aborted: list[tuple[int, int]] | None,
        fetch_offset: int,
        _key_deserializer: object,
        _value_deserializer: object,
        _check_crcs: bool,
        isolation: int,
    ) -> None:
        self.next_fetch_offset = fetch_offset
        self._given = False
        self._place = place
        self._records = records
        self._aborted = aborted
        committed = isolation == fetcher_module.READ_COMMITTED
        self._isolation: Isolation = "read_committed" if committed else "read_uncommitted"

    def __iter__(self) -> Iterator[RecordBlock]:
        return self

    def __next__(self) -> RecordBlock:
        if self._given:
            raise StopIteration
        block = take_apart(
            self._place.topic,
            self._place.partition,
            self._records.data,
            self.next_fetch_offset,
            self._aborted,
            self._isolation,
        )
        self._given = True
        self.next_fetch_offset = block.next_offset
        return block


def _over_again(method: Any, **names: Any) -> Any:
    """The same function with other things behind these of its global names."""
    unknown = names.keys() - set(method.__code__.co_names)
    if unknown or method.__closure__:
        import aiokafka

        raise ConnectorError(
            f"aiokafka {aiokafka.__version__} is not the one that this was made for ({method.__qualname__} has no "
            f"{', '.join(sorted(unknown))}); install another version of it, such as 0.14.0"
        )
    made = types.FunctionType(method.__code__, {**method.__globals__, **names}, method.__name__, method.__defaults__)
    made.__kwdefaults__ = method.__kwdefaults__
    made.__qualname__ = method.__qualname__
    return made


class BulkFetcher(fetcher_module.Fetcher):  # type: ignore[misc]  # aiokafka has no types
    """A fetcher whose results are blocks."""

    _proc_fetch_request = _over_again(
        fetcher_module.Fetcher._proc_fetch_request, MemoryRecords=_RawRecords, PartitionRecords=_OneBlock
    )


class StoppingCoordinator(GroupCoordinator):  # type: ignore[misc]
    """A coordinator that joins again in time.

    The heartbeats end before it does. Where they swallow that they are cancelled aiokafka waits for what goes on, and
    the whole group with it until the rebalance is given up.
    """

    _heartbeat_task: asyncio.Task[None] | None
    _commit_refresh_task: asyncio.Task[None] | None

    async def _stop_heartbeat_task(self) -> None:
        task, self._heartbeat_task = self._heartbeat_task, None
        await _end(task)

    async def _stop_commit_offsets_refresh_task(self) -> None:
        task, self._commit_refresh_task = self._commit_refresh_task, None
        await _end(task)


async def _end(task: asyncio.Task[None] | None) -> None:
    """Raises what it failed with meanwhile."""
    if task is not None and not task.done():
        await cancel([task])
        if not task.cancelled():
            task.result()


class BulkConsumer(AIOKafkaConsumer):  # type: ignore[misc]
    """A consumer whose `getmany` gives blocks of records, of each partition at most one at a time.

    A block may have no records, where there was nothing but aborted ones and marks of transactions; its `next_offset`
    has moved then. A damaged batch raises SourceError. Limits of records do not hold, those of bytes do.
    """

    _start = _over_again(
        consumer_module.AIOKafkaConsumer.start, Fetcher=BulkFetcher, GroupCoordinator=StoppingCoordinator
    )

    async def start(self) -> None:
        # what takes seconds is done before anybody waits for heartbeats
        warm()
        await self._start()

    async def getmany(
        self, *partitions: TopicPartition, timeout_ms: int = 0, max_blocks: int | None = None
    ) -> dict[TopicPartition, list[RecordBlock]]:
        """Blocks of these partitions, of all that are assigned where none is named, as soon as there are any.

        Waits `timeout_ms` at most. `max_blocks` or fewer are given; what else there is waits as the broker sent it.
        Raises SourceError, and what aiokafka raises.
        """
        # a block is to aiokafka what a record is
        found = await super().getmany(*partitions, timeout_ms=timeout_ms, max_records=max_blocks)
        return cast("dict[TopicPartition, list[RecordBlock]]", found)

    async def all_partitions(self) -> dict[str, set[int]]:
        """The topics that can be seen, and their partitions, as they are now. Topics of Kafka's own are left out.

        Asking so makes no topic, as asking for one by its name may. Raises KafkaConnectionError.
        """
        try:
            cluster = await self._client.fetch_all_metadata()
        except KafkaConnectionError:
            raise
        except KafkaError as error:
            raise KafkaConnectionError(str(error)) from error
        return {topic: set(cluster.partitions_for_topic(topic) or ()) for topic in cluster.topics()}
