"""Bringing events to the partition of their key, through a topic of the job's own.

A stream whose topic is not partitioned by the stream's key (``keying = 'rekey'``) is read by *routers*, one for each
partition of its topics. A router finds out the key of each record and writes the record, bytes as they are, to the
partition of that key in the topic ``JOB.STREAM.rekey``, in one transaction with its own offsets. Patterns read that.

The key of a record there says where it comes from, and holds the key that it had::

    kind   flags  topic  partition  offset  timestamp  | key
    1      1      2      4          8       8 bytes      the rest

Time has to come along: each partition that a record may come from is a split of the stream, and a router *marks*, in
every partition that it writes to, how far its time has come, and whether it is idle.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import numpy as np

from ostinato.cep.batch import MIN_TIME
from ostinato.cep.connectors.base import SourceError
from ostinato.cep.connectors.factory import decoder_for
from ostinato.cep.connectors.kafka.producers import OutRecord
from ostinato.cep.connectors.kafka.records import RecordBlock
from ostinato.cep.connectors.kafka.rows import keys_of
from ostinato.cep.runtime.intake import Intake
from ostinato.cep.runtime.partitioned.outbox import Outbox
from ostinato.cep.runtime.sources import Ended, Entry, ReadChunk, Tick
from ostinato.cep.runtime.statistics import Statistics
from ostinato.cep.runtime.time import TimePolicy, WatermarkGenerator

if TYPE_CHECKING:
    from ostinato.cep.runtime.partitioned.setup import Setup
    from ostinato.state.operator import OperatorState

_EVENT: Final = 1
_MARK: Final = 2
_NULL_KEY: Final = 1
_IDLE: Final = 2
_HEAD: Final = struct.Struct(">BBhiqq")
_HEAD_TYPE: Final = np.dtype(
    [("kind", "u1"), ("flags", "u1"), ("topic", ">i2"), ("partition", ">i4"), ("offset", ">i8"), ("timestamp", ">i8")]
)


@dataclass(frozen=True, slots=True)
class Rekeyed:
    """A source of the plan that is read through a topic of the job's own.

    Attributes:
        source: its number in the plan.
        topics: those that the routers read, in the order in which they are numbered.
        through: the job's own topic.
        idle_ms: silence after which a partition of `topics` holds nobody back; see `TimePolicy`.
    """

    source: int
    topics: tuple[str, ...]
    through: str
    idle_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Origin:
    """What came from one partition of a router's topics: records, where there are any, and how far its time has come
    behind them (None: nothing is said)."""

    place: str
    block: RecordBlock | None
    max_time: int | None = None
    idle: bool = False


def by_origin(block: RecordBlock, topics: Sequence[str]) -> Iterator[Origin]:
    """Take a block of the job's own topic apart: records as they were in `topics`, and marks, of each origin in order.

    Raises SourceError where somebody else has written there.
    """
    if not len(block):
        return
    short = np.flatnonzero(block.key_length < _HEAD.size)
    if len(short):
        raise SourceError(
            f"topic {block.topic}, partition {block.partition}: the record at offset {block.offset[short[0]]} was not "
            "written by this job; nobody else may write there"
        )
    at = block.key_begin[:, None] + np.arange(_HEAD.size)
    heads = np.ascontiguousarray(block.data[at]).view(_HEAD_TYPE)[:, 0]
    number = heads["topic"].astype(np.int64) << 32 | heads["partition"].astype(np.int64)
    if heads["topic"].min() < 0 or heads["topic"].max() >= len(topics):
        raise SourceError(f"topic {block.topic}: it holds records of topics that the job does not read; begin it anew")
    for which in np.unique(number).tolist():
        own = np.flatnonzero(number == which)
        topic, partition = topics[which >> 32], which & 0xFFFFFFFF
        events = own[heads["kind"][own] == _EVENT]
        marks = own[heads["kind"][own] == _MARK]
        found = None
        if len(events):
            null = (heads["flags"][events] & _NULL_KEY) != 0
            found = RecordBlock(
                topic,
                partition,
                block.data,
                heads["offset"][events].astype(np.int64),
                heads["timestamp"][events].astype(np.int64),
                block.key_begin[events] + _HEAD.size,
                np.where(null, -1, block.key_length[events] - _HEAD.size),
                block.value_begin[events],
                block.value_length[events],
                block.headers_begin[events],
                block.headers_end[events],
                int(heads["offset"][events[-1]]) + 1,
                block.size * len(events) // len(block),
            )
        # A mark that stands before an event says less than the event does.
        last = marks[-1] if len(marks) else None
        time = None if last is None else int(heads["timestamp"][last])
        idle = last is not None and bool(heads["flags"][last] & _IDLE) and (not len(events) or last > events[-1])
        yield Origin(f"{topic}/{partition}", found, time, idle)


class Router:
    """What a router does with the records of one partition number; takes the place of a pipeline in a task."""

    def __init__(
        self,
        setup: Setup,
        number: int,
        outbox: Outbox,
        splits: Sequence[Mapping[str, int]],
        partitions: Mapping[str, int],
        now: int,
    ) -> None:
        """
        Args:
            setup: the job.
            number: of the partition.
            outbox: where records go.
            splits: of each source that is rekeyed, topic -> the number of the split.
            partitions: how many each of the job's own topics has.
            now: the clock, epoch ms.
        """
        self.statistics = Statistics()
        self.intakes: list[Intake] = []
        self._number = number
        self._outbox = outbox
        self._rekeyed = setup.rekeyed
        self._partitions = partitions
        self._marked: dict[tuple[int, str], tuple[int, bool]] = {}
        self._splits = splits
        for each, own in zip(setup.rekeyed, splits, strict=True):
            stream = setup.streams[each.source]
            # in the plan it has none: whoever reads what is written here goes by the marks
            time = WatermarkGenerator(TimePolicy.of(replace(stream.time, idle_ms=each.idle_ms)), now)
            for split in own.values():
                time.add_split(split, now)
            self.intakes.append(Intake(stream, decoder_for(stream, frozenset()), time))

    def step(self, entry: Entry) -> None:
        """Route records, or let time go on."""
        match entry:
            case ReadChunk(number, chunk, now):
                self._route(number, chunk.data, chunk.split, chunk, now)
            case Tick(now, _):
                for intake in self.intakes:
                    intake.time.tick(now)
            case Ended():
                pass

    def lift(self, watermark: int) -> None:
        """Nothing waits for time here."""

    def prepare(self) -> None:
        """The partition is about to be cut: mark how far time has come, where that has changed."""
        for number, (each, intake) in enumerate(zip(self._rekeyed, self.intakes, strict=True)):
            for topic, split in self._splits[number].items():
                state = intake.time.split(split)
                if (
                    state is None
                    or state == self._marked.get((number, topic))
                    or (state[0] == MIN_TIME and not state[1])
                ):
                    continue
                self._marked[number, topic] = state
                largest, idle = state
                head = _HEAD.pack(_MARK, _IDLE if idle else 0, each.topics.index(topic), self._number, -1, largest)
                for partition in range(self._partitions[each.through]):
                    self._outbox.put([OutRecord(each.through, head, None, (), partition)])

    def snapshot(self, checkpoint: int, whole: Mapping[str, Sequence[int]] | None) -> dict[str, OperatorState]:  # noqa: ARG002
        """It has none: what it would know is in the topics."""
        return {}

    def times(self) -> list[dict[str, object]]:
        return [intake.time.state() for intake in self.intakes]

    def count_patterns(self) -> None:
        """There are none."""

    def _route(self, number: int, block: RecordBlock, split: int, chunk: object, now: int) -> None:
        each, intake = self._rekeyed[number], self.intakes[number]
        decoded = intake.decode(chunk)  # type: ignore[arg-type]
        batch, bad = decoded.batch, decoded.bad
        if bad:
            self._outbox.reject(bad)
        refused = {record.offset for record in bad}
        rows = [row for row, offset in enumerate(block.offset.tolist()) if offset not in refused]
        assert len(rows) == len(batch), "a record became no row and no dead letter"
        ahead = intake.time.admit(split, batch.time, now).ahead
        del ahead  # whoever reads the events judges them; here only time moves
        topic = each.topics.index(block.topic)
        count = self._partitions[each.through]
        keys = keys_of(batch, intake.stream.keys)
        made = []
        for row, key in zip(rows, keys, strict=True):
            own = block.key(row)
            head = _HEAD.pack(
                _EVENT, _NULL_KEY if own is None else 0, topic, block.partition, int(block.offset[row]),
                int(block.timestamp[row]),
            )  # fmt: skip
            headers = tuple((name, held or b"") for name, held in block.headers(row))
            made.append(
                OutRecord(each.through, head + (own or b""), block.value(row), headers, partition_of(key, count))
            )
        self._outbox.put(made)


def partition_of(key: bytes | None, count: int) -> int:
    """The partition that Kafka's own clients choose for a key; 0 for none."""
    from aiokafka.partitioner import murmur2

    return 0 if key is None else (murmur2(key) & 0x7FFFFFFF) % count
