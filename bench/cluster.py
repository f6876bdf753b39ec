"""A broker of one's own, and what is asked of it: topics, records, how far a consumer group has come, who is in it."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, Self, TypeVar

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment
from aiokafka.errors import KafkaError
from aiokafka.partitioner import murmur2
from inputs import BENCH
from measure import BenchError

T = TypeVar("T")

BATCH_BYTES = 64 << 10
"""Of a batch of records in the topics: what a producer makes that lingers a little."""
KEY_AT = len('{"user":"')
"""Where the user begins in a login."""
_TRIES = 200
_PAUSE_SECONDS = 0.05
_LOOK_SECONDS = 0.005
_TURN_SECONDS = 120.0


class Held(NamedTuple):
    """Offset and metadata that a group has committed of a partition."""

    offset: int
    metadata: str


@dataclass(frozen=True)
class Turn:
    """When a partition went over to another worker, by `time.perf_counter`.

    Attributes:
        ended: the one before was told to end, or killed.
        assigned: the group had given it to the other one.
        committed: that one had committed something.
        readable: a match of it was read.
    """

    ended: float
    assigned: float
    committed: float
    readable: float


@contextmanager
def kafka() -> Iterator[str]:
    """Where a broker of one's own is."""
    process = subprocess.Popen(
        [sys.executable, str(BENCH / "serve_kafka.py")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        servers = process.stdout.readline().strip()
        if not servers:
            raise BenchError("no Kafka could be started; apt-get install default-jre-headless maven")
        yield servers
    finally:
        process.stdin.close()
        process.wait()
        process.stdout.close()


class Cluster:
    """Asks a broker, in calls that wait."""

    def __init__(self, servers: str) -> None:
        self.servers = servers
        self._runner = asyncio.Runner()
        self._admin: AIOKafkaAdminClient = None

    def __enter__(self) -> Self:
        async def start() -> AIOKafkaAdminClient:
            admin = AIOKafkaAdminClient(bootstrap_servers=self.servers)
            await admin.start()
            return admin

        self._admin = self._runner.run(start())
        return self

    def __exit__(self, *_: object) -> None:
        self._runner.run(self._admin.close())
        self._runner.close()

    def make_topic(self, name: str, partitions: int) -> str:
        """Make a topic; its name is given back."""

        async def make() -> None:
            await self._admin.create_topics([NewTopic(name, partitions, 1)])
            for _ in range(_TRIES):
                found = await self._admin.describe_topics()
                if any(each["topic"] == name and len(each["partitions"]) == partitions for each in found):
                    return
                await asyncio.sleep(_PAUSE_SECONDS)
            raise BenchError(f"topic {name} was not made")

        self._runner.run(make())
        return name

    def fill(self, topic: str, lines: Iterable[bytes], partitions: int) -> list[int]:
        """Append logins, keyed by their user; says how many went into each partition."""
        return self._runner.run(fill(self.servers, topic, lines, partitions))

    def committed(self, group: str) -> dict[tuple[str, int], Held]:
        """What a group has committed, by topic and partition."""

        async def ask() -> dict[tuple[str, int], Held]:
            found = await self._patiently(lambda: self._admin.list_consumer_group_offsets(group))
            return {(place.topic, place.partition): Held(held.offset, held.metadata) for place, held in found.items()}

        return self._runner.run(ask())

    def owners(self, group: str) -> dict[tuple[str, int], str]:
        """Which member has which partition, where no rebalance is under way; else nothing."""
        return owners_of(self._runner.run(self._describe(group)))

    def members(self, group: str) -> int:
        """How many there are, where no rebalance is under way; else none."""
        found = self._runner.run(self._describe(group))
        return len(found["members"]) if found["state"] == "Stable" else 0

    def take_over(
        self,
        group: str,
        place: tuple[str, int],
        former: str,
        target: str,
        end: Callable[[], None],
        lines: Sequence[bytes],
        user: str,
    ) -> Turn:
        """End the worker that has a partition, and watch how another goes on with it.

        Args:
            group: the job.
            place: topic and partition.
            former: the member that has it.
            target: the topic of the matches, of one partition.
            end: ends the worker.
            lines: are appended once another has the partition, and make a match.
            user: whose that is.
        """

        async def watch() -> Turn:
            async with AIOKafkaProducer(bootstrap_servers=self.servers) as producer, self._reader(target) as reader:
                await producer.partitions_for(place[0])
                offset = await self._offset(group, place)
                ended = time.perf_counter()
                await asyncio.to_thread(end)
                await _until(lambda: self._owner(group, place), lambda owner: owner not in (None, former))
                assigned = time.perf_counter()
                for line in lines:
                    value = line.rstrip(b"\n")
                    await producer.send(place[0], value, key_of(value), place[1])

                async def commit() -> float:
                    await _until(lambda: self._offset(group, place), lambda reached: reached > offset)
                    return time.perf_counter()

                async def match() -> float:
                    async for record in reader:
                        if json.loads(record.value)["user"] == user:
                            break
                    return time.perf_counter()

                return Turn(ended, assigned, *await asyncio.gather(commit(), match()))

        async def patiently() -> Turn:
            async with asyncio.timeout(_TURN_SECONDS):
                return await watch()

        try:
            return self._runner.run(patiently())
        except TimeoutError:
            raise BenchError(f"{group}: partition {place} was not taken over within {_TURN_SECONDS:g} s") from None

    @asynccontextmanager
    async def _reader(self, topic: str) -> AsyncIterator[AIOKafkaConsumer]:
        """Reads what is committed from now on, of a topic of one partition."""
        consumer = AIOKafkaConsumer(bootstrap_servers=self.servers, isolation_level="read_committed")
        async with consumer:
            place = TopicPartition(topic, 0)
            consumer.assign([place])
            await consumer.seek_to_end(place)
            await consumer.position(place)
            yield consumer

    async def _owner(self, group: str, place: tuple[str, int]) -> str | None:
        return owners_of(await self._describe(group)).get(place)

    async def _offset(self, group: str, place: tuple[str, int]) -> int:
        found = await self._admin.list_consumer_group_offsets(group)
        return int(found[TopicPartition(*place)].offset)

    async def _describe(self, group: str) -> dict[str, Any]:
        [answer] = await self._patiently(lambda: self._admin.describe_consumer_groups([group]))
        found: dict[str, Any] = answer.to_object()["groups"][0]
        return found

    async def _patiently(self, ask: Callable[[], Any]) -> Any:
        # the coordinator of groups comes to be when it is first asked for
        for left in reversed(range(_TRIES)):
            try:
                return await ask()
            except KafkaError as error:
                if not error.retriable or not left:
                    raise
                await asyncio.sleep(_PAUSE_SECONDS)
        raise AssertionError


async def _until(ask: Callable[[], Awaitable[T]], holds: Callable[[T], bool]) -> None:
    """Ask again and again."""
    while True:
        if holds(await ask()):
            return
        await asyncio.sleep(_LOOK_SECONDS)


def owners_of(group: dict[str, Any]) -> dict[tuple[str, int], str]:
    """Member by topic and partition, of a group as the broker describes it."""
    if group["state"] != "Stable":
        return {}
    found = {}
    for member in group["members"]:
        dealt = ConsumerProtocolMemberAssignment.decode(member["member_assignment"])
        for topic, numbers in dealt.assignment:
            found.update({(topic, number): member["member_id"] for number in numbers})
    return found


async def fill(servers: str, topic: str, lines: Iterable[bytes], partitions: int) -> list[int]:
    """See `Cluster.fill`. Batches are built here: a tenth of the time that `send` takes for each record."""
    counts = [0] * partitions
    async with AIOKafkaProducer(
        bootstrap_servers=servers, max_batch_size=BATCH_BYTES, max_request_size=BATCH_BYTES
    ) as producer:
        await producer.partitions_for(topic)
        batches: list[Any] = [None] * partitions
        sent: list[Any] = []
        for line in lines:
            value = line.rstrip(b"\n")
            key = key_of(value)
            number = partition_of(key, partitions)
            counts[number] += 1
            batch = batches[number]
            if batch is None or batch.append(key=key, value=value, timestamp=None) is None:
                if batch is not None:
                    sent.append(await producer.send_batch(batch, topic, partition=number))
                batch = batches[number] = producer.create_batch()
                batch.append(key=key, value=value, timestamp=None)
        for number, batch in enumerate(batches):
            if batch is not None:
                sent.append(await producer.send_batch(batch, topic, partition=number))
        await asyncio.gather(*sent)
    return counts


def key_of(value: bytes) -> bytes:
    """The user of a login."""
    return value[KEY_AT : value.index(b'"', KEY_AT)]


@lru_cache(maxsize=1 << 20)
def partition_of(key: bytes, partitions: int) -> int:
    """As Kafka's own clients do it."""
    return int(murmur2(key) & 0x7FFFFFFF) % partitions


def first_lines(path: Path, count: int) -> Iterator[bytes]:
    with path.open("rb") as lines:
        yield from islice(lines, count)


def total(held: dict[tuple[str, int], Held], topics: Sequence[str]) -> int:
    """Offsets of all partitions of these topics together."""
    return sum(max(0, each.offset) for (topic, _), each in held.items() if topic in topics)
