"""Reading text in chunks of whole records: files one after the other, files that grow, and streams."""

from __future__ import annotations

import glob
import os
import select
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

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
        if not end:
            if self._end > self._framing.max_record_bytes:
                self._reject()
            if not self._rejected or not final:
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
        held = self._buffer[: self._end]
        last = _last_line_end(held)
        quote = self._framing.quote
        if quote is None or not last:
            return last
        quotes = np.flatnonzero(held[:last] == quote)
        if len(quotes) % 2 == 0:
            return last
        # an odd number of quotes before it: the line end is inside of a quoted field
        ends = np.flatnonzero(held[:last] == 10)
        outside = ends[np.searchsorted(quotes, ends) % 2 == 0]
        return int(outside[-1]) + 1 if len(outside) else 0

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
        """The record in the buffer is too long: keep its beginning for the dead letters, pass over the rest."""
        raw = self._buffer[:REJECTED_BYTES].tobytes()
        reason = f"record longer than {self._framing.max_record_bytes} bytes; only its beginning is kept"
        self._rejected.append(BadRecord(raw, self.source, self.line, self.offset, reason))
        self.offset += self._end
        self._end = 0
        self._skipping = True
        self._buffer = np.empty(self._framing.chunk_bytes + SLACK, np.uint8)

    def _skip(self) -> None:
        found = np.flatnonzero(self._buffer[: self._end] == 10)
        end = int(found[0]) + 1 if len(found) else self._end
        self._buffer[: self._end - end] = self._buffer[end : self._end].copy()
        self._end -= end
        self.offset += end
        if len(found):
            self._skipping = False
            self.line += 1


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
        self._file: File | None = None
        self._framer: Framer | None = None
        self.read_bytes = 0

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
            if self._file is None and not self._open_next():
                if not self._follow:
                    return None
                time.sleep(_WAIT_S)
                return Idle()
            assert self._file is not None
            assert self._framer is not None
            room = self._framer.room()
            count = self._file.readinto(room)
            self.read_bytes += count
            self._framer.filled(count)
            at_end = count < len(room)
            leaving = at_end and (not self._follow or self._superseded())
            if leaving and self._follow:
                # what was written between reading to the end and looking for a successor
                more = self._file.readinto(self._framer.room())
                self._framer.filled(more)
                leaving = not more
            chunk = self._framer.cut(final=leaving)
            if chunk is not None:
                chunk.position = self._position()
                if leaving:
                    self._leave()
                return chunk
            if leaving:
                self._leave()
            elif at_end and self._follow and not self._truncated():
                time.sleep(_WAIT_S)
                return Idle()

    def _open_next(self) -> bool:
        if self._follow and is_pattern(self._target):
            last = self._paths[self._next - 1] if self._next else ""
            self._paths = self._paths[: self._next] + [path for path in self._find() if path > last]
        if self._next >= len(self._paths):
            return False
        path = self._paths[self._next]
        if self._follow and not Path(path).exists():
            return False
        self._file = File(path)
        self._framer = Framer(self._framing, path)
        if self._from_end:
            self._start_at_end(self._file, self._framer)
        self._from_end = False
        self._next += 1
        return True

    def _start_at_end(self, file: File, framer: Framer) -> None:
        framer.offset = file.skip(file.size)
        framer.line = 2  # not known, and not the first

    def _superseded(self) -> bool:
        """Has the followed file a successor: another one of its name, or one with a later name?"""
        assert self._file is not None
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
        return True

    def _leave(self) -> None:
        assert self._file is not None
        self._file.close()
        self._file = self._framer = None

    def _position(self) -> Mapping[str, Any]:
        assert self._file is not None
        assert self._framer is not None
        device, inode = self._file.inode
        return {
            "file": self._file.path if self._file.path in self._paths else self._target,
            "offset": self._framer.offset,
            "line": self._framer.line,
            "device": device,
            "inode": inode,
        }

    def seek(self, position: Mapping[str, Any]) -> None:
        """Go on after a chunk. A followed file that was renamed since is looked for beside its old place."""
        if self._file is not None:
            self._leave()
        path, inode = position["file"], (position["device"], position["inode"])
        if path not in self._paths:
            raise SourceError(f"cannot go on in {path}: it is not among the files of {self._target} any more")
        self._next = self._paths.index(path) + 1
        if self._follow:
            beside = sorted(glob.glob(glob.escape(path) + "*"))  # noqa: PTH207
            renamed = [other for other in beside if _inode(other) == inode]
            if not renamed:
                self._next -= 1
                return
            if renamed[0] != path:
                self._next -= 1
                path = renamed[0]
        self._file = File(path)
        self._framer = Framer(self._framing, path, offset=position["offset"], line=position["line"])
        if self._framing.header:
            self._framer.header = _first_line(path)
        if self._file.skip(position["offset"]) < position["offset"]:
            self._leave()
            if not self._follow:
                raise SourceError(f"cannot go on in {path}: it is shorter than it was when it was read")
            self._next = self._paths.index(position["file"])

    def close(self) -> None:
        if self._file is not None:
            self._leave()


def _inode(path: str) -> tuple[int, int] | None:
    try:
        status = os.stat(path)  # noqa: PTH116
    except OSError:
        return None
    return status.st_dev, status.st_ino


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
