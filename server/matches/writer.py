"""Writes the match log: the live worker does, and nobody else at the same time."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from ostinato.server.matches.errors import (
    MatchLogBusyError,
    MatchLogDamagedError,
    MatchLogError,
    MatchLogFullError,
)
from ostinato.server.matches.format import (
    ENTRY,
    HEAD_BYTES,
    INDEX_EVERY_BYTES,
    MARK,
    REMEDY,
    VERSION,
    Mark,
    bases,
    block_size,
    decode_block,
    decode_head,
    encode_block,
    encode_head,
    index_path,
    read_mark,
    segment_path,
    split,
)
from ostinato.server.matches.rows import Rows
from ostinato.state.steps import reached
from ostinato.state.stores.files import make_folder, sweep_temporary, sync_folder, write

_log = logging.getLogger(__name__)
_LOCK: Final = "lock"
_NO_ROOM: Final = (errno.ENOSPC, errno.EDQUOT)
_HOUR_MS: Final = 3_600_000


@dataclass(frozen=True, slots=True)
class MatchLogOptions:
    """How the log is cut and how much of it is kept; see `MatchLogWriter.trim`.

    Attributes:
        segment_bytes: a segment that is as large is followed by a new one; retention deletes whole ones.
        segment_ms: so does one that began so long ago.
        retain_bytes: older segments are deleted while all are larger together; None: never.
        retain_ms: a segment is deleted when all of its rows are older; None: never.
    """

    segment_bytes: int = 64 << 20
    segment_ms: int = 6 * _HOUR_MS
    retain_bytes: int | None = 16 << 30
    retain_ms: int | None = 7 * 24 * _HOUR_MS


class MatchLogWriter:
    """Appends rows. Belongs to one thread.

    What is appended can be read at once, by other processes too, and outlives this process. `sync` makes it outlive the
    machine; before a snapshot it has to be called, as rows behind the last one can be computed again.

    Attributes:
        next_seq: the number of the next row.
        cut_bytes: what a crash had left unfinished at the end, and was cut off.
    """

    def __init__(self, folder: Path, options: MatchLogOptions | None = None, *, first_seq: int = 1) -> None:
        """`first_seq`: of the first row where there is no log yet.

        Raises:
            MatchLogBusyError: another process writes it.
            MatchLogDamagedError: durable rows are broken.
            MatchLogError: it cannot be read or written.
        """
        self._folder = folder
        self._options = options or MatchLogOptions()
        self._file = -1
        self._index = -1
        self._base = 0
        self._began_ms = 0
        self._bytes = 0
        self._indexed_bytes = 0
        self._durable: tuple[int, int] | None = None
        self._broken = False
        self.next_seq = first_seq
        self.cut_bytes = 0
        with _writing(folder):
            make_folder(folder)
            self._lock = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise MatchLogBusyError(
                    f"{folder}: another process writes the match log; end it, or use another data directory"
                ) from None
            with _writing(folder):
                sweep_temporary(folder)
                self._recover()
        except BaseException:
            self.close()
            raise

    def append(self, rows: Rows) -> int:
        """Add rows behind all others. Returns the number of the first.

        Raises:
            MatchLogFullError: there is no room; none of the rows is in the log, unless `next_seq` has moved: then
                those before it are.
            MatchLogError: it cannot be written.
        """
        first = self.next_seq
        for part in split(rows):
            reached("matches.append")
            data = encode_block(part, self.next_seq)
            self._make_room(part.at_ms)
            self._write(data)
            self.next_seq += len(part.values)
        return first

    def sync(self) -> None:
        """Let everything appended so far outlive a crash of the machine. Raises MatchLogError."""
        self._check()
        if self._file < 0 or self._durable == (self._base, self._bytes):
            return
        try:
            os.fdatasync(self._file)
            mark = Mark(VERSION, self._base, self._bytes, self.next_seq)
            write(self._folder / MARK, [msgspec.json.encode(mark)])
        except OSError as error:
            if error.errno in _NO_ROOM:
                raise MatchLogFullError(self._no_room(error)) from error
            # after a failed fsync nobody knows what is on the disk, and the next fsync may not say so
            self._broken = True
            raise MatchLogError(f"cannot make {self._path} durable: {error.strerror}; look at the disk") from error
        self._durable = self._base, self._bytes
        reached("matches.synced")

    def begin_at(self, seq: int) -> None:
        """Go on with a higher number than the next: what a log that was lost held is not given again to other rows.

        Raises MatchLogError.
        """
        if seq < self.next_seq:
            raise ValueError(f"the match log has rows up to {self.next_seq - 1}; it cannot go back to {seq}")
        if seq > self.next_seq:
            _log.warning("%s: rows %d to %d are missing; it goes on with %d", self._folder, self.next_seq, seq - 1, seq)
            self.sync()
            self._close_segment()
            self.next_seq = seq

    def trim(self, now_ms: int) -> int:
        """Delete segments that need not be retained; the last one always stays. Happens by itself with each new
        segment. Returns how many. Raises MatchLogError."""
        with _writing(self._folder):
            known = bases(self._folder)
            sizes = [segment_path(self._folder, base).stat().st_size for base in known]
            gone = 0
            for i, base in enumerate(known[:-1]):
                ended_ms = self._began(known[i + 1])
                too_large = self._options.retain_bytes is not None and sum(sizes[i:]) > self._options.retain_bytes
                too_old = self._options.retain_ms is not None and ended_ms < now_ms - self._options.retain_ms
                if not (too_large or too_old):
                    break
                # the oldest first, so that what is left has no hole whenever this is cut short
                segment_path(self._folder, base).unlink()
                index_path(self._folder, base).unlink(missing_ok=True)
                gone += 1
            if gone:
                sync_folder(self._folder)
            return gone

    def close(self) -> None:
        """Let others write. Does not make anything durable."""
        self._close_segment()
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    @property
    def _path(self) -> Path:
        return segment_path(self._folder, self._base)

    def _began(self, base: int) -> int:
        path = segment_path(self._folder, base)
        with path.open("rb", buffering=0) as file:
            began = decode_head(file.read(HEAD_BYTES), base, path)
        if began is None:
            raise MatchLogDamagedError(f"{path} is damaged: its head cannot be read; {REMEDY}")
        return began

    def _recover(self) -> None:
        """Find the end: cut what a crash left unfinished, refuse what is damaged."""
        mark = read_mark(self._folder)
        known = bases(self._folder)
        while known:
            base = known[-1]
            path = segment_path(self._folder, base)
            began = decode_head(path.read_bytes()[:HEAD_BYTES], base, path)
            if began is not None:
                self._scan(base, began, mark)
                break
            if mark is not None and mark.base >= base:
                raise MatchLogDamagedError(f"{path} is damaged: its head cannot be read; {REMEDY}")
            # it was being made
            _log.warning("%s: has no whole head; a crash has left it so: it is deleted", path)
            self.cut_bytes += path.stat().st_size
            path.unlink()
            sync_folder(self._folder)
            known.pop()
        if mark is not None and (mark.base > self._base or mark.next_seq > self.next_seq):
            raise MatchLogDamagedError(
                f"{segment_path(self._folder, mark.base)} is missing or cut short: rows up to {mark.next_seq - 1} were "
                f"durable, there are rows up to {self.next_seq - 1}; {REMEDY}"
            )

    def _scan(self, base: int, began_ms: int, mark: Mark | None) -> None:
        path = segment_path(self._folder, base)
        data = memoryview(path.read_bytes())
        at, seq = HEAD_BYTES, base
        entries: list[bytes] = []
        indexed = 0
        while (block := decode_block(data[at:], seq)) is not None:
            if at - indexed >= INDEX_EVERY_BYTES:
                entries.append(ENTRY.pack(seq, at))
                indexed = at
            at += block.size
            seq = block.next_seq
        if mark is not None and mark.base == base and at < mark.bytes:
            whole = block_size(data[at:], seq)
            what = "its checksum does not fit" if whole is not None and at + whole <= len(data) else "it is not whole"
            raise MatchLogDamagedError(
                f"{path} is damaged: the block with row {seq} at byte {at}: {what}, and {mark.bytes} bytes were "
                f"durable; {REMEDY}"
            )
        self._file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        if at < len(data):
            self.cut_bytes += len(data) - at
            _log.warning(
                "%s: a crash has left %d bytes unfinished behind row %d: cut off", path, len(data) - at, seq - 1
            )
            os.ftruncate(self._file, at)
            os.fsync(self._file)
        os.lseek(self._file, at, os.SEEK_SET)
        self._base, self._began_ms, self._bytes, self.next_seq = base, began_ms, at, seq
        index_path(self._folder, base).write_bytes(b"".join(entries))
        self._open_index(indexed)

    def _make_room(self, at_ms: int) -> None:
        """See to it that there is a segment for what comes."""
        self._check()
        if self._file >= 0:
            options = self._options
            if self._bytes < options.segment_bytes and at_ms - self._began_ms < options.segment_ms:
                return
            if self._bytes == HEAD_BYTES:
                return
            # so only the last segment ever has something that is not durable
            self.sync()
            self._close_segment()
        base = self.next_seq
        path = segment_path(self._folder, base)
        with _writing(path):
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o640)
            try:
                _write_all(self._file, encode_head(base, at_ms))
                sync_folder(self._folder)
            except BaseException:
                os.close(self._file)
                self._file = -1
                path.unlink()
                raise
        self._base, self._began_ms, self._bytes = base, at_ms, HEAD_BYTES
        self._open_index(0)
        self.trim(at_ms)

    def _open_index(self, indexed_bytes: int) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        with _writing(index_path(self._folder, self._base)):
            self._index = os.open(index_path(self._folder, self._base), flags, 0o640)
        self._indexed_bytes = indexed_bytes

    def _write(self, data: bytes) -> None:
        try:
            _write_all(self._file, data)
        except OSError as error:
            # what is there of it must not stand before what comes next
            os.ftruncate(self._file, self._bytes)
            os.lseek(self._file, self._bytes, os.SEEK_SET)
            if error.errno in _NO_ROOM:
                raise MatchLogFullError(self._no_room(error)) from error
            raise MatchLogError(f"cannot write {self._path}: {error.strerror}; look at the disk") from error
        if self._bytes - self._indexed_bytes >= INDEX_EVERY_BYTES:
            try:
                os.write(self._index, ENTRY.pack(self.next_seq, self._bytes))
            except OSError as error:
                _log.warning("%s: index not written: %s", self._path, error)  # a hint, no more
            self._indexed_bytes = self._bytes
        self._bytes += len(data)

    def _no_room(self, error: OSError) -> str:
        return f"cannot write {self._path}: {error.strerror}; free some space: matches go on by themselves then"

    def _check(self) -> None:
        if self._broken:
            raise MatchLogError(f"{self._path}: an earlier fsync has failed; begin again from the last snapshot")

    def _close_segment(self) -> None:
        for file in (self._file, self._index):
            if file >= 0:
                os.close(file)
        self._file = self._index = -1


def _write_all(file: int, data: bytes) -> None:
    left = memoryview(data)
    while left:
        left = left[os.write(file, left) :]


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        said = f"cannot write {path}: {error.strerror or error}"
        if error.errno in _NO_ROOM:
            raise MatchLogFullError(f"{said}; free some space: matches go on by themselves then") from error
        raise MatchLogError(f"{said}; look at the disk, and who owns the folder") from error
