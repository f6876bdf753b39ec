"""Where the running servers of this user on this machine are reached.

A server holds a lock on its entry for as long as it lives, however it ends; an entry that nobody holds is of a server
that is gone, and is swept by whoever comes across it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from ostinato.server.registry import RegistryError, runtime_folder
from ostinato.state.typed import decode_json

_FOLDER = "servers"
_ENTRY = ".json"
_MOST_BYTES = 1 << 16


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """How a running server is reached.

    Attributes:
        url: its address, as `http://127.0.0.1:8642`.
        pid: its process.
        since_ms: when it started (epoch ms).
        data_dir: its data directory, absolute.
        token_file: a file with a token for it, that only its owner can read; None where it asks for none.
        ca_file: certificates that its own is to be checked with; None: those of the system.
    """

    url: str
    pid: int
    since_ms: int
    data_dir: str
    token_file: str | None = None
    ca_file: str | None = None

    def token(self) -> str | None:
        """The token of its file; None where there is none to be read."""
        if self.token_file is None:
            return None
        try:
            return Path(self.token_file).read_text(encoding="ascii").strip() or None
        except (OSError, UnicodeDecodeError):
            return None


def _folder() -> Path:
    folder = runtime_folder() / _FOLDER
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise RegistryError(f"cannot use {folder} for running servers: {error.strerror}") from error
    return folder


@contextmanager
def registered(endpoint: Endpoint) -> Iterator[None]:
    """Let the commands of this user find the server in this process, within.

    Raises:
        RegistryError: the folder of what runs cannot be used.
    """
    folder = _folder()
    name = secrets.token_hex(6)
    # a draft's name does not end like an entry's: nobody may take it for one of a server that is gone
    path, draft = folder / (name + _ENTRY), folder / f".{name}"
    try:
        descriptor = os.open(draft, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise RegistryError(f"cannot write {draft}: {error.strerror}") from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            os.write(descriptor, msgspec.json.encode(endpoint))
            # only what is whole and held gets the name under which it is looked for
            draft.rename(path)
        except OSError as error:
            draft.unlink(missing_ok=True)
            raise RegistryError(f"cannot write {path}: {error.strerror}") from error
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(descriptor)


def running_servers() -> list[Endpoint]:
    """The servers that live, the oldest first; the entries of those that are gone are deleted.

    Raises:
        RegistryError: the folder of what runs cannot be used.
    """
    living = []
    for path in _folder().glob("*" + _ENTRY):
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            continue  # gone in this very moment
        try:
            if _is_held(descriptor):
                # of another release of ours: it lives, but how it is reached is not known here
                with contextlib.suppress(msgspec.DecodeError):
                    living.append(decode_json(os.read(descriptor, _MOST_BYTES), Endpoint))
            else:
                path.unlink(missing_ok=True)
        finally:
            os.close(descriptor)
    return sorted(living, key=lambda endpoint: endpoint.since_ms)


def _is_held(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    return False
