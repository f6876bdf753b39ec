"""The patterns that run, one record of the journal after the other.

What an engine does is a function of the records alone: no clock, nothing from outside. So the same records give the
same rows with the same numbers, whichever snapshot it goes on from.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from ostinato.cep.connectors.base import Chunk
from ostinato.cep.nfa.header import patterns_in, renamed
from ostinato.cep.nfa.matcher import MatchError
from ostinato.cep.runtime.handover import Handover
from ostinato.cep.runtime.pipeline import Pipeline
from ostinato.cep.runtime.recovery import RestorePoint
from ostinato.cep.runtime.sources import ReadChunk, Tick
from ostinato.server.ingest.dead_letters import DEAD_LETTERS
from ostinato.server.journal import Entry, Kind
from ostinato.server.live.generation import Activation, Generation
from ostinato.server.live.messages import Activated
from ostinato.server.live.outlet import MatchOutlet, RowLog
from ostinato.server.live.program import Checker, Runnable, is_alike
from ostinato.state.errors import SnapshotError
from ostinato.state.manifest import SourceState
from ostinato.state.typed import convert, decode_json

KEPT_BYTES: Final = 16 << 20
"""So much of what came last is kept as it came, for those who ask why nothing was found."""


@dataclass(slots=True)
class Prepared:
    """A generation that has been compiled; `pipeline` is fresh. None: no pattern runs in it."""

    runnable: Runnable
    pipeline: Pipeline | None


class PatternFailedError(Exception):
    """A pattern cannot go on at a record: its cap says fail, or there is nothing to skip to."""

    def __init__(self, name: str, position: int, message: str) -> None:
        super().__init__(message)
        self.name = name
        self.position = position


@dataclass(slots=True)
class Place:
    """Where an engine stands, besides the state of its operators; what a snapshot's manifest has under ``live``.

    `lanes`: stream -> lane -> the number of its split. `excluded`: patterns left out of the generation.
    """

    position: int = 0
    seq: int = 1
    generation: int = 0
    lanes: dict[str, dict[str, int]] = field(default_factory=dict)
    excluded: list[str] = field(default_factory=list)


class Engine:
    """Runs one generation after the other."""

    def __init__(
        self,
        log: RowLog,
        find: Callable[[int], Generation],
        activated: Callable[[Activated], None] = lambda _: None,
        written: Callable[[int, int], None] = lambda _count, _at_ms: None,
    ) -> None:
        """
        Args:
            log: where rows go.
            find: a generation by its number, for those that have not been prepared.
            activated: is told of each change.
            written: see `MatchOutlet`.
        """
        self.place = Place()
        self.outlet = MatchOutlet(log, written)
        self.runnable = Runnable(Generation(0), {}, None, frozenset(), {})
        self.pipeline: Pipeline | None = None
        self.exclusions: dict[int, set[str]] = {}
        """Position -> patterns that are left out from there on."""
        self.recent: deque[Entry] = deque()
        """The last events, as they came."""
        self.unread = 0
        """Events of streams that no pattern read."""
        self.rows: Counter[tuple[str, str]] = Counter()
        """Events by stream and lane since this process began."""
        self.is_new = True
        """Has the pipeline been made anew since the last snapshot? Then the next one holds all."""
        self._find = find
        self._activated = activated
        self._checker = Checker()
        self._sources: dict[str, int] = {}
        self._recent_bytes = 0

    # What runs

    def prepare(self, generation: Generation, checker: Checker | None = None) -> Prepared:
        """Check and compile. Raises PatternError."""
        runnable = (checker or self._checker).check(generation)
        definition = runnable.definition
        if definition is None:
            return Prepared(runnable, None)
        return Prepared(runnable, Pipeline(definition, self.outlet, [0] * len(definition.plan.sources), 0))

    def restore(self, point: RestorePoint) -> None:
        """Go on from a snapshot. Raises StateError."""
        try:
            self.place = convert(point.manifest.sinks["live"], Place)
        except (KeyError, msgspec.ValidationError) as error:
            raise SnapshotError(f"{point.name} is none of the server's: {error}") from error
        generation = self._find(self.place.generation)
        if self.place.excluded:
            generation, _ = self._checker.without(generation, self.place.excluded)
        prepared = self.prepare(generation)
        if prepared.pipeline is not None:
            self._add_lanes(prepared.pipeline, 0)
            prepared.pipeline.restore(point, None)
        self.outlet.seq = self.place.seq
        self._run(prepared)
        if self.pipeline is not None:
            self.pipeline.announce()

    def _activate(self, prepared: Prepared, now: int) -> Activated:
        """Go on with other patterns, with the state that they share with those before."""
        generation = prepared.runnable.generation
        before = self._partial_matches()
        if prepared.pipeline is not None:
            self._add_lanes(prepared.pipeline, now)
            if self.pipeline is not None:
                handed = self._handover(self.pipeline, generation)
                prepared.pipeline.restore(handed.without(_misfits(self.runnable, prepared.runnable)), None)
        self._run(prepared)
        if self.pipeline is not None:
            self.pipeline.announce()
        self.is_new = True
        kept = self._partial_matches()
        names = {old: generation.renamed.get(old, old) for old in before}
        gone = {old: count for old, count in before.items() if count and not kept.get(names[old])}
        return Activated(generation.number, self.place.position, {k: n for k, n in kept.items() if n}, gone)

    def _handover(self, pipeline: Pipeline, generation: Generation) -> Handover:
        handed = pipeline.hand_over()
        # a name that is dropped must not be found by the pattern that has it now
        names: dict[str, str | None] = {**dict.fromkeys(generation.dropped), **generation.renamed}
        states = dict(handed.states)
        for name, state in handed.states.items():
            own = {old: names[old] for old in patterns_in(state) if old in names} if state.header else {}
            if own:
                states[name] = renamed(state, own)
        # what a version has found stays with its pattern; of patterns that are gone nothing is kept
        here = {"", *(member.name for member in generation.members)}
        counters = {name: value for name, value in handed.counters.items() if name.rpartition(".")[0] in here}
        return Handover(states, handed.sources, counters)

    def _run(self, prepared: Prepared) -> None:
        self.runnable, self.pipeline = prepared.runnable, prepared.pipeline
        self.place.generation = prepared.runnable.generation.number
        plan = prepared.runnable.plan
        self._sources = {} if plan is None else {stream.name: n for n, stream in enumerate(plan.sources)}
        self.outlet.use(prepared.runnable.generation, () if prepared.pipeline is None else prepared.pipeline.makers)

    def _add_lanes(self, pipeline: Pipeline, now: int) -> None:
        for intake in pipeline.intakes:
            for split in self.place.lanes.get(intake.stream.name, {}).values():
                intake.time.add_split(split, now)

    def _partial_matches(self) -> dict[str, int]:
        if self.pipeline is None:
            return {}
        self.pipeline.count_patterns()
        return {name: numbers.partial_matches for name, numbers in self.pipeline.statistics.patterns.items()}

    # What comes

    def apply(self, entry: Entry, prepared: Prepared | None = None) -> None:
        """Deal with the next record. `prepared`: the generation that is expected next.

        Raises:
            PatternFailedError: a pattern cannot go on; the engine is of no use any more.
        """
        self.outlet.position, self.outlet.at_ms = entry.position, entry.time_ms
        if (left_out := self.exclusions.get(entry.position)) is not None:
            self._leave_out(left_out, entry)
        try:
            match entry.kind:
                case Kind.EVENTS:
                    self._take(entry)
                case Kind.TICK:
                    if self.pipeline is not None:
                        self.pipeline.step(Tick(entry.time_ms, idle=True))
                        self.pipeline.settle(entry.time_ms)
                case Kind.GENERATION:
                    number = decode_json(entry.data, Activation).generation
                    # a record that comes again, as a server that was killed may have it, must not rename again
                    if number > self.place.generation:
                        # a number is given again where a change was withdrawn: the catalog has the one that was made
                        generation = self._find(number)
                        if prepared is None or prepared.runnable.generation != generation:
                            prepared = self.prepare(generation)
                        self.place.excluded = []
                        self._activated(self._activate(prepared, entry.time_ms))
        except MatchError as error:
            raise PatternFailedError(error.pattern, entry.position, str(error)) from error
        self.outlet.commit()
        self.place.position = entry.next
        self.place.seq = self.outlet.seq

    def _take(self, entry: Entry) -> None:
        if entry.stream == DEAD_LETTERS:
            self.outlet.keep(entry.data.splitlines())
            return
        lanes = self.place.lanes.setdefault(entry.stream, {})
        split = lanes.get(entry.lane)
        source = self._sources.get(entry.stream)
        if split is None:
            split = lanes[entry.lane] = len(lanes)
            if self.pipeline is not None and source is not None:
                self.pipeline.intakes[source].time.add_split(split, entry.time_ms)
        if not entry.rows:
            return
        self.rows[entry.stream, entry.lane] += entry.rows
        self._remember(entry)
        if self.pipeline is None or source is None:
            self.unread += entry.rows
            return
        chunk = Chunk.of(entry.data, split=split, source=entry.stream)
        self.pipeline.step(ReadChunk(source, chunk, entry.time_ms))

    def _leave_out(self, names: set[str], entry: Entry) -> None:
        """Go on without some patterns, from just before the record on."""
        fresh = [name for name in sorted(names) if name in self.runnable.checked]
        if fresh:
            left, gone = self._checker.without(self.runnable.generation, fresh)
            self.place.excluded += gone
            self._activate(self.prepare(left), entry.time_ms)

    def _remember(self, entry: Entry) -> None:
        self.recent.append(entry)
        self._recent_bytes += len(entry.data)
        while self._recent_bytes > KEPT_BYTES and len(self.recent) > 1:
            self._recent_bytes -= len(self.recent.popleft().data)

    # Snapshots

    def sources(self) -> list[SourceState]:
        """The time of each source, as a manifest has it."""
        if self.pipeline is None:
            return []
        return [SourceState(intake.stream.name, {}, intake.time.state()) for intake in self.pipeline.intakes]

    def more(self) -> Mapping[str, Any]:
        """What else a snapshot holds."""
        return {"live": msgspec.to_builtins(self.place)}


def _misfits(before: Runnable, after: Runnable) -> set[str]:
    """Operators whose stream has another key or other types than it had: a pattern before them emits something else.
    What they hold has no place any more; whoever plans the change says so."""
    held = {checked.stream.name: checked.stream for checked in before.checked.values()}
    wrong = {
        checked.stream.name
        for checked in after.checked.values()
        if checked.stream.name in held and not is_alike(held[checked.stream.name], checked.stream)
    }
    return wrong | {f"{stream}.order" for stream in wrong}
