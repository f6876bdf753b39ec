"""The gate of a stream: what is wrong with a line is known before it is stored."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Final

from ostinato.cep.connectors.base import BadRecord, Chunk, ConnectorError, Options
from ostinato.cep.connectors.columns import Schema
from ostinato.cep.connectors.factory import text_format
from ostinato.cep.connectors.json_lines import JsonLines
from ostinato.patterns.ast import Connector, Stream
from ostinato.patterns.types import TIMESTAMP
from ostinato.server.ingest.quick import QuickLines

_FEW_LINES: Final = 8
"""So many lines one by one cost less than a call of the decoder."""
_FEW_BYTES: Final = 8 << 10
_BLANK: Final = b" \t\r"


@dataclass(frozen=True, slots=True)
class Bad:
    """A line that cannot be used. `line` counts from 1."""

    line: int
    reason: str
    raw: bytes


@dataclass(frozen=True, slots=True)
class Checked:
    """What came of a body: the good lines, each ended by a line feed, how many they are, and the others."""

    data: bytes
    rows: int
    bad: list[Bad]


def check_stream(stream: Stream) -> None:
    """Raise ConnectorError where events of a stream cannot come through the server."""
    about = [field.name for field in stream.columns if field.metadata is not None]
    if about:
        raise ConnectorError(
            f"stream {stream.name}: column {', '.join(about)} comes `from metadata` of Kafka's records, which the "
            "server's journal does not keep; have the producer write it into the value, or run the program as a job "
            "(ostinato run)"
        )


def journal_form(stream: Stream) -> Stream:
    """How the events of a stream lie in the journal: as JSON lines of this stream.

    What is read as JSON lies there as it is read. What is read as CSV, text or Parquet is decoded before, and lies
    there by the names of its columns, its times as ISO 8601; over HTTP it is to be sent like that too.
    """
    year = _year_of(stream)
    source = None if year is None else Connector("stdin", None, "json", (("year", year),))
    if text_format(stream) in (None, "json"):
        return replace(stream, source=source)
    time = stream.column(stream.time.column) if stream.time.column is not None else None
    return replace(
        stream,
        source=source,
        columns=tuple(replace(column, source=None) for column in stream.columns),
        time=replace(stream.time, format="iso", zone=None)
        if time is not None and time.type == TIMESTAMP
        else stream.time,
    )


def _year_of(stream: Stream) -> int | None:
    """The year of times that are written without one, where the stream's source says it."""
    if stream.source is None:
        return None
    return Options(f"stream {stream.name}", stream.source.options).number("year", 0) or None


def decoder_of(stream: Stream) -> JsonLines:
    """The decoder of what the journal holds of a stream. Raises ConnectorError."""
    check_stream(stream)
    return JsonLines(journal_form(stream), year=_year_of(stream))


class Gate:
    """Checks the events of one stream with the decoder that will read them. Thread-safe."""

    def __init__(self, stream: Stream) -> None:
        """Raises ConnectorError where events of the stream cannot come through the server."""
        self.stream = stream
        # a decoder has memory of its own that calls work in: each call takes one and gives it back
        self._idle = [decoder_of(stream)]
        try:
            self._quick: QuickLines | None = QuickLines(Schema(journal_form(stream), year=_year_of(stream)))
        except ValueError:
            self._quick = None

    def check(self, ndjson: bytes) -> Checked:
        """Decode all declared columns of the lines. Lines of blanks are passed over."""
        if len(ndjson) <= _FEW_BYTES and self._quick is not None and (found := self._quickly(ndjson)) is not None:
            return found
        rows, bad = self._decode(ndjson)
        lines = ndjson.count(b"\n") + (not ndjson.endswith(b"\n") and bool(ndjson))
        if rows == lines:
            return Checked(ndjson if ndjson.endswith(b"\n") or not ndjson else ndjson + b"\n", rows, [])
        return _sifted(ndjson, rows, bad)

    def _quickly(self, ndjson: bytes) -> Checked | None:
        """The answer where all lines are good and few; None where that is not certain."""
        quick = self._quick
        assert quick is not None
        lines = ndjson.split(b"\n", _FEW_LINES + 1)
        if not lines[-1]:
            lines.pop()
        if len(lines) > _FEW_LINES or not lines:
            return None
        for line in lines:
            if not quick.takes(line):
                return None
        return Checked(ndjson if ndjson.endswith(b"\n") else ndjson + b"\n", len(lines), [])

    def _decode(self, ndjson: bytes) -> tuple[int, list[BadRecord]]:
        try:
            decoder = self._idle.pop()
        except IndexError:
            decoder = decoder_of(self.stream)
        batch, bad = decoder.decode(Chunk.of(ndjson))
        self._idle.append(decoder)
        return len(batch), bad


def _sifted(ndjson: bytes, rows: int, bad: list[BadRecord]) -> Checked:
    wrong = {record.line: Bad(record.line, record.reason, record.raw) for record in bad}
    return Checked(without(ndjson, rows, wrong), rows, [wrong[number] for number in sorted(wrong)])


def without(ndjson: bytes, rows: int, wrong: Collection[int]) -> bytes:
    """The lines that are neither blank nor `wrong` (counted from 1), `rows` of them, each ended by a line feed."""
    good = [line for number, line in enumerate(ndjson.split(b"\n"), 1) if number not in wrong and line.strip(_BLANK)]
    if len(good) != rows:
        raise AssertionError(f"{rows} of {len(good)} good lines were decoded")
    good.append(b"")
    return b"\n".join(good)
