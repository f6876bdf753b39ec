"""Takes the checkpoints of a job: when, of which parts, and what happens when one is complete or fails.

1. A checkpoint is due, or a savepoint was asked for: `next` gives the order for it.
2. The job puts a barrier between two entries. Each worker's operators give what has changed, copies of it, and a
   thread of that worker writes it to the store as blobs: `add_part`.
3. When the barrier has passed everything, the sinks have made the output before it durable, and it is known where the
   sources stood: `set_front`.
4. With all of that here, a thread commits the manifest. From then on the checkpoint holds, whatever happens.
5. The sinks publish, in the job's own thread.
6. What is not retained any more is deleted.

Only one checkpoint is under way at a time. One that fails, or takes too long, costs the job nothing: the sinks keep
their output, and the next one is a whole one, so that nothing builds on what may never have been written.

All methods are called from the job's thread, `add_part` and `fail` included.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from ostinato.cep.runtime.background import Background, Outcome
from ostinato.cep.runtime.chains import Layout, Part
from ostinato.cep.runtime.checkpoints import CheckpointInfo, CheckpointOptions, CheckpointStatistics
from ostinato.cep.runtime.commands import CommandError, Request, What
from ostinato.cep.runtime.recovery import RestorePoint
from ostinato.cep.runtime.retention import Retention
from ostinato.cep.runtime.snapshots import Order, StoreSpec
from ostinato.state import manifest as manifests
from ostinato.state.errors import FencedError, StateError, StoreError
from ostinato.state.manifest import Manifest, SourceState
from ostinato.state.steps import reached
from ostinato.state.stores import StoreOptions, open_store
from ostinato.state.stores.base import CheckpointStore, Entry

if TYPE_CHECKING:
    from ostinato.cep.runtime.job import TransactionalOutlet

_CLOSING_SECONDS: Final = 5.0
"""How long the end of a job waits for deletions under way."""


class CheckpointError(StateError):
    """A checkpoint could not be completed on which the job depends, or too many have failed in a row."""


@dataclass(frozen=True, slots=True)
class Checkpointing:
    """Where and how a job takes checkpoints.

    Attributes:
        store: the job's own; opened, not acquired.
        job: its name.
        options: see there.
        program: the program as it is, for people to read.
        owner: who this is, for the messages of others.
        store_options: how workers, and savepoints into other stores, open theirs.
    """

    store: CheckpointStore
    job: str
    options: CheckpointOptions = field(default_factory=CheckpointOptions)
    program: str = ""
    owner: str = "ostinato"
    store_options: StoreOptions = field(default_factory=StoreOptions)


@dataclass(frozen=True, slots=True)
class Front:
    """What the job's own process adds when a barrier has passed everything.

    `barrier_seconds`: how long that took.
    """

    sources: Sequence[SourceState]
    sinks: Mapping[str, Any]
    counters: Mapping[str, int]
    barrier_seconds: float = 0.0


@dataclass(slots=True)
class _Pending:
    """A checkpoint under way. `target`: another store that a savepoint goes to. `is_void`: it was given up."""

    order: Order
    savepoint: bool
    requests: list[Request]
    began: float
    taken_at: int
    target: CheckpointStore | None = None
    id: int = 0
    parts: dict[int, Part] = field(default_factory=dict)
    front: Front | None = None
    layout: Layout = field(default_factory=Layout)
    info: CheckpointInfo | None = None
    is_void: bool = False
    is_committing: bool = False
    last: bool = False

    @property
    def stops(self) -> bool:
        return any(request.what == What.STOP for request in self.requests)


class Coordinator:
    """Of one job, for as long as the process runs it, through all its restarts."""

    def __init__(
        self,
        checkpointing: Checkpointing,
        outlet: TransactionalOutlet,
        *,
        key_groups: int,
        announce: Callable[[str], None] = lambda _: None,
        clock: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        """`announce` is given what the user has to know; `clock`: epoch ms, for people to read."""
        self.statistics = CheckpointStatistics()
        self.setup = checkpointing
        self.token = 0
        self.stopped = False
        """The job has stopped with a savepoint."""
        self.is_hopeless = False
        """More checkpoints have failed in a row than is tolerated."""
        self._store = checkpointing.store
        self._options = checkpointing.options
        self._outlet = outlet
        self._key_groups = key_groups
        self._announce = announce
        self._clock = clock
        self._wake: Callable[[], None] = lambda: None
        self.background = Background("checkpoints", lambda: self._wake())
        self._retention = Retention(self._store, self._options.retained)
        self._workers = 1
        self._next_id = 1
        self._layout = Layout()
        self._whole = True
        self._requests: list[Request] = []
        self._opening: tuple[list[Request], Outcome[tuple[CheckpointStore, int, int]]] | None = None
        self._pending: _Pending | None = None
        self._committing: Outcome[None] | None = None
        self._tidying: Outcome[None] | None = None
        self._last_wanted = False
        self._began = time.monotonic()
        self._ended = 0.0
        self._taken = 0.0

    # The life of a job

    def acquire(self) -> None:
        """Become the store's owner. Raises OccupiedError, DurabilityError, StoreError."""
        self.token = self._store.acquire(self.setup.owner)
        entries = self._store.entries()
        self._next_id = max(self._next_id, max((entry.id for entry in entries), default=0) + 1)
        self._retention.learn(entries)

    def begin_attempt(self, workers: int, point: RestorePoint | None, wake: Callable[[], None] = lambda: None) -> None:
        """The job begins, or begins again: nothing of an earlier attempt counts any more.

        `point`: where from; `wake` is called, in another thread, when there is something to `poll`.
        """
        self.abandon("the job failed meanwhile")
        self._workers = workers
        self._wake = wake
        self._whole = True
        self.is_hopeless = False
        self._layout = Layout()
        self._began = time.monotonic()
        self.statistics.restored = None if point is None else point.manifest.id
        if self._options.interval_ms is not None and (point is None or point.store is not self._store):
            # The first one at once: it shows that checkpoints work here, and the job no longer depends on what is
            # elsewhere.
            self._began -= self._options.interval_ms / 1000

    def note_damaged(self, ids: Collection[int]) -> None:
        """These checkpoints are of no use: they do not count among those retained."""
        self._retention.damaged.update(ids)

    def abandon(self, why: str) -> None:
        """Give up what is under way: the attempt has ended."""
        self._last_wanted = False
        error = CommandError(f"no savepoint was taken: {why}; ask again when the job runs")
        refused, self._requests = self._requests, []
        if self._opening is not None:
            requests, outcome = self._opening
            refused += requests
            self.background.submit(lambda: _close(outcome))
            self._opening = None
        if self._pending is not None:
            self._pending.is_void = True
            refused += self._pending.requests
            self._release(self._pending)
            self._pending = None
        for request in refused:
            request.refuse(error)
        self._committing = self._tidying = None
        self.statistics.in_progress = None

    def settle(self) -> None:
        """Wait until no thread of this process writes any more: what is in the store now, stays as it is."""
        self.abandon("the job has failed")
        while self.background.busy:
            time.sleep(0.002)

    def renew(self) -> None:
        """Become the owner once more: whatever an earlier attempt has left behind is fenced off by a larger token.

        Raises as `acquire` does.
        """
        self._store.release()
        self.acquire()

    def close(self) -> None:
        """The job has ended."""
        self.abandon("the job has ended")
        if self.background.close(_CLOSING_SECONDS):
            self._store.release()

    # What the job asks

    def request(self, request: Request) -> None:
        """Take a savepoint when it can be done."""
        self._requests.append(request)

    def want_last(self) -> None:
        """Take one more checkpoint as soon as possible: the job ends."""
        self._last_wanted = True

    @property
    def busy(self) -> bool:
        """Is a checkpoint under way, or wanted?"""
        return bool(self._pending or self._opening or self._requests or self._last_wanted)

    @property
    def pending(self) -> bool:
        """Is a checkpoint under way?"""
        return self._pending is not None

    @property
    def stops(self) -> bool:
        """Is the job to stop with the savepoint under way?"""
        return self._pending is not None and self._pending.stops

    @property
    def drains(self) -> bool:
        """Is time to come to its end before the barrier of the savepoint under way?"""
        return self._pending is not None and any(request.drain for request in self._pending.requests)

    @property
    def store(self) -> CheckpointStore:
        """The store that the checkpoint under way is for."""
        return self._store if self._pending is None or self._pending.target is None else self._pending.target

    def next(self) -> Order | None:
        """The order for a checkpoint whose barrier is to be sent now; None where none is due."""
        if self._pending is not None or self.background.busy:
            return None
        now = time.monotonic()
        if self._opening is not None:
            return self._begin_in_target(now)
        if self._requests:
            targets = [request.target for request in self._requests]
            asked = [request for request in self._requests if request.target == targets[0]]
            self._requests = [request for request in self._requests if request.target != targets[0]]
            if targets[0] is not None and not self._is_own(targets[0]):
                target = targets[0]
                self._opening = asked, self.background.submit(lambda: self._open_target(target))
                return None
            return self._begin(now, asked, savepoint=True)
        if self._last_wanted:
            self._last_wanted = False
            order = self._begin(now, [], savepoint=False)
            assert self._pending is not None
            self._pending.last = True
            return order
        interval = self._options.interval_ms
        if interval is None or (now - self._began) * 1000 < interval:
            return None
        if (now - self._ended) * 1000 < self._options.min_pause_ms:
            return None
        return self._begin(now, [], savepoint=False)

    def add_part(self, id: int, part: Part) -> None:  # noqa: A002 - what it is called everywhere
        """A worker has written its part."""
        if self._pending is not None and self._pending.order.id == id:
            reached("checkpoint.ack")
            self._pending.parts[part.worker] = part
            self._complete(self._pending)

    def set_front(self, id: int, front: Front) -> None:  # noqa: A002
        """The barrier has passed everything."""
        if self._pending is not None and self._pending.order.id == id:
            self._pending.front = front
            self._complete(self._pending)

    def fail(self, id: int, error: Exception) -> None:  # noqa: A002
        """A part could not be written. Raises FencedError, CheckpointError."""
        if self._pending is not None and self._pending.order.id == id:
            self._fail(self._pending, error)
        elif isinstance(error, FencedError):
            raise error

    def is_void(self, id: int) -> bool:  # noqa: A002
        """Has this one been given up? May be asked from any thread."""
        pending = self._pending
        return pending is None or pending.order.id != id or pending.is_void

    def poll(self) -> None:
        """Deal with what has been done in the background, between two entries.

        Raises:
            FencedError: somebody else owns the store by now.
            CheckpointError: more have failed in a row than is tolerated.
            SinkError: what is complete could not be published.
        """
        if self._tidying is not None and self._tidying.done:
            done, self._tidying = self._tidying, None
            if isinstance(done.error, FencedError):
                raise done.error
            if done.error is not None:
                self._announce(f"old checkpoints could not be deleted: {done.error}; it is tried again after the next")
        pending = self._pending
        if pending is None:
            return
        if self._committing is not None and self._committing.done:
            committed, self._committing = self._committing, None
            if committed.error is not None:
                self._fail(pending, committed.error)
            else:
                self._publish(pending)
        elif not pending.is_committing and (time.monotonic() - pending.began) * 1000 > self._options.timeout_ms:
            waiting = "the store" if pending.front is not None else "the barrier"
            self._fail(
                pending, StoreError(f"not completed within {self._options.timeout_ms} ms; {waiting} was too slow")
            )

    def current_statistics(self) -> CheckpointStatistics:
        """The numbers as of now; from any thread."""
        age = time.monotonic() - self._taken if self._taken else None
        return replace(self.statistics, age_seconds=age)

    def delete_all(self) -> None:
        """Delete the checkpoints, not the savepoints: the job has ended for good. Raises StoreError."""
        outcome = self.background.submit(self._retention.delete_all)
        while not outcome.done:
            time.sleep(0.002)
        outcome.get()
        reached("finish.deleted")

    # The details

    def _is_own(self, target: str) -> bool:
        return target == self._store.address or open_store(target, job=self.setup.job).address == self._store.address

    def _open_target(self, target: str) -> tuple[CheckpointStore, int, int]:
        """In the background: another store for a savepoint, its token, and the id that comes next in it."""
        store = open_store(target, job=self.setup.job, options=self.setup.store_options)
        try:
            token = store.acquire(self.setup.owner)
            return store, token, max((entry.id for entry in store.entries()), default=0) + 1
        except BaseException:
            store.close()
            raise

    def _begin_in_target(self, now: float) -> Order | None:
        assert self._opening is not None
        (requests, opened), self._opening = self._opening, None
        try:
            store, token, number = opened.get()
        except Exception as error:  # noqa: BLE001 - whoever asked is told
            for request in requests:
                request.refuse(error)
            self._announce(f"no savepoint was taken: {error}")
            return None
        spec = StoreSpec.of(store.location, self.setup.job, token, self.setup.store_options)
        order = self._begin(now, requests, savepoint=True, store=spec)
        assert self._pending is not None
        self._pending.target, self._pending.id = store, number
        return order

    def _begin(self, now: float, requests: list[Request], *, savepoint: bool, store: StoreSpec | None = None) -> Order:
        reached("checkpoint.begin")
        number, self._next_id = self._next_id, self._next_id + 1
        # A savepoint holds all that it needs by itself.
        is_whole = savepoint or self._whole or not self._options.incremental
        whole = None if is_whole else self._layout.overgrown()
        token = self.token if store is None else store.token
        order = Order(number, f"{number}-{token}", whole, store)
        self._began = now
        self._pending = _Pending(order, savepoint, requests, now, self._clock(), id=number)
        self.statistics.in_progress = number
        return order

    def _complete(self, pending: _Pending) -> None:
        """Commit, when everything is there."""
        if pending.front is None or len(pending.parts) < self._workers:
            return
        base = Layout() if pending.order.whole is None else self._layout
        pending.layout = base.followed_by(pending.parts[worker] for worker in sorted(pending.parts))
        operators, blobs = pending.layout.pieces()
        manifest = Manifest(
            job=self.setup.job,
            id=pending.id,
            savepoint=pending.savepoint,
            taken_at=pending.taken_at,
            program=self.setup.program,
            parallelism=self._workers,
            key_groups=self._key_groups,
            sources=pending.front.sources,
            sinks=pending.front.sinks,
            operators=operators,
            counters=pending.front.counters,
            blobs=blobs,
        )
        pending.is_committing = True
        self._committing = self.background.submit(lambda: self._commit(pending, manifest))

    def _commit(self, pending: _Pending, manifest: Manifest) -> None:
        """In the background."""
        if pending.is_void:  # the attempt has ended; the next one may be under way already
            return
        began = time.monotonic()
        store = pending.target or self._store
        reached("checkpoint.commit")
        data = manifests.encode(manifest)
        store.commit(Entry(manifest.id, manifest.savepoint, manifest.taken_at, len(data)), data)
        reached("checkpoint.committed")
        ended = time.monotonic()
        assert pending.front is not None
        parts = pending.parts.values()
        pending.info = CheckpointInfo(
            id=manifest.id,
            savepoint=manifest.savepoint,
            address=store.address,
            taken_at=manifest.taken_at,
            seconds=ended - pending.began,
            bytes_written=len(data) + sum(blob.size for part in parts for blob in part.blobs),
            bytes_total=len(data) + sum(blob.size for blob in manifest.blobs),
            phases={
                "barrier": pending.front.barrier_seconds,
                "snapshot": max(part.snapshot_seconds for part in parts),
                "write": max(part.write_seconds for part in parts),
                "commit": ended - began,
            },
        )
        if pending.target is None:
            self._retention.add(manifest)

    def _publish(self, pending: _Pending) -> None:
        """The checkpoint holds: the sinks may say so."""
        assert pending.front is not None
        assert pending.info is not None
        began = time.monotonic()
        # Another store's savepoint is not what this job goes on from: its output waits for a checkpoint of our own,
        # unless there will be none.
        if pending.target is None or pending.stops:
            self._outlet.commit(pending.front.sinks)
            reached("publish.end")
        phases = {**pending.info.phases, "publish": time.monotonic() - began}
        info = replace(pending.info, phases=phases)
        self._pending = None
        self.stopped = self.stopped or pending.stops
        self._note(pending, info)
        # After a savepoint, changes are counted from one that will be deleted, or moved away, by somebody else.
        self._whole = pending.savepoint
        self._layout = Layout() if pending.savepoint else pending.layout
        self._release(pending)
        if pending.target is None:
            self._tidying = self.background.submit(self._retention.tidy)
        for request in pending.requests:
            request.answer(info)

    def _note(self, pending: _Pending, info: CheckpointInfo) -> None:
        numbers = self.statistics
        if numbers.failed_in_a_row and not pending.savepoint:
            self._announce(f"checkpoint {info.id} is complete again, after {numbers.failed_in_a_row} that failed")
        numbers.in_progress = None
        numbers.completed += 1
        numbers.bytes_written += info.bytes_written
        numbers.longest_seconds = max(numbers.longest_seconds, info.seconds)
        if pending.savepoint:
            numbers.last_savepoint = info
        else:
            numbers.last, numbers.failed_in_a_row = info, 0
        if pending.target is None:
            self._taken = pending.began
        self._ended = time.monotonic()

    def _fail(self, pending: _Pending, error: Exception) -> None:
        pending.is_void = True
        self._pending = self._committing = None
        self._whole = True
        self._layout = Layout()
        self._retention.sweep_wanted = True
        self._ended = time.monotonic()
        self._release(pending)
        numbers = self.statistics
        numbers.in_progress = None
        numbers.failed += 1
        kind = "savepoint" if pending.savepoint else "checkpoint"
        numbers.last_failure = f"{kind} {pending.id} failed: {error}"
        for request in pending.requests:
            request.refuse(error if isinstance(error, StateError) else StoreError(str(error)))
        if isinstance(error, FencedError) and pending.target is None:
            raise error
        if pending.savepoint:
            self._announce(numbers.last_failure)
            return
        numbers.failed_in_a_row += 1
        in_a_row = numbers.failed_in_a_row
        if in_a_row & (in_a_row - 1) == 0:  # a store that is down for an hour need not fill the screen
            often = "" if in_a_row == 1 else f" ({in_a_row} in a row)"
            self._announce(f"{numbers.last_failure}{often}; the job goes on, and tries again")
        tolerable = self._options.tolerable_failures
        if tolerable is not None and in_a_row > tolerable:
            self.is_hopeless = True
            raise CheckpointError(f"{in_a_row} checkpoints in a row have failed; the last: {error}") from error
        if pending.last:
            raise CheckpointError(f"the last checkpoint failed: {error}") from error

    def _release(self, pending: _Pending) -> None:
        """Give another store back."""
        target, pending.target = pending.target, None
        if target is not None:
            self.background.submit(lambda: _give_back(target))


def _give_back(store: CheckpointStore) -> None:
    try:
        store.release()
    finally:
        store.close()


def _close(opened: Outcome[tuple[CheckpointStore, int, int]]) -> None:
    if opened.error is None:
        _give_back(opened.get()[0])
