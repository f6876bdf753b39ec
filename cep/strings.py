"""Text columns: copying, comparing, hashing, and numbering the distinct ones (`Interner`).

Everything works on `Strings`, views of UTF-8 bytes into a shared buffer, and costs a few nanoseconds a text.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ostinato.cep import strings_kernel
from ostinato.cep.batch import AnyArray, BoolArray, IntArray, Strings, Vector
from ostinato.cep.jit import Kernels, kernels

_SNAPSHOT_MAGIC = b"OSTI\x01"
"""First bytes of an interner's snapshot; the last one is the version of its format."""


def encode(text: str) -> bytes:
    """The bytes of a text as columns hold it: UTF-8, lone surrogates of JSON escapes included."""
    return text.encode("utf-8", "surrogatepass")


class _Writable:
    """An array interface over memory that numpy takes for read-only."""

    def __init__(self, array: AnyArray) -> None:
        self._keep = array
        self.__array_interface__ = {**array.__array_interface__, "data": (array.ctypes.data, False)}


def plain(array: AnyArray) -> AnyArray:
    """The array as kernels take it: contiguous, and not marked read-only.

    numba compiles a kernel anew for read-only arrays, seconds for nothing: none of them writes to its input.
    """
    array = np.ascontiguousarray(array)
    return array if array.flags.writeable or not array.size else np.asarray(_Writable(array))


def parts(strings: Strings) -> tuple[Any, Any, Any]:
    """Data, starts and lengths as kernels take them."""
    return plain(strings.data), plain(strings.start), plain(strings.length)


def _kernels() -> Kernels:
    return kernels(strings_kernel)


def _constant(text: str) -> npt.NDArray[np.uint8]:
    return np.array(list(encode(text)), np.uint8)


def gather(strings: Strings) -> Strings:
    """The same texts in a buffer of their own, one after the other."""
    target = np.empty(int(strings.length.sum(dtype=np.int64)), np.uint8)
    start = np.empty(len(strings), np.int64)
    _kernels().copy_texts(*parts(strings), target, start)
    return Strings(target, start, strings.length.copy())


def one_behind_the_other(data: npt.NDArray[np.uint8], length: npt.NDArray[np.int32]) -> Strings:
    """Texts of these lengths that lie in `data` without a gap."""
    start = np.zeros(len(length), np.int64)
    np.cumsum(length[:-1], out=start[1:])
    return Strings(data, start, length)


def equals(strings: Strings, text: str) -> BoolArray:
    """Which texts are `text`? bool[rows]"""
    out = np.empty(len(strings), np.bool_)
    _kernels().equals_constant(*parts(strings), _constant(text), out)
    return out


def equals_each(left: Strings, right: Strings) -> BoolArray:
    """Which texts are equal to the one in the same row? bool[rows]"""
    out = np.empty(len(left), np.bool_)
    _kernels().equals_columns(*parts(left), *parts(right), out)
    return out


def compare(left: Strings, right: Strings | str) -> npt.NDArray[np.int8]:
    """-1, 0 or 1 for each row, in the order of UTF-16 code units. int8[rows]"""
    if isinstance(right, str):
        right = Strings.of([right])
    out = np.empty(len(left), np.int8)
    _kernels().compare_columns(*parts(left), *parts(right), out)
    return out


def starts_with(strings: Strings, text: str) -> BoolArray:
    """Which texts start with `text`? bool[rows]"""
    out = np.empty(len(strings), np.bool_)
    _kernels().has_at_end(*parts(strings), _constant(text), False, out)
    return out


def ends_with(strings: Strings, text: str) -> BoolArray:
    """Which texts end with `text`? bool[rows]"""
    out = np.empty(len(strings), np.bool_)
    _kernels().has_at_end(*parts(strings), _constant(text), True, out)
    return out


def find(strings: Strings, text: str) -> IntArray:
    """Where `text` is found first, in bytes from 0; -1 where it is not. int64[rows]"""
    out = np.empty(len(strings), np.int64)
    _kernels().find_constant(*parts(strings), _constant(text), out)
    return out


def contains(strings: Strings, text: str) -> BoolArray:
    """Which texts have `text` in them? bool[rows]"""
    return find(strings, text) >= 0


def hash_texts(strings: Strings) -> npt.NDArray[np.uint64]:
    """A 64-bit hash of each text, the same on every machine and in every release. uint64[rows]"""
    return hash_rows([strings], len(strings))


def hash_rows(columns: Sequence[Vector | Strings], rows: int) -> npt.NDArray[np.uint64]:
    """A 64-bit hash of each row of several columns, stable as `hash_texts`; for keys, so nulls do not count.

    -0.0 has the hash of 0.0, as the two are equal. Columns of ARRAY or ROW have no hash (TypeError).
    """
    out = np.zeros(rows, np.uint64)
    with np.errstate(over="ignore"):
        for column in columns:
            values = column.values if isinstance(column, Vector) else column
            if isinstance(values, Strings):
                _kernels().hash_texts(*parts(values), out)
                continue
            if values.dtype == object:
                raise TypeError("a column of ARRAY or ROW cannot be hashed")
            if values.dtype == np.float64:
                values = (values + 0.0).view(np.int64)
            _kernels().hash_numbers(plain(values.astype(np.int64, copy=False)), out)
    return out


class Interner:
    """Numbers distinct texts 0, 1, 2, ... in the order they are first seen.

    An open-addressing table of codes over an arena of bytes. Codes stay what they are until `retain`.
    """

    def __init__(self, capacity: int = 1024) -> None:
        """Make an empty one with room for about `capacity` texts before it grows for the first time."""
        size = 16
        while size < 2 * capacity:
            size *= 2
        self._allocate(size, capacity, 16 * capacity)

    def _allocate(self, table: int, texts: int, arena: int) -> None:
        self._count = 0
        self._table = np.zeros(table, np.int32)
        self._hashes = np.empty(texts, np.uint64)
        self._starts = np.empty(texts, np.int64)
        self._lengths = np.empty(texts, np.int32)
        self._arena = np.empty(arena, np.uint8)

    def __len__(self) -> int:
        return self._count

    @property
    def memory(self) -> int:
        """Bytes held, free room included."""
        held = (self._table, self._hashes, self._starts, self._lengths, self._arena)
        return sum(array.nbytes for array in held)

    def intern(self, strings: Strings, valid: BoolArray | None = None) -> IntArray:
        """The code of each text, new ones for new texts; -1 where `valid` says null. int64[rows]"""
        if valid is not None and not valid.all():
            codes = np.full(len(strings), -1, np.int64)
            codes[valid] = self.intern(strings.take(valid))
            return codes
        data, start, length = parts(strings)
        codes = np.empty(len(start), np.int64)
        row = 0
        kernel = _kernels().intern_texts
        with np.errstate(over="ignore"):
            while True:
                row, self._count = kernel(
                    data, start, length, row, self._count,
                    self._table, self._hashes, self._starts, self._lengths, self._arena, codes,
                )  # fmt: skip
                if row == len(start):
                    return codes
                self._grow(int(length[row]))

    def code(self, text: str) -> int:
        """The code of one text, a new one if it is new."""
        return int(self.intern(Strings.of([text]))[0])

    def find(self, strings: Strings) -> IntArray:
        """The code of each text, -1 where it has none yet. int64[rows]"""
        codes = np.empty(len(strings), np.int64)
        with np.errstate(over="ignore"):
            _kernels().find_texts(
                *parts(strings), self._table, self._hashes, self._starts, self._lengths, self._arena, codes
            )
        return codes

    def lookup(self, text: str) -> int:
        """The code of one text, -1 if it has none yet."""
        return int(self.find(Strings.of([text]))[0])

    def text(self, code: int) -> str:
        """The text of a code."""
        if not 0 <= code < self._count:
            raise IndexError(f"no text has the code {code}")
        begin = int(self._starts[code])
        return str(self._arena[begin : begin + int(self._lengths[code])].tobytes(), "utf-8", "surrogatepass")

    def strings(self, codes: AnyArray | None = None) -> Strings:
        """The texts of the codes (None: of all of them, by code), as views into the arena.

        They stay as they are when more texts are interned. A code of -1 gives an empty text.
        """
        starts, lengths = self._starts[: self._count], self._lengths[: self._count]
        if codes is None:
            return Strings(self._arena, starts.copy(), lengths.copy())
        if not self._count:
            return Strings(self._arena, np.zeros(len(codes), np.int64), np.zeros(len(codes), np.int32))
        known = codes >= 0
        return Strings(self._arena, np.where(known, starts[codes], 0), np.where(known, lengths[codes], np.int32(0)))

    def retain(self, codes: AnyArray) -> IntArray:
        """Keep only the texts of these codes (in any order, repeats allowed), renumbered without gaps.

        Returns int64[old count]: the new code of each old one, -1 where it is gone. Order is kept.
        """
        kept = np.zeros(self._count, np.bool_)
        kept[codes[codes >= 0]] = True
        old = np.flatnonzero(kept)
        mapping = np.full(self._count, -1, np.int64)
        mapping[old] = np.arange(len(old))
        texts, hashes = gather(self.strings(old)), self._hashes[old]
        size = 16
        while size < 4 * len(old):
            size *= 2
        self._allocate(size, max(8, 2 * len(old)), max(128, 2 * len(texts.data)))
        self._fill(texts, hashes)
        return mapping

    def snapshot(self) -> bytes:
        """All texts by code, as bytes (little-endian): magic, count, lengths, then the texts."""
        texts = gather(self.strings())
        header = np.array([self._count], "<i8").tobytes()
        return _SNAPSHOT_MAGIC + header + texts.length.astype("<i4").tobytes() + texts.data.tobytes()

    @classmethod
    def restore(cls, snapshot: bytes) -> Interner:
        """The interner that `snapshot` was taken of; ValueError where these are not such bytes."""
        head = len(_SNAPSHOT_MAGIC)
        if snapshot[:head] != _SNAPSHOT_MAGIC or len(snapshot) < head + 8:
            raise ValueError("these bytes are not an interner's snapshot of a version that can be read")
        count = int(np.frombuffer(snapshot, "<i8", 1, head)[0])
        body = head + 8 + 4 * count
        if count < 0 or len(snapshot) < body:
            raise ValueError("the interner's snapshot is cut short")
        length = np.frombuffer(snapshot, "<i4", count, head + 8).astype(np.int32)
        data = np.frombuffer(snapshot, np.uint8, -1, body) if len(snapshot) > body else np.empty(0, np.uint8)
        if len(data) != length.sum(dtype=np.int64):
            raise ValueError("the interner's snapshot is cut short")
        start = np.zeros(count, np.int64)
        np.cumsum(length[:-1], out=start[1:])
        made = cls(max(8, count))
        codes = made.intern(Strings(data, start, length))
        if len(made) != count or (count and int(codes[-1]) != count - 1):
            raise ValueError("the interner's snapshot has a text twice")
        return made

    def _grow(self, size: int) -> None:
        """Double whatever is full; `size` is the length of the text that did not fit."""
        count = self._count
        used = int(self._starts[count - 1] + self._lengths[count - 1]) if count else 0
        if used + size > len(self._arena):
            arena = np.empty(max(2 * len(self._arena), used + size), np.uint8)
            arena[:used] = self._arena[:used]
            self._arena = arena
        if count >= len(self._starts):
            room = 2 * len(self._starts)
            self._hashes, self._starts, self._lengths = (
                np.concatenate([held, np.empty(room - count, held.dtype)])
                for held in (self._hashes, self._starts, self._lengths)
            )
        if count >= len(self._table) // 2:
            self._table = np.zeros(4 * len(self._table), np.int32)
            _kernels().fill_table(self._hashes, count, self._table)

    def _fill(self, texts: Strings, hashes: npt.NDArray[np.uint64]) -> None:
        """Enter texts known to be different, laid out one after the other, into the empty interner."""
        self._count = len(texts)
        self._hashes[: self._count] = hashes
        self._starts[: self._count] = texts.start
        self._lengths[: self._count] = texts.length
        self._arena[: len(texts.data)] = texts.data
        _kernels().fill_table(self._hashes, self._count, self._table)
