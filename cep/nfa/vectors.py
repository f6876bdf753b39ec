"""Arrays and columns as plain values, for msgpack."""

from __future__ import annotations

from typing import Any

import numpy as np

from ostinato.cep.batch import Strings, Vector, physical_dtype
from ostinato.patterns.types import STRING, DataType


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


def unpack_vector(type_: DataType, packed: list[Any] | None, rows: int) -> Vector:
    """The column that `pack_vector` packed; None: one of `rows` nulls."""
    if packed is None:
        return Vector.of(type_, [None] * rows)
    values, mask = packed
    valid = None if mask is None else unpack_array(mask)
    if type_ == STRING:
        length = unpack_array(values[1])
        start = np.zeros(len(length), np.int64)
        np.cumsum(length[:-1], out=start[1:])
        return Vector(type_, Strings(np.frombuffer(values[0], np.uint8).copy(), start, length), valid)
    if physical_dtype(type_).hasobject:
        held = np.empty(len(values), object)
        for row, value in enumerate(values):
            held[row] = value
        return Vector(type_, held, valid)
    return Vector(type_, unpack_array(values), valid)
