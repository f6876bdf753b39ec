"""What tests ask of a Kafka, in calls that wait: topics, records, offsets. aiokafka does it, in a loop of each call."""

from __future__ import annotations

import asyncio
import socket
import struct
import uuid
from collections.abc import AsyncIterator, Coroutine, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, NamedTuple, TypeVar

T = TypeVar("T")
Isolation = Literal["read_committed", "read_uncommitted"]
Transaction = Literal["commit", "abort"]
Headers = tuple[tuple[str, bytes], ...]

_ANSWER_SECONDS = 60.0
"""How long a broker may take that is busy, or just begins."""
_MARKER_SECONDS = 5.0
"""How long it is waited for the end of a transaction that is committed already."""


class Given(NamedTuple):
    """A record to be written. Texts are UTF-8; None as the partition: by the key as Java's client does it, and 0 where
    there is none; None as the timestamp (ms): now."""

    key: bytes | str | None
    value: bytes | str | None
    partition: int | None = None
    headers: Iterable[tuple[str, bytes]] = ()
    timestamp: int | None = None


@dataclass(frozen=True, slots=True)
class Record:
    """A record as it stands in a partition; `timestamp` in ms."""

    key: bytes | None
    value: bytes | None
    headers: Headers
    partition: int
    offset: int
    timestamp: int


class Kafka:
    """A broker that answers at `servers`, for tests that use topics of their own."""

    def __init__(self, servers: str) -> None:
        self.servers = servers

    def unique(self, name: str) -> str:
        """This name with something behind it that no other test has."""
        return f"{name}-{uuid.uuid4().hex[:8]}"

    def create_topic(self, name: str, partitions: int = 1, config: Mapping[str, str] | None = None) -> str:
        """Make a topic, and wait until it can be used; its name is given back."""

        async def create() -> str:
            from aiokafka.admin import NewTopic

            async with self._admin() as admin:
                topic = NewTopic(name, partitions, 1, topic_configs=dict(config or {}))
                _raise_for(await admin.create_topics([topic]))
                await _eventually(lambda: self._partitions(admin, name), lambda found: len(found) == partitions)
            return name

        return _run(create())

    def delete_topic(self, name: str) -> None:
        async def delete() -> None:
            async with self._admin() as admin:
                _raise_for(await admin.delete_topics([name]))
                await _eventually(lambda: self._partitions(admin, name), lambda found: not found)

        _run(delete())

    def partitions(self, topic: str) -> list[int]:
        """Those there are, none of a topic that is not there."""

        async def ask() -> list[int]:
            async with self._admin() as admin:
                return await self._partitions(admin, topic)

        return _run(ask())

    def produce(self, topic: str, records: Iterable[tuple[Any, ...]], transaction: Transaction | None = None) -> None:
        """Append records, each a `Given` or a tuple of as many of its fields as are wanted.

        `transaction`: they are all of one that is committed or aborted; otherwise they are in none. It is waited until
        they can be read, or passed over, by read_committed; but not for long, as a transaction of somebody else may be
        open before them.
        """
        _run(self._produce(topic, [Given(*record) for record in records], transaction))

    def read(
        self,
        topic: str,
        isolation: Isolation = "read_committed",
        until: Mapping[int, int] | None = None,
        start: Mapping[int, int] | None = None,
    ) -> list[Record]:
        """What stands in a topic now, by partition and offset.

        `until`: partition -> offset to end before, that may have to be waited for; without it, what can be read now.
        The marker that ends a transaction comes a little after the answer to its producer: who reads what has just been
        committed says ``until=kafka.end_offsets(topic)``.
        `start`: partition -> offset to begin with; without it, the first there is.
        """
        return _run(self._read(topic, isolation, until, start or {}))

    def end_offsets(self, topic: str, isolation: Isolation = "read_uncommitted") -> dict[int, int]:
        """Partition -> the offset behind the last record; read_committed: behind which a transaction is open."""

        async def ask() -> dict[int, int]:
            async with self._consumer(isolation) as consumer:
                ends = await consumer.end_offsets(await self._all_of(consumer, topic))
                return {tp.partition: offset for tp, offset in sorted(ends.items())}

        return _run(ask())

    def committed(self, group: str) -> dict[tuple[str, int], tuple[int, str]]:
        """(topic, partition) -> offset and metadata that a group has committed."""

        async def ask() -> dict[tuple[str, int], tuple[int, str]]:
            from aiokafka.errors import KafkaError

            async with self._admin() as admin:
                offsets: dict[Any, Any] = {}
                for attempt in range(100):
                    try:
                        offsets = await admin.list_consumer_group_offsets(group)
                        break
                    except KafkaError as error:
                        # the coordinator of groups comes to be when it is first asked for, and loads after a start
                        if not error.retriable or attempt == 99:
                            raise
                        await asyncio.sleep(0.05)
                return {(tp.topic, tp.partition): (at.offset, at.metadata) for tp, at in offsets.items()}

        return _run(ask())

    def delete_records(self, topic: str, before: Mapping[int, int]) -> None:
        """Delete what stands before an offset, as retention does: partition -> offset."""

        async def delete() -> None:
            from aiokafka import TopicPartition
            from aiokafka.admin import RecordsToDelete

            async with self._admin() as admin:
                await admin.delete_records(
                    {TopicPartition(topic, partition): RecordsToDelete(at) for partition, at in before.items()}
                )

        _run(delete())

    def lag(self, group: str) -> dict[tuple[str, int], int]:
        """(topic, partition) -> records that a group can read and has not committed.

        Only partitions that it has committed something in; markers of transactions count as records.
        """
        committed = self.committed(group)
        ends = {topic: self.end_offsets(topic, "read_committed") for topic in {topic for topic, _ in committed}}
        return {(topic, p): ends[topic][p] - offset for (topic, p), (offset, _) in committed.items()}

    async def _produce(self, topic: str, records: list[Given], transaction: Transaction | None) -> None:
        from aiokafka import AIOKafkaProducer

        options: dict[str, Any] = {"transactional_id": f"{topic}-{uuid.uuid4().hex}"} if transaction else {}
        producer = AIOKafkaProducer(
            bootstrap_servers=self.servers,
            enable_idempotence=True,
            max_batch_size=1 << 20,
            max_request_size=64 << 20,
            request_timeout_ms=int(_ANSWER_SECONDS * 1000),
            **options,
        )
        await producer.start()
        try:
            if transaction:
                await producer.begin_transaction()
            written = await _send(producer, topic, records)
            if transaction:
                await (producer.commit_transaction() if transaction == "commit" else producer.abort_transaction())
        finally:
            await producer.stop()
        if transaction:
            async with self._consumer("read_committed") as consumer:
                deadline = asyncio.get_running_loop().time() + _MARKER_SECONDS
                while asyncio.get_running_loop().time() < deadline:
                    ends = await consumer.end_offsets(list(written))
                    if all(ends[tp] > offset for tp, offset in written.items()):
                        break
                    await asyncio.sleep(0.01)

    async def _read(
        self, topic: str, isolation: Isolation, until: Mapping[int, int] | None, start: Mapping[int, int]
    ) -> list[Record]:
        from aiokafka import TopicPartition

        async with self._consumer(isolation) as consumer:
            partitions = await self._all_of(consumer, topic)
            if until is None:
                ends = await consumer.end_offsets(partitions)
            else:
                ends = {TopicPartition(topic, partition): end for partition, end in until.items()}
            consumer.assign(list(ends))
            begins = await consumer.beginning_offsets(list(ends))
            at = {tp: max(start.get(tp.partition, 0), begins[tp]) for tp in ends}
            for tp, offset in at.items():
                consumer.seek(tp, offset)
            records = []
            deadline = asyncio.get_running_loop().time() + _ANSWER_SECONDS
            while left := [tp for tp in ends if at[tp] < ends[tp]]:
                if asyncio.get_running_loop().time() > deadline:
                    missing = {tp.partition: (at[tp], ends[tp]) for tp in left}
                    raise AssertionError(f"{topic}: not read within {_ANSWER_SECONDS:g} s (at, end): {missing}")
                # without a limit of records: partitions that are done are left alone, not read on
                for tp, found in (await consumer.getmany(*left, timeout_ms=50)).items():
                    records += [_record(record) for record in found if record.offset < ends[tp]]
                for tp in left:
                    # moves over markers and aborted records as well, of which nothing is given
                    at[tp] = await consumer.position(tp)
        return sorted(records, key=lambda record: (record.partition, record.offset))

    @asynccontextmanager
    async def _admin(self) -> AsyncIterator[Any]:
        from aiokafka.admin import AIOKafkaAdminClient

        admin = AIOKafkaAdminClient(bootstrap_servers=self.servers, request_timeout_ms=int(_ANSWER_SECONDS * 1000))
        try:
            await admin.start()
            yield admin
        finally:
            await admin.close()

    @asynccontextmanager
    async def _consumer(self, isolation: Isolation) -> AsyncIterator[Any]:
        from aiokafka import AIOKafkaConsumer

        consumer = AIOKafkaConsumer(
            bootstrap_servers=self.servers,
            isolation_level=isolation,
            enable_auto_commit=False,
            group_id=None,
            auto_offset_reset="earliest",
            max_partition_fetch_bytes=64 << 20,
            fetch_max_wait_ms=50,
        )
        try:
            await consumer.start()
            yield consumer
        finally:
            await consumer.stop()

    async def _all_of(self, consumer: Any, topic: str) -> list[Any]:
        from aiokafka import TopicPartition

        async with self._admin() as admin:
            found = await self._partitions(admin, topic)
        if not found:
            raise AssertionError(f"there is no topic {topic!r}")
        partitions = [TopicPartition(topic, partition) for partition in found]
        consumer.assign(partitions)
        return partitions

    async def _partitions(self, admin: Any, topic: str) -> list[int]:
        # of all topics: to ask for one that is not there is to make it
        found = {about["topic"]: about["partitions"] for about in await admin.describe_topics()}
        return sorted(each["partition"] for each in found.get(topic, ()) if each["leader"] >= 0)


async def _send(producer: Any, topic: str, records: list[Given]) -> dict[Any, int]:
    """Append in batches that are built here: a tenth of the time that `send` takes for each record.

    Returns:
        partition -> an offset among them, in the last batch.
    """
    from aiokafka import TopicPartition

    known = sorted(await producer.partitions_for(topic))
    batches: dict[int, Any] = {}
    sent = []
    for record in records:
        key, value = _bytes(record.key), _bytes(record.value)
        partition = record.partition if record.partition is not None else _partition(key, len(known))
        fields = {"key": key, "value": value, "headers": list(record.headers), "timestamp": record.timestamp}
        batch = batches.get(partition)
        if batch is None or batch.append(**fields) is None:
            if batch is not None:
                sent.append(await producer.send_batch(batch, topic, partition=partition))
            batch = batches[partition] = producer.create_batch()
            if batch.append(**fields) is None:
                raise AssertionError("a record is larger than a batch may be")
    for partition, batch in batches.items():
        sent.append(await producer.send_batch(batch, topic, partition=partition))
    written: dict[Any, int] = {}
    for metadata in await asyncio.gather(*sent):
        tp = TopicPartition(metadata.topic, metadata.partition)
        written[tp] = max(written.get(tp, -1), metadata.offset)
    return written


@lru_cache(maxsize=1 << 16)
def _partition(key: bytes | None, count: int) -> int:
    from aiokafka.partitioner import murmur2

    return 0 if key is None else (int(murmur2(key)) & 0x7FFFFFFF) % count


def _record(record: Any) -> Record:
    return Record(record.key, record.value, tuple(record.headers), record.partition, record.offset, record.timestamp)


def _bytes(text: bytes | str | None) -> bytes | None:
    return text.encode() if isinstance(text, str) else text


def _raise_for(response: Any) -> None:
    from aiokafka.errors import for_code

    for topic, code, *_ in getattr(response, "topic_errors", None) or response.topic_error_codes:
        if code:
            raise for_code(code)(topic)


async def _eventually(ask: Any, holds: Any) -> None:
    deadline = asyncio.get_running_loop().time() + _ANSWER_SECONDS
    while not holds(await ask()):
        if asyncio.get_running_loop().time() > deadline:
            raise AssertionError(f"the broker did not do it within {_ANSWER_SECONDS:g} s")
        await asyncio.sleep(0.01)


def _run(asked: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(asked)


def answers(port: int) -> bool:
    """Does a broker of this machine know of itself, and so of what can be asked?"""
    # metadata (3) version 1 of no topics; the answer: length, correlation, number of brokers
    request = struct.pack(">hhih5si", 3, 1, 1, 5, b"tests", 0)
    try:
        with socket.create_connection(("127.0.0.1", port), 1) as connection:
            connection.settimeout(2)
            connection.sendall(struct.pack(">i", len(request)) + request)
            with connection.makefile("rb") as answer:
                head = answer.read(12)
    except OSError:
        return False
    return len(head) == 12 and struct.unpack(">i", head[8:])[0] > 0
