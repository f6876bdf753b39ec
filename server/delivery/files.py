"""Matches to a file, as lines of JSON, each once.

Beside the output's other things lies a note: the number of the last match that is in the file, and how long the file is
with it. Lines are made durable first, then the note. What a crash has left behind the length that the note says is cut
off, and comes again.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import logging
import os
import stat
import threading
from collections.abc import Callable, Sequence
from typing import Final, ParamSpec, TypeVar

import msgspec

from ostinato.server.delivery.encoding import match_json
from ostinato.server.delivery.errors import BrokenError, RetryError
from ostinato.server.delivery.settings import FileOutput, OutputContext, file_of
from ostinato.server.matches import Match
from ostinato.state.steps import reached
from ostinato.state.stores.files import make_folder, sync_folder, write
from ostinato.state.typed import decode_json

P = ParamSpec("P")
T = TypeVar("T")

_log = logging.getLogger(__name__)
_FORMAT: Final = 1
_ROWS: Final = 10_000
_BYTES: Final = 4 << 20


class _Note(msgspec.Struct, frozen=True):
    """`inode`: of the file that it is about; another one under the same path is another file."""

    format: int
    path: str
    inode: int
    bytes: int
    seq: int


class LinesFile:
    """See `Target`. When the file is moved away, as by logrotate, another one is begun."""

    batch_rows = _ROWS
    batch_bytes = _BYTES
    has_own_cursor = True

    def __init__(self, name: str, settings: FileOutput, context: OutputContext) -> None:
        """Raises OutputError."""
        self._output = name
        self._settings = settings
        self._context = context
        self._path = file_of(name, settings, context)
        self._note = context.folder / f"{name}.file"
        self._server = context.server
        self._turn = threading.Lock()
        self._file = -1
        self._bytes = 0
        self._lead = b""

    async def open(self) -> int | None:
        return await asyncio.to_thread(self._locked, self._open)

    async def close(self) -> None:
        # whoever was cancelled while a thread wrote must not take the file away from it
        await asyncio.to_thread(self._locked, self._close)

    async def deliver(self, matches: Sequence[Match], cursor: int, /) -> None:
        await asyncio.to_thread(self._locked, self._deliver, matches, cursor)

    def _locked(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        with self._turn:
            return function(*args, **kwargs)

    def _close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _open(self) -> int:
        self._close()
        # what was a plain path when the output was made may lead elsewhere by now
        if file_of(self._output, self._settings, self._context) != self._path:
            raise BrokenError(f"{self._path} is a link by now; remove it, or change the output")
        note = self._read_note()
        try:
            make_folder(self._note.parent)
            make_folder(self._path.parent)
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
            self._file = os.open(self._path, flags, 0o640)
            if not stat.S_ISREG(os.fstat(self._file).st_mode):
                raise BrokenError(f"{self._path} is no plain file; name one")
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise BrokenError(f"{self._path}: another output or program has locked it; use another file") from None
            sync_folder(self._path.parent)
            return self._take_back(note)
        except OSError as error:
            raise self._said(error) from error

    def _take_back(self, note: _Note | None) -> int:
        """Go on where the note says, cutting what came behind it."""
        about = os.fstat(self._file)
        self._bytes = about.st_size
        self._lead = b""
        if note is None or note.path != str(self._path) or note.inode != about.st_ino:
            # what is there is not ours, and stays
            note = _Note(_FORMAT, str(self._path), about.st_ino, self._bytes, 0 if note is None else note.seq)
            self._take_down(note)
        elif about.st_size < note.bytes:
            _log.warning(
                "output %s: %s has %d bytes, it had %d: somebody has cut it; lines go on at its end",
                self._output, self._path, about.st_size, note.bytes,
            )  # fmt: skip
        elif about.st_size > note.bytes:
            _log.warning(
                "output %s: %s: %d bytes behind the last recorded match are cut off: they come again",
                self._output, self._path, about.st_size - note.bytes,
            )  # fmt: skip
            os.ftruncate(self._file, note.bytes)
            os.fsync(self._file)
            self._bytes = note.bytes
        if self._bytes and os.pread(self._file, 1, self._bytes - 1) != b"\n":
            self._lead = b"\n"
        return note.seq

    def _take_down(self, note: _Note) -> None:
        write(self._note, [msgspec.json.encode(note)])

    def _deliver(self, matches: Sequence[Match], cursor: int) -> None:
        if self._was_moved():
            self._open()
        data = self._lead + b"".join([match_json(self._server, match) + b"\n" for match in matches])
        try:
            at = self._bytes
            left = memoryview(data)
            while left:
                written = os.pwrite(self._file, left, at)
                at += written
                left = left[written:]
            os.fsync(self._file)
            reached("output.synced")
            self._take_down(_Note(_FORMAT, str(self._path), os.fstat(self._file).st_ino, at, cursor))
        except OSError as error:
            raise self._said(error) from error
        self._bytes, self._lead = at, b""

    def _was_moved(self) -> bool:
        try:
            about = self._path.lstat()
        except FileNotFoundError:
            return True
        except OSError as error:
            raise self._said(error) from error
        return about.st_ino != os.fstat(self._file).st_ino

    def _read_note(self) -> _Note | None:
        try:
            note = decode_json(self._note.read_bytes(), _Note)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self._said(error) from error
        except msgspec.MsgspecError as error:
            raise BrokenError(
                f"{self._note} is damaged: {error}; without it nobody knows what is in {self._path}: look, then delete "
                "it and begin with another file"
            ) from None
        if note.format != _FORMAT:
            raise BrokenError(f"{self._note} has format {note.format}; use the release that wrote it, or a later one")
        return note

    def _said(self, error: OSError) -> RetryError | BrokenError:
        what = f"{self._path}: {error.strerror or error}"
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return RetryError(f"{what}; free some space")
        if error.errno in (errno.ELOOP, errno.EISDIR, errno.ENXIO):
            return BrokenError(f"{what}; it is no plain file")
        return RetryError(f"{what}; look at the disk, and who owns the file")
