"""Buffered events: those that wait for the watermark, and those that a partial match still needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ostinato.cep.batch import AnyArray, BoolArray, IntArray, Strings, Vector, concat_vectors, physical_dtype
from ostinato.cep.event import Event
from ostinato.patterns.types import STRING, DataType

Columns = Mapping[str, Vector]


class Parts:
    """Columns in several parts, addressed as if they lay one after the other, so that nothing large is copied."""

    def __init__(self, parts: Sequence[tuple[int, Columns]]) -> None:
        self._parts = parts
        self._first = np.cumsum([0] + [rows for rows, _ in parts])

    def take(self, name: str, rows: IntArray) -> Vector:
        """The given rows of a column, in that order."""
        if len(self._parts) == 1:
            return self._parts[0][1][name].take(rows)
        part_of = np.searchsorted(self._first, rows, side="right") - 1
        pieces = []
        place = np.empty(len(rows), np.int64)
        done = 0
        for part in np.unique(part_of):
            here = np.flatnonzero(part_of == part)
            pieces.append(_own(self._parts[part][1][name].take(rows[here] - self._first[part])))
            place[here] = done + np.arange(len(here))
            done += len(here)
        if not pieces:
            return self._parts[0][1][name].take(rows)
        return concat_vectors(pieces).take(place)

    def event(self, row: int) -> Event:
        """One row, as Python code sees it."""
        part = int(np.searchsorted(self._first, row, side="right")) - 1
        return Event(self._parts[part][1], row - int(self._first[part]))

    def rest(self, names: Sequence[str], rows: IntArray) -> dict[str, Vector]:
        """The given rows of some columns, in memory of their own."""
        return {name: _own(self.take(name, rows)) for name in names}


def _own(vector: Vector) -> Vector:
    if isinstance(vector.values, Strings):
        return Vector(vector.type, vector.values.compact(), vector.valid)
    return vector


class EventStore:
    """Columns of the events in the kernel's slots: row s belongs to slot s."""

    def __init__(self, columns: Mapping[str, DataType]) -> None:
        self._types = dict(columns)
        self._values: dict[str, AnyArray] = {name: np.zeros(0, _held_dtype(type_)) for name, type_ in columns.items()}
        self._valid: dict[str, BoolArray] = {name: np.zeros(0, np.bool_) for name in columns}
        self._size = 0

    @property
    def types(self) -> Mapping[str, DataType]:
        return self._types

    def reserve(self, size: int) -> None:
        """Make room for slots below `size`."""
        if size <= self._size:
            return
        for name, values in self._values.items():
            longer = np.zeros(size, values.dtype)
            longer[: self._size] = values
            self._values[name] = longer
            valid = np.zeros(size, np.bool_)
            valid[: self._size] = self._valid[name]
            self._valid[name] = valid
        self._size = size

    def put(self, slots: AnyArray, name: str, vector: Vector) -> None:
        """Fill slots of one column."""
        values: AnyArray
        if isinstance(vector.values, Strings):
            values = np.empty(len(slots), object)
            values[:] = vector.values.to_list()
        else:
            values = vector.values
        self._values[name][slots] = values
        self._valid[name][slots] = True if vector.valid is None else vector.valid

    def take(self, name: str, slots: AnyArray) -> Vector:
        """A column of the events in the given slots."""
        type_ = self._types[name]
        valid = self._valid[name][slots]
        values = self._values[name][slots]
        mask = None if valid.all() else valid
        if type_ == STRING:
            texts = values.tolist()
            return Vector(type_, Strings.of(texts if mask is None else [t or None for t in texts]), mask)
        return Vector(type_, values, mask)

    def event(self, slot: int) -> Event:
        """The event in a slot, as Python code sees it while the slot is in use."""
        columns = {name: Vector(type_, self._values[name], self._valid[name]) for name, type_ in self._types.items()}
        return Event(columns, slot)


def _held_dtype(type_: DataType) -> np.dtype[Any]:
    return np.dtype(object) if type_ == STRING else physical_dtype(type_)
