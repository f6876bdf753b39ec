"""Where a job goes on from: a checkpoint or savepoint, found, checked against the job as it is now, and read."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ostinato.cep.runtime.plan import Plan
from ostinato.state import manifest as manifests
from ostinato.state.blobs import Stored
from ostinato.state.errors import DroppedStateError, SnapshotError
from ostinato.state.manifest import Manifest
from ostinato.state.stores.base import CheckpointStore, Entry


@dataclass(frozen=True, slots=True)
class RestorePoint:
    """A checkpoint or savepoint whose manifest has been read. `may_drop`: see `CheckpointOptions`."""

    store: CheckpointStore
    manifest: Manifest
    may_drop: bool = False

    @property
    def name(self) -> str:
        """``checkpoint 17 in /var/lib/cep``"""
        return f"{'savepoint' if self.manifest.savepoint else 'checkpoint'} {self.manifest.id} in {self.store.address}"

    def check(self, plan: Plan, operators: Collection[str], key_groups: int) -> None:
        """Refuse what does not fit the job.

        Args:
            plan: what the job runs now.
            operators: the names of those that can have state.
            key_groups: over how many groups the job spreads its keys.

        Raises:
            SnapshotError: it is of a job with other key groups.
            DroppedStateError: it holds state for which the job has no place, and that may not be dropped.
        """
        stored = self.manifest
        if stored.key_groups != key_groups:
            raise SnapshotError(
                f"{self.name} has {stored.key_groups} key groups and the job {key_groups}; they are fixed for the life "
                "of a job: run it with as many"
            )
        reading = {stream.name for stream in plan.sources}
        dropped = [f"source {source.stream}" for source in stored.sources if source.stream not in reading]
        dropped += [
            f"operator {name}"
            for name, pieces in stored.operators.items()
            if name not in operators and (pieces.groups or pieces.shared)
        ]
        if dropped and not self.may_drop:
            raise DroppedStateError(
                f"{self.name} holds state for which the job has no place any more: {', '.join(dropped)}; run the "
                "program that it is of, or allow with --allow-dropped-state that this is dropped"
            )

    def stored(self, operator: str, owned: range) -> Stored | None:
        """The state of an operator, for whoever owns these key groups; None where there is none."""
        pieces = self.manifest.operators.get(operator)
        if pieces is None:
            return None
        return Stored(operator, pieces, self.manifest.blobs, self.store, owned, self.may_drop)

    def positions(self, plan: Plan) -> list[Mapping[int, Mapping[str, Any]]]:
        """For each source of the plan, where reading goes on, by split."""
        by_stream = {source.stream: source.positions for source in self.manifest.sources}
        return [by_stream.get(stream.name, {}) for stream in plan.sources]

    def times(self, plan: Plan) -> list[Mapping[str, Any] | None]:
        """For each source of the plan its time, None where it is new."""
        by_stream = {source.stream: source.time for source in self.manifest.sources}
        return [by_stream.get(stream.name) for stream in plan.sources]

    @property
    def counters(self) -> Mapping[str, int]:
        """The numbers that go on counting."""
        return self.manifest.counters

    @property
    def clock(self) -> int:
        """How far the job's clock had come, epoch ms."""
        return max((source.time.get("now", 0) for source in self.manifest.sources), default=0)


def read_point(store: CheckpointStore, id: int | None = None, *, may_drop: bool = False) -> RestorePoint:  # noqa: A002
    """The checkpoint with this id, the newest by default.

    Raises:
        SnapshotError: there is none, or it is damaged.
        StoreError: the store cannot be reached.
    """
    if id is None:
        entries = store.entries()
        if not entries:
            raise SnapshotError(f"there is no checkpoint and no savepoint in {store.address}")
        id = entries[0].id  # noqa: A001
    manifest = manifests.decode(store.manifest(id), f"checkpoint {id} in {store.address}")
    return RestorePoint(store, manifest, may_drop)


class Candidates:
    """The checkpoints of a store that a job may go on from, the newest first, without those found damaged."""

    def __init__(self, store: CheckpointStore, *, may_drop: bool = False) -> None:
        self.damaged: dict[int, str] = {}
        """By id, what is wrong with it."""
        self._store = store
        self._may_drop = may_drop
        self._ignored: frozenset[int] = frozenset()

    def ignore(self, entries: Iterable[Entry]) -> None:
        """These are of an earlier life of the job."""
        self._ignored = frozenset(entry.id for entry in entries)

    def newest(self) -> tuple[RestorePoint | None, list[str]]:
        """The newest one whose manifest can be read, and what there is to say about newer ones.

        Raises:
            SnapshotError: there are some, but none is whole.
            StoreError: the store cannot be reached.
        """
        said: list[str] = []
        entries = [entry for entry in self._store.entries() if entry.id not in self._ignored]
        for entry in entries:
            if entry.id in self.damaged:
                continue
            try:
                return read_point(self._store, entry.id, may_drop=self._may_drop), said
            except SnapshotError as error:
                self.damaged[entry.id] = str(error)
                said.append(str(error))
        if entries:
            raise SnapshotError(self._none_whole(entries))
        return None, said

    def refuse(self, point: RestorePoint, error: SnapshotError) -> None:
        """A checkpoint was found to be unusable when its state was read."""
        self.damaged[point.manifest.id] = str(error)

    def _none_whole(self, entries: Sequence[Entry]) -> str:
        reasons = "; ".join(self.damaged[entry.id] for entry in entries)
        return (
            f"none of the checkpoints in {self._store.address} can be used ({reasons}); give a savepoint, or begin "
            "anew with another place for checkpoints"
        )


def resumed(
    times: Iterable[Mapping[str, Any] | None], fresh: Sequence[Mapping[str, Any]], now: int | None
) -> Iterator[Any]:
    """The time of each source as it goes on: stored times, to which what is new is added.

    The silence of the splits is counted anew from `now` on: nothing could come while the job was down. None: it goes on
    where it stood, for the clock comes with the input.
    """
    for stored, new in zip(times, fresh, strict=True):
        if stored is None:
            yield new
            continue
        splits = [[number, largest, at if now is None else now, idle] for number, largest, at, idle in stored["splits"]]
        known = {split[0] for split in splits}
        added = [split for split in new["splits"] if split[0] not in known]
        yield {**stored, "splits": [*splits, *added]}
