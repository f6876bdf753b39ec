"""Fetched records as columns: where each one's key, value and headers lie in one buffer of bytes.

A record never becomes a Python object here. Batches of message format 2, which every broker since 0.11 writes, are
taken apart by kernels; older ones elsewhere (`old_records`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from ostinato.cep.batch import IntArray
from ostinato.cep.connectors.base import SLACK, Bytes, SourceError
from ostinato.cep.connectors.kafka import records_kernel as kernel
from ostinato.cep.connectors.kafka.options import Isolation
from ostinato.cep.jit import kernels
from ostinato.cep.strings import plain

Headers: TypeAlias = list[tuple[str, bytes | None]]

_CODECS = ("none", "gzip", "snappy", "lz4", "zstd")
_LEAST_RECORD = 7
"""Bytes of the smallest record there is: one for its length, one for its attributes, and for five numbers."""
_POLYNOMIAL = 0x82F63B78
"""CRC-32C's, its bits in reverse."""
_DAMAGE = {
    kernel.TOO_SHORT: "its batch is shorter than the head of one",
    kernel.UNKNOWN_FORMAT: "its batch is of a message format that is not known here",
    kernel.WRONG_CHECKSUM: "its batch is not what its checksum was taken of",
    kernel.WRONG_COUNT: "its batch does not hold the number of records that it says",
    kernel.WRONG_RECORD: "a record of its batch has lengths that do not agree",
    kernel.WRONG_OFFSET: "the offsets of its batch do not ascend",
}
COLUMNS = (
    "offset", "timestamp", "key_begin", "key_length", "value_begin", "value_length", "headers_begin", "headers_end",
)  # fmt: skip
_PLACES = frozenset({"key_begin", "value_begin", "headers_begin", "headers_end"})
"""Columns that are places in the bytes."""


@dataclass(slots=True, repr=False)
class RecordBlock:
    """Records of one partition, in the order of their offsets.

    Attributes:
        topic: where they are from.
        partition: where they are from.
        data: uint8, the bytes that keys, values and headers lie in, and at least `SLACK` zeros behind them.
        offset: int64[records]. There may be gaps: aborted, compacted.
        timestamp: int64[records], epoch ms; -1 where the producer gave none.
        key_begin, key_length: int64[records]; a length of -1 is null.
        value_begin, value_length: as of the keys.
        headers_begin, headers_end: int64[records]: their number and they themselves, as in the protocol.
        next_offset: where reading goes on: behind the last record, and behind all that is not shown (aborted records,
            marks of transactions), so it may be further than `offset` says, also of a block without records.
        size: bytes of the records, after decompression.
    """

    topic: str
    partition: int
    data: Bytes
    offset: IntArray
    timestamp: IntArray
    key_begin: IntArray
    key_length: IntArray
    value_begin: IntArray
    value_length: IntArray
    headers_begin: IntArray
    headers_end: IntArray
    next_offset: int
    size: int

    def __len__(self) -> int:
        return len(self.offset)

    def __repr__(self) -> str:
        return f"<{len(self)} records of {self.topic}/{self.partition} before offset {self.next_offset}>"

    @staticmethod
    def empty(topic: str, partition: int, next_offset: int) -> RecordBlock:
        """No records, but a place to go on."""
        none = [np.empty(0, np.int64) for _ in COLUMNS]
        return block_of(topic, partition, np.zeros(SLACK, np.uint8), none, next_offset, 0)

    def before(self, offset: int) -> RecordBlock:
        """The records below an offset; where that leaves some out, reading goes on there."""
        if offset >= self.next_offset:
            return self
        rows = int(np.searchsorted(self.offset, offset))
        size = self.size if rows == len(self) else self.size * rows // len(self)
        columns = [getattr(self, name)[:rows] for name in COLUMNS]
        return block_of(self.topic, self.partition, self.data, columns, offset, size)

    def after(self, offset: int) -> RecordBlock:
        """The records from an offset on: what `before` leaves out."""
        rows = int(np.searchsorted(self.offset, offset))
        size = 0 if rows == len(self) else self.size - self.size * rows // len(self)
        columns = [getattr(self, name)[rows:] for name in COLUMNS]
        return block_of(self.topic, self.partition, self.data, columns, max(offset, self.next_offset), size)

    def parts(self, size: int) -> Iterator[RecordBlock]:
        """The block in pieces of about so many bytes, each with its own part of them; reading goes on behind each."""
        first = 0
        while True:
            begin = int(self.key_begin[first]) if first < len(self) else 0
            rows = int(np.searchsorted(self.headers_end, begin + size, side="right"))
            last = min(max(rows, first + 1), len(self))
            if first == 0 and last == len(self):
                yield self
                return
            data = self.data[begin : int(self.headers_end[last - 1]) + SLACK]
            columns = [getattr(self, name)[first:last] - (begin if name in _PLACES else 0) for name in COLUMNS]
            following = self.next_offset if last == len(self) else int(self.offset[last])
            held = len(data) - SLACK
            yield block_of(self.topic, self.partition, data, columns, following, held)
            first = last
            if first == len(self):
                return

    def key(self, row: int) -> bytes | None:
        """The key of a record."""
        return self._cut(self.key_begin[row], self.key_length[row])

    def value(self, row: int) -> bytes | None:
        """The value of a record; None is a tombstone."""
        return self._cut(self.value_begin[row], self.value_length[row])

    def headers(self, row: int) -> Headers:
        """The headers of a record in their order; names may come more than once. A name that is not UTF-8 has
        replacement characters."""
        raw = self.data[self.headers_begin[row] : self.headers_end[row]].tobytes()
        count, at = _varint(raw, 0)
        found: Headers = []
        for _ in range(count):
            size, at = _varint(raw, at)
            name = raw[at : at + size].decode("utf-8", "replace")
            size, at = _varint(raw, at + size)
            found.append((name, None if size < 0 else raw[at : at + size]))
            at += max(size, 0)
        return found

    def _cut(self, begin: int, length: int) -> bytes | None:
        return None if length < 0 else self.data[begin : begin + length].tobytes()


def block_of(topic: str, partition: int, data: Bytes, columns: Any, next_offset: int, size: int) -> RecordBlock:
    """A block of these arrays, in the order of `COLUMNS`."""
    named: dict[str, Any] = dict(zip(COLUMNS, columns, strict=True))
    return RecordBlock(topic, partition, data, **named, next_offset=next_offset, size=size)


def concat(blocks: Sequence[RecordBlock]) -> RecordBlock:
    """Blocks of one partition that follow one another, as one."""
    if len(blocks) == 1:
        return blocks[0]
    base = np.cumsum([0, *(len(block.data) for block in blocks)])
    columns = []
    for name in COLUMNS:
        parts = [getattr(block, name) + (base[i] if name in _PLACES else 0) for i, block in enumerate(blocks)]
        columns.append(np.concatenate(parts))
    data = np.concatenate([block.data for block in blocks])
    first, last = blocks[0], blocks[-1]
    size = sum(block.size for block in blocks)
    return block_of(first.topic, first.partition, data, columns, last.next_offset, size)


def pack_block(block: RecordBlock) -> tuple[dict[str, Any], list[memoryview]]:
    """A block as plain values and bytes, to be sent elsewhere."""
    head = {"topic": block.topic, "partition": block.partition, "next": block.next_offset, "records": len(block)}
    columns = np.stack([getattr(block, name) for name in COLUMNS])
    return head, [columns.reshape(-1).view(np.uint8).data, block.data.data]


def unpack_block(head: Mapping[str, Any], data: Bytes, size: int) -> RecordBlock:
    """The block that `pack_block` was given; it looks at `data`, all of its bytes. `size` is the block's."""
    end = 8 * len(COLUMNS) * head["records"]
    columns = data[:end].view(np.int64).reshape(len(COLUMNS), -1)
    return block_of(head["topic"], head["partition"], data[end:], columns, head["next"], size)


def take_apart(
    topic: str,
    partition: int,
    data: bytes,
    fetch_offset: int,
    aborted: Sequence[tuple[int, int]] | None,
    isolation: Isolation,
) -> RecordBlock:
    """The records of a fetched partition from `fetch_offset` on. What is cut off at the end is left for the next fetch.

    Args:
        topic: where it is from.
        partition: where it is from.
        data: batches as a broker sent them.
        fetch_offset: what was asked for; batches may begin before it.
        aborted: producer and first offset of each aborted transaction among them.
        isolation: whether their records are left out.

    Raises:
        SourceError: a batch is damaged.
    """
    held = plain(np.frombuffer(data, np.uint8))
    work = kernels(kernel)
    batches = np.zeros((work.count_batches(held, len(held)), kernel.BATCH_COLUMNS), np.int64)
    wrong, batch, at = work.scan_batches(held, len(batches), _checksums(), batches)
    if wrong == kernel.OLD_FORMAT:
        from ostinato.cep.connectors.kafka.old_records import take_apart_old

        return take_apart_old(topic, partition, data, fetch_offset, aborted, isolation)
    if wrong != kernel.SOUND:
        raise damaged(topic, partition, int(at), _DAMAGE[wrong])
    if not len(batches):
        return RecordBlock.empty(topic, partition, fetch_offset)
    buffer = _bodies(topic, partition, held, batches)
    bodies = batches[:, kernel.BODY_END] - batches[:, kernel.BODY]
    impossible = np.flatnonzero(batches[:, kernel.COUNT] > bodies // _LEAST_RECORD)
    if len(impossible):
        at = batches[impossible[0], kernel.BASE_OFFSET]
        raise damaged(topic, partition, int(at), _DAMAGE[kernel.WRONG_COUNT])
    committed = isolation == "read_committed"
    transactions = sorted(aborted or (), key=lambda each: each[1]) if committed else []
    gone = np.array(transactions, np.int64).reshape(-1, 2)
    columns = np.empty((len(COLUMNS), int(batches[:, kernel.COUNT].sum())), np.int64)
    with np.errstate(over="ignore"):
        rows, size, wrong, batch = work.parse_records(
            buffer, batches, fetch_offset, committed,
            gone[:, 0].copy(), gone[:, 1].copy(), np.zeros(len(gone), np.int64), *columns,
        )  # fmt: skip
    if wrong != kernel.SOUND:
        raise damaged(topic, partition, int(batches[batch, kernel.BASE_OFFSET]), _DAMAGE[wrong])
    following = max(fetch_offset, int(batches[-1, kernel.NEXT_OFFSET]))
    return block_of(topic, partition, buffer, columns[:, :rows], following, int(size))


def warm() -> None:
    """Have the kernels compiled, for whom that must not happen while others wait."""
    take_apart("", 0, b"", 0, None, "read_committed")
    take_apart("", 0, _smallest(), 0, [(0, 0)], "read_committed")


def _smallest() -> bytes:
    """A batch with one record."""
    from aiokafka.record.default_records import DefaultRecordBatchBuilder

    builder = DefaultRecordBatchBuilder(
        magic=2, compression_type=0, is_transactional=0, producer_id=-1, producer_epoch=-1, base_sequence=-1,
        batch_size=1024,
    )  # fmt: skip
    builder.append(0, 0, None, b"", [])
    return bytes(builder.build())


def _bodies(topic: str, partition: int, held: Bytes, batches: IntArray) -> Bytes:
    """All bodies in one buffer, decompressed, and with `SLACK` behind; `batches` gets where they are in it."""
    compressed = np.flatnonzero(batches[:, kernel.ATTRIBUTES] & kernel.CODEC_BITS)
    if not len(compressed):
        buffer = np.empty(len(held) + SLACK, np.uint8)
        buffer[: len(held)] = held
        buffer[len(held) :] = 0
        return buffer
    pieces: list[Any] = []
    end = 0
    memory = held.data
    for batch in batches:
        piece: Any = memory[batch[kernel.BODY] : batch[kernel.BODY_END]]
        codec = int(batch[kernel.ATTRIBUTES]) & kernel.CODEC_BITS
        if codec:
            piece = _decompressed(topic, partition, int(batch[kernel.BASE_OFFSET]), codec, piece)
        pieces.append(piece)
        batch[kernel.BODY], batch[kernel.BODY_END] = end, end + len(piece)
        end += len(piece)
    pieces.append(bytes(SLACK))
    return np.frombuffer(bytearray().join(pieces), np.uint8)


def _decompressed(topic: str, partition: int, offset: int, codec: int, body: memoryview) -> bytes:
    from aiokafka import codec as codecs

    if codec >= len(_CODECS):
        raise damaged(topic, partition, offset, f"its batch is compressed in a way that is not known here ({codec})")
    name = _CODECS[codec]
    try:
        return bytes(getattr(codecs, f"{name}_decode")(body.tobytes()))
    except Exception as error:  # each library has errors of its own
        raise damaged(topic, partition, offset, f"its batch cannot be decompressed ({name}): {error}") from error


def damaged(topic: str, partition: int, offset: int, why: str) -> SourceError:
    """What to say of a batch that cannot be read."""
    return SourceError(
        f"topic {topic}, partition {partition}: cannot read what is at offset {offset}: {why}; look at the broker's "
        "log files (kafka-dump-log.sh), or begin behind it"
    )


def _varint(raw: bytes, at: int) -> tuple[int, int]:
    """The number there and where it ends."""
    value = shift = 0
    while True:
        byte = raw[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return (value >> 1) ^ -(value & 1), at
        shift += 7


@cache
def _checksums() -> npt.NDArray[np.uint64]:
    """The tables for CRC-32C of eight bytes at a time. uint64[8 * 256]"""
    tables = np.zeros((8, 256), np.uint64)
    for byte in range(256):
        value = byte
        for _ in range(8):
            value = value >> 1 ^ (_POLYNOMIAL if value & 1 else 0)
        tables[0, byte] = value
    for step in range(1, 8):
        before = tables[step - 1]
        tables[step] = tables[0][before & 0xFF] ^ (before >> np.uint64(8))
    return tables.reshape(-1)
