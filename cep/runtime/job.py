"""A job: what it runs, where its results go, and how it runs in this process."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

from ostinato.cep.batch import MAX_TIME, Barrier, Batch, EndOfInput, Watermark
from ostinato.cep.compiling import seconds_spent
from ostinato.cep.connectors.base import BadRecord, Reader
from ostinato.cep.connectors.factory import decoder_for
from ostinato.cep.runtime.assembly import Assembly, assemble
from ostinato.cep.runtime.intake import Intake
from ostinato.cep.runtime.partition import KEY_GROUPS
from ostinato.cep.runtime.plan import Plan
from ostinato.cep.runtime.sources import Ended, ReadChunk, Sources, Tick, wall_clock
from ostinato.cep.runtime.statistics import Statistics
from ostinato.cep.runtime.stopping import Stop, StopRequested
from ostinato.cep.runtime.time import TimePolicy, WatermarkGenerator

if TYPE_CHECKING:
    from ostinato.cep.nfa.output import Select

STATISTICS_SECONDS = 0.2
"""How often the numbers of a running job are brought up to date."""


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


Observer = Callable[[Statistics], None]
"""Is shown the numbers of a running job a few times a second."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A job's state at one point of its input.

    `positions`: for each source by split, where reading goes on; `times`: the sources' event time; `state`: operator ->
    key group -> bytes.
    """

    positions: Sequence[Mapping[int, Mapping[str, Any]]]
    times: Sequence[Mapping[str, Any]]
    state: Mapping[str, Mapping[int, bytes]]


def make_intakes(job: Definition, assembly: Assembly, now: int) -> list[Intake]:
    """The decoder and the time of each source stream."""
    intakes = []
    for stream in job.plan.sources:
        columns = None if job.whole_rows else assembly.matchers[stream.name].columns
        live = stream.source is not None and bool(dict(stream.source.options).get("follow"))
        generator = WatermarkGenerator(TimePolicy.of(stream.time, live=live), now)
        intakes.append(Intake(stream, decoder_for(stream, columns), generator))
    return intakes


class LocalJob:
    """A job in this process.

    Feed it with `run`; between two calls, `snapshot` and `restore` hold and take its state.
    """

    def __init__(
        self,
        job: Definition,
        readers: Sequence[Reader],
        outlet: Outlet,
        *,
        clock: Callable[[], int] = wall_clock,
        observer: Observer | None = None,
    ) -> None:
        """`readers`: one for each of the plan's sources, in their order."""
        self.statistics = Statistics()
        self._outlet = outlet
        self._observer = observer
        self._sources = Sources(readers, clock)
        self._assembly = assemble(job.plan, outlet.deliver, selects=job.selects, key_groups=job.key_groups)
        self._intakes = make_intakes(job, self._assembly, clock())
        for intake, reader in zip(self._intakes, readers, strict=True):
            for split in range(reader.splits):
                intake.time.add_split(split, clock())
        self._edges = [self._assembly.sources[stream.name] for stream in job.plan.sources]
        self._sent = [intake.time.watermark for intake in self._intakes]
        self._checkpoint = 0

    def run(self, stop: Stop) -> None:
        """Run to the end of the input, or until `stop` is requested.

        Raises:
            ConnectorError: input or output failed.
            MatchError: a cap says to fail, or a skip strategy has nothing to skip to.
        """
        began = told = time.monotonic()
        before, compiled = self.statistics.seconds, seconds_spent()
        try:
            while not stop.requested:
                with stop.waiting():
                    entry = self._sources.next()
                if entry is None:
                    break
                self._step(entry)
                now = time.monotonic()
                if self._observer is not None and now - told >= STATISTICS_SECONDS:
                    told = now
                    self.statistics.seconds = before + now - began - (seconds_spent() - compiled)
                    self._observer(self.statistics)
        except StopRequested:
            stop.requested = True
        finally:
            # what a first start spends on compiling says nothing about speed
            self.statistics.compiling_seconds = seconds_spent() - compiled
            self.statistics.seconds = before + time.monotonic() - began - self.statistics.compiling_seconds
            self.statistics.set_patterns([operator.stats for operator in self._assembly.matchers.values()])

    def snapshot(self) -> Snapshot:
        """The state between two entries, by a barrier through the graph."""
        self._checkpoint += 1
        for edge in self._edges:
            edge.send(Barrier(self._checkpoint))
        positions = [dict(splits) for splits in self._sources.positions]
        times = [intake.time.state() for intake in self._intakes]
        return Snapshot(positions, times, self._assembly.graph.take_snapshots())

    def restore(self, snapshot: Snapshot) -> None:
        """Go on from a snapshot of the same patterns; before `run`."""
        self._sources.seek(snapshot.positions)
        for intake, state in zip(self._intakes, snapshot.times, strict=True):
            intake.time.load(state)
        self._assembly.graph.restore(snapshot.state)

    def _step(self, entry: ReadChunk | Tick | Ended) -> None:
        match entry:
            case ReadChunk(number, chunk, now):
                intake = self._intakes[number]
                admitted = intake.admit(intake.decode(chunk), now)
                self.statistics.count(chunk, admitted)
                if admitted.bad:
                    self._outlet.reject(admitted.bad)
                if admitted.late is not None:
                    self._outlet.deliver(admitted.late)
                self._edges[number].send(admitted.batch)
                self._advance(number)
            case Tick(now, _):
                for number, intake in enumerate(self._intakes):
                    intake.time.tick(now)
                    self._advance(number)
            case Ended(number, _):
                self._intakes[number].time.finish()
                self._advance(number)
                self._edges[number].send(EndOfInput())
        self._outlet.breathe(idle=isinstance(entry, Tick) and entry.idle)

    def _advance(self, number: int) -> None:
        watermark = min(self._intakes[number].time.watermark, MAX_TIME)
        if watermark > self._sent[number]:
            self._sent[number] = watermark
            self._edges[number].send(Watermark(watermark))
