"""A record of a process function's state, for people to read; nothing but the header is needed for it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np

from ostinato.cep.batch import Batch
from ostinato.cep.nfa.keys import KeyCodec, of_bytes
from ostinato.cep.runtime.process_header import ProcessHeader
from ostinato.cep.runtime.process_rows import rows_of
from ostinato.patterns.parser import parse_type
from ostinato.state.evolution import StateNote
from ostinato.state.keyed_records import EVENT_TIME, Cell, RecordFormat


def describe(header: bytes, key: bytes, value: bytes) -> Mapping[str, Any]:
    """One key's record: its key columns, its states as they were declared, its timers.

    What has a time to live has the time that it counts from. Raises SnapshotError where it cannot be read.
    """
    known = ProcessHeader.decode(header)
    record = RecordFormat([note.name for note in known.states], [note.kind for note in known.states]).unpack(value)
    states = {
        note.name: _cell(note, cell) for note, cell in zip(known.states, record.cells, strict=True) if cell is not None
    }
    timers = [
        {"clock": "event time" if domain == EVENT_TIME else "processing time", "time": time}
        | ({"namespace": namespace} if namespace else {})
        for domain, time, namespace in sorted(record.timers or ())
    ]
    return {"key": key_of(known, key), "states": states, "timers": timers}


def key_of(header: ProcessHeader, key: bytes) -> Mapping[str, Any]:
    """The key columns of an encoded key."""
    codec = KeyCodec([(name, parse_type(type_)) for name, type_ in header.keys])
    return dict(rows_of(Batch("", np.zeros(1, np.int64), codec.decode(of_bytes([key]))))[0])


def _cell(note: StateNote, cell: Cell) -> Any:
    if isinstance(cell, tuple):
        return _stamped(note, cell[0], cell[1])
    if isinstance(cell, list):
        return [_stamped(note, stamp, data) for stamp, data in cell]
    return [
        {"key": msgspec.msgpack.decode(key), "value": msgspec.msgpack.decode(data)}
        | ({"since": stamp} if note.ttl_ms is not None else {})
        for key, (stamp, data) in cell.items()
    ]


def _stamped(note: StateNote, stamp: int | None, data: bytes) -> Any:
    value = msgspec.msgpack.decode(data)
    return value if note.ttl_ms is None else {"value": value, "since": stamp}
