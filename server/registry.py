"""The running jobs of this machine: a folder with an entry and a socket for each.

Each job holds a lock on its entry for as long as it lives, however it ends; an entry that nobody holds is of a job that
is gone, and is swept by whoever comes across it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from ostinato.state.typed import decode_json

_ENTRY = ".json"
_SOCKET = ".sock"
_LONGEST_ADDRESS = 100
"""Bytes that the path of a socket may have: the system takes 108 with the null, some take 104."""


class RegistryError(Exception):
    """The folder of running jobs cannot be used; the message says why."""


class Entry(msgspec.Struct, frozen=True):
    """A running job: `since` is epoch ms, `checkpoints` the address of its store."""

    id: str
    name: str
    pid: int
    since: int
    parallelism: int
    program: str
    checkpoints: str | None = None


def runtime_folder() -> Path:
    """Where running jobs are to be found: made, and checked to be this user's alone.

    Raises:
        RegistryError: it cannot be made, or others may use it.
    """
    own = os.environ.get("OSTINATO_RUNTIME_DIR")
    session = os.environ.get("XDG_RUNTIME_DIR")
    if own:
        folder = Path(own)
    elif session:
        folder = Path(session) / "ostinato"
    else:
        folder = Path(f"/tmp/ostinato-{os.getuid()}")  # noqa: S108 - made and checked to be ours alone
    try:
        if own:
            folder.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            folder.mkdir(mode=0o700)
        found = folder.lstat()
    except OSError as error:
        said = (error.strerror or str(error)).lower()
        raise RegistryError(f"cannot use {folder} for running jobs: {said}; set OSTINATO_RUNTIME_DIR") from error
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise RegistryError(
            f"{folder} is not a folder that is yours alone; make it so (chmod 700) or set OSTINATO_RUNTIME_DIR"
        )
    return folder


class Registration:
    """The entry of the job in this process, which is listed until `close`."""

    def __init__(self, folder: Path, *, name: str, parallelism: int, program: str, checkpoints: str | None) -> None:
        """Raises RegistryError."""
        since = time.time_ns() // 1_000_000
        self.entry = Entry(secrets.token_hex(6), name, os.getpid(), since, parallelism, program, checkpoints)
        self.socket_path = folder / (self.entry.id + _SOCKET)
        self._path = folder / (self.entry.id + _ENTRY)
        draft = folder / f".{self.entry.id}"
        try:
            sweep(folder)
            self._descriptor = os.open(draft, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
            fcntl.flock(self._descriptor, fcntl.LOCK_EX)
            os.write(self._descriptor, msgspec.json.encode(self.entry))
        except OSError as error:
            raise RegistryError(f"cannot write {draft}: {(error.strerror or str(error)).lower()}") from error

    def publish(self) -> None:
        """Let others find the job; its socket listens by now."""
        draft = self._path.with_name(f".{self.entry.id}")
        draft.rename(self._path)

    def close(self) -> None:
        for path in (self._path, self._path.with_name(f".{self.entry.id}"), self.socket_path):
            path.unlink(missing_ok=True)
        os.close(self._descriptor)


def sweep(folder: Path) -> list[Entry]:
    """The entries of jobs that live, the oldest first; those of jobs that are gone are deleted."""
    living = []
    for path in folder.glob("*" + _ENTRY):
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
        except OSError:
            continue  # gone in this very moment
        try:
            if _is_held(descriptor):
                living.append(decode_json(os.read(descriptor, 1 << 16), Entry))
            else:
                path.unlink(missing_ok=True)
                path.with_suffix(_SOCKET).unlink(missing_ok=True)
        except msgspec.DecodeError:
            continue  # of another release of ours: it lives, but is not for us to talk to
        finally:
            os.close(descriptor)
    _sweep_drafts(folder)
    return sorted(living, key=lambda entry: entry.since)


def _sweep_drafts(folder: Path) -> None:
    """What was left by processes that died before they were listed: files under a name that begins with a dot."""
    for path in folder.glob(".*"):
        with contextlib.suppress(OSError):
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
            try:
                # One that is just being made may not be locked yet; a minute is long for that.
                old = time.time() - os.fstat(descriptor).st_mtime > 60
                if old and not _is_held(descriptor):
                    path.unlink(missing_ok=True)
                    (folder / (path.name[1:] + _SOCKET)).unlink(missing_ok=True)
            finally:
                os.close(descriptor)


def _is_held(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    return False


@contextmanager
def address_of(path: Path) -> Iterator[str]:
    """A name of a socket that is short enough for the system, however long its path is; valid within."""
    if len(os.fsencode(path)) <= _LONGEST_ADDRESS:
        yield str(path)
        return
    descriptor = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{descriptor}/{path.name}"
    finally:
        os.close(descriptor)


def socket_of(folder: Path, entry: Entry) -> Path:
    return folder / (entry.id + _SOCKET)
