"""Parquet to columns."""

from __future__ import annotations

import datetime
from collections.abc import Iterable
from decimal import Decimal as Number
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from ostinato.cep.connectors import parquet
from ostinato.cep.connectors.base import BadRecord, Chunk, SourceError
from ostinato.cep.connectors.parquet import ParquetColumns, ParquetReader
from ostinato.patterns.ast import FieldDecl, Stream, TimeDecl
from ostinato.patterns.types import BIGINT, BOOLEAN, DATE, DOUBLE, STRING, TIMESTAMP, Array, Decimal, Row

STREAM = Stream(
    "s",
    (
        FieldDecl("user", STRING, key=True),
        FieldDecl("ts", TIMESTAMP),
        FieldDecl("n", BIGINT),
        FieldDecl("x", DOUBLE),
        FieldDecl("ok", BOOLEAN),
        FieldDecl("day", DATE),
        FieldDecl("price", Decimal(8, 2)),
        FieldDecl("tags", Array(STRING)),
        FieldDecl("geo", Row((("lat", DOUBLE),))),
        FieldDecl("lat", DOUBLE, source=("geo", "lat")),
    ),
    TimeDecl("ts"),
)
MOMENT = datetime.datetime(2023, 11, 14, 22, 13, 20, 123456, tzinfo=datetime.UTC)
ROW = {
    "user": "żółw",
    "ts": MOMENT,
    "n": -5,
    "x": 1.5,
    "ok": True,
    "day": MOMENT.date(),
    "price": Number("12.50"),
    "tags": ["a", None],
    "geo": {"lat": 50.0, "lon": 1.0},
}
EMPTY = {"user": "b", "ts": MOMENT} | dict.fromkeys(["n", "x", "ok", "day", "price", "tags", "geo"])
PHYSICAL = {
    "user": "żółw",
    "ts": 1700000000123,
    "n": -5,
    "x": 1.5,
    "ok": True,
    "day": 19675,
    "price": 1250,
    "tags": ["a", None],
    "geo": {"lat": 50.0},
    "lat": 50.0,
}


def decode(path: Path, stream: Stream, columns: frozenset[str] | None = None) -> tuple[list[Any], list[BadRecord]]:
    """All rows as dicts, and the bad ones."""
    decoder = ParquetColumns(stream, columns)
    reader = ParquetReader(str(path), decoder.columns)
    rows: list[Any] = []
    bad: list[BadRecord] = []
    while isinstance(chunk := reader.read(), Chunk):
        batch, rejected = decoder.decode(chunk)
        rows += [batch.row(i) for i in range(len(batch))]
        bad += rejected
    return rows, bad


def write(path: Path, table: Any, **options: Any) -> Path:
    pyarrow.parquet.write_table(table, path, **options)
    return path


def test_every_type(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", pyarrow.Table.from_pylist([ROW, EMPTY]))
    rows, bad = decode(path, STREAM)
    assert not bad
    assert rows == [PHYSICAL, dict.fromkeys(PHYSICAL) | {"user": "b", "ts": 1700000000123}]


def test_only_needed_columns_are_read(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", pyarrow.Table.from_pylist([ROW]))
    reader = ParquetReader(str(path), ParquetColumns(STREAM, frozenset(["lat"])).columns)
    chunk = reader.read()
    reader.close()
    assert isinstance(chunk, Chunk)
    assert sorted(chunk.data.column_names) == ["geo", "ts", "user"]


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_times_of_any_unit(tmp_path: Path, unit: str) -> None:
    times = pyarrow.array([17, -1], pyarrow.int64()).cast(pyarrow.timestamp(unit))
    stream = Stream("s", (FieldDecl("ts", TIMESTAMP),), TimeDecl("ts"))
    rows, _ = decode(write(tmp_path / "a.parquet", pyarrow.table({"ts": times})), stream)
    per_ms = {"s": 1000, "ms": 1, "us": 1e-3, "ns": 1e-6}[unit]
    assert [row["ts"] for row in rows] == [int(17 * per_ms), -1000 if unit == "s" else -1]


def test_times_and_numbers_as_in_json(tmp_path: Path) -> None:
    stream = Stream(
        "s",
        (FieldDecl("ts", TIMESTAMP), FieldDecl("n", BIGINT), FieldDecl("t", STRING)),
        TimeDecl("ts", format="s"),
    )
    words = pyarrow.array(["a", "b", "a", "c"]).dictionary_encode()
    table = pyarrow.table({"ts": [1.5, 2.0, None, 4.0], "n": [1.0, 2.5, 3.0, 4.0], "t": words})
    rows, bad = decode(write(tmp_path / "a.parquet", table), stream)
    assert rows == [{"ts": 1500, "n": 1, "t": "a"}, {"ts": 4000, "n": 4, "t": "c"}]
    assert [(record.line, record.reason) for record in bad] == [
        (2, "column n: expected BIGINT, found number 2.5"),
        (3, "column ts: the event time is missing or null"),
    ]
    assert bad[0].raw == b'{"n":2.5,"t":"b","ts":2.0}'


def numbers_in(chunks: Iterable[Any]) -> list[int]:
    return [number for chunk in chunks for number in chunk.data.to_pydict()["n"]]


def test_reading_goes_on_after_any_chunk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "_ROWS", 10)
    for name, first in (("a", 0), ("b", 35)):
        write(tmp_path / f"{name}.parquet", pyarrow.table({"n": list(range(first, first + 35))}), row_group_size=20)
    target = str(tmp_path / "*.parquet")
    chunks = list(iter(ParquetReader(target).read, None))
    assert sum(chunk.size for chunk in chunks if isinstance(chunk, Chunk)) == 70
    for index, chunk in enumerate(chunks):
        assert isinstance(chunk, Chunk)
        reader = ParquetReader(target)
        reader.seek(chunk.position)
        assert numbers_in(iter(reader.read, None)) == numbers_in(chunks[index + 1 :])


def test_what_cannot_be_read_is_said_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(b"not parquet at all")
    with pytest.raises(SourceError, match="it is not a sound Parquet file") as caught:
        ParquetReader(str(tmp_path / "a.parquet")).read()
    assert "\n" not in str(caught.value)
    write(tmp_path / "b.parquet", pyarrow.table({"usr": ["a"]}))
    with pytest.raises(SourceError, match="it has no column 'user'; did you mean `usr`"):
        ParquetReader(str(tmp_path / "b.parquet"), frozenset(["user"])).read()
