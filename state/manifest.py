"""What a checkpoint consists of: one manifest, that says where everything is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from ostinato.state.envelope import Buffer, seal, unseal
from ostinato.state.errors import DamagedError
from ostinato.state.typed import decode_msgpack

FORMAT_VERSION = 1
_MAGIC: Final = b"OMAN"


class BlobRef(msgspec.Struct, frozen=True, array_like=True):
    """A blob of the store: its size in bytes and its CRC-32."""

    name: str
    size: int
    crc: int


class Piece(msgspec.Struct, frozen=True, array_like=True):
    """A part of a blob. `blob` is a position in `Manifest.blobs`; `whole`: it stands for all pieces before it."""

    blob: int
    offset: int
    length: int
    crc: int
    whole: bool = True


class OperatorPieces(msgspec.Struct, frozen=True):
    """Where an operator's state is.

    `groups`: key group -> its pieces, oldest first: one that is whole, and changes to it.
    """

    header: bytes
    shared: Sequence[Piece]
    groups: Mapping[int, Sequence[Piece]]


class SourceState(msgspec.Struct, frozen=True):
    """Where reading a source goes on, by split, and its time."""

    stream: str
    positions: Mapping[int, Mapping[str, Any]]
    time: Mapping[str, Any]


class Manifest(msgspec.Struct, frozen=True):
    """A checkpoint or savepoint.

    Attributes:
        job: the job's name.
        id: counts up within a store.
        savepoint: it was asked for, and is deleted only when that is asked for.
        taken_at: wall clock at the barrier, epoch ms.
        program: the program as it was, for people to read.
        parallelism: how many workers there were.
        key_groups: fixed for the life of a job.
        sources: in the order of the plan.
        sinks: what each transactional sink needs to commit, or to take back what came later; by its name.
        operators: by name.
        counters: events, matches and the like so far, that go on counting.
        blobs: every blob that is referred to.
    """

    job: str
    id: int
    savepoint: bool
    taken_at: int
    program: str
    parallelism: int
    key_groups: int
    sources: Sequence[SourceState]
    sinks: Mapping[str, Any]
    operators: Mapping[str, OperatorPieces]
    counters: Mapping[str, int]
    blobs: Sequence[BlobRef]
    version: int = FORMAT_VERSION


def encode(manifest: Manifest) -> bytes:
    """A manifest as a store keeps it: versioned, with a checksum."""
    return seal(_MAGIC, manifest.version, msgspec.msgpack.encode(manifest))


def decode(data: Buffer, what: str) -> Manifest:
    """The manifest that `encode` made the bytes of; `what` names it in errors ("checkpoint 17 in /var/lib/cep").

    Operators that the job does not have any more are there, for whoever restores it to decide about.

    Raises:
        DamagedError: the bytes are not whole.
        SnapshotError: they are of a later release.
    """
    version, content = unseal(_MAGIC, FORMAT_VERSION, data, what)
    try:
        manifest = decode_msgpack(content, Manifest)
    except msgspec.MsgspecError as error:
        raise DamagedError(f"{what} is damaged: its manifest cannot be read ({error})") from None
    if manifest.version != version:
        raise DamagedError(f"{what} is damaged: it says format {manifest.version} inside and {version} outside")
    for operator, pieces in manifest.operators.items():
        for chain in (pieces.shared, *pieces.groups.values()):
            for piece in chain:
                if not 0 <= piece.blob < len(manifest.blobs):
                    raise DamagedError(f"{what} is damaged: operator {operator} refers to blob {piece.blob}")
    return manifest
