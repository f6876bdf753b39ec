"""Records of Kafka to columns: each becomes a row or a bad record that says where it is from and why."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ostinato.cep.connectors.base import BadRecord, Chunk, ConnectorError
from ostinato.cep.connectors.json_lines import JsonLines
from ostinato.cep.connectors.kafka.decoding import BadKafkaRecord, KafkaDecoder
from ostinato.cep.connectors.kafka.options import Keying
from ostinato.cep.connectors.kafka.records import RecordBlock, take_apart
from ostinato.cep.runtime.intake import Intake
from ostinato.cep.runtime.time import TimePolicy, WatermarkGenerator
from ostinato.patterns.ast import Stream
from ostinato.patterns.parser import parse_program
from tests.kafka_batches import Record, batch, block

LOGINS = "user string key, ts timestamp(ms) time, amount double"
LONG = 50 << 20


def stream(columns: str, clause: str = "") -> Stream:
    (found,) = parse_program(f"stream s ({columns}) {clause}").streams
    return found


def decode(columns: str, *records: Record, clause: str = "", **options: Any) -> tuple[list[Any], list[BadKafkaRecord]]:
    """Rows with their columns in order, and the bad records; there is one or the other of each record."""
    found = block(*records, base=100)
    made, bad = KafkaDecoder(stream(columns, clause), **options).decode(Chunk(found, found.size))
    assert len(made) + len(bad) == len(records)
    kafka = [each for each in bad if isinstance(each, BadKafkaRecord)]
    assert kafka == bad
    return list(zip(*(column.to_list() for column in made.columns.values()), strict=True)), kafka


def login(user: str = "u1", **more: Any) -> bytes:
    return json.dumps({"user": user, "ts": 5, **more}).encode()


def test_rows_have_time_and_columns() -> None:
    found = block(Record(login(amount=1.5)), Record(login("\u017c", ts=9)))
    made, bad = KafkaDecoder(stream(LOGINS)).decode(Chunk(found, found.size))
    assert not bad
    assert made.stream == "s"
    assert made.time.tolist() == [5, 9]
    assert made.columns["user"].to_list() == ["u1", "\u017c"]
    assert made.columns["amount"].to_list() == [1.5, None]


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "the value is null (a tombstone)"),
        (b"", "the value is empty"),
        (b" \n\t\r\n", "the value is empty"),
        (b"{", "not JSON: "),
        (b"nonsense", "not JSON: "),
        (b"[1]", "not a JSON object"),
        (b'"text"', "not a JSON object"),
        (b"null", "not a JSON object"),
        (b'{"user": "u1", "ts": 5}{"user": "u2", "ts": 6}', "not JSON: "),
        (b'{"user": "u1", "ts": 5}\n{"user": "u2", "ts": 6}', "not JSON: "),
        (b'{"user": "u1", "ts": 5}\n\n', None),
        (b'{"user": "u\n1", "ts": 5}', "not JSON: "),
        (b'{"user": "u\r1", "ts": 5}', "not JSON: "),
        (b'{\n  "user": "u1",\r\n  "ts": 5\n}', None),
        (b'\n{"user": "u1", "ts": 5}', None),
        (b'{"user": "\xff", "ts": 5}', "not UTF-8 from byte 11 on"),
        (b'{"user": "u1", "ts": 5, "amount": NaN}', "not JSON: "),
        (b'{"user": "u1", "ts": 5, "amount": 1e999}', "not JSON: number is infinity"),
        (b'{"user": "u1", "ts": 99999999999999999999}', "column ts: "),
        (b'{"user": "u1", "ts": "5"}', "column ts: "),
        (b'{"user": null, "ts": 5}', "column user: the key is missing or null"),
        (b'{"ts": 5}', "column user: the key is missing or null"),
        (b'{"user": 7, "ts": 5}', "column user: expected STRING"),
        (b'{"user": "u1", "ts": 5, "x": ' + b"[" * 5000 + b"]" * 5000 + b"}", "not JSON: "),
        (b"[" * 100_000, "not JSON: "),
        (b'{"a":' * 100_000, "not JSON: "),
        (b"\x00\x00\x00\x00\x07avro", "not JSON: "),
        (b'\xef\xbb\xbf{"user": "u1", "ts": 5}', "not JSON: "),
    ],
)
def test_poison(value: bytes | None, reason: str | None) -> None:
    """Whatever it is, the records around it are read."""
    good = Record(login("before")), Record(login("after"))
    poison = Record(value, b"k1", (("trace", b"t1"), ("none", None)), 77)
    rows, bad = decode(LOGINS, good[0], poison, good[1])
    if reason is None:
        assert [row[0] for row in rows] == ["before", "u1", "after"]
        return
    assert [row[0] for row in rows] == ["before", "after"]
    (found,) = bad
    assert reason in found.reason
    assert (found.source, found.line, found.offset, found.raw) == ("logins/3", -1, 101, value or b"")
    assert (found.topic, found.partition, found.timestamp, found.key) == ("logins", 3, 77, b"k1")
    assert found.headers == (("trace", b"t1"), ("none", None))


@pytest.mark.parametrize(
    "poison",
    [b"x" * LONG, b'{"user": "' + b"u" * LONG, b'{"user": 1' + b"0" * LONG + b"}"],
    ids=["x", "text", "number"],
)
def test_poison_of_50_mb(poison: bytes) -> None:
    rows, bad = decode(LOGINS, Record(login("before")), Record(poison), Record(login("after")))
    assert [row[0] for row in rows] == ["before", "after"]
    assert bad[0].raw == poison
    assert len(bad[0].reason) < 500


def test_a_good_value_of_50_mb() -> None:
    rows, bad = decode(LOGINS, Record(login("u" * LONG)), Record(login("next")))
    assert [len(row[0]) for row in rows] == [LONG, 4]
    assert not bad


def test_nothing_but_poison_is_not_slow() -> None:
    made = [Record(b"{poison %d" % n + b"x" * 90) for n in range(30_000)]
    found = block(*made)
    decoder = KafkaDecoder(stream(LOGINS))
    began = time.process_time()
    rows, bad = decoder.decode(Chunk(found, found.size))
    assert (len(rows), len(bad)) == (0, 30_000)
    assert time.process_time() - began < 3


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.none(),
            st.binary(max_size=6),
            st.sampled_from(
                [b"{}", b"{\n}", b"\n", b" ", b"{} {}", b'{"ts": 1}\n{"ts": 2}', b'{"ts": 3, "user": "\\n"}']
            ),
            st.builds(
                lambda ts, user: json.dumps({"ts": ts, "user": user}, indent=1).encode(), st.integers(), st.text()
            ),
        ),
        max_size=8,
    )
)
def test_each_record_is_what_it_is_alone(values: list[bytes | None]) -> None:
    columns = "ts bigint, user string, at bigint from metadata 'offset'"
    rows, bad = decode(columns, *map(Record, values), clause="processing time") if values else ([], [])
    alone: dict[int, Any] = {}
    for number, value in enumerate(values, 100):
        one = JsonLines(stream("ts bigint, user string", "processing time"), exact=True)
        batch_, refused = one.decode(Chunk.of((value or b"").replace(b"\n", b"\r") + b"\n"))
        if len(batch_) and not refused:
            alone[number] = (*(column.to_list()[0] for column in batch_.columns.values()), number)
    assert {row[2]: row for row in rows} == alone
    assert [each.offset for each in bad] == [number for number in range(100, 100 + len(values)) if number not in alone]


ABOUT = """
    topic string from metadata 'topic', user string, place bigint from metadata 'partition',
    at bigint from metadata 'offset', ts timestamp(ms) from metadata 'timestamp' time,
    ms bigint from metadata 'timestamp', k string from metadata 'key',
    trace string from metadata 'headers.trace', other string from metadata 'headers.other'
"""


def test_what_is_said_of_records() -> None:
    headers = (("trace", b"first"), ("trace", b"last"), ("other", None), ("trac", b"x"), ("tracex", b"y"))
    found = block(
        Record(b'{"user": "u1"}', b"key", headers, 1000),
        Record(b"bad", b"lost"),
        Record(b'{"user": "u2"}', None, (("other", b""),), 2000, step=5),
    )
    made, bad = KafkaDecoder(stream(ABOUT)).decode(Chunk(found, found.size))
    assert made.time.tolist() == [1000, 2000]
    assert {name: column.to_list() for name, column in made.columns.items()} == {
        "topic": ["logins", "logins"],
        "user": ["u1", "u2"],
        "place": [3, 3],
        "at": [0, 6],
        "ts": [1000, 2000],
        "ms": [1000, 2000],
        "k": ["key", None],
        "trace": ["last", None],
        "other": [None, ""],
    }
    assert list(made.columns) == ["topic", "user", "place", "at", "ts", "ms", "k", "trace", "other"]
    assert [each.offset for each in bad] == [1]


def test_only_what_is_needed_is_taken() -> None:
    found = block(Record(b'{"user": "u1"}', b"\xff", timestamp=5))
    made, bad = KafkaDecoder(stream(ABOUT), frozenset({"at"})).decode(Chunk(found, found.size))
    assert (list(made.columns), len(bad)) == (["at", "ts"], 0)


def test_columns_from_metadata_alone() -> None:
    rows, bad = decode(
        "k string from metadata 'key' key", Record(b"{}", b"a"), Record(b"no", b"b"), clause="processing time"
    )
    assert rows == [("a",)]
    assert bad[0].reason.startswith("not JSON")


def test_metadata_that_cannot_be_used() -> None:
    columns = """k string from metadata 'key' key, ts timestamp(ms) from metadata 'timestamp' time,
        trace string from metadata 'headers.trace'"""
    rows, bad = decode(
        columns,
        Record(b"{}", b"fine"),
        Record(b"{}", None),
        Record(b"{}", b"\xc3"),
        Record(b"{}", b"a", timestamp=-1),
        Record(b"{}", b"a", timestamp=10**18),
        Record(b"{}", b"a", (("trace", b"\xed\xa0\x80"),)),
        Record(b"{}", "\u20ac\U0001f600".encode()),
    )
    assert [row[0] for row in rows] == ["fine", "\u20ac\U0001f600"]
    assert [each.reason for each in bad] == [
        "column k: the key (metadata 'key') is null",
        "column k: metadata 'key' is not UTF-8",
        "column ts: the event time (metadata 'timestamp') is null",
        "column ts: the record's timestamp lies outside of the years 1 to 9999",
        "column trace: metadata 'headers.trace' is not UTF-8",
    ]


def test_a_key_that_is_cut_off_is_no_text() -> None:
    """What follows it would make a character of it: the length of a value of 64 bytes begins with 0x80."""
    value = b"{" + b" " * 62 + b"}"
    rows, bad = decode("k string from metadata 'key'", Record(value, b"\xc3"), clause="processing time")
    assert (rows, bad[0].reason) == ([], "column k: metadata 'key' is not UTF-8")


def verify(columns: str, value: bytes, key: bytes | None, keying: Keying = "verify") -> str | None:
    """What is wrong with a record's key."""
    _, bad = decode(columns, Record(value, key), clause="processing time", keying=keying)
    return bad[0].reason if bad else None


@pytest.mark.parametrize(
    ("columns", "value", "keys", "others"),
    [
        (
            "user string key",
            {"user": "u1"},
            [b"u1", b'"u1"', b'["u1"]', b' "u1"', b'"\\u0075\\u0031"'],
            [None, b"", b"u2", b"u", b"u11", b'"u1', b'u1"', b'["u1","u1"]', b'{"user":"u1"}', b"\xff", b"null"],
        ),
        ("user string key", {"user": ""}, [b"", b'""', b'[""]'], [None, b"null", b" "]),
        ("user string key", {"user": "\u017c"}, ["\u017c".encode(), b'"\\u017c"'], [b"\xc5"]),
        ("n bigint key", {"n": 42}, [b"42", b'"42"', b"[42]"], [None, b"", b"042", b"420", b"4", b"-42", b"4x", b"-"]),
        ("n bigint key", {"n": -7}, [b"-7", b"[-7]"], [b"7", b"--7", b"-07"]),
        ("n bigint key", {"n": 0}, [b"0"], [b"", b"00"]),
        ("n bigint key", {"n": 2**63 - 1}, [b"9223372036854775807"], [b"9223372036854775808", b"-1"]),
        ("n bigint key", {"n": 1}, [b"1"], [b"true", b"[true]"]),
        ("d decimal(6, 2) key", {"d": "12.50"}, [b"12.50", b"12.5", b'"12.50"'], [b"1250", b"12.51", b"NaN", b"x"]),
        ("d double key", {"d": 1.5}, [b"1.5", b"1.50", b"[1.5]"], [b"1.6", b"nan"]),
        ("f boolean key", {"f": True}, [b"true", b'"true"', b"[true]"], [b"1", b"false", b"True"]),
        ("t timestamp key", {"t": 1000}, [b"1000", b'"1970-01-01T00:00:01.000Z"', b"1970-01-01T00:00:01.000Z"], [b"1"]),
        (
            "user string key, site bigint key",
            {"user": "u1", "site": 7},
            [b'["u1",7]', b'["u1", 7]', b"u1", b"7", b'"u1"'],
            [None, b'["u1"]', b'[7,"u1"]', b'["u1","7x"]', b"u17", b"8"],
        ),
    ],
)  # fmt: skip
def test_keys_are_verified(columns: str, value: Any, keys: list[bytes], others: list[bytes | None]) -> None:
    encoded = json.dumps(value).encode()
    for key in keys:
        assert verify(columns, encoded, key) is None, key
    for other in others:
        reason = verify(columns, encoded, other)
        assert reason is not None, other
        assert "keying = 'rekey'" in reason
        assert "keying = 'trust'" in reason
        assert verify(columns, encoded, other, "trust") is None
        assert verify(columns, encoded, other, "rekey") is None


def test_what_is_said_of_a_wrong_key() -> None:
    reason = verify("user string key, site bigint key", b'{"user": "u1", "site": 7}', b"x" * 100)
    assert reason is not None
    assert reason.startswith(f'the record\'s key is "{"x" * 60}...", which is not made of user "u1", site 7; ')
    reason = verify("user string key", b'{"user": "u1"}', None)
    assert reason is not None
    assert reason.startswith('the record\'s key is null, which is not made of user "u1"; have it written with the key')


def test_a_key_that_is_followed_by_digits() -> None:
    """The length of the value stands behind the key: of 24 bytes it is the letter 0."""
    value = b'{"n": 7, "pad": "12345"}'
    assert len(value) == 24
    assert verify("n bigint key, pad string", value, b"7") is None


def test_streams_without_keys_are_not_checked() -> None:
    assert verify("user string", b'{"user": "u1"}', None) is None


def test_a_wrong_key_of_a_wrong_value() -> None:
    reason = verify("user string key", b"{", None)
    assert reason is not None
    assert reason.startswith("not JSON")


def test_formats_that_are_not_there() -> None:
    with pytest.raises(ConnectorError, match="format avro is not there yet for Kafka; values are read as json"):
        KafkaDecoder(stream(LOGINS), form="avro")
    with pytest.raises(ConnectorError, match="are read as json, not 'csv'"):
        KafkaDecoder(stream(LOGINS), form="csv")


def test_rows_can_be_refused_afterwards() -> None:
    found = block(Record(b"bad"), Record(login("u1")), Record(login("u2"), b"k"), base=7)
    decoder = KafkaDecoder(stream(LOGINS))
    (refused,) = decoder.refuse(Chunk(found, found.size), {1: "too far"})
    assert isinstance(refused, BadKafkaRecord)
    assert (refused.offset, refused.key, refused.raw, refused.reason) == (9, b"k", login("u2"), "too far")


def test_an_event_from_the_far_future_is_found_again() -> None:
    now = 1_000_000
    declared = stream("user string key, ts timestamp(ms) time max ahead 1 min")
    intake = Intake(declared, KafkaDecoder(declared), WatermarkGenerator(TimePolicy.of(declared.time, live=True), now))
    made = [
        Record(login(ts=now)),
        Record(b"bad"),
        Record(login(ts=now + 60_001), b"k1"),
        Record(login(ts=now + 60_000)),
    ]
    found = block(*made, base=50)
    admitted = intake.admit(intake.decode(Chunk(found, found.size)), now)
    assert admitted.batch.time.tolist() == [now, now + 60_000]
    assert [(each.offset, each.raw) for each in admitted.bad] == [(51, b"bad"), (52, login(ts=now + 60_001))]
    refused = admitted.bad[1]
    assert isinstance(refused, BadKafkaRecord)
    assert (refused.key, refused.reason) == (b"k1", "time 1060001 lies too far in the future (`max ahead`)")


def test_a_key_column_that_is_the_key() -> None:
    assert verify("user string from metadata 'key' key", b"{}", b"u1") is None
    assert verify("user string from metadata 'key' key", b"{}", None) == "column user: the key (metadata 'key') is null"


def test_an_empty_block() -> None:
    made, bad = KafkaDecoder(stream(ABOUT)).decode(Chunk(RecordBlock.empty("t", 0, 5), 0))
    assert (len(made), bad) == (0, [])
    assert list(made.columns) == ["topic", "user", "place", "at", "ts", "ms", "k", "trace", "other"]


def test_a_bad_record_is_one_of_the_others() -> None:
    _, (found,) = decode(LOGINS, Record(b"{"))
    assert isinstance(found, BadRecord)
    compressed = batch([Record(b"{")], 4, codec="zstd")
    again = take_apart("t", 1, compressed.data, 4, None, "read_committed")
    assert BadKafkaRecord.of(again, 0, "x").source == "t/1"
