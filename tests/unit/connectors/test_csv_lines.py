"""CSV to columns."""

from __future__ import annotations

import csv
import io
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ostinato.cep.connectors.base import Chunk, ConnectorError, SourceError
from ostinato.cep.connectors.csv_lines import CsvLines
from ostinato.patterns.ast import FieldDecl, Stream, TimeDecl
from ostinato.patterns.types import BIGINT, BOOLEAN, DATE, DOUBLE, STRING, TIMESTAMP, Decimal

PAYMENTS = Stream(
    "payments",
    (FieldDecl("account", STRING, key=True), FieldDecl("ts", TIMESTAMP), FieldDecl("amount", DOUBLE)),
    TimeDecl("ts", format="s"),
)


def columns_of(batch: Any) -> dict[str, list[Any]]:
    return {name: column.to_list() for name, column in batch.columns.items()}


def test_cells_are_found_by_the_header_in_any_order() -> None:
    chunk = Chunk.of('17,x,1.5,"a ""b"", c"\r\n18.5,,,d', header=b'"ts",other,amount,account', first_line=2)
    batch, bad = CsvLines(PAYMENTS).decode(chunk)
    assert not bad
    assert batch.time.tolist() == [17000, 18500]
    assert columns_of(batch) == {"account": ['a "b", c', "d"], "ts": [17000, 18500], "amount": [1.5, None]}


def test_without_a_header_cells_are_in_the_order_of_the_declaration() -> None:
    batch, bad = CsvLines(PAYMENTS, frozenset(), delimiter=";").decode(Chunk.of("a;17;x\n\nb;18;y\n"))
    assert not bad
    assert columns_of(batch) == {"account": ["a", "b"], "ts": [17000, 18000]}


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("a,17", "expected 3 cells, found 2"),
        ("a,17,1,2", "expected 3 cells, found 4"),
        ('"a"b,17,1', "a quote in the wrong place"),
        ('a,17,"1', "a quote in the wrong place"),
        (",17,1", "column account: the key is missing or null"),
        ("a,,1", "column ts: the event time is missing or null"),
        ("a,soon,1", 'column ts: expected TIMESTAMP in seconds, found text "soon"'),
        ("a,17,abc", 'column amount: expected DOUBLE, found text "abc"'),
        ("a,17,NaN", 'column amount: expected DOUBLE, found text "NaN"'),
        ("a,17,inf", 'column amount: expected DOUBLE, found text "inf"'),
        ("a,17,1e999", "column amount: expected DOUBLE, found text 1E+999, which is not finite"),
        ("a\udcff,17,1", "column account: invalid UTF-8"),
    ],
)
def test_a_bad_record_is_given_back_with_its_place_and_the_reason(line: str, reason: str) -> None:
    raw = line.encode("utf-8", "surrogateescape")
    batch, bad = CsvLines(PAYMENTS).decode(Chunk.of(b"a,1,1\n" + raw, first_line=5, first_offset=50))
    assert len(batch) == 1
    assert [(record.raw, record.line, record.offset, record.reason) for record in bad] == [(raw, 6, 56, reason)]


@pytest.mark.parametrize(
    ("type_", "text", "expected"),
    [
        (BIGINT, "42", 42),
        (BIGINT, " 42 ", 42),
        (BIGINT, "+007", 7),
        (BIGINT, "3.0", 3),
        (BIGINT, "9223372036854775808", "text 9223372036854775808 is beyond 64 bits"),
        (DOUBLE, ".5", 0.5),
        (DOUBLE, "0.30000000000000004", 0.30000000000000004),
        (BOOLEAN, "true", True),
        (BOOLEAN, "No", False),
        (BOOLEAN, "2", 'expected BOOLEAN, found text "2"'),
        (DATE, "2023-11-14", 19675),
        (TIMESTAMP, "2023-11-14T22:13:20.123Z", 1700000000123),
        (TIMESTAMP, "1700000000123", 1700000000123),
        (Decimal(6, 2), "12.50", 1250),
        (Decimal(6, 2), "12.505", "expected DECIMAL(6, 2), found text 12.505, which has too many digits"),
        (STRING, " as it is ", " as it is "),
        (STRING, '""', ""),
        (STRING, "", None),
        (STRING, "NA", None),
        (STRING, '"NA"', "NA"),
    ],
)
def test_values(type_: Any, text: str, expected: Any) -> None:
    stream = Stream("s", (FieldDecl("x", type_), FieldDecl("y", STRING)), TimeDecl(mode="processing"))
    batch, bad = CsvLines(stream, null="NA").decode(Chunk.of(f"{text},y\n"))
    found = bad[0].reason.removeprefix("column x: ") if bad else batch.columns["x"].to_list()[0]
    assert found == expected


texts = st.text(st.sampled_from('ab",;\n\r é'), max_size=6)


@given(st.lists(st.tuples(texts, texts), max_size=8), st.sampled_from(["\n", "\r\n"]))
@settings(max_examples=150, deadline=None)
def test_what_python_writes_is_read_back(rows: list[tuple[str, str]], end: str) -> None:
    stream = Stream("s", (FieldDecl("x", STRING), FieldDecl("y", STRING)), TimeDecl(mode="processing"))
    written = io.StringIO()
    csv.writer(written, lineterminator=end, quoting=csv.QUOTE_ALL).writerows(rows)
    batch, bad = CsvLines(stream).decode(Chunk.of(written.getvalue()))
    assert not bad
    assert list(zip(*columns_of(batch).values(), strict=True)) == rows


def test_a_column_that_the_header_lacks() -> None:
    with pytest.raises(SourceError, match="its header has no column 'account'; did you mean `acount`"):
        CsvLines(PAYMENTS).decode(Chunk.of("a,1,1", header=b"acount,ts,amount", source="f.csv"))


def test_a_delimiter_must_be_one_character() -> None:
    with pytest.raises(ConnectorError, match="single ASCII characters"):
        CsvLines(PAYMENTS, delimiter="||")
