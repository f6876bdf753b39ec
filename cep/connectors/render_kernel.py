"""Kernels that write columns as text: numbers, quoted texts, and whole lines of them. See render.py."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Bytes: TypeAlias = npt.NDArray[np.uint8]
Ints: TypeAlias = npt.NDArray[np.int64]
Lengths: TypeAlias = npt.NDArray[np.int32]

ALLOCATES = False

WIDEST_NUMBER = 24
"""Bytes of a 64-bit number with a sign, a point and a zero before it, and some more."""

_SHORT = np.zeros(32, np.uint8)
_SHORT[8], _SHORT[9], _SHORT[10], _SHORT[12], _SHORT[13] = 98, 116, 110, 102, 114  # \b \t \n \f \r
_HEX = np.frombuffer(b"0123456789abcdef", np.uint8).copy()


def json_size(data: Bytes, start: Ints, length: Lengths) -> int:
    """Bytes of all texts with quotes and escapes."""
    total = 0
    for i in range(len(start)):
        total += 2 + length[i]
        for at in range(start[i], start[i] + length[i]):
            byte = data[at]
            if byte == 34 or byte == 92:
                total += 1
            elif byte < 32:
                total += 1 if _SHORT[byte] else 5
    return total


def json_texts(
    data: Bytes, start: Ints, length: Lengths, target: Bytes, target_start: Ints, target_length: Lengths
) -> None:
    """Write each text as a JSON string."""
    to = 0
    for i in range(len(start)):
        begin = to
        target[to] = 34
        to += 1
        for at in range(start[i], start[i] + length[i]):
            byte = data[at]
            if byte == 34 or byte == 92:
                target[to] = 92
                target[to + 1] = byte
                to += 2
            elif byte >= 32:
                target[to] = byte
                to += 1
            elif _SHORT[byte]:
                target[to] = 92
                target[to + 1] = _SHORT[byte]
                to += 2
            else:
                target[to] = 92
                target[to + 1] = 117
                target[to + 2] = 48
                target[to + 3] = 48
                target[to + 4] = _HEX[byte >> 4]
                target[to + 5] = _HEX[byte & 15]
                to += 6
        target[to] = 34
        to += 1
        target_start[i] = begin
        target_length[i] = to - begin


def csv_texts(
    data: Bytes,
    start: Ints,
    length: Lengths,
    delimiter: int,
    target: Bytes,
    target_start: Ints,
    target_length: Lengths,
) -> None:
    """Write each text as a CSV cell, in quotes where it needs them or is empty (NULL has none)."""
    to = 0
    for i in range(len(start)):
        begin = to
        quoted = length[i] == 0
        for at in range(start[i], start[i] + length[i]):
            byte = data[at]
            if byte == delimiter or byte == 34 or byte == 10 or byte == 13:
                quoted = True
                break
        if quoted:
            target[to] = 34
            to += 1
        for at in range(start[i], start[i] + length[i]):
            if data[at] == 34:
                target[to] = 34
                to += 1
            target[to] = data[at]
            to += 1
        if quoted:
            target[to] = 34
            to += 1
        target_start[i] = begin
        target_length[i] = to - begin


def numbers(values: Ints, scale: int, target: Bytes, target_start: Ints, target_length: Lengths) -> None:
    """Write each number, with a point before the last `scale` digits."""
    to = 0
    for i in range(len(values)):
        value = values[i]
        rest = np.uint64(value) if value >= 0 else np.uint64(-(value + 1)) + np.uint64(1)
        # backwards from the end of the widest
        end = to + WIDEST_NUMBER
        at = end
        count = 0
        while rest > np.uint64(0) or count <= scale:
            if count == scale and scale > 0:
                at -= 1
                target[at] = 46
            at -= 1
            target[at] = np.uint8(np.uint64(48) + rest % np.uint64(10))
            rest //= np.uint64(10)
            count += 1
        if value < 0:
            at -= 1
            target[at] = 45
        target_start[i] = at
        target_length[i] = end - at
        to = end


def split_list(data: Bytes, rows: int, start: Ints, length: Lengths) -> None:
    """Find the items of ``[1.5,2.0,null]``."""
    at = 1
    for i in range(rows):
        begin = at
        while data[at] != 44 and data[at] != 93:
            at += 1
        start[i] = begin
        length[i] = at - begin
        at += 1


def join(
    data: Bytes,
    start: npt.NDArray[np.int64],
    length: npt.NDArray[np.int32],
    quoted: Ints,
    parts: Bytes,
    part_start: Ints,
    part_length: Ints,
    target: Bytes,
) -> Any:
    """Write lines: before each cell its part, behind the last one the last part; returns how many bytes.

    `start` and `length` are int[columns, rows]. A length of -1 is NULL: the part before the last is written for it.
    `quoted` says which columns get quotes.
    """
    columns, rows = start.shape
    null, last = columns, columns + 1
    to = 0
    for row in range(rows):
        for column in range(columns):
            for i in range(part_start[column], part_start[column] + part_length[column]):
                target[to] = parts[i]
                to += 1
            size = length[column, row]
            if size < 0:
                for i in range(part_start[null], part_start[null] + part_length[null]):
                    target[to] = parts[i]
                    to += 1
                continue
            if quoted[column]:
                target[to] = 34
                to += 1
            begin = start[column, row]
            for i in range(begin, begin + size):
                target[to] = data[i]
                to += 1
            if quoted[column]:
                target[to] = 34
                to += 1
        for i in range(part_start[last], part_start[last] + part_length[last]):
            target[to] = parts[i]
            to += 1
    return to
