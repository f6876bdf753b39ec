"""Kernels over text columns: see strings.py, which gives them their arrays.

Text i of a column is ``data[start[i] : start[i] + length[i]]``. Positions are unsigned where bytes are read, since
a signed one costs a test for a negative index on every byte.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Bytes: TypeAlias = npt.NDArray[np.uint8]
Ints: TypeAlias = npt.NDArray[np.int64]
Lengths: TypeAlias = npt.NDArray[np.int32]
Hashes: TypeAlias = npt.NDArray[np.uint64]
Flags: TypeAlias = npt.NDArray[np.bool_]

ALLOCATES = False

_ONE = np.uint64(1)
_TWO = np.uint64(2)
_THREE = np.uint64(3)
_FOUR = np.uint64(4)
_FIVE = np.uint64(5)
_SIX = np.uint64(6)
_SEVEN = np.uint64(7)
_EIGHT = np.uint64(8)
_SIXTEEN = np.uint64(16)
_TWENTYFOUR = np.uint64(24)
_THIRTYTWO = np.uint64(32)
_FORTY = np.uint64(40)
_FORTYEIGHT = np.uint64(48)
_FIFTYSIX = np.uint64(56)
_ALL = np.uint64(0xFFFFFFFFFFFFFFFF)
_SEED = np.uint64(0x9E3779B97F4A7C15)
_FACTOR_A = np.uint64(0xBF58476D1CE4E5B9)
_FACTOR_B = np.uint64(0x94D049BB133111EB)
_SHIFT_A = np.uint64(30)
_SHIFT_B = np.uint64(27)
_SHIFT_C = np.uint64(31)


def word(data: Bytes, at: np.uint64) -> np.uint64:
    """Eight bytes as a little-endian number (the compiler makes one load of it)."""
    return (
        np.uint64(data[at])
        | np.uint64(data[at + _ONE]) << _EIGHT
        | np.uint64(data[at + _TWO]) << _SIXTEEN
        | np.uint64(data[at + _THREE]) << _TWENTYFOUR
        | np.uint64(data[at + _FOUR]) << _THIRTYTWO
        | np.uint64(data[at + _FIVE]) << _FORTY
        | np.uint64(data[at + _SIX]) << _FORTYEIGHT
        | np.uint64(data[at + _SEVEN]) << _FIFTYSIX
    )


def half(data: Bytes, at: np.uint64) -> np.uint64:
    """Four bytes as a little-endian number."""
    return (
        np.uint64(data[at])
        | np.uint64(data[at + _ONE]) << _EIGHT
        | np.uint64(data[at + _TWO]) << _SIXTEEN
        | np.uint64(data[at + _THREE]) << _TWENTYFOUR
    )


def mix(value: np.uint64) -> np.uint64:
    """Spread every bit over all others (splitmix64's finaliser)."""
    value = (value ^ (value >> _SHIFT_A)) * _FACTOR_A
    value = (value ^ (value >> _SHIFT_B)) * _FACTOR_B
    return value ^ (value >> _SHIFT_C)


def hash_one(data: Bytes, start: np.int64, length: np.int64) -> np.uint64:
    """The hash of one text: the same on every machine and in every release."""
    at = np.uint64(start)
    size = np.uint64(length)
    value = _SEED ^ size
    if size >= _EIGHT:
        end = at + size
        while at + _EIGHT < end:
            value = (value ^ word(data, at)) * _FACTOR_A
            value ^= value >> _THIRTYTWO
            at += _EIGHT
        return mix(value ^ word(data, end - _EIGHT))
    if size >= _FOUR:
        return mix(value * _FACTOR_A ^ (half(data, at) | half(data, at + size - _FOUR) << _THIRTYTWO))
    tail = np.uint64(0)
    if size > np.uint64(0):
        tail = (
            np.uint64(data[at])
            | np.uint64(data[at + (size >> _ONE)]) << _EIGHT
            | np.uint64(data[at + size - _ONE]) << _SIXTEEN
        )
    return mix(value * _FACTOR_A ^ tail)


def same(left: Bytes, left_start: np.int64, right: Bytes, right_start: np.int64, length: np.int64) -> bool:
    """Are `length` bytes at two places equal?"""
    one = np.uint64(left_start)
    two = np.uint64(right_start)
    size = np.uint64(length)
    if size >= _EIGHT:
        end = one + size
        while one + _EIGHT < end:
            if word(left, one) != word(right, two):
                return False
            one += _EIGHT
            two += _EIGHT
        return bool(word(left, end - _EIGHT) == word(right, two + (end - one) - _EIGHT))
    if size >= _FOUR:
        return bool(
            half(left, one) == half(right, two) and half(left, one + size - _FOUR) == half(right, two + size - _FOUR)
        )
    for i in range(length):
        step = np.uint64(i)
        if left[one + step] != right[two + step]:
            return False
    return True


def copy_texts(data: Bytes, start: Ints, length: Lengths, target: Bytes, target_start: Ints) -> None:
    """Write the texts one after the other, and where each one begins."""
    at = np.uint64(0)
    for i in range(len(start)):
        target_start[i] = np.int64(at)
        source = np.uint64(start[i])
        end = source + np.uint64(length[i])
        while source < end:
            target[at] = data[source]
            source += _ONE
            at += _ONE


def equals_constant(data: Bytes, start: Ints, length: Lengths, constant: Bytes, out: Flags) -> None:
    """Which texts are the constant?

    Texts differ in an order that no processor can foresee, so the first and the last eight bytes are compared
    without asking first whether the lengths agree; only what passes is looked at again.
    """
    size = len(constant)
    # Eight bytes can be read from a place before this one.
    last = len(data) - max(size, 8)
    first_mask = _ALL if size >= 8 else (_ONE << np.uint64(8 * size)) - _ONE
    first = np.uint64(0)
    for k in range(min(size, 8)):
        first |= np.uint64(constant[k]) << np.uint64(8 * k)
    behind = np.uint64(max(size - 8, 0))
    second = word(constant, behind) if size >= 8 else first
    for i in range(len(start)):
        begin = start[i]
        if begin > last:
            out[i] = length[i] == size and same(data, begin, constant, 0, size)  # type: ignore[arg-type]
            continue
        at = np.uint64(begin)
        equal = (
            (length[i] == size)
            & ((word(data, at) & first_mask) == first)
            & ((word(data, at + behind) & first_mask) == second)
        )
        if size > 16 and equal:
            equal = same(data, begin, constant, 0, size)  # type: ignore[arg-type]
        out[i] = equal


def equals_columns(
    data: Bytes, start: Ints, length: Lengths, data2: Bytes, start2: Ints, length2: Lengths, out: Flags
) -> None:
    for i in range(len(start)):
        out[i] = length[i] == length2[i] and same(data, start[i], data2, start2[i], np.int64(length[i]))


def has_at_end(data: Bytes, start: Ints, length: Lengths, constant: Bytes, suffix: bool, out: Flags) -> None:
    """Does each text start (`suffix`: end) with the constant?"""
    size = len(constant)
    for i in range(len(start)):
        found = False
        if length[i] >= size:
            begin = start[i] + (length[i] - size if suffix else 0)
            found = same(data, begin, constant, 0, size)  # type: ignore[arg-type]
        out[i] = found


def find_constant(data: Bytes, start: Ints, length: Lengths, constant: Bytes, out: Ints) -> None:
    """Where in each text (in bytes, from 0) the constant is found first; -1 where it is not."""
    size = len(constant)
    for i in range(len(start)):
        found = -1
        last = start[i] + length[i] - size
        at = start[i]
        while at <= last:
            if size == 0 or (data[np.uint64(at)] == constant[0] and same(data, at, constant, 0, size)):  # type: ignore[arg-type]
                found = at - start[i]
                break
            at += 1
        out[i] = found


def compare_one(
    left: Bytes, start: np.int64, length: np.int64, right: Bytes, start2: np.int64, length2: np.int64
) -> int:
    """Less than, equal to or greater than 0, by UTF-16 code units as Java's ``compareTo``.

    UTF-8 sorts by code point. The orders differ where one is beyond the basic plane (first byte 0xF0 or more, in
    UTF-16 a surrogate) and the other in U+E000..U+FFFF (first byte 0xEE or 0xEF): there the former comes first.
    """
    shorter = min(length, length2)
    for i in range(shorter):
        one = left[start + i]
        two = right[start2 + i]
        if one != two:
            if one >= 0xEE and two >= 0xEE and (one >= 0xF0) != (two >= 0xF0):
                return -1 if one > two else 1
            return 1 if one > two else -1
    if length == length2:
        return 0
    return 1 if length > length2 else -1


def compare_columns(
    data: Bytes, start: Ints, length: Lengths, data2: Bytes, start2: Ints, length2: Lengths, out: npt.NDArray[np.int8]
) -> None:
    """The order of each pair; a second column of one text is a constant."""
    step = 0 if len(start2) == 1 else 1
    for i in range(len(start)):
        j = i * step
        out[i] = compare_one(data, start[i], np.int64(length[i]), data2, start2[j], np.int64(length2[j]))


def hash_texts(data: Bytes, start: Ints, length: Lengths, out: Hashes) -> None:
    """Fold the hash of each text into `out`."""
    for i in range(len(start)):
        out[i] = mix(out[i] * _FACTOR_B + hash_one(data, start[i], np.int64(length[i])))


def hash_numbers(values: Ints, out: Hashes) -> None:
    """Fold the hash of each number into `out`."""
    for i in range(len(values)):
        out[i] = mix(out[i] * _FACTOR_B + mix(np.uint64(values[i]) + _SEED))


def intern_texts(
    data: Bytes,
    start: Ints,
    length: Lengths,
    first: int,
    count: int,
    table: Lengths,
    hashes: Hashes,
    starts: Ints,
    lengths: Lengths,
    arena: Bytes,
    out: Ints,
) -> Any:
    """Number the texts from row `first` on; return the row it came to and the count of distinct ones.

    `table` holds code + 1, 0 where free, and its size is a power of two. It stops before a row that needs more room
    in the arena, the lists or the table.
    """
    mask = np.uint64(len(table) - 1)
    used = starts[count - 1] + lengths[count - 1] if count else 0
    limit = min(len(starts), len(table) // 2)
    for i in range(first, len(start)):
        size = np.int64(length[i])
        value = hash_one(data, start[i], size)
        slot = value & mask
        code = np.int64(table[slot]) - 1
        while code >= 0:
            if hashes[code] == value and lengths[code] == size and same(data, start[i], arena, starts[code], size):
                break
            slot = (slot + _ONE) & mask
            code = np.int64(table[slot]) - 1
        if code < 0:
            if count >= limit or used + size > len(arena):
                return i, count
            for j in range(size):
                arena[used + j] = data[start[i] + j]
            starts[count] = used
            lengths[count] = size
            hashes[count] = value
            used += size
            code = np.int64(count)
            count += 1
            table[slot] = count
        out[i] = code
    return len(start), count


def fill_table(hashes: Hashes, count: int, table: Lengths) -> None:
    """Enter the first `count` texts, all different, into an empty table."""
    mask = np.uint64(len(table) - 1)
    for code in range(count):
        slot = hashes[code] & mask
        while table[slot] != 0:
            slot = (slot + _ONE) & mask
        table[slot] = code + 1


def find_texts(
    data: Bytes,
    start: Ints,
    length: Lengths,
    table: Lengths,
    hashes: Hashes,
    starts: Ints,
    lengths: Lengths,
    arena: Bytes,
    out: Ints,
) -> None:
    """The code of each text, -1 where it has none."""
    mask = np.uint64(len(table) - 1)
    for i in range(len(start)):
        size = np.int64(length[i])
        value = hash_one(data, start[i], size)
        slot = value & mask
        code = np.int64(table[slot]) - 1
        while code >= 0:
            if hashes[code] == value and lengths[code] == size and same(data, start[i], arena, starts[code], size):
                break
            slot = (slot + _ONE) & mask
            code = np.int64(table[slot]) - 1
        out[i] = code
