"""Reading text in chunks of whole records: files one after the other, files that grow, and streams."""

from __future__ import annotations

import os
import select
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from ostinato.cep.connectors.base import (
    CHUNK_BYTES,
    MAX_RECORD_BYTES,
    REJECTED_BYTES,
    SLACK,
    BadRecord,
    Bytes,
    Chunk,
    Idle,
    SourceError,
    advice,
    seal,
)
from ostinato.cep.connectors.files import File, find_files, is_pattern, total_size
from ostinato.cep.connectors.resuming import (
    HEAD_BYTES,
    are_regular,
    find_again,
    first_bytes,
    head_mark,
    open_at,
    refusal,
    rotated_since,
    tail_mark,
)

_BOM = b"\xef\xbb\xbf"
_WAIT_S = 0.05
"""So long a live source is waited for before it is said to be idle."""


@dataclass(frozen=True, slots=True)
class Framing:
    """Where records end: at line ends, outside of quotes where `quote` is a byte (CSV).

    `header`: the first line of each file is not a record, but goes with all of them.
    """

    quote: int | None = None
    header: bool = False
    chunk_bytes: int = CHUNK_BYTES
    max_record_bytes: int = MAX_RECORD_BYTES


class Framer:
    """Cuts the bytes of one file into chunks at ends of records. Bytes are written to `room` and told to `filled`."""

    def __init__(self, framing: Framing, source: str, *, offset: int = 0, line: int = 1) -> None:
        """`offset` and `line` are those of the first byte that comes."""
        self._framing = framing
        self.source = source
        self.offset = offset
        self.line = line
        self.header: bytes | None = None
        self._buffer: Bytes = np.empty(framing.chunk_bytes + SLACK, np.uint8)
        self._end = 0
        self._skipping = False
        self._rejected: list[BadRecord] = []

    @property
    def pending(self) -> int:
        """Bytes that belong to no chunk yet."""
        return self._end

    def room(self) -> memoryview:
        """Where the next bytes go."""
        limit = len(self._buffer) - SLACK
        if self._end == limit:
            grown = np.empty(2 * limit + SLACK, np.uint8)
            grown[: self._end] = self._buffer[: self._end]
            self._buffer, limit = grown, 2 * limit
        return self._buffer.data[self._end : limit]

    def filled(self, count: int) -> None:
        """So many bytes were written to `room`."""
        self._end += count
        if self.offset == 0 and self.line == 1 and self._end == count:
            self._check_start()

    def _check_start(self) -> None:
        start = self._buffer[:3].tobytes()[: self._end]
        if start == _BOM:
            self._buffer[: self._end - 3] = self._buffer[3 : self._end].copy()
            self._end -= 3
            self.offset = 3
        elif start[:2] in (b"\xff\xfe", b"\xfe\xff"):
            raise SourceError(
                f"cannot read {self.source}: it is UTF-16; convert it to UTF-8 (iconv -f utf-16 -t utf-8)"
            )

    def cut(self, final: bool) -> Chunk | None:
        """The whole records that are there, at the end (`final`) also one without a line end; None for none."""
        if self._skipping:
            self._skip()
        if self._framing.header and self.header is None and not self._take_header(final):
            return None
        end = self._end if final else self._boundary()
        while self._end > self._framing.max_record_bytes:
            before = self._before_long(end)
            if before:
                end = before
                break
            if before is None:
                break
            self._reject()
            end = self._end if final else self._boundary()
        if not end and not (final and self._rejected):
            return None
        buffer, left = self._buffer, self._end - end
        self._buffer = np.empty(max(self._framing.chunk_bytes, 2 * left) + SLACK, np.uint8)
        self._buffer[:left] = buffer[end : self._end]
        self._end = left
        seal(buffer, end)
        chunk = Chunk(
            buffer,
            end,
            source=self.source,
            first_line=self.line,
            first_offset=self.offset,
            header=self.header,
            rejected=tuple(self._rejected),
        )
        self._rejected = []
        self.offset += end
        self.line += int(np.count_nonzero(buffer[:end] == 10))
        return chunk

    def _boundary(self) -> int:
        """Where the last whole record in the buffer ends."""
        last = _last_line_end(self._buffer[: self._end])
        quote = self._framing.quote
        if quote is None or not last or np.count_nonzero(self._buffer[:last] == quote) % 2 == 0:
            return last
        # an odd number of quotes before it: the line end is inside of a quoted field
        ends = self._record_ends(last)
        return int(ends[-1]) if len(ends) else 0

    def _record_ends(self, size: int) -> npt.NDArray[np.int64]:
        """One behind each line end in the first bytes of the buffer that is not inside of a quoted field."""
        held = self._buffer[:size]
        ends = np.flatnonzero(held == 10)
        if self._framing.quote is None:
            return ends + 1
        quotes = np.flatnonzero(held == self._framing.quote)
        outside: npt.NDArray[np.int64] = ends[np.searchsorted(quotes, ends) % 2 == 0] + 1
        return outside

    def _before_long(self, end: int) -> int | None:
        """Where the first record begins that is too long, None where there is none.

        Whether a record is too long must not depend on how much of it was read at a time: it would be another answer
        when the job goes on from the middle.
        """
        bounds = np.concatenate(([0], self._record_ends(end), [self._end + 1]))
        long = np.flatnonzero(np.diff(bounds) - 1 > self._framing.max_record_bytes)
        return int(bounds[long[0]]) if len(long) else None

    def _take_header(self, final: bool) -> bool:
        """Put the first line aside; False while it is not there in full."""
        found = np.flatnonzero(self._buffer[: self._end] == 10)
        if not len(found) and not final:
            return False
        end = int(found[0]) + 1 if len(found) else self._end
        self.header = self._buffer[:end].tobytes().rstrip(b"\r\n")
        self._buffer[: self._end - end] = self._buffer[end : self._end].copy()
        self._end -= end
        self.offset += end
        self.line += 1
        return True

    def _reject(self) -> None:
        """The first record in the buffer is too long: keep its beginning for the dead letters, pass over the rest.

        It ends at the first line end behind what a record may have.
        """
        limit = self._framing.max_record_bytes
        raw = self._buffer[: min(limit, REJECTED_BYTES)].tobytes()
        reason = f"record longer than {limit} bytes; only its beginning is kept"
        self._rejected.append(BadRecord(raw, self.source, self.line, self.offset, reason))
        self._drop(limit)
        self._skipping = True
        self._skip()

    def _skip(self) -> None:
        found = np.flatnonzero(self._buffer[: self._end] == 10)
        self._drop(int(found[0]) + 1 if len(found) else self._end)
        self._skipping = not len(found)

    def _drop(self, count: int) -> None:
        """Forget the first bytes of the buffer."""
        self.line += int(np.count_nonzero(self._buffer[:count] == 10))
        self._buffer[: self._end - count] = self._buffer[count : self._end].copy()
        self._end -= count
        self.offset += count


def _last_line_end(held: Bytes) -> int:
    """One behind the last line feed, 0 where there is none. Looks from the back, a little at a time."""
    end, width = len(held), 1024
    while end > 0:
        begin = max(0, end - width)
        found = np.flatnonzero(held[begin:end] == 10)
        if len(found):
            return begin + int(found[-1]) + 1
        end, width = begin, width * 8
    return 0


class FileReader:
    """Reads the files that a path or a pattern names, one after the other in order of their names, as one split.

    With `follow` it goes on as ``tail -F`` does: when the last file grows, is truncated, is replaced by a new one
    of its name, or a file with a later name appears.
    """

    def __init__(
        self, target: str, framing: Framing | None = None, *, follow: bool = False, from_end: bool = False
    ) -> None:
        """Raises SourceError where there is nothing to read (with `follow` a single file may come later)."""
        self._target = target
        self._framing = framing or Framing()
        self._follow = follow
        self._from_end = from_end and follow
        self._paths = [target] if follow and not is_pattern(target) else self._find()
        self._next = 0
        self._between: list[str] = []
        self._file: File | None = None
        self._framer: Framer | None = None
        self._head: bytearray | None = None
        self._head_mark = [0, 0]
        self._room = 0
        self.read_bytes = 0

    @property
    def repeatable(self) -> bool:
        """Can a job that fails be begun again?"""
        return are_regular(self._paths)

    @property
    def splits(self) -> int:
        return 1

    @property
    def total_bytes(self) -> int | None:
        """Bytes there are to read, for showing progress; None where that is not known."""
        return None if self._follow else total_size(self._paths)

    def _find(self) -> list[str]:
        try:
            return find_files(self._target)
        except SourceError:
            if self._follow:
                return []
            raise

    def read(self) -> Chunk | Idle | None:
        try:
            return self._read()
        except SourceError:
            self.close()
            raise

    def _read(self) -> Chunk | Idle | None:
        while True:
            from_end = self._from_end
            if self._file is None:
                if not self._open_next():
                    if not self._follow:
                        return None
                    time.sleep(_WAIT_S)
                    return Idle()
                if from_end:
                    return self._nothing_yet()
            assert self._file is not None
            assert self._framer is not None
            count = self._fill(self._file, self._framer)
            at_end = count < self._room
            leaving = at_end and (not self._follow or self._superseded())
            if leaving and self._follow:
                # what was written between reading to the end and looking for a successor
                leaving = not self._fill(self._file, self._framer)
            chunk = self._framer.cut(final=leaving)
            if chunk is not None:
                # what is behind a record that is too long comes in a chunk of its own
                leaving = leaving and not self._framer.pending
                chunk.position = self._position(chunk, whole=leaving)
                if leaving:
                    self._leave()
                return chunk
            if leaving:
                self._leave()
            elif at_end and self._follow and not self._truncated():
                time.sleep(_WAIT_S)
                return Idle()

    def _fill(self, file: File, framer: Framer) -> int:
        """Read as much as there is room for; returns how much that was."""
        room = framer.room()
        self._room = len(room)
        count = file.readinto(room)
        self.read_bytes += count
        if self._head is not None and len(self._head) < HEAD_BYTES:
            self._head += room[: min(count, HEAD_BYTES - len(self._head))]
            self._head_mark = head_mark(self._head)
        framer.filled(count)
        return count

    def _nothing_yet(self) -> Chunk:
        """An empty chunk at the end of a file: reading goes on there, also after a restart before anything came."""
        assert self._framer is not None
        chunk = Chunk.of(b"", source=self._framer.source, first_line=self._framer.line, header=self._framer.header)
        chunk.first_offset = self._framer.offset
        chunk.position = self._position(chunk, whole=False)
        return chunk

    def _open_next(self) -> bool:
        if self._between:
            path = self._between.pop(0)
            self._open(path)
            return True
        if self._follow and is_pattern(self._target):
            last = self._paths[self._next - 1] if self._next else ""
            self._paths = self._paths[: self._next] + [path for path in self._find() if path > last]
        if self._next >= len(self._paths):
            return False
        path = self._paths[self._next]
        if self._follow and not Path(path).exists():
            return False
        self._open(path)
        if self._from_end:
            self._start_at_end(path)
        self._from_end = False
        self._next += 1
        return True

    def _open(self, path: str) -> None:
        self._file = File(path)
        self._framer = Framer(self._framing, path)
        self._head, self._head_mark = bytearray(), head_mark(b"")

    def _start_at_end(self, path: str) -> None:
        assert self._file is not None
        assert self._framer is not None
        self._framer.offset = self._file.skip(self._file.size)
        if self._framer.offset:
            self._framer.line = 2  # not known, and not the first
            self._head, self._head_mark = None, head_mark(first_bytes(path, min(self._framer.offset, HEAD_BYTES)))
            if self._framing.header:
                self._framer.header = _first_line(path)

    def _superseded(self) -> bool:
        """Has the followed file a successor: another one of its name, or one with a later name?"""
        assert self._file is not None
        if self._between:
            return True
        if self._file.path not in self._paths:
            return Path(self._paths[self._next]).exists()
        if is_pattern(self._target):
            return any(path > self._file.path for path in self._find())
        try:
            status = os.stat(self._target)  # noqa: PTH116
        except OSError:
            return False
        if (status.st_dev, status.st_ino) == self._file.inode:
            return False
        self._next = 0
        return True

    def _truncated(self) -> bool:
        """Was the followed file cut back? Then it is read from its beginning."""
        assert self._file is not None
        assert self._framer is not None
        if self._file.compressed or self._file.size >= self._framer.offset + self._framer.pending:
            return False
        self._file.restart()
        self._framer = Framer(self._framing, self._file.path)
        self._head, self._head_mark = bytearray(), head_mark(b"")
        return True

    def _leave(self) -> None:
        assert self._file is not None
        self._file.close()
        self._file = self._framer = None

    def _position(self, chunk: Chunk, *, whole: bool) -> Mapping[str, Any]:
        """Where reading goes on after a chunk. `whole`: with it, all of the file has been read."""
        assert self._file is not None
        assert self._framer is not None
        device, inode = self._file.inode
        return {
            "file": self._file.path if self._file.path in self._paths else self._paths[self._next],
            "offset": self._framer.offset,
            "line": self._framer.line,
            "device": device,
            "inode": inode,
            "head": self._head_mark,
            "tail": tail_mark(chunk),
            "whole": whole,
        }

    def seek(self, position: Mapping[str, Any]) -> None:
        """Go on after a chunk. A followed file that was renamed since is looked for beside its old place.

        Raises:
            SourceError: the file that was read is gone, or is another one by now.
        """
        if self._file is not None:
            self._leave()
        self._from_end, self._between = False, []
        path = position["file"]
        if self._follow:
            self._paths = sorted({*self._paths, path})
        elif path not in self._paths:
            if not position["whole"]:
                raise refusal(path, f"it is not among the files of {self._target} any more")
            self._next = sum(other < path for other in self._paths)
            return
        self._next = self._paths.index(path) + 1
        if self._follow:
            place, file = find_again(path, position)
            if place != path:
                self._next -= 1
                self._between = rotated_since(path, place)
        else:
            place, found = path, open_at(path, position)
            if isinstance(found, str):
                raise refusal(path, found)
            file = found
        self._file = file
        self._framer = Framer(self._framing, place, offset=position["offset"], line=position["line"])
        self._head, self._head_mark = None, position["head"]
        if self._framing.header and position["offset"]:
            self._framer.header = _first_line(place)

    def close(self) -> None:
        if self._file is not None:
            self._leave()


def _first_line(path: str) -> bytes:
    file = File(path)
    line = b""
    try:
        while b"\n" not in line:
            block = bytearray(1 << 16)
            count = file.readinto(memoryview(block))
            line += block[:count]
            if not count:
                break
    finally:
        file.close()
    return line.removeprefix(_BOM).partition(b"\n")[0].rstrip(b"\r")


class StreamReader:
    """Reads a pipe, a terminal or standard input: what is there now, and Idle while nothing comes."""

    repeatable = False
    """What has been read is gone: a job that fails cannot be begun again."""

    def __init__(self, stream: BinaryIO, framing: Framing | None = None, *, name: str = "<stdin>") -> None:
        """`stream` must have a file descriptor; nothing may have been read ahead from it."""
        self._stream = stream
        self._framing = framing or Framing()
        self._framer = Framer(self._framing, name)
        self._ended = False
        self.read_bytes = 0

    @property
    def splits(self) -> int:
        return 1

    @property
    def total_bytes(self) -> int | None:
        return None

    def read(self) -> Chunk | Idle | None:
        waited = False
        while self._ended and self._framer.pending:
            chunk = self._framer.cut(final=True)
            if chunk is not None:
                return self._placed(chunk)
        while not self._ended:
            room = self._framer.room()
            if not self._ready(0 if self._framer.pending and not waited else _WAIT_S):
                chunk = self._framer.cut(final=False)
                if chunk is None and not waited:
                    waited = True
                    continue
                return self._placed(chunk) if chunk is not None else Idle()
            try:
                count = os.readv(self._stream.fileno(), [room])
            except OSError as error:
                raise SourceError(f"cannot read {self._framer.source}: {advice(error)}") from error
            self.read_bytes += count
            self._framer.filled(count)
            self._ended = count == 0
            if self._ended or count == len(room):
                chunk = self._framer.cut(final=self._ended)
                if chunk is not None:
                    return self._placed(chunk)
        return None

    def _ready(self, seconds: float) -> bool:
        try:
            return bool(select.select([self._stream], [], [], seconds)[0])
        except OSError as error:
            raise SourceError(f"cannot read {self._framer.source}: {advice(error)}") from error

    def _placed(self, chunk: Chunk) -> Chunk:
        chunk.position = {"offset": self._framer.offset, "line": self._framer.line}
        return chunk

    def seek(self, position: Mapping[str, Any]) -> None:  # noqa: ARG002
        raise SourceError(f"{self._framer.source} cannot be read a second time; give a file to go on where it was left")

    def close(self) -> None:
        self._ended = True
