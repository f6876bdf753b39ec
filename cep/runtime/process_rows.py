"""Rows into and out of process functions: events as dicts, dicts as columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import repeat
from typing import Any

import numpy as np

from ostinato.cep.batch import Batch, Vector
from ostinato.cep.connectors.values import BadValue, Converter, converter
from ostinato.cep.event import Record, natural
from ostinato.patterns.ast import Stream
from ostinato.patterns.errors import did_you_mean
from ostinato.patterns.types import TIMESTAMP, Array, Decimal, Row


def rows_of(batch: Batch) -> list[Record]:
    """The events of a batch as functions see them."""
    columns = [_naturals(vector) for vector in batch.columns.values()]
    names = tuple(batch.columns)
    if not columns:
        return [Record() for _ in range(len(batch))]
    return [Record(zip(names, values, strict=True)) for values in zip(*columns, strict=True)]


def _naturals(vector: Vector) -> Sequence[Any]:
    values = vector.to_list()
    if isinstance(vector.type, (Decimal, Array, Row)):
        return [natural(value, vector.type) for value in values]
    return values


class RowWriter:
    """Gathers the rows of one output stream."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self._time_column = stream.time.column
        self._columns: dict[str, Converter] = {
            column.name: converter(column.type) for column in stream.columns if column.name != self._time_column
        }
        self._rows: list[list[Any]] = []
        self._times: list[int] = []

    def add(self, time: int, row: Mapping[str, Any]) -> None:
        """One row. Raises BadValue: a column is unknown, or cannot hold its value."""
        values = []
        for name, convert in self._columns.items():
            value = row.get(name)
            if value is not None:
                try:
                    value = convert(value)
                except BadValue as error:
                    raise BadValue(f"column `{name}` of `{self.stream.name}`: {error}") from None
            values.append(value)
        if len(row) > len(self._columns) or not row.keys() <= self._columns.keys():
            unknown = [name for name in row if name not in self._columns and name != self._time_column]
            if unknown:
                hint = did_you_mean(unknown[0], self._columns) or f"its columns are {', '.join(self._columns)}"
                raise BadValue(f"`{self.stream.name}` has no column `{unknown[0]}`; {hint}")
        self._rows.append(values)
        self._times.append(time)

    def take(self) -> Batch | None:
        """The rows since the last call, None where there were none."""
        if not self._times:
            return None
        rows, times = self._rows, np.array(self._times, np.int64)
        self._rows, self._times = [], []
        values = list(zip(*rows, strict=True)) if self._columns else list(repeat((), 0))
        columns = {name: Vector.of(self._type(name), held) for name, held in zip(self._columns, values, strict=True)}
        if self._time_column is not None:
            columns[self._time_column] = Vector(TIMESTAMP, times)
        ordered = {column.name: columns[column.name] for column in self.stream.columns if column.name in columns}
        return Batch(self.stream.name, times, ordered)

    def _type(self, name: str) -> Any:
        column = self.stream.column(name)
        assert column is not None
        return column.type
