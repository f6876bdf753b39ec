"""A key's record of a process function in words, for `ostinato state show`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from ostinato.cep.runtime.process_header import ProcessHeader
from ostinato.state.errors import DamagedError
from ostinato.state.keyed_records import EVENT_TIME, Cell, RecordFormat


def describe(header: bytes, key: bytes, value: bytes) -> Mapping[str, Any]:
    """The key's columns, its states by name, its timers (times in epoch ms). Raises SnapshotError, DamagedError."""
    known = ProcessHeader.decode(header)
    record = RecordFormat([note.name for note in known.states], [note.kind for note in known.states]).unpack(value)
    try:
        states = {note.name: _cell(cell) for note, cell in zip(known.states, record.cells, strict=True) if cell}
        columns = _key(known, key)
    except (UnicodeDecodeError, ValueError, msgspec.MsgspecError) as error:
        raise DamagedError(f"the record of key {key!r} is damaged: {error}") from error
    timers = [
        {"time": time, "domain": "event time" if domain == EVENT_TIME else "processing time", "namespace": namespace}
        for domain, time, namespace in sorted(record.timers or ())
    ]
    return {"key": columns, "states": states, "timers": timers}


def _cell(cell: Cell) -> Any:
    """A state's value, or its values or entries in a list; with `since` where it has a time to live."""
    if isinstance(cell, tuple):
        return _stamped(cell[0], {"value": msgspec.msgpack.decode(cell[1])})
    if isinstance(cell, list):
        return [_stamped(stamp, {"value": msgspec.msgpack.decode(value)}) for stamp, value in cell]
    return [
        _stamped(stamp, {"key": msgspec.msgpack.decode(key), "value": msgspec.msgpack.decode(value)})
        for key, (stamp, value) in cell.items()
    ]


def _stamped(stamp: int | None, known: dict[str, Any]) -> dict[str, Any]:
    return known if stamp is None else known | {"since": stamp}


def _key(header: ProcessHeader, key: bytes) -> dict[str, Any]:
    """As the key's columns are written: see `ostinato.cep.nfa.keys`."""
    names = [name for name, _ in header.keys]
    if not names:
        return {}
    if len(names) == 1:
        if header.keys[0][1].upper() == "STRING":
            return {names[0]: None if key == b"\xc0" else key.decode("utf-8", "replace")}
        if len(key) == 8:
            return {names[0]: int.from_bytes(key, "little", signed=True)}
    return dict(zip(names, msgspec.msgpack.decode(key), strict=True))
