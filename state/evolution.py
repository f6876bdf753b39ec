"""Stored states against declared ones: what is carried over, what is rewritten, what is refused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import msgspec

from ostinato.state.descriptors import StateDescriptor
from ostinato.state.errors import DroppedStateError, SnapshotError
from ostinato.state.keyed_records import Cell, KeyRecord, Stamped
from ostinato.state.schema import Schema, difference, show
from ostinato.state.serializers import Serializer
from ostinato.state.states import MapState, State


class StateNote(msgspec.Struct, frozen=True):
    """A state, as the header of stored state describes it.

    Attributes:
        name: of the state.
        kind: value, list, map, reducing or aggregating.
        type: the schema of its values (of the accumulator, of an aggregating state).
        key_type: the schema of its keys, of a map.
        ttl_ms: the time to live; None for ever.
        ttl_time: ``event time`` or ``processing time``: what stamps are of.
    """

    name: str
    kind: str
    type: Any
    key_type: Any = None
    ttl_ms: int | None = None
    ttl_time: str | None = None

    @staticmethod
    def of(descriptor: StateDescriptor, schemas: tuple[Schema, Schema | None]) -> StateNote:
        ttl = descriptor.ttl
        return StateNote(
            descriptor.name,
            descriptor.kind,
            schemas[0],
            schemas[1],
            None if ttl is None else ttl.ttl_ms,
            None if ttl is None else ttl.ttl_time_characteristic.value,
        )


@dataclass(frozen=True, slots=True)
class Migration:
    """What has to be done to each record: states whose values are written anew, and whose stamps are."""

    rewritten: tuple[State, ...]
    stamped: tuple[State, ...]

    def apply(self, record: KeyRecord) -> None:
        """Change the record in place. Raises SnapshotError where a value cannot be read."""
        for state in self.rewritten:
            cell = record.cells[state.number]
            if cell is not None:
                record.cells[state.number] = _rewritten(cell, state)
        for state in self.stamped:
            cell = record.cells[state.number]
            if cell is not None:
                record.cells[state.number] = _stamped(cell, state.stamp())


def migration(
    operator: str, stored: Sequence[StateNote], declared: Mapping[str, State], *, may_drop: bool
) -> Migration | None:
    """What carries stored state over; None where it can be taken as it is.

    Raises:
        SnapshotError: a state has another type than was declared.
        DroppedStateError: a state is not declared any more.
    """
    dropped = [note.name for note in stored if note.name not in declared]
    if dropped and not may_drop:
        names = ", ".join(f"`{name}`" for name in dropped)
        raise DroppedStateError(
            f"{operator}: stored state {names} is not declared any more; declare it again, "
            "or allow that it be dropped (--allow-dropped-state)"
        )
    rewritten, stamped = [], []
    for note in stored:
        state = declared.get(note.name)
        if state is None:
            continue
        if note.kind != state.kind:
            raise SnapshotError(
                f"{operator}: state `{note.name}` is stored as {note.kind} state and declared as {state.kind} state; "
                "give the new one another name"
            )
        value, key = state.schemas()
        for what, before, now in (("", note.type, value), (" (its key)", note.key_type, key)):
            if before is not None and now is not None:
                _refuse_difference(f"{operator}: state `{note.name}`{what}", before, now)
        if note.type != value or note.key_type != key:
            rewritten.append(state)
        time = None if state.ttl is None else state.ttl.ttl_time_characteristic.value
        # Stamps count from now where there were none, or where they are of another clock.
        if time is not None and note.ttl_time != time:
            stamped.append(state)
    return Migration(tuple(rewritten), tuple(stamped)) if rewritten or stamped else None


def _refuse_difference(where: str, stored: Schema, declared: Schema) -> None:
    found = difference(stored, declared)
    if found is None:
        return
    field = f", field `{found.path}`" if found.path else ""
    why = found.why or "fields may be added with a default or dropped, nothing else"
    raise SnapshotError(
        f"{where}{field}: stored as {found.stored}, declared as {found.declared}; {why} "
        f"(stored: {show(stored)}; declared: {show(declared)})"
    )


def _rewritten(cell: Cell, state: State) -> Cell:
    def again(data: bytes, serializer: Serializer = state.serializer) -> bytes:
        return serializer.dumps(serializer.loads(data))

    if type(cell) is tuple:
        return cell[0], again(cell[1])
    if type(cell) is list:
        return [(stamp, again(data)) for stamp, data in cell]
    assert isinstance(state, MapState)
    keys = state.key_serializer
    entries = cast("dict[bytes, Stamped]", cell)
    return {again(key, keys): (stamp, again(data)) for key, (stamp, data) in entries.items()}


def _stamped(cell: Cell, stamp: int | None) -> Cell:
    if type(cell) is tuple:
        return stamp, cell[1]
    if type(cell) is list:
        return [(stamp, data) for _, data in cell]
    return {key: (stamp, data) for key, (_, data) in cast("dict[bytes, Stamped]", cell).items()}
