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
    return OperatorPieces(pieces.header, [], chains), [*before.blobs, *blobs]
