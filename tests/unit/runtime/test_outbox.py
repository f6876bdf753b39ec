"""Rows and dead letters of a partition as records for Kafka."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from ostinato.cep.batch import Batch
from ostinato.cep.connectors.base import BadRecord, Chunk
from ostinato.cep.connectors.factory import decoder_for
from ostinato.cep.connectors.kafka.decoding import BadKafkaRecord
from ostinato.cep.connectors.kafka.options import Connection, KafkaTarget
from ostinato.cep.connectors.kafka.producers import OutRecord
from ostinato.cep.runtime.outputs import StrictError
from ostinato.cep.runtime.partitioned.outbox import Outbox, Route
from ostinato.patterns.parser import parse_program
from tests.kafka_batches import Record, block

TARGET = KafkaTarget(Connection(), "alerts")
LETTERS = KafkaTarget(Connection(), "job.dead-letters", max_request_size=10_000)


def rows(*users: str, stream: str = "bursts") -> Batch:
    (declared,) = parse_program("stream s (user string key, ts timestamp(ms) time) from kafka 't'").streams
    found = block(*(Record(b'{"user":"%b","ts":%d}' % (user.encode(), at)) for at, user in enumerate(users)))
    batch, bad = decoder_for(declared, None).decode(Chunk(found, found.size))
    assert not bad
    batch.stream = stream
    return batch


def outbox(*, keys: tuple[str, ...] = ("user",), strict: bool = False, letters: KafkaTarget = LETTERS) -> Outbox:
    routes = {"bursts": [Route(TARGET, keys, "burst", "1f2e")]}
    return Outbox("job", 3, routes, letters, strict=strict)


def bad(value: bytes | None, **more: object) -> BadKafkaRecord:
    record = Record(value, **more)  # type: ignore[arg-type]
    return BadKafkaRecord.of(block(record, topic="logins", partition=3, base=41), 0, "it is no JSON")


def headers(record: OutRecord) -> dict[str, bytes]:
    assert len(dict(record.headers)) == len(record.headers)
    return dict(record.headers)


def test_a_row_has_its_key_and_says_what_it_is() -> None:
    box = outbox()
    box.deliver(rows("ann", "bob"))
    first, second = box.take()
    assert (first.topic, first.key, first.value) == (
        "alerts",
        b"ann",
        b'{"user":"ann","ts":"1970-01-01T00:00:00.000Z"}',
    )
    assert headers(first) == {
        "match-id": b"job.bursts.3.0",
        "pattern": b"burst",
        "version": b"1f2e",
        "event-time": b"0",
    }
    assert second.key == b"bob"
    assert headers(second)["match-id"] == b"job.bursts.3.1"
    assert box.take() == []


def test_rows_played_again_have_the_same_ids() -> None:
    """Protects whoever reads the topic at least once, and knows by the ids what came twice.

    Seen to fail when the number of a row was not carried on from the rows that the snapshot had counted.
    """
    ids = [dict(record.headers)["match-id"] for record in _delivered(outbox(), [rows("a", "b"), rows("c", "d")])]
    again = outbox()
    again.rows = {"bursts": 2}  # as a snapshot has it
    assert [dict(record.headers)["match-id"] for record in _delivered(again, [rows("c", "d")])] == ids[2:]
    assert len(set(ids)) == 4


def test_what_is_muted_is_counted_and_dropped() -> None:
    """Protects a replay: its rows and dead letters were written before. Their numbers go on, so that the ids of what
    comes behind are right."""
    box = outbox()
    box.muted = True
    box.deliver(rows("a", "b"))
    box.reject([bad(b"{")])
    box.put([OutRecord("job.events.rekey", b"k", b"v")])
    assert box.take() == []
    box.muted = False
    box.deliver(rows("c"))
    (record,) = box.take()
    assert headers(record)["match-id"] == b"job.bursts.3.2"
    assert (box.rows, box.written, box.bad) == ({"bursts": 3}, {"bursts": 1}, 0)


def test_streams_that_go_nowhere_are_counted() -> None:
    box = outbox()
    box.deliver(rows("a", stream="elsewhere"))
    assert box.take() == []
    assert box.rows == {"elsewhere": 1}


def test_a_stream_may_have_several_topics() -> None:
    routes = {"bursts": [Route(TARGET, ("user",), "p", "1"), Route(KafkaTarget(Connection(), "copy"), (), "p", "1")]}
    box = Outbox("job", 3, routes, LETTERS, strict=False)
    box.deliver(rows("a", "b"))
    assert [(each.topic, each.key) for each in box.take()] == [
        ("alerts", b"a"),
        ("alerts", b"b"),
        ("copy", None),
        ("copy", None),
    ]
    assert box.rows == {"bursts": 2}


def test_a_dead_letter_can_be_found_and_written_again() -> None:
    box = outbox()
    box.reject([bad(b"{", key=b"k", headers=(("trace", b"1"), ("none", None)), timestamp=1_700)])
    (letter,) = box.take()
    assert (letter.topic, letter.key, letter.value) == ("job.dead-letters", b"k", b"{")
    assert headers(letter) == {
        "job": b"job",
        "reason": b"it is no JSON",
        "source-topic": b"logins",
        "source-partition": b"3",
        "source-offset": b"41",
        "source-timestamp": b"1700",
        "source.trace": b"1",
        "source.none": b"",
    }
    assert box.bad == 1


def test_a_dead_letter_without_value_and_key() -> None:
    box = outbox()
    box.reject([bad(None)])
    (letter,) = box.take()
    assert (letter.key, letter.value) == (None, b"")


@pytest.mark.parametrize("size", [5_000, 6_000, 10_000, 1_000_000])
def test_a_dead_letter_that_is_too_large_is_cut_and_says_so(size: int) -> None:
    """Protects: a poison record that is larger than may be written would fail every transaction that it is in, for
    ever. Where it came from says where the rest is."""
    box = outbox()
    box.reject([bad(b"x" * size, key=b"k" * 50, headers=(("trace", b"t" * 3_000),))])
    (letter,) = box.take()
    assert letter.value is not None
    held = headers(letter)
    if len(letter.value) < size:
        assert held["truncated-from"] == b"%d" % size
    else:
        assert "truncated-from" not in held
    assert held["source-offset"] == b"41"
    written = len(letter.value) + len(letter.key or b"") + sum(len(name) + len(text) for name, text in letter.headers)
    assert written <= LETTERS.max_request_size


def test_a_dead_letter_whose_key_alone_is_too_large() -> None:
    """Protects as the test above: keys can be as large as values. Seen to fail when only the value was cut."""
    box = outbox()
    box.reject([bad(b"{}", key=b"k" * 20_000)])
    (letter,) = box.take()
    written = len(letter.value or b"") + len(letter.key or b"") + sum(len(n) + len(v) for n, v in letter.headers)
    assert written <= LETTERS.max_request_size
    assert headers(letter)["source-offset"] == b"41"
    assert headers(letter)["key-truncated-from"] == b"20000"


def test_dead_letters_of_other_sources() -> None:
    box = outbox()
    box.reject([BadRecord(b"x", "logins/3", -1, 7, "why\udcff" * 1_000)])
    (letter,) = box.take()
    held = headers(letter)
    assert (held["source-topic"], held["source-offset"], held["source-timestamp"]) == (b"logins/3", b"7", b"-1")
    assert len(held["reason"]) <= 2_048


def test_a_strict_job_ends_with_the_first_bad_record() -> None:
    with pytest.raises(StrictError, match="logins/3, offset 41: it is no JSON"):
        outbox(strict=True).reject([bad(b"{")])


def _delivered(box: Outbox, batches: Sequence[Batch]) -> list[OutRecord]:
    for batch in batches:
        box.deliver(batch)
    return box.take()


def test_event_times_are_those_of_the_rows() -> None:
    box = outbox()
    batch = rows("a", "b")
    box.deliver(Batch(batch.stream, np.array([5, -7], np.int64), batch.columns))
    assert [headers(record)["event-time"] for record in box.take()] == [b"5", b"-7"]
