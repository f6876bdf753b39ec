"""Checkpoints in a directory: the embedded default.

::

    DIR/OWNER-12          who has it, and the fencing token (JSON); a larger token is a later owner
    DIR/LOCK              locked (flock) as long as that process lives
    DIR/blobs/NAME        what checkpoints refer to
    DIR/chk-17/manifest   a checkpoint
    DIR/sp-18/            a savepoint, which holds all it needs: manifest, blobs/NAME

Everything is written under a passing name, made durable, and renamed. A savepoint's blobs are further names (hard
links) of those in ``blobs/``, so that it can be moved away while later checkpoints build on the same blobs.

Nobody waits for anybody: a process may stand still anywhere, for hours, and must not hold up who takes over from it.
So a token is taken by making a file that was not there before, and whoever finds a larger one has lost the directory.
"""

from __future__ import annotations

import fcntl
import os
import re
import threading
from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec

from ostinato.state import manifest as manifests
from ostinato.state.errors import DamagedError, FencedError, LostError, OccupiedError, SnapshotError, StoreError
from ostinato.state.steps import reached
from ostinato.state.stores import files
from ostinato.state.stores.base import Entry, Pieces
from ostinato.state.stores.folder import (
    BLOBS,
    MANIFEST,
    entry_of,
    folder_name,
    link,
    new_folder,
    numbered,
)
from ostinato.state.stores.process import Owner, next_token
from ostinato.state.typed import decode_json

LOCK: Final = "LOCK"
_OWNER: Final = re.compile(r"OWNER(?:-([1-9]\d{0,17}))?")
"""Without a token in its name it is of an earlier release; any other is later."""
_HARMLESS: Final = frozenset((LOCK, "SEIZE", BLOBS, "lost+found"))
"""`SEIZE`: of an earlier release."""


def is_store(folder: Path) -> bool:
    """Has a folder the checkpoints of a job?"""
    return bool(_tokens(folder))


def _tokens(folder: Path) -> list[int]:
    """Of its owners, the last one last."""
    try:
        names = [path.name for path in folder.iterdir()]
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise StoreError(f"cannot read {folder}: {error.strerror}") from error
    return sorted(int(match[1] or 0) for name in names if (match := _OWNER.fullmatch(name)))


class DirectoryStore:
    """A directory of this machine, or one that is mounted. See `CheckpointStore`."""

    def __init__(self, folder: Path, job: str) -> None:
        """`job`: the one that it is to belong to; any, as long as it is only read."""
        self.folder = folder
        self._job = job
        self._blobs = folder / BLOBS
        self._token: int | None = None
        self._owner = ""
        self._lock: int | None = None
        self._seized = False
        self._guard = threading.Lock()

    @property
    def address(self) -> str:
        return str(self.folder)

    @property
    def location(self) -> str:
        return str(self.folder)

    # Ownership

    def acquire(self, owner: str, *, seize: bool = False) -> int:
        if self._lock is not None:
            raise OccupiedError(f"{self.folder} is already owned by this process")
        with files.saying(f"cannot use {self.folder} for checkpoints"):
            files.make_folder(self.folder)
            self._refuse_foreign()
            if seize:
                self._refuse_others()
            lock = self._replace_lock() if seize else self._take_lock()
            try:
                token = self._claim(owner)
                while not self._is_current(lock):
                    self._give_way(token, seize=seize)
                    lock, before = self._replace_lock(), lock
                    os.close(before)
                self._tidy(token)
            except BaseException:
                os.close(lock)
                raise
        self._lock, self._token, self._owner, self._seized = lock, token, owner, seize
        return token

    def _refuse_others(self) -> Owner | None:
        """The owner before. Raises OccupiedError where that is another job."""
        before = self._read_owner()
        if before is not None and before.job != self._job:
            raise OccupiedError(
                f"{self.folder} has the checkpoints of job {before.job}: choose another directory for job "
                f"{self._job}, or delete that one"
            )
        return before

    def _claim(self, owner: str) -> int:
        """Take a token that nobody has. Raises FencedError where somebody has taken a larger one meanwhile."""
        before = self._refuse_others()
        tokens = _tokens(self.folder)
        token = next_token(max([before.token if before else 0, *tokens]))
        while not self._write_owner(token, owner):
            token += 1
        reached("store.claimed")
        self._give_way(token, seize=True)
        return token

    def _give_way(self, token: int, *, seize: bool) -> None:
        """Raises FencedError where another token is larger, and OccupiedError where we only wanted what is free, and
        somebody has taken away the lock that we had."""
        try:
            if _tokens(self.folder)[-1:] != [token]:
                raise self._fenced()
            if not seize:
                raise OccupiedError(
                    f"{self.folder} is in use by a process that has just begun: choose another directory"
                )
        except BaseException:
            self._owner_path(token).unlink(missing_ok=True)
            raise

    def _tidy(self, token: int) -> None:
        """What earlier owners have left."""
        for other in _tokens(self.folder):
            if other < token:
                self._owner_path(other).unlink(missing_ok=True)
        for folder in (self.folder, self._blobs):
            files.sweep_temporary(folder)

    def join(self, token: int) -> None:
        self._token = token
        self._check()

    def release(self) -> None:
        """Savepoints that were taken away leave nothing behind. What was seized may belong to somebody else again, who
        has just written what no manifest refers to yet: there nothing is deleted."""
        if self._lock is not None and not self._seized:
            with suppress(StoreError):
                self.sweep(())
        lock, self._lock, self._token = self._lock, None, None
        if lock is not None:
            os.close(lock)

    def close(self) -> None:
        self.release()

    # Writing

    def put(self, name: str, data: Pieces) -> None:
        files.checked_name(name)
        self._check()
        with files.saying(f"cannot write blob {name} into {self._blobs}"):
            files.write(self._blobs / name, data, step="blob.written")

    def commit(self, entry: Entry, manifest: bytes) -> None:
        """Also raises LostError where a blob that the manifest refers to is gone."""
        name = folder_name(entry.id, entry.savepoint)
        target = self.folder / name
        self._check()
        decoded = manifests.decode(manifest, f"the new manifest of {target}")
        with files.saying(f"cannot write {target}"):
            blobs = self._blobs_of(decoded)
            if target.exists():
                # a commit that seemed to fail may have come through
                if (target / MANIFEST).is_file() and (target / MANIFEST).read_bytes() == manifest:
                    files.sync_folder(self.folder)
                    return
                raise StoreError(f"{target} is already there: ids count up within a store")
            with new_folder(target) as passing:
                if entry.savepoint:
                    files.make_folder(passing / BLOBS)
                    for blob in blobs:
                        link(blob, passing / BLOBS / blob.name)
                    files.sync_folder(passing / BLOBS)
                files.write(passing / MANIFEST, [manifest], step="manifest.written")

    def delete(self, id: int, blobs: Collection[str]) -> None:  # noqa: A002
        self._check()
        with files.saying(f"cannot delete checkpoint {id} in {self.folder}"):
            for savepoint in (False, True):
                path = self.folder / folder_name(id, savepoint)
                if path.is_dir():
                    # the whole folder vanishes at once; what is left of it then is rubbish with a passing name
                    passing = files.temporary(path)
                    path.rename(passing)
                    files.sync_folder(self.folder)
                    files.remove(passing)
            reached("retain.manifest")
            for name in blobs:
                (self._blobs / files.checked_name(name)).unlink(missing_ok=True)

    def sweep(self, keep: Collection[str]) -> int:
        self._check()
        freed = 0
        with files.saying(f"cannot tidy up {self.folder}"):
            kept = self._referred()
            if kept is None:
                return 0
            kept.update(keep)
            for path in self._blobs.iterdir():
                if path.name.startswith(files.TEMPORARY) or self._is_of_heir(path.name):
                    continue
                if path.name not in kept:
                    found = path.lstat()
                    path.unlink(missing_ok=True)
                    # one that a savepoint has too takes no less room without this name
                    freed += found.st_size if found.st_nlink == 1 else 0
            for folder in (self.folder, self._blobs):
                freed += files.sweep_temporary(folder)
        return freed

    # Reading

    def get(self, name: str, offset: int = 0, length: int = -1) -> bytes:
        files.checked_name(name)
        return files.read_part(self._find_blob(name), offset, length, f"blob {name} in {self.folder}")

    def entries(self) -> list[Entry]:
        found = [entry for folder in self._folders() if (entry := entry_of(folder)) is not None]
        return sorted(found, key=lambda entry: entry.id, reverse=True)

    def manifest(self, id: int) -> bytes:  # noqa: A002
        savepoint = (self.folder / folder_name(id, savepoint=True)).is_dir()
        path = self.folder / folder_name(id, savepoint) / MANIFEST
        return files.read_part(path, 0, -1, f"the manifest of checkpoint {id} in {self.folder}")

    def owner(self) -> Owner | None:
        """Who has it, or had it last. Raises DamagedError."""
        return self._read_owner()

    # The details

    def _folders(self) -> Iterator[Path]:
        try:
            paths = list(self.folder.iterdir())
        except FileNotFoundError:
            return
        except OSError as error:
            raise StoreError(f"cannot read {self.folder}: {error.strerror}") from error
        yield from (path for path in paths if numbered(path.name) is not None)

    def _find_blob(self, name: str) -> Path:
        path = self._blobs / name
        if not path.exists():
            for folder in self._folders():
                inside = folder / BLOBS / name
                if inside.exists():
                    return inside
        return path

    def _blobs_of(self, manifest: manifests.Manifest) -> list[Path]:
        """The files that a manifest refers to; all are there."""
        found, lost = [], []
        for blob in manifest.blobs:
            path = self._blobs / files.checked_name(blob.name)
            with suppress(FileNotFoundError):
                # what a savepoint alone has would go with it
                if not path.exists():
                    link(self._find_blob(blob.name), path)
                    files.sync_folder(self._blobs)
            if not path.exists() or path.stat().st_size != blob.size:
                lost.append(blob.name)
            found.append(path)
        if lost:
            raise LostError(f"{self._blobs} has lost {', '.join(lost)}: the next checkpoint is a whole one", lost)
        return found

    def _referred(self) -> set[str] | None:
        """The blobs that checkpoints refer to (savepoints have their own); None where one is of a later release."""
        found: set[str] = set()
        for folder in self._folders():
            if (folder / BLOBS).is_dir():
                continue
            try:
                data = files.read_part(folder / MANIFEST, 0, -1, f"the manifest of {folder}")
                found.update(blob.name for blob in manifests.decode(data, str(folder)).blobs)
            except DamagedError:
                continue
            except SnapshotError:
                return None
        return found

    def _is_of_heir(self, name: str) -> bool:
        """Was a blob, named ID-TOKEN-..., written under a larger token than ours? A process that stood still in a sweep
        may have lost the directory in between, and what its heir writes no manifest may refer to yet."""
        parts = name.split("-")
        token = parts[1] if len(parts) > 1 else ""
        return token.isdecimal() and self._token is not None and int(token) > self._token

    def _refuse_foreign(self) -> None:
        """A directory that was not made for checkpoints is not written into."""
        names = sorted(path.name for path in self.folder.iterdir())
        if any(_OWNER.fullmatch(name) for name in names):
            return
        for name in names:
            if name not in _HARMLESS and not name.startswith(files.TEMPORARY) and numbered(name) is None:
                raise OccupiedError(
                    f"{self.folder} is not empty and has no checkpoints (there is {name!r} in it): choose an empty "
                    "directory, or one that is not there yet"
                )

    def _replace_lock(self) -> int:
        """Whoever holds the lock of the file before finds a larger token, and does nothing any more."""
        path = self.folder / LOCK
        passing = files.temporary(path)
        lock = os.open(passing, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            passing.rename(path)
        except BaseException:
            os.close(lock)
            raise
        return lock

    def _is_current(self, lock: int) -> bool:
        """Is it the lock of the file that is there?"""
        with suppress(FileNotFoundError):
            return os.path.samestat(os.fstat(lock), (self.folder / LOCK).stat())
        return False

    def _take_lock(self) -> int:
        path = self.folder / LOCK
        while True:
            lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                # the file may have been deleted, and made anew by somebody else, in between
                if self._is_current(lock):
                    return lock
            except BlockingIOError:
                os.close(lock)
                raise OccupiedError(
                    f"{self.folder} is in use by {self._holder()}: stop it, or choose another directory"
                ) from None
            except BaseException:
                os.close(lock)
                raise
            os.close(lock)

    def _holder(self) -> str:
        try:
            return str(self._read_owner() or "a process that has just begun")
        except DamagedError:
            return "another process"

    def _owner_path(self, token: int) -> Path:
        return self.folder / (f"OWNER-{token}" if token else "OWNER")

    def _read_owner(self) -> Owner | None:
        """The last one that has said who it is: on a file system without links the name comes first."""
        for token in reversed(_tokens(self.folder)):
            path = self._owner_path(token)
            try:
                data = path.read_bytes()
                if data:
                    return decode_json(data, Owner)
            except FileNotFoundError:
                return self._read_owner()  # its heir has deleted it
            except OSError as error:
                raise StoreError(f"cannot read {path}: {error.strerror}") from error
            except msgspec.MsgspecError as error:
                raise DamagedError(
                    f"{path} cannot be read ({error}): if no job uses {self.folder}, delete this file, and the next "
                    "run makes it anew"
                ) from None
        return None

    def _write_owner(self, token: int, owner: str) -> bool:
        """Say who has a token; False where somebody has it already."""
        files.make_folder(self._blobs)
        said = msgspec.json.encode(Owner.this_process(self._job, token, owner))
        return files.create(self._owner_path(token), [msgspec.json.format(said, indent=2), b"\n"])

    def _fenced(self) -> FencedError:
        return FencedError(f"{self.folder} belongs by now to {self._holder()}: what this process has begun is void")

    def _check(self) -> None:
        """Is the token still the largest?"""
        if self._token is None:
            raise StoreError(f"{self.folder} is not owned by this process: it was only opened for reading")
        tokens = _tokens(self.folder)
        if not tokens:
            with self._guard:
                self._begin_anew()
        elif tokens[-1] != self._token:
            raise self._fenced()
        elif not self._blobs.is_dir():
            with files.saying(f"cannot use {self.folder} for checkpoints"):
                files.make_folder(self._blobs)
            raise LostError(
                f"{self._blobs} was deleted while it was in use: the next checkpoint is a whole one", [BLOBS]
            )

    def _begin_anew(self) -> None:
        """The directory was emptied under its owner. Raises LostError, always."""
        if self._lock is not None and not is_store(self.folder):
            with files.saying(f"cannot use {self.folder} for checkpoints"):
                files.make_folder(self.folder)
                lock = self._take_lock()
                os.close(self._lock)
                self._lock = lock
                assert self._token is not None
                self._write_owner(self._token, self._owner)
        raise LostError(f"{self.folder} was emptied while it was in use: the next checkpoint is a whole one", [BLOBS])
