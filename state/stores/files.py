"""Files that are there entirely or not at all, after a crash too."""

from __future__ import annotations

import errno
import itertools
import os
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from ostinato.state.errors import DamagedError, StoreError
from ostinato.state.steps import reached
from ostinato.state.stores.base import Pieces

TEMPORARY: Final = ".tmp-"
"""What is being written has a name that begins so: ``.tmp-PID-NUMBER-NAME``."""
_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.=+-]{0,199}")
_STALE_SECONDS: Final = 3600
"""A temporary file whose process seems to live is left alone so long: another process may have got its id."""
_BUFFER_BYTES: Final = 1 << 20

_ADVICE: Final = {
    errno.ENOSPC: "the disk is full: free some space; the next checkpoint tries again",
    errno.EDQUOT: "the quota is used up: free some space; the next checkpoint tries again",
    errno.EROFS: "the file system is read-only: mount it for writing, or choose another directory",
    errno.EACCES: "this user may not do that: change the directory's owner or rights, or choose another one",
    errno.EPERM: "this user may not do that: change the directory's owner or rights, or choose another one",
    errno.EIO: "the disk reports an error: look at the kernel's log (dmesg), and have a savepoint elsewhere",
    errno.EMFILE: "too many open files: raise the limit (ulimit -n)",
    errno.ENOENT: "it has been deleted or moved away",
    errno.ESTALE: "the network file system has lost it: look after the server or the mount",
}

_count = itertools.count()


@contextmanager
def saying(doing: str) -> Iterator[None]:
    """Turn errors of the operating system into a StoreError that says what was being done and what to do."""
    try:
        yield
    except OSError as error:
        advice = _ADVICE.get(error.errno or 0, "look at the disk and the directory")
        raise StoreError(f"{doing}: {error.strerror or error}; {advice}") from error


def checked_name(name: str) -> str:
    """A name that is safe as that of a file."""
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name!r} is no name for a blob: letters, digits and any of _ . = + - may be in it")
    return name


def temporary(path: Path) -> Path:
    """Where to write what is to become `path`."""
    return path.with_name(f"{TEMPORARY}{os.getpid()}-{next(_count)}-{path.name}")


def write(path: Path, data: Pieces, step: str = "") -> None:
    """Write a file that is durable when this returns, and was not there under its name before; may replace another.

    `step`: where tests let faults strike once the bytes are durable under a passing name. Raises OSError.
    """
    with _durable(path, data) as passing:
        if step:
            reached(step)
        passing.rename(path)
    sync_folder(path.parent)


def create(path: Path, data: Pieces) -> bool:
    """The same, where there is no such file yet; False where there is one. Of several who try, one succeeds."""
    with _durable(path, data) as passing:
        try:
            os.link(passing, path)
        except FileExistsError:
            return False
        except FileNotFoundError:
            raise
        except OSError:  # a file system that has no links: the name first, then what is in it
            try:
                path.touch(exist_ok=False)
            except FileExistsError:
                return False
            passing.rename(path)
    sync_folder(path.parent)
    return True


@contextmanager
def _durable(path: Path, data: Pieces) -> Iterator[Path]:
    """What is to become `path`, written under a passing name, which is gone in the end."""
    passing = temporary(path)
    try:
        with passing.open("xb", buffering=_BUFFER_BYTES) as file:
            for piece in data:
                file.write(piece)
            file.flush()
            os.fsync(file.fileno())
        yield passing
    finally:
        with suppress(OSError):
            passing.unlink()


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def make_folder(folder: Path) -> None:
    """Make a folder and those it is in, durably."""
    missing = []
    at = folder
    while not at.is_dir():
        missing.append(at)
        at = at.parent
    for path in reversed(missing):
        path.mkdir(exist_ok=True)
        sync_folder(path.parent)


def read_part(path: Path, offset: int, length: int, what: str) -> bytes:
    """A part of a file, to its end where `length` is -1. Raises DamagedError where it is missing or too short."""
    try:
        with saying(f"cannot read {what} ({path})"), path.open("rb", buffering=0) as file:
            size = os.fstat(file.fileno()).st_size
            wanted = max(0, size - offset) if length < 0 else length
            if offset + wanted > size or offset > size:
                raise DamagedError(f"{what} ({path}) is cut short: {size} bytes instead of {offset + wanted} or more")
            parts, at = [], offset
            while wanted:
                part = os.pread(file.fileno(), min(wanted, 1 << 30), at)
                if not part:
                    raise DamagedError(f"{what} ({path}) was cut short while it was read")
                parts.append(part)
                at += len(part)
                wanted -= len(part)
            return parts[0] if len(parts) == 1 else b"".join(parts)
    except StoreError as error:
        if isinstance(error.__cause__, FileNotFoundError | NotADirectoryError):
            raise DamagedError(f"{what} is missing ({path})") from None
        raise


def sweep_temporary(folder: Path) -> int:
    """Delete what processes that live no more were writing in a folder. Returns its size in bytes."""
    freed = 0
    if not folder.is_dir():
        return 0
    for path in folder.iterdir():
        if not path.name.startswith(TEMPORARY):
            continue
        # whoever writes it may finish, or fail and delete it, at the same time
        with suppress(FileNotFoundError):
            if not _is_being_written(path):
                freed += size_of(path)
                remove(path)
    return freed


def size_of(path: Path) -> int:
    """The bytes of a file, or of all files in a folder."""
    if not path.is_dir():
        return path.lstat().st_size
    return sum(size_of(inner) for inner in path.iterdir())


def remove(path: Path) -> None:
    """Delete a file or a folder with all that is in it; nothing happens where there is none."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _is_being_written(path: Path) -> bool:
    process = path.name.removeprefix(TEMPORARY).split("-")[0]
    if not process.isdigit() or time.time() - path.stat().st_mtime > _STALE_SECONDS:
        return False
    try:
        os.kill(int(process), 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    return True
