"""From a checked program to what has to run: which streams are read, which patterns share a matcher, what is routed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from ostinato.patterns.ast import Stream
from ostinato.patterns.errors import PatternError, Problem
from ostinato.patterns.processes import CheckedProcess
from ostinato.patterns.typecheck import CheckedPattern, CheckedProgram
from ostinato.patterns.typed import Current

Maker: TypeAlias = CheckedPattern | CheckedProcess
"""What reads one stream and makes others."""

LATE = ".late"
"""What the stream of a stream's late rows is called behind its name."""


@dataclass(frozen=True, slots=True)
class Matching:
    """The patterns over one stream, which share one matcher, and the process functions that read it.

    `merged`: the stream comes from several producers, or from workers that do not own its keys (`rekeyed`), so that
    its rows are brought into one order first. `stage`: how many exchanges between workers come before it. `emits` are
    the streams that come out.
    """

    stream: Stream
    patterns: tuple[CheckedPattern, ...]
    merged: bool
    rekeyed: bool
    emits: tuple[str, ...]
    stage: int
    processes: tuple[CheckedProcess, ...] = ()


@dataclass(frozen=True, slots=True)
class Plan:
    """A job, before it runs.

    Attributes:
        sources: the streams that are read from outside.
        matchings: in an order in which every stream is made before it is read.
        streams: every stream of the job by name, derived ones included.
        delivered: the streams whose rows leave the job.
        stages: how many times rows are exchanged between workers, the first time included.
    """

    sources: tuple[Stream, ...]
    matchings: tuple[Matching, ...]
    streams: Mapping[str, Stream]
    delivered: tuple[str, ...]
    stages: int

    @property
    def clocked(self) -> bool:
        """Does anything in it go by the job's clock, besides the sources?"""
        return any(matching.processes for matching in self.matchings)


def plan(program: CheckedProgram, processes: Sequence[CheckedProcess] = ()) -> Plan:
    """Lay out the job of a program.

    Every stream that an ``output`` names is delivered, and every one that nothing reads.

    Raises:
        PatternError: patterns read each other's matches in a circle, or there is nothing to run.
    """
    makers_of_all: list[Maker] = [*program.patterns, *processes]
    if not makers_of_all:
        raise PatternError(Problem("there is no pattern to run", hint="add `pattern NAME on STREAM match ...`"))
    reading: dict[str, list[Maker]] = {}
    producing: dict[str, list[Maker]] = {}
    for maker in makers_of_all:
        reading.setdefault(maker.stream.name, []).append(maker)
        for name in streams_made(maker):
            producing.setdefault(name, []).append(maker)
    stages: dict[str, int] = {}
    matchings = []
    for stream in _in_order(makers_of_all, reading, producing):
        makers = producing.get(stream, [])
        rekeyed = any(not _stays_with_its_key(each, stream) for each in makers)
        merged = rekeyed or len(makers) > 1
        stages[stream] = max((stages[each.stream.name] for each in makers), default=0) + int(rekeyed)
        readers = reading[stream]
        patterns = tuple(each for each in readers if isinstance(each, CheckedPattern))
        own = tuple(each for each in readers if isinstance(each, CheckedProcess))
        emits = tuple(dict.fromkeys(name for checked in patterns for name in streams_made(checked)))
        matchings.append(Matching(readers[0].stream, patterns, merged, rekeyed, emits, stages[stream], own))
    streams = dict(program.streams)
    for checked in program.patterns:
        for name in streams_made(checked):
            streams.setdefault(name, checked.output_stream)
    declared = [output.stream for output in program.outputs if not output.stream.endswith(LATE)]
    unread = [name for name in producing if name not in reading]
    return Plan(
        sources=tuple(matching.stream for matching in matchings if matching.stream.name not in producing),
        matchings=tuple(matchings),
        streams=streams,
        delivered=tuple(dict.fromkeys([*declared, *unread])),
        stages=max(stages.values()) + 1,
    )


def streams_made(checked: Maker) -> Iterable[str]:
    """The streams that a pattern's matches and timeouts become, or that a process function gives."""
    if isinstance(checked, CheckedProcess):
        yield from (stream.name for stream in checked.outputs)
        return
    yield checked.output_stream.name
    if checked.pattern.timeouts_into is not None:
        yield checked.pattern.timeouts_into


def _in_order(
    makers: Sequence[Maker], reading: Mapping[str, list[Maker]], producing: Mapping[str, list[Maker]]
) -> list[str]:
    """The streams that are read, each after those it is made of."""
    order: list[str] = []
    open_: list[str] = []

    def visit(stream: str) -> None:
        if stream in order:
            return
        if stream in open_:
            circle = " -> ".join([*open_[open_.index(stream) :], stream])
            first = reading[stream][0]
            span = first.pattern.span if isinstance(first, CheckedPattern) else None
            raise PatternError(Problem(f"patterns read their own matches in a circle: {circle}", span))
        open_.append(stream)
        for maker in producing.get(stream, []):
            visit(maker.stream.name)
        open_.pop()
        order.append(stream)

    for each in makers:
        visit(each.stream.name)
    return order


def _stays_with_its_key(maker: Maker, stream: str) -> bool:
    """Do the rows of a derived stream have the very key of the stream they were made of?"""
    if isinstance(maker, CheckedProcess):
        return False  # nobody knows what a function gives
    derived = maker.output_stream if maker.output_stream.name == stream else None
    if derived is None:
        return False
    values = dict(maker.outputs)
    sources = tuple(
        value.name if isinstance(value := values.get(key), Current) else None  # a computed key is another key
        for key in derived.keys
    )
    return sources == maker.stream.keys
