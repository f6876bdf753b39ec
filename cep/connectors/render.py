"""Batches to lines of JSON or CSV, a column at a time.

TIMESTAMP is written as ISO 8601 in UTC with milliseconds, DATE as ``YYYY-MM-DD``, INTERVAL as milliseconds, DECIMAL as
a number with all its digits, ARRAY and ROW as JSON.
"""

from __future__ import annotations

from decimal import Decimal as Number
from typing import Any

import numpy as np
import orjson

from ostinato.cep.batch import Batch, Strings, Vector
from ostinato.cep.connectors import render_kernel
from ostinato.cep.connectors.timestamps import format_dates, format_times
from ostinato.cep.jit import kernels
from ostinato.cep.strings import parts, plain
from ostinato.patterns.types import DATE, DOUBLE, STRING, TIMESTAMP, Array, DataType, Decimal, Row

_WORDS = Strings.of(["false", "true"])


def json_lines(batch: Batch) -> bytes:
    """One JSON object on a line for each row, columns in the batch's order."""
    prefixes = [(b"{" if index == 0 else b",") + orjson.dumps(name) + b":" for index, name in enumerate(batch.columns)]
    if not prefixes:
        return b"{}\n" * len(batch)
    return _lines(batch, prefixes, b"null", b"}\n", delimiter=None)


def csv_header(batch: Batch, delimiter: str = ",") -> bytes:
    """The line with the names of the columns."""
    names = Strings.of(list(batch.columns))
    cells = _csv_texts(names, delimiter).to_list()
    return (delimiter.join(cells) + "\n").encode()


def csv_lines(batch: Batch, delimiter: str = ",") -> bytes:
    """One CSV line for each row. NULL is nothing, an empty text is ``""``."""
    prefixes = [b"" if index == 0 else delimiter.encode() for index in range(len(batch.columns))]
    return _lines(batch, prefixes, b"", b"\n", delimiter=delimiter)


def logical(value: Any, type_: DataType) -> Any:
    """A value in its physical form as what orjson writes; DECIMAL as text with all its digits."""
    if value is None:
        return None
    if isinstance(type_, Array):
        return [logical(item, type_.element) for item in value]
    if isinstance(type_, Row):
        return {name: logical(value.get(name), of) for name, of in type_.fields}
    if isinstance(type_, Decimal):
        return orjson.Fragment(str(Number(value).scaleb(-type_.scale)))
    if type_ == TIMESTAMP:
        return format_times(np.array([value], np.int64)).to_list()[0]
    if type_ == DATE:
        return format_dates(np.array([value], np.int64)).to_list()[0]
    return value


def texts_of(vector: Vector) -> list[str]:
    """Each value as text for people; NULL is empty."""
    cells, _ = _cells(vector, delimiter=None, raw=True)
    values = cells.to_list()
    if vector.valid is None:
        return values
    return [text if ok else "" for text, ok in zip(values, vector.valid.tolist(), strict=True)]


def _lines(batch: Batch, prefixes: list[bytes], null: bytes, suffix: bytes, *, delimiter: str | None) -> bytes:
    rows, columns = len(batch), len(prefixes)
    if not rows:
        return b""
    start, length = np.empty((columns, rows), np.int64), np.empty((columns, rows), np.int32)
    quoted = np.zeros(columns, np.int64)
    buffers, offset = [], 0
    for index, vector in enumerate(batch.columns.values()):
        cells, quoted[index] = _cells(vector, delimiter=delimiter)
        start[index] = cells.start + offset
        length[index] = cells.length if vector.valid is None else np.where(vector.valid, cells.length, -1)
        buffers.append(cells.data)
        offset += len(cells.data)
    between = [*prefixes, null, suffix]
    sizes = np.array([len(part) for part in between], np.int64)
    room = int(length.sum(dtype=np.int64)) + rows * int(sizes.sum() + 3 * columns + columns * len(null))
    target = np.empty(room, np.uint8)
    size = kernels(render_kernel).join(
        np.concatenate(buffers),
        start,
        length,
        quoted,
        np.frombuffer(bytearray(b"".join(between) or b" "), np.uint8),
        np.cumsum(sizes) - sizes,
        sizes,
        target,
    )
    return target[:size].tobytes()


def _cells(vector: Vector, *, delimiter: str | None, raw: bool = False) -> tuple[Strings, bool]:
    """The cells of a column as they are written, and whether they are to be put in quotes.

    `delimiter` None writes JSON; `raw` leaves texts as they are.
    """
    type_ = vector.type
    if type_ == STRING:
        if raw:
            return vector.strings, False
        return (_json_texts(vector.strings) if delimiter is None else _csv_texts(vector.strings, delimiter)), False
    values = vector.array
    if type_ == TIMESTAMP:
        return format_times(values), delimiter is None and not raw
    if type_ == DATE:
        return format_dates(values), delimiter is None and not raw
    if type_ == DOUBLE:
        return _doubles(values), False
    if values.dtype == np.bool_:
        return _WORDS.take(values.astype(np.int64)), False
    if values.dtype == np.int64:
        return _numbers(values, type_.scale if isinstance(type_, Decimal) else 0), False
    texts = [orjson.dumps(logical(value, type_), option=orjson.OPT_NON_STR_KEYS).decode() for value in values]
    cells = Strings.of(texts)
    return (cells if delimiter is None or raw else _csv_texts(cells, delimiter)), False


def _empty(rows: int) -> tuple[Any, Any]:
    return np.empty(rows, np.int64), np.empty(rows, np.int32)


def _json_texts(strings: Strings) -> Strings:
    held = parts(strings)
    target = np.empty(kernels(render_kernel).json_size(*held), np.uint8)
    start, length = _empty(len(strings))
    kernels(render_kernel).json_texts(*held, target, start, length)
    return Strings(target, start, length)


def _csv_texts(strings: Strings, delimiter: str) -> Strings:
    target = np.empty(2 * int(strings.length.sum(dtype=np.int64)) + 2 * len(strings), np.uint8)
    start, length = _empty(len(strings))
    kernels(render_kernel).csv_texts(*parts(strings), ord(delimiter), target, start, length)
    return Strings(target, start, length)


def _numbers(values: Any, scale: int) -> Strings:
    target = np.empty(render_kernel.WIDEST_NUMBER * len(values), np.uint8)
    start, length = _empty(len(values))
    kernels(render_kernel).numbers(plain(values), scale, target, start, length)
    return Strings(target, start, length)


def _doubles(values: Any) -> Strings:
    """As orjson writes them: the shortest that reads back the same; null for what is not finite."""
    data = np.frombuffer(
        bytearray(orjson.dumps(np.ascontiguousarray(values), option=orjson.OPT_SERIALIZE_NUMPY)), np.uint8
    )
    start, length = _empty(len(values))
    kernels(render_kernel).split_list(data, len(values), start, length)
    return Strings(data, start, length)
