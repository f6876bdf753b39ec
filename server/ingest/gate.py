"""The gate of a stream: what is wrong with a line is known before it is stored."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from ostinato.cep.connectors.base import BadRecord, Chunk, ConnectorError, Options
from ostinato.cep.connectors.columns import Schema
from ostinato.cep.connectors.json_lines import JsonLines
from ostinato.patterns.ast import Stream
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


def decoder_of(stream: Stream) -> JsonLines:
    """The decoder of what the journal holds of a stream: JSON lines, whatever its source is. Raises ConnectorError."""
    check_stream(stream)
    year = None
    if stream.source is not None:
        year = Options(f"stream {stream.name}", stream.source.options).number("year", 0) or None
    return JsonLines(stream, year=year)


class Gate:
    """Checks the events of one stream with the decoder that will read them. Thread-safe."""

    def __init__(self, stream: Stream) -> None:
        """Raises ConnectorError where events of the stream cannot come through the server."""
        self.stream = stream
        # a decoder has memory of its own that calls work in: each call takes one and gives it back
        self._idle = [decoder_of(stream)]
        plain = replace(stream, source=None)
        try:
            self._quick: QuickLines | None = QuickLines(Schema(plain))
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
    good = [line for number, line in enumerate(ndjson.split(b"\n"), 1) if number not in wrong and line.strip(_BLANK)]
    if len(good) != rows:
        raise AssertionError(f"{rows} of {len(good)} good lines were decoded")
    good.append(b"")
    return Checked(b"\n".join(good), rows, [wrong[number] for number in sorted(wrong)])
