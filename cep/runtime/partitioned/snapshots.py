"""The snapshots of one partition: written before the transaction that names them, deleted after the next."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from ostinato.cep.runtime.chains import Layout
from ostinato.cep.runtime.recovery import RestorePoint
from ostinato.cep.runtime.retention import Retention
from ostinato.cep.runtime.snapshots import Order, write_part
from ostinato.state import manifest as manifests
from ostinato.state.errors import SnapshotError, StoreError
from ostinato.state.manifest import Manifest, SourceState
from ostinato.state.operator import OperatorState
from ostinato.state.stores import StoreOptions, is_redis, open_store
from ostinato.state.stores.base import CheckpointStore, Entry

_RETAINED: Final = 2
"""The one that the last commit names, and the one before, should that be damaged."""


@dataclass(frozen=True, slots=True)
class Stores:
    """Where the snapshots of a job are.

    Attributes:
        address: a Redis, or a directory.
        options: how it is opened.
        job: the job's name.
        program: for people to read.
        may_drop: state that has no place in the program any more may be dropped.
    """

    address: str
    options: StoreOptions
    job: str
    program: str = ""
    may_drop: bool = False

    def open(self, number: int) -> CheckpointStore:
        """The store of a partition number."""
        if is_redis(self.address):
            return open_store(self.address, job=f"{self.job}.{number}", options=self.options)
        return open_store(f"{self.address}/partition-{number}", job=f"{self.job}.{number}")


@dataclass(frozen=True, slots=True)
class Cut:
    """A partition at one moment, between two blocks of records.

    Attributes:
        state: by operator, copies.
        whole: it is all there is; else what has changed since the cut before.
        sources: where the sources stand.
        rows: how many rows each output stream has had.
        origins: of each source that is rekeyed, place -> the number of its split.
        counters: see `Manifest`.
        taken_at: wall clock, epoch ms.
        more: what else belongs to it, by name; plain values.
    """

    state: Mapping[str, OperatorState]
    whole: Mapping[str, Sequence[int]] | None
    sources: Sequence[SourceState]
    rows: Mapping[str, int]
    counters: Mapping[str, int]
    taken_at: int
    origins: Sequence[Mapping[str, int]] = ()
    more: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Written:
    """A snapshot that is durable, and that nothing refers to yet."""

    id: int
    crc: int
    manifest: Manifest | None


class Snapshots:
    """Of one partition, by its owner. All but `wanted` blocks, and is called from one thread at a time."""

    def __init__(self, stores: Stores, number: int, key_groups: int) -> None:
        self._stores = stores
        self._number = number
        self._groups = range(key_groups)
        self._store = stores.open(number)
        self._retention = Retention(self._store, _RETAINED)
        self._token = 0
        self._next_id = 1
        self._void: list[int] = []
        self._layout: Layout | None = None

    @property
    def address(self) -> str:
        """For messages."""
        return self._store.address

    def take(self, committed: int | None) -> None:
        """Become the owner, whoever was before: Kafka has decided that. `committed`: the snapshot that counts.

        Nothing is deleted before a transaction of ours is committed: Kafka may have decided otherwise meanwhile, and
        what seems to be nobody's be what our heir has committed. Raises StoreError.
        """
        self._token = self._store.acquire(f"partition {self._number} of {self._stores.job}", seize=True)
        entries = self._store.entries()
        self._next_id = max([entry.id for entry in entries] + [committed or 0]) + 1
        # the transactions of these were never committed, so what they hold has not happened
        self._void = [entry.id for entry in entries if committed is None or entry.id > committed]
        self._retention.learn([entry for entry in entries if entry.id not in self._void])

    def wanted(self) -> Mapping[str, list[int]] | None:
        """What the next cut has to hold in full, see `Order.whole`."""
        return None if self._layout is None else self._layout.overgrown()

    def read(self, committed: int, crc: int) -> RestorePoint:
        """The snapshot that a committed offset names. Raises SnapshotError where it is not that one, StoreError."""
        data = self._store.manifest(committed)
        what = f"snapshot {committed} in {self._store.address}"
        if zlib.crc32(data) != crc:
            raise SnapshotError(f"{what} is not the one that the committed offset names: its checksum differs")
        return RestorePoint(self._store, manifests.decode(data, what), self._stores.may_drop)

    def older(self, than: int) -> Iterator[RestorePoint | SnapshotError]:
        """The snapshots before one, newest first, and what is wrong with those that cannot be read."""
        for entry in self._store.entries():
            if entry.id < than:
                what = f"snapshot {entry.id} in {self._store.address}"
                try:
                    manifest = manifests.decode(self._store.manifest(entry.id), what)
                except SnapshotError as error:
                    yield error
                    continue
                yield RestorePoint(self._store, manifest, self._stores.may_drop)

    def write(self, cut: Cut) -> Written:
        """Make a cut durable, under a name that no other attempt uses.

        Raises StoreError (FencedError among them): the next cut has to be a whole one.
        """
        base, self._layout = self._layout, None
        number, self._next_id = self._next_id, self._next_id + 1
        order = Order(number, f"{number}-{self._token}", None)
        part = write_part(order, 0, self._groups, cut.state, self._store)
        before = Layout() if cut.whole is None or base is None else base
        if cut.whole is not None and base is None:
            raise StoreError(f"{self._store.address}: there is nothing that these changes belong to")
        layout = before.followed_by([part])
        operators, blobs = layout.pieces()
        manifest = Manifest(
            job=f"{self._stores.job}.{self._number}",
            id=number,
            savepoint=False,
            taken_at=cut.taken_at,
            program=self._stores.program,
            parallelism=1,
            key_groups=len(self._groups),
            sources=cut.sources,
            sinks={"rows": dict(cut.rows), "origins": [dict(each) for each in cut.origins], **cut.more},
            operators=operators,
            counters=cut.counters,
            blobs=blobs,
        )
        data = manifests.encode(manifest)
        self._store.commit(Entry(number, False, cut.taken_at, len(data)), data)
        self._layout = layout
        return Written(number, zlib.crc32(data), manifest)

    def tidy(self, written: Written) -> None:
        """The transaction that names it is committed: older ones may go, but for one. Raises StoreError."""
        assert written.manifest is not None
        while self._void:
            self._store.delete(self._void[-1], ())
            self._void.pop()
        self._retention.add(written.manifest)
        self._retention.tidy()

    def close(self) -> None:
        """Give it up."""
        self._store.close()


class NoSnapshots:
    """Of a router: all that it would have to know is in its topics."""

    address = "nowhere"

    def wanted(self) -> Mapping[str, list[int]] | None:
        return {}

    def write(self, cut: Cut) -> Written:  # noqa: ARG002 - there is nothing in it
        return Written(0, 0, None)

    def tidy(self, written: Written) -> None:
        """There is nothing to delete."""

    def close(self) -> None:
        """Nothing was opened."""


def origins_of(manifest: Manifest) -> list[dict[str, int]]:
    """Of each source, place -> the number of its split."""
    held: Any = manifest.sinks.get("origins", ())
    return [dict(each) for each in held]


def rows_of(manifest: Manifest) -> dict[str, int]:
    """How many rows each output stream had had."""
    held: Any = manifest.sinks.get("rows", {})
    return dict(held)
