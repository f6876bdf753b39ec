"""Fetched batches taken apart: the same records as aiokafka's own parser gives, and damage is told."""

from __future__ import annotations

import struct
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from aiokafka.consumer.fetcher import READ_COMMITTED, READ_UNCOMMITTED, PartitionRecords
from aiokafka.record.legacy_records import LegacyRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.structs import TopicPartition
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ostinato.cep.connectors.base import SLACK, Chunk, SourceError
from ostinato.cep.connectors.kafka.options import Isolation
from ostinato.cep.connectors.kafka.records import RecordBlock, concat, take_apart
from ostinato.cep.runtime.packing import pack_chunk, unpack_chunk
from tests.kafka_batches import CODECS, Made, Record, batch, block, mark, sealed


def rows(found: RecordBlock) -> list[Any]:
    return [
        (int(found.offset[i]), int(found.timestamp[i]), found.key(i), found.value(i), found.headers(i))
        for i in range(len(found))
    ]


def by_aiokafka(data: bytes, fetch_offset: int, aborted: Any, isolation: Isolation) -> tuple[list[Any], int]:
    level = READ_COMMITTED if isolation == "read_committed" else READ_UNCOMMITTED
    source = PartitionRecords(
        TopicPartition("t", 0), MemoryRecords(data), list(aborted), fetch_offset, None, None, True, level
    )
    found = [
        (each.offset, -1 if each.timestamp is None else each.timestamp, each.key, each.value, list(each.headers))
        for each in source
    ]
    return found, source.next_fetch_offset


def check(data: bytes, fetch_offset: int, aborted: Any, isolation: Isolation) -> RecordBlock:
    """Both give the same."""
    found = take_apart("t", 0, data, fetch_offset, aborted, isolation)
    assert (rows(found), found.next_offset) == by_aiokafka(data, fetch_offset, aborted, isolation)
    assert len(found.data) >= max([0, *found.headers_end.tolist()]) + SLACK
    return found


bytes_or_null = st.one_of(st.none(), st.binary(max_size=12), st.binary(min_size=130, max_size=140))
records = st.builds(
    Record,
    value=bytes_or_null,
    key=bytes_or_null,
    headers=st.lists(st.tuples(st.text(max_size=3), st.one_of(st.none(), st.binary(max_size=3))), max_size=3).map(
        tuple
    ),
    timestamp=st.one_of(st.integers(0, 2**40), st.just(-1)),
    step=st.integers(1, 3),
)


@st.composite
def logs(draw: Any) -> tuple[bytes, int, list[tuple[int, int]]]:
    """What a broker may send: batches of several producers, ends of their transactions, and the aborted ones."""
    base = first = draw(st.integers(0, 2**40))
    within = first
    parts: list[bytes] = []
    begun: dict[int, int] = {}
    aborted: list[tuple[int, int]] = []
    for _ in range(draw(st.integers(0, 6))):
        producer = draw(st.integers(0, 2))
        if producer in begun and draw(st.booleans()):
            ends_badly = draw(st.booleans())
            made = mark(base, producer, aborted=ends_badly)
            if ends_badly:
                aborted.append((producer, begun[producer]))
            del begun[producer]
        else:
            transactional = draw(st.booleans())
            held = draw(st.lists(records, min_size=1, max_size=4))
            made = batch(
                held,
                base,
                codec=draw(st.sampled_from(list(CODECS))),
                producer=producer if transactional else -1,
                transactional=transactional,
                append_time=draw(st.one_of(st.none(), st.just(77))),
                removed_behind=draw(st.integers(0, 2)),
            )
            if transactional:
                begun.setdefault(producer, base)
        parts.append(made.data)
        base = made.next_offset
        within = made.next_offset - 1 if len(parts) == 1 else within
    # of a batch that does not fit in the answer, a part is sent
    rest = parts.pop()[: draw(st.integers(0, 200))] if len(parts) > 1 and draw(st.booleans()) else b""
    whole = b"".join(parts)
    return whole + rest, draw(st.integers(first, within)), aborted


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(logs(), st.sampled_from(["read_committed", "read_uncommitted"]))
def test_it_is_the_same_as_aiokafka_gives(log: tuple[bytes, int, Any], isolation: Isolation) -> None:
    data, fetch_offset, aborted = log
    if not MemoryRecords(data).has_next():
        assert take_apart("t", 0, data, fetch_offset, aborted, isolation).next_offset == fetch_offset
        return
    check(data, fetch_offset, aborted, isolation)


@pytest.mark.parametrize("codec", CODECS)
def test_every_codec_of_kafka(codec: str) -> None:
    made = batch([Record(b"v%d" % n * 50, b"k%d" % (n % 7), (("h", b"x"),)) for n in range(300)], 40, codec=codec)
    found = check(made.data, 40, [], "read_committed")
    assert len(found) == 300
    assert found.next_offset == 340


def test_snappy_without_blocks() -> None:
    """librdkafka writes snappy as it is, Java in blocks."""
    import cramjam

    made = batch([Record(b"v" * 90), Record(b"w" * 90)], codec="none")
    data = bytearray(made.data[:61] + bytes(cramjam.snappy.compress_raw(made.data[61:])))
    struct.pack_into(">i", data, 8, len(data) - 12)
    struct.pack_into(">h", data, 21, CODECS["snappy"])
    found = check(sealed(data, 0), 0, [], "read_committed")
    assert found.value(1) == b"w" * 90


def transactions() -> tuple[bytes, list[tuple[int, int]]]:
    """Producer 5 aborts, then commits; 6 commits meanwhile; and one record is outside of any transaction."""
    log = [batch([Record(b"bad1")], 0, producer=5, transactional=True)]
    following: list[Callable[[int], Made]] = [
        lambda at: batch([Record(b"good1")], at, producer=6, transactional=True),
        lambda at: batch([Record(b"plain")], at),
        lambda at: batch([Record(b"bad2"), Record(b"bad3")], at, producer=5, transactional=True),
        lambda at: mark(at, 5, aborted=True),
        lambda at: batch([Record(b"good2")], at, producer=5, transactional=True),
        lambda at: mark(at, 6, aborted=False),
        lambda at: mark(at, 5, aborted=False),
    ]
    for make in following:
        log.append(make(log[-1].next_offset))
    return b"".join(each.data for each in log), [(5, 0)]


def test_aborted_records_are_left_out() -> None:
    data, aborted = transactions()
    found = check(data, 0, aborted, "read_committed")
    assert [found.value(row) for row in range(len(found))] == [b"good1", b"plain", b"good2"]
    assert found.next_offset == 9
    shown = check(data, 0, aborted, "read_uncommitted")
    assert [shown.value(row) for row in range(len(shown))] == [
        b"bad1", b"good1", b"plain", b"bad2", b"bad3", b"good2",
    ]  # fmt: skip


def test_a_block_without_records_goes_on_behind_them() -> None:
    made = batch([Record(b"bad")], 7, producer=5, transactional=True)
    data = made.data + mark(made.next_offset, 5, aborted=True).data
    found = check(data, 7, [(5, 7)], "read_committed")
    assert len(found) == 0
    assert found.next_offset == 9


def test_compaction_may_take_the_last_records_of_a_batch() -> None:
    made = batch([Record(b"a"), Record(b"b", step=3)], 10, removed_behind=4)
    found = check(made.data, 10, [], "read_committed")
    assert found.offset.tolist() == [10, 13]
    assert found.next_offset == 18


def test_it_begins_where_it_was_asked_to() -> None:
    data = batch([Record(b"a"), Record(b"b"), Record(b"c")], 10).data
    found = check(data, 11, [], "read_committed")
    assert [found.value(row) for row in range(2)] == [b"b", b"c"]


def test_the_time_of_the_broker_counts_where_the_topic_says_so() -> None:
    found = check(
        batch([Record(b"a", timestamp=5), Record(b"b", timestamp=9)], append_time=12).data, 0, [], "read_committed"
    )
    assert found.timestamp.tolist() == [12, 12]


def test_what_is_cut_off_comes_with_the_next_fetch() -> None:
    first = batch([Record(b"a")], 0)
    second = batch([Record(b"b")], 1)
    for size in range(len(second.data)):
        found = check(first.data + second.data[:size], 0, [], "read_committed")
        assert (len(found), found.next_offset) == (1, 1)


@pytest.mark.parametrize("magic", [0, 1])
@pytest.mark.parametrize("codec", [0, 1, 2])
def test_old_message_formats(magic: int, codec: int) -> None:
    builder = LegacyRecordBatchBuilder(magic=magic, compression_type=codec, batch_size=1 << 20)
    for n in range(3):
        builder.append(n, 1000 + n if magic else -1, b"k%d" % n if n else None, b"v%d" % n if n < 2 else None)
    old = bytes(builder.build())
    new = batch([Record(b"new", b"k", (("h", b"x"), ("n", None)))], 3).data
    check(old, 0, [], "read_committed")
    check(old, 1, [], "read_committed")
    # aiokafka cannot read both in one answer; a broker may send them so
    found = take_apart("t", 0, old + new + old[:20], 1, [], "read_committed")
    assert found.offset.tolist() == [1, 2, 3]
    assert (found.key(0), found.value(1), found.next_offset) == (b"k1", None, 4)
    assert found.headers(2) == [("h", b"x"), ("n", None)]
    broken = bytearray(old)
    broken[-1] ^= 1
    with pytest.raises(SourceError, match="cannot read what is at offset"):
        take_apart("t", 0, bytes(broken), 0, [], "read_committed")


@pytest.mark.parametrize("codec", ["none", "lz4"])
def test_a_damaged_batch_is_told_and_never_read(codec: str) -> None:
    good = batch([Record(b"fine")], 100)
    data = good.data + batch([Record(b"one", b"k"), Record(b"two" * 9, None, (("h", b"v"),))], 101, codec=codec).data
    for at in range(len(good.data) + 16, len(data)):
        broken = bytearray(data)
        broken[at] ^= 0x40
        with pytest.raises(SourceError, match=r"topic t, partition 0: cannot read what is at offset 101: "):
            take_apart("t", 0, bytes(broken), 100, None, "read_committed")


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 2**32), st.lists(st.tuples(st.integers(21, 400), st.integers(0, 255)), min_size=1, max_size=4))
def test_what_a_batch_says_is_not_believed(seed: int, changes: list[tuple[int, int]]) -> None:
    """Also where the checksum is right: nothing is read that lies outside."""
    data = bytearray(
        batch([Record(b"v" * (seed % 40), b"key", (("a", b"b"), ("c", None))) for _ in range(5)], 9, producer=3).data
    )
    for at, value in changes:
        data[21 + at % (len(data) - 21)] = value
    try:
        found = take_apart("t", 0, sealed(data, 9), 9, [(3, 9)], "read_committed")
    except SourceError:
        return
    size = len(found.data) - SLACK
    for begin, length in ((found.key_begin, found.key_length), (found.value_begin, found.value_length)):
        assert ((begin >= 0) & (begin + np.maximum(length, 0) <= size)).all()
    assert (np.diff(found.offset) > 0).all()
    assert len(rows(found)) == len(found)


def test_a_count_that_cannot_be_makes_no_room_for_it() -> None:
    data = bytearray(batch([Record(b"v")], 4).data)
    struct.pack_into(">i", data, 57, 2**31 - 1)
    with pytest.raises(SourceError, match="offset 4: its batch does not hold the number of records"):
        take_apart("t", 0, sealed(data, 4), 4, None, "read_committed")


def test_what_is_not_known_is_named() -> None:
    data = bytearray(batch([Record(b"v")], 4).data)
    data[16] = 3
    with pytest.raises(SourceError, match="message format that is not known"):
        take_apart("t", 0, sealed(data, 4), 4, None, "read_committed")
    data[16] = 2
    struct.pack_into(">h", data, 21, 6)
    with pytest.raises(SourceError, match=r"compressed in a way that is not known here \(6\)"):
        take_apart("t", 0, sealed(data, 4), 4, None, "read_committed")


def test_before_cuts_at_an_offset() -> None:
    found = block(Record(b"a"), Record(b"b", step=4), Record(b"c"), base=20)
    assert found.offset.tolist() == [20, 24, 25]
    assert found.before(26) is found
    cut = found.before(22)
    assert (cut.offset.tolist(), cut.next_offset, cut.value(0)) == ([20], 22, b"a")
    assert len(found.before(20)) == 0
    assert found.before(25).next_offset == 25


def test_blocks_of_a_partition_as_one() -> None:
    first = block(Record(b"a", b"k"), Record(None), base=20)
    second = block(Record(b"b", None, (("h", b"x"),)), base=30)
    both = concat([first, second])
    assert rows(both) == rows(first) + rows(second)
    assert (both.next_offset, both.size) == (31, first.size + second.size)
    assert concat([first]) is first


@pytest.mark.parametrize("size", [1, 60, 200, 10_000])
def test_a_block_in_parts(size: int) -> None:
    made = [Record(b"v" * n, b"k%d" % n, (("h", b"x" * n),), step=1 + n % 2) for n in range(40)]
    whole = take_apart("t", 0, batch(made, 5, removed_behind=3).data, 5, None, "read_committed")
    parts = list(whole.parts(size))
    assert [row for part in parts for row in rows(part)] == rows(whole)
    assert parts[-1].next_offset == whole.next_offset
    for part, following in pairwise(parts):
        assert part.next_offset == following.offset[0]
    assert all(len(part.data) <= max(size, 120) + SLACK for part in parts[:-1])
    assert sum(len(part.data) - SLACK for part in parts) <= len(whole.data)
    assert (len(parts) == 1) == (size == 10_000)
    nothing = RecordBlock.empty("t", 0, 9)
    assert list(nothing.parts(size)) == [nothing]


def test_a_block_through_a_pipe() -> None:
    for sent in (block(Record(b"a", b"k", (("h", b"x"),)), Record(None), base=20), RecordBlock.empty("t", 0, 9)):
        head, pieces = pack_chunk(Chunk(sent, sent.size, split=4, source="t/0"))
        came = unpack_chunk(head, memoryview(bytearray().join(pieces)))
        assert (came.split, came.source, came.size) == (4, "t/0", sent.size)
        assert rows(came.data) == rows(sent)
        assert (came.data.topic, came.data.partition) == (sent.topic, sent.partition)
        assert (came.data.next_offset, came.data.size) == (sent.next_offset, sent.size)


def test_a_header_name_that_is_no_text() -> None:
    made = batch([Record(b"v", None, (("ab", b"x"),))])
    data = bytearray(made.data.replace(b"ab", b"\xff\xfe"))
    found = take_apart("t", 0, sealed(data, 0), 0, None, "read_committed")
    assert found.headers(0) == [("\ufffd\ufffd", b"x")]
