"""What a segment holds besides events, kept beside it so that a journal is opened without being read.

``BASE.index``: crc32 (4 bytes, little-endian) and msgpack [version, base, end, time_ms, keys, places]. It speaks of the
records up to `end`: of a closed segment all; of the last one those that were there when the journal was closed. It is
made again from the segment where it is missing or damaged. It outlives its segment until its keys have aged out.
"""

from __future__ import annotations

import os
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import msgspec

from ostinato.server.journal.format import KEY, EventsHeader, Kind, Lane, Record
from ostinato.server.journal.keys import pack_keys
from ostinato.state.typed import msgpack_decoder

INDEX: Final = ".index"
NEW: Final = ".new"
_VERSION: Final = 1


class _Stored(msgspec.Struct, array_like=True, frozen=True):
    version: int
    base: int
    end: int
    time_ms: int
    keys: bytes
    places: list[tuple[str, str, dict[str, Any]]]


_decoder = msgpack_decoder(_Stored)


@dataclass(slots=True)
class SegmentIndex:
    """Keys and places of a segment's records before `end`; `time_ms` is the last record's."""

    base: int
    end: int
    time_ms: int
    places: dict[Lane, dict[str, Any]]
    keys: bytearray = field(default_factory=bytearray)

    def add(self, record: Record) -> None:
        self.note(record.kind, record.position, record.next, record.time_ms, record.header)

    def note(self, kind: Kind, position: int, next_: int, time_ms: int, header: EventsHeader) -> None:
        """Take up a record that lies behind all that are known."""
        self.end = next_
        self.time_ms = time_ms
        if kind is Kind.EVENTS:
            if header.keys:
                self.keys += pack_keys(time_ms, position, next_, KEY.iter_unpack(header.keys))
            if header.place is not None:
                self.places[header.stream, header.lane] = header.place

    def write(self, folder: Path, *, durable: bool) -> None:
        """Put it beside its segment, whole or not at all. Raises OSError."""
        places = [(stream, lane, place) for (stream, lane), place in self.places.items()]
        content = msgspec.msgpack.encode(_Stored(_VERSION, self.base, self.end, self.time_ms, bytes(self.keys), places))
        path = index_path(folder, self.base)
        passing = path.with_suffix(INDEX + NEW)
        with passing.open("wb") as file:
            file.write(zlib.crc32(content).to_bytes(4, "little"))
            file.write(content)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        passing.replace(path)


def index_path(folder: Path, base: int) -> Path:
    return folder / f"{base:020d}{INDEX}"


def read_index(folder: Path, base: int) -> SegmentIndex | None:
    """The index of a segment; None where there is none that can be used."""
    try:
        stored = index_path(folder, base).read_bytes()
    except OSError:
        return None
    if zlib.crc32(stored[4:]) != int.from_bytes(stored[:4], "little"):
        return None
    try:
        held = _decoder.decode(stored[4:])
    except msgspec.DecodeError:
        return None
    if held.version != _VERSION or held.base != base:
        return None
    places = {(stream, lane): place for stream, lane, place in held.places}
    return SegmentIndex(base, held.end, held.time_ms, places, bytearray(held.keys))
