"""The bytes of the match log.

A folder of segments. A segment is a file named by the number of its first row; it has a head, then blocks::

    head   magic "OMLG", CRC-32 of what follows in it, version u16, 6 bytes free, number of the first row u64,
           began i64 (`at_ms` of its first row)
    block  magic "OMB1", CRC-32 of all that follows, size of the body u32, rows u32, number of the first row u64,
           position i64, at_ms i64; body: size of the table u32, the table (msgpack: stream, kind, patterns), then the
           columns pattern_of u16, times i64, lengths u32, and the values one after the other

Everything is little-endian. Beside a segment lies an index, (number of a row u64, where its block begins u64) for a
block every 256 KiB: a hint, which is verified where it is used. The file `synced` says how much of the last segment is
durable: what is broken before that is damage, what is broken behind it is a write that a crash has cut off.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import msgspec

from ostinato.server.matches.errors import MatchLogDamagedError, MatchLogError
from ostinato.server.matches.rows import Filter, Match, Rows
from ostinato.state.typed import decode_json, msgpack_decoder

VERSION: Final = 1
SUFFIX: Final = ".matches"
INDEX_SUFFIX: Final = ".index"
MARK: Final = "synced"
INDEX_EVERY_BYTES: Final = 256 << 10
BLOCK_BYTES: Final = 1 << 20
"""So many bytes of values are put into one block, or one row; a reader has as much in memory."""
BLOCK_ROWS: Final = 1 << 14

_HEAD: Final = struct.Struct("<4sIH6xQq")
_MAGIC: Final = b"OMLG"
HEAD_BYTES: Final = _HEAD.size
_BLOCK: Final = struct.Struct("<4sIIIQqq")
_BLOCK_MAGIC: Final = b"OMB1"
BLOCK_HEAD_BYTES: Final = _BLOCK.size
_TABLE: Final = struct.Struct("<I")
_CRC_FROM: Final = 8
"""What a checksum covers begins behind the magic word and itself."""
ENTRY: Final = struct.Struct("<QQ")
"""Of an index."""


class Mark(msgspec.Struct, frozen=True):
    """How much is durable: all segments before `base`, and the first `bytes` of that one, up to row `next_seq`."""

    format: int
    base: int
    bytes: int
    next_seq: int


class _Table(msgspec.Struct, frozen=True, array_like=True):
    stream: str
    kind: str
    patterns: list[tuple[str, int]]


_decode_table = msgpack_decoder(_Table).decode


@dataclass(frozen=True, slots=True)
class Block:
    """A block that was read: whole, and as it was written."""

    seq: int
    rows: int
    size: int
    position: int
    at_ms: int
    body: memoryview = field(repr=False)

    @property
    def next_seq(self) -> int:
        return self.seq + self.rows

    def matches(self, after: int, wanted: Filter, limit: int, max_bytes: int) -> tuple[list[Match], int, int]:
        """Rows behind `after` that are wanted, one at least where there is one, up to `limit` of them or `max_bytes`.

        Returns:
            them; the last row that was looked at; their bytes.
        """
        import numpy as np  # here, as whoever only names a filter need not wait for it

        (length,) = _TABLE.unpack_from(self.body)
        at = _TABLE.size + length
        table = _decode_table(self.body[_TABLE.size : at])
        if not wanted.block(table.stream, table.kind, table.patterns):
            return [], self.next_seq - 1, 0
        n = self.rows
        pattern_of = np.frombuffer(self.body, "<u2", n, at).tolist()
        times = np.frombuffer(self.body, "<i8", n, at + 2 * n).tolist()
        lengths = np.frombuffer(self.body, "<u4", n, at + 10 * n)
        offset = np.zeros(n + 1, np.int64)
        np.cumsum(lengths, out=offset[1:])
        offset += at + 14 * n
        begins = offset.tolist()
        patterns = table.patterns or [("", 0)]
        found: list[Match] = []
        taken = 0
        seq = max(after, self.seq - 1)
        for i in range(seq + 1 - self.seq, n):
            name, version = patterns[pattern_of[i]]
            if not wanted.patterns or name in wanted.patterns:
                size = begins[i + 1] - begins[i]
                if found and (taken + size > max_bytes or len(found) >= limit):
                    break
                taken += size
                value = bytes(self.body[begins[i] : begins[i + 1]])
                place = self.seq + i, table.stream, table.kind, name, version
                found.append(Match(*place, times[i], self.position, self.at_ms, value))
            seq = self.seq + i
        return found, seq, taken


def segment_path(folder: Path, base: int) -> Path:
    return folder / f"{base:020d}{SUFFIX}"


def index_path(folder: Path, base: int) -> Path:
    return folder / f"{base:020d}{INDEX_SUFFIX}"


def bases(folder: Path) -> list[int]:
    """The first rows of all segments, in order."""
    try:
        names = [path.name for path in folder.iterdir()]
    except FileNotFoundError:
        return []
    return sorted(
        int(name[: -len(SUFFIX)]) for name in names if name.endswith(SUFFIX) and name[: -len(SUFFIX)].isdigit()
    )


def encode_head(base: int, began_ms: int) -> bytes:
    rest = _HEAD.pack(_MAGIC, 0, VERSION, base, began_ms)[_CRC_FROM:]
    return _HEAD.pack(_MAGIC, zlib.crc32(rest), VERSION, base, began_ms)


def decode_head(data: bytes, base: int, path: Path) -> int | None:
    """When the segment began, ms; None where it has no whole head. Raises MatchLogError: it is of a later release."""
    if len(data) < HEAD_BYTES:
        return None
    magic, crc, version, first, began_ms = _HEAD.unpack_from(data)
    if magic != _MAGIC or crc != zlib.crc32(data[_CRC_FROM:HEAD_BYTES]) or first != base:
        return None
    if version > VERSION:
        raise MatchLogError(
            f"{path} has format {version}; this release reads formats 1 to {VERSION}: use the release that wrote it, "
            "or a later one"
        )
    return int(began_ms)


def encode_block(rows: Rows, seq: int) -> bytes:
    """Rows as one block, the first with number `seq`. Raises ValueError where they are too large for one."""
    import numpy as np

    n = len(rows.values)
    table = msgspec.msgpack.encode(_Table(rows.stream, rows.kind, list(rows.patterns)))
    pattern_of = rows.pattern_of if rows.patterns else np.zeros(n, np.uint16)
    if rows.patterns and int(pattern_of.max(initial=0)) >= len(rows.patterns):
        raise ValueError(f"pattern_of points behind the {len(rows.patterns)} patterns")
    lengths = np.fromiter(map(len, rows.values), np.int64, n)
    size = _TABLE.size + len(table) + 14 * n + int(lengths.sum())
    if size >= 1 << 31:
        raise ValueError(f"a row of {int(lengths.max())} bytes is too large for the match log")
    parts = (
        _TABLE.pack(len(table)),
        table,
        np.ascontiguousarray(pattern_of, "<u2").tobytes(),
        np.ascontiguousarray(rows.times, "<i8").tobytes(),
        lengths.astype("<u4").tobytes(),
        *rows.values,
    )
    rest = _BLOCK.pack(_BLOCK_MAGIC, 0, size, n, seq, rows.position, rows.at_ms)[_CRC_FROM:]
    payload = b"".join((rest, *parts))
    return b"".join((_BLOCK_MAGIC, struct.pack("<I", zlib.crc32(payload)), payload))


def block_size(data: memoryview, seq: int) -> int | None:
    """Bytes of the whole block that begins with these; None where no block with row `seq` begins so."""
    if len(data) < BLOCK_HEAD_BYTES:
        return None
    magic, _, size, rows, first, _, _ = _BLOCK.unpack_from(data)
    if magic != _BLOCK_MAGIC or first != seq or not rows:
        return None
    return BLOCK_HEAD_BYTES + int(size)


def decode_block(data: memoryview, seq: int) -> Block | None:
    """The block that begins here; None where there is no whole one, with row `seq` as its first."""
    size = block_size(data, seq)
    if size is None or size > len(data):
        return None
    _, crc, _, rows, first, position, at_ms = _BLOCK.unpack_from(data)
    if crc != zlib.crc32(data[_CRC_FROM:size]):
        return None
    return Block(first, rows, size, position, at_ms, data[BLOCK_HEAD_BYTES:size])


def split(rows: Rows) -> Sequence[Rows]:
    """Rows in parts that fit into a block each."""
    n = len(rows.values)
    if n <= BLOCK_ROWS and sum(map(len, rows.values)) <= BLOCK_BYTES:
        return [rows] if n else []
    parts, begin, size = [], 0, 0
    for i, value in enumerate(rows.values):
        if i > begin and (size + len(value) > BLOCK_BYTES or i - begin >= BLOCK_ROWS):
            parts.append(rows.part(begin, i))
            begin, size = i, 0
        size += len(value)
    return [*parts, rows.part(begin, n)]


def read_mark(folder: Path) -> Mark | None:
    """What is durable; None where nobody has said so yet. Raises MatchLogDamagedError, MatchLogError."""
    path = folder / MARK
    try:
        mark = decode_json(path.read_bytes(), Mark)
    except FileNotFoundError:
        return None
    except msgspec.MsgspecError as error:
        raise MatchLogDamagedError(f"{path} is damaged: {error}; {REMEDY}") from None
    if mark.format > VERSION:
        raise MatchLogError(f"{path} has format {mark.format}; use the release that wrote it, or a later one")
    return mark


REMEDY: Final = (
    "look at the disk; restore the file, or move the whole folder of matches away: the server then goes on with a new "
    "log, and outputs that have not read all of the old one say what they have lost"
)
