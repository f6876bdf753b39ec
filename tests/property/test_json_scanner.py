"""The JSON scanner kernel gives what the exact decoder gives, whatever the lines and wherever they are cut."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ostinato.cep.connectors.base import BadRecord, Chunk
from ostinato.cep.connectors.json_lines import JsonLines
from ostinato.patterns.ast import FieldDecl, Stream, TimeDecl
from ostinato.patterns.types import BIGINT, BOOLEAN, DATE, DOUBLE, STRING, TIMESTAMP, Array, Decimal, Row

STREAM = Stream(
    "s",
    (
        FieldDecl("user", STRING, key=True),
        FieldDecl("ts", TIMESTAMP),
        FieldDecl("amount", DOUBLE),
        FieldDecl("n", BIGINT),
        FieldDecl("ok", BOOLEAN),
        FieldDecl("price", Decimal(8, 2)),
        FieldDecl("day", DATE),
        FieldDecl("seen", TIMESTAMP),
        FieldDecl("text", STRING, source=("a long name, longer than sixteen bytes",)),
    ),
    TimeDecl("ts"),
)
SECONDS = Stream("s", STREAM.columns[:3], TimeDecl("ts", format="s"))
ISO = Stream("s", STREAM.columns[:3], TimeDecl("ts", format="iso", zone="Europe/Berlin"))
RAW_TIME = Stream("s", (STREAM.columns[0], FieldDecl("ts", BIGINT), STREAM.columns[2]), TimeDecl("ts", format="us"))

numbers = (
    st.sampled_from(
        [
            "0",
            "-0",
            "-0.0",
            "1",
            "-1",
            "12",
            "01",
            "1.",
            ".5",
            "-",
            "1e3",
            "1E+5",
            "2.5e-7",
            "1e400",
            "1e-400",
            "0e999",
            "123456789012345678",
            "1234567890123456789",
            "9223372036854775807",
            "9223372036854775808",
            "-9223372036854775808",
            "-9223372036854775809",
            "18446744073709551616",
            "0.1",
            "0.30000000000000004",
            "179.99",
            "1234.5",
            "1.10",
            "1.105",
            "3.0",
            "1.5e2",
            "9007199254740993",
            "9007199254740993.0",
            "1700000000123",
            "1700000000.123",
            "1700000000.1239",
            "1700000000123456",
            "253402300799999",
            "253402300800000",
            "-62135596800001",
            "NaN",
            "Infinity",
            "1000000.00",
            "999999.99",
            "123456.7800",
            "1e22",
            "1e23",
            "123e-25",
            "0.000001234567890123456789",
            "+1",
            "0x10",
            "1_000",
            "1e",
            "1e+",
            "--1",
        ]
    )
    | st.floats(allow_nan=False, allow_infinity=False).map(repr)
    | st.integers().map(str)
)
texts = st.sampled_from(
    [
        "abc",
        "",
        "2023-11-14T22:13:20.123Z",
        "2023-11-14",
        "2023-10-29 02:30:00",
        "2024-02-30",
        "2023-11-14T25:00:00",
        "zażółć",
        "\U0001f600",
        'quo"te',
        "back\\slash",
        "tab\t",
        "line\nfeed",
        "\x7f",
        "\x01",
        "x" * 40,
        "12.50",
    ]
).map(lambda text: json.dumps(text, ensure_ascii=len(text) % 2 == 0)) | st.text(max_size=12).map(
    lambda text: json.dumps(text, ensure_ascii=False)
)
raw_texts = st.sampled_from(
    ['"\\u00e9"', '"\\ud800"', '"\\ud83d\\ude00"', '"\\x"', '"\\u12"', '"\\/"', '"a\tb"', '"open', "'single'", '"\\"']
)
literals = st.sampled_from(["null", "true", "false", "nul", "True", "nullx", "falsey"])
nested = st.recursive(
    numbers | texts | literals,
    lambda inner: (
        st.lists(inner, max_size=3).map(lambda items: "[" + ", ".join(items) + "]")
        | st.lists(st.tuples(texts, inner), max_size=3).map(
            lambda items: "{" + ",".join(f"{key} : {value}" for key, value in items) + "}"
        )
    ),
    max_leaves=6,
)
values = numbers | texts | raw_texts | literals | nested
NESTED = Stream(
    "s",
    (
        *STREAM.columns[:2],
        FieldDecl("city", STRING, source=("geo", "city")),
        FieldDecl("lat", Decimal(12, 10), source=("geo", "lat")),
        FieldDecl("deep", BIGINT, source=("geo", "x", "y")),
        FieldDecl("geo", Row((("city", STRING), ("lat", DOUBLE)))),
        FieldDecl("tags", Array(BIGINT)),
        FieldDecl("n", BIGINT),
        FieldDecl("again", DOUBLE, source=("n",)),
    ),
    TimeDecl("ts"),
)
places = st.fixed_dictionaries({}, optional={"city": texts, "lat": numbers, "x": nested, "z": values}).map(
    lambda members: "{" + ",".join(f'"{name}":{value}' for name, value in members.items()) + "}"
)
lists = st.lists(numbers, max_size=3).map(lambda items: f"[{','.join(items)}]")
names = st.sampled_from(
    [*(column.source[0] if column.source else column.name for column in STREAM.columns), "x", "é", "geo", "tags"]
)


@st.composite
def good_lines(draw: st.DrawFn) -> str:
    """Mostly right records, so that the columns are really filled; any field may be odd."""
    record = {
        "user": json.dumps(draw(st.sampled_from(["u1", "u22", "user"]))),
        "ts": draw(st.integers(10**12, 2 * 10**12).map(str)),
        "amount": draw(st.floats(0, 1e6).map(lambda value: f"{value:.2f}")),
        "n": draw(st.integers(-(10**6), 10**6).map(str)),
        "x": "[1, {}]",
        "text": json.dumps(draw(st.text(max_size=5)), ensure_ascii=False),
        "a long name, longer than sixteen bytes": '"t"',
    }
    if draw(st.booleans()):
        record["geo"], record["tags"] = draw(places), draw(lists)
    if draw(st.booleans()):
        record[draw(names)] = draw(values)
    if draw(st.integers(0, 3)) == 0:
        del record[draw(st.sampled_from(sorted(record)))]
    members = [f'"{key}":{value}' for key, value in record.items()]
    if draw(st.integers(0, 5)) == 0:
        members = draw(st.permutations(members))
    return "{" + draw(st.sampled_from([",", ", ", " ,"])).join(members) + "}"


odd_lines = st.lists(st.tuples(names, values), max_size=5).map(
    lambda members: "{" + ",".join(f'"{name}": {value}' for name, value in members) + "}"
)
broken_lines = st.sampled_from(
    ["", " ", "\r", "{}", "{} ", "[]", "null", "{", '{"user"', '{"user":', '{"user":"a",}', '{"user":"a"} x', "\x0b{}",
     '{"user":"a" "ts":1}', '{"us\\u0065r":"a","ts":1}', '{"user":"a","ts":1,"user":"b"}', '{"ts":1,"user":"a"}\r',
     ' { "user" : "a" , "ts" : 5 } ', '{"user":"a","ts":1}{}', '{"user":null,"ts":1}', '{"x":' + "[" * 80 + "]" * 80 +
     ',"user":"a","ts":1}']
)  # fmt: skip
line_bytes = (good_lines() | odd_lines | broken_lines).map(lambda line: line.encode("utf-8", "surrogatepass"))


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A line with a byte changed."""
    line = bytearray(draw(line_bytes))
    if line:
        line[draw(st.integers(0, len(line) - 1))] = draw(st.integers(0, 255).filter(lambda byte: byte != 10))
    return bytes(line)


def rows_of(batches: list[Any]) -> list[tuple[Any, ...]]:
    """Every row with its time; floats by their bits, as -0.0 is not 0.0."""
    found = []
    for batch in batches:
        columns = [column.to_list() for column in batch.columns.values()]
        found += list(zip(batch.time.tolist(), *columns, strict=True))
    return [
        tuple((value, math.copysign(1, value)) if isinstance(value, float) else value for value in row) for row in found
    ]


def decode(decoder: JsonLines, chunks: list[Chunk]) -> tuple[list[tuple[Any, ...]], list[BadRecord]]:
    batches, bad = [], []
    for chunk in chunks:
        batch, rejected = decoder.decode(chunk)
        batches.append(batch)
        bad += rejected
    return rows_of(batches), bad


def cut(lines: list[bytes], sizes: list[int], final: bool) -> list[Chunk]:
    """The lines in chunks of the given numbers of lines, and the rest in one."""
    chunks, at, offset = [], 0, 0
    for size in [*sizes, len(lines)]:
        part = lines[at : at + size]
        if not part:
            continue
        last = at + size >= len(lines)
        data = b"\n".join(part) + (b"" if last and not final else b"\n")
        chunks.append(Chunk.of(data, first_line=at + 1, first_offset=offset))
        at += size
        offset += len(data)
    return chunks


@given(
    st.lists(line_bytes | damaged(), max_size=12),
    st.lists(st.integers(1, 4), max_size=4),
    st.booleans(),
    st.sampled_from([STREAM, SECONDS, ISO, RAW_TIME, NESTED]),
    st.sampled_from([None, frozenset({"amount"}), frozenset[str]()]),
)
@example([b'{"user":"a","ts":1,"n":1}', b'{"user":"a","ts":1,"n":1,"n":2}'], [], True, STREAM, None)
@example([b'{"user":"a","ts":1,"x":1,"n":1}', b'{"user":"a","ts":1,"n":1,"n":2}'], [], True, STREAM, None)
@example([b'{"user":"a","ts":1,"x":"\\ud83d\\ude00"}'], [], True, STREAM, None)
@settings(max_examples=300, deadline=None)
def test_the_kernel_agrees_with_the_exact_decoder(
    lines: list[bytes], sizes: list[int], final: bool, stream: Stream, columns: frozenset[str] | None
) -> None:
    exact = decode(JsonLines(stream, columns, exact=True), cut(lines, [], final))
    assert decode(JsonLines(stream, columns), cut(lines, [], final)) == exact
    assert decode(JsonLines(stream, columns), cut(lines, sizes, final)) == exact


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=50))
@settings(max_examples=100, deadline=None)
def test_doubles_are_parsed_as_python_does(wanted: list[float]) -> None:
    stream = Stream("s", (FieldDecl("x", DOUBLE),), TimeDecl(mode="processing"))
    forms = [form for value in wanted for form in (repr(value), f"{value:.6g}", f"{value:.17e}")]
    batch, bad = JsonLines(stream).decode(Chunk.of("\n".join(f'{{"x":{form}}}' for form in forms)))
    assert not bad
    assert batch.columns["x"].array.view(np.int64).tolist() == [
        np.float64(float(form) if set(form) & set(".eE") else float(int(form))).view(np.int64) for form in forms
    ]
