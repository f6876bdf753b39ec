"""The segment files of a journal: found, checked, begun and dropped."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

from ostinato.server.journal.errors import JournalDamagedError
from ostinato.server.journal.format import (
    FRAME_BYTES,
    LOG,
    SEGMENT_HEADER_BYTES,
    Lane,
    Record,
    SegmentHeader,
    Torn,
    decode_record,
    decode_segment_header,
    encode_segment_header,
    segment_header_size,
    segment_name,
)
from ostinato.server.journal.index import INDEX, NEW, SegmentIndex, index_path, read_index
from ostinato.state.steps import reached

_NO_SUCH_CALL: Final = (errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)
"""What old kernels and some file systems say to a write that is to be durable."""


@dataclass(slots=True)
class Segment:
    """A closed segment; `time_ms` is that of its last record."""

    base: int
    end: int
    time_ms: int


@dataclass(slots=True)
class Found:
    """What lies in a folder: closed segments, and the last one, ready to be appended to."""

    closed: list[Segment]
    fd: int
    header_bytes: int
    index: SegmentIndex
    """Of the last segment, up to its end."""
    cut: int = 0
    """How many bytes a crash had left behind the last whole record."""
    packed_keys: list[bytes] = field(default_factory=list)
    """Of all segments, the oldest first."""
    kept: list[Segment] = field(default_factory=list)
    """Segments that are dropped, but not their indexes."""


def bases(folder: Path, suffix: str = LOG) -> list[int]:
    """The bases of a folder's segments, in their order."""
    return sorted(
        int(path.name.removesuffix(suffix))
        for path in folder.iterdir()
        if path.name.endswith(suffix) and path.name.removesuffix(suffix).isdigit()
    )


def read_header(folder: Path, base: int, fd: int) -> SegmentHeader:
    """Raises JournalDamagedError, also where the file is that of another base."""
    name = str(folder / segment_name(base))
    begin = os.pread(fd, SEGMENT_HEADER_BYTES, 0)
    header = decode_segment_header(name, os.pread(fd, segment_header_size(begin), 0))
    if header.base != base:
        raise JournalDamagedError(f"{name}: the segment says that it begins at {header.base}; was the file renamed?")
    return header


def begin_segment(folder: Path, base: int, time_ms: int, places: Mapping[Lane, Mapping[str, Any]]) -> tuple[int, int]:
    """Make a segment's file, durable with its header; returns its descriptor and the header's length."""
    header = encode_segment_header(base, time_ms, places)
    path = folder / segment_name(base)
    passing = path.with_suffix(LOG + NEW)
    fd = os.open(passing, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        write_at(fd, header, 0)
        os.fsync(fd)
        passing.replace(path)
        sync_folder(folder)
    except BaseException:
        os.close(fd)
        passing.unlink(missing_ok=True)
        raise
    return fd, len(header)


def write_at(fd: int, data: bytes, offset: int) -> None:
    """All of it: a write may take less where the disk is nearly full."""
    view = memoryview(data)
    while view:
        written = os.pwrite(fd, view, offset)
        view = view[written:]
        offset += written


def write_durably(fd: int, data: bytes, offset: int) -> None:
    """Write all of it, and return when it is on the disk.

    Where there is such a thing, one call of the system does both: a thread that comes back from one has to wait until a
    busy event loop lets go of the interpreter, which may take longer than the disk.
    """
    flag = getattr(os, "RWF_DSYNC", None)
    view = memoryview(data)
    while view and flag is not None:
        try:
            written = os.pwritev(fd, [view], offset, flag)
        except OSError as error:
            if error.errno not in _NO_SUCH_CALL:
                raise
            break
        view = view[written:]
        offset += written
    if view:
        write_at(fd, bytes(view), offset)
        os.fdatasync(fd)


def sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def find_segments(folder: Path, now_ms: int, say: Callable[[str], None]) -> Found:
    """Open what is there, or begin a journal. A torn tail is cut; `say` is told what was mended.

    Raises:
        JournalDamagedError: what was durable is not there or not as it was.
        OSError: the folder cannot be read or written.
    """
    for path in folder.iterdir():
        if path.name.endswith(NEW):
            path.unlink()
    held = bases(folder)
    indexes = bases(folder, INDEX)
    if not held:
        if indexes:
            raise JournalDamagedError(f"{folder}: there are indexes of a journal and no segments; put the files back")
        fd, size = begin_segment(folder, 0, now_ms, {})
        return Found([], fd, size, SegmentIndex(0, 0, now_ms, {}))
    keys, kept = [], []
    for base in indexes:
        index = read_index(folder, base) if base < held[0] else None
        if index is not None:
            keys.append(bytes(index.keys))
            kept.append(Segment(base, index.end, index.time_ms))
        elif base < held[0]:
            say(f"{index_path(folder, base)} is damaged and its segment is gone: some idempotency keys are forgotten")
            index_path(folder, base).unlink()
    closed = []
    for base, following in pairwise(held):
        index = _closed(folder, base, following, say)
        closed.append(Segment(base, index.end, index.time_ms))
        keys.append(bytes(index.keys))
    fd = os.open(folder / segment_name(held[-1]), os.O_RDWR)
    try:
        header, index, cut = _last(folder, held[-1], fd, say)
    except BaseException:
        os.close(fd)
        raise
    return Found(closed, fd, header.size, index, cut, [*keys, bytes(index.keys)], kept)


def index_of(folder: Path, base: int) -> SegmentIndex:
    """A closed segment's index, made from its records. Raises JournalDamagedError."""
    path = folder / segment_name(base)
    fd = os.open(path, os.O_RDONLY)
    try:
        header = read_header(folder, base, fd)
        index = SegmentIndex(base, base, header.time_ms, header.places)
        torn = _scan(_rest(fd, header.size), base, index.add)
    finally:
        os.close(fd)
    if torn is not None:
        raise _damaged(path, index.end, index.end - base + header.size, torn)
    return index


def _closed(folder: Path, base: int, following: int, say: Callable[[str], None]) -> SegmentIndex:
    path = folder / segment_name(base)
    index = read_index(folder, base)
    fd = os.open(path, os.O_RDONLY)
    try:
        header = read_header(folder, base, fd)
        size = os.fstat(fd).st_size
    finally:
        os.close(fd)
    if index is None or size != header.size + following - base or index.end != following:
        index = index_of(folder, base)
        if index.end != following:
            raise JournalDamagedError(
                f"{path}: its records end at position {index.end}, but the next segment begins at {following}; "
                "put the missing file back"
            )
        index.write(folder, durable=False)
        say(f"{index_path(folder, base)} was missing or damaged and has been made again")
    return index


def _last(folder: Path, base: int, fd: int, say: Callable[[str], None]) -> tuple[SegmentHeader, SegmentIndex, int]:
    path = folder / segment_name(base)
    header = read_header(folder, base, fd)
    index = read_index(folder, base) or SegmentIndex(base, base, header.time_ms, header.places)
    end = base + os.fstat(fd).st_size - header.size
    if index.end > end:
        raise JournalDamagedError(
            f"{path}: the journal was closed at position {index.end}, but its records end at {end}; put the file back"
        )
    data = _rest(fd, header.size + index.end - base)
    begin = index.end
    torn = _scan(data, begin, index.add)
    if torn is None:
        return header, index, 0
    offset = header.size + index.end - base
    if _was_durable(data, index.end - begin, begin):
        raise _damaged(path, index.end, offset, torn)
    reached("journal.cut")
    os.ftruncate(fd, offset)
    os.fsync(fd)
    say(f"{path}: cut {end - index.end} bytes at position {index.end} that a crash left of a write ({torn})")
    return header, index, end - index.end


def _rest(fd: int, offset: int) -> bytes:
    size = os.fstat(fd).st_size - offset
    pieces = []
    while size > 0:
        piece = os.pread(fd, min(size, 1 << 30), offset)
        if not piece:
            break
        pieces.append(piece)
        offset += len(piece)
        size -= len(piece)
    return b"".join(pieces)


def _scan(data: bytes, position: int, found: Callable[[Record], None]) -> Torn | None:
    """Go through the records; returns what is wrong behind the last whole one."""
    offset = 0
    while offset < len(data):
        try:
            record = decode_record(data, offset, position)
        except Torn as torn:
            return torn
        found(record)
        offset, position = record.end, record.next
    return None


def _was_durable(data: bytes, offset: int, begin: int) -> bool:
    """Does a whole record behind `offset` say that the one at `offset` was durable? `data` begins at `begin`."""
    import numpy as np

    bad = begin + offset
    for shift in range(8):
        # each place where a record might begin, a frame's `position` being 16 bytes behind it
        first = offset + shift
        words = (len(data) - first - 16) // 8
        if words < 1:
            break
        says = np.frombuffer(data, "<u8", words, first + 16)
        expected = np.arange(words, dtype=np.uint64) * np.uint64(8) + np.uint64(begin + first)
        for word in np.flatnonzero(says == expected).tolist():
            at = first + 8 * word
            if at == offset or at + FRAME_BYTES > len(data):
                continue
            try:
                record = decode_record(data, at, begin + at)
            except Torn:
                continue
            if record.synced > bad:
                return True
    return False


def _damaged(path: Path, position: int, offset: int, torn: Torn) -> JournalDamagedError:
    return JournalDamagedError(
        f"{path}: damaged at byte {offset} (position {position}): {torn}. What lay there was durable, so this is no "
        "interrupted write: put the file back from a copy, or move the whole journal away and begin anew"
    )
