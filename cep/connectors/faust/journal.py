"""How the state of a partition lies in a table: a crash between any two writes leaves all of it, or the state before.

A table's changes reach Kafka one by one, so a batch of changes is first written as one *journal*: everything that the
batch changes, the place in the source topic that this belongs to, and what belongs to no key. Two journals take turns,
so that the one before is whole while the next is written. When it is confirmed, the changed keys are written, a row
each. What counts is therefore the rows, with the records of the newest whole journal in their place.

Rows of partition p (4 bytes, big-endian):
    ``k`` p key -> the record of that key's partial matches
    ``j`` p number (1 byte: epoch % 2) part (4 bytes) -> part of a journal: epoch, number of parts, crc32, bytes
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import msgspec

from ostinato.state.errors import DamagedError, SnapshotError
from ostinato.state.operator import OperatorState
from ostinato.state.records import Records
from ostinato.state.typed import decode_msgpack

Row: TypeAlias = tuple[bytes, bytes | None]
"""A row of the table; None deletes it."""

FORMAT = 1
PART_BYTES = 256 << 10
"""A journal's parts are well below the megabyte that Kafka takes by default."""
_KEY, _JOURNAL = b"k", b"j"
_PLACE = struct.Struct(">I")
_NUMBER = struct.Struct(">BI")
_PART = struct.Struct(">QII")


class Journal(msgspec.Struct, frozen=True):
    """The state of a partition that has changed since the journal before.

    Attributes:
        epoch: counts journals.
        whole: `records` are all there are; rows of the table mean nothing.
        offset: of the source topic, from which on events are not in the state.
        header, shared: see `ostinato.state.operator.OperatorState`.
        time: see `ostinato.cep.runtime.time.WatermarkGenerator.state`.
        records: key and record; an empty one says that the key has nothing any more.
    """

    epoch: int
    whole: bool
    offset: int
    topic: str
    header: bytes
    shared: bytes
    time: dict[str, Any]
    records: list[tuple[bytes, bytes]]
    format: int = FORMAT

    def parts(self, partition: int) -> list[Row]:
        """The rows that hold it."""
        data = msgspec.msgpack.encode(self)
        crc = zlib.crc32(data)
        cuts = range(0, len(data), PART_BYTES)
        head = _PART.pack(self.epoch, len(cuts), crc)
        prefix = _JOURNAL + _PLACE.pack(partition)
        return [
            (prefix + _NUMBER.pack(self.epoch % 2, number), head + data[begin : begin + PART_BYTES])
            for number, begin in enumerate(cuts)
        ]


@dataclass(frozen=True, slots=True)
class Held:
    """What a table holds of a partition: the newest journal, and the records that count, by key."""

    journal: Journal
    records: Mapping[bytes, bytes]


@dataclass(frozen=True, slots=True)
class Restored:
    """`ostinato.state.operator.StoredState` of one partition."""

    held: Held
    may_drop: bool
    owned: range = field(default=range(1))

    @property
    def header(self) -> bytes:
        return self.held.journal.header

    @property
    def shared(self) -> list[bytes]:
        return [self.held.journal.shared]

    def records(self) -> Iterator[tuple[int, Records]]:
        if self.held.records:
            yield 0, Records.of(self.held.records.items())


def partition_of(row: bytes) -> int:
    """Which partition a row of the table belongs to."""
    return int(_PLACE.unpack_from(row, 1)[0])


def prefixes(partition: int) -> tuple[bytes, bytes]:
    """How the keys of a partition's rows begin."""
    place = _PLACE.pack(partition)
    return _KEY + place, _JOURNAL + place


class PartitionRows:
    """What is written to the table for one partition, and in which order."""

    def __init__(self, partition: int, rows: Iterable[tuple[bytes, bytes]] = (), where: str = "") -> None:
        """`rows`: those there are. Raises DamagedError, SnapshotError, which begin with `where`."""
        self._prefixes = prefixes(partition)
        self._partition = partition
        stored, parts = _sorted_out(rows)
        self.held = _held(stored, parts, where)
        self._parts = [max(own, default=-1) + 1 for own in (parts[0], parts[1])]
        self._known = frozenset(stored)
        """Keys that have rows, until a journal has been written."""
        self._again: list[Row] = []
        if self.held is not None:
            # What the newest journal says may not be in the rows yet; and a store that is a file may be ahead of the
            # changelog of its table, by that journal.
            journal, stale = self.held.journal, self._known - self.held.records.keys()
            self._again = [*journal.parts(partition), *self._rows(journal.records), *self._deleted(stale)]

    def steps(self, journal: Journal) -> tuple[list[Row], list[Row], list[Row]]:
        """The rows of a journal, in three steps; each has to be confirmed before the next one, also of the next
        journal. The state is the journal's when the second is."""
        again, self._again = self._again, []
        rows = self._rows(journal.records)
        if journal.whole:
            rows += self._deleted(self._known - {key for key, _ in journal.records})
        self._known = frozenset()
        parts = journal.parts(self._partition)
        number = journal.epoch % 2
        before, self._parts[number] = self._parts[number], len(parts)
        place = self._prefixes[1]
        # what is left of a longer journal that stood in the same place
        rows += [(place + _NUMBER.pack(number, part), None) for part in range(len(parts), before)]
        return again, parts, rows

    def _rows(self, records: Iterable[tuple[bytes, bytes]]) -> list[Row]:
        return [(self._prefixes[0] + key, record or None) for key, record in records]

    def _deleted(self, keys: Iterable[bytes]) -> list[Row]:
        return [(self._prefixes[0] + key, None) for key in keys]


def records_of(state: OperatorState) -> list[tuple[bytes, bytes]]:
    """Key and record of everything in an operator's state."""
    return [item for _, records in sorted(state.groups.items()) for item in records.items()]


def _sorted_out(rows: Iterable[tuple[bytes, bytes]]) -> tuple[dict[bytes, bytes], dict[int, dict[int, bytes]]]:
    """Records by key, and the parts of the even and the odd journal."""
    records: dict[bytes, bytes] = {}
    parts: dict[int, dict[int, bytes]] = {0: {}, 1: {}}
    for row, value in rows:
        rest = row[1 + _PLACE.size :]
        if row.startswith(_KEY):
            records[rest] = value
        else:
            number, part = _NUMBER.unpack(rest)
            parts[number][part] = value
    return records, parts


def _held(records: Mapping[bytes, bytes], parts: Mapping[int, Mapping[int, bytes]], where: str) -> Held | None:
    """The state; None where nothing was ever written whole."""
    found = [journal for own in parts.values() if (journal := _joined(own, where)) is not None]
    if not found:
        begun = max((_PART.unpack_from(part)[0] for own in parts.values() for part in own.values()), default=0)
        if records or begun > 1:
            raise DamagedError(
                f"{where}: no journal is whole, although {begun} were written, with rows of {len(records)} keys; bring "
                "the table's changelog topic back, or delete it to begin anew"
            )
        return None
    newest = max(found, key=lambda each: each.epoch)
    if newest.format != FORMAT:
        raise SnapshotError(f"{where}: the state has format {newest.format}; this release reads format {FORMAT}")
    counts = {} if newest.whole else dict(records)
    for key, record in newest.records:
        if record:
            counts[key] = record
        else:
            counts.pop(key, None)
    return Held(newest, counts)


def _joined(parts: Mapping[int, bytes], where: str) -> Journal | None:
    """The journal of these parts; None where it was not written to its end."""
    if 0 not in parts:
        return None
    epoch, count, crc = _PART.unpack_from(parts[0])
    pieces = []
    for number in range(count):
        # parts of a longer journal that was here before may stand behind
        if number not in parts or _PART.unpack_from(parts[number]) != (epoch, count, crc):
            return None
        pieces.append(parts[number][_PART.size :])
    data = b"".join(pieces)
    if zlib.crc32(data) != crc:
        raise DamagedError(f"{where}: journal {epoch} is damaged: its checksum does not fit")
    try:
        return decode_msgpack(data, Journal)
    except msgspec.DecodeError as error:
        raise DamagedError(f"{where}: journal {epoch} cannot be read: {error}") from error
