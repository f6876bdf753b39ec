"""From files to the journal."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ostinato.cep.connectors.base import BadRecord, Chunk, ConnectorError, Idle
from ostinato.cep.connectors.factory import check_repeatable, check_source, decoder_for, reader_for, text_format
from ostinato.patterns.ast import Stream
from ostinato.server.ingest.feeder import DeadLetters, Feeder
from ostinato.server.ingest.gate import Gate, check_stream, decoder_of, without
from ostinato.server.journal import Journal


class FileFeeder(Feeder):
    """Reads the files of a stream that is declared ``from file``, and with `follow` what is written to them.

    JSON goes to the journal as it is; other formats are decoded, and their rows written as JSON.
    """

    def __init__(self, stream: Stream, journal: Journal, dead_letters: DeadLetters) -> None:
        """Raises ConnectorError where the stream cannot be fed."""
        if stream.source is None or stream.source.kind != "file" or not stream.source.target:
            raise ConnectorError(f"stream {stream.name}: it is not declared `from file`")
        check_stream(stream)
        check_source(stream)
        super().__init__(stream, journal, dead_letters, f"file {stream.source.target}")
        self.lane = f"file:{stream.source.target}"
        self._is_json = text_format(stream) == "json"
        self._decoder = decoder_of(stream) if self._is_json else decoder_for(stream)
        self._gate = Gate(stream)

    def _feed(self) -> None:
        reader = reader_for(self.stream)
        try:
            check_repeatable(self.stream, reader)
            place = self._places("file").get(self.lane)
            if place is not None:
                reader.seek(place)
            while True:
                self._check_stop()
                chunk = reader.read()
                if chunk is None:
                    return
                if isinstance(chunk, Idle):
                    self._error = None
                    continue
                data, rows, bad = self._lines(chunk)
                self._refuse(bad)
                self._append(self.lane, data, rows, dict(chunk.position))
                self._note_lag(chunk.position)
        finally:
            reader.close()

    def _lines(self, chunk: Chunk) -> tuple[bytes, int, list[BadRecord]]:
        batch, bad = self._decoder.decode(chunk)
        if self._is_json:
            # lines are counted within the chunk; records that were never read in full lie before it
            wrong = {record.line - chunk.first_line + 1 for record in bad}
            return without(bytes(chunk.text), len(batch), wrong), len(batch), bad
        from ostinato.cep.connectors.render import json_lines

        checked = self._gate.check(json_lines(batch))
        bad += [BadRecord(each.raw, chunk.source, -1, -1, each.reason) for each in checked.bad]
        return checked.data, checked.rows, bad

    def _note_lag(self, position: Mapping[str, Any]) -> None:
        try:
            left = Path(position["file"]).stat().st_size - position["offset"]
        except (OSError, KeyError):
            self._lag = {}
        else:
            # of a compressed file the offset is that of its text
            self._lag = {self.lane: left} if left >= 0 else {}
