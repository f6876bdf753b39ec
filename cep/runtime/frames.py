"""Batches as bytes between processes: raw column buffers behind a small header.

A frame is ``uint32 header length | header (msgpack) | padding to 8 | buffers, each padded to 8``, all little-endian.
The header is an array ``[version, stream, rows, columns]`` with
``[name, type, kind, has nulls, buffer lengths...]`` for each column; the event times are the first buffer. The type is
there for columns that are not as the reader's schema has them: those that a Python function made. A column that is the
event time itself has no buffers of its own.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import msgspec
import numpy as np

from ostinato.cep.batch import AnyArray, Batch, Strings, Vector, physical_dtype
from ostinato.cep.runtime.python_rows import OBJECT
from ostinato.cep.strings import one_behind_the_other
from ostinato.patterns.ast import Stream
from ostinato.patterns.types import BIGINT, BOOLEAN, DOUBLE, STRING, TIMESTAMP, DataType

VERSION = 1

Schemas: TypeAlias = Mapping[str, Mapping[str, DataType]]
"""Stream name -> column name -> type."""

_SCALARS: Mapping[str, DataType] = {str(type_): type_ for type_ in (BOOLEAN, BIGINT, DOUBLE, STRING, TIMESTAMP)}
_TEXT, _OBJECT, _PLAIN, _TIME = 0, 1, 2, 3
_LENGTH = struct.Struct("<I")
_PAD = tuple(bytes(n) for n in range(8))


class FrameError(Exception):
    """Bytes that are no frame of this version."""


def schemas_of(streams: Iterable[Stream]) -> dict[str, dict[str, DataType]]:
    """The column types of the streams, and of their late rows."""
    found = {}
    for stream in streams:
        columns = {column.name: column.type for column in stream.columns}
        found[stream.name] = found[f"{stream.name}.late"] = columns
    return found


def encode(batch: Batch, *, compact: bool = False) -> list[bytes | memoryview]:
    """The frame, in pieces to be written one after the other.

    `compact`: the texts of each column lie one behind the other already, as `Partitioner.spread` leaves them.
    """
    buffers: list[bytes | memoryview] = [_bytes(np.ascontiguousarray(batch.time, "<i8"))]
    columns: list[list[Any]] = []
    for name, vector in batch.columns.items():
        kind, parts = (_TIME, []) if vector.values is batch.time else _pack(vector, compact)
        if vector.valid is not None:
            parts.append(_bytes(vector.valid))
        columns.append([name, str(vector.type), kind, vector.valid is not None, *(len(part) for part in parts)])
        buffers += parts
    header = msgspec.msgpack.encode([VERSION, batch.stream, len(batch), columns])
    pieces: list[bytes | memoryview] = [_LENGTH.pack(len(header)) + header]
    pieces.append(_PAD[-len(pieces[0]) % 8])
    for buffer in buffers:
        pieces.append(buffer)
        pieces.append(_PAD[-len(buffer) % 8])
    return [piece for piece in pieces if len(piece)]


def decode(frame: bytes | bytearray | memoryview, schemas: Schemas) -> Batch:
    """The batch of a frame; its columns are views into `frame`, which must stay as it is.

    Raises:
        FrameError: another version, or not a frame.
    """
    view = memoryview(frame)
    try:
        (size,) = _LENGTH.unpack_from(view)
        version, stream, rows, columns = msgspec.msgpack.decode(view[4 : 4 + size])
    except (struct.error, msgspec.DecodeError, ValueError) as error:
        raise FrameError(f"not a batch: {error}") from error
    if version != VERSION:
        raise FrameError(f"a batch in format {version}, not {VERSION}")
    cursor = _Cursor(view, 4 + size)
    time = np.frombuffer(cursor.take(8 * rows), "<i8")
    types = schemas[stream]
    vectors = {}
    for name, written, kind, nulls, *sizes in columns:
        type_ = types.get(name)
        if type_ is None or str(type_) != written:
            type_ = _SCALARS.get(written, OBJECT)
        parts = [cursor.take(length) for length in sizes]
        valid = np.frombuffer(parts.pop(), np.bool_) if nulls else None
        vectors[name] = Vector(type_, time if kind == _TIME else _unpack(kind, type_, parts), valid)
    return Batch(stream, time, vectors)


class _Cursor:
    """Reads buffers one after the other, each from a multiple of 8."""

    def __init__(self, view: memoryview, at: int) -> None:
        self._view = view
        self._at = at + -at % 8

    def take(self, length: int) -> memoryview:
        begin = self._at
        self._at += length + -length % 8
        if begin + length > len(self._view):
            raise FrameError("a batch is cut short")
        return self._view[begin : begin + length]


def _pack(vector: Vector, compact: bool) -> tuple[int, list[bytes | memoryview]]:
    values = vector.values
    if isinstance(values, Strings):
        own = values if compact else values.compact()
        return _TEXT, [_bytes(own.length), _bytes(own.data)]
    if values.dtype == object:
        return _OBJECT, [msgspec.msgpack.encode(values.tolist())]
    return _PLAIN, [_bytes(np.ascontiguousarray(values))]


def _unpack(kind: int, type_: DataType, parts: Sequence[memoryview]) -> AnyArray | Strings:
    if kind == _TEXT:
        return one_behind_the_other(np.frombuffer(parts[1], np.uint8), np.frombuffer(parts[0], np.int32))
    if kind == _OBJECT:
        values = msgspec.msgpack.decode(parts[0])
        held = np.empty(len(values), object)
        held[:] = values
        return held
    return np.frombuffer(parts[0], physical_dtype(type_))


def _bytes(array: AnyArray) -> memoryview:
    # A view of an empty array cannot be cast.
    return array.data.cast("B") if array.size else memoryview(b"")
