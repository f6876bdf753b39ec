"""What can go wrong with state. Every message says what, where, and what to do."""

from __future__ import annotations

from collections.abc import Sequence


class StateError(Exception):
    """The common base."""


class SnapshotError(StateError):
    """Stored state cannot be used: it is damaged, of another format, or of a job that differs too much."""


class DamagedError(SnapshotError):
    """Bytes are cut short, changed, or missing; an older checkpoint may still be whole."""


class DroppedStateError(SnapshotError):
    """Some of the stored state has no place in the job as it is now, and nobody allowed that it be dropped."""


class StoreError(StateError):
    """A checkpoint store cannot be reached, or cannot do what was asked; trying again later may help."""


class DurabilityError(StoreError):
    """A store cannot prove that what it has taken survives a crash."""


class FencedError(StoreError):
    """Somebody else owns the store by now: what this process does is void, and it must stop."""


class OccupiedError(StoreError):
    """The store belongs to another job, or to another process that runs this one."""


class LostError(StoreError):
    """A store has lost what was durable in it: it was wiped, or has fallen back to an earlier time.

    What the next checkpoint would have built on is gone; the next one must hold everything.
    """

    def __init__(self, message: str, names: Sequence[str] = ()) -> None:
        """`names`: what is gone."""
        super().__init__(message)
        self.names = tuple(names)
