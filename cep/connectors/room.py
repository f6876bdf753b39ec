"""A full disk is waited out: output that takes part in checkpoints holds the job back until there is room."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ostinato.cep.connectors.base import SinkError, advice

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
_PAUSE_SECONDS = 0.1
"""How often is looked whether there is room, or the job is to stop."""


def is_no_room(error: OSError) -> bool:
    """May the error pass when somebody deletes something? Of a failing disk that cannot be hoped for."""
    return error.errno in _NO_ROOM


class Room:
    """Waits for room on a disk.

    One is shared by all sinks of a job: what it says, it says once for each time that the disk is full.
    """

    def __init__(
        self, stopped: Callable[[], bool] = lambda: False, say: Callable[[str], None] = lambda _: None
    ) -> None:
        """
        Args:
            stopped: has the job been asked to stop? Then nothing is waited for.
            say: is given one line that people should read.
        """
        self.say = say
        self.waited_seconds = 0.0
        self._stopped = stopped
        self._since: float | None = None

    def wait(self, name: str, place: str | int, error: OSError, size: int) -> None:
        """Pause because of `error`, before another try.

        Args:
            name: of the output, for messages.
            place: a path or an open file on the disk.
            error: what the last try ended with.
            size: bytes that are still to be written.

        Raises:
            SinkError: the error is another one, or the job has been asked to stop.
        """
        if not is_no_room(error):
            raise SinkError(f"cannot write {name}: {advice(error)}") from error
        said = (error.strerror or "no room").lower()
        if self._stopped():
            self._since = None
            remedy = "the job was asked to stop while it waited for room: make room and resume it"
            raise SinkError(f"cannot write {name}: {said}; {remedy}") from error
        if self._since is None:
            self._since = time.monotonic()
            self.say(f"cannot write {name}: {said}, {_missing(place, size)} bytes are missing; waiting for room")
        time.sleep(_PAUSE_SECONDS)
        self.waited_seconds += _PAUSE_SECONDS

    def found(self, name: str) -> None:
        """A write has succeeded: say that the job goes on, if it had waited."""
        if self._since is not None:
            waited = time.monotonic() - self._since
            self._since = None
            self.say(f"there is room again: going on with {name} after {waited:.0f} s")

    def open(self, name: str, path: str, flags: int) -> int:
        """A file descriptor; making a file may need room, too."""
        while True:
            try:
                descriptor = os.open(path, flags | os.O_CLOEXEC, 0o666)
            except OSError as error:
                self.wait(name, os.path.dirname(path), error, 1)  # noqa: PTH120
            else:
                self.found(name)
                return descriptor

    def write(self, name: str, descriptor: int, data: bytes | memoryview, at: int) -> None:
        """Write all of `data` at an offset."""
        left = memoryview(data)
        while left:
            try:
                count = os.pwrite(descriptor, left, at)
            except OSError as error:
                self.wait(name, descriptor, error, len(left))
            else:
                self.found(name)
                left, at = left[count:], at + count

    def copy(self, name: str, source: int, begin: int, target: int, at: int, size: int) -> None:
        """Copy bytes from file to file without holding them; a disk that can share blocks does that."""
        while size:
            try:
                count = _copy(source, begin, target, at, size)
            except OSError as error:
                self.wait(name, target, error, size)
            else:
                self.found(name)
                if not count:
                    raise SinkError(f"cannot write {name}: its pending file has become {size} bytes shorter")
                begin, at, size = begin + count, at + count, size - count


_BLOCK_BYTES = 8 << 20
"""So much is copied at a time: an interrupted job notices soon."""
_CANNOT_COPY = (errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM, errno.EBADF)


def _copy(source: int, begin: int, target: int, at: int, size: int) -> int:
    count = min(size, _BLOCK_BYTES)
    if hasattr(os, "copy_file_range"):  # Linux only
        try:
            copied = os.copy_file_range(source, target, count, begin, at)
        except OSError as error:
            if error.errno not in _CANNOT_COPY:
                raise
        else:
            if copied:
                return copied
    # some file systems copy nothing without an error
    return os.pwrite(target, os.pread(source, min(count, 1 << 20), begin), at)


def _missing(place: str | int, size: int) -> int:
    try:
        status = os.statvfs(place)
    except OSError:
        return size
    free = status.f_bavail * status.f_frsize
    return size - free if size > free else size  # a quota, not the disk, may be exhausted


@contextmanager
def failing(name: str) -> Iterator[None]:
    """Errors of the operating system inside are raised as SinkError."""
    try:
        yield
    except OSError as error:
        raise SinkError(f"cannot write {name}: {advice(error)}") from error


def sync(name: str, descriptor: int) -> None:
    """Have a file on the disk.

    An error is final, also that there is no room: what the system could not write, it may have forgotten, and another
    try would succeed without it.
    """
    with failing(name):
        os.fsync(descriptor)


def sync_folder(name: str, path: str) -> None:
    """Have the names of a folder on the disk."""
    with failing(name):
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
