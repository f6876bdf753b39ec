"""Which worker owns a row: rows are spread by the key group of their key."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ostinato.cep.batch import AnyArray, Batch, IntArray, Strings, Vector
from ostinato.cep.jit import Kernels, kernels
from ostinato.cep.nfa.keys import KeyCodec, key_group
from ostinato.cep.runtime import partition_kernel
from ostinato.cep.strings import one_behind_the_other, parts, plain
from ostinato.patterns.types import DataType

KEY_GROUPS = 128
"""Groups that keys are spread over; fixed for a job's life, so that its state can be dealt to other workers."""

TEXT_SLACK = 8
"""Bytes behind each worker's texts that the kernel may write to."""


class Partitioner:
    """Spreads the rows of one stream over `workers`; contiguous ranges of key groups belong to one worker."""

    def __init__(self, keys: Sequence[tuple[str, DataType]], workers: int, key_groups: int = KEY_GROUPS) -> None:
        self._codec = KeyCodec(keys)
        self._groups = key_groups
        self._workers = workers
        self._owners = (np.arange(key_groups) * workers // key_groups).astype(np.uint16)

    def key_groups(self, batch: Batch) -> IntArray:
        """The key group of each row. int64[rows]"""
        return key_group(self._codec.encode(batch.columns, len(batch)), self._groups)

    def spread(self, batch: Batch) -> list[Batch]:
        """The rows of each worker, in their order.

        The texts are copies, as chunks lie in memory that is filled anew, and those of each column lie one behind the
        other, so that `frames.encode` takes them as they are. With several workers everything is copied.
        """
        if self._workers == 1:
            return [Batch(batch.stream, batch.time, {name: _own(vector) for name, vector in batch.columns.items()})]
        dealing = _Dealing(self._codec.encode(batch.columns, len(batch)), self._owners, self._workers)
        time = dealing.array(batch.time)
        columns: list[dict[str, Vector]] = [{} for _ in range(self._workers)]
        for name, vector in batch.columns.items():
            for own, dealt in zip(columns, dealing.vector(vector), strict=True):
                own[name] = dealt
        return [Batch(batch.stream, *each) for each in zip(time, columns, strict=True)]


class _Dealing:
    """Deals out one batch, column by column."""

    def __init__(self, keys: Strings, owners: npt.NDArray[np.uint16], workers: int) -> None:
        rows = len(keys)
        self._kernels: Kernels = kernels(partition_kernel)
        self._owner = np.empty(rows, np.uint16)
        counts = np.zeros(workers, np.int64)
        with np.errstate(over="ignore"):
            self._kernels.find_owners(*parts(keys), owners, self._owner, counts)
        self._first = np.cumsum(counts) - counts
        self._ends = self._first + counts
        self._dealt: dict[int, list[AnyArray]] = {}

    def vector(self, vector: Vector) -> list[Vector]:
        """The part of each worker of a column."""
        valid: Sequence[AnyArray | None] = [None] * len(self._ends)
        if vector.valid is not None:
            valid = self.array(vector.valid)
        held = vector.values
        values: Sequence[AnyArray | Strings] = self._texts(held) if isinstance(held, Strings) else self.array(held)
        return [Vector(vector.type, part, mask) for part, mask in zip(values, valid, strict=True)]

    def array(self, values: AnyArray) -> list[AnyArray]:
        """The part of each worker. What is dealt out a second time (the event time is a column as well) is the same."""
        known = self._dealt.get(id(values))
        if known is None:
            known = self._dealt[id(values)] = self._array(values)
        return known

    def _array(self, values: AnyArray) -> list[AnyArray]:
        if values.dtype.itemsize not in (1, 8) or values.dtype == object:
            return [values[rows] for rows in self._rows()]
        target = np.empty(len(values), values.dtype)
        if values.dtype.itemsize == 8:
            self._kernels.deal_words(plain(values).view(np.int64), self._owner, self._first.copy(), _words(target))
        else:
            self._kernels.deal_bytes(plain(values).view(np.uint8), self._owner, self._first.copy(), _octets(target))
        return self._cut(target)

    def _texts(self, strings: Strings) -> list[Strings]:
        sizes = np.zeros(len(self._ends), np.int64)
        data, start, length = parts(strings)
        self._kernels.count_bytes(length, self._owner, sizes)
        first = np.cumsum(sizes + TEXT_SLACK) - sizes - TEXT_SLACK
        target = np.empty(int(sizes.sum()) + TEXT_SLACK * len(sizes), np.uint8)
        lengths = np.empty(len(strings), np.int32)
        at = np.stack([self._first, first], axis=1)
        self._kernels.deal_texts(data, start, length, self._owner, at, target, lengths)
        return [
            one_behind_the_other(target[begin:end], part)
            for begin, end, part in zip(first.tolist(), (first + sizes).tolist(), self._cut(lengths), strict=True)
        ]

    def _cut(self, dealt: AnyArray) -> list[AnyArray]:
        return [dealt[begin:end] for begin, end in zip(self._first.tolist(), self._ends.tolist(), strict=True)]

    def _rows(self) -> list[npt.NDArray[np.intp]]:
        return [np.flatnonzero(self._owner == worker) for worker in range(len(self._ends))]


def _own(vector: Vector) -> Vector:
    """The column with its texts in memory of their own."""
    if not isinstance(vector.values, Strings):
        return vector
    return Vector(vector.type, vector.values.compact(), vector.valid)


def _words(array: AnyArray) -> IntArray:
    return array.view(np.int64)


def _octets(array: AnyArray) -> npt.NDArray[np.uint8]:
    return array.view(np.uint8)


def owned_groups(worker: int, workers: int, key_groups: int = KEY_GROUPS) -> range:
    """The key groups that a worker owns."""
    first = -(-worker * key_groups // workers)
    return range(first, -(-(worker + 1) * key_groups // workers))
