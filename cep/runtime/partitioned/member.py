"""A member of the job's consumer group: it hears which partitions are its own, and reads them.

All of it lives in one event loop, in a thread of its own: heartbeats go out however long a kernel computes. What it has
to say goes into an inbox for the thread that computes.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.abc import ConsumerRebalanceListener
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError, NoOffsetForPartitionError, OffsetOutOfRangeError
from aiokafka.protocol.group import HeartbeatRequest

from ostinato.cep.connectors.kafka.consumer import BulkConsumer
from ostinato.cep.connectors.kafka.errors import KafkaUnavailableError, NotAMemberError, explain
from ostinato.cep.connectors.kafka.producers import Offsets, PlainProducer, Producer, TransactionalProducer
from ostinato.cep.runtime.inbox import Inbox
from ostinato.cep.runtime.partitioned.assignor import make_assignor
from ostinato.cep.runtime.partitioned.cluster import Cluster
from ostinato.cep.runtime.partitioned.setup import Setup
from ostinato.state.eventloop import EventLoop
from ostinato.state.steps import reached

if TYPE_CHECKING:
    from ostinato.cep.connectors.kafka.records import RecordBlock

_POLL_MS: Final = 100
_RETRY_SECONDS: Final = 0.5
_PUZZLES: Final = 10
_PUZZLE_SECONDS: Final = 60.0
"""So often within so long the group may be joined again after an answer that nobody understands."""
_QUEUED_BYTES: Final = 16 << 20
"""So much of one partition may wait to be computed; then it is read no further for now."""
_SMALL_BYTES: Final = 64 << 10
_BREATH: Final = (0.1, 0.02)
"""Where less than this has come, the next look waits for so much of the time between two commits, and so many seconds
at most: before its commit nobody sees what comes of a record, and a few records take as much work as a thousand."""
_REBALANCE_MS: Final = 30_000
"""So long a rebalance waits for members that live; aiokafka would take the session's timeout, which is for the dead."""
_REVOKE_SECONDS: Final = 20.0
"""So much of it is given to what was begun."""


@dataclass(frozen=True, slots=True)
class Assigned:
    """These partition numbers are ours from now on, and no others."""

    numbers: frozenset[int]


@dataclass(frozen=True, slots=True)
class Revoked:
    """A rebalance begins: commit what was begun, then call `done`."""

    done: Callable[[], None]


@dataclass(frozen=True, slots=True)
class Fetched:
    """Records have come; `epoch` is that of `begin_reading`."""

    number: int
    topic: str
    block: RecordBlock
    epoch: int


@dataclass(frozen=True, slots=True)
class Gone:
    """What should be read next is not there any more."""

    number: int
    topic: str
    offset: int


@dataclass(frozen=True, slots=True)
class Failed:
    """The member cannot go on."""

    error: BaseException


News: TypeAlias = Assigned | Revoked | Fetched | Gone | Failed | None
"""None: somebody wants to be looked after."""


class Member(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka has no types
    """One consumer of the group. Methods that are no coroutines may be called from any thread."""

    def __init__(self, setup: Setup, announce: Callable[[str], None], instance: str | None = None) -> None:
        """`instance`: by which the group knows us again when we come back at once; None: by nothing."""
        self._instance = instance
        self.inbox: Inbox[News] = Inbox()
        self.loop = EventLoop("kafka")
        self._setup = setup
        self._announce = announce
        self._connection = setup.sources[0].connection
        self._place = f"group {setup.job} at {self._connection.servers}"
        self._owned: set[int] = set()
        self._reading: dict[TopicPartition, int] = {}
        self._paused: set[TopicPartition] = set()
        self._given: dict[TopicPartition, int] = {}
        """Bytes that were put into the inbox."""
        self._ends: dict[TopicPartition, int] = {}
        self._consumer: AIOKafkaConsumer | None = None
        self._admin: AIOKafkaAdminClient | None = None
        self._cluster: Cluster | None = None
        self._fetching: asyncio.Task[None] | None = None
        self._queued: Callable[[int, str], tuple[int, int]] = lambda _number, _topic: (0, 0)
        self._revocation = asyncio.Event()
        self._puzzles: list[float] = []

    def start(self, queued: Callable[[int, str], tuple[int, int]]) -> None:
        """Join the group. `queued` says how many bytes of a partition wait, and how many were taken from the inbox.

        Raises ConnectorError.
        """
        self._queued = queued
        self.loop.call(self._start())

    def close(self, *, leave: bool = True) -> None:
        """Leave the group, or drop out of it without a word."""
        try:
            self.loop.call(self._stop(leave=leave), 30.0)
        except TimeoutError:
            self._announce(f"{self._place} did not let us go within 30 s")
        finally:
            self.loop.close()

    @property
    def reading(self) -> Collection[TopicPartition]:
        """What is read at the moment; for coroutines of the loop."""
        return self._reading.keys()

    # For tasks

    @property
    def cluster(self) -> Cluster:
        """What Kafka knows; its coroutines are for the loop."""
        assert self._cluster is not None, "the member has not been started"
        return self._cluster

    def make_producer(self, number: int, *, routing: bool) -> Producer:
        """Belongs to the loop."""
        setup = self._setup
        if setup.is_exact:
            return TransactionalProducer(setup.producers, setup.transactional_id(number, routing=routing), setup.job)
        return PlainProducer(setup.producers, f"output of partition {number}", self._commit_offsets)

    async def confirm(self) -> None:
        """Ask the group whether we are still in it: whoever has been paused for long must not fence off its heir.

        Raises NotAMemberError.
        """
        consumer = self._consumer
        coordinator = None if consumer is None else consumer._coordinator
        if coordinator is None or coordinator.generation < 0:
            raise NotAMemberError(f"{self._place}: we are no member at the moment")
        request = HeartbeatRequest(coordinator.group_id, coordinator.generation, coordinator.member_id)
        try:
            answer = await coordinator._send_req(request)
        except Exception as error:
            raise NotAMemberError(f"{self._place}: {error}") from error
        if answer.error_code:
            raise NotAMemberError(f"{self._place}: the group is being rebalanced (code {answer.error_code})")

    def begin_reading(self, number: int, next_: dict[str, int], epoch: int) -> None:
        """Let records come from these offsets on, by topic."""

        def begin() -> None:
            if self._consumer is None:
                return
            assigned = self._consumer.assignment()
            for topic, offset in next_.items():
                place = TopicPartition(topic, number)
                if place in assigned:
                    self._consumer.seek(place, offset)
                    self._consumer.resume(place)
                    self._paused.discard(place)
                    self._reading[place] = epoch

        self.loop.soon(begin)

    def stop_reading(self, number: int, topics: Collection[str]) -> None:
        """Let no more records of these topics' partition come."""

        def stop() -> None:
            for place in [each for each in self._reading if each.partition == number and each.topic in topics]:
                del self._reading[place]
                if self._consumer is not None and place in self._consumer.assignment():
                    self._consumer.pause(place)

        self.loop.soon(stop)

    def lag(self, number: int, next_: dict[str, int]) -> int:
        """How many offsets lie between these and the ends, as far as they are known."""
        ends = self._ends
        return sum(max(0, ends.get(TopicPartition(topic, number), at) - at) for topic, at in next_.items())

    async def look_at_ends(self) -> None:
        """Ask where the partitions end that are read: one of which nothing is fetched any more says nothing itself."""
        assert self._consumer is not None
        reading = list(self._reading.keys() & self._consumer.assignment())
        if reading:
            self._ends |= await self.cluster.ends(reading)

    def wake(self) -> None:
        """Let the thread that computes look around."""
        self.inbox.put(None)

    # The group

    async def on_partitions_revoked(self, revoked: Any) -> None:  # noqa: ARG002 - all of them
        """A rebalance begins: nothing is read any more, and what was begun is committed first."""
        self._reading.clear()
        if not self._owned:
            return
        self._revocation = done = asyncio.Event()
        self.inbox.put(Revoked(lambda: self.loop.soon(done.set)))
        with suppress(TimeoutError):
            async with asyncio.timeout(_REVOKE_SECONDS):
                await done.wait()
        reached("txn.revoked")

    async def on_partitions_assigned(self, assigned: Any) -> None:
        """Whoever takes a partition over says from where on it is to be read."""
        assert self._consumer is not None
        self._reading.clear()
        self._paused.clear()
        self._ends = {}
        for place in assigned:
            self._consumer.seek(place, 0)
            self._consumer.pause(place)
        self._owned.clear()
        self._owned.update(place.partition for place in assigned)
        self.inbox.put(Assigned(frozenset(self._owned)))

    # The details

    async def _start(self) -> None:
        source = self._setup.sources[0]
        given = self._connection.settings()
        self._consumer = consumer = BulkConsumer(
            **given,
            group_id=self._setup.job,
            enable_auto_commit=False,
            auto_offset_reset="none",
            isolation_level=source.isolation,
            session_timeout_ms=source.session_timeout_ms,
            heartbeat_interval_ms=source.heartbeat_interval_ms,
            max_poll_interval_ms=source.max_poll_interval_ms,
            rebalance_timeout_ms=max(_REBALANCE_MS, source.session_timeout_ms),
            fetch_max_bytes=source.fetch_max_bytes,
            max_partition_fetch_bytes=source.max_partition_fetch_bytes,
            fetch_max_wait_ms=source.fetch_max_wait_ms,
            partition_assignment_strategy=[make_assignor(self._owned)],
            group_instance_id=self._instance,
        )
        self._admin = AIOKafkaAdminClient(**given)
        self._cluster = cluster = Cluster(self._setup, consumer, self._admin, self._announce)
        try:
            await self._admin.start()
            await cluster.check_topics()
            patterns = [each.pattern for each in self._setup.sources if each.pattern is not None]
            if patterns:
                named = [re.escape(topic) for each in cluster.all_sources for topic in each.topics]
                consumer.subscribe(pattern="|".join(f"(?:{each})$" for each in (*patterns, *named)), listener=self)
            else:
                topics = {topic for each in cluster.all_sources for topic in each.topics}
                consumer.subscribe(topics=sorted(topics), listener=self)
            await consumer.start()
        except BaseException as error:
            await self._stop(leave=False)
            if isinstance(error, Exception):
                raise explain(error, self._place) from error
            raise
        self._fetching = asyncio.get_running_loop().create_task(self._fetch())
        self._fetching.add_done_callback(self._on_fetching_ended)

    async def _stop(self, *, leave: bool) -> None:
        self._owned.clear()
        self._revocation.set()  # nobody is there any more to answer it
        fetching, self._fetching = self._fetching, None
        if fetching is not None:
            fetching.cancel()
            await asyncio.gather(fetching, return_exceptions=True)
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            if consumer._coordinator is not None:
                if leave:
                    consumer._coordinator._group_instance_id = None  # so that it says that we leave
                else:
                    consumer._coordinator.generation = -1
            with suppress(Exception):
                await consumer.stop()
        admin, self._admin = self._admin, None
        if admin is not None:
            with suppress(Exception):
                await admin.close()

    async def _fetch(self) -> None:
        """Read what is ours, for as long as we live."""
        consumer = self._consumer
        assert consumer is not None
        while True:
            try:
                self._hold_back(consumer)
                found = await consumer.getmany(timeout_ms=_POLL_MS)
            except asyncio.CancelledError:
                raise
            except NoOffsetForPartitionError:
                continue  # of a partition that has just come, and that nobody reads yet
            except OffsetOutOfRangeError as error:
                for place, offset in dict(error.args[0]).items():
                    self.inbox.put(Gone(place.partition, place.topic, offset))
                await asyncio.sleep(_RETRY_SECONDS)
                continue
            except Exception as error:  # noqa: BLE001 - it is judged by whoever runs the job
                said = explain(error, self._place)
                if (
                    not isinstance(said, KafkaUnavailableError)
                    and not getattr(error, "retriable", False)
                    and not self._join_again(consumer, error)
                ):
                    self.inbox.put(Failed(said))
                    return
                await asyncio.sleep(_RETRY_SECONDS)
                continue
            size = 0
            for place, blocks in found.items():
                epoch = self._reading.get(place)
                if epoch is None:
                    continue
                for block in blocks:
                    size += block.size
                    self._given[place] = self._given.get(place, 0) + block.size
                    self.inbox.put(Fetched(place.partition, place.topic, block, epoch))
            self._note_ends(consumer)
            if 0 < size < _SMALL_BYTES:
                # what comes meanwhile waits with the broker, and comes together
                part, most = _BREATH
                await asyncio.sleep(min(most, self._setup.interval_ms / 1000 * part))

    def _join_again(self, consumer: AIOKafkaConsumer, error: Exception) -> bool:
        """Has the coordinator only said something that aiokafka does not know? Its heartbeats have ended then, but for
        that nothing has happened: joining the group begins them anew. Not over and over again."""
        coordinator = consumer._coordinator
        now = asyncio.get_running_loop().time()
        self._puzzles = [moment for moment in self._puzzles if moment > now - _PUZZLE_SECONDS]
        alive = coordinator is not None and not coordinator._coordination_task.done()
        if type(error) is not KafkaError or not alive or len(self._puzzles) >= _PUZZLES:
            return False
        if not self._puzzles or self._puzzles[-1] < now - 2 * _RETRY_SECONDS:  # else it is the same one once more
            self._puzzles.append(now)
            self._announce(f"{self._place}: {error}; the group is joined again")
        coordinator.request_rejoin()
        return True

    def _on_fetching_ended(self, task: asyncio.Task[None]) -> None:
        """Nobody reads any more: that must not go unnoticed."""
        if not task.cancelled() and (error := task.exception()) is not None:
            self.inbox.put(Failed(error))

    def _hold_back(self, consumer: AIOKafkaConsumer) -> None:
        """Pause partitions of which much waits, and let others go on."""
        for place in self._reading.keys() & consumer.assignment():
            waiting, taken = self._queued(place.partition, place.topic)
            # what the thread that computes has not even looked at counts as well
            queued = waiting + self._given.get(place, 0) - taken
            if place not in self._paused and queued > _QUEUED_BYTES:
                self._paused.add(place)
                consumer.pause(place)
            elif place in self._paused and queued < _QUEUED_BYTES // 2:
                self._paused.discard(place)
                consumer.resume(place)

    def _note_ends(self, consumer: AIOKafkaConsumer) -> None:
        ends = {}
        for place in self._reading.keys() & consumer.assignment():
            end = consumer.last_stable_offset(place)
            if end is None or end < 0:
                end = consumer.highwater(place)
            if end is not None and end >= 0:
                ends[place] = end
        self._ends = {place: max(end, self._ends.get(place, end)) for place, end in ends.items()}

    async def _commit_offsets(self, offsets: Offsets) -> None:
        assert self._consumer is not None
        await self._consumer.commit({TopicPartition(*place): held for place, held in offsets.items()})
