"""Writing the state that the operators of one process gave at a barrier."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import msgspec

from ostinato.cep.runtime.chains import Part
from ostinato.state.blobs import BlobWriter
from ostinato.state.operator import OperatorState
from ostinato.state.records import Records
from ostinato.state.steps import reached
from ostinato.state.stores import StoreOptions, open_store
from ostinato.state.stores.base import CheckpointStore


class StoreSpec(msgspec.Struct, frozen=True):
    """A store, and in whose name to write to it, as plain values."""

    address: str
    job: str
    token: int
    durability: str = "proven"
    timeout_seconds: float = 30.0
    lease_seconds: float = 10.0

    @staticmethod
    def of(address: str, job: str, token: int, options: StoreOptions) -> StoreSpec:
        return StoreSpec(address, job, token, options.durability, options.timeout_seconds, options.lease_seconds)

    def open(self) -> CheckpointStore:
        """The store, opened for reading; `join` it with the token to write."""
        durability: Any = self.durability
        options = StoreOptions(durability, self.timeout_seconds, self.lease_seconds)
        return open_store(self.address, job=self.job, options=options)


class Order(msgspec.Struct, frozen=True):
    """A checkpoint that is to be taken.

    Attributes:
        id: that of the barrier.
        blob: what the names of its blobs begin with; no other attempt uses it.
        whole: by operator the key groups that are wanted in full; None: all that there is.
        store: where to, None: the job's own store.
    """

    id: int
    blob: str
    whole: Mapping[str, list[int]] | None = None
    store: StoreSpec | None = None


def write_part(
    order: Order,
    worker: int,
    owned: range,
    state: Mapping[str, OperatorState],
    store: CheckpointStore,
    *,
    snapshot_seconds: float = 0.0,
    is_void: Callable[[], bool] = lambda: False,
) -> Part:
    """Pack and store what the operators of one worker gave of the key groups that it owns.

    Raises:
        StoreError: the store did not take it; or `is_void`, and nobody waits for it any more.
    """
    began = time.monotonic()

    def put(name: str, data: Any) -> None:
        if is_void():
            raise VoidError
        store.put(name, data)

    writer = BlobWriter(f"{order.blob}-w{worker}", put)
    for operator, own in state.items():
        # An operator does not know which groups are other workers', and says of those too that they are empty.
        writer.add(operator, replace(own, groups=_Owned(own.groups, owned)))
    packed = writer.finish()
    reached("snapshot.durable")
    return Part(worker, packed.blobs, packed.operators, snapshot_seconds, time.monotonic() - began)


class _Owned(Mapping[int, Records]):
    """Some of the groups of an operator, which are made when they are asked for."""

    def __init__(self, groups: Mapping[int, Records], owned: range) -> None:
        self._groups = groups
        self._owned = [group for group in groups if group in owned]

    def __getitem__(self, group: int) -> Records:
        return self._groups[group]

    def __iter__(self) -> Iterator[int]:
        return iter(self._owned)

    def __len__(self) -> int:
        return len(self._owned)


class VoidError(Exception):
    """Nobody waits for this checkpoint any more."""
