"""A job: what it runs, where its results go, and how it runs in this process."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol, cast

from ostinato.cep.batch import Batch
from ostinato.cep.compiling import seconds_spent
from ostinato.cep.connectors.base import BadRecord, Reader
from ostinato.cep.runtime.attempt import (
    Attempt,
    Ending,
    conclude,
    counters_of,
    source_states,
)
from ostinato.cep.runtime.background import Outcome
from ostinato.cep.runtime.chains import Part
from ostinato.cep.runtime.coordinator import CheckpointError, Coordinator, Front
from ostinato.cep.runtime.occupation import OUTPUT, SOURCES, Meter, Occupation, times_of
from ostinato.cep.runtime.partition import KEY_GROUPS
from ostinato.cep.runtime.pipeline import Pipeline
from ostinato.cep.runtime.plan import Plan
from ostinato.cep.runtime.recovery import RestorePoint
from ostinato.cep.runtime.snapshots import Order, write_part
from ostinato.cep.runtime.sources import Sources, wall_clock
from ostinato.cep.runtime.statistics import Statistics
from ostinato.cep.runtime.stopping import Stop, StopRequested
from ostinato.state.steps import reached

if TYPE_CHECKING:
    from ostinato.cep.nfa.output import Select

STATISTICS_SECONDS = 0.2
"""How often the numbers of a running job are brought up to date."""
_POLLING_SECONDS = 0.002
"""How often a job looks that has nothing to do but wait for a checkpoint."""


@dataclass(frozen=True, slots=True)
class StateBackend:
    """Where operators keep their state while they run.

    Attributes:
        kind: in memory only, or in RocksDB what has not been touched for a while.
        directory: RocksDB's files; each worker has a folder of its own in it. None: a temporary folder. They are
            scratch space: what survives is in checkpoints.
        memory_bytes: of all workers together, what RocksDB and the state held in memory may take; None: a default.
    """

    kind: Literal["memory", "rocksdb"] = "memory"
    directory: str | None = None
    memory_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Definition:
    """What a job runs.

    Attributes:
        plan: the patterns and streams.
        selects: for patterns whose rows a Python function makes, that function.
        whole_rows: decode all declared columns, not only those that the patterns read (late rows are kept whole).
        key_groups: over how many groups keys are spread.
        state: where operators keep their state.
        attributed: rows that come out say which pattern made them (`Batch.makers`, `Pipeline.makers`). Only in one
            process: between processes it gets lost.
        keep_columns: decode all declared columns, and keep them of events that wait for the watermark: other patterns,
            which may read other columns, will take over the state while the job runs.
        draining: patterns, by name, that begin no match any more; the partial matches they have go on to their end.
    """

    plan: Plan
    selects: Mapping[str, Select] = field(default_factory=dict)
    whole_rows: bool = False
    key_groups: int = KEY_GROUPS
    state: StateBackend = StateBackend()
    attributed: bool = False
    draining: frozenset[str] = frozenset()
    keep_columns: bool = False


class Outlet(Protocol):
    """Where everything goes that leaves a job. Errors of it (`SinkError`, `StrictError`) end the job."""

    def deliver(self, batch: Batch) -> None:
        """Rows of the stream that the batch names: matches, timeouts, late rows."""

    def reject(self, records: Sequence[BadRecord]) -> None:
        """Records that could not be used."""

    def breathe(self, *, idle: bool) -> None:
        """Between two entries; `idle`: nothing is waiting to be read, so what was delivered should be seen."""


class TransactionalOutlet(Outlet, Protocol):
    """An outlet that takes part in checkpoints; see `TransactionalSink`. Without it, a job takes none."""

    def prepare(self, checkpoint: int) -> Mapping[str, Any]:
        """Make everything delivered so far durable. Returns the state of each transactional sink by its name."""

    def commit(self, state: Mapping[str, Any]) -> None:
        """The checkpoint with this state is complete: publish."""

    def recover(self, state: Mapping[str, Any] | None) -> None:
        """The job begins, from a checkpoint with this state, None: from the very start; before anything else."""

    def finish(self) -> None:
        """The job has ended, and its last checkpoint is committed."""


Observer = Callable[[Statistics], None]
"""Is shown the numbers of a running job a few times a second."""


class LocalJob:
    """A job in this process."""

    def __init__(
        self,
        job: Definition,
        readers: Sequence[Reader],
        outlet: Outlet,
        *,
        clock: Callable[[], int] = wall_clock,
        observer: Observer | None = None,
        attempt: Attempt | None = None,
    ) -> None:
        """Make the job, with the state of the checkpoint that `attempt` names.

        Args:
            job: what to run.
            readers: one for each of the plan's sources, in their order.
            outlet: where results go.
            clock: epoch milliseconds.
            observer: is shown the numbers while the job runs.
            attempt: checkpoints, where to go on from, and who may ask for what.

        Raises:
            SnapshotError: the checkpoint is damaged, or does not fit the job.
            StoreError: it cannot be read.
            SourceError: a source cannot go on where it was.
        """
        self.ending: Ending | None = None
        self._plan = job.plan
        self._groups = range(job.key_groups)
        self._attempt = attempt or Attempt()
        self._coordinator = self._attempt.coordinator
        self._writing: tuple[Order, Outcome[Part]] | None = None
        self._running = Meter()
        self._outlet = outlet
        self._observer = observer
        self._sources = Sources(readers, clock)
        self._pipeline = Pipeline(job, outlet, [reader.splits for reader in readers], clock())
        self.statistics = self._pipeline.statistics
        self.statistics.measure = self._measure
        self._is_torn = False
        if self._attempt.point is not None:
            try:
                self._restore(self._attempt.point)
            except BaseException:
                self._sources.close()
                raise
        if self._coordinator is not None:
            self._coordinator.begin_attempt(1, self._attempt.point)

    def run(self, stop: Stop) -> None:
        """Run to the end of the input, until it is asked to end, or until `stop` is requested; `ending` says which.

        Raises:
            ConnectorError: input or output failed.
            MatchError: a cap says to fail, or a skip strategy has nothing to skip to.
            StateError: a checkpoint failed on which the job depends; or the store has another owner.
        """
        before, compiled, began = self.statistics.seconds, seconds_spent(), time.monotonic()
        self._running.start()
        try:
            self._attempt.recover()
            if self._attempt.point is not None:
                reached("restore.done")
            self._loop(stop, before, compiled, began)
            self._end(stop)
        finally:
            self._running.stop()
            # what a first start spends on compiling says nothing about speed
            self.statistics.compiling_seconds = seconds_spent() - compiled
            self.statistics.seconds = before + time.monotonic() - began - self.statistics.compiling_seconds
            self._pipeline.count_patterns()

    def _loop(self, stop: Stop, before: float, compiled: float, began: float) -> None:
        told = began
        try:
            while not stop.requested:
                if self._attempt.pending and self._attend():
                    break
                # A job that is to go on later must not lose what has just been read.
                with stop.waiting() if self._coordinator is None else nullcontext():
                    entry = self._sources.next()
                if entry is None:
                    self.ending = Ending.FINISHED
                    break
                self._pipeline.step(entry)
                now = time.monotonic()
                if self._observer is not None and now - told >= STATISTICS_SECONDS:
                    told = now
                    self.statistics.seconds = before + now - began - (seconds_spent() - compiled)
                    self._observer(self.statistics)
        except StopRequested:
            stop.requested = self._is_torn = True

    @property
    def repeatable(self) -> bool:
        """Can all sources be read a second time?"""
        return self._sources.repeatable

    @property
    def processes(self) -> tuple[int, ...]:
        """None but this one."""
        return ()

    def close(self) -> None:
        """Close the sources."""
        self._sources.close()

    # Checkpoints

    def _restore(self, point: RestorePoint) -> None:
        self._pipeline.check(point)
        self._sources.seek(point.positions(self._plan))
        self._sources.not_before(point.clock)
        reached("restore.sources")
        self._pipeline.restore(point, self._sources.now())

    def _attend(self) -> bool:
        """Deal with requests and checkpoints, between two entries; True where the job is to end."""
        if self._attempt.take_requests():
            self.ending = Ending.CANCELED
            return True
        coordinator = self._coordinator
        if coordinator is None:
            return False
        self._poll(coordinator)
        order = coordinator.next()
        if order is None:
            return False
        stops = coordinator.stops
        if coordinator.drains:
            self._pipeline.drain(self._sources.now())
        self._take(order)
        if not stops:
            return False
        while coordinator.pending:
            self._poll(coordinator)
            time.sleep(_POLLING_SECONDS)
        # Where the savepoint failed, whoever asked has been told, and the job goes on.
        if coordinator.stopped:
            self.ending = Ending.STOPPED
        elif self._pipeline.ended:
            raise CheckpointError("the savepoint failed with which the job was drained")
        return coordinator.stopped

    def _poll(self, coordinator: Coordinator) -> None:
        if self._writing is not None and self._writing[1].done:
            (order, written), self._writing = self._writing, None
            if written.error is None:
                coordinator.add_part(order.id, written.get())
            else:
                coordinator.fail(order.id, written.error)
        coordinator.poll()

    def _take(self, order: Order) -> None:
        """Cut the stream here: what operators and sinks give is of this moment, the rest is done behind the scenes."""
        coordinator = self._coordinator
        assert coordinator is not None
        began = time.monotonic()
        reached("checkpoint.barrier")
        state = self._pipeline.snapshot(order.id, order.whole)
        asked = time.monotonic() - began
        self._pipeline.count_patterns()
        sources = source_states(self._plan, self._sources.positions, self._pipeline.times())
        store = coordinator.store

        def write() -> Part:
            void = lambda: coordinator.is_void(order.id)  # noqa: E731
            return write_part(order, 0, self._groups, state, store, snapshot_seconds=asked, is_void=void)

        self._writing = order, coordinator.background.submit(write)
        sinks = cast("TransactionalOutlet", self._outlet).prepare(order.id)
        reached("checkpoint.prepared")
        counters = counters_of(self.statistics)
        coordinator.set_front(order.id, Front(sources, sinks, counters, time.monotonic() - began))

    def _end(self, stop: Stop) -> None:
        """The loop has come to its end: take a last checkpoint where that is due."""
        if self.ending is None:
            self.ending = Ending.SUSPENDED
        if self._coordinator is None or self.ending not in (Ending.FINISHED, Ending.SUSPENDED):
            return
        self.ending = conclude(
            self._coordinator, self.ending, self._attempt, stop, self._step_checkpoint, is_torn=self._is_torn
        )

    def _step_checkpoint(self) -> None:
        """Let the last checkpoint go on by a step."""
        assert self._coordinator is not None
        self._poll(self._coordinator)
        if (order := self._coordinator.next()) is not None:
            self._take(order)
        time.sleep(_POLLING_SECONDS)

    def _measure(self) -> Occupation:
        busy = {SOURCES: self._sources.reading, **self._pipeline.busy}
        held_up = dict.fromkeys(busy, self._pipeline.writing_out.seconds) | {OUTPUT: 0.0}
        return Occupation(times_of(self._running.seconds, {name: each.seconds for name, each in busy.items()}, held_up))
