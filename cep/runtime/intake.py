"""The front of a job: chunks are decoded, and each row is admitted, set aside as late, or refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import orjson

from ostinato.cep.batch import Batch, BoolArray
from ostinato.cep.connectors.base import BadRecord, Chunk, Decoder, RefusingDecoder
from ostinato.cep.runtime.plan import LATE
from ostinato.cep.runtime.time import WatermarkGenerator
from ostinato.patterns.ast import Stream


@dataclass(frozen=True, slots=True)
class Decoded:
    """A chunk as columns, before its rows are judged."""

    chunk: Chunk
    batch: Batch
    bad: list[BadRecord]


@dataclass(frozen=True, slots=True)
class Admitted:
    """A chunk's rows by what became of them; `events` counts all that could be decoded."""

    batch: Batch
    late: Batch | None
    bad: list[BadRecord]
    events: int


class Intake:
    """One source stream's decoder and time. Decoding needs no order; `admit` must see chunks in theirs."""

    def __init__(self, stream: Stream, decoder: Decoder, time: WatermarkGenerator) -> None:
        self.stream = stream
        self.time = time
        self._decoder = decoder

    def wrap(self, make: Callable[[Decoder], Decoder]) -> None:
        """Put another decoder around the one there is."""
        self._decoder = make(self._decoder)

    def decode(self, chunk: Chunk) -> Decoded:
        """The chunk's records as columns."""
        return Decoded(chunk, *self._decoder.decode(chunk))

    def admit(self, decoded: Decoded, now: int) -> Admitted:
        """Judge the rows and move time. `now` is the wall clock when the chunk was read, epoch ms."""
        batch, bad = decoded.batch, decoded.bad
        judged = self.time.admit(decoded.chunk.split, batch.time, now)
        events = len(batch)
        if judged.time is not batch.time:
            batch = Batch(batch.stream, judged.time, batch.columns)
        if judged.late is None and judged.ahead is None:
            return Admitted(batch, None, bad, events)
        passed = np.ones(events, np.bool_)
        late = None
        if judged.late is not None:
            passed &= ~judged.late
            late = batch.take(judged.late)
            late.stream = self.stream.name + LATE
        if judged.ahead is not None:
            passed &= ~judged.ahead
            bad = [*bad, *self._refused(decoded, judged.ahead)]
            events -= int(judged.ahead.sum())
        return Admitted(batch.take(passed), late, bad, events)

    def _refused(self, decoded: Decoded, ahead: BoolArray) -> list[BadRecord]:
        """Rows from the far future, as dead letters."""
        times = decoded.batch.time
        reasons = {
            row: f"time {times[row]} lies too far in the future (`max ahead`)" for row in np.flatnonzero(ahead).tolist()
        }
        if isinstance(self._decoder, RefusingDecoder):
            return self._decoder.refuse(decoded.chunk, reasons)
        lines = _Lines(decoded)
        refused = []
        for row, reason in reasons.items():
            raw, line, offset = lines.of(row, self._decoder)
            refused.append(BadRecord(raw, decoded.chunk.source, line, offset, reason))
        return refused


class _Lines:
    """Finds the text of a decoded row again; decoders do not keep it, as hardly any row is ever asked for."""

    def __init__(self, decoded: Decoded) -> None:
        self._decoded = decoded
        chunk = decoded.chunk
        text = bytes(chunk.text) if isinstance(chunk.data, np.ndarray) else b""
        bad = {record.line for record in decoded.bad}
        self._lines: list[tuple[bytes, int, int]] = []
        offset = chunk.first_offset
        for number, line in enumerate(text.split(b"\n"), chunk.first_line):
            if line.strip() and number not in bad:
                self._lines.append((line.rstrip(b"\r"), number, offset))
            offset += len(line) + 1

    def of(self, row: int, decoder: Decoder) -> tuple[bytes, int, int]:
        """The row's text, line and offset; where lines are not rows (CSV, Parquet) what was decoded, as JSON."""
        if row < len(self._lines):
            line, number, offset = self._lines[row]
            again, _ = decoder.decode(Chunk.of(line + b"\n", source=self._decoded.chunk.source))
            if len(again) == 1 and again.time[0] == self._decoded.batch.time[row]:
                return line, number, offset
        values = self._decoded.batch.row(row)
        return orjson.dumps(values, default=str), -1, -1
