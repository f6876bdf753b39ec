"""What is written: JSON lines, CSV, Parquet, tables; whole lines whatever happens."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import resource
import signal
from collections.abc import Iterator
from decimal import Decimal as Number
from pathlib import Path
from typing import Any

import orjson
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ostinato.cep.batch import Batch, Vector
from ostinato.cep.connectors.base import BadRecord, SinkError
from ostinato.cep.connectors.dead_letters import DeadLetters
from ostinato.cep.connectors.output import LineFile
from ostinato.cep.connectors.parquet_sink import ParquetSink
from ostinato.cep.connectors.render import csv_header, csv_lines, json_lines
from ostinato.cep.connectors.sinks import CsvSink, JsonSink, TableSink
from ostinato.patterns.types import (
    BIGINT,
    BOOLEAN,
    DATE,
    DOUBLE,
    INTERVAL,
    STRING,
    TIMESTAMP,
    Array,
    DataType,
    Decimal,
    Row,
)

EVENT = Row((("ts", TIMESTAMP), ("price", Decimal(6, 2))))
COLUMNS: dict[str, tuple[DataType, list[Any]]] = {
    "user": (STRING, ["u1", 'a "quoted", \\ b\n\x01é', None]),
    "n": (BIGINT, [0, -(2**63), None]),
    "x": (DOUBLE, [1.0, 1e-7, None]),
    "ok": (BOOLEAN, [True, False, None]),
    "ts": (TIMESTAMP, [1700000000123, -1, None]),
    "day": (DATE, [19675, -1, None]),
    "span": (INTERVAL, [1500, -3, None]),
    "price": (Decimal(6, 2), [1250, -5, None]),
    "events": (Array(EVENT), [[{"ts": 0, "price": 5}], [], None]),
}
ROWS = [
    {"user": "u1", "n": 0, "x": 1.0, "ok": True, "ts": "2023-11-14T22:13:20.123Z", "day": "2023-11-14", "span": 1500,
     "price": 12.5, "events": [{"ts": "1970-01-01T00:00:00.000Z", "price": 0.05}]},
    {"user": 'a "quoted", \\ b\n\x01é', "n": -(2**63), "x": 1e-07, "ok": False, "ts": "1969-12-31T23:59:59.999Z",
     "day": "1969-12-31", "span": -3, "price": -0.05, "events": []},
    dict.fromkeys(COLUMNS),
]  # fmt: skip


def batch_of(columns: dict[str, tuple[DataType, list[Any]]]) -> Batch:
    made = {name: Vector.of(type_, values) for name, (type_, values) in columns.items()}
    rows = len(next(iter(made.values())))
    return Batch("alerts", Vector.of(BIGINT, [0] * rows).array, made)


def test_json_lines_hold_every_type() -> None:
    lines = json_lines(batch_of(COLUMNS)).splitlines()
    assert [json.loads(line) for line in lines] == ROWS
    assert b'"price":12.50,' in lines[0]


def test_csv_lines_tell_null_from_empty() -> None:
    batch = batch_of({"a,b": (STRING, ["", None, 'x"y', "p;q", "two\nlines"]), "n": (BIGINT, [1, None, 3, 4, 5])})
    written = csv_header(batch) + csv_lines(batch)
    assert written == b'"a,b",n\n"",1\n,\n"x""y",3\np;q,4\n"two\nlines",5\n'
    assert csv_lines(batch, ";").splitlines()[3] == b'"p;q";4'


@given(st.lists(st.tuples(st.text(), st.floats(), st.integers(-(2**63), 2**63 - 1)), min_size=1, max_size=20))
@settings(max_examples=100, deadline=None)
def test_lines_are_read_back_as_they_were(rows: list[tuple[str, float, int]]) -> None:
    texts, floats, ints = (list(column) for column in zip(*rows, strict=True))
    batch = batch_of({"t": (STRING, texts), "f": (DOUBLE, floats), "i": (BIGINT, ints)})
    expected = [{"t": text, "f": number if math.isfinite(number) else None, "i": whole} for text, number, whole in rows]
    assert [orjson.loads(line) for line in json_lines(batch).split(b"\n")[:-1]] == expected
    written = io.StringIO(csv_lines(batch).decode(), newline="")
    read = list(csv.reader(written))
    assert [(row[0], int(row[2])) for row in read] == [(text.replace("\0", "\0"), whole) for text, _, whole in rows]


def test_an_empty_batch_writes_nothing() -> None:
    batch = batch_of({name: (type_, []) for name, (type_, _) in COLUMNS.items()})
    assert json_lines(batch) == csv_lines(batch) == b""


def test_files_of_json_and_csv(tmp_path: Path) -> None:
    batch = batch_of({"n": (BIGINT, [1, 2])})
    sink = JsonSink(LineFile.create(str(tmp_path / "a")))
    sink.write(batch)
    sink.flush()
    assert (tmp_path / "a").read_bytes() == b'{"n":1}\n{"n":2}\n'
    sink.close()
    again = JsonSink(LineFile.create(str(tmp_path / "a"), append=True))
    again.write(batch)
    again.close()
    assert (tmp_path / "a").read_bytes().count(b"\n") == 4
    table = CsvSink(LineFile.create(str(tmp_path / "b")))
    table.write(batch)
    table.write(batch)
    table.close()
    assert (tmp_path / "b").read_bytes() == b"n\n1\n2\n1\n2\n"


def test_parquet_holds_every_type_and_appears_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    sink = ParquetSink(str(path))
    sink.write(batch_of(COLUMNS))
    sink.flush()
    assert not path.exists()
    sink.close()
    table = pyarrow.parquet.read_table(path)
    assert table.schema.field("ts").type == pyarrow.timestamp("ms", "UTC")
    rows = table.to_pylist()
    assert [row["user"] for row in rows] == COLUMNS["user"][1]
    assert [row["price"] for row in rows] == [Number("12.50"), Number("-0.05"), None]
    assert [row["day"] and row["day"].isoformat() for row in rows] == ["2023-11-14", "1969-12-31", None]
    assert rows[0]["events"][0]["price"] == Number("0.05")
    assert rows[2] == dict.fromkeys(COLUMNS)
    assert list(tmp_path.iterdir()) == [path]


def read_pipe(descriptor: int) -> str:
    with os.fdopen(descriptor, "rb") as stream:
        return stream.read().decode()


def test_a_table_for_a_terminal() -> None:
    read_end, write_end = os.pipe()
    sink = TableSink(LineFile("<stdout>", write_end, owned=True), title="alerts", width=30)
    sink.write(batch_of({"user": (STRING, ["u1", "日本\x1b[31m", None]), "failures": (BIGINT, [3, 12, None])}))
    sink.write(batch_of({"user": (STRING, ["a much longer name than before"]), "failures": (BIGINT, [4])}))
    sink.close()
    assert read_pipe(read_end) == (
        "alerts\n"
        "user       failures\n"
        "─────────  ────────\n"
        "u1                3\n"
        "日本\ufffd[31m        12\n"
        "\n"
        "a much longer name than befor…\n"
    )


@pytest.fixture
def limited() -> Iterator[None]:
    """No file may become larger than 1000 bytes: the same error as a full disk, after a part was written."""
    json_lines(batch_of({"n": (BIGINT, [1])}))  # compiled kernels are files, too
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.usefixtures("limited")
def test_a_full_disk_leaves_whole_lines(tmp_path: Path) -> None:
    path = tmp_path / "a"
    sink = JsonSink(LineFile.create(str(path)))
    sink.write(batch_of({"n": (BIGINT, list(range(10**6, 10**6 + 200)))}))
    with pytest.raises(SinkError, match=r"cannot write .*/a: file too large; ") as caught:
        sink.flush()
    assert "\n" not in str(caught.value)
    sink.close()
    written = path.read_bytes()
    assert written.endswith(b"}\n")
    assert len(written) > 900
    assert all(json.loads(line) for line in written.splitlines())


def test_a_device_without_room() -> None:
    sink = JsonSink(LineFile("/dev/full", os.open("/dev/full", os.O_WRONLY), owned=True))
    sink.write(batch_of({"n": (BIGINT, [1])}))
    with pytest.raises(SinkError, match="cannot write /dev/full: no space left on device; make room"):
        sink.flush()
    sink.close()


def test_a_closed_pipe() -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    sink = JsonSink(LineFile("<stdout>", write_end, owned=True))
    sink.write(batch_of({"n": (BIGINT, [1])}))
    with pytest.raises(SinkError, match="cannot write <stdout>: broken pipe; whoever was reading has gone"):
        sink.close()


@pytest.mark.parametrize("kind", [LineFile.create, ParquetSink])
def test_a_folder_that_is_not_there(tmp_path: Path, kind: Any) -> None:
    with pytest.raises(SinkError, match=r"there is no folder .*/no; make it first"):
        kind(str(tmp_path / "no" / "a"))


def test_dead_letters_keep_the_bytes_and_the_place(tmp_path: Path) -> None:
    path = tmp_path / "dead.jsonl"
    letters = DeadLetters(str(path))
    letters.write([])
    letters.close()
    assert not path.exists()
    letters = DeadLetters(str(path))
    letters.write([BadRecord(b'{"n":"\xc3\xa9"}', "f", 3, 17, "bad"), BadRecord(b"\xff", "f", 4, 30, "not UTF-8")])
    letters.close()
    assert [json.loads(line) for line in path.read_text().splitlines()] == [
        {"source": "f", "line": 3, "offset": 17, "reason": "bad", "raw": '{"n":"é"}'},
        {"source": "f", "line": 4, "offset": 30, "reason": "not UTF-8", "raw_base64": "/w=="},
    ]
    assert letters.count == 2
    assert letters.first is not None
    assert letters.first.line == 3


@pytest.mark.parametrize("stream", [io.StringIO(), io.TextIOWrapper(io.BytesIO(), encoding="utf-8"), io.BytesIO()])
def test_a_stream_in_memory(stream: Any) -> None:
    sink = JsonSink(LineFile.of_stream(stream, "<stdout>"))
    sink.write(batch_of({"t": (STRING, ["é"])}))
    sink.close()
    written = stream.buffer if isinstance(stream, io.TextIOWrapper) else stream
    assert written.getvalue() in ('{"t":"é"}\n', '{"t":"é"}\n'.encode())


@pytest.mark.parametrize("stream", [None, io.StringIO()])
def test_a_closed_stream(stream: Any) -> None:
    if stream is not None:
        stream.close()
    with pytest.raises(SinkError, match="cannot write <stdout>: it is closed"):
        LineFile.of_stream(stream, "<stdout>")


def test_dead_letters_can_only_be_counted() -> None:
    letters = DeadLetters(None)
    letters.write([BadRecord(b"", "f", 1, 0, "x")])
    letters.close()
    assert letters.count == 1
