"""The folder of a job of the server, and what is in it.

::

    DATA/jobs/ID/program.cep     what it runs, where that came as text
    DATA/jobs/ID/output/         its working folder: outputs with relative paths, dead letters
    DATA/jobs/ID/checkpoints/    its own
    DATA/jobs/ID/savepoints/     a folder for each that was taken
    DATA/jobs/ID/log, log.1 …    what it writes to standard output and standard error
"""

from __future__ import annotations

import contextlib
import shutil
import threading
from collections.abc import Collection
from pathlib import Path
from typing import Final

from ostinato.state.errors import StateError
from ostinato.state.stores import open_store

LOG_BYTES: Final = 1 << 20
"""A log is set aside when it is as long as this."""
LOGS: Final = 3
"""So many are kept, the one that is written included."""
_TAIL_BYTES: Final = 16 << 10


class Home:
    """The paths of one job."""

    def __init__(self, jobs: Path, job: str) -> None:
        self.folder = jobs / job
        self.program = self.folder / "program.cep"
        self.output = self.folder / "output"
        self.checkpoints = self.folder / "checkpoints"
        self.savepoints = self.folder / "savepoints"
        self.log = Log(self.folder / "log")

    def make(self, text: str | None) -> None:
        """Raises OSError."""
        for folder in (self.folder, self.output, self.savepoints):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if text is not None:
            self.program.write_text(text, "utf-8")

    def has_checkpoints(self, name: str) -> bool:
        """Is there one to go on from?"""
        if not self.checkpoints.is_dir():
            return False
        store = open_store(str(self.checkpoints), job=name)
        try:
            return bool(store.entries())
        except StateError:
            return True  # the job itself says what is wrong with it
        finally:
            store.close()

    def has_savepoint(self, target: str, name: str) -> bool:
        """Has a savepoint been written to this place, whole?"""
        if not Path(target).is_dir():
            return False
        store = open_store(target, job=name)
        try:
            return any(entry.savepoint for entry in store.entries())
        except StateError:
            return False
        finally:
            store.close()

    def drop_checkpoints(self) -> None:
        """The job is over: nobody goes on from them."""
        shutil.rmtree(self.checkpoints, ignore_errors=True)

    def remove(self) -> None:
        """Remove what is of no use to anybody: all of it where nothing was written, else all but that."""
        self.drop_checkpoints()
        for folder in (self.output, self.savepoints):
            with contextlib.suppress(OSError):
                folder.rmdir()  # only an empty one
        if not self.output.exists() and not self.savepoints.exists():
            shutil.rmtree(self.folder, ignore_errors=True)


class Log:
    """A file that is set aside when it gets long. From any thread."""

    def __init__(self, path: Path, limit: int = LOG_BYTES, kept: int = LOGS) -> None:
        self.path = path
        self._limit = limit
        self._kept = kept
        self._lock = threading.Lock()

    def write(self, data: bytes) -> None:
        """Raises OSError."""
        with self._lock:
            with self.path.open("ab") as file:
                file.write(data)
                size = file.tell()
            if size >= self._limit:
                for number in range(self._kept - 1, 0, -1):
                    older = self._numbered(number - 1)
                    if older.exists():
                        older.replace(self._numbered(number))

    def tail(self, lines: int = 50) -> list[str]:
        """The last lines."""
        with self._lock:
            held = b""
            for path in (self.path, self._numbered(1)):
                if len(held) < _TAIL_BYTES and path.exists():
                    held = _end_of(path, _TAIL_BYTES - len(held)) + held
        return held.decode("utf-8", "replace").splitlines()[-lines:]

    def _numbered(self, number: int) -> Path:
        return self.path if number == 0 else self.path.with_name(f"{self.path.name}.{number}")


def _end_of(path: Path, size: int) -> bytes:
    with path.open("rb") as file:
        end = file.seek(0, 2)
        file.seek(max(0, end - size))
        data = file.read()
    return data if end <= size else data.partition(b"\n")[2]


def make_private(folder: Path) -> None:
    """A folder for this user alone. Raises OSError."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.chmod(0o700)


def forget(homes: Collection[Home]) -> None:
    """Remove what is left of jobs that are forgotten."""
    for home in homes:
        home.remove()
