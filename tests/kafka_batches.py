"""Batches of Kafka's message format 2 as brokers send them, made by aiokafka's own builder."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

from aiokafka.record.control_record import ABORT_MARKER
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.util import calc_crc32c

from ostinato.cep.connectors.kafka.records import RecordBlock, take_apart

CODECS = {"none": 0, "gzip": 1, "snappy": 2, "lz4": 3, "zstd": 4}
Headers = list[tuple[str, bytes | None]]


@dataclass(frozen=True)
class Record:
    """A record to be made. `step`: how far its offset is behind that of the record before."""

    value: bytes | None
    key: bytes | None = None
    headers: tuple[tuple[str, bytes | None], ...] = ()
    timestamp: int = 1_700_000_000_000
    step: int = 1


@dataclass(frozen=True)
class Made:
    """A batch, as bytes, and where the next one may begin."""

    data: bytes
    next_offset: int


def batch(
    records: Sequence[Record],
    base: int = 0,
    *,
    codec: str = "none",
    producer: int = -1,
    transactional: bool = False,
    append_time: int | None = None,
    removed_behind: int = 0,
) -> Made:
    """One batch. `append_time`: the broker's, which counts then. `removed_behind`: how many records compaction took."""
    builder = DefaultRecordBatchBuilder(
        magic=2,
        compression_type=CODECS[codec],
        is_transactional=int(transactional),
        producer_id=producer,
        producer_epoch=0 if producer >= 0 else -1,
        base_sequence=0 if producer >= 0 else -1,
        batch_size=1 << 28,
    )
    at = -1
    for record in records:
        at += record.step
        builder.append(at, record.timestamp, record.key, record.value, list(record.headers))
    data = bytearray(builder.build())
    last = max(at, 0) + removed_behind
    struct.pack_into(">i", data, 23, last)
    if append_time is not None:
        struct.pack_into(">h", data, 21, struct.unpack_from(">h", data, 21)[0] | 8)
        struct.pack_into(">q", data, 35, append_time)
    return Made(sealed(data, base), base + last + 1)


def mark(base: int, producer: int, *, aborted: bool) -> Made:
    """The batch that ends a transaction."""
    key = struct.pack(">HH", 0, ABORT_MARKER.type_ if aborted else 1)
    data = bytearray(batch([Record(b"\0" * 6, key)], producer=producer, transactional=True).data)
    struct.pack_into(">h", data, 21, struct.unpack_from(">h", data, 21)[0] | 32)
    return Made(sealed(data, base), base + 1)


def sealed(data: bytearray, base: int) -> bytes:
    """The batch with this first offset, and the checksum of what it holds."""
    struct.pack_into(">q", data, 0, base)
    struct.pack_into(">I", data, 17, calc_crc32c(bytes(data[21:])))
    return bytes(data)


def block(*records: Record, topic: str = "logins", partition: int = 3, base: int = 0) -> RecordBlock:
    """The records as they are taken apart."""
    made = batch(records, base)
    return take_apart(topic, partition, made.data, base, None, "read_committed")
