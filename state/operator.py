"""What passes between an operator and whatever keeps its state.

A checkpoint asks every operator for its *changes* since the one before, or for everything; what comes back are copies,
so that writing them need not stop the operator. State that belongs to a key is given by key group, as records; what
belongs to no key (time, events that wait) is small, given whole each time, and offered to every worker on restore.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from ostinato.state.records import Records


@dataclass(frozen=True, slots=True, eq=False)
class OperatorState:
    """An operator's state at a barrier, in one process.

    Attributes:
        header: what the records mean, in the operator's own words (msgpack); the same in all workers of a job.
        groups: by key group; groups without changes are left out.
        whole: the groups whose records are all there are, where the others' are changes to those before.
        shared: what belongs to no key; empty where there is nothing.
    """

    header: bytes = b""
    groups: Mapping[int, Records] = field(default_factory=dict)
    whole: Collection[int] = ()
    shared: bytes = b""


class StoredState(Protocol):
    """An operator's state as it was stored, by however many workers."""

    @property
    def header(self) -> bytes: ...

    @property
    def shared(self) -> Sequence[bytes]:
        """Of each worker that had any."""

    @property
    def owned(self) -> range:
        """The key groups that are this worker's now. What is shared has to be looked through for them."""

    @property
    def may_drop(self) -> bool:
        """Whether state that has no place in the operator as it is now may be dropped."""

    def records(self) -> Iterator[tuple[int, Records]]:
        """The records of each owned key group, one after the other so that memory is bounded; none are empty.

        Raises DamagedError, SnapshotError, StoreError.
        """


@dataclass(frozen=True, slots=True)
class HandedOver:
    """The state of one operator for another that takes its place at once, nothing having been stored in between.

    Attributes:
        state: all of it: what `Stateful.snapshot` gave when asked for everything.
        owned: the key groups of the operator.
        may_drop: see `StoredState`.
    """

    state: OperatorState
    owned: range
    may_drop: bool = False

    @property
    def header(self) -> bytes:
        return self.state.header

    @property
    def shared(self) -> Sequence[bytes]:
        return [self.state.shared] if self.state.shared else []

    def records(self) -> Iterator[tuple[int, Records]]:
        for group in self.owned:
            records = self.state.groups.get(group)
            if records is not None and len(records):
                yield group, records


class Stateful(Protocol):
    """An operator that has state."""

    def snapshot(self, whole: Collection[int] | None) -> OperatorState:
        """The changes since the last call; all there is where that is asked for.

        `whole`: key groups that are wanted in full, None for all. An operator that was just made or restored takes
        every group with state for changed.
        """

    def restore(self, stored: StoredState) -> None:
        """Go on from stored state; the operator must be new.

        Raises:
            SnapshotError: the state is not of this operator, or was damaged.
            DroppedStateError: some of it has no place here, and `stored.may_drop` does not allow that it be dropped.
        """
