"""Kernels over cells of text: where they are in a CSV file, and what is in them. See csv_lines.py and cells.py."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from ostinato.cep.connectors.json_kernel import store_number, utf8_size

Bytes: TypeAlias = npt.NDArray[np.uint8]
Ints: TypeAlias = npt.NDArray[np.int64]
Lengths: TypeAlias = npt.NDArray[np.int32]
Flags: TypeAlias = npt.NDArray[np.bool_]

ALLOCATES = False

PLAIN = 0
QUOTED = 1
DOUBLED = 2
"""A quoted cell with quotes in it, each written twice."""


def split_csv(
    data: Bytes,
    at: int,
    size: int,
    row: int,
    delimiter: int,
    quote: int,
    slots: Ints,
    start: npt.NDArray[np.int64],
    length: npt.NDArray[np.int32],
    form: npt.NDArray[np.uint8],
    begins: Ints,
    ends: Ints,
    cells: Ints,
) -> Any:
    """Find the cells of records from `at` on until the end or until the rows are full; returns (at, row).

    `slots[i]` is the row of `start`, `length` and `form` that the i-th cell goes to, -1 for none. `cells` gets the
    number of cells of each record, -1 where its quotes are wrong. Empty lines are no records.
    """
    capacity = start.shape[1]
    columns = len(slots)
    while at < size and row < capacity:
        if data[at] == 10:
            at += 1
            continue
        if data[at] == 13 and data[at + 1] == 10:
            at += 2
            continue
        begins[row] = at
        for slot in range(len(start)):
            start[slot, row] = 0
            length[slot, row] = 0
            form[slot, row] = PLAIN
        count = 0
        right = True
        while True:
            begin = at
            kind = PLAIN
            if quote != 0 and data[at] == quote:
                kind = QUOTED
                begin = at + 1
                at += 1
                while at < size:
                    if data[at] == quote:
                        if data[at + 1] != quote:
                            break
                        kind = DOUBLED
                        at += 1
                    at += 1
                end = min(at, size)
                if at >= size:
                    right = False
                else:
                    at += 1
                    if data[at] == 13 and data[at + 1] == 10:
                        at += 1
                    if data[at] != delimiter and data[at] != 10:
                        right = False
                        while data[at] != delimiter and data[at] != 10:
                            at += 1
            else:
                while data[at] != delimiter and data[at] != 10:
                    at += 1
                end = at
                if data[at] == 10 and end > begin and data[end - 1] == 13:
                    end -= 1
            if count < columns and slots[count] >= 0:
                slot = slots[count]
                start[slot, row] = begin
                length[slot, row] = end - begin
                form[slot, row] = kind
            count += 1
            if at >= size or data[at] == 10:
                break
            at += 1
        ends[row] = min(at, size)
        cells[row] = count if right else -1
        at += 1
        row += 1
    return at, row


def parse_numbers(
    data: Bytes,
    start: Ints,
    length: Lengths,
    valid: Flags,
    kind: int,
    parameter: int,
    precision: int,
    ints: Ints,
    floats: npt.NDArray[np.float64],
    done: Flags,
) -> None:
    """Read plain numbers; `done` says where that was possible. Words are read over the ends of cells."""
    for i in range(len(start)):
        ints[i] = 0
        done[i] = not valid[i]
        if valid[i] and length[i] > 0:
            byte = data[start[i]]
            if byte == 45 or 48 <= byte <= 57:
                end, later = store_number(data, start[i], kind, parameter, precision, i, ints, floats)
                done[i] = end == start[i] + length[i] and not later
                if not done[i]:
                    ints[i] = 0


def check_utf8(data: Bytes, start: Ints, length: Lengths, ok: Flags) -> None:
    """Which cells are valid UTF-8?"""
    for i in range(len(start)):
        at = start[i]
        end = at + length[i]
        ok[i] = True
        while at < end:
            if data[at] < 0x80:
                at += 1
                continue
            size = utf8_size(data, at) if at + 4 <= len(data) else 0
            if size == 0 or at + size > end:
                ok[i] = False
                break
            at += size
