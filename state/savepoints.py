"""Checkpoints and savepoints as users name them; copying them from one store into another."""

from __future__ import annotations

import os
import re
import secrets
import time
import zlib
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from ostinato.state import manifest as manifests
from ostinato.state.blobs import BLOB_BYTES, PieceReader, current
from ostinato.state.errors import SnapshotError, StoreError
from ostinato.state.manifest import BlobRef, Manifest, OperatorPieces, Piece
from ostinato.state.stores import StoreOptions, directory_of, files, is_redis, open_store
from ostinato.state.stores.base import CheckpointStore, Entry, Pieces
from ostinato.state.stores.directory import DirectoryStore, is_store
from ostinato.state.stores.folder import BLOBS, MANIFEST, folder_name, new_folder, numbered

_NAMED: Final = re.compile(r"(?:(?P<job>.+)/)?(?:(?P<kind>chk|sp)-)?(?P<id>\d{1,18})", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Place:
    """What an address means: a store, and a checkpoint in it where one was named."""

    store: CheckpointStore
    id: int | None
    job: str

    def chosen(self) -> int:
        """The checkpoint that was named, the newest where none was. Raises SnapshotError where there is none."""
        entries = self.store.entries()
        if self.id is None:
            if not entries:
                raise SnapshotError(f"there is no checkpoint and no savepoint in {self.store.address}")
            return entries[0].id
        if all(entry.id != self.id for entry in entries):
            there = ", ".join(folder_name(entry.id, entry.savepoint) for entry in entries) or "none"
            raise SnapshotError(f"there is no checkpoint {self.id} in {self.store.address}; there are: {there}")
        return self.id


def resolve(address: str, *, job: str = "", options: StoreOptions | None = None) -> Place:
    """What somebody means by an address; the caller closes the store.

    Args:
        address: that of a store (``DIR``, ``redis://HOST:PORT/DB``), of one checkpoint in it (``DIR/sp-3``,
            ``DIR/chk-17``, ``DIR#sp-3``, ``redis://HOST:PORT/DB#sp-3``, ``...#JOB/sp-3``), or a savepoint's folder,
            whatever it is called now.
        job: whose checkpoints, where a Redis has those of several and the address does not say.
        options: see `open_store`.

    Raises:
        ValueError: it is no address.
        SnapshotError: there is nothing of the kind.
        StoreError: the store cannot be reached.
    """
    if not is_redis(address) and directory_of(address).exists():
        place, name = address, ""
    else:
        place, _, name = address.partition("#")
    match = _NAMED.fullmatch(name) if name else None
    if name and match is None:
        raise ValueError(f"{address!r}: what is behind # is to be like sp-3, chk-17 or JOB/sp-3")
    number = int(match["id"]) if match else None
    named = (match["job"] if match else None) or job
    if is_redis(place):
        return _in_redis(place, named, number, options or StoreOptions())
    folder = directory_of(place)
    if number is None and (known := numbered(folder.name)) is not None and (folder / MANIFEST).is_file():
        if known[1]:
            return Place(open_store(str(folder), job=named), None, named)
        # a checkpoint shares what its directory has
        return Place(DirectoryStore(folder.parent, named), known[0], named)
    if not folder.is_dir():
        raise SnapshotError(f"there is no directory {folder}")
    store = open_store(str(folder), job=named)
    if isinstance(store, DirectoryStore):
        savepoint = folder / folder_name(number, savepoint=True) if number is not None else None
        if savepoint is not None and savepoint.is_dir():
            return Place(open_store(str(savepoint), job=named), None, named)
        owner = store.owner()
        if owner is None and not store.entries():
            raise SnapshotError(f"{folder} has no checkpoints in it")
        named = named or (owner.job if owner else "")
    return Place(store, number, named)


def places(address: str, *, job: str = "", options: StoreOptions | None = None) -> list[Place]:
    """The same, but of all jobs where a Redis has several and the address names none. Raises as `resolve` does."""
    if not is_redis(address) or job or "#" in address:
        return [resolve(address, job=job, options=options)]
    from ostinato.state.stores.redis import RedisStore

    with closing(RedisStore(address, "", options or StoreOptions())) as store:
        jobs = store.jobs()
        if not jobs:
            raise SnapshotError(f"{store.address} has no checkpoints in it")
    return [resolve(address, job=job, options=options) for job in jobs]


def read(place: Place) -> Manifest:
    """The manifest of the checkpoint that is meant. Raises SnapshotError, DamagedError, StoreError."""
    number = place.chosen()
    return manifests.decode(place.store.manifest(number), f"checkpoint {number} in {place.store.address}")


def copy(source: CheckpointStore, number: int, target: str, *, options: StoreOptions | None = None) -> str:
    """Make a savepoint in another store of a checkpoint or savepoint; returns its address.

    It holds all it needs, and only that; every piece is checked on the way.

    Args:
        source: where it is.
        number: which it is.
        target: the address of a store, or any directory: savepoints are folders there.
        options: see `open_store`.

    Raises:
        DamagedError, SnapshotError: it is not whole, or of a later release.
        OccupiedError, StoreError: the target is in use by a job that runs, or cannot be written.
    """
    what = f"checkpoint {number} in {source.address}"
    manifest = manifests.decode(source.manifest(number), what)
    if not is_redis(target):
        folder = directory_of(target)
        if (folder / MANIFEST).is_file():
            raise StoreError(f"{folder} is a savepoint: give the directory that the copy is to be in")
        if not is_store(folder):
            return _copy_to_folder(source, manifest, folder)
    with closing(open_store(target, job=manifest.job, options=options)) as store:
        store.acquire(f"copying {what}")
        new = max((entry.id for entry in store.entries()), default=0) + 1
        copied = _copy_pieces(source, manifest, new, store)
        data = manifests.encode(copied)
        store.commit(Entry(new, True, copied.taken_at, len(data)), data)
        name = folder_name(new, savepoint=True)
        return f"{store.address}#{manifest.job}/{name}" if is_redis(target) else f"{store.address}/{name}"


def delete(place: Place) -> None:
    """Delete the savepoint that is meant.

    Raises:
        SnapshotError: it is not one.
        OccupiedError: it is in a Redis that a running job owns.
        StoreError: the store cannot be reached, or written.
    """
    number = place.chosen()
    entry = next(entry for entry in place.store.entries() if entry.id == number)
    if not entry.savepoint:
        raise SnapshotError(f"{number} in {place.store.address} is a checkpoint, which its job deletes by itself")
    folder = _savepoint_folder(place.store, number)
    if folder is not None:
        with files.saying(f"cannot delete {folder}"):
            passing = files.temporary(folder)
            folder.rename(passing)
            files.sync_folder(folder.parent)
            files.remove(passing)
        return
    own, others = set[str](), set[str]()
    for other in place.store.entries():
        decoded = manifests.decode(place.store.manifest(other.id), f"checkpoint {other.id} in {place.store.address}")
        (own if other.id == number else others).update(blob.name for blob in decoded.blobs)
    place.store.acquire("deleting a savepoint")
    place.store.delete(number, own - others)
    place.store.release()


def _in_redis(address: str, job: str, number: int | None, options: StoreOptions) -> Place:
    from ostinato.state.stores.redis import RedisStore

    if not job:
        with closing(RedisStore(address, "", options)) as store:
            jobs = store.jobs()
            shown = store.address
        if not jobs:
            raise SnapshotError(f"{shown} has no checkpoints in it")
        if len(jobs) > 1:
            raise SnapshotError(
                f"{shown} has checkpoints of several jobs ({', '.join(jobs)}): say which one is meant, as in "
                f"{shown}#{jobs[0]}/{number if number is not None else 'sp-1'}"
            )
        (job,) = jobs
    return Place(RedisStore(address, job, options), number, job)


def _savepoint_folder(store: CheckpointStore, number: int) -> Path | None:
    from ostinato.state.stores.folder import SavepointFolder

    if isinstance(store, SavepointFolder):
        return store.folder
    return store.folder / folder_name(number, savepoint=True) if isinstance(store, DirectoryStore) else None


def _copy_to_folder(source: CheckpointStore, manifest: Manifest, directory: Path) -> str:
    """As a folder of its own, in a directory that belongs to no job."""
    with files.saying(f"cannot write a savepoint into {directory}"):
        files.make_folder(directory)
        while True:
            used = [known[0] for path in directory.iterdir() if (known := numbered(path.name)) is not None]
            number = max(used, default=0) + 1
            folder = directory / folder_name(number, savepoint=True)
            try:
                with new_folder(folder) as passing:
                    files.make_folder(passing / BLOBS)
                    copied = _copy_pieces(source, manifest, number, _Folder(passing / BLOBS))
                    files.write(passing / MANIFEST, [manifests.encode(copied)])
                return str(folder)
            except FileExistsError:
                # somebody else has taken the number
                continue


@dataclass(frozen=True, slots=True)
class _Folder:
    """Takes blobs."""

    folder: Path

    def put(self, name: str, data: Pieces) -> None:
        files.write(self.folder / files.checked_name(name), data)


class _Copying:
    """Writes pieces one after the other into blobs of a bounded size."""

    def __init__(self, target: CheckpointStore | _Folder, name: str) -> None:
        self.blobs: list[BlobRef] = []
        self._target = target
        self._name = name
        self._data: list[bytes] = []
        self._size = 0

    def add(self, data: bytes, piece: Piece) -> Piece:
        if self._data and self._size + len(data) > BLOB_BYTES:
            self.flush()
        moved = Piece(len(self.blobs), self._size, piece.length, piece.crc, piece.whole)
        self._data.append(data)
        self._size += len(data)
        return moved

    def flush(self) -> None:
        if not self._data:
            return
        crc = 0
        for part in self._data:
            crc = zlib.crc32(part, crc)
        name = f"{self._name}.{len(self.blobs)}"
        self._target.put(name, self._data)
        self.blobs.append(BlobRef(name, self._size, crc))
        self._data, self._size = [], 0


def _copy_pieces(source: CheckpointStore, manifest: Manifest, new: int, target: CheckpointStore | _Folder) -> Manifest:
    """The pieces that count, into the target; the manifest that refers to them there."""
    copying = _Copying(target, f"sp-{new}-{time.time_ns():x}-{os.getpid()}-{secrets.token_hex(3)}")
    operators = {}
    for operator, pieces in manifest.operators.items():
        chains: dict[int, Sequence[Piece]] = {group: current(chain) for group, chain in sorted(pieces.groups.items())}
        reader = PieceReader(
            source, manifest.blobs, [*pieces.shared, *(piece for chain in chains.values() for piece in chain)]
        )
        what = f"operator {operator} of checkpoint {manifest.id}"
        operators[operator] = OperatorPieces(
            pieces.header,
            [copying.add(bytes(reader.read(piece, what)), piece) for piece in pieces.shared],
            {
                group: [
                    copying.add(bytes(reader.read(piece, f"key group {group} of {what}")), piece) for piece in chain
                ]
                for group, chain in chains.items()
            },
        )
    copying.flush()
    return msgspec.structs.replace(manifest, id=new, savepoint=True, operators=operators, blobs=copying.blobs)
