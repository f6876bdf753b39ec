"""What routers write to a topic of the job's own, and how it is read there: as if where it came from."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ostinato.cep.batch import MIN_TIME
from ostinato.cep.connectors.base import Chunk, SourceError
from ostinato.cep.connectors.kafka.producers import OutRecord
from ostinato.cep.connectors.kafka.records import RecordBlock
from ostinato.cep.runtime.load import ProgramSpec
from ostinato.cep.runtime.partitioned.outbox import Outbox
from ostinato.cep.runtime.partitioned.rekey import Origin, Router, by_origin, partition_of
from ostinato.cep.runtime.partitioned.setup import Setup
from ostinato.cep.runtime.partitioned.spec import PartitionedSpec
from ostinato.cep.runtime.sources import ReadChunk, Tick
from tests.kafka_batches import Record, block

TOPICS = ("logins", "trades")
NOW = 1_700_000_000_000
PROGRAM = """
stream events (user string key, ts timestamp(ms) time delay 1 s idle 5 s, n bigint)
  from kafka 'logins, trades' (keying = 'rekey')
pattern pair on events match a -> b define a as n > 0, b as n > 0 emit user, b.n as n into pairs
output pairs to kafka 'pairs'
"""
THROUGH = "job.events.rekey"


def setup() -> Setup:
    return PartitionedSpec(program=ProgramSpec("job.cep", PROGRAM), job="job", address="/nowhere").setup()


def event(user: str, n: int, ts: int = NOW, **more: object) -> Record:
    return Record(b'{"user":"%b","ts":%d,"n":%d}' % (user.encode(), ts, n), **more)  # type: ignore[arg-type]


class Routing:
    """A router, and what it has written, as blocks of each partition of the job's own topic."""

    def __init__(self, number: int = 0, partitions: int = 3) -> None:
        own = setup()
        self.partitions = partitions
        self.outbox = Outbox("job", number, {}, own.dead_letters, strict=False)
        splits = [dict(zip(TOPICS, range(2), strict=True))]
        self.router = Router(own, number, self.outbox, splits, {THROUGH: partitions}, NOW)
        self.written: list[OutRecord] = []

    def route(self, found: RecordBlock, now: int = NOW) -> None:
        position = {"topic": found.topic, "offset": found.next_offset}
        chunk = Chunk(found, found.size, split=TOPICS.index(found.topic), position=position, source=found.topic)
        self.router.step(ReadChunk(0, chunk, now))

    def cut(self) -> None:
        self.router.prepare()
        self.written += self.outbox.take()

    def read(self, partition: int) -> list[Origin]:
        """What is in a partition now, all in one block."""
        own = [record for record in self.written if record.topic == THROUGH and record.partition == partition]
        if not own:
            return []
        records = [Record(record.value, record.key, record.headers, timestamp=1) for record in own]
        return list(by_origin(block(*records, topic=THROUGH, partition=partition), TOPICS))


def content(found: RecordBlock) -> list[tuple[object, ...]]:
    return [
        (int(found.offset[i]), int(found.timestamp[i]), found.key(i), found.value(i), found.headers(i))
        for i in range(len(found))
    ]


events = st.lists(
    st.builds(
        event,
        st.sampled_from(["ann", "bob", "\u017cora", ""]),
        st.integers(0, 99),
        key=st.one_of(st.none(), st.binary(max_size=30)),
        headers=st.lists(st.tuples(st.text(max_size=3), st.binary(max_size=3)), max_size=2).map(tuple),
        timestamp=st.integers(0, 2**40),
        step=st.integers(1, 3),
    ),
    min_size=1,
    max_size=12,
)


@settings(deadline=None)
@given(events, events)
def test_records_are_read_as_they_were(logins: Sequence[Record], trades: Sequence[Record]) -> None:
    """With their key, value, headers, offset and timestamp, each once, those of one origin in their order, and all of
    one key in one partition."""
    routing = Routing(number=2)
    blocks = {
        "logins/2": block(*logins, topic="logins", partition=2, base=7),
        "trades/2": block(*trades, topic="trades", partition=2, base=0),
    }
    for found in blocks.values():
        routing.route(found)
    routing.cut()
    seen: dict[str, list[tuple[object, ...]]] = {place: [] for place in blocks}
    where: dict[bytes, set[int]] = {}
    for partition in range(routing.partitions):
        for origin in routing.read(partition):
            if origin.block is None:
                continue
            rows = content(origin.block)
            assert rows == sorted(rows, key=lambda row: row[0])  # type: ignore[return-value, arg-type]
            assert origin.block.next_offset == rows[-1][0] + 1  # type: ignore[operator]
            seen[origin.place] += rows
            for row in rows:
                where.setdefault(row[3].split(b'"')[3], set()).add(partition)  # type: ignore[attr-defined]
    for place, found in blocks.items():
        assert sorted(seen[place], key=lambda row: row[0]) == content(found)  # type: ignore[return-value, arg-type]
    assert all(partitions == {partition_of(key, 3)} for key, partitions in where.items())


def test_every_partition_hears_how_far_time_has_come() -> None:
    """Protects the time of partitions that a router has no record for: without marks they would wait for it."""
    routing = Routing(number=1)
    routing.route(block(event("ann", 1, ts=NOW + 5), topic="logins", partition=1))
    routing.cut()
    marks = [[(each.place, each.max_time, each.idle) for each in routing.read(n)] for n in range(3)]
    assert marks == [[("logins/1", NOW + 5, False)]] * 3


def test_a_mark_is_written_only_where_something_has_changed() -> None:
    routing = Routing()
    routing.cut()
    assert routing.written == []  # nothing is known yet
    routing.route(block(event("ann", 1), topic="logins", partition=0))
    routing.cut()
    before = len(routing.written)
    routing.cut()
    assert len(routing.written) == before


def test_idleness_is_told_and_taken_back() -> None:
    """Protects: a router's partition that falls silent holds nobody back; one that speaks again does.

    Seen to fail when routers had the plan's time, in which a rekeyed stream has no idleness: none was ever told.
    """
    routing = Routing()
    routing.route(block(event("ann", 1), topic="logins", partition=0))
    routing.router.step(Tick(NOW + 6_000, idle=True))
    routing.cut()
    found = {each.place: (each.max_time, each.idle) for each in routing.read(0)}
    assert found == {"logins/0": (NOW, True), "trades/0": (MIN_TIME, True)}
    routing.written.clear()
    routing.route(block(event("ann", 2, ts=NOW + 1), topic="logins", partition=0, base=1), now=NOW + 7_000)
    routing.cut()
    assert [(each.place, each.max_time, each.idle) for each in routing.read(0)] == [("logins/0", NOW + 1, False)]


def test_an_idle_mark_before_an_event_is_over() -> None:
    """Both in one block: the event says that it is idle no more."""
    routing = Routing(partitions=1)
    routing.route(block(event("ann", 1), topic="logins", partition=0))
    routing.router.step(Tick(NOW + 6_000, idle=True))
    routing.cut()
    routing.route(block(event("ann", 2), topic="logins", partition=0, base=1), now=NOW + 7_000)
    routing.written += routing.outbox.take()
    (found,) = (each for each in routing.read(0) if each.place == "logins/0")
    assert not found.idle
    assert found.block is not None
    assert len(found.block) == 2


def test_bad_records_go_to_the_dead_letters_and_nowhere_else() -> None:
    routing = Routing()
    routing.route(block(event("ann", 1), Record(b"{"), Record(None), event("ann", 2), topic="logins", base=5))
    routing.cut()
    letters = [dict(record.headers) for record in routing.written if record.topic == "job.dead-letters"]
    assert [letter["source-offset"] for letter in letters] == [b"6", b"7"]
    kept = [row[0] for n in range(3) for each in routing.read(n) if each.block for row in content(each.block)]
    assert kept == [5, 8]


def test_records_without_a_key_stay_without_one() -> None:
    """An empty key is another thing than none."""
    routing = Routing(partitions=1)
    routing.route(block(event("ann", 1, key=None), event("ann", 2, key=b""), topic="logins", partition=0))
    routing.cut()
    assert [row[2] for each in routing.read(0) if each.block for row in content(each.block)] == [None, b""]


@pytest.mark.parametrize("key", [None, b"", b"ann", b"x" * 23])
def test_records_of_somebody_else_are_refused(key: bytes | None) -> None:
    found = block(event("ann", 1, key=key), topic=THROUGH, partition=4, base=9)
    with pytest.raises(SourceError, match=f"topic {THROUGH}, partition 4: the record at offset 9 was not written by"):
        list(by_origin(found, TOPICS))


def test_records_of_topics_that_are_read_no_more_are_refused() -> None:
    routing = Routing(partitions=1)
    routing.route(block(event("ann", 1), topic="trades", partition=0))
    routing.cut()
    records = [Record(record.value, record.key, record.headers) for record in routing.written]
    with pytest.raises(SourceError, match="topics that the job does not read"):
        list(by_origin(block(*records, topic=THROUGH), ("logins",)))


def test_a_block_without_records_has_no_origins() -> None:
    assert list(by_origin(RecordBlock.empty(THROUGH, 0, 17), TOPICS)) == []


@given(st.lists(st.binary(max_size=20), max_size=20), st.integers(1, 7))
def test_keys_go_where_kafkas_own_clients_send_them(keys: Iterable[bytes], count: int) -> None:
    from aiokafka.partitioner import DefaultPartitioner

    chosen = DefaultPartitioner()
    for key in keys:
        assert partition_of(key, count) == chosen(key, list(range(count)), list(range(count)))


def test_origins_come_in_the_order_of_topic_and_partition() -> None:
    """Protects the numbers of splits, which are given as origins are first seen: played again they are the same."""
    written = []
    for number in (2, 0):
        for topic in ("trades", "logins"):
            routing = Routing(number=number, partitions=1)
            routing.route(block(event("ann", 1), topic=topic, partition=number))
            routing.cut()
            written += [Record(record.value, record.key, record.headers) for record in routing.written]
    found = block(*written, topic=THROUGH)
    assert [each.place for each in by_origin(found, TOPICS)] == ["logins/0", "logins/2", "trades/0", "trades/2"]
    assert np.array_equal(found.offset, np.arange(len(written)))
