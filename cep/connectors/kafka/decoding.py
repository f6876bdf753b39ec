"""Blocks of Kafka's records to batches: their values by a format, what is said about them as columns of its own.

Every record becomes a row or a `BadKafkaRecord`, never both and never neither.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Protocol

import numpy as np

from ostinato.cep.batch import Batch, BoolArray, IntArray, Strings, Vector
from ostinato.cep.connectors.base import BadRecord, Chunk, ConnectorError
from ostinato.cep.connectors.json_kernel import MAX_MS, MIN_MS
from ostinato.cep.connectors.kafka import decoding_kernel
from ostinato.cep.connectors.kafka.keys import KeyCheck
from ostinato.cep.connectors.kafka.options import Keying
from ostinato.cep.connectors.kafka.records import Headers, RecordBlock
from ostinato.cep.jit import kernels
from ostinato.patterns.ast import FieldDecl, Stream, TimeDecl
from ostinato.patterns.schema import HEADER
from ostinato.patterns.types import BIGINT, STRING

if TYPE_CHECKING:
    from ostinato.cep.connectors.json_lines import JsonLines

_PLANNED: Final = ("avro", "protobuf")
_NO_TIMESTAMP: Final = -1


@dataclass(frozen=True, slots=True)
class BadKafkaRecord(BadRecord):
    """A record of Kafka that could not be used, with all that is needed to find it, or to write it again.

    `source` is ``topic/partition``, `offset` that of the record, `line` -1; `raw` is its value, empty where that is
    null. `timestamp` is in epoch ms, -1 where there is none.
    """

    topic: str
    partition: int
    timestamp: int
    key: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]

    @staticmethod
    def of(block: RecordBlock, record: int, reason: str) -> BadKafkaRecord:
        """The record with that number in a block."""
        headers: Headers = block.headers(record)
        return BadKafkaRecord(
            raw=block.value(record) or b"",
            source=f"{block.topic}/{block.partition}",
            line=-1,
            offset=int(block.offset[record]),
            reason=reason,
            topic=block.topic,
            partition=block.partition,
            timestamp=int(block.timestamp[record]),
            key=block.key(record),
            headers=tuple(headers),
        )


@dataclass(slots=True)
class Values:
    """What was made of the values of some records.

    Attributes:
        batch: those that are right.
        records: int64[rows], ascending: the number in the block of the record that each row is of.
        wrong: of the others: the record's number, and what is wrong with its value.
    """

    batch: Batch
    records: IntArray
    wrong: dict[int, str]


class ValueFormat(Protocol):
    """How the values of records become columns: one implementation for each ``format NAME`` behind a topic.

    This is where formats with a schema registry go in. Such a one (Avro, Protobuf) gets the registry's address from the
    options of the stream's source when it is made. Of each value it takes the first five bytes: a zero and the number
    of the writer's schema, big-endian. It asks the registry for schemas it has not seen yet, once each, resolves them
    against the stream's columns, and reads the rest of the value by them. A value without these bytes, or of a
    schema that does not fit, is `wrong`; a registry that does not answer is a SourceError, since what it would say of
    the record is not known and the record must come again.
    """

    def decode(self, block: RecordBlock, records: IntArray) -> Values:
        """The values of these records, none of which is null, as columns.

        Each of the records must be in the answer, as a row or as `wrong`. The batch has the columns that are not from
        metadata; its times are not looked at where the event time is from metadata.

        Args:
            block: it and its bytes may be kept by the columns.
            records: int64, ascending: their numbers in the block.

        Raises SourceError where something outside fails, never for what is in a record.
        """


class JsonValues:
    """Values that are JSON objects."""

    def __init__(self, stream: Stream, columns: frozenset[str] | None, *, year: int | None) -> None:
        """`stream` has only columns that are in the record."""
        from ostinato.cep.connectors.json_lines import JsonLines

        self._lines: JsonLines = JsonLines(stream, columns, year=year)

    def decode(self, block: RecordBlock, records: IntArray) -> Values:
        from ostinato.cep.connectors.base import text_buffer

        work = kernels(decoding_kernel)
        data, begin, length = block.data, block.value_begin, block.value_length
        blank = np.empty(len(records), np.bool_)
        size = work.find_blank(data, begin, length, records, blank)
        wrong = dict.fromkeys(records[blank].tolist(), "the value is empty")
        records = records[~blank]
        size += len(records)
        lines = text_buffer(size)
        line = np.empty(len(records), np.int64)
        work.copy_lines(data, begin, length, records, lines, line)
        batch, bad = self._lines.decode(Chunk(lines, size, first_line=0))
        places = np.fromiter((each.offset for each in bad), np.int64, len(bad))
        found = np.searchsorted(line, places)
        for row, each in zip(found.tolist(), bad, strict=True):
            wrong[int(records[row])] = each.reason
        kept = np.ones(len(records), np.bool_)
        kept[found] = False
        return Values(batch, records[kept], wrong)


def value_format(name: str | None, stream: Stream, columns: frozenset[str] | None, *, year: int | None) -> ValueFormat:
    """The format of that name (None: JSON) for a stream whose columns are all in the record. Raises ConnectorError."""
    form = (name or "json").lower()
    if form in ("json", "jsonl", "ndjson"):
        return JsonValues(stream, columns, year=year)
    if form in _PLANNED:
        raise ConnectorError(
            f"stream {stream.name}: format {form} is not there yet for Kafka; values are read as json. Have them "
            "converted on their way, for instance by Kafka Connect"
        )
    raise ConnectorError(f"stream {stream.name}: values of Kafka's records are read as json, not {name!r}")


class KafkaDecoder:
    """Decodes the blocks of one stream."""

    def __init__(
        self,
        stream: Stream,
        columns: frozenset[str] | None = None,
        *,
        year: int | None = None,
        keying: Keying = "trust",
        form: str | None = None,
    ) -> None:
        """
        Args:
            stream: to be decoded.
            columns: those needed besides keys and time (None: all).
            year: of times that are written without one.
            keying: with `verify` a record is bad whose key is not made of the stream's.
            form: of the values; None: JSON.

        Raises:
            ConnectorError: there is no such format.
        """
        self._stream = stream
        needed = [
            field
            for field in stream.columns
            if columns is None or field.name in columns or field.key or field.name == stream.time.column
        ]
        self._about = [field for field in needed if field.metadata is not None]
        self._order = [field.name for field in needed]
        # the event time of a stream is from metadata only where it is the record's timestamp
        self._time = next((field.name for field in self._about if field.name == stream.time.column), None)
        within = replace(
            stream,
            columns=tuple(field for field in stream.columns if field.metadata is None),
            time=TimeDecl(mode="processing") if self._time is not None else stream.time,
        )
        self._values = value_format(form, within, columns, year=year)
        keys = [field for field in stream.columns if field.key]
        self._check = KeyCheck(keys) if keying == "verify" and keys else None

    def decode(self, chunk: Chunk) -> tuple[Batch, list[BadRecord]]:
        """The records of a block as columns, and those that cannot be used, in the order of their offsets."""
        batch, _, wrong = self._decode(chunk.data)
        return batch, [BadKafkaRecord.of(chunk.data, record, reason) for record, reason in sorted(wrong.items())]

    def refuse(self, chunk: Chunk, reasons: Mapping[int, str]) -> list[BadRecord]:
        """Rows of the batch that `decode` makes of this block, as bad records after all: why, by row."""
        _, records, _ = self._decode(chunk.data)
        return [BadKafkaRecord.of(chunk.data, int(records[row]), reason) for row, reason in reasons.items()]

    def _decode(self, block: RecordBlock) -> tuple[Batch, IntArray, dict[int, str]]:
        """The batch, the record that each of its rows is of, and what is wrong with the other records."""
        null = block.value_length < 0
        found = self._values.decode(block, np.flatnonzero(~null))
        batch, records, wrong = found.batch, found.records, found.wrong
        wrong.update(dict.fromkeys(np.flatnonzero(null).tolist(), "the value is null (a tombstone)"))
        if len(batch) != len(records) or len(batch) + len(wrong) != len(block):
            raise AssertionError(f"{block}: {len(batch)} rows and {len(wrong)} bad records were made of it")
        columns = dict(batch.columns)
        keep = np.ones(len(records), np.bool_)
        for field in self._about:
            columns[field.name] = self._column(field, block, records, keep, wrong)
        times = batch.time if self._time is None else columns[self._time].array
        batch = Batch(batch.stream, times, {name: columns[name] for name in self._order})
        if self._check is not None:
            for row, reason in self._check.wrong(block, records, batch).items():
                keep[row] = False
                wrong.setdefault(int(records[row]), reason)
        if not keep.all():
            batch, records = batch.take(keep), records[keep]
        return batch, records, wrong

    def _column(
        self, field: FieldDecl, block: RecordBlock, records: IntArray, keep: BoolArray, wrong: dict[int, str]
    ) -> Vector:
        """A column of what is said about these records; what is wrong is noted in `keep` and `wrong`."""
        made = _about(field, block, records)
        role = "event time" if field.name == self._time else "key" if field.key else ""
        reasons: list[tuple[BoolArray, str]] = []
        if isinstance(made.values, Strings):
            right = np.empty(len(records), np.bool_)
            texts = made.strings
            kernels(decoding_kernel).are_text(texts.data, texts.start, texts.length.astype(np.int64), right)
            reasons.append((~right, f"column {field.name}: metadata '{field.metadata}' is not UTF-8"))
        if role and made.valid is not None:
            reasons.append((~made.valid, f"column {field.name}: the {role} (metadata '{field.metadata}') is null"))
        if field.name == self._time:
            outside = (made.array < MIN_MS) | (made.array > MAX_MS)
            reasons.append(
                (outside, f"column {field.name}: the record's timestamp lies outside of the years 1 to 9999")
            )
        for rows, reason in reasons:
            for row in np.flatnonzero(rows & keep).tolist():
                keep[row] = False
                wrong.setdefault(int(records[row]), reason)
        return made


def _about(field: FieldDecl, block: RecordBlock, records: IntArray) -> Vector:
    """The metadata that a column is of, for these records."""
    name, rows = field.metadata or "", len(records)
    if name == "topic":
        text = np.frombuffer(block.topic.encode(), np.uint8).copy()
        return Vector(STRING, Strings(text, np.zeros(rows, np.int64), np.full(rows, len(text), np.int32)))
    if name == "partition":
        return Vector(BIGINT, np.full(rows, block.partition, np.int64))
    if name == "offset":
        return Vector(BIGINT, block.offset[records])
    if name == "timestamp":
        times = block.timestamp[records]
        given = times != _NO_TIMESTAMP
        if given.all():
            return Vector(field.type, times)
        return Vector(field.type, np.where(given, times, 0), given)
    if name == "key":
        return _texts(block.data, block.key_begin[records], block.key_length[records])
    begin, length = np.empty(rows, np.int64), np.empty(rows, np.int64)
    wanted = np.frombuffer(name.removeprefix(HEADER).encode(), np.uint8).copy()
    kernels(decoding_kernel).find_headers(
        block.data, block.headers_begin[records], block.headers_end[records], wanted, begin, length
    )
    return _texts(block.data, begin, length)


def _texts(data: Any, begin: IntArray, length: IntArray) -> Vector:
    """Texts in the bytes of a block; a length of -1 is null."""
    valid = length >= 0
    if valid.all():
        return Vector(STRING, Strings(data, begin, length.astype(np.int32)))
    return Vector(STRING, Strings(data, np.where(valid, begin, 0), np.maximum(length, 0).astype(np.int32)), valid)
