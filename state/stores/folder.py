"""A savepoint as a folder that holds all it needs (``manifest``, ``blobs/``), wherever it was moved to."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, NoReturn

from ostinato.state import manifest as manifests
from ostinato.state.errors import DamagedError, SnapshotError, StoreError
from ostinato.state.stores import files
from ostinato.state.stores.base import Entry, Pieces

MANIFEST: Final = "manifest"
BLOBS: Final = "blobs"
_NUMBERED: Final = re.compile(r"(chk|sp)-([1-9]\d{0,17}|0)")


def folder_name(id: int, savepoint: bool) -> str:  # noqa: A002 - what it is called everywhere
    return f"{'sp' if savepoint else 'chk'}-{id}"


def numbered(name: str) -> tuple[int, bool] | None:
    """The id in a folder's name, and whether it is that of a savepoint.

    >>> numbered("sp-3"), numbered("notes")
    ((3, True), None)
    """
    match = _NUMBERED.fullmatch(name)
    return (int(match[2]), match[1] == "sp") if match else None


def entry_of(folder: Path) -> Entry | None:
    """What is in a checkpoint's folder; None where there is no manifest. A damaged one is there, as of its file."""
    path = folder / MANIFEST
    number = numbered(folder.name)
    try:
        found = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise StoreError(f"cannot read {path}: {error.strerror}") from error
    taken_at = found.st_mtime_ns // 1_000_000
    with suppress(SnapshotError, StoreError):
        known = manifests.decode(files.read_part(path, 0, -1, f"{folder}"), f"{folder}")
        number = number or (known.id, known.savepoint)
        taken_at = known.taken_at
    return Entry(*(number or (0, True)), taken_at, found.st_size)


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """Where to write a checkpoint's folder, the manifest last; it gets its name once all is there.

    Raises OSError, FileExistsError where there is such a folder by then.
    """
    passing = files.temporary(folder)
    try:
        passing.mkdir()
        yield passing
        if folder.exists():
            raise FileExistsError(errno.EEXIST, "there is one already", str(folder))
        passing.rename(folder)
    except BaseException as error:
        with suppress(OSError):
            files.remove(passing)
        if isinstance(error, OSError) and error.errno == errno.ENOTEMPTY:
            raise FileExistsError(errno.EEXIST, "there is one already", str(folder)) from None
        raise
    files.sync_folder(folder.parent)


def link(source: Path, target: Path) -> None:
    """The same file under a second name, or a copy of it where the file system cannot do that."""
    try:
        os.link(source, target)
    except FileNotFoundError:
        raise
    except OSError:
        files.write(target, [source.read_bytes()])


class SavepointFolder:
    """The store that such a folder is: with one entry, and never changed. See `CheckpointStore`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def address(self) -> str:
        return str(self.folder)

    @property
    def location(self) -> str:
        return str(self.folder)

    def get(self, name: str, offset: int = 0, length: int = -1) -> bytes:
        return files.read_part(self.folder / BLOBS / name, offset, length, f"blob {name} of savepoint {self.folder}")

    def entries(self) -> list[Entry]:
        entry = entry_of(self.folder)
        return [entry] if entry else []

    def manifest(self, id: int) -> bytes:  # noqa: A002, ARG002 - there is only one
        return files.read_part(self.folder / MANIFEST, 0, -1, f"the manifest of savepoint {self.folder}")

    def close(self) -> None: ...

    def release(self) -> None: ...

    # What would change it

    def acquire(self, owner: str, *, seize: bool = False) -> int:  # noqa: ARG002
        self._refuse()

    def join(self, token: int) -> None:  # noqa: ARG002
        self._refuse()

    def put(self, name: str, data: Pieces) -> None:  # noqa: ARG002
        self._refuse()

    def commit(self, entry: Entry, manifest: bytes) -> None:  # noqa: ARG002
        self._refuse()

    def delete(self, id: int, blobs: Collection[str]) -> None:  # noqa: A002, ARG002
        self._refuse()

    def sweep(self, keep: Collection[str]) -> int:  # noqa: ARG002
        self._refuse()

    def _refuse(self) -> NoReturn:
        raise StoreError(
            f"{self.folder} is a savepoint, which never changes: give its directory, or another one, for checkpoints"
        )


def damaged_if_missing(folder: Path) -> None:
    """Raises DamagedError where a folder is no savepoint."""
    if not (folder / MANIFEST).is_file():
        raise DamagedError(f"{folder} is no savepoint: it has no file {MANIFEST!r}")
