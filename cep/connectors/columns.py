"""What the decoders of all formats share: which columns are needed, and how a batch is made of them."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ostinato.cep.batch import Batch, BoolArray, IntArray, Vector
from ostinato.cep.connectors.base import SLACK, BadRecord, Bytes, Chunk
from ostinato.cep.connectors.timestamps import TimeParser
from ostinato.cep.connectors.values import BadValue, Converter, converter, epoch
from ostinato.patterns.ast import FieldDecl, Stream
from ostinato.patterns.types import BIGINT, STRING, TIMESTAMP


@dataclass(frozen=True, slots=True)
class Need:
    """A column to be decoded. `path` leads to it in the record. `times` reads it where it is the event time.

    `role` is ``key``, ``event time`` or empty; only a column without a role may be null.
    """

    field: FieldDecl
    path: tuple[str, ...]
    role: str
    times: TimeParser | None
    convert: Converter

    @property
    def name(self) -> str:
        return self.field.name


class Schema:
    """The needed columns of a stream and where its event time comes from.

    Key columns and the event time are always needed; a record without them is bad.
    """

    def __init__(self, stream: Stream, columns: frozenset[str] | None = None, *, year: int | None = None) -> None:
        """`columns` None means all. `year` is that of times written without one."""
        self.stream = stream
        spec = stream.time
        self.time_column = spec.column if spec.mode == "event" else None
        self.times = TimeParser(spec.format, spec.zone, year=year)
        self.needs = tuple(
            self._need(field)
            for field in stream.columns
            if columns is None or field.name in columns or field.key or field.name == self.time_column
        )

    def _need(self, field: FieldDecl) -> Need:
        timed = field.name == self.time_column
        role = "event time" if timed else "key" if field.key else ""
        times = self.times if timed else None
        return Need(field, field.source or (field.name,), role, times, converter(field.type, times))

    def value(self, need: Need, value: Any) -> Any:
        """One value in its physical form; raises BadValue with the column's name."""
        if value is None:
            if need.role:
                raise BadValue(f"column {need.name}: the {need.role} is missing or null")
            return None
        try:
            made = need.convert(value)
            if need.times is not None and need.field.type != TIMESTAMP:
                self.time_of(need, made)
        except BadValue as error:
            raise BadValue(f"column {need.name}: {error}") from None
        return made

    def time_of(self, need: Need, value: Any) -> int:
        """The event time of a value of a time column that is not a TIMESTAMP itself."""
        if need.field.type == STRING:
            parsed = self.times.parse_one(value)
            if parsed is None:
                raise BadValue(f'expected a time as {self.times.format}, found text "{value}"')
            return parsed
        return epoch(value, self.times.power or 0)

    def event_times(self, columns: Mapping[str, Vector], rows: int) -> tuple[IntArray, BoolArray | None]:
        """The time of each row, and which rows have one (None: all). Arrival time where no column is the time."""
        if self.time_column is None:
            return np.full(rows, int(time.time() * 1000), np.int64), None
        column = columns[self.time_column]
        if column.type == TIMESTAMP:
            return column.array, None
        if column.type == STRING:
            return self.times.parse(column.strings)
        out, ok = np.zeros(rows, np.int64), np.ones(rows, np.bool_)
        values = column.array
        power = self.times.power or 0
        if column.type == BIGINT and power == 0 and (np.abs(values) < 1 << 45).all():
            return values, None
        for row, value in enumerate(values.tolist()):
            try:
                out[row] = epoch(value, power)
            except BadValue:
                ok[row] = False
        return out, ok

    def assemble(self, columns: Mapping[str, Vector], rows: int, wrong: dict[int, str]) -> tuple[Batch, dict[int, str]]:
        """A batch of the rows that are right, and what is wrong with each of the others."""
        times, timely = self.event_times(columns, rows)
        if timely is not None and not timely.all():
            for row in np.flatnonzero(~timely).tolist():
                wrong.setdefault(row, f"column {self.time_column}: expected a time as {self.times.format}")
        batch = Batch(self.stream.name, times, columns)
        if wrong:
            keep = np.ones(rows, np.bool_)
            keep[list(wrong)] = False
            batch = batch.take(keep)
        return batch, dict(sorted(wrong.items()))

    def batch_of(self, rows: Sequence[Sequence[Any]]) -> Batch:
        """A batch of rows of physical values in the order of `needs`, all of which `value` has let pass."""
        columns = {
            need.name: Vector.of(need.field.type, [row[index] for row in rows]) for index, need in enumerate(self.needs)
        }
        times, _ = self.event_times(columns, len(rows))
        return Batch(self.stream.name, times, columns)


class Extra:
    """Text that is not in the chunk as it must be, kept behind it."""

    def __init__(self, data: Bytes) -> None:
        self.data = data
        self._added: list[bytes] = []
        self._end = len(data)

    def add(self, text: str) -> tuple[int, int]:
        """Keep a text; returns where it will begin and its length."""
        return self.add_bytes(text.encode("utf-8", "surrogatepass"))

    def add_bytes(self, encoded: bytes) -> tuple[int, int]:
        """Keep a text that is encoded already."""
        begin = self._end
        self._added.append(encoded)
        self._end += len(encoded)
        return begin, len(encoded)

    def cut(self, start: IntArray, end: IntArray) -> list[bytes]:
        """The bytes of the chunk from each start to its end."""
        held = self.data.data
        return [bytes(held[a:b]) for a, b in zip(start.tolist(), end.tolist(), strict=True)]

    def buffer(self) -> Bytes:
        """The chunk's bytes, followed by what was added."""
        if not self._added:
            return self.data
        added = b"".join([*self._added, bytes(SLACK)])
        return np.concatenate([self.data, np.frombuffer(added, np.uint8)])


def bad_record(chunk: Chunk, begin: int, end: int, reason: str) -> BadRecord:
    """The record of a chunk of text from `begin` to `end`, with its place."""
    data: Bytes = chunk.data
    raw = data[begin:end].tobytes()
    line = chunk.first_line + int(np.count_nonzero(data[:begin] == 10)) if chunk.first_line else -1
    return BadRecord(raw.rstrip(b"\r"), chunk.source, line, chunk.first_offset + begin, reason)


def line_end(data: Bytes, begin: int) -> int:
    """Where the line that begins there ends (its line feed, which is always there)."""
    width = 256
    while True:
        found = np.flatnonzero(data[begin : begin + width] == 10)
        if len(found):
            return begin + int(found[0])
        width *= 8
