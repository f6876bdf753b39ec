"""From topics to the journal: all partitions of a stream, each a lane of its own."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Final

from ostinato.cep.connectors.base import ConnectorError, Idle
from ostinato.cep.connectors.kafka.options import source_options
from ostinato.patterns.ast import Stream
from ostinato.server.ingest.feeder import DeadLetters, Feeder
from ostinato.server.ingest.gate import Gate, check_stream
from ostinato.server.journal import Journal

if TYPE_CHECKING:
    from ostinato.cep.connectors.kafka.decoding import BadKafkaRecord
    from ostinato.cep.connectors.kafka.reader import KafkaReader
    from ostinato.cep.connectors.kafka.records import RecordBlock

_LANE: Final = re.compile(r"kafka:(?P<topic>[^/]+)/(?P<partition>\d+)")
_LOOK_S: Final = 1.0
"""So often it is looked how far behind the reading is."""


class KafkaFeeder(Feeder):
    """Reads the topics of a stream that is declared ``from kafka``.

    There is no consumer group: the journal knows the offsets. A partition that it does not know begins where the
    stream's `start` says; once it knows one of them, others are new ones and begin with their first record.
    """

    def __init__(self, stream: Stream, journal: Journal, dead_letters: DeadLetters) -> None:
        """Raises ConnectorError where the stream cannot be fed: of another source, with columns from metadata."""
        if stream.source is None or stream.source.kind != "kafka":
            raise ConnectorError(f"stream {stream.name}: it is not declared `from kafka`")
        check_stream(stream)
        form = (stream.source.format or "json").lower()
        if form not in ("json", "jsonl", "ndjson"):
            raise ConnectorError(f"stream {stream.name}: values of Kafka's records are read as json, not {form!r}")
        self._options = source_options(stream.source, f"stream {stream.name}")
        super().__init__(stream, journal, dead_letters, self._options.place)
        self._gate = Gate(stream)

    def _feed(self) -> None:
        try:
            from ostinato.cep.connectors.kafka.reader import KafkaReader
        except ImportError as error:
            raise ConnectorError(
                f"stream {self.stream.name}: reading Kafka needs {error.name}; install it with pip install "
                "'ostinato[kafka]'"
            ) from error
        reader = KafkaReader(self._options)
        try:
            self._seek(reader)
            self._read(reader)
        finally:
            reader.close()

    def _seek(self, reader: KafkaReader) -> None:
        pattern = re.compile(self._options.pattern) if self._options.pattern else None
        known = []
        for lane, place in self._places("kafka").items():
            found = _LANE.fullmatch(lane)
            if found is None:
                continue
            topic = found["topic"]
            if topic in self._options.topics or (pattern is not None and pattern.fullmatch(topic)):
                known.append((topic, int(found["partition"]), place["offset"]))
        for split, (topic, partition, offset) in enumerate(sorted(known)):
            reader.seek({"split": split, "topic": topic, "partition": partition, "offset": offset})

    def _read(self, reader: KafkaReader) -> None:
        looked = 0.0
        while True:
            self._check_stop()
            chunk = reader.read()
            if time.monotonic() - looked >= _LOOK_S:
                looked = time.monotonic()
                self._lag = {f"kafka:{topic}/{number}": lag for (topic, number), lag in reader.lag().items()}
            if chunk is None:
                return
            if isinstance(chunk, Idle):
                # the cluster has been reached: what was wrong is over
                self._error = None
                continue
            block: RecordBlock = chunk.data
            data, rows, bad = self._lines(block)
            self._refuse(bad)
            lane = f"kafka:{block.topic}/{block.partition}"
            self._append(lane, data, rows, {"offset": block.next_offset})

    def _lines(self, block: RecordBlock) -> tuple[bytes, int, list[BadKafkaRecord]]:
        """The values of a block as lines, and the records that cannot be used."""
        import numpy as np

        from ostinato.cep.connectors.kafka import decoding_kernel
        from ostinato.cep.connectors.kafka.decoding import BadKafkaRecord
        from ostinato.cep.jit import kernels

        if not len(block):
            return b"", 0, []
        work = kernels(decoding_kernel)
        null = block.value_length < 0
        wrong = dict.fromkeys(np.flatnonzero(null).tolist(), "the value is null (a tombstone)")
        records = np.flatnonzero(~null)
        blank = np.empty(len(records), np.bool_)
        size = work.find_blank(block.data, block.value_begin, block.value_length, records, blank)
        wrong.update(dict.fromkeys(records[blank].tolist(), "the value is empty"))
        records = records[~blank]
        lines = np.empty(size + len(records), np.uint8)
        # a value with line feeds is one line all the same
        begins = np.empty(len(records), np.int64)
        work.copy_lines(block.data, block.value_begin, block.value_length, records, lines, begins)
        checked = self._gate.check(lines.tobytes())
        wrong.update({int(records[bad.line - 1]): bad.reason for bad in checked.bad})
        if checked.rows + len(wrong) != len(block):
            raise AssertionError(f"{block}: {checked.rows} rows and {len(wrong)} bad records were made of it")
        return checked.data, checked.rows, [BadKafkaRecord.of(block, at, wrong[at]) for at in sorted(wrong)]
