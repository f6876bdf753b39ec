r"""How the journal lies on disk.

A journal is a folder. Its records are one sequence of bytes, cut into *segments*. The position of a record is the
number of bytes of all records ever written before it, so positions only grow. All numbers are little-endian.

A segment, ``BASE.log`` (BASE: the position of its first record, 20 digits)::

    0   8  "OSTJRNL\n"
    8   4  crc32 of all that follows in the header
    12  4  format version, 1
    16  8  base
    24  4  length of the rest of the header
    28  …  msgpack [time_ms, [[stream, lane, place], …]]: the time of the last record before it, and where the feeders
           stood there, so that earlier segments can be dropped
    …      records, one behind the other

A record::

    0   4  crc32 of all that follows in the record
    4   4  length of the whole record
    8   4  length of its header
    12  1  format version, 1
    13  1  kind: 1 events, 2 generation, 3 tick
    14  2  zero
    16  8  position
    24  8  synced: everything before this position was durable when the record was written
    32  8  time_ms, epoch
    40  …  header: of events msgpack [stream, lane, rows, keys, place]; of others nothing
    …   …  payload: of events NDJSON; of a generation JSON

`keys` is 24 bytes for each idempotency key of the record: digest (16), rows (4), crc32 of its lines (4).

Bytes at the end of the last segment that are no whole record are what a crash left of a write. A record that is not
whole although one behind it says that it was durable is damage.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Final

import msgspec

from ostinato.server.journal.errors import JournalDamagedError
from ostinato.state.typed import msgpack_decoder

VERSION: Final = 1
LOG: Final = ".log"
_MAGIC: Final = b"OSTJRNL\n"
_SEGMENT: Final = struct.Struct("<8sIIQI")
_FRAME: Final = struct.Struct("<IIIBBHQQq")
FRAME_BYTES: Final = _FRAME.size
KEY: Final = struct.Struct("<16sII")
"""Digest, rows, crc32 of the lines."""
MAX_RECORD_BYTES: Final = (1 << 32) - 1

Lane = tuple[str, str]
"""Stream and lane."""
Buffer = bytes | memoryview


class Kind(IntEnum):
    EVENTS = 1
    GENERATION = 2
    TICK = 3


@dataclass(frozen=True, slots=True)
class Entry:
    """A record of the journal."""

    position: int
    """Where it begins, in bytes from the very first record ever written; never reused."""
    next: int
    """Where the next one begins."""
    kind: Kind
    time_ms: int
    """The wall clock when it was written; never goes back within the journal."""
    stream: str = ""
    lane: str = ""
    """Of events: "" for HTTP and WebSocket; ``kafka:TOPIC/3``, ``file:PATH`` for feeders."""
    rows: int = 0
    data: bytes = b""
    """Of events NDJSON, each line ends with a line feed; of a generation JSON."""
    place: Mapping[str, Any] | None = None
    """Where the feeder stands behind it."""


class EventsHeader(msgspec.Struct, array_like=True, frozen=True):
    stream: str
    lane: str
    rows: int
    keys: bytes = b""
    place: dict[str, Any] | None = None


class _SegmentMeta(msgspec.Struct, array_like=True, frozen=True):
    time_ms: int
    places: list[tuple[str, str, dict[str, Any]]]


_encoder = msgspec.msgpack.Encoder()
_header_decoder = msgpack_decoder(EventsHeader)
_meta_decoder = msgpack_decoder(_SegmentMeta)
_NO_HEADER: Final = EventsHeader("", "", 0)


def encode_header(header: EventsHeader) -> bytes:
    return _encoder.encode(header)


def encode_record(
    kind: Kind, position: int, synced: int, time_ms: int, header: bytes, payload: Sequence[bytes]
) -> list[bytes]:
    """A record in pieces that are to be written one behind the other."""
    size = FRAME_BYTES + len(header) + sum(map(len, payload))
    frame = _FRAME.pack(0, size, len(header), VERSION, kind, 0, position, synced, time_ms)
    crc = zlib.crc32(header, zlib.crc32(frame[4:]))
    for piece in payload:
        crc = zlib.crc32(piece, crc)
    return [crc.to_bytes(4, "little") + frame[4:], header, *payload]


class Torn(Exception):  # noqa: N818 - it is caught by whoever knows whether it is an error
    """There is no whole record here."""


class Record(msgspec.Struct, frozen=True):
    """A record as it lies in a buffer; the payload is `buffer[payload:end]`."""

    position: int
    next: int
    kind: Kind
    time_ms: int
    synced: int
    header: EventsHeader
    payload: int
    end: int

    def entry(self, buffer: Buffer) -> Entry:
        held = self.header
        return Entry(
            self.position, self.next, self.kind, self.time_ms, held.stream, held.lane, held.rows,
            bytes(buffer[self.payload : self.end]), held.place,
        )  # fmt: skip


_KINDS: Final = {kind.value: kind for kind in Kind}


def record_length(buffer: Buffer, offset: int) -> int:
    """How long the record at `offset` says it is; 0 where not even that is there."""
    return int.from_bytes(buffer[offset + 4 : offset + 8], "little") if offset + 8 <= len(buffer) else 0


def decode_record(buffer: Buffer, offset: int, position: int) -> Record:
    """The record at `offset`, which must have this position. Raises Torn saying what is wrong."""
    if offset + FRAME_BYTES > len(buffer):
        raise Torn(f"the record has {len(buffer) - offset} bytes, less than a frame")
    crc, size, header_size, version, kind, _, at, synced, time_ms = _FRAME.unpack_from(buffer, offset)
    end = offset + size
    if size < FRAME_BYTES + header_size:
        raise Torn(f"the record cannot be {size} bytes long")
    if end > len(buffer):
        raise Torn(f"the record should have {size} bytes and has {len(buffer) - offset}")
    with memoryview(buffer)[offset + 4 : end] as content:
        if zlib.crc32(content) != crc:
            raise Torn("the checksum does not match")
    if version != VERSION:
        raise JournalDamagedError(
            f"the record at position {position} has format version {version}; this program reads version {VERSION}: "
            "run the one that wrote it, or a later one"
        )
    if at != position:
        raise Torn(f"the record is the one of position {at}")
    if kind not in _KINDS:
        raise Torn(f"there is no kind of record {kind}")
    payload = offset + FRAME_BYTES + header_size
    header = _NO_HEADER
    if header_size:
        try:
            header = _header_decoder.decode(buffer[offset + FRAME_BYTES : payload])
        except msgspec.DecodeError as error:
            raise Torn(f"its header cannot be read: {error}") from None
    return Record(position, position + size, _KINDS[kind], time_ms, synced, header, payload, end)


def segment_name(base: int) -> str:
    return f"{base:020d}{LOG}"


def encode_segment_header(base: int, time_ms: int, places: Mapping[Lane, Mapping[str, Any]]) -> bytes:
    listed = [(stream, lane, dict(place)) for (stream, lane), place in places.items()]
    meta = _encoder.encode(_SegmentMeta(time_ms, listed))
    rest = _SEGMENT.pack(_MAGIC, 0, VERSION, base, len(meta))[12:] + meta
    return _MAGIC + zlib.crc32(rest).to_bytes(4, "little") + rest


@dataclass(frozen=True, slots=True)
class SegmentHeader:
    base: int
    size: int
    """In bytes: where the first record lies in the file."""
    time_ms: int
    places: dict[Lane, dict[str, Any]]


SEGMENT_HEADER_BYTES: Final = _SEGMENT.size


def segment_header_size(begin: bytes) -> int:
    """How long a segment's header is, from its first `SEGMENT_HEADER_BYTES`; 0 where they are none."""
    if len(begin) < SEGMENT_HEADER_BYTES or begin[:8] != _MAGIC:
        return 0
    return SEGMENT_HEADER_BYTES + int.from_bytes(begin[24:28], "little")


def decode_segment_header(name: str, data: bytes) -> SegmentHeader:
    """Raises JournalDamagedError where `data` is no header of the segment file `name`."""
    size = segment_header_size(data)
    if not size or len(data) < size:
        raise JournalDamagedError(f"{name}: this is no segment of a journal, or its beginning is damaged")
    _, crc, version, base, _ = _SEGMENT.unpack_from(data)
    if zlib.crc32(data[12:size]) != crc:
        raise JournalDamagedError(f"{name}: the checksum of the segment's header does not match")
    if version != VERSION:
        raise JournalDamagedError(f"{name}: format version {version}; this program reads version {VERSION}")
    meta = _meta_decoder.decode(data[SEGMENT_HEADER_BYTES:size])
    return SegmentHeader(base, size, meta.time_ms, {(stream, lane): place for stream, lane, place in meta.places})
