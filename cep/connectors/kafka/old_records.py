"""Fetched messages of Kafka's formats 0 and 1, which brokers before 0.11 wrote, as blocks of records.

They are all made to Python objects by aiokafka's parser, so they are read slowly.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np

from ostinato.cep.connectors.base import SLACK
from ostinato.cep.connectors.kafka import records_kernel as kernel
from ostinato.cep.connectors.kafka.options import Isolation
from ostinato.cep.connectors.kafka.records import COLUMNS, RecordBlock, block_of, concat, damaged, take_apart


def take_apart_old(
    topic: str,
    partition: int,
    data: bytes,
    fetch_offset: int,
    aborted: Sequence[tuple[int, int]] | None,
    isolation: Isolation,
) -> RecordBlock:
    """What begins with messages of formats 0 and 1, or has them further on (a log that an upgrade went through)."""
    blocks = []
    for old, begin, end in _runs(data):
        if old:
            _check_old(topic, partition, data[begin:end])
            blocks.append(_by_aiokafka(topic, partition, data[begin:end], fetch_offset))
        else:
            blocks.append(take_apart(topic, partition, data[begin:end], fetch_offset, aborted, isolation))
        fetch_offset = blocks[-1].next_offset
    return concat(blocks)


def _runs(data: bytes) -> list[tuple[bool, int, int]]:
    """Whole batches, those of old formats and others apart: (are they old, begin, end)."""
    runs: list[tuple[bool, int, int]] = []
    at = 0
    while at + kernel.LOG_HEAD <= len(data):
        end = at + kernel.LOG_HEAD + int.from_bytes(data[at + 8 : at + kernel.LOG_HEAD], "big", signed=True)
        if not at + kernel.OLD_HEAD <= end <= len(data):
            break
        old = data[at + kernel.MAGIC] < 2
        if runs and runs[-1][0] == old:
            runs[-1] = (old, runs[-1][1], end)
        else:
            runs.append((old, at, end))
        at = end
    return runs


def _check_old(topic: str, partition: int, data: bytes) -> None:
    """Compare the checksums of messages of formats 0 and 1 before they are parsed: aiokafka does so behind it."""
    at = 0
    while at < len(data):
        end = at + kernel.LOG_HEAD + int.from_bytes(data[at + 8 : at + kernel.LOG_HEAD], "big")
        check = int.from_bytes(data[at + kernel.LOG_HEAD : at + kernel.MAGIC], "big")
        if zlib.crc32(data[at + kernel.MAGIC : end]) != check:
            offset = int.from_bytes(data[at : at + 8], "big", signed=True)
            raise damaged(topic, partition, offset, "its checksum is of something else")
        at = end


def _by_aiokafka(topic: str, partition: int, data: bytes, fetch_offset: int) -> RecordBlock:
    """Messages of formats 0 and 1, slowly: all are Python objects. They know nothing of transactions."""
    from aiokafka.consumer.fetcher import READ_UNCOMMITTED, PartitionRecords
    from aiokafka.errors import KafkaError
    from aiokafka.record.memory_records import MemoryRecords
    from aiokafka.structs import TopicPartition

    # Messages of format 0 have no time.
    place = TopicPartition(topic, partition)
    source = PartitionRecords(place, MemoryRecords(data), [], fetch_offset, None, None, True, READ_UNCOMMITTED)
    buffer = bytearray()
    columns: list[list[int]] = []
    try:
        for record in source:
            row = [record.offset, -1 if record.timestamp is None else record.timestamp]
            for text in (record.key, record.value):
                row += [len(buffer), -1 if text is None else len(text)]
                buffer += text or b""
            row.append(len(buffer))
            buffer += _pack(record.headers)
            row.append(len(buffer))
            columns.append(row)
    except (KafkaError, ValueError, IndexError) as error:
        raise damaged(topic, partition, source.next_fetch_offset, str(error) or type(error).__name__) from error
    size = len(buffer)
    held = np.frombuffer(buffer + bytes(SLACK), np.uint8)
    table = np.array(columns, np.int64).reshape(-1, len(COLUMNS)).T.copy()
    return block_of(topic, partition, held, table, source.next_fetch_offset, size)


def _pack(headers: Sequence[tuple[str, bytes | None]]) -> bytes:
    """Headers as they are in a record of format 2."""
    from aiokafka.record.util import encode_varint

    packed = bytearray()
    encode_varint(len(headers), packed.append)
    for name, value in headers:
        encoded = name.encode()
        encode_varint(len(encoded), packed.append)
        packed += encoded
        encode_varint(-1 if value is None else len(value), packed.append)
        packed += value or b""
    return bytes(packed)
