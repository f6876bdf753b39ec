"""Parquet: reading by row groups, decoding Arrow's columns, writing."""

from __future__ import annotations

import base64
import datetime
import math
import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import orjson

from ostinato.cep.batch import Batch, BoolArray, Strings, Vector
from ostinato.cep.connectors.base import SLACK, BadRecord, Chunk, Idle, SourceError, advice
from ostinato.cep.connectors.cells import padded, to_vector
from ostinato.cep.connectors.columns import Need, Schema
from ostinato.cep.connectors.files import find_files, total_size
from ostinato.cep.connectors.resuming import are_regular, refusal
from ostinato.cep.connectors.values import BadValue
from ostinato.patterns.ast import Stream
from ostinato.patterns.errors import did_you_mean
from ostinato.patterns.types import (
    BIGINT,
    BOOLEAN,
    DATE,
    DOUBLE,
    INTERVAL,
    STRING,
    TIMESTAMP,
)

_ROWS = 1 << 15
"""Rows of a chunk: about what a chunk of text holds."""
_MARKED_BYTES = 4096
"""So much of the end of a file is looked at, to know it again."""


class ParquetReader:
    """Reads the files that a path or a pattern names, in order of their names; chunks hold a ``pyarrow.Table``."""

    def __init__(self, target: str, columns: frozenset[str] | None = None) -> None:
        """`columns`: the top-level columns to be read; None means all."""
        self._columns = None if columns is None else sorted(columns)
        self._paths = find_files(target)
        self._target = target
        self._at = 0
        self._row = 0
        self._batches: Iterator[Any] | None = None
        self._file: Any = None
        self._mark: list[int] = []
        self.read_bytes = 0

    @property
    def repeatable(self) -> bool:
        """Can a job that fails be begun again?"""
        return are_regular(self._paths)

    @property
    def splits(self) -> int:
        return 1

    @property
    def total_bytes(self) -> int | None:
        return total_size(self._paths)

    def read(self) -> Chunk | Idle | None:
        while self._at < len(self._paths):
            path = self._paths[self._at]
            table = self._next_table(path)
            if table is None:
                self.read_bytes += total_size([path])
                self.close()
                self._at += 1
                self._row = 0
                continue
            first = self._row
            self._row += table.num_rows
            position = {"file": path, "row": self._row, "mark": self._mark}
            return Chunk(table, table.num_rows, position=position, source=path, first_line=first + 1, first_offset=-1)
        return None

    def _next_table(self, path: str) -> Any:
        import pyarrow
        import pyarrow.parquet

        try:
            if self._batches is None:
                self._file = pyarrow.parquet.ParquetFile(path)
                known = self._file.schema_arrow.names
                wanted = self._columns
                if wanted is not None:
                    for name in wanted:
                        if name not in known:
                            hint = did_you_mean(name, known) or f"it has {', '.join(known)}"
                            raise SourceError(f"cannot read {path}: it has no column {name!r}; {hint}")
                self._mark = _mark(path)
                self._batches = _batches(self._file, wanted, self._row)
            batch = next(self._batches, None)
        except pyarrow.ArrowException as error:
            raise SourceError(f"cannot read {path}: it is not a sound Parquet file ({_first_line(error)})") from error
        except OSError as error:
            raise SourceError(f"cannot read {path}: {advice(error)}") from error
        return None if batch is None else pyarrow.Table.from_batches([batch])

    def seek(self, position: Mapping[str, Any]) -> None:
        """Go on after a chunk. Raises SourceError where the file that was read is gone, or is another one by now."""
        path = position["file"]
        if path not in self._paths:
            raise refusal(path, f"it is not among the files of {self._target} any more")
        if _mark(path) != position["mark"]:
            raise refusal(path, "it is another file than the one that was read")
        self.close()
        self._at = self._paths.index(path)
        self._row = position["row"]

    def close(self) -> None:
        self._batches = None
        if self._file is not None:
            self._file.close()
            self._file = None


def _mark(path: str) -> list[int]:
    """Size and CRC-32 of the end of a file, which says what is where in it."""
    try:
        with open(path, "rb") as file:  # noqa: PTH123
            size = file.seek(0, 2)
            file.seek(max(0, size - _MARKED_BYTES))
            return [size, zlib.crc32(file.read())]
    except OSError as error:
        raise SourceError(f"cannot read {path}: {advice(error)}") from error


def _batches(file: Any, columns: Sequence[str] | None, row: int) -> Iterator[Any]:
    """The rows of a file from number `row` (from 0) on. Row groups before it are not read."""
    metadata, first = file.metadata, 0
    while first < metadata.num_row_groups and metadata.row_group(first).num_rows <= row:
        row -= metadata.row_group(first).num_rows
        first += 1
    groups = list(range(first, metadata.num_row_groups))
    for batch in file.iter_batches(batch_size=_ROWS, columns=columns, row_groups=groups):
        if row < batch.num_rows:
            yield batch.slice(row)
        row = max(0, row - batch.num_rows)


class ParquetColumns:
    """Decodes Arrow tables. Values are taken as in JSON; times may also be Arrow's timestamps and dates."""

    def __init__(self, stream: Stream, columns: frozenset[str] | None = None, *, year: int | None = None) -> None:
        self._schema = Schema(stream, columns, year=year)

    @property
    def columns(self) -> frozenset[str]:
        """The top-level columns that are needed of the files."""
        return frozenset(need.path[0] for need in self._schema.needs)

    def decode(self, chunk: Chunk) -> tuple[Batch, list[BadRecord]]:
        table = chunk.data
        columns, wrong = {}, dict[int, str]()
        for need in self._schema.needs:
            if need.path[0] not in table.column_names:
                hint = did_you_mean(need.path[0], table.column_names) or f"it has {', '.join(table.column_names)}"
                raise SourceError(f"cannot read {chunk.source}: it has no column {need.path[0]!r}; {hint}")
            columns[need.name], problems = self._column(need, table)
            wrong = problems | wrong
        batch, wrong = self._schema.assemble(columns, table.num_rows, wrong)
        bad = list(chunk.rejected)
        for row, reason in wrong.items():
            raw = orjson.dumps(table.slice(row, 1).to_pylist()[0], default=_plain, option=orjson.OPT_NON_STR_KEYS)
            bad.append(BadRecord(raw, chunk.source, chunk.first_line + row, -1, reason))
        return batch, bad

    def _column(self, need: Need, table: Any) -> tuple[Vector, dict[int, str]]:
        import pyarrow

        column = table.column(need.path[0]).combine_chunks()
        if isinstance(column, pyarrow.ChunkedArray):
            column = column.chunk(0) if column.num_chunks else pyarrow.array([], column.type)
        if pyarrow.types.is_dictionary(column.type):
            column = column.dictionary_decode()
        if len(need.path) == 1:
            quick = _quick(need, column)
            if quick is not None:
                return quick
        return self._slowly(need, column)

    def _slowly(self, need: Need, column: Any) -> tuple[Vector, dict[int, str]]:
        """Row by row, for what has no way of its own: nested columns and unusual types."""
        made: list[Any] = []
        wrong: dict[int, str] = {}
        for row, value in enumerate(column.to_pylist()):
            for name in need.path[1:]:
                value = value.get(name) if isinstance(value, dict) else None
            try:
                made.append(self._schema.value(need, _as_json(value, need)))
            except BadValue as error:
                made.append(None)
                wrong[row] = str(error)
        return Vector.of(need.field.type, made), wrong


def _quick(need: Need, column: Any) -> tuple[Vector, dict[int, str]] | None:
    """A column whose Arrow type fits, without looking at single values; None where it does not."""
    import pyarrow
    import pyarrow.compute

    type_, kind = need.field.type, column.type
    is_ = pyarrow.types
    rows = len(column)
    valid: BoolArray = (
        ~column.is_null().to_numpy(zero_copy_only=False) if column.null_count else np.ones(rows, np.bool_)
    )
    if is_.is_string(kind) or is_.is_large_string(kind):
        strings = _strings(column, valid)
        if type_ in (STRING, DATE) or (type_ == TIMESTAMP and (need.times is None or need.times.power is None)):
            return to_vector(need, strings if type_ == STRING else padded(strings), valid, ascii_only=True)
        return None
    power = 0 if need.times is None else need.times.power
    if is_.is_timestamp(kind) and type_ == TIMESTAMP:
        numbers = column.cast(pyarrow.int64()).fill_null(0).to_numpy()
        per_ms = {"s": 1000, "ms": 1, "us": -1000, "ns": -1_000_000}[kind.unit]
        values: Any = numbers * per_ms if per_ms > 0 else numbers // -per_ms
    elif is_.is_date32(kind) and type_ == DATE:
        values = column.cast(pyarrow.int32()).fill_null(0).to_numpy().astype(np.int64)
    elif is_.is_boolean(kind) and type_ == BOOLEAN:
        values = column.fill_null(False).to_numpy(zero_copy_only=False)
    elif is_.is_integer(kind) and (type_ in (BIGINT, INTERVAL) or (type_ == TIMESTAMP and power == 0)):
        if kind == pyarrow.uint64():
            return None
        values = column.fill_null(0).to_numpy().astype(np.int64)
        if type_ == TIMESTAMP and len(values) and int(np.abs(values).max()) >= 1 << 47:
            return None
    elif (is_.is_floating(kind) or is_.is_integer(kind)) and type_ == DOUBLE:
        values = column.fill_null(0).to_numpy(zero_copy_only=False).astype(np.float64)
    else:
        return None
    wrong = {}
    if need.role:
        bad = ~valid | np.isnan(values) if type_ == DOUBLE else ~valid
        missing = f"column {need.name}: the {need.role} is missing or null"
        wrong = dict.fromkeys(np.flatnonzero(bad).tolist(), missing)
    return Vector(type_, np.ascontiguousarray(values), None if valid.all() else valid), wrong


def _strings(column: Any, valid: BoolArray) -> Strings:
    """Arrow's text as views into its buffer, copied so that kernels may read behind it."""
    import pyarrow

    width = np.int64 if pyarrow.types.is_large_string(column.type) else np.int32
    _, offsets, data = column.buffers()
    ends = np.frombuffer(offsets, width)[column.offset : column.offset + len(column) + 1].astype(np.int64)
    held = np.zeros((data.size if data is not None else 0) + SLACK, np.uint8)
    if data is not None:
        held[: data.size] = np.frombuffer(data, np.uint8)
    start, length = ends[:-1], np.diff(ends).astype(np.int32)
    return Strings(held, np.where(valid, start, 0), np.where(valid, length, np.int32(0)))


def _as_json(value: Any, need: Need) -> Any:
    """A Python value of Arrow's as the converters take it: NaN is null in keys and times, dates are text."""
    if isinstance(value, datetime.datetime):
        utc = value if value.tzinfo else value.replace(tzinfo=datetime.UTC)
        return utc.astimezone(datetime.UTC).isoformat().replace("+00:00", "Z")
    if isinstance(value, datetime.date):
        return value.isoformat()
    if isinstance(value, float) and math.isnan(value) and need.role:
        return None
    if isinstance(value, dict):
        return {name: _as_json(item, need) for name, item in value.items()}
    if isinstance(value, list):
        return [_as_json(item, need) for item in value]
    return value


def _plain(value: Any) -> Any:
    """What orjson does not write by itself, for the dead letters."""
    return base64.b64encode(value).decode() if isinstance(value, bytes) else str(value)


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]
