"""Which checkpoints of a store stay: the newest ones, all savepoints, and every blob that one of them refers to."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from ostinato.state import manifest as manifests
from ostinato.state.errors import DamagedError, SnapshotError
from ostinato.state.manifest import Manifest
from ostinato.state.steps import reached
from ostinato.state.stores.base import CheckpointStore, Entry


class Retention:
    """Of one store, by its owner; its methods may be called from any thread."""

    def __init__(self, store: CheckpointStore, retained: int) -> None:
        """`retained`: so many checkpoints are kept."""
        self.damaged: set[int] = set()
        """Checkpoints that are of no use: they do not count as retained."""
        self.sweep_wanted = True
        """Somebody has written blobs that no checkpoint refers to."""
        self._store = store
        self._retained = retained
        self._blobs: dict[int, frozenset[str]] = {}
        self._lock = threading.Lock()

    def learn(self, entries: Sequence[Entry]) -> None:
        """What there is already. Raises StoreError."""
        with self._lock:
            for entry in entries:
                if entry.id not in self._blobs:
                    self._blobs[entry.id] = self._read(entry)

    def add(self, manifest: Manifest) -> None:
        """One more is complete."""
        with self._lock:
            self._blobs[manifest.id] = _names(manifest)

    def tidy(self) -> None:
        """Delete what is not retained any more. Raises StoreError."""
        entries = self._store.entries()
        self.learn(entries)
        usable = [entry for entry in entries if not entry.savepoint and entry.id not in self.damaged]
        newest = {entry.id for entry in usable[: self._retained]}
        self._delete([entry for entry in entries if not entry.savepoint and entry.id not in newest], entries)
        if self.sweep_wanted:
            self.sweep_wanted = False
            with self._lock:
                keep = frozenset[str]().union(*self._blobs.values())
            self._store.sweep(keep)
        reached("retain.end")

    def delete_all(self) -> None:
        """Delete every checkpoint and what else nothing refers to. Raises StoreError."""
        entries = self._store.entries()
        self.learn(entries)
        self._delete([entry for entry in entries if not entry.savepoint], entries)
        with self._lock:
            keep = frozenset[str]().union(*self._blobs.values())
        self._store.sweep(keep)

    def _delete(self, gone: Sequence[Entry], entries: Sequence[Entry]) -> None:
        for entry in reversed(gone):  # the oldest first: what is left at any moment is of use
            with self._lock:
                own = self._blobs.pop(entry.id, frozenset())
                kept = [self._blobs.get(other.id, frozenset()) for other in entries if other.id != entry.id]
                blobs = own.difference(*kept)
            self._store.delete(entry.id, blobs)

    def _read(self, entry: Entry) -> frozenset[str]:
        try:
            return _names(manifests.decode(self._store.manifest(entry.id), f"checkpoint {entry.id}"))
        except (DamagedError, SnapshotError):
            # Nobody can say what it refers to: a sweep might take blobs of another release's checkpoint.
            return frozenset()


def _names(manifest: Manifest) -> frozenset[str]:
    return frozenset(blob.name for blob in manifest.blobs)
