"""The folder of a server: its alone, for as long as it lives."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

LOCK, TOKEN, SERVER = "lock", "token", "server.json"


class DirectoryError(Exception):
    """The data directory cannot be used; the message says why."""


class DirectoryTakenError(DirectoryError):
    """Another server has it."""


class RunningServer(msgspec.Struct, frozen=True):
    """What DATA/server.json says, for the commands of this machine: how to reach the server."""

    pid: int
    url: str
    started_ms: int


class DataDirectory:
    """A data directory that is held by this process. `path` is absolute."""

    def __init__(self, path: Path) -> None:
        """Make the folder where it is missing, for its owner alone, and take it.

        Raises:
            DirectoryTakenError: another server has it; the message says which.
            DirectoryError: it cannot be made or used.
        """
        self.path = path.expanduser().absolute()
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = os.open(self.path / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise DirectoryError(f"the data directory {self.path} cannot be used: {error.strerror}") from None
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pid = os.pread(self._lock, 20, 0).decode("ascii", "replace").strip() or "unknown"
            os.close(self._lock)
            raise DirectoryTakenError(
                f"another server (pid {pid}) has the data directory {self.path}; end it, or name another folder"
            ) from None
        try:
            self._refuse_strangers()
            os.ftruncate(self._lock, 0)
            os.pwrite(self._lock, f"{os.getpid()}\n".encode(), 0)
        except OSError as error:
            os.close(self._lock)
            raise DirectoryError(f"the data directory {self.path} cannot be used: {error.strerror}") from None
        except BaseException:
            os.close(self._lock)
            raise

    def _refuse_strangers(self) -> None:
        """What stands in the folder opens the server: nobody else may look."""
        state = self.path.stat()
        if state.st_uid != os.getuid():
            raise DirectoryError(f"the data directory {self.path} belongs to another user")
        if state.st_mode & 0o077:
            raise DirectoryError(f"others can look into the data directory: chmod 700 {self.path}")

    def announce(self, server: RunningServer) -> None:
        """Write server.json."""
        self._write(SERVER, msgspec.json.encode(server))

    def write_token(self, text: str) -> Path:
        """Keep the first token where its owner finds it; the file's path."""
        self._write(TOKEN, f"{text}\n".encode())
        return self.path / TOKEN

    @property
    def has_token(self) -> bool:
        return (self.path / TOKEN).exists()

    def _write(self, name: str, content: bytes) -> None:
        # under another name first: whoever reads it finds all of it
        beside = self.path / f".{name}.new"
        with open(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "wb") as file:  # noqa: PTH123
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(self.path / name)

    def close(self) -> None:
        """Give the folder back."""
        (self.path / SERVER).unlink(missing_ok=True)
        os.close(self._lock)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()
