"""The past, once more: from the journal, from files, from topics. Each way runs all sides at the same time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np

from ostinato.cep.batch import Batch
from ostinato.cep.connectors.base import BadRecord, Chunk, Decoder, Reader
from ostinato.cep.connectors.factory import KAFKA, reader_for
from ostinato.cep.runtime.clock import wall_clock
from ostinato.cep.runtime.pipeline import Pipeline
from ostinato.cep.runtime.sources import Ended, ReadChunk, Sources, Tick
from ostinato.patterns.ast import Connector, Pattern, Stream
from ostinato.patterns.parser import parse_program
from ostinato.server.backtest.spec import BacktestSpec, Input
from ostinato.server.changes.texts import stream_in
from ostinato.server.ingest.dead_letters import DEAD_LETTERS
from ostinato.server.journal import Entry, JournalReader, Kind
from ostinato.server.live.engine import Engine
from ostinato.server.live.generation import Activation, Generation
from ostinato.server.live.outlet import MatchOutlet, RowLog
from ostinato.server.live.program import Checker

_READ_BYTES: Final = 1 << 20

Told = Callable[[float, int], None]
"""Is told how far it is (0 to 1), and how many events there have been; called between two steps."""


def over_journal(spec: BacktestSpec, sides: Sequence[tuple[Generation, RowLog]], told: Told) -> int:
    """Run over the records whose time is in the range; returns the number of events.

    Changes of what ran then are passed over, and so is what was before: partial matches begin with the first record.

    Raises:
        JournalError: what is to be read is gone, or damaged.
        PatternFailedError: a pattern cannot go on.
    """
    assert spec.journal is not None
    engines = [_engine(generation, side) for generation, side in sides]
    read = {member.on for generation, _ in sides for member in _trees(generation)}
    events, is_new, now = 0, True, 0
    with JournalReader(Path(spec.journal), spec.start) as reader:
        for entries in _in_range(reader, spec):
            for entry in entries:
                if is_new:
                    is_new = False
                    for engine in engines:
                        engine.apply(_beginning(entry))
                now, events = entry.time_ms, events + (entry.rows if entry.stream in read else 0)
                if entry.kind != Kind.GENERATION and entry.stream != DEAD_LETTERS:
                    for engine in engines:
                        engine.apply(entry)
            told((reader.position - spec.start) / max(1, spec.until - spec.start), events)
    for engine in engines:
        if engine.pipeline is not None:
            engine.pipeline.drain(now)
            engine.outlet.commit()
    return events


def _in_range(reader: JournalReader, spec: BacktestSpec) -> Iterator[list[Entry]]:
    while entries := reader.read(spec.until, _READ_BYTES):
        # times never go back within the journal
        past = spec.to_ms is not None and entries[-1].time_ms >= spec.to_ms
        yield [
            entry
            for entry in entries
            if (spec.from_ms is None or entry.time_ms >= spec.from_ms)
            and (spec.to_ms is None or entry.time_ms < spec.to_ms)
        ]
        if past:
            return


def _trees(generation: Generation) -> list[Pattern]:
    return [parse_program(member.text, member.pattern).patterns[0] for member in generation.members]


def _engine(generation: Generation, side: RowLog) -> Engine:
    engine = Engine(side, lambda _: generation)
    engine.place.generation = generation.number - 1
    return engine


def _beginning(first: Entry) -> Entry:
    """The record with which the patterns begin."""
    data = msgspec.json.encode(Activation(1))
    return Entry(first.position, first.position, Kind.GENERATION, first.time_ms, data=data)


def over_sources(spec: BacktestSpec, sides: Sequence[tuple[Generation, RowLog]], told: Told) -> int:
    """Run over files or topics, each side with the decoder of its own declaration; returns the number of events.

    Raises:
        ConnectorError: they cannot be read.
        MatchError: a pattern cannot go on.
    """
    runs = [_Run(spec, generation, side) for generation, side in sides]
    streams = {stream.name: stream for run in reversed(runs) for stream in run.streams}
    if not streams:
        return 0
    with ExitStack() as stack:
        readers = []
        for stream in streams.values():
            readers.append(_reader(stream, spec))
            stack.callback(readers[-1].close)
        names = list(streams)
        for run in runs:
            run.begin(dict(zip(names, readers, strict=True)))
        sources, portion = Sources(readers), _Portion(readers)
        while (entry := sources.next()) is not None:
            for run in runs:
                run.step(entry, names)
            if isinstance(entry, ReadChunk):
                portion.note(entry)
            told(portion.part, max(run.events for run in runs))
    return max(run.events for run in runs)


class _Run:
    """One side over sources."""

    def __init__(self, spec: BacktestSpec, generation: Generation, side: RowLog) -> None:
        runnable = Checker().check(generation)
        definition = runnable.definition
        self.streams: list[Stream] = []
        self._definition = definition
        self._spec = spec
        self._outlet = MatchOutlet(side)
        self._generation = generation
        self._pipeline: Pipeline | None = None
        self._places: dict[str, int] = {}
        if definition is not None:
            # as they are declared: what runs knows them as they lie in the journal
            declared = {stream.name: stream for stream in map(stream_in, generation.streams)}
            self.streams = [
                replace(declared[stream.name], source=_connector(spec.inputs[stream.name]))
                for stream in definition.plan.sources
            ]
            self._places = {stream.name: number for number, stream in enumerate(self.streams)}
            self._definition = replace(definition, plan=replace(definition.plan, sources=tuple(self.streams)))

    @property
    def events(self) -> int:
        return 0 if self._pipeline is None else self._pipeline.statistics.events

    def begin(self, readers: Mapping[str, Reader]) -> None:
        if self._definition is None:
            return
        splits = [readers[stream.name].splits for stream in self.streams]
        pipeline = self._pipeline = Pipeline(self._definition, self._outlet, splits, wall_clock())
        self._outlet.use(self._generation, pipeline.makers)
        for intake in pipeline.intakes:
            if intake.stream.source is not None and intake.stream.source.kind != KAFKA:
                intake.wrap(lambda decoder: Between(decoder, self._spec.from_ms, self._spec.to_ms))

    def step(self, entry: ReadChunk | Tick | Ended, names: Sequence[str]) -> None:
        if self._pipeline is None:
            return
        if isinstance(entry, Tick):
            self._pipeline.step(entry)
        else:
            number = self._places.get(names[entry.source])
            if number is None:
                return
            self._pipeline.step(replace(entry, source=number))
        self._outlet.commit()


class Between:
    """A decoder that leaves out what is not of the time that is asked for, by event time."""

    def __init__(self, decoder: Decoder, from_ms: int | None, to_ms: int | None) -> None:
        self._decoder = decoder
        self._from_ms = from_ms
        self._to_ms = to_ms

    def decode(self, chunk: Chunk) -> tuple[Batch, list[BadRecord]]:
        batch, bad = self._decoder.decode(chunk)
        wanted = np.ones(len(batch), np.bool_)
        if self._from_ms is not None:
            wanted &= batch.time >= self._from_ms
        if self._to_ms is not None:
            wanted &= batch.time < self._to_ms
        return batch if wanted.all() else batch.take(wanted), bad

    def refuse(self, chunk: Chunk, reasons: Mapping[int, str]) -> list[BadRecord]:
        """They are only counted; which they were is not known any more."""
        return [BadRecord(b"", chunk.source, -1, -1, reason) for reason in reasons.values()]


class _Portion:
    """How much of the sources has been read: by bytes, and of topics by offsets."""

    def __init__(self, readers: Sequence[Reader]) -> None:
        self._readers = readers
        self._first: dict[tuple[int, int], int] = {}
        self._last: dict[tuple[int, int], tuple[int, int]] = {}

    def note(self, entry: ReadChunk) -> None:
        position: Mapping[str, Any] = entry.chunk.position
        if "offset" in position and position.get("end") is not None:
            key = entry.source, entry.chunk.split
            self._first.setdefault(key, position["offset"])
            self._last[key] = position["offset"], position["end"]

    @property
    def part(self) -> float:
        total: int = sum(getattr(reader, "total_bytes", None) or 0 for reader in self._readers)
        if total:
            read: int = sum(getattr(reader, "read_bytes", 0) for reader in self._readers)
            return min(1.0, read / total)
        whole = sum(end - self._first[key] for key, (_, end) in self._last.items())
        done = sum(offset - self._first[key] for key, (offset, _) in self._last.items())
        return min(1.0, done / whole) if whole > 0 else 0.0


def _connector(given: Input) -> Connector:
    return Connector(given.kind, given.target, given.format, tuple(given.options.items()))


def _reader(stream: Stream, spec: BacktestSpec) -> Reader:
    source = stream.source
    assert source is not None
    if source.kind != KAFKA:
        return reader_for(stream, follow=False)
    from ostinato.cep.connectors.kafka.options import source_options
    from ostinato.cep.connectors.kafka.reader import KafkaReader

    declared = source_options(source, f"stream {stream.name}")
    return KafkaReader(
        replace(
            declared,
            start="earliest" if spec.from_ms is None else spec.from_ms,
            until="latest" if spec.to_ms is None else spec.to_ms,
        )
    )


def timer() -> Callable[[], float]:
    """Seconds since now, but for those that compiling has taken."""
    from ostinato.cep.compiling import seconds_spent

    began, compiled = time.monotonic(), seconds_spent()
    return lambda: time.monotonic() - began - (seconds_spent() - compiled)
