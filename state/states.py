"""Keyed state as user functions see it, under the names of PyFlink. Everything is of the current key.

What a state gives is the caller's own: changing it changes nothing until it is given back with `update`, `put` or
`add`. That holds for all backends.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, cast

from ostinato.state.descriptors import (
    AggregatingStateDescriptor,
    MapStateDescriptor,
    ReducingStateDescriptor,
    StateDescriptor,
)
from ostinato.state.keyed_records import Cell, Stamped
from ostinato.state.schema import Schema
from ostinato.state.serializers import Serializer, StateValueError
from ostinato.state.ttl import TtlTime, TtlUpdateType, TtlVisibility

if TYPE_CHECKING:
    from ostinato.state.keyed import KeyedStates


class State:
    """What all kinds have: the cell of the current key, and its time to live."""

    def __init__(self, owner: KeyedStates, number: int, descriptor: StateDescriptor) -> None:
        self._owner = owner
        self.number = number
        self.kind = descriptor.kind
        self._where = f"state `{descriptor.name}`"
        self.serializer = Serializer(descriptor.type_info, self._where)
        ttl = descriptor.ttl
        self.ttl = ttl
        self._event_time = ttl is not None and ttl.ttl_time_characteristic is TtlTime.EventTime
        self._on_read = ttl is not None and ttl.update_type is TtlUpdateType.OnReadAndWrite
        self._shows_expired = ttl is not None and ttl.state_visibility is TtlVisibility.ReturnExpiredIfNotCleanedUp

    def clear(self) -> None:
        """Remove the state of the current key."""
        if self._read() is not None:
            self._write(None)

    def schemas(self) -> tuple[Schema, Schema | None]:
        """Of the values, and of a map's keys."""
        return self.serializer.schema, None

    def now(self) -> int:
        """The time that makes this state older, epoch ms."""
        return self._owner.event_time if self._event_time else self._owner.processing_time

    def stamp(self) -> int | None:
        """What is written besides each value."""
        return None if self.ttl is None else self.now()

    def expired(self, stamp: int | None) -> bool:
        return self.ttl is not None and stamp is not None and stamp + self.ttl.ttl_ms <= self.now()

    def cleaned(self, cell: Cell) -> Cell | None:
        """The cell without what has expired; itself where nothing has."""
        if self.ttl is None:
            return cell
        if type(cell) is tuple:
            return None if self.expired(cell[0]) else cell
        if type(cell) is list:
            kept = [each for each in cell if not self.expired(each[0])]
            return cell if len(kept) == len(cell) else kept or None
        entries = cast("dict[bytes, Stamped]", cell)
        left = {key: each for key, each in entries.items() if not self.expired(each[0])}
        return cell if len(left) == len(entries) else left or None

    def _read(self) -> Cell | None:
        return self._owner.read(self.number)

    def _write(self, cell: Cell | None) -> None:
        self._owner.write(self.number, cell)


class _Single(State):
    """State of one value: of value, reducing and aggregating state."""

    def _get(self, *, reading: bool = True) -> Any:
        cell = cast("Stamped | None", self._read())
        if cell is None:
            return None
        stamp, data = cell
        if self.ttl is not None:
            if self.expired(stamp):
                self._write(None)
                if not self._shows_expired:
                    return None
            elif self._on_read and reading and stamp != self.now():
                self._write((self.now(), data))
        return self.serializer.loads(data)

    def _set(self, value: Any) -> None:
        self._write((self.stamp(), self.serializer.dumps(value)))


class ValueState(_Single):
    """One value; None where there is none."""

    def value(self) -> Any:
        return self._get()

    def update(self, value: Any) -> None:
        """Replace the value; None clears it. Raises StateValueError."""
        if value is None:
            self.clear()
        else:
            self._set(value)


class ReducingState(_Single):
    """The values that were added, reduced to one; None before the first."""

    def __init__(self, owner: KeyedStates, number: int, descriptor: ReducingStateDescriptor) -> None:
        super().__init__(owner, number, descriptor)
        self._reduce = descriptor.reduce

    def get(self) -> Any:
        return self._get()

    def add(self, value: Any) -> None:
        """Raises StateValueError."""
        before = self._get(reading=False)
        self._set(value if before is None else self._reduce(before, value))


class AggregatingState(_Single):
    """What the aggregate function makes of the values that were added; None before the first."""

    def __init__(self, owner: KeyedStates, number: int, descriptor: AggregatingStateDescriptor) -> None:
        super().__init__(owner, number, descriptor)
        self._function = descriptor.agg_function

    def get(self) -> Any:
        accumulator = self._get()
        return None if accumulator is None else self._function.get_result(accumulator)

    def add(self, value: Any) -> None:
        """Raises StateValueError."""
        before = self._get(reading=False)
        self._set(self._function.add(value, self._function.create_accumulator() if before is None else before))


class ListState(State):
    """A list; empty where nothing was added."""

    def get(self) -> list[Any]:
        loads = self.serializer.loads
        return [loads(data) for _, data in self._visible()]

    def add(self, value: Any) -> None:
        """Append one. Raises StateValueError."""
        self.add_all([value])

    def add_all(self, values: Iterable[Any]) -> None:
        """Append several. Raises StateValueError."""
        stamp = self.stamp()
        added = [(stamp, self._dumps(value)) for value in values]
        if added:
            cell = cast("list[Stamped] | None", self._read()) or []
            cell += added
            self._write(cell)

    def update(self, values: Iterable[Any]) -> None:
        """Replace the whole list. Raises StateValueError."""
        stamp = self.stamp()
        self._write([(stamp, self._dumps(value)) for value in values] or None)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.get())

    def _dumps(self, value: Any) -> bytes:
        if value is None:
            raise StateValueError(f"{self._where}: None cannot be in a list")
        return self.serializer.dumps(value)

    def _visible(self) -> list[Stamped]:
        cell = cast("list[Stamped] | None", self._read())
        if not cell or self.ttl is None:
            return cell or []
        kept = cast("list[Stamped] | None", self.cleaned(cell))
        if self._on_read and kept and any(stamp != self.now() for stamp, _ in kept):
            self._write([(self.now(), data) for _, data in kept])
        elif kept is not cell:
            self._write(kept)
        return cell if self._shows_expired else kept or []


class MapState(State):
    """Values by key."""

    def __init__(self, owner: KeyedStates, number: int, descriptor: MapStateDescriptor) -> None:
        super().__init__(owner, number, descriptor)
        self.key_serializer = Serializer(descriptor.key_type_info, f"{self._where}, its key")

    def schemas(self) -> tuple[Schema, Schema | None]:
        return self.serializer.schema, self.key_serializer.schema

    def get(self, key: Any) -> Any:
        """The value, None where there is none."""
        found = self._entry(self.key_serializer.dumps(key))
        return None if found is None else self.serializer.loads(found[1])

    def put(self, key: Any, value: Any) -> None:
        """Raises StateValueError."""
        self.put_all([(key, value)])

    def put_all(self, entries: Mapping[Any, Any] | Iterable[tuple[Any, Any]]) -> None:
        """Raises StateValueError; then none of them is put."""
        stamp = self.stamp()
        pairs = entries.items() if isinstance(entries, Mapping) else entries
        added = {self.key_serializer.dumps(key): (stamp, self.serializer.dumps(value)) for key, value in pairs}
        if added:
            cell = self._cell()
            cell.update(added)
            self._write(cell)

    def remove(self, key: Any) -> None:
        name = self.key_serializer.dumps(key)
        cell = self._cell()
        if name in cell:
            del cell[name]
            self._write(cell or None)

    def contains(self, key: Any) -> bool:
        return self._entry(self.key_serializer.dumps(key)) is not None

    def is_empty(self) -> bool:
        cell = self._cell()
        return not (cell if self._shows_expired else any(not self.expired(stamp) for stamp, _ in cell.values()))

    def items(self) -> list[tuple[Any, Any]]:
        """In the order in which the keys were put first."""
        key_of, value_of = self.key_serializer.loads, self.serializer.loads
        return [(key_of(key), value_of(data)) for key, (_, data) in self._visible().items()]

    def keys(self) -> list[Any]:
        return [self.key_serializer.loads(key) for key in self._visible()]

    def values(self) -> list[Any]:
        return [self.serializer.loads(data) for _, data in self._visible().values()]

    def __contains__(self, key: Any) -> bool:
        return self.contains(key)

    def __getitem__(self, key: Any) -> Any:
        found = self._entry(self.key_serializer.dumps(key))
        if found is None:
            raise KeyError(key)
        return self.serializer.loads(found[1])

    def __setitem__(self, key: Any, value: Any) -> None:
        self.put(key, value)

    def __delitem__(self, key: Any) -> None:
        self.remove(key)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.keys())

    def _cell(self) -> dict[bytes, Stamped]:
        return cast("dict[bytes, Stamped] | None", self._read()) or {}

    def _entry(self, name: bytes) -> Stamped | None:
        cell = self._cell()
        found = cell.get(name)
        if found is None or self.ttl is None:
            return found
        if self.expired(found[0]):
            del cell[name]
            self._write(cell or None)
            return found if self._shows_expired else None
        if self._on_read and found[0] != self.now():
            cell[name] = (self.now(), found[1])
            self._write(cell)
        return found

    def _visible(self) -> dict[bytes, Stamped]:
        cell = self._cell()
        if not cell or self.ttl is None:
            return cell
        kept = cast("dict[bytes, Stamped] | None", self.cleaned(cell))
        if self._on_read and kept and any(stamp != self.now() for stamp, _ in kept.values()):
            self._write({key: (self.now(), data) for key, (_, data) in kept.items()})
        elif kept is not cell:
            self._write(kept)
        return cell if self._shows_expired else kept or {}
