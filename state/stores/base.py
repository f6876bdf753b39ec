"""What a checkpoint store is to the rest: named blobs, and checkpoints that refer to them.

A store belongs to one job and, at any time, to one owner. The owner gets a *fencing token*, larger than every one
before; all that changes the store carries it, and is refused once there is a larger one. Blobs are written first, by
any process that was told the token; the checkpoint that names them is committed last, atomically. What no checkpoint
refers to is rubbish, which the owner sweeps.

Methods block, and may be called from any thread.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

Pieces: TypeAlias = Sequence[bytes | bytearray | memoryview]


@dataclass(frozen=True, slots=True)
class Entry:
    """A checkpoint in a store. `taken_at` is epoch ms; `size` is that of the manifest, bytes."""

    id: int
    savepoint: bool
    taken_at: int
    size: int


class CheckpointStore(Protocol):
    """Raises StoreError where it cannot be reached, FencedError where the token is no longer the largest."""

    @property
    def address(self) -> str:
        """Where it is, for messages: without its password."""

    @property
    def location(self) -> str:
        """Where it is, for opening it again (`ostinato.state.stores.open_store`); never to be shown."""

    def acquire(self, owner: str, *, seize: bool = False) -> int:
        """Become the owner; `owner` says who, for the messages of others. Returns the fencing token.

        `seize`: also where somebody else is and lives, who is fenced off: something else has decided that it is ours.

        Raises:
            OccupiedError: somebody else is, and lives; the message names them.
            DurabilityError: it cannot prove that what it takes survives a crash.
        """

    def join(self, token: int) -> None:
        """Write in the name of the owner, who has this token."""

    def put(self, name: str, data: Pieces) -> None:
        """Keep a blob; it is durable when this returns."""

    def get(self, name: str, offset: int = 0, length: int = -1) -> bytes:
        """A part of a blob, all of it by default. Raises DamagedError where the blob is missing or too short."""

    def commit(self, entry: Entry, manifest: bytes) -> None:
        """Make a checkpoint known, atomically and durably; its blobs have been put."""

    def entries(self) -> list[Entry]:
        """The checkpoints and savepoints, newest first."""

    def manifest(self, id: int) -> bytes:  # noqa: A002 - what it is called everywhere
        """What was committed. Raises DamagedError where there is none."""

    def delete(self, id: int, blobs: Collection[str]) -> None:  # noqa: A002
        """Forget a checkpoint, then the blobs that nothing else refers to."""

    def sweep(self, keep: Collection[str]) -> int:
        """Delete all blobs but these and those that checkpoints here refer to: what crashed attempts have left.

        Returns the number of bytes.
        """

    def release(self) -> None:
        """Give up ownership."""

    def close(self) -> None: ...
