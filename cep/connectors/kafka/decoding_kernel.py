"""Kernels over blocks of records: values as lines, headers by name, keys compared; see decoding.py."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from ostinato.cep.connectors.json_kernel import utf8_size
from ostinato.cep.connectors.kafka.records_kernel import varint
from ostinato.cep.strings_kernel import same

Bytes: TypeAlias = npt.NDArray[np.uint8]
Ints: TypeAlias = npt.NDArray[np.int64]
Lengths: TypeAlias = npt.NDArray[np.int32]
Flags: TypeAlias = npt.NDArray[np.bool_]

ALLOCATES = False

LINE_FEED = 10
RETURN = 13
QUOTE = 34
_ONE = np.uint64(1)


def find_blank(data: Bytes, begin: Ints, length: Ints, records: Ints, blank: Flags) -> int:
    """Which of these values have nothing but blanks and line ends; returns the bytes of the others."""
    size = 0
    for i in range(len(records)):
        at = begin[records[i]]
        end = at + length[records[i]]
        while at < end and (data[at] == 32 or data[at] == 9 or data[at] == RETURN or data[at] == LINE_FEED):
            at += 1
        blank[i] = at == end
        if at < end:
            size += length[records[i]]
    return size


def copy_lines(data: Bytes, begin: Ints, length: Ints, records: Ints, target: Bytes, line: Ints) -> None:
    """Write these values as lines, and where each one begins.

    A line feed in a value becomes a return: between the parts of a JSON value both are blanks, and in a text neither
    may stand, so it stays what it was, right or wrong, and one line.
    """
    at = np.uint64(0)
    for i in range(len(records)):
        line[i] = np.int64(at)
        source = np.uint64(begin[records[i]])
        end = source + np.uint64(length[records[i]])
        while source < end:
            byte = data[source]
            target[at] = RETURN if byte == LINE_FEED else byte
            source += _ONE
            at += _ONE
        target[at] = LINE_FEED
        at += _ONE


def are_text(data: Bytes, begin: Ints, length: Ints, out: Flags) -> None:
    """Which are UTF-8; a null (length -1) is."""
    for i in range(len(begin)):
        at = begin[i]
        end = at + length[i]
        while at < end:
            size = 1 if data[at] < 0x80 else utf8_size(data, at)
            if size == 0 or at + size > end:
                break
            at += size
        out[i] = at >= end


def find_headers(data: Bytes, begin: Ints, end: Ints, name: Bytes, out_begin: Ints, out_length: Ints) -> None:
    """The value of the last header of that name of each record; a length of -1 where there is none, or a null."""
    size = np.int64(len(name))
    for i in range(len(begin)):
        out_begin[i] = 0
        out_length[i] = -1
        if end[i] - begin[i] <= 1:
            continue
        count, at = varint(data, begin[i], end[i])
        for _ in range(count):
            length, at = varint(data, at, end[i])
            found = length == size and same(data, at, name, np.int64(0), size)
            length, at = varint(data, at + length, end[i])
            if found:
                out_begin[i] = at if length >= 0 else 0
                out_length[i] = max(length, np.int64(-1))
            at += max(length, np.int64(0))


def match_texts(
    data: Bytes,
    begin: Ints,
    length: Ints,
    records: Ints,
    texts: Bytes,
    start: Ints,
    size: Lengths,
    matched: Flags,
) -> None:
    """Note the rows whose record has the row's text as its key, as it is or in quotes."""
    for i in range(len(records)):
        if matched[i]:
            continue
        at = begin[records[i]]
        count = length[records[i]]
        wanted = np.int64(size[i])
        if count == wanted + 2 and data[at] == QUOTE and data[at + count - 1] == QUOTE:
            matched[i] = same(data, at + 1, texts, start[i], wanted)
        if count == wanted and not matched[i]:
            matched[i] = same(data, at, texts, start[i], wanted)


def match_numbers(data: Bytes, begin: Ints, length: Ints, records: Ints, values: Ints, matched: Flags) -> None:
    """Note the rows whose record has the row's number as its key, in decimal."""
    for i in range(len(records)):
        if matched[i] or length[records[i]] < 1:
            continue
        at = begin[records[i]]
        end = at + length[records[i]]
        negative = data[at] == 45
        if negative:
            at += 1
        count = end - at
        if count == 0 or count > 18 or (data[at] == 48 and count > 1):
            # beyond these the exact way is taken, which knows all numbers
            continue
        number = np.int64(0)
        while at < end and 48 <= data[at] <= 57:
            number = number * 10 + np.int64(data[at]) - 48
            at += 1
        matched[i] = at == end and values[i] == (-number if negative else number)
