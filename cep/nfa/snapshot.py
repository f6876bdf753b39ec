"""Snapshots of a match operator: per key group, as bytes of a versioned, checksummed format (msgpack, no pickle)."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np

from ostinato.cep.batch import Strings, Vector, physical_dtype
from ostinato.patterns.types import STRING, DataType

_MAGIC = b"OSMO"
FORMAT_VERSION = 1
_HEADER = struct.Struct("<4sHI")


class SnapshotError(Exception):
    """A snapshot is damaged, of another format, or of other patterns."""


def seal(state: Mapping[str, Any]) -> bytes:
    """State as bytes: magic, version, checksum, msgpack."""
    body = msgspec.msgpack.encode(state)
    return _HEADER.pack(_MAGIC, FORMAT_VERSION, zlib.crc32(body)) + body


def unseal(data: bytes) -> dict[str, Any]:
    """The state that `seal` made the bytes of.

    Raises:
        SnapshotError: they are not such bytes, or were changed.
    """
    if len(data) < _HEADER.size or data[:4] != _MAGIC:
        raise SnapshotError("these bytes are not a snapshot of a match operator")
    _, version, checksum = _HEADER.unpack_from(data)
    if version != FORMAT_VERSION:
        raise SnapshotError(f"the snapshot has format {version}; this release reads format {FORMAT_VERSION}")
    body = data[_HEADER.size :]
    if zlib.crc32(body) != checksum:
        raise SnapshotError("the snapshot is damaged: its checksum does not fit")
    state: dict[str, Any] = msgspec.msgpack.decode(body)
    return state


def pack_array(array: np.ndarray[Any, np.dtype[Any]]) -> list[Any]:
    """An array as its type, shape and little-endian bytes."""
    little = array.astype(array.dtype.newbyteorder("<"), copy=False)
    return [little.dtype.str, list(array.shape), little.tobytes()]


def unpack_array(packed: list[Any]) -> np.ndarray[Any, np.dtype[Any]]:
    """The array that `pack_array` packed, writable and in this machine's byte order."""
    dtype = np.dtype(packed[0])
    return np.frombuffer(packed[2], dtype).reshape(packed[1]).astype(dtype.newbyteorder("="))


def pack_vector(vector: Vector) -> list[Any]:
    """A column as its values and which of them are not null."""
    valid = None if vector.valid is None else pack_array(vector.valid)
    if isinstance(vector.values, Strings):
        own = vector.values.compact()
        return [[own.data.tobytes(), pack_array(own.length)], valid]
    if vector.array.dtype == object:
        return [vector.array.tolist(), valid]
    return [pack_array(vector.array), valid]


def unpack_vector(type_: DataType, packed: list[Any]) -> Vector:
    """The column that `pack_vector` packed."""
    values, mask = packed
    valid = None if mask is None else unpack_array(mask)
    if type_ == STRING:
        length = unpack_array(values[1])
        start = np.zeros(len(length), np.int64)
        np.cumsum(length[:-1], out=start[1:])
        return Vector(type_, Strings(np.frombuffer(values[0], np.uint8).copy(), start, length), valid)
    if physical_dtype(type_).hasobject:
        held = np.empty(len(values), object)
        held[:] = values
        return Vector(type_, held, valid)
    return Vector(type_, unpack_array(values), valid)
