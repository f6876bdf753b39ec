"""From a checked program to what has to run: which streams are read, which patterns share a matcher, what is routed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ostinato.patterns.ast import Stream
from ostinato.patterns.errors import PatternError, Problem
from ostinato.patterns.typecheck import CheckedPattern, CheckedProgram
from ostinato.patterns.typed import Current

LATE = ".late"
"""What the stream of a stream's late rows is called behind its name."""


@dataclass(frozen=True, slots=True)
class Matching:
    """The patterns over one stream: they share one matcher.

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


def plan(program: CheckedProgram) -> Plan:
    """Lay out the job of a program.

    Every stream that an ``output`` names is delivered, and every one that no pattern reads.

    Raises:
        PatternError: patterns read each other's matches in a circle, or there is nothing to run.
    """
    if not program.patterns:
        raise PatternError(Problem("there is no pattern to run", hint="add `pattern NAME on STREAM match ...`"))
    reading: dict[str, list[CheckedPattern]] = {}
    producing: dict[str, list[CheckedPattern]] = {}
    for checked in program.patterns:
        reading.setdefault(checked.stream.name, []).append(checked)
        for name in streams_made(checked):
            producing.setdefault(name, []).append(checked)
    stages: dict[str, int] = {}
    matchings = []
    for stream in _in_order(program, reading, producing):
        makers = producing.get(stream, [])
        rekeyed = any(not _stays_with_its_key(maker, stream) for maker in makers)
        merged = rekeyed or len(makers) > 1
        stages[stream] = max((stages[maker.stream.name] for maker in makers), default=0) + int(rekeyed)
        patterns = tuple(reading[stream])
        emits = tuple(dict.fromkeys(name for checked in patterns for name in streams_made(checked)))
        source = patterns[0].stream
        matchings.append(Matching(source, patterns, merged, rekeyed, emits, stages[stream]))
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


def streams_made(checked: CheckedPattern) -> Iterable[str]:
    """The streams that a pattern's matches and timeouts become."""
    yield checked.output_stream.name
    if checked.pattern.timeouts_into is not None:
        yield checked.pattern.timeouts_into


def _in_order(
    program: CheckedProgram, reading: Mapping[str, list[CheckedPattern]], producing: Mapping[str, list[CheckedPattern]]
) -> list[str]:
    """The streams that are read, each after those it is made of."""
    order: list[str] = []
    open_: list[str] = []

    def visit(stream: str) -> None:
        if stream in order:
            return
        if stream in open_:
            circle = " -> ".join([*open_[open_.index(stream) :], stream])
            span = reading[stream][0].pattern.span
            raise PatternError(Problem(f"patterns read their own matches in a circle: {circle}", span))
        open_.append(stream)
        for maker in producing.get(stream, []):
            visit(maker.stream.name)
        open_.pop()
        order.append(stream)

    for checked in program.patterns:
        visit(checked.stream.name)
    return order


def _stays_with_its_key(maker: CheckedPattern, stream: str) -> bool:
    """Do the rows of a derived stream have the very key of the stream they were made of?"""
    derived = maker.output_stream if maker.output_stream.name == stream else None
    if derived is None:
        return False
    values = dict(maker.outputs)
    sources = tuple(
        value.name if isinstance(value := values.get(key), Current) else None  # a computed key is another key
        for key in derived.keys
    )
    return sources == maker.stream.keys
