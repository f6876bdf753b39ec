"""One event as Python code sees it: conditions and functions that are not expressions, and user code."""

from __future__ import annotations

import decimal
from collections.abc import Iterator, Mapping
from typing import Any

from ostinato.cep.batch import Strings, Vector
from ostinato.patterns.types import Array, DataType, Decimal, Row


class Record(dict[str, Any]):
    """A ROW value: a dict whose items are attributes too."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"the row has no field `{name}`; it has {', '.join(self)}") from None


class Event(Mapping[str, Any]):
    """A read-only view of one row of some columns: ``e.amount``, ``e["amount"]``, ``e.get("amount")``, ``dict(e)``.

    Values are read when they are asked for: TIMESTAMP and INTERVAL as int milliseconds, DATE as int days, DECIMAL
    as decimal.Decimal, ROW as `Record`, null as None. A column with the name of a method of Mapping (``items``,
    ``keys``, ``get``...) is reached by ``e["items"]`` only. Events compare by their values.
    """

    __slots__ = ("_columns", "_row")

    def __init__(self, columns: Mapping[str, Vector], row: int) -> None:
        self._columns = columns
        self._row = row

    def __getitem__(self, name: str) -> Any:
        column = self._columns[name]
        return natural(read(column, self._row), column.type)

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            columns = ", ".join(self._columns)
            raise AttributeError(f"the event has no column `{name}`; it has {columns}") from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._columns)

    def __len__(self) -> int:
        return len(self._columns)

    def __repr__(self) -> str:
        return "Event(" + ", ".join(f"{name}={value!r}" for name, value in self.items()) + ")"


def physical(event: Event, name: str) -> Any:
    """The value of a column as columns hold it (DECIMAL unscaled), None where null."""
    return read(event._columns[name], event._row)


def read(column: Vector, row: int) -> Any:
    """One physical value of a column as a Python object, None where null."""
    if column.valid is not None and not column.valid[row]:
        return None
    values = column.values
    if isinstance(values, Strings):
        begin = int(values.start[row])
        return str(values.data[begin : begin + int(values.length[row])].tobytes(), "utf-8", "surrogatepass")
    return values.item(row)


def natural(value: Any, type_: DataType) -> Any:
    """What Python code gets for a physical value."""
    if value is None:
        return None
    if isinstance(type_, Decimal):
        return decimal.Decimal(value).scaleb(-type_.scale)
    if isinstance(type_, Array):
        return [natural(item, type_.element) for item in value]
    if isinstance(type_, Row):
        return Record((name, natural(value.get(name), field)) for name, field in type_.fields)
    return value
