"""Addresses of checkpoint stores and savepoints as the command line gives and shows them.

A store is a directory, or a Redis (``redis://HOST:PORT/DB``). One checkpoint or savepoint of it is a folder,
``DIR/sp-3``, or, in a Redis, ``redis://HOST:PORT/DB#JOB/sp-3``; ``JOB/`` may be left out where the job is meant that
is run.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from urllib.parse import urlsplit, urlunsplit

_SCHEME = re.compile(r"[a-z][a-z0-9+]*://")
_NUMBERED = re.compile(r"(?:(?P<job>.+)/)?(?:(?P<kind>sp|chk)-)?(?P<id>\d{1,18})")


@dataclass(frozen=True, slots=True)
class SavepointAddress:
    """A checkpoint or savepoint: `id` in a store, None for the newest there; `job` None: of the job that is run."""

    store: str
    id: int | None = None
    job: str | None = None


def absolute_address(target: str | None) -> str | None:
    """An address that means the same to a process in another working folder."""
    if target is None or (_SCHEME.match(target) and not target.startswith("file://")):
        return target
    path = target.removeprefix("file://") if target.startswith("file://") else target.removeprefix("file:")
    return os.path.abspath(os.path.expanduser(path))  # noqa: PTH100, PTH111 - links are left as they are


def savepoint_address(text: str) -> SavepointAddress:
    """Where to go on from. Raises ValueError.

    >>> savepoint_address("redis://localhost/0#logins/sp-3")
    SavepointAddress(store='redis://localhost/0', id=3, job='logins')
    """
    if _SCHEME.match(text) and not text.startswith("file://"):
        store, hash_, name = text.partition("#")
        if not hash_:
            return SavepointAddress(store)
        match = _NUMBERED.fullmatch(name)
        if match is None:
            raise ValueError(f"{shown_address(text)}: write what is behind # as sp-3, chk-17 or JOB/sp-3")
        return SavepointAddress(store, int(match["id"]), match["job"])
    path = absolute_address(text)
    assert path is not None
    parent, name = os.path.split(path)
    match = re.fullmatch(r"chk-(\d{1,18})", name)
    # A savepoint's folder holds all it needs and is opened by itself; a checkpoint shares what its store has.
    return SavepointAddress(parent, int(match[1])) if match else SavepointAddress(path)


def address_of_savepoint(store: str, job: str, id: int, *, savepoint: bool = True) -> str:  # noqa: A002
    """The address under which `savepoint_address` finds it again."""
    name = f"{'sp' if savepoint else 'chk'}-{id}"
    if _SCHEME.match(store):
        return f"{store}#{job}/{name}"
    return store if os.path.basename(store) == name else os.path.join(store, name)  # noqa: PTH118, PTH119


def shown_address(address: str) -> str:
    """An address for people to see: without a password.

    >>> shown_address("redis://me:secret@localhost:6379/0")
    'redis://me:***@localhost:6379/0'
    """
    if not _SCHEME.match(address):
        return address
    parts = urlsplit(address)
    user, at, host = parts.netloc.rpartition("@")
    name, colon, _ = user.partition(":")
    return urlunsplit(parts._replace(netloc=f"{name}:***@{host}")) if at and colon else address
