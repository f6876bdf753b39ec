"""What streams have: checks of declared ones, and the columns of those that patterns emit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ostinato.patterns.ast import Contiguity, FieldDecl, Pattern, Stream, TimeDecl, stages_of
from ostinato.patterns.errors import Problem, did_you_mean
from ostinato.patterns.typed import Current, Typed
from ostinato.patterns.types import BIGINT, NULL, STRING, TIMESTAMP, Array, DataType, Row

MATCH_TIME = "match_time"
"""The column of a stream of matches with the time of their last event."""

MATCHES = "matches"
"""The column with the number of matches, of a pattern that counts them."""

METADATA: dict[str, tuple[DataType, ...]] = {
    "topic": (STRING,),
    "partition": (BIGINT,),
    "offset": (BIGINT,),
    "timestamp": (TIMESTAMP, BIGINT),
    "key": (STRING,),
}
"""What surrounds a record of Kafka and can be a column, with the types that it may have there."""

HEADER = "headers."
"""Before the name of a header, which can be a column too."""

_NUMERIC_FORMATS = frozenset({"s", "ms", "us", "ns"})


def columns_of(stream: Stream) -> dict[str, DataType]:
    """The types of a stream's columns by name."""
    return {column.name: column.type for column in stream.columns}


def event_type(stream: Stream) -> Row:
    """The type of a whole event."""
    return Row(tuple(columns_of(stream).items()))


def output_stream(pattern: Pattern, stream: Stream, outputs: Sequence[tuple[str, Typed]]) -> Stream:
    """The stream that a pattern's matches become.

    It has the emitted columns (of which those that are keys stay keys), or without any, the keys and for each stage its
    events; of a pattern that counts, the keys and the number. Its time is that of a match's last event.
    """
    keys = [column for column in stream.columns if column.key]
    columns: list[FieldDecl] = []
    if outputs:
        for name, value in outputs:
            key = isinstance(value, Current) and value.name in stream.keys
            columns.append(FieldDecl(name, STRING if value.type == NULL else value.type, key))
    elif pattern.count:
        columns = [FieldDecl(key.name, key.type, key=True) for key in keys]
        columns.append(FieldDecl(MATCHES, BIGINT))
    else:
        events = Array(event_type(stream))
        stages = [stage.name for stage in stages_of(pattern.items) if not _negated(stage.contiguity)]
        columns = [FieldDecl(key.name, key.type, key=True) for key in keys if key.name not in stages]
        columns += [FieldDecl(stage, events) for stage in stages]
    columns.append(FieldDecl(MATCH_TIME, TIMESTAMP))
    return Stream(pattern.into or pattern.name, tuple(columns), TimeDecl(column=MATCH_TIME))


def _negated(contiguity: Contiguity | None) -> bool:
    return contiguity is not None and contiguity.negated


def output_problems(pattern: Pattern, stream: Stream) -> Iterator[Problem]:
    """Names that the stream of matches cannot have."""
    for output in pattern.emit:
        if output.name == MATCH_TIME:
            yield Problem(
                f"every stream of matches has a column `{MATCH_TIME}` already",
                output.span or pattern.span,
                "leave it out, or give it another name",
            )
    if pattern.count and MATCHES in stream.keys:
        yield Problem(f"the key `{MATCHES}` has the name of the column with the number of matches", pattern.span)
    if not pattern.emit and not pattern.count:
        for stage in stages_of(pattern.items):
            if stage.name == MATCH_TIME:
                yield Problem(f"a stage called `{MATCH_TIME}` cannot be emitted", stage.span, "name what to emit")


def stream_problems(stream: Stream) -> Iterator[Problem]:
    """What is wrong with a declared stream."""
    seen: set[str] = set()
    for column in stream.columns:
        if column.name in seen:
            yield Problem(f"stream `{stream.name}` has two columns `{column.name}`", column.span, "rename one")
        seen.add(column.name)
        if column.key and isinstance(column.type, (Array, Row)):
            yield Problem(f"a key is one value, but `{column.name}` is {column.type}", column.span)
        if column.metadata is not None:
            yield from _metadata_problems(stream, column, column.metadata)
    yield from _time_problems(stream)


def _metadata_problems(stream: Stream, column: FieldDecl, name: str) -> Iterator[Problem]:
    header = name.startswith(HEADER) and len(name) > len(HEADER)
    types = (STRING,) if header else METADATA.get(name)
    if types is None:
        hint = did_you_mean(name, METADATA) or f"there are {', '.join(METADATA)} and {HEADER}NAME"
        yield Problem(f"there is no metadata '{name}'", column.span, hint)
    elif column.type not in types:
        wanted = " or ".join(map(str, types))
        yield Problem(f"`{column.name}` is {column.type}, but metadata '{name}' is {wanted}", column.span)
    if stream.source is not None and stream.source.kind != "kafka":
        yield Problem(
            f"`{column.name}` is taken from metadata, which a source of kind {stream.source.kind} does not have",
            column.span,
            "records of kafka have it; elsewhere a column is `from` a place in the record",
        )
    if column.name != stream.time.column:
        return
    if name != "timestamp":
        yield Problem(f"metadata '{name}' is no time", column.span, "the time of a record is metadata 'timestamp'")
    elif (stream.time.format, stream.time.zone) != ("ms", None):
        yield Problem(
            f"`{column.name}` is the time of records of Kafka, which is in milliseconds of UTC",
            column.span,
            "leave out format and zone",
        )


def _time_problems(stream: Stream) -> Iterator[Problem]:
    time = stream.time
    if time.column is None:
        if time.mode == "event":
            yield Problem(
                f"stream `{stream.name}` has no time",
                stream.span,
                "mark a column, `ts timestamp(ms) time`, or write `processing time` behind the columns",
            )
        return
    column = stream.column(time.column)
    if column is None:
        yield Problem(f"stream `{stream.name}` has no column `{time.column}` to take its time from", stream.span)
        return
    if column.type == BIGINT:
        if time.format not in _NUMERIC_FORMATS:
            yield Problem(
                f"`{column.name}` is a BIGINT, so its time is not of the format '{time.format}'",
                column.span,
                "declare it as timestamp(…)",
            )
    elif column.type != TIMESTAMP:
        yield Problem(
            f"`{column.name}` is {column.type}, which is no time",
            column.span,
            "declare it as timestamp(ms), timestamp(iso), timestamp('%Y-%m-%d …')",
        )
    if time.zone is not None and not _is_zone(time.zone):
        yield Problem(f"there is no time zone '{time.zone}'", column.span, "such as 'Europe/Berlin' or 'UTC'")


def _is_zone(name: str) -> bool:
    from zoneinfo import ZoneInfo

    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        return False
    return True
