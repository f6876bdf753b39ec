"""Keys: the key columns of a stream as one text per event, and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
import numpy as np

from ostinato.cep.batch import IntArray, Strings, Vector
from ostinato.cep.strings import Interner
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

    def decode(self, keys: Sequence[bytes]) -> dict[str, Vector]:
        """The key columns of encoded keys."""
        if not self.columns:
            return {}
        if self._text:
            name, type_ = self.columns[0]
            texts = [None if key == NULL_KEY else key.decode("utf-8", "surrogatepass") for key in keys]
            return {name: Vector.of(type_, texts)}
        if len(self.columns) == 1 and all(len(key) == 8 for key in keys):
            name, type_ = self.columns[0]
            numbers = np.frombuffer(b"".join(keys), np.int64)
            if Vector.of(type_, [0]).array.dtype == np.int64:
                return {name: Vector(type_, numbers)}
        decode = msgspec.msgpack.Decoder().decode
        rows = [decode(key) for key in keys]
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


def key_bytes(interner: Interner, codes: IntArray) -> list[bytes]:
    """The encoded keys of codes."""
    strings = interner.strings(codes)
    data = strings.data
    return [
        data[begin : begin + size].tobytes()
        for begin, size in zip(strings.start.tolist(), strings.length.tolist(), strict=True)
    ]
