"""Patterns over Python's own data: events are dicts in, rows are dicts out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import orjson

from ostinato.cep.batch import Batch
from ostinato.cep.connectors.base import CHUNK_BYTES, BadRecord, Chunk
from ostinato.cep.event import natural, read
from ostinato.cep.runtime.job import LocalJob
from ostinato.cep.runtime.load import Loaded
from ostinato.cep.runtime.stopping import Stop
from ostinato.patterns import ast
from ostinato.patterns.builder import Pattern
from ostinato.patterns.declarations import Event
from ostinato.patterns.decorators import DeclaredPattern
from ostinato.patterns.durations import DurationLike
from ostinato.patterns.errors import PatternError, Problem
from ostinato.patterns.parser import parse_program
from ostinato.patterns.processes import check_processes, declared_processes, streams_of
from ostinato.patterns.typecheck import check_program

Source: TypeAlias = "type[Event] | ast.Stream"
AnyPattern: TypeAlias = "DeclaredPattern | Pattern | ast.Pattern | str | type"
Row: TypeAlias = dict[str, Any]


class BadEventError(Exception):
    """An event does not fit its stream; the message says why."""


def matches(
    pattern: AnyPattern,
    events: Iterable[Mapping[str, Any]],
    *,
    on: Source | None = None,
    params: Mapping[str, Any] | None = None,
) -> list[Row]:
    """The matches of one pattern in some events.

    Args:
        pattern: a decorated function, a decorated process function, a pattern of the builder, or the text of a
            ``.cep`` file with one pattern.
        events: in the order in which they arrive.
        on: the stream that a pattern of the builder reads.
        params: values of the text's parameters.

    Returns:
        A row for each match, in the order in which they are found: what the pattern emits, or its key and for each
        stage the list of its events. TIMESTAMPs are milliseconds.

    Raises:
        PatternError: the pattern is wrong.
        BadEventError: an event does not fit the stream.
    """
    found = run([pattern], events, on=on, params=params)
    if len(found) != 1:
        names = ", ".join(found)
        raise PatternError(Problem(f"there is more than one result: {names}", hint="use cep.run, which gives them all"))
    return next(iter(found.values()))


def run(
    patterns: AnyPattern | Sequence[AnyPattern],
    events: Iterable[Mapping[str, Any]] | Mapping[str, Iterable[Mapping[str, Any]]],
    *,
    on: Source | None = None,
    params: Mapping[str, Any] | None = None,
) -> dict[str, list[Row]]:
    """Run patterns over events; the rows of every stream that no pattern reads, by its name.

    Args:
        patterns: one or several, see `matches`. Patterns may read what others give.
        events: of the one stream that is read; or by the name of the stream, where there are several.
        on: the stream that patterns of the builder read.
        params: values of parameters.

    Raises:
        PatternError: a pattern is wrong.
        BadEventError: an event does not fit its stream.
    """
    listed = [patterns] if isinstance(patterns, (str, type, DeclaredPattern, Pattern, ast.Pattern)) else patterns
    job = load_patterns(listed, on, params).definition
    names = [stream.name for stream in job.plan.sources]
    if not isinstance(events, Mapping):
        if len(names) != 1:
            raise PatternError(Problem(f"the events of which stream? {', '.join(names)} are read", hint="give a dict"))
        events = {names[0]: events}
    collected = _Collected({name: [] for name in job.plan.delivered})
    LocalJob(job, [_Given(events.get(name, ())) for name in names], collected).run(Stop())
    return collected.rows


def stream(
    name: str,
    columns: Mapping[str, Any],
    *,
    key: str | Iterable[str] = (),
    time: str | None = None,
    delay: DurationLike = 0,
    **options: Any,
) -> type[Event]:
    """Declare a stream without writing a class.

    ``cep.stream("logins", {"user": str, "ts": int}, key="user", time="ts")``; `options` are other arguments of `Event`.
    """
    namespace = {"__annotations__": dict(columns), "__module__": __name__, "__qualname__": name}
    make: Any = type(Event)  # with arguments of the class, which type checkers do not know of here
    made: type[Event] = make(name, (Event,), namespace, name=name, key=key, time=time, delay=delay, **options)
    return made


def load_patterns(patterns: Sequence[AnyPattern], on: Source | None, params: Mapping[str, Any] | None) -> Loaded:
    """The patterns as one checked program."""
    declarations: dict[str, ast.Declaration] = {}
    declared = []
    functions = declared_processes(each for each in patterns if isinstance(each, type))
    for stream_ in streams_of(functions):
        declarations[f"stream {stream_.name}"] = stream_
    source = on if on is None or isinstance(on, ast.Stream) else on.__stream__
    if source is not None:
        declarations[f"stream {source.name}"] = source
    for number, pattern in enumerate(patterns, 1):
        if isinstance(pattern, type):
            if "__process__" not in vars(pattern):
                raise PatternError(Problem(f"{pattern.__name__} is no pattern", hint="decorate it with cep.process"))
        elif isinstance(pattern, str):
            for each in parse_program(pattern).declarations:
                declarations[f"{type(each).__name__} {getattr(each, 'name', id(each))}"] = each
        elif isinstance(pattern, DeclaredPattern):
            declared.append(pattern)
            if pattern.stream is not None:
                declarations[f"stream {pattern.stream.name}"] = pattern.stream
            declarations[f"pattern {pattern.name}"] = pattern.ast
        else:
            if isinstance(pattern, Pattern):
                if source is None:
                    raise PatternError(
                        Problem("which stream does the pattern read?", hint="give on=: a class derived from cep.Event")
                    )
                pattern = pattern.to_ast("matches" if len(patterns) == 1 else f"matches_{number}", source)
            declarations[f"pattern {pattern.name}"] = pattern
    checked = check_program(ast.Program(tuple(declarations.values())), params or {})
    return Loaded(checked, tuple(declared), whole_rows=False, processes=check_processes(functions, checked))


class _Given:
    """Reads events from an iterable, as JSON lines, which is what decoders understand."""

    splits = 1

    def __init__(self, events: Iterable[Mapping[str, Any]]) -> None:
        self._events: Iterator[Mapping[str, Any]] = iter(events)
        self._count = 0

    def read(self) -> Chunk | None:
        lines: list[bytes] = []
        size = 0
        for event in self._events:
            line = orjson.dumps(event if isinstance(event, dict) else dict(event), default=_plain)
            lines.append(line)
            size += len(line)
            if size >= CHUNK_BYTES:
                break
        if not lines:
            return None
        first = self._count + 1
        self._count += len(lines)
        return Chunk.of(b"\n".join(lines) + b"\n", source="event", first_line=first)

    def seek(self, position: Mapping[str, Any]) -> None:
        raise NotImplementedError("an iterable cannot be read again")

    def close(self) -> None: ...


def _plain(value: Any) -> Any:
    """What orjson does not know, as text: Decimals above all."""
    return str(value)


class _Collected:
    """An outlet that keeps all rows."""

    def __init__(self, rows: dict[str, list[Row]]) -> None:
        self.rows = rows

    def deliver(self, batch: Batch) -> None:
        held = self.rows.get(batch.stream)
        if held is None:
            return
        for row in range(len(batch)):
            held.append({name: natural(read(vector, row), vector.type) for name, vector in batch.columns.items()})

    def reject(self, records: Sequence[BadRecord]) -> None:
        first = records[0]
        raise BadEventError(f"event {first.line}: {first.reason}: {first.raw[:200].decode('utf-8', 'replace')}")

    def breathe(self, *, idle: bool) -> None: ...
