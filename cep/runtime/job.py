"""A job: what it runs, where its results go, and how it runs in this process."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol, cast

from ostinato.cep.batch import MAX_TIME, Barrier, Batch, Clock, EndOfInput, Watermark
from ostinato.cep.compiling import seconds_spent
from ostinato.cep.connectors.base import BadRecord, Reader
from ostinato.cep.connectors.factory import decoder_for
from ostinato.cep.runtime.assembly import Assembly, assemble
from ostinato.cep.runtime.attempt import (
    Attempt,
    Ending,
    conclude,
    counters_of,
    resume_counters,
    source_states,
)
from ostinato.cep.runtime.background import Outcome
from ostinato.cep.runtime.chains import Part
from ostinato.cep.runtime.coordinator import CheckpointError, Coordinator, Front
from ostinato.cep.runtime.intake import Intake
from ostinato.cep.runtime.occupation import OUTPUT, SOURCES, Meter, Occupation, times_of
from ostinato.cep.runtime.partition import KEY_GROUPS
from ostinato.cep.runtime.plan import Plan
from ostinato.cep.runtime.recovery import RestorePoint, resumed
from ostinato.cep.runtime.snapshots import Order, write_part
from ostinato.cep.runtime.sources import Ended, ReadChunk, Sources, Tick, is_lull, wall_clock
from ostinato.cep.runtime.statistics import PatternNumbers, Statistics
from ostinato.cep.runtime.stopping import Stop, StopRequested
from ostinato.cep.runtime.time import TimePolicy, WatermarkGenerator
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
    """

    plan: Plan
    selects: Mapping[str, Select] = field(default_factory=dict)
    whole_rows: bool = False
    key_groups: int = KEY_GROUPS
    state: StateBackend = StateBackend()


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


def make_intakes(job: Definition, assembly: Assembly, now: int) -> list[Intake]:
    """The decoder and the time of each source stream."""
    intakes = []
    for stream in job.plan.sources:
        columns = None if job.whole_rows else assembly.columns(stream.name)
        live = stream.source is not None and bool(dict(stream.source.options).get("follow"))
        generator = WatermarkGenerator(TimePolicy.of(stream.time, live=live), now)
        intakes.append(Intake(stream, decoder_for(stream, columns), generator))
    return intakes


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
        self.statistics = Statistics()
        self.ending: Ending | None = None
        self._plan = job.plan
        self._groups = range(job.key_groups)
        self._attempt = attempt or Attempt()
        self._coordinator = self._attempt.coordinator
        self._writing: tuple[Order, Outcome[Part]] | None = None
        self._before: dict[str, PatternNumbers] = {}
        self._running, self._writing_out = Meter(), Meter()
        self._decoding = {f"{stream.name}.in": Meter() for stream in job.plan.sources}
        self.statistics.measure = self._measure
        self._outlet = outlet
        self._observer = observer
        self._sources = Sources(readers, clock)
        self._assembly = assemble(
            job.plan, self._deliver, selects=job.selects, key_groups=job.key_groups, state=job.state
        )
        self._intakes = make_intakes(job, self._assembly, clock())
        for intake, reader in zip(self._intakes, readers, strict=True):
            for split in range(reader.splits):
                intake.time.add_split(split, clock())
        self._edges = [self._assembly.sources[stream.name] for stream in job.plan.sources]
        self._is_torn = False
        self._ended = [False] * len(self._intakes)
        # Watermarks are sent anew after a restore: the channels of the graph have no state.
        self._sent = [intake.time.watermark for intake in self._intakes]
        if self._attempt.point is not None:
            try:
                self._restore(self._attempt.point, job)
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
            self._count_patterns()

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
                self._step(entry)
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

    def _restore(self, point: RestorePoint, job: Definition) -> None:
        point.check(self._plan, self._assembly.graph.operators, job.key_groups)
        self._sources.seek(point.positions(self._plan))
        self._sources.not_before(point.clock)
        reached("restore.sources")
        fresh = [intake.time.state() for intake in self._intakes]
        times = resumed(point.times(self._plan), fresh, self._sources.now())
        for intake, state in zip(self._intakes, times, strict=True):
            intake.time.load(state)
        reached("restore.begin")
        self._assembly.graph.restore(lambda name: point.stored(name, self._groups))
        reached("restore.end")
        self._before = resume_counters(self.statistics, point.manifest.counters)

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
            self._drain()
        self._take(order)
        if not stops:
            return False
        while coordinator.pending:
            self._poll(coordinator)
            time.sleep(_POLLING_SECONDS)
        # Where the savepoint failed, whoever asked has been told, and the job goes on.
        if coordinator.stopped:
            self.ending = Ending.STOPPED
        elif all(self._ended):
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
        reached("snapshot.barrier")
        self._assembly.graph.ask(order.whole)
        for edge in self._edges:
            edge.send(Barrier(order.id))
        state = self._assembly.graph.take_snapshots()
        reached("snapshot.taken")
        asked = time.monotonic() - began
        self._count_patterns()
        sources = source_states(self._plan, self._sources.positions, [each.time.state() for each in self._intakes])
        store = coordinator.store

        def write() -> Part:
            void = lambda: coordinator.is_void(order.id)  # noqa: E731
            return write_part(order, 0, self._groups, state, store, snapshot_seconds=asked, is_void=void)

        self._writing = order, coordinator.background.submit(write)
        sinks = cast("TransactionalOutlet", self._outlet).prepare(order.id)
        reached("checkpoint.prepared")
        counters = counters_of(self.statistics)
        coordinator.set_front(order.id, Front(sources, sinks, counters, time.monotonic() - began))

    def _drain(self) -> None:
        """Let time come to its end, as if all sources had ended."""
        for number, ended in enumerate(self._ended):
            if not ended:
                self._step(Ended(number, self._sources.now()))

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

    def _count_patterns(self) -> None:
        running = [operator.stats for operator in self._assembly.matchers.values()]
        self.statistics.set_patterns([self._before, *running])

    def _step(self, entry: ReadChunk | Tick | Ended) -> None:
        match entry:
            case ReadChunk(number, chunk, now):
                intake = self._intakes[number]
                with self._decoding[f"{intake.stream.name}.in"].running():
                    admitted = intake.admit(intake.decode(chunk), now)
                self.statistics.count(chunk, admitted)
                if admitted.bad:
                    with self._writing_out.running():
                        self._outlet.reject(admitted.bad)
                if admitted.late is not None:
                    self._deliver(admitted.late)
                self._edges[number].send(admitted.batch)
                self._tell_time(now)
                self._advance(number)
            case Tick(now, _):
                self._tell_time(now)
                for number, intake in enumerate(self._intakes):
                    intake.time.tick(now)
                    self._advance(number)
            case Ended(number, _):
                self._intakes[number].time.finish()
                self._advance(number)
                self._ended[number] = True
                self._edges[number].send(EndOfInput())
        with self._writing_out.running():
            self._outlet.breathe(idle=is_lull(entry))

    def _deliver(self, batch: Batch) -> None:
        with self._writing_out.running():
            self._outlet.deliver(batch)

    def _measure(self) -> Occupation:
        busy = {SOURCES: self._sources.reading, **self._decoding, **self._assembly.working(), OUTPUT: self._writing_out}
        held_up = dict.fromkeys(busy, self._writing_out.seconds) | {OUTPUT: 0.0}
        return Occupation(times_of(self._running.seconds, {name: each.seconds for name, each in busy.items()}, held_up))

    def _tell_time(self, now: int) -> None:
        if self._plan.clocked:
            for edge in self._edges:
                if not edge.ended:
                    edge.send(Clock(now))

    def _advance(self, number: int) -> None:
        watermark = min(self._intakes[number].time.watermark, MAX_TIME)
        if watermark > self._sent[number]:
            self._sent[number] = watermark
            self._edges[number].send(Watermark(watermark))
