"""Keys: the key columns of a stream as one text per event, and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
import numpy as np

from ostinato.cep.batch import BoolArray, IntArray, Strings, Vector, physical_dtype
from ostinato.cep.strings import gather, hash_texts
from ostinato.patterns.types import STRING, DataType

NULL_KEY = b"\xc0"
"""What stands for a null key: msgpack's nil, which is not UTF-8, so that no text is mistaken for it."""


class KeyCodec:
    """Encodes key columns: a single text as itself, whole numbers as 8 bytes, anything else as msgpack."""

    def __init__(self, columns: Sequence[tuple[str, DataType]]) -> None:
        self.columns = tuple(columns)
        self._text = len(columns) == 1 and columns[0][1] == STRING

    def encode(self, columns: Mapping[str, Vector], rows: int) -> Strings:
        """The key of each event as bytes."""
        if not self.columns:
            return Strings(np.zeros(1, np.uint8), np.zeros(rows, np.int64), np.zeros(rows, np.int32))
        vectors = [columns[name] for name, _ in self.columns]
        if self._text and vectors[0].valid is None:
            return vectors[0].strings
        if self._text:
            texts = vectors[0].to_list()
            return of_bytes([NULL_KEY if text is None else text.encode("utf-8", "surrogatepass") for text in texts])
        if len(vectors) == 1 and vectors[0].valid is None and vectors[0].array.dtype == np.int64:
            data = np.ascontiguousarray(vectors[0].array).view(np.uint8)
            return Strings(data, np.arange(rows, dtype=np.int64) * 8, np.full(rows, 8, np.int32))
        encode = msgspec.msgpack.Encoder().encode
        return of_bytes([encode(values) for values in zip(*(vector.to_list() for vector in vectors), strict=True)])

    def decode(self, keys: Strings) -> dict[str, Vector]:
        """The key columns of encoded keys."""
        if not self.columns:
            return {}
        name, type_ = self.columns[0]
        if self._text:
            null = equals_bytes(keys, NULL_KEY)
            return {name: Vector(type_, keys, ~null if null.any() else None)}
        encoded = to_bytes(keys)
        if len(self.columns) == 1 and physical_dtype(type_) == np.int64 and all(len(key) == 8 for key in encoded):
            return {name: Vector(type_, np.frombuffer(b"".join(encoded), np.int64))}
        decode = msgspec.msgpack.Decoder().decode
        rows = [decode(key) for key in encoded]
        return {
            name: Vector.of(type_, [row[index] for row in rows]) for index, (name, type_) in enumerate(self.columns)
        }


def of_bytes(values: Sequence[bytes]) -> Strings:
    """Encoded keys as a text column."""
    length = np.fromiter((len(value) for value in values), np.int32, len(values))
    start = np.zeros(len(values), np.int64)
    if len(values) > 1:
        np.cumsum(length[:-1], out=start[1:])
    return Strings(np.frombuffer(b"".join(values), np.uint8), start, length)


def to_bytes(strings: Strings) -> list[bytes]:
    """The bytes of each text."""
    own = gather(strings)
    data, ends = own.data.tobytes(), (own.start + own.length).tolist()
    return [data[begin:end] for begin, end in zip(own.start.tolist(), ends, strict=True)]


def equals_bytes(strings: Strings, wanted: bytes) -> BoolArray:
    """Which texts are these bytes (a single one)?"""
    found: BoolArray = strings.length == len(wanted)
    found[found] = strings.data[strings.start[found]] == wanted[0]
    return found


def key_group(keys: Strings, groups: int) -> IntArray:
    """The group of each key: a hash of its bytes, the same on every machine. int64[keys]"""
    return (hash_texts(keys) % np.uint64(groups)).astype(np.int64)
