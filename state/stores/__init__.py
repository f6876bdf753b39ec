"""Checkpoint stores, by their address."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from ostinato.state.stores.base import CheckpointStore, Entry
from ostinato.state.stores.options import StoreOptions

__all__ = ["CheckpointStore", "Entry", "StoreOptions", "is_redis", "open_store"]

_REDIS: Final = ("redis://", "rediss://", "unix://")


def is_redis(address: str) -> bool:
    return address.startswith(_REDIS)


def open_store(address: str, *, job: str, options: StoreOptions | None = None) -> CheckpointStore:
    """The store at an address; it is reached, or made, only when it is asked for something.

    Args:
        address: a directory (a path, or ``file:PATH``), a Redis (``redis://HOST:PORT/DB``, ``rediss://`` with TLS,
            ``unix://PATH?db=DB``), or a savepoint's folder, which can only be read.
        job: the job whose checkpoints they are; in a directory that is only read it may be empty.
        options: see there.

    Raises:
        ValueError: that is no such address.
    """
    if is_redis(address):
        if ":***@" in address:
            raise ValueError(f"{address}: write the password in place of ***, which is shown instead of it")
        from ostinato.state.stores.redis import RedisStore

        return RedisStore(address, job, options or StoreOptions())
    from ostinato.state.stores.directory import DirectoryStore
    from ostinato.state.stores.folder import MANIFEST, SavepointFolder

    folder = directory_of(address)
    if (folder / MANIFEST).is_file():
        return SavepointFolder(folder)
    return DirectoryStore(folder, job)


def directory_of(address: str) -> Path:
    """The path that an address of a directory means, made absolute. Raises ValueError."""
    path = address.removeprefix("file://") if address.startswith("file://") else address.removeprefix("file:")
    scheme, colon, _ = path.partition("://")
    if not path or (colon and scheme.isalnum()):
        raise ValueError(
            f"{address!r} is no address of a checkpoint store: give a directory, or redis://HOST:PORT/DB "
            "(rediss:// with TLS, unix://PATH for a socket)"
        )
    return Path(path).expanduser().absolute()
