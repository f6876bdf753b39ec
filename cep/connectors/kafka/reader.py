"""Topics as the source of a whole job: all partitions are read by it, and where it is, its own checkpoints say.

A thread with an asyncio loop fetches; the job's thread takes blocks from a queue. A partition is a split. Its number is
its place in the order of topics and partitions when the job first began, and stays with it: partitions that come later
have the numbers behind.
"""

from __future__ import annotations

import asyncio
import logging
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from aiokafka import TopicPartition
from aiokafka.errors import KafkaConnectionError, KafkaError, OffsetOutOfRangeError

from ostinato.cep.connectors.base import CHUNK_BYTES, Chunk, Idle, SourceError
from ostinato.cep.connectors.kafka.consumer import BulkConsumer
from ostinato.cep.connectors.kafka.errors import KafkaUnavailableError, LostOffsetsError, explain, quiet_clients
from ostinato.cep.connectors.kafka.options import KafkaSource
from ostinato.cep.connectors.kafka.records import RecordBlock
from ostinato.state.eventloop import EventLoop

Say: TypeAlias = Callable[[str], None]

_WAIT_SECONDS: Final = 0.05
"""So long a topic is waited for before it is said to be idle."""
_POLL_MS: Final = 200
"""How long one look for records takes at most; what comes meanwhile is seen at once."""
_QUEUE_BYTES: Final = 32 << 20
"""So much may lie between the threads, and one block more: the rest waits as the broker sent it, or with the broker."""
_UNANSWERED_SECONDS: Final = 300.0
"""A cluster that does not answer for so long is taken for lost. Brokers are restarted in less."""
_STOP_SECONDS: Final = 30.0

_log = logging.getLogger("ostinato.kafka")


@dataclass(slots=True)
class _Place:
    """A partition, where reading goes on in it, and where it ends (None: never)."""

    split: int
    at: TopicPartition
    offset: int
    end: int | None = None

    @property
    def position(self) -> dict[str, Any]:
        position = {
            "split": self.split,
            "topic": self.at.topic,
            "partition": self.at.partition,
            "offset": self.offset,
        }
        return position if self.end is None else {**position, "end": self.end}


class KafkaReader:
    """Reads topics."""

    def __init__(self, source: KafkaSource, *, say: Say | None = None) -> None:
        """
        Args:
            source: what to read, and from where.
            say: told of what the user should know; None: the log ``ostinato.kafka``.

        Raises:
            SourceError: the cluster does not answer, a topic is not there, or may not be read.
        """
        self._source = source
        self._say = say or _log.warning
        self._pattern = re.compile(source.pattern) if source.pattern else None
        self._consumer: BulkConsumer | None = None
        self._places: dict[TopicPartition, _Place] = {}
        self._sought: set[TopicPartition] = set()
        self._queue: deque[tuple[_Place, RecordBlock]] = deque()
        self._queued_bytes = 0
        self._changed = threading.Condition()
        self._failure: BaseException | None = None
        self._is_over = False
        self._fetching: Future[None] | None = None
        self._task: asyncio.Task[None] | None = None
        self._room: asyncio.Event | None = None
        self._parts: deque[tuple[_Place, RecordBlock]] = deque()
        self.read_bytes = 0
        quiet_clients()
        self._loop: EventLoop | None = EventLoop("kafka-reader")
        try:
            self._loop.call(self._open())
        except BaseException as error:
            self.close()
            if isinstance(error, Exception):
                raise self._explained(error) from error
            raise

    @property
    def splits(self) -> int:
        return 1 + max((place.split for place in self._places.values()), default=-1)

    @property
    def total_bytes(self) -> int | None:
        return None

    def lag(self) -> dict[tuple[str, int], int]:
        """By how many offsets what was read of each partition (topic, number) is behind its end, as far as the broker
        has said where that is."""
        consumer, found = self._consumer, {}
        if consumer is not None and self._fetching is not None:
            for at in consumer.assignment() & self._places.keys():
                end = consumer.highwater(at)
                if end is not None and end >= 0:
                    found[at.topic, at.partition] = max(0, end - self._places[at].offset)
        return found

    def read(self) -> Chunk | Idle | None:
        try:
            return self._read()
        except SourceError:
            self.close()
            raise

    def seek(self, position: Mapping[str, Any]) -> None:
        """Go on behind the chunk that had this position. Raises SourceError where its partition is gone."""
        at = TopicPartition(position["topic"], position["partition"])
        self._halt()
        place = self._places.get(at)
        if place is None:
            raise SourceError(
                f"topic {at.topic} at {self._source.connection.servers}: the job had read its partition "
                f"{at.partition}, which is not there or not read any more; put it back, or start the job anew"
            )
        if not self._sought:
            # What is not in the checkpoint came later, and is read from its beginning.
            self._run(self._begin_new_ones())
        self._sought.add(at)
        place.split, place.offset = position["split"], position["offset"]
        if self._source.until is not None:
            # a job that is resumed ends where it would have ended
            place.end = position.get("end", place.end)
        self._number()

    def close(self) -> None:
        """End the thread and its connections."""
        loop, self._loop = self._loop, None
        if loop is None:
            return
        consumer, self._consumer = self._consumer, None
        try:
            loop.call(self._stop_fetching(), _STOP_SECONDS)
            if consumer is not None:
                loop.call(consumer.stop(), _STOP_SECONDS)
        except (KafkaError, OSError, TimeoutError):
            pass  # whoever closes wants nothing more of it
        finally:
            loop.close()

    # The job's thread

    def _read(self) -> Chunk | Idle | None:
        if self._parts:
            return self._next_part()
        if self._loop is None:
            raise SourceError(f"{self._source.place}: reading has ended")
        if self._fetching is None:
            self._begin()
            return self._next_part()
        with self._changed:
            self._changed.wait_for(lambda: self._queue or self._failure or self._is_over, _WAIT_SECONDS)
            if self._queue:
                place, block = self._queue.popleft()
                self._queued_bytes -= len(block.data)
                had_room = self._queued_bytes + len(block.data) < _QUEUE_BYTES
            elif self._failure is not None:
                failure, self._failure = self._failure, None
                raise self._explained(failure) from failure
            else:
                return None if self._is_over else Idle()
        if not had_room and self._room is not None:
            self._loop.soon(self._room.set)
        self._parts.extend((place, part) for part in block.parts(CHUNK_BYTES))
        return self._next_part()

    def _next_part(self) -> Chunk:
        place, block = self._parts.popleft()
        place.offset = block.next_offset
        self.read_bytes += block.size
        return Chunk(
            block,
            block.size,
            split=place.split,
            position=place.position,
            source=f"{block.topic}/{block.partition}",
            first_line=0,
            first_offset=int(block.offset[0]) if len(block) else block.next_offset,
        )

    def _begin(self) -> None:
        """Begin to fetch. Each partition first gives a chunk without records, for the place where it begins: a job that
        is resumed before anything came must not look for it again, where it would be another."""
        self._is_over, self._failure = False, None
        for place in sorted(self._places.values(), key=lambda place: place.split):
            self._parts.append((place, RecordBlock.empty(place.at.topic, place.at.partition, place.offset)))
        assert self._loop is not None
        self._fetching = self._loop.submit(self._fetch())

    def _halt(self) -> None:
        """Fetch no more, and forget what was fetched."""
        fetching, self._fetching = self._fetching, None
        if fetching is not None:
            self._run(self._stop_fetching())
        self._queue.clear()
        self._parts.clear()
        self._queued_bytes = 0

    def _run(self, work: Any) -> None:
        assert self._loop is not None
        try:
            self._loop.call(work)
        except Exception as error:
            self.close()
            raise self._explained(error) from error

    def _number(self) -> None:
        """Give numbers of splits to partitions that have none from a checkpoint: those that are free, in order."""
        taken = {self._places[at].split for at in self._sought}
        free = (number for number in range(len(self._places) + len(taken) + 1) if number not in taken)
        for at in sorted(self._places.keys() - self._sought):
            self._places[at].split = next(free)

    def _explained(self, error: BaseException) -> SourceError:
        made = explain(error, self._source.place)
        return made if isinstance(made, SourceError) else SourceError(str(made))

    # The loop's thread

    async def _open(self) -> None:
        """Find the partitions, and where they begin and end."""
        source = self._source
        self._room = asyncio.Event()
        self._consumer = BulkConsumer(
            **source.connection.settings(),
            group_id=None,
            enable_auto_commit=False,
            auto_offset_reset="none",
            isolation_level=source.isolation,
            fetch_max_bytes=source.fetch_max_bytes,
            max_partition_fetch_bytes=source.max_partition_fetch_bytes,
            fetch_max_wait_ms=source.fetch_max_wait_ms,
        )
        with _hearing() as heard:
            try:
                await self._consumer.start()
            except KafkaConnectionError as error:
                # why no broker could be used is only said to the log: refused, no such host, a wrong password
                raise KafkaConnectionError(heard.last or str(error)) from error
        found = await self._partitions()
        if not found:
            raise SourceError(f"{source.place}: there is no topic of such a name; create it, or check topic_pattern")
        starts = await self._starts(found)
        ends = await self._ends(found)
        self._places = {at: _Place(n, at, starts[at], ends.get(at)) for n, at in enumerate(found)}

    async def _partitions(self) -> list[TopicPartition]:
        """All partitions that are to be read, in order. Raises SourceError where a topic that is named is missing."""
        assert self._consumer is not None
        every = await self._consumer.all_partitions()
        if self._pattern is not None:
            topics = [topic for topic in every if self._pattern.fullmatch(topic)]
        else:
            topics = list(dict.fromkeys(self._source.topics))
        missing = [topic for topic in topics if not every.get(topic)]
        if missing:
            raise SourceError(
                f"topic {', '.join(missing)} at {self._source.connection.servers}: there is no such topic, or it may "
                "not be seen; create it (kafka-topics.sh --create), check its name, or allow it by an ACL "
                "(kafka-acls.sh --add --operation Describe --operation Read)"
            )
        found = sorted(TopicPartition(topic, number) for topic in topics for number in every[topic])
        # offsets are asked of a partition's leader, which the consumer looks up for what it has been told to watch
        await self._consumer._client.set_topics(sorted({at.topic for at in found}))
        return found

    async def _starts(self, found: list[TopicPartition]) -> dict[TopicPartition, int]:
        """Where reading begins."""
        assert self._consumer is not None
        start = self._source.start
        if start == "earliest":
            return dict(await self._consumer.beginning_offsets(found))
        ends = dict(await self._consumer.end_offsets(found))
        if isinstance(start, int):
            for at, there in (await self._consumer.offsets_for_times(dict.fromkeys(found, start))).items():
                if there is not None:
                    ends[at] = there.offset
        return ends

    async def _ends(self, found: list[TopicPartition]) -> dict[TopicPartition, int]:
        """Where reading ends; empty: nowhere."""
        assert self._consumer is not None
        until = self._source.until
        if until is None:
            return {}
        ends = dict(await self._consumer.end_offsets(found))
        if isinstance(until, int):
            for at, there in (await self._consumer.offsets_for_times(dict.fromkeys(found, until))).items():
                if there is not None:
                    ends[at] = there.offset
        return ends

    async def _begin_new_ones(self) -> None:
        """Let every partition begin with its first record."""
        assert self._consumer is not None
        for at, offset in (await self._consumer.beginning_offsets(list(self._places))).items():
            self._places[at].offset = offset

    async def _fetch(self) -> None:
        """Fetch until all is read, or something fails, which `read` is to say."""
        self._task = asyncio.current_task()
        try:
            await self._fetch_all()
        except asyncio.CancelledError:
            raise
        except Exception as error:  # noqa: BLE001 - it is raised in the job's thread
            with self._changed:
                self._failure = error
                self._changed.notify()

    async def _stop_fetching(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _fetch_all(self) -> None:
        assert self._consumer is not None
        assert self._room is not None
        consumer, room = self._consumer, self._room
        # how far each has come here; the job's thread has its own idea of it
        reached = {at: place.offset for at, place in self._places.items()}
        self._assign(reached)
        look_again = time.monotonic() + self._source.connection.metadata_max_age_ms / 1000
        answered = time.monotonic()
        while True:
            done = [place.at for place in self._places.values() if _is_past(place, reached[place.at])]
            if len(done) == len(self._places):
                break
            if done:
                consumer.pause(*done)
            if time.monotonic() >= look_again:
                look_again = time.monotonic() + self._source.connection.metadata_max_age_ms / 1000
                answered = await self._look_for_more(reached, answered)
            try:
                found = await consumer.getmany(timeout_ms=_POLL_MS, max_blocks=1)
            except OffsetOutOfRangeError as error:
                await self._go_on_behind(error, reached)
                continue
            for at, blocks in found.items():
                for block in blocks:
                    place = self._places[at]
                    reached[at] = block.next_offset
                    self._put(place, block if place.end is None else block.before(place.end))
            while self._queued_bytes >= _QUEUE_BYTES:
                room.clear()
                await room.wait()
        with self._changed:
            self._is_over = True
            self._changed.notify()

    def _assign(self, reached: Mapping[TopicPartition, int]) -> None:
        assert self._consumer is not None
        self._consumer.assign(list(reached))
        for at, offset in reached.items():
            self._consumer.seek(at, offset)

    def _put(self, place: _Place, block: RecordBlock) -> None:
        with self._changed:
            self._queue.append((place, block))
            self._queued_bytes += len(block.data)
            self._changed.notify()

    async def _look_for_more(self, reached: dict[TopicPartition, int], answered: float) -> float:
        """Read partitions, and topics of the pattern, that there were not before; returns when the cluster answered.

        Raises SourceError where topics are gone, or nothing has answered for long.
        """
        assert self._consumer is not None
        try:
            found = await self._partitions()
        except KafkaConnectionError as error:
            silent = time.monotonic() - answered
            if silent > _UNANSWERED_SECONDS:
                raise KafkaUnavailableError(
                    f"{self._source.place}: no answer for {silent:.0f} s ({error}); check that Kafka runs there"
                ) from error
            self._say(f"{self._source.place}: no answer; reading goes on as soon as there is one")
            return answered
        gone = [at for at in self._places if at not in found]
        if gone:
            said = ", ".join(f"{at.topic}/{at.partition}" for at in gone)
            raise SourceError(
                f"{self._source.place}: {said} has been deleted while it was read; put it back, or start the job anew"
            )
        new = [at for at in found if at not in self._places]
        if new and self._source.until is None:
            starts = await self._consumer.beginning_offsets(new)
            for at in new:
                place = _Place(self.splits, at, starts[at])
                # a dictionary of its own, as the job's thread may be looking at the other
                self._places = {**self._places, at: place}
                reached[at] = starts[at]
                self._put(place, RecordBlock.empty(at.topic, at.partition, starts[at]))
            said = ", ".join(f"{at.topic}/{at.partition}" for at in new)
            self._say(f"{self._source.place}: {said} is new and is read from its beginning")
            self._assign(reached)
        return time.monotonic()

    async def _go_on_behind(self, error: OffsetOutOfRangeError, reached: dict[TopicPartition, int]) -> None:
        """Records that come next are not there any more: do as the policy says. Raises LostOffsetsError."""
        assert self._consumer is not None
        lost = dict(error.args[0]) if error.args and isinstance(error.args[0], dict) else {}
        begins = await self._consumer.beginning_offsets(list(lost))
        ends = await self._consumer.end_offsets(list(lost))
        for at, offset in lost.items():
            what = f"topic {at.topic}, partition {at.partition} at {self._source.connection.servers}"
            if offset < begins[at]:
                said = f"{what}: offsets {offset} to {begins[at] - 1} have been deleted before they were read"
            else:
                said = f"{what}: offset {offset} is to be read next, but it ends at {ends[at]}: it was made anew"
            policy = self._source.on_lost_offsets
            if policy == "fail":
                raise LostOffsetsError(
                    f"{said}; say on_lost_offsets = 'earliest' or 'latest' to go on without them, and let the topic "
                    "keep its records for longer (retention.ms)"
                )
            there = begins[at] if policy == "earliest" else ends[at]
            count = (
                f"up to {there - offset} records are lost"
                if there > offset
                else "how many records are lost is not known"
            )
            self._say(f"{said}; reading goes on at {there}: {count}")
            reached[at] = there
            self._put(self._places[at], RecordBlock.empty(at.topic, at.partition, there))
            self._consumer.seek(at, there)


def _is_past(place: _Place, offset: int) -> bool:
    return place.end is not None and offset >= place.end


class _Heard(logging.Handler):
    """Keeps the last error that was logged."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.last = ""

    def emit(self, record: logging.LogRecord) -> None:
        self.last = record.getMessage()


@contextmanager
def _hearing() -> Iterator[_Heard]:
    heard = _Heard()
    log = logging.getLogger("aiokafka")
    log.addHandler(heard)
    try:
        yield heard
    finally:
        log.removeHandler(heard)
