"""Walks through the blocks of a log that may be growing, and may be trimmed, meanwhile."""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from ostinato.server.matches.errors import MatchesGoneError, MatchLogDamagedError, MatchLogError
from ostinato.server.matches.format import (
    ENTRY,
    HEAD_BYTES,
    REMEDY,
    Block,
    bases,
    block_size,
    decode_block,
    decode_head,
    index_path,
    read_mark,
    segment_path,
)

_READ_BYTES: Final = 256 << 10


class Cursor:
    """Stands before the block that holds, or will hold, row `seq`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file = -1
        self._base = 0
        self._offset = 0
        self._buffer = memoryview(b"")
        self._buffer_at = 0
        self.seq = 0
        """The first row of the next block; 0: it stands nowhere yet."""

    def close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
        self._buffer = memoryview(b"")
        self.seq = 0

    def seek(self, seq: int) -> bool:
        """Stand before the block with row `seq`, or at the end where it is not there yet. False: there is no log.

        Raises:
            MatchesGoneError: it is not there any more.
            MatchLogDamagedError, MatchLogError: it cannot be read.
        """
        while True:
            known = bases(self._folder)
            if not known:
                return False
            if seq < known[0]:
                raise MatchesGoneError(seq, known[0])
            base = known[bisect_right(known, seq) - 1]
            opened = self._open(base)
            if opened is None:
                continue  # retention was faster
            if not opened:
                return False
            self._skip_by_index(seq)
            for block in self:
                if block.next_seq > seq:
                    self._offset -= block.size
                    self.seq = block.seq
                    break
            return True

    def __iter__(self) -> Iterator[Block]:
        while (block := self.next()) is not None:
            yield block

    def next(self) -> Block | None:
        """The next block, None where there is none yet. Raises as `seek` does."""
        block = self._read()
        if block is not None:
            return block
        following = self._following()
        if following is None:
            self._check_durable()
            return None
        # more may have been written between the look at the file and the look at the folder
        block = self._read()
        if block is not None:
            return block
        if os.fstat(self._file).st_size != self._offset:
            self._damaged(f"no whole block at byte {self._offset}, which is not its end")
        if following != self.seq:
            raise MatchesGoneError(self.seq, following)
        opened = self._open(following)
        if opened is None:
            known = bases(self._folder)
            raise MatchesGoneError(following, known[0] if known else following + 1)
        return self.next() if opened else None

    def _open(self, base: int) -> bool | None:
        """Stand at the beginning of a segment. None: it is gone; False: its head is not written yet."""
        path = segment_path(self._folder, base)
        with _reading(path):
            try:
                file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError:
                return None
        try:
            with _reading(path):
                head = os.pread(file, HEAD_BYTES, 0)
            if decode_head(head, base, path) is None:
                if any(other > base for other in bases(self._folder)):
                    raise MatchLogDamagedError(f"{path} is damaged: its head cannot be read; {REMEDY}")
                os.close(file)
                return False
        except MatchLogError:
            os.close(file)
            raise
        self.close()
        self._file, self._base, self._offset, self.seq = file, base, HEAD_BYTES, base
        return True

    def _skip_by_index(self, seq: int) -> None:
        """Begin as near to row `seq` as the index knows, where it is right."""
        try:
            data = index_path(self._folder, self._base).read_bytes()
        except OSError:
            return  # a hint, no more
        best = None
        for first, offset in ENTRY.iter_unpack(data[: len(data) // ENTRY.size * ENTRY.size]):
            if first > seq:
                break
            best = first, offset
        if best is not None:
            first, offset = best
            with _reading(segment_path(self._folder, self._base)):
                data = os.pread(self._file, _READ_BYTES, offset)
            if first >= self._base and block_size(memoryview(data), first) is not None:
                self.seq, self._offset = first, offset

    def _read(self) -> Block | None:
        """The whole block that stands here; then it stands behind it."""
        at = self._offset - self._buffer_at
        block = decode_block(self._buffer[at:], self.seq) if 0 <= at < len(self._buffer) else None
        if block is None:
            with _reading(segment_path(self._folder, self._base)):
                data = os.pread(self._file, _READ_BYTES, self._offset)
                size = block_size(memoryview(data), self.seq)
                if size is not None and size > len(data) and size <= os.fstat(self._file).st_size - self._offset:
                    data = os.pread(self._file, size, self._offset)
            self._buffer, self._buffer_at = memoryview(data), self._offset
            block = decode_block(self._buffer, self.seq)
        if block is not None:
            self._offset += block.size
            self.seq = block.next_seq
        return block

    def _following(self) -> int | None:
        return next((base for base in bases(self._folder) if base > self._base), None)

    def _check_durable(self) -> None:
        """Is what stands here and cannot be read a write under way, or damage?"""
        if os.fstat(self._file).st_size <= self._offset:
            return
        mark = read_mark(self._folder)
        if mark is not None and mark.base == self._base and mark.bytes > self._offset and self._read_again() is None:
            self._damaged(f"no whole block at byte {self._offset}, of {mark.bytes} that were durable")

    def _read_again(self) -> Block | None:
        """It may have been written since, and made durable; it then stands before it still."""
        offset, seq = self._offset, self.seq
        block = self._read()
        self._offset, self.seq = offset, seq
        return block

    def _damaged(self, what: str) -> None:
        raise MatchLogDamagedError(f"{segment_path(self._folder, self._base)} is damaged: {what}; {REMEDY}")


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as error:
        raise MatchLogError(
            f"cannot read {path}: {error.strerror or error}; look at the disk and the rights"
        ) from error
