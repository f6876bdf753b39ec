"""Keyed state in bulk: keys and their state as bytes, column by column."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Blobs:
    """Many byte strings in one buffer: number i is ``data[offset[i]:offset[i + 1]]``."""

    data: Bytes
    offset: Ints

    @staticmethod
    def of(values: Sequence[bytes]) -> Blobs:
        offset = np.zeros(len(values) + 1, np.int64)
        np.cumsum(np.fromiter(map(len, values), np.int64, len(values)), out=offset[1:])
        return Blobs(np.frombuffer(b"".join(values), np.uint8), offset)

    @property
    def lengths(self) -> Ints:
        """int64[n]"""
        return np.diff(self.offset)

    def __len__(self) -> int:
        return len(self.offset) - 1

    def __iter__(self) -> Iterator[bytes]:
        whole, offset = self.data.tobytes(), self.offset.tolist()
        return (whole[begin:end] for begin, end in pairwise(offset))

    def slice(self, begin: int, end: int) -> Blobs:
        """Those from `begin` up to `end`, as a view."""
        first, last = self.offset[begin], self.offset[end]
        return Blobs(self.data[first:last], self.offset[begin : end + 1] - first)

    def take(self, rows: Ints) -> Blobs:
        """The strings with these numbers, in that order."""
        length = self.lengths[rows]
        offset = np.zeros(len(rows) + 1, np.int64)
        np.cumsum(length, out=offset[1:])
        at = np.repeat(self.offset[rows] - offset[:-1], length) + np.arange(offset[-1])
        return Blobs(self.data[at], offset)


@dataclass(frozen=True, slots=True, eq=False)
class Records:
    """The state of keys. Each key stands here once; an empty value says that the key has no state any more."""

    keys: Blobs
    values: Blobs

    @staticmethod
    def of(items: Iterable[tuple[bytes, bytes]]) -> Records:
        pairs = list(items)
        return Records(Blobs.of([key for key, _ in pairs]), Blobs.of([value for _, value in pairs]))

    def __len__(self) -> int:
        return len(self.keys)

    def items(self) -> Iterator[tuple[bytes, bytes]]:
        return zip(self.keys, self.values, strict=True)

    def slice(self, begin: int, end: int) -> Records:
        """Those from `begin` up to `end`, as a view."""
        return Records(self.keys.slice(begin, end), self.values.slice(begin, end))

    def take(self, rows: Ints) -> Records:
        return Records(self.keys.take(rows), self.values.take(rows))
