"""JSON lines to columns, and what is said of lines that cannot be used."""

from __future__ import annotations

from typing import Any

import pytest

from ostinato.cep.connectors.base import Chunk
from ostinato.cep.connectors.json_lines import JsonLines
from ostinato.patterns.ast import FieldDecl, Stream, TimeDecl
from ostinato.patterns.types import BIGINT, BOOLEAN, DATE, DOUBLE, STRING, TIMESTAMP, Array, Decimal, Row

LOGINS = Stream(
    "logins",
    (FieldDecl("user", STRING, key=True), FieldDecl("ts", TIMESTAMP), FieldDecl("amount", DOUBLE)),
    TimeDecl("ts"),
)


def of(type_: Any, time: TimeDecl | None = None) -> Stream:
    return Stream("s", (FieldDecl("x", type_),), time or TimeDecl(mode="processing"))


def decode_one(stream: Stream, value: str) -> Any:
    """The value of column x, or what is said of it; by the kernel and by the exact decoder."""
    answers = []
    for exact in (False, True):
        batch, bad = JsonLines(stream, exact=exact).decode(Chunk.of(f'{{"x":{value}}}\n'))
        answers.append(bad[0].reason if bad else batch.columns["x"].to_list()[0])
        assert len(batch) + len(bad) == 1
    assert answers[0] == answers[1]
    return answers[0]


def test_a_batch_has_the_time_and_the_columns() -> None:
    lines = b'{"user":"u1","ts":1700000000123,"amount":1.5}\n{"ts":5,"user":"\xc5\xbc","x":[1,{"y":"]"}]}\n'
    batch, bad = JsonLines(LOGINS).decode(Chunk.of(lines))
    assert not bad
    assert batch.stream == "logins"
    assert batch.time.tolist() == [1700000000123, 5]
    assert {name: column.to_list() for name, column in batch.columns.items()} == {
        "user": ["u1", "ż"],
        "ts": [1700000000123, 5],
        "amount": [1.5, None],
    }


def test_only_needed_columns_are_decoded_with_the_keys_and_the_time() -> None:
    batch, bad = JsonLines(LOGINS, frozenset()).decode(Chunk.of('{"user":"u","ts":1,"amount":"not looked at"}'))
    assert not bad
    assert list(batch.columns) == ["user", "ts"]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"nonsense", "not JSON: "),
        (b'{"user":"u","ts":1', "not JSON: "),
        (b'{"user":"u","ts":NaN}', "not JSON: "),
        (b'{"user":"u","ts":1}}', "not JSON: "),
        (b'{"user":"\xff","ts":1}', "not UTF-8 from byte 10 on"),
        (b"[1]", "not a JSON object"),
        (b'{"ts":1}', "column user: the key is missing or null"),
        (b'{"user":null,"ts":1}', "column user: the key is missing or null"),
        (b'{"user":5,"ts":1}', "column user: expected STRING, found number 5"),
        (b'{"user":"u"}', "column ts: the event time is missing or null"),
        (b'{"user":"u","ts":null}', "column ts: the event time is missing or null"),
        (b'{"user":"u","ts":"5"}', 'column ts: expected TIMESTAMP in ms, found text "5"'),
        (
            b'{"user":"u","ts":1700000000123456}',
            "column ts: number 1700000000123456 is not a time between the years 1 and 9999; is the unit right?",
        ),
        (b'{"user":"u","ts":1,"amount":"abc"}', 'column amount: expected DOUBLE, found text "abc"'),
        (b'{"user":"u","ts":1,"amount":true}', "column amount: expected DOUBLE, found true"),
        (b'{"user":"u","ts":1,"amount":[]}', "column amount: expected DOUBLE, found an array"),
        (b'{"user":"u","ts":1,"amount":{}}', "column amount: expected DOUBLE, found an object"),
        (b'{"user":"u","ts":1,"amount":1e999}', "not JSON: "),
    ],
)
def test_a_bad_line_is_given_back_with_its_place_and_the_reason(line: bytes, reason: str) -> None:
    good = b'{"user":"a","ts":1,"amount":1}'
    data = b"\n".join([good, b"", line, good]) + b"\n"
    for exact in (False, True):
        decoder = JsonLines(LOGINS, exact=exact)
        batch, bad = decoder.decode(Chunk.of(data, source="f", first_line=10, first_offset=100))
        assert len(batch) == 2
        assert [(record.raw, record.source, record.line, record.offset) for record in bad] == [(line, "f", 12, 132)]
        assert bad[0].reason == reason or (reason == "not JSON: " and bad[0].reason.startswith(reason))


@pytest.mark.parametrize("data", [b"", b"\n", b"\n \t\n\r\n"])
def test_nothing_and_blank_lines_are_no_events(data: bytes) -> None:
    batch, bad = JsonLines(LOGINS).decode(Chunk.of(data))
    assert len(batch) == 0
    assert not bad
    assert list(batch.columns) == ["user", "ts", "amount"]


def test_windows_line_ends_and_no_last_line_end() -> None:
    batch, bad = JsonLines(LOGINS).decode(Chunk.of('{"user":"a","ts":1}\r\n{"user":"b","ts":2}'))
    assert not bad
    assert batch.columns["user"].to_list() == ["a", "b"]


def test_the_last_of_two_equal_keys_counts() -> None:
    batch, _ = JsonLines(LOGINS).decode(Chunk.of('{"user":"a","ts":1,"amount":"x","amount":2}'))
    assert batch.columns["amount"].to_list() == [2.0]


@pytest.mark.parametrize(
    ("type_", "value", "expected"),
    [
        (BIGINT, "9223372036854775807", 2**63 - 1),
        (BIGINT, "-9223372036854775808", -(2**63)),
        (BIGINT, "3.0", 3),
        (BIGINT, "1e3", 1000),
        (BIGINT, "3.5", "column x: expected BIGINT, found number 3.5"),
        (BIGINT, "9223372036854775808", "column x: number 9223372036854775808 is beyond 64 bits"),
        (BIGINT, "-9223372036854775809", "column x: number -9.223372036854776e+18 is beyond 64 bits"),
        (BIGINT, "1e300", "column x: number 1e+300 is beyond 64 bits"),
        (BIGINT, "true", "column x: expected BIGINT, found true"),
        (DOUBLE, "3", 3.0),
        (DOUBLE, "0.30000000000000004", 0.30000000000000004),
        (DOUBLE, "12345678901234567890123", 1.2345678901234568e22),
        (BOOLEAN, "true", True),
        (BOOLEAN, "1", "column x: expected BOOLEAN, found number 1"),
        (STRING, '"a\\u00e9\\n"', "aé\n"),
        (STRING, "1", "column x: expected STRING, found number 1"),
        (STRING, "null", None),
        (DATE, '"2023-11-14"', 19675),
        (DATE, '"2023-11-31"', 'column x: expected DATE, found text "2023-11-31"'),
        (TIMESTAMP, "1700000000123", 1700000000123),
        (TIMESTAMP, '"2023-11-14T22:13:20.123Z"', 1700000000123),
        (TIMESTAMP, '"yesterday"', 'column x: expected TIMESTAMP, found text "yesterday"'),
        (Decimal(6, 2), "12.5", 1250),
        (Decimal(6, 2), "12.500", 1250),
        (Decimal(6, 2), '"-12.34"', -1234),
        (Decimal(6, 2), "9999.99", 999999),
        (Decimal(6, 2), "12.345", "column x: expected DECIMAL(6, 2), found number 12.345, which has too many digits"),
        (Decimal(6, 2), "10000", "column x: expected DECIMAL(6, 2), found number 10000, which has too many digits"),
        (Decimal(18, 1), "12345678901234567.8", 123456789012345678),
        (Array(BIGINT), "[1, null, 2.0]", [1, None, 2]),
        (Array(BIGINT), "[true]", "column x: expected BIGINT, found true"),
        (Row((("a", BIGINT), ("b", STRING))), '{"a":1,"c":2}', {"a": 1, "b": None}),
        (Row((("a", BIGINT),)), '{"a":"z"}', 'column x: in field a: expected BIGINT, found text "z"'),
    ],
)
def test_values(type_: Any, value: str, expected: Any) -> None:
    assert decode_one(of(type_), value) == expected


@pytest.mark.parametrize(
    ("form", "value", "expected"),
    [
        ("s", "1700000000", 1700000000000),
        ("s", "1700000000.1239", 1700000000123),
        ("s", "-0.0001", -1),
        ("us", "1700000000123999", 1700000000123),
        ("ns", "1700000000123999999", 1700000000123),
        ("iso", '"2023-11-14T22:13:20.123Z"', 1700000000123),
        ("%d.%m.%Y", '"14.11.2023"', 1699920000000),
        ("iso", "5", "column x: expected TIMESTAMP as iso, found number 5"),
        ("iso", '"14.11.2023"', 'column x: expected TIMESTAMP as iso, found text "14.11.2023"'),
    ],
)
def test_the_event_time_is_in_its_format(form: str, value: str, expected: Any) -> None:
    assert decode_one(of(TIMESTAMP, TimeDecl("x", format=form)), value) == expected


def test_the_event_time_may_be_a_column_of_another_type() -> None:
    for type_, form, value in ((BIGINT, "s", "17"), (DOUBLE, "s", "17.0"), (STRING, "iso", '"1970-01-01T00:00:17Z"')):
        stream = of(type_, TimeDecl("x", format=form))
        batch, bad = JsonLines(stream).decode(Chunk.of(f'{{"x":{value}}}\n{{"x":{value}}}'))
        assert not bad
        assert batch.time.tolist() == [17000, 17000]
    batch, bad = JsonLines(of(STRING, TimeDecl("x", format="iso"))).decode(Chunk.of('{"x":"1970-01-01"}\n{"x":"?"}'))
    assert batch.time.tolist() == [0]
    assert [(record.line, record.reason) for record in bad] == [(2, 'column x: expected a time as iso, found text "?"')]


def test_columns_can_lie_deeper_in_the_record_or_have_another_name() -> None:
    stream = Stream(
        "s",
        (
            FieldDecl("user", STRING, key=True, source=("user name",)),
            FieldDecl("city", STRING, source=("location", "city")),
        ),
        TimeDecl(mode="processing"),
    )
    batch, bad = JsonLines(stream).decode(
        Chunk.of('{"user name":"a","location":{"city":"Köln"}}\n{"user name":"b","location":5}\n{"user":"c"}')
    )
    assert batch.columns["city"].to_list() == ["Köln", None]
    assert [record.reason for record in bad] == ["column user: the key is missing or null"]


def test_many_more_rows_than_expected_and_very_long_lines() -> None:
    short = b'{"x":1}\n' * 50_000
    batch, bad = JsonLines(of(BIGINT)).decode(Chunk.of(b'{"x":1,"pad":"' + b"p" * 5_000_000 + b'"}\n' + short))
    assert not bad
    assert batch.columns["x"].array.sum() == 50_001


def test_columns_keep_their_texts_when_more_is_decoded() -> None:
    decoder = JsonLines(of(STRING))
    first, _ = decoder.decode(Chunk.of('{"x":"one"}\n{"x":"t\\u0077o"}'))
    decoder.decode(Chunk.of('{"x":"three"}\n{"x":"f\\u006fur"}'))
    assert first.columns["x"].to_list() == ["one", "two"]
