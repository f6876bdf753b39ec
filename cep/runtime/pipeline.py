"""The operators of a job in one process, with the way of each entry through them.

Whoever has the entries and says when to take a snapshot is another matter: `ostinato.cep.runtime.job` for a whole job,
`ostinato.cep.runtime.partitioned.task` for one partition of a topic.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ostinato.cep.batch import MAX_TIME, Barrier, Batch, Clock, EndOfInput, Watermark
from ostinato.cep.connectors.factory import decoder_for, is_live
from ostinato.cep.runtime.assembly import Assembly, assemble
from ostinato.cep.runtime.attempt import counters_of, resume_counters
from ostinato.cep.runtime.handover import Handover
from ostinato.cep.runtime.intake import Intake
from ostinato.cep.runtime.occupation import OUTPUT, Meter
from ostinato.cep.runtime.recovery import RestorePoint, resumed
from ostinato.cep.runtime.sources import Ended, Entry, ReadChunk, Tick, is_lull
from ostinato.cep.runtime.statistics import PatternNumbers, Statistics
from ostinato.cep.runtime.time import TimePolicy, WatermarkGenerator
from ostinato.state.operator import OperatorState
from ostinato.state.steps import reached

if TYPE_CHECKING:
    from ostinato.cep.nfa.operator import MatchOperator
    from ostinato.cep.nfa.output import Maker
    from ostinato.cep.runtime.job import Definition, Outlet


def make_intakes(job: Definition, assembly: Assembly, now: int, *, by_partition: bool = False) -> list[Intake]:
    """The decoder and the time of each source stream; `by_partition`: see `decoder_for`."""
    intakes = []
    for stream in job.plan.sources:
        columns = None if job.whole_rows or job.keep_columns else assembly.columns(stream.name)
        generator = WatermarkGenerator(TimePolicy.of(stream.time, live=is_live(stream)), now)
        intakes.append(Intake(stream, decoder_for(stream, columns, by_partition=by_partition), generator))
    return intakes


class Pipeline:
    """All of a plan's operators, its decoders and its time, in this process."""

    def __init__(
        self, job: Definition, outlet: Outlet, splits: Sequence[int], now: int, *, by_partition: bool = False
    ) -> None:
        """
        Args:
            job: what to run.
            outlet: where results go.
            splits: of each of the plan's sources, how many it comes in.
            now: the job's clock, epoch ms.
            by_partition: it is of one partition of each topic, and others are elsewhere: what has the key of another
                partition must not come in.
        """
        self.statistics = Statistics()
        self.writing_out = Meter()
        self._plan = job.plan
        self._groups = range(job.key_groups)
        self._outlet = outlet
        self._before: dict[str, PatternNumbers] = {}
        self._decoding = {f"{stream.name}.in": Meter() for stream in job.plan.sources}
        self._assembly = assemble(
            job.plan,
            self._deliver,
            selects=job.selects,
            key_groups=job.key_groups,
            state=job.state,
            attributed=job.attributed,
            draining=job.draining,
            keep_columns=job.keep_columns,
        )
        self.intakes = make_intakes(job, self._assembly, now, by_partition=by_partition)
        for intake, count in zip(self.intakes, splits, strict=True):
            for split in range(count):
                intake.time.add_split(split, now)
        self._edges = [self._assembly.sources[stream.name] for stream in job.plan.sources]
        self._ended = [False] * len(self.intakes)
        # Watermarks are sent anew after a restore: the channels of the graph have no state.
        self._sent = [intake.time.watermark for intake in self.intakes]

    @property
    def ended(self) -> bool:
        """Have all sources come to their end?"""
        return all(self._ended)

    @property
    def makers(self) -> tuple[Maker, ...]:
        """What `Batch.makers` of the rows that are delivered points into; empty where the job is not `attributed`."""
        return self._assembly.makers

    @property
    def matchers(self) -> Mapping[str, MatchOperator]:
        """The operators that match, by the stream they read."""
        return self._assembly.matchers

    @property
    def busy(self) -> dict[str, Meter]:
        """How long each part has been at work, but for reading."""
        return {**self._decoding, **self._assembly.working(), OUTPUT: self.writing_out}

    def step(self, entry: Entry) -> None:
        """Let an entry go all the way through. Raises SinkError, StrictError, MatchError."""
        match entry:
            case ReadChunk(number, chunk, now):
                intake = self.intakes[number]
                with self._decoding[f"{intake.stream.name}.in"].running():
                    admitted = intake.admit(intake.decode(chunk), now)
                self.statistics.count(chunk, admitted)
                if admitted.bad:
                    with self.writing_out.running():
                        self._outlet.reject(admitted.bad)
                if admitted.late is not None:
                    self._deliver(admitted.late)
                self._edges[number].send(admitted.batch)
                self._tell_time(now)
                self._advance(number)
            case Tick(now, _):
                self._tell_time(now)
                for number, intake in enumerate(self.intakes):
                    intake.time.tick(now)
                    self._advance(number)
            case Ended(number, _):
                self.intakes[number].time.finish()
                self._advance(number)
                self._ended[number] = True
                self._edges[number].send(EndOfInput())
        with self.writing_out.running():
            self._outlet.breathe(idle=is_lull(entry))

    def mark(self, number: int, split: int, max_time: int, *, idle: bool, now: int) -> None:
        """A split of a source has come so far, with rows or without; see `WatermarkGenerator.mark`."""
        self.intakes[number].time.mark(split, max_time, idle=idle, now=now)
        self._advance(number)

    def lift(self, watermark: int) -> None:
        """Time has come so far elsewhere, and no source here holds it back: let what is due by then come out."""
        for number, intake in enumerate(self.intakes):
            intake.time.lift(watermark)
            self._advance(number)

    def settle(self, now: int) -> None:
        """Nothing has come for a while: see `WatermarkGenerator.settle`."""
        for number, intake in enumerate(self.intakes):
            intake.time.settle(now)
            self._advance(number)

    def hand_over(self) -> Handover:
        """All that the next pipeline needs to go on from here."""
        times = {intake.stream.name: intake.time.state() for intake in self.intakes}
        return Handover(self.snapshot(0, None), times, self.counters())

    def counters(self) -> dict[str, int]:
        """The numbers that go on counting in the next process, or pipeline."""
        self.count_patterns()
        return counters_of(self.statistics)

    def prepare(self) -> None:
        """A snapshot is about to be taken: the operators have nothing to say about that."""

    def drain(self, now: int) -> None:
        """Let time come to its end, as if all sources had ended."""
        for number, ended in enumerate(self._ended):
            if not ended:
                self.step(Ended(number, now))

    def snapshot(self, checkpoint: int, whole: Mapping[str, Sequence[int]] | None) -> dict[str, OperatorState]:
        """The state by operator, copies of it, as of now: what has changed, and of each operator the key groups `whole`
        in full; None: all there is."""
        reached("snapshot.barrier")
        self._assembly.graph.ask(whole)
        for edge in self._edges:
            edge.send(Barrier(checkpoint))
        state = self._assembly.graph.take_snapshots()
        reached("snapshot.taken")
        return state

    def times(self) -> list[dict[str, Any]]:
        """The time of each source, as a manifest has it."""
        return [intake.time.state() for intake in self.intakes]

    def check(self, point: RestorePoint) -> None:
        """Raises SnapshotError, DroppedStateError where it does not fit the job."""
        point.check(self._plan, self._assembly.graph.operators, len(self._groups))

    def restore(self, point: RestorePoint | Handover, now: int | None) -> None:
        """Take on the state of a checkpoint, or of the pipeline before this one, before the first entry.

        `now`: the job's clock, from which silence is counted anew; None: the clock comes with the input, and goes on.
        Raises StateError.
        """
        fresh = [intake.time.state() for intake in self.intakes]
        times = resumed(point.times(self._plan), fresh, now)
        for intake, state in zip(self.intakes, times, strict=True):
            intake.time.load(state)
        reached("restore.begin")
        self._assembly.graph.restore(lambda name: point.stored(name, self._groups))
        reached("restore.end")
        self._before = resume_counters(self.statistics, point.counters)

    def announce(self) -> None:
        """Send the watermark of every source, before the next entry. After `restore` an edge knows none until its
        source moves: what waits for two of them would be let go at another entry than where nothing was restored."""
        for number in range(len(self.intakes)):
            self._advance(number)

    def count_patterns(self) -> None:
        """Bring the patterns' numbers up to date."""
        running = [operator.stats for operator in self._assembly.matchers.values()]
        self.statistics.set_patterns([self._before, *running])

    def _deliver(self, batch: Batch) -> None:
        with self.writing_out.running():
            self._outlet.deliver(batch)

    def _tell_time(self, now: int) -> None:
        if self._plan.clocked:
            for edge in self._edges:
                if not edge.ended:
                    edge.send(Clock(now))

    def _advance(self, number: int) -> None:
        watermark = min(self.intakes[number].time.watermark, MAX_TIME)
        if watermark > self._sent[number]:
            self._sent[number] = watermark
            self._edges[number].send(Watermark(watermark))
