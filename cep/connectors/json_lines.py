"""JSON lines to batches: a kernel for what is plain, orjson for the rest, with the same result."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from decimal import Decimal as Number
from typing import Any

import numpy as np
import orjson

from ostinato.cep.batch import Batch, BoolArray, IntArray, Strings, Vector
from ostinato.cep.connectors import json_kernel
from ostinato.cep.connectors.base import BadRecord, Bytes, Chunk
from ostinato.cep.connectors.columns import Extra, Need, Schema, bad_record, line_end
from ostinato.cep.connectors.timestamps import TimeParser, parse_dates
from ostinato.cep.connectors.values import BadValue
from ostinato.cep.jit import kernels
from ostinato.patterns.ast import Stream
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

_BLANK = b" \t\r"
_ISO = TimeParser("iso")
_TOKENS = re.compile(rb'"(?:[^"\\]|\\.)*"|[\[\]{}]')
_MAX_DEPTH = 200
"""Numbers are read by their digits only in records that are not deeper. That reader calls itself: how deep it comes
depends on who calls it, and whether a record is good must not."""


class JsonLines:
    """Decodes JSON objects, one on a line. Lines of blanks are passed over."""

    def __init__(
        self, stream: Stream, columns: frozenset[str] | None = None, *, year: int | None = None, exact: bool = False
    ) -> None:
        """`exact` decodes every line with orjson, as the kernel's lines must be decoded too."""
        self._schema = Schema(stream, columns, year=year)
        needs = self._schema.needs
        self._by_digits = [need for need in needs if _by_digits(need)]
        self._scanner = None if exact else _Scanner(self._schema)

    def decode(self, chunk: Chunk) -> tuple[Batch, list[BadRecord]]:
        bad = list(chunk.rejected)
        if self._scanner is not None:
            batch = self._scanner.decode(chunk, self.row, bad)
            bad.sort(key=lambda record: record.offset)
            return batch, bad
        rows = []
        for begin, end in lines(chunk.data, chunk.size):
            try:
                values = self.row(chunk.data[begin:end].tobytes())
            except BadValue as error:
                bad.append(bad_record(chunk, begin, end, str(error)))
                continue
            if values is not None:
                rows.append(values)
        return self._schema.batch_of(rows), bad

    def row(self, line: bytes) -> list[Any] | None:
        """The values of one line by orjson; None if it is blank. Raises BadValue saying what is wrong."""
        try:
            record = orjson.loads(line)
        except orjson.JSONDecodeError as error:
            if not line.strip(_BLANK):
                return None
            raise BadValue(_why_not(line, error)) from None
        if not isinstance(record, dict):
            raise BadValue("not a JSON object")
        if any(_holds_float(_at(record, need.path)) for need in self._by_digits):
            if _is_deeper(line, _MAX_DEPTH):
                raise BadValue(f"nested more than {_MAX_DEPTH} deep")
            record = json.loads(line, parse_float=Number)
        return [self._schema.value(need, _at(record, need.path)) for need in self._schema.needs]


def lines(data: Bytes, size: int) -> Iterator[tuple[int, int]]:
    """Begin and end of each line, line feeds not included."""
    begin = 0
    for end in np.flatnonzero(data[:size] == 10).tolist():
        yield begin, end
        begin = end + 1
    if begin < size:
        yield begin, size


def _why_not(line: bytes, error: json.JSONDecodeError) -> str:
    try:
        line.decode()
    except UnicodeDecodeError as undecodable:
        return f"not UTF-8 from byte {undecodable.start + 1} on"
    return f"not JSON: {error.msg} at character {error.pos + 1}"


def _by_digits(need: Need) -> bool:
    """Must numbers of the column be read as decimal digits, since a double may not hold them?"""
    return need.times is not None or _holds_decimal(need.field.type)


def _holds_decimal(type_: DataType) -> bool:
    if isinstance(type_, Array):
        return _holds_decimal(type_.element)
    if isinstance(type_, Row):
        return any(_holds_decimal(of) for _, of in type_.fields)
    return isinstance(type_, Decimal)


def _holds_float(value: Any) -> bool:
    if not isinstance(value, (dict, list)):
        return isinstance(value, float)
    waiting = [value]
    while waiting:
        held = waiting.pop()
        for item in held.values() if isinstance(held, dict) else held:
            if isinstance(item, float):
                return True
            if isinstance(item, (dict, list)):
                waiting.append(item)
    return False


def _is_deeper(line: bytes, depth: int) -> bool:
    """Of valid JSON, as it is written: of members of one name a record has only the last."""
    if line.count(b"[") + line.count(b"{") <= depth:
        return False
    now = 0
    for token in _TOKENS.finditer(line):
        if token[0] in (b"[", b"{"):
            now += 1
            if now > depth:
                return True
        elif token[0] in (b"]", b"}"):
            now -= 1
    return False


def _at(record: Any, path: tuple[str, ...]) -> Any:
    for name in path:
        if not isinstance(record, dict):
            return None
        record = record.get(name)
    return record


class _Scanner:
    """The kernel with its tables, and what is done for the values and lines that it leaves."""

    def __init__(self, schema: Schema) -> None:
        self._schema = schema
        self._needs = schema.needs
        # A column of the kernel is a member of the record. What lies deeper, or is wanted twice, is cut out by the
        # kernel and taken apart here.
        members: dict[str, list[Need]] = {}
        for need in self._needs:
            members.setdefault(need.path[0], []).append(need)
        self._members = list(members.values())
        self._flat = {
            needs[0].name: index
            for index, needs in enumerate(self._members)
            if len(needs) == 1 and len(needs[0].path) == 1 and not isinstance(needs[0].field.type, (Array, Row))
        }
        names = Strings.of(list(members))
        self._names = (names.data.copy(), names.start, names.length.astype(np.int64))
        table = np.array([self._kind(needs) for needs in self._members], np.int64).reshape(-1, 3)
        self._kinds, self._parameters, self._precisions = (table[:, i].copy() for i in range(3))
        self._required = np.array([any(need.role for need in needs) for needs in self._members], np.int64)
        places = 64
        self._work = (
            np.zeros(len(self._members), np.int64),
            *(np.zeros(places, np.int64) for _ in range(3)),
            np.zeros((places, 4), np.uint64),
        )
        self._record_bytes = 64.0

    def _kind(self, needs: list[Need]) -> tuple[int, int, int]:
        return _kind(needs[0]) if needs[0].name in self._flat else (json_kernel.NESTED, 0, 0)

    def decode(self, chunk: Chunk, exact: Any, bad: list[BadRecord]) -> Batch:
        data = chunk.data
        room = int(chunk.size / self._record_bytes * 1.05) + 16
        table = _Table(len(self._members), room, [need.name for need in self._needs if need.name not in self._flat])
        at = row = slow_count = later_count = 0
        kernel = kernels(json_kernel).decode_lines
        with np.errstate(over="ignore"):
            while True:
                at, row, slow_count, later_count = kernel(
                    data, at, chunk.size, row, *self._names, self._kinds, self._parameters, self._precisions,
                    self._required, table.ints, table.floats, table.lengths, table.valid, table.nulls,
                    table.begins, table.slow, table.later, *self._work, slow_count, later_count,
                )  # fmt: skip
                if at >= chunk.size:
                    break
                table = table.larger(row)
        if row:
            self._record_bytes = max(8.0, 0.98 * chunk.size / row)
        extra = Extra(data)
        slow = table.slow[:slow_count].tolist()
        slow += self._finish_later(table, table.later[:later_count], extra)
        dropped = self._decode_slow(table, slow, chunk, exact, bad, extra)
        return self._batch(table, row, extra.buffer(), dropped, chunk, exact, bad)

    def _finish_later(self, table: _Table, later: IntArray, extra: Extra) -> list[int]:
        """Put in the values that the kernel left; returns the rows where that was not possible."""
        if not len(later):
            return []
        failed: list[int] = []
        for column in np.unique(later[:, 0]).tolist():
            cells = later[later[:, 0] == column]
            rows, start, end = cells[:, 1], cells[:, 2], cells[:, 3]
            need = self._members[column][0]
            if need.name not in self._flat:
                failed += self._take_apart(table, column, rows, extra.cut(start, end))
            elif need.field.type == DOUBLE:
                table.floats[column, rows] = [float(text) for text in extra.cut(start, end)]
            elif need.field.type == STRING:
                table.ints[column, rows], table.lengths[column, rows] = _unescape(extra, start, end)
            else:
                texts = Strings(extra.data, start, (end - start).astype(np.int32))
                if need.field.type == DATE:
                    values, ok = parse_dates(texts)
                else:
                    values, ok = (need.times or _ISO).parse(texts)
                table.ints[column, rows] = values
                failed += rows[~ok].tolist()
        return failed

    def _take_apart(self, table: _Table, column: int, rows: IntArray, cut: list[bytes]) -> list[int]:
        """Read members with structure; returns the rows that are not as they should be."""
        values = orjson.loads(b"[" + b",".join(cut) + b"]")
        failed: list[int] = []
        for need in self._members[column]:
            held, deeper, by_digits = table.objects[need.name], need.path[1:], _by_digits(need)
            for row, value in zip(rows.tolist(), values, strict=True):
                found = _at(value, deeper)
                try:
                    if by_digits and _holds_float(found):
                        failed.append(row)
                        continue
                    held[row] = self._schema.value(need, found)
                except BadValue:
                    failed.append(row)
        return failed

    def _decode_slow(
        self, table: _Table, rows: list[int], chunk: Chunk, exact: Any, bad: list[BadRecord], extra: Extra
    ) -> list[int]:
        """Decode the lines of these rows the exact way; returns the rows that are none."""
        dropped = []
        for row in sorted(set(rows)):
            begin = int(table.begins[row])
            end = min(line_end(chunk.data, begin), chunk.size)
            try:
                values = exact(chunk.data[begin:end].tobytes())
            except BadValue as error:
                bad.append(bad_record(chunk, begin, end, str(error)))
                values = None
            if values is None:
                dropped.append(row)
                continue
            for need, value in zip(self._needs, values, strict=True):
                if need.name in self._flat:
                    table.put(self._flat[need.name], row, value, extra)
                else:
                    table.objects[need.name][row] = value
        return dropped

    def _batch(
        self, table: _Table, rows: int, data: Bytes, dropped: list[int], chunk: Chunk, exact: Any, bad: list[BadRecord]
    ) -> Batch:
        columns = {}
        for need in self._needs:
            type_ = need.field.type
            if need.name not in self._flat:
                columns[need.name] = Vector.of(type_, table.objects[need.name][:rows].tolist())
                continue
            index = self._flat[need.name]
            held = table.ints[index, :rows]
            values: Any = held
            if type_ == STRING:
                values = Strings(data, held, table.lengths[index, :rows])
            elif type_ == DOUBLE:
                values = table.floats[index, :rows]
            elif type_ == BOOLEAN:
                values = held.astype(np.bool_)
            valid: BoolArray | None = table.valid[index, :rows] if table.nulls[index] else None
            columns[need.name] = Vector(type_, values, valid)
        if dropped:
            keep = np.ones(rows, np.bool_)
            keep[dropped] = False
            columns = {name: column.take(keep) for name, column in columns.items()}
            rows -= len(dropped)
        times, timely = self._schema.event_times(columns, rows)
        batch = Batch(self._schema.stream.name, times, columns)
        if timely is None or timely.all():
            return batch
        begins = np.delete(table.begins[: rows + len(dropped)], dropped)
        for begin in begins[~timely].tolist():
            end = min(line_end(chunk.data, begin), chunk.size)
            try:
                exact(chunk.data[begin:end].tobytes())
            except BadValue as error:
                bad.append(bad_record(chunk, begin, end, str(error)))
        return batch.take(timely)


class _Table:
    """What the kernel fills: a row of each array for each column, a column of it for each event.

    `objects` are the physical values of needed columns that are no columns of the kernel.
    """

    def __init__(self, columns: int, room: int, objects: Sequence[str]) -> None:
        self.ints = np.empty((columns, room), np.int64)
        self.floats = self.ints.view(np.float64)
        self.lengths = np.empty((columns, room), np.int32)
        self.valid = np.empty((columns, room), np.bool_)
        self.nulls = np.zeros(columns, np.int64)
        self.begins = np.empty(room, np.int64)
        self.slow = np.empty(room, np.int64)
        self.later = np.empty((max(1, columns) * room, 4), np.int64)
        self.objects = {name: np.empty(room, object) for name in objects}

    def larger(self, rows: int) -> _Table:
        """Twice the room, with what is in the first `rows` rows."""
        made = _Table(len(self.nulls), 2 * self.ints.shape[1], list(self.objects))
        for name in ("ints", "lengths", "valid"):
            getattr(made, name)[:, :rows] = getattr(self, name)[:, :rows]
        for name in ("begins", "slow", "later"):
            held = getattr(self, name)
            getattr(made, name)[: len(held)] = held
        made.nulls[:] = self.nulls
        return made

    def put(self, column: int, row: int, value: Any, extra: Extra) -> None:
        """Set one value in its physical form, or null."""
        self.valid[column, row] = value is not None
        self.ints[column, row] = 0
        self.lengths[column, row] = 0
        if value is None:
            self.nulls[column] += 1
        elif isinstance(value, str):
            self.ints[column, row], self.lengths[column, row] = extra.add(value)
        elif isinstance(value, float):
            self.floats[column, row] = value
        else:
            self.ints[column, row] = value


def _unescape(extra: Extra, start: IntArray, end: IntArray) -> tuple[list[int], list[int]]:
    """Keep texts with JSON escapes, resolved; returns where they will begin and their lengths."""
    quoted = extra.cut(start, end)
    places = [extra.add(text) for text in orjson.loads(b'["' + b'","'.join(quoted) + b'"]')]
    return [begin for begin, _ in places], [length for _, length in places]


def _kind(need: Need) -> tuple[int, int, int]:
    """Kind, parameter and precision of a column, as the kernel takes them."""
    type_ = need.field.type
    if isinstance(type_, Decimal):
        return json_kernel.DECIMAL, type_.scale, type_.precision
    if type_ == TIMESTAMP:
        if need.times is None:
            return json_kernel.ANY_TIME, 0, 0
        if need.times.power is None:
            return json_kernel.TEXT_TIME, 0, 0
        return json_kernel.EPOCH, need.times.power, 0
    kinds: dict[DataType, int] = {
        BIGINT: json_kernel.BIGINT,
        INTERVAL: json_kernel.BIGINT,
        DOUBLE: json_kernel.DOUBLE,
        BOOLEAN: json_kernel.BOOLEAN,
        STRING: json_kernel.STRING,
        DATE: json_kernel.TEXT_TIME,
    }
    return kinds[type_], 0, 0
