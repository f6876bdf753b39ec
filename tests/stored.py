"""Checkpoints as a job makes them, without a job."""

from __future__ import annotations

import secrets
from collections.abc import Mapping

from ostinato.state import manifest as manifests
from ostinato.state.blobs import BlobWriter, Stored
from ostinato.state.manifest import BlobRef, Manifest, OperatorPieces, Piece
from ostinato.state.operator import OperatorState
from ostinato.state.records import Records
from ostinato.state.stores.base import CheckpointStore, Entry

State = Mapping[int, Mapping[bytes, bytes]]
"""By key group: key -> value."""

HEADER = b"\x81\xa4kind\xa4test"


def write_checkpoint(
    store: CheckpointStore,
    number: int,
    changes: State,
    *,
    before: Manifest | None = None,
    whole: bool = True,
    savepoint: bool = False,
    shared: bytes = b"",
    job: str = "logins",
) -> Manifest:
    """One operator's state in a checkpoint; changes to that of `before` where it is not `whole`."""
    writer = BlobWriter(f"{number}-{secrets.token_hex(4)}", store.put)
    groups = {group: Records.of(records.items()) for group, records in changes.items()}
    writer.add("match", OperatorState(HEADER, groups, groups.keys() if whole else (), shared))
    packed = writer.finish()
    pieces, blobs = packed.operators["match"], list(packed.blobs)
    if before is not None and not whole:
        pieces, blobs = _chained(before, pieces, blobs)
    manifest = Manifest(
        job, number, savepoint, 1_700_000_000_000 + number, "program", 1, 128, [], {}, {"match": pieces}, {}, blobs
    )
    store.commit(Entry(number, savepoint, manifest.taken_at, 0), manifests.encode(manifest))
    return manifest


def read_checkpoint(store: CheckpointStore, number: int, owned: range = range(128)) -> dict[int, dict[bytes, bytes]]:
    manifest = manifests.decode(store.manifest(number), f"checkpoint {number}")
    stored = Stored("match", manifest.operators["match"], manifest.blobs, store, owned)
    return {group: dict(records.items()) for group, records in stored.records()}


def blob_names(manifest: Manifest) -> list[str]:
    return [blob.name for blob in manifest.blobs]


def _chained(before: Manifest, pieces: OperatorPieces, blobs: list[BlobRef]) -> tuple[OperatorPieces, list[BlobRef]]:
    old = before.operators["match"]
    shift = len(before.blobs)
    moved = {
        group: [Piece(piece.blob + shift, piece.offset, piece.length, piece.crc, piece.whole) for piece in chain]
        for group, chain in pieces.groups.items()
    }
    chains = {group: [*old.groups.get(group, ()), *moved.get(group, ())] for group in sorted({*old.groups, *moved})}
    shared = [Piece(piece.blob + shift, piece.offset, piece.length, piece.crc) for piece in pieces.shared]
    return OperatorPieces(pieces.header, shared, chains), [*before.blobs, *blobs]


def write_example(store: CheckpointStore) -> None:
    """What is kept in tests/fixtures/state, in the format of each release; see `EXAMPLE`."""
    first = write_checkpoint(store, 1, {3: {b"ada": b"1", b"bob": b"1"}, 77: {b"cyd": b"1" * 300}}, shared=b"waiting")
    second = write_checkpoint(
        store, 2, {3: {b"ada": b"", b"dan": b"2"}}, before=first, whole=False, shared=b"waiting 2"
    )
    write_checkpoint(store, 3, {77: {b"eve": b"3"}}, before=second, whole=False)
    write_checkpoint(store, 4, {3: {b"bob": b"4"}, 100: {"zoë".encode(): bytes(range(256))}}, savepoint=True)


EXAMPLE: Mapping[int, State] = {
    1: {3: {b"ada": b"1", b"bob": b"1"}, 77: {b"cyd": b"1" * 300}},
    2: {3: {b"bob": b"1", b"dan": b"2"}, 77: {b"cyd": b"1" * 300}},
    3: {3: {b"bob": b"1", b"dan": b"2"}, 77: {b"cyd": b"1" * 300, b"eve": b"3"}},
    4: {3: {b"bob": b"4"}, 100: {"zoë".encode(): bytes(range(256))}},
}
"""The state in each checkpoint of `write_example`; 4 is a savepoint."""
