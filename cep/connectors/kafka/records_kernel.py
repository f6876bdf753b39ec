"""Taking fetched batches of Kafka's message format 2 apart; see records.py, which gives the kernels their arrays.

A batch has a head of 61 bytes and a body of records, which may be compressed. Numbers in heads are big-endian, those in
records are varints with the sign in the lowest bit. What a damaged batch says is never believed: every length is
checked against where its record ends, and every record against where its batch does.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from ostinato.cep.strings_kernel import half

Bytes: TypeAlias = npt.NDArray[np.uint8]
Ints: TypeAlias = npt.NDArray[np.int64]
Words: TypeAlias = npt.NDArray[np.uint64]

ALLOCATES = False

# the columns of the table of batches
BODY = 0  # where the records begin ...
BODY_END = 1  # ... and end; after decompression in another buffer
ATTRIBUTES = 2
BASE_OFFSET = 3
NEXT_OFFSET = 4
FIRST_TIME = 5
MAX_TIME = 6
PRODUCER = 7
COUNT = 8
BATCH_COLUMNS = 9

# what is wrong with a batch
SOUND = 0
TOO_SHORT = 1
UNKNOWN_FORMAT = 2
WRONG_CHECKSUM = 3
WRONG_COUNT = 4
WRONG_RECORD = 5
WRONG_OFFSET = 6
OLD_FORMAT = 7  # nothing wrong: to be read in another way

LOG_HEAD = 12  # offset and length, before what the length counts
HEAD = 61
CHECKED = 21  # from here to the end of the batch the checksum is of
MAGIC = 16
OLD_HEAD = 26  # the least that a message of format 0 has

CODEC_BITS = 7
LOG_APPEND_TIME_BIT = 8
TRANSACTIONAL_BIT = 16
CONTROL_BIT = 32

WAITING = 0  # an aborted transaction that has not begun yet
OPEN = 1
CLOSED = 2

_NONE = np.uint64(0)
_ONE = np.uint64(1)
_SEVEN = np.uint64(7)
_SIXTYFOUR = np.uint64(64)
_LOW7 = np.uint64(0x7F)
_MORE = np.uint64(0x80)
_FOUR = np.uint64(4)
_EIGHT = np.uint64(8)
_SIXTEEN = np.uint64(16)
_TWENTYFOUR = np.uint64(24)
_BYTE = np.uint64(0xFF)
_ALL32 = np.uint64(0xFFFFFFFF)
_T1 = np.uint64(256)
_T2 = np.uint64(512)
_T3 = np.uint64(768)
_T4 = np.uint64(1024)
_T5 = np.uint64(1280)
_T6 = np.uint64(1536)
_T7 = np.uint64(1792)


def number(data: Bytes, at: int, size: int) -> Any:
    """The signed big-endian number of `size` bytes there."""
    value = np.int64(data[at])
    if value >= 128:
        value -= 256
    for i in range(1, size):
        value = value * 256 + np.int64(data[at + i])
    return value


def varint(data: Bytes, at: int, end: int) -> Any:
    """The number there and where it ends, which is -1 where it runs over `end` or has more than 64 bits."""
    value = _NONE
    shift = _NONE
    while at < end and shift < _SIXTYFOUR:
        byte = np.uint64(data[at])
        at += 1
        value |= (byte & _LOW7) << shift
        if byte < _MORE:
            return np.int64(value >> _ONE) ^ -np.int64(value & _ONE), at
        shift += _SEVEN
    return np.int64(0), -1


def checksum(data: Bytes, begin: int, end: int, table: Words) -> Any:
    """CRC-32C of the bytes, eight at a time; `table` is uint64[8 * 256]."""
    crc = _ALL32
    # unsigned, as a signed place costs a test for a negative one on every byte
    at = np.uint64(begin)
    last = np.uint64(end)
    while at + _EIGHT <= last:
        low = crc ^ half(data, at)
        high = half(data, at + _FOUR)
        crc = (
            table[_T7 + (low & _BYTE)]
            ^ table[_T6 + ((low >> _EIGHT) & _BYTE)]
            ^ table[_T5 + ((low >> _SIXTEEN) & _BYTE)]
            ^ table[_T4 + (low >> _TWENTYFOUR)]
            ^ table[_T3 + (high & _BYTE)]
            ^ table[_T2 + ((high >> _EIGHT) & _BYTE)]
            ^ table[_T1 + ((high >> _SIXTEEN) & _BYTE)]
            ^ table[high >> _TWENTYFOUR]
        )
        at += _EIGHT
    while at < last:
        crc = table[(crc ^ np.uint64(data[at])) & _BYTE] ^ (crc >> _EIGHT)
        at += _ONE
    return crc ^ _ALL32


def count_batches(data: Bytes, size: int) -> int:
    """How many whole batches there are, of any format."""
    at = 0
    count = 0
    while at + LOG_HEAD <= size:
        length = number(data, at + 8, 4)
        if length < 0:
            return count + 1
        at += LOG_HEAD + length
        if at <= size:
            count += 1
    return count


def scan_batches(data: Bytes, count: int, table: Words, batches: Ints) -> Any:
    """Read the heads of all batches and check them.

    Returns (what is wrong, the batch it is wrong with, its offset); for what is sound the second is -1.
    """
    at = 0
    before = np.int64(-1)
    for batch in range(count):
        base = number(data, at, 8)
        length = number(data, at + 8, 4)
        end = at + LOG_HEAD + length
        if end - at < OLD_HEAD:
            return TOO_SHORT, batch, base
        magic = data[at + MAGIC]
        if magic < 2:
            return OLD_FORMAT, batch, base
        if magic > 2:
            return UNKNOWN_FORMAT, batch, base
        if end - at < HEAD:
            return TOO_SHORT, batch, base
        crc = number(data, at + 17, 4) & np.int64(0xFFFFFFFF)
        if np.int64(checksum(data, at + CHECKED, end, table)) != crc:
            return WRONG_CHECKSUM, batch, base
        last = number(data, at + 23, 4)
        records = number(data, at + 57, 4)
        if records < 0:
            return WRONG_COUNT, batch, base
        if base <= before or last < 0:
            return WRONG_OFFSET, batch, base
        before = base + last
        batches[batch, BODY] = at + HEAD
        batches[batch, BODY_END] = end
        batches[batch, ATTRIBUTES] = number(data, at + 21, 2)
        batches[batch, BASE_OFFSET] = base
        batches[batch, NEXT_OFFSET] = base + last + 1
        batches[batch, FIRST_TIME] = number(data, at + 27, 8)
        batches[batch, MAX_TIME] = number(data, at + 35, 8)
        batches[batch, PRODUCER] = number(data, at + 43, 8)
        batches[batch, COUNT] = records
        at = end
    return SOUND, -1, np.int64(-1)


def skip_headers(data: Bytes, at: int, end: int) -> int:
    """Where the headers end that begin there with their number; -1 where they are wrong."""
    headers, at = varint(data, at, end)
    if at < 0 or headers < 0:
        return -1
    for _ in range(headers):
        size, at = varint(data, at, end)
        if at < 0 or size < 0 or size > end - at:
            return -1
        size, at = varint(data, at + size, end)
        if at < 0 or size > end - at:
            return -1
        at += max(size, 0)
    return at


def ends_aborted(data: Bytes, at: int, end: int) -> bool:
    """Does a control batch with this body say that a transaction was aborted?"""
    _, at = varint(data, at, end)
    if at < 0:
        return False
    _, at = varint(data, at + 1, end)
    if at < 0:
        return False
    _, at = varint(data, at, end)
    if at < 0:
        return False
    size, at = varint(data, at, end)
    if at < 0 or size < 4 or size > end - at:
        return False
    return bool(number(data, at, 2) == 0 and number(data, at + 2, 2) == 0)


def parse_records(
    data: Bytes,
    batches: Ints,
    first_offset: int,
    committed: bool,
    aborted_producer: Ints,
    aborted_first: Ints,
    aborted_state: Ints,
    offset: Ints,
    timestamp: Ints,
    key_begin: Ints,
    key_length: Ints,
    value_begin: Ints,
    value_length: Ints,
    headers_begin: Ints,
    headers_end: Ints,
) -> Any:
    """Read the records from `first_offset` on; of batches that are control marks or aborted none.

    `aborted_*` are the aborted transactions in the order of their first offsets. A mark of an abort ends what its
    producer has begun: later batches of it are good again.
    Returns (rows, their bytes, what is wrong, the batch it is wrong with).
    """
    row = 0
    size = 0
    for batch in range(len(batches)):
        at = batches[batch, BODY]
        end = batches[batch, BODY_END]
        attributes = batches[batch, ATTRIBUTES]
        base = batches[batch, BASE_OFFSET]
        following = batches[batch, NEXT_OFFSET]
        control = (attributes & CONTROL_BIT) != 0
        if committed:
            producer = batches[batch, PRODUCER]
            for i in range(len(aborted_first)):
                if aborted_first[i] > base:
                    break
                if aborted_state[i] == WAITING:
                    aborted_state[i] = OPEN
            if control and ends_aborted(data, at, end):
                for i in range(len(aborted_first)):
                    if aborted_producer[i] == producer and aborted_state[i] == OPEN:
                        aborted_state[i] = CLOSED
            if (attributes & TRANSACTIONAL_BIT) != 0 and not control:
                aborted = False
                for i in range(len(aborted_first)):
                    if aborted_producer[i] == producer and aborted_state[i] == OPEN:
                        aborted = True
                        break
                if aborted:
                    continue
        if control or following <= first_offset:
            continue
        stamped = (attributes & LOG_APPEND_TIME_BIT) != 0
        first_time = batches[batch, FIRST_TIME]
        max_time = batches[batch, MAX_TIME]
        last = base - 1
        for _ in range(batches[batch, COUNT]):
            length, at = varint(data, at, end)
            # a byte of attributes, and one at least for each number
            if at < 0 or length < 6 or length > end - at:
                return row, size, WRONG_RECORD, batch
            begin = at
            record_end = at + length
            delta, at = varint(data, at + 1, record_end)
            if at < 0:
                return row, size, WRONG_RECORD, batch
            step, at = varint(data, at, record_end)
            if at < 0:
                return row, size, WRONG_RECORD, batch
            here = base + step
            if here <= last or here >= following:
                return row, size, WRONG_OFFSET, batch
            last = here
            key_size, at = varint(data, at, record_end)
            if at < 0 or key_size > record_end - at:
                return row, size, WRONG_RECORD, batch
            key_at = at
            at += max(key_size, 0)
            value_size, at = varint(data, at, record_end)
            if at < 0 or value_size > record_end - at:
                return row, size, WRONG_RECORD, batch
            value_at = at
            at += max(value_size, 0)
            headers_at = at
            if at < record_end and data[at] == 0:
                at += 1
            else:
                at = skip_headers(data, at, record_end)
            if at != record_end:
                return row, size, WRONG_RECORD, batch
            if here < first_offset:
                continue
            offset[row] = here
            timestamp[row] = max_time if stamped else first_time + delta
            key_begin[row] = key_at
            key_length[row] = max(key_size, -1)
            value_begin[row] = value_at
            value_length[row] = max(value_size, -1)
            headers_begin[row] = headers_at
            headers_end[row] = record_end
            size += record_end - begin
            row += 1
        if at != end:
            return row, size, WRONG_COUNT, batch
    return row, size, SOUND, -1
