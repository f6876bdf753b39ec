"""The JSON lines scanner: bytes to typed columns, one line after the other, without an object per event.

It decodes what is plain and leaves the rest: a line that it cannot be sure of goes on the list `slow` for the exact
decoder, a value that needs more than arithmetic (escapes, long numbers, dates) on the list `later`. It never
accepts what the exact decoder would reject.

Bytes behind the chunk: a line end and at least 16 more bytes, so that words can be read without a test for the end.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from ostinato.cep.strings_kernel import same, word

Bytes: TypeAlias = npt.NDArray[np.uint8]
Ints: TypeAlias = npt.NDArray[np.int64]

# kinds of columns; what the parameter of a column means is in brackets. From STRING on, text is taken.
BIGINT = 0
DOUBLE = 1
BOOLEAN = 2
EPOCH = 3  # a time as a number [power of ten that makes milliseconds of it]
DECIMAL = 4  # [digits behind the point]
STRING = 5
TEXT_TIME = 6  # a time or date as text, to be read later
ANY_TIME = 7  # either [as EPOCH]
NESTED = 8  # any value, to be read later from its bytes

ALLOCATES = False

LINE_FEED = 10
RETURN = 13
QUOTE = 34
BACKSLASH = 92
NESTING = 60
"""Arrays and objects in one another that are skipped here; one bit each."""
MAX_DIGITS = 50
"""Beyond these a number is left to the exact decoder, which knows whether it is infinite."""
MAX_EXPONENT = 250
MIN_MS = -62_135_596_800_000
MAX_MS = 253_402_300_799_999
"""The years 1 to 9999."""

_ONES = np.uint64(0x0101010101010101)
_HIGH = np.uint64(0x8080808080808080)
_QUOTES = np.uint64(0x2222222222222222)
_BACKSLASHES = np.uint64(0x5C5C5C5C5C5C5C5C)
_SPACES = np.uint64(0x2020202020202020)
_ZEROS = np.uint64(0x3030303030303030)
_LOW7 = np.uint64(0x7F7F7F7F7F7F7F7F)
_NOT_DIGIT = np.uint64(0x7676767676767676)
_NIBBLES = np.uint64(0x0F0F0F0F0F0F0F0F)
_PAIRS = np.uint64(0x00FF00FF00FF00FF)
_QUADS = np.uint64(0x0000FFFF0000FFFF)
_JOIN1 = np.uint64(2561)
_JOIN2 = np.uint64(6553601)
_JOIN4 = np.uint64(42949672960001)
_NONE = np.uint64(0)
_ONE = np.uint64(1)
_EIGHT = np.uint64(8)
_SIXTEEN = np.uint64(16)
_THIRTYTWO = np.uint64(32)
_FIFTYSIX = np.uint64(56)
_SIXTYFOUR = np.uint64(64)
_MAX_INT = np.uint64(2**63 - 1)
_MAX_EXACT = 2**53
_NULL = np.uint64(0x6C6C756E)
_TRUE = np.uint64(0x65757274)
_FALSE = np.uint64(0x65736C61)
_WORD4 = np.uint64(0xFFFFFFFF)
_TENS = np.array([10**i for i in range(19)], np.int64)
_UNSIGNED_TENS = np.array([10**i for i in range(20)], np.uint64)
_FLOAT_TENS = np.array([float(10**i) for i in range(23)], np.float64)


def first(marks: np.uint64) -> Any:
    """The number of the lowest byte whose high bit is set."""
    low = marks & (~marks + _ONE)
    return np.int64((((low - _ONE) & _ONES) * _ONES) >> _FIFTYSIX) - 1


def utf8_size(data: Bytes, at: int) -> int:
    """Bytes of the character there beyond ASCII, 0 where it is not valid UTF-8."""
    lead = data[at]
    second = data[at + 1]
    if lead < 0xC2 or lead > 0xF4 or (second & 0xC0) != 0x80:
        return 0
    if lead < 0xE0:
        return 2
    if (data[at + 2] & 0xC0) != 0x80:
        return 0
    if lead < 0xF0:
        if (lead == 0xE0 and second < 0xA0) or (lead == 0xED and second > 0x9F):
            return 0
        return 3
    if (data[at + 3] & 0xC0) != 0x80 or (lead == 0xF0 and second < 0x90) or (lead == 0xF4 and second > 0x8F):
        return 0
    return 4


def escape_size(data: Bytes, at: int) -> int:
    """Bytes of the escape at a backslash, 0 where it is wrong or a surrogate."""
    letter = data[at + 1]
    if letter == 117:  # u
        for i in range(2, 6):
            digit = data[at + i]
            small = digit | 0x20
            if not (48 <= digit <= 57 or 97 <= small <= 102):
                return 0
        if (data[at + 2] | 0x20) == 100 and data[at + 3] >= 56:  # \uD800 and above
            return 0
        return 6
    # " / \ b f n r t
    if letter in (34, 47, 92, 98, 102, 110, 114, 116):
        return 2
    return 0


def text_end(data: Bytes, at: int) -> Any:
    """Where the text that begins there ends, -1 where it is not plain, and whether it has escapes."""
    escaped = False
    while True:
        eight = word(data, np.uint64(at))
        marks = (((eight ^ _QUOTES) - _ONES) | ((eight ^ _BACKSLASHES) - _ONES) | (eight - _SPACES) | eight) & _HIGH
        if marks == _NONE:
            at += 8
            continue
        at += first(marks)
        byte = data[at]
        if byte == QUOTE:
            return at, escaped
        if byte == BACKSLASH:
            size = escape_size(data, at)
            escaped = True
        elif byte >= 0x80:
            size = utf8_size(data, at)
        else:
            size = 0
        if size == 0:
            return -1, escaped
        at += size


def digits(data: Bytes, at: int) -> Any:
    """How many digits stand there and, if they are at most 19, their value."""
    count = 0
    value = _NONE
    while True:
        eight = word(data, np.uint64(at + count)) ^ _ZEROS
        marks = (((eight & _LOW7) + _NOT_DIGIT) | eight) & _HIGH
        n = 8 if marks == _NONE else first(marks)
        if n == 0:
            return count, value
        eight = (eight << (_SIXTYFOUR - _EIGHT * np.uint64(n))) & _NIBBLES
        eight = (eight * _JOIN1) >> _EIGHT
        eight = ((eight & _PAIRS) * _JOIN2) >> _SIXTEEN
        eight = ((eight & _QUADS) * _JOIN4) >> _THIRTYTWO
        value = value * _UNSIGNED_TENS[n] + eight
        count += n
        if n < 8:
            return count, value


def number(data: Bytes, at: int) -> Any:
    """Scan a number: (end or -1, whether the value is exact, mantissa, power of ten, whether it has a point or e).

    Not exact: more digits than an int64 holds, the mantissa is then 0. A -1 means wrong, or too long to be sure.
    """
    negative = data[at] == 45
    if negative:
        at += 1
    begin = at
    count, value = digits(data, at)
    if count == 0 or (count > 1 and data[begin] == 48):
        return -1, False, np.int64(0), 0, False
    at += count
    power: Any = 0
    total = count
    floating = False
    if data[at] == 46:
        floating = True
        behind, fraction = digits(data, at + 1)
        if behind == 0:
            return -1, False, np.int64(0), 0, False
        at += 1 + behind
        total += behind
        power = -behind
        if total <= 19:
            value = value * _UNSIGNED_TENS[behind] + fraction
    if (data[at] | 0x20) == 101:
        floating = True
        at += 1
        down = data[at] == 45
        if down or data[at] == 43:
            at += 1
        size, exponent = digits(data, at)
        if size == 0 or size > 4 or exponent > np.uint64(MAX_EXPONENT):
            return -1, False, np.int64(0), 0, False
        at += size
        power += -np.int64(exponent) if down else np.int64(exponent)
    if total > MAX_DIGITS:
        return -1, False, np.int64(0), 0, False
    if total > 19 or value > _MAX_INT:
        return at, False, np.int64(0), power, floating
    mantissa = np.int64(value)
    return at, True, -mantissa if negative else mantissa, power, floating


def blanks(data: Bytes, at: int) -> int:
    """The first place from there on that is not a blank (a line end is none)."""
    while data[at] == 32 or data[at] == 9 or data[at] == RETURN:
        at += 1
    return at


def scalar_end(data: Bytes, at: int) -> int:
    """Where a text, number or literal ends; -1 where it is not plain."""
    byte = data[at]
    if byte == QUOTE:
        end, _ = text_end(data, at + 1)
        return int(end + 1) if end >= 0 else -1
    four = word(data, np.uint64(at)) & _WORD4
    if four == _NULL or four == _TRUE:  # noqa: SIM109
        return at + 4
    if byte == 102 and word(data, np.uint64(at + 1)) & _WORD4 == _FALSE:
        return at + 5
    end, _, _, _, _ = number(data, at)
    return int(end)


def value_end(data: Bytes, at: int) -> int:
    """Where any value ends, checked to the last byte; -1 where it is not valid or nested too deeply."""
    byte = data[at]
    if byte != 123 and byte != 91:
        return scalar_end(data, at)
    objects = _NONE  # one bit per open bracket: is it an object?
    depth = 0
    while True:
        # here a value is due
        byte = data[at]
        opened = byte == 123 or byte == 91
        if opened:
            if depth == NESTING:
                return -1
            depth += 1
            objects = (objects << _ONE) | (_ONE if byte == 123 else _NONE)
            at = blanks(data, at + 1)
        else:
            at = scalar_end(data, at)
            if at < 0:
                return -1
            at = blanks(data, at)
        # here a bracket may close; after a value that may happen many times
        closing = opened
        while True:
            inside = (objects & _ONE) == _ONE
            if data[at] == (125 if inside else 93):
                depth -= 1
                objects >>= _ONE
                at += 1
                if depth == 0:
                    return at
                at = blanks(data, at)
                closing = False
                continue
            break
        if not closing:
            if data[at] != 44:
                return -1
            at = blanks(data, at + 1)
        if (objects & _ONE) == _ONE:
            if data[at] != QUOTE:
                return -1
            at, _ = text_end(data, at + 1)
            if at < 0:
                return -1
            at = blanks(data, at + 1)
            if data[at] != 58:
                return -1
            at = blanks(data, at + 1)


def epoch_ms(mantissa: np.int64, power: int) -> Any:
    """Make milliseconds of mantissa · 10^power, rounded down, and whether that is a time that can be."""
    if power < 0:
        if power < -18:
            return np.int64(0), False
        value = mantissa // _TENS[-power]
    else:
        if power > 18 or abs(mantissa) > MAX_MS // _TENS[power] + 1:
            return np.int64(0), False
        value = mantissa * _TENS[power]
    return value, MIN_MS <= value <= MAX_MS


def store_number(
    data: Bytes,
    at: int,
    kind: int,
    parameter: int,
    precision: int,
    row: int,
    ints: Ints,
    floats: npt.NDArray[np.float64],
) -> Any:
    """Put the number there into a column: (where it ends or -1, whether it must be looked at later)."""
    end, exact, mantissa, power, floating = number(data, at)
    if end < 0:
        return -1, False
    if kind == BIGINT:
        if not exact or floating:
            return -1, False
        ints[row] = mantissa
    elif kind == DOUBLE:
        if not exact or (power != 0 and (abs(mantissa) > _MAX_EXACT or abs(power) > 22)):
            floats[row] = 0.0
            return end, True
        value = float(mantissa)
        if power < 0:
            value /= _FLOAT_TENS[-power]
        elif power > 0:
            value *= _FLOAT_TENS[power]
        if floating and mantissa == 0 and data[at] == 45:
            value = -0.0
        floats[row] = value
    elif kind == EPOCH or kind == ANY_TIME:  # noqa: SIM109
        if not exact:
            return -1, False
        value_ms, possible = epoch_ms(mantissa, power + parameter)
        if not possible:
            return -1, False
        ints[row] = value_ms
    elif kind == DECIMAL:
        shift = power + parameter
        if not exact or shift < 0 or shift > 18 or abs(mantissa) >= _TENS[precision] // _TENS[shift] + 1:
            return -1, False
        unscaled = mantissa * _TENS[shift]
        if abs(unscaled) >= _TENS[precision]:
            return -1, False
        ints[row] = unscaled
    else:
        return -1, False
    return end, False


def find_name(data: Bytes, at: int, size: int, names: Bytes, name_start: Ints, name_length: Ints) -> int:
    """The column of that name, -1 where there is none."""
    for column in range(len(name_start)):
        if name_length[column] == size and same(data, np.int64(at), names, name_start[column], np.int64(size)):
            return column
    return -1


def decode_lines(
    data: Bytes,
    at: int,
    size: int,
    row: int,
    names: Bytes,
    name_start: Ints,
    name_length: Ints,
    kinds: Ints,
    parameters: Ints,
    precisions: Ints,
    required: Ints,
    ints: npt.NDArray[np.int64],
    floats: npt.NDArray[np.float64],
    lengths: npt.NDArray[np.int32],
    valid: npt.NDArray[np.bool_],
    nulls: Ints,
    begins: Ints,
    slow: Ints,
    later: npt.NDArray[np.int64],
    stamp: Ints,
    part_start: Ints,
    part_size: Ints,
    part_column: Ints,
    part_words: npt.NDArray[np.uint64],
    slow_count: int,
    later_count: int,
) -> Any:
    """Decode lines from `at` until the end or until the rows are full.

    Returns (at, row, slow_count, later_count) to go on with. `begins` gets where the line of each row begins, `slow`
    the rows that are left to the exact decoder, `later` the (column, row, start, end) of values, quotes not included.
    """
    columns = len(kinds)
    capacity = ints.shape[1]
    # What stands between two values is, in most lines, the same as in the line before: `,"status":`. It is compared
    # as two words and a rest, and looked into only where it differs.
    places = len(part_start)
    known = 0
    stamp[:] = -1
    while at < size and row < capacity:
        if data[at] == LINE_FEED:
            at += 1
            continue
        begin = at
        begins[row] = begin
        later_before = later_count
        place = 0
        seen = 0
        plain = True
        while True:
            # 1. what stands before the next value
            column = -2
            if place < known:
                size_here = part_size[place]
                if (word(data, np.uint64(at)) & part_words[place, 0]) == part_words[place, 1] and (
                    size_here <= 8
                    or (
                        (word(data, np.uint64(at + 8)) & part_words[place, 2]) == part_words[place, 3]
                        and (
                            size_here <= 16
                            or same(data, np.int64(at + 16), data, part_start[place] + 16, size_here - 16)
                        )
                    )
                ):
                    column = part_column[place]
                    at += size_here
            if column == -2:
                part = at
                at = blanks(data, at)
                if place > 0 and data[at] == 125:
                    break
                if data[at] != (44 if place > 0 else 123):
                    plain = False
                    break
                at = blanks(data, at + 1)
                if place == 0 and data[at] == 125:
                    break
                if data[at] != QUOTE:
                    plain = False
                    break
                name = at + 1
                end, escaped = text_end(data, name)
                if end < 0 or escaped:
                    plain = False
                    break
                column = find_name(data, name, end - name, names, name_start, name_length)
                at = blanks(data, end + 1)
                if data[at] != 58:
                    plain = False
                    break
                at = blanks(data, at + 1)
                if place < places and part + 16 <= size:
                    count = at - part
                    part_start[place] = part
                    part_size[place] = count
                    part_column[place] = column
                    for half in range(2):
                        width = min(max(count - 8 * half, 0), 8)
                        mask = _NONE if width == 0 else ~_NONE >> (_SIXTYFOUR - _EIGHT * np.uint64(width))
                        part_words[place, 2 * half] = mask
                        part_words[place, 2 * half + 1] = word(data, np.uint64(part + 8 * half)) & mask
                    known = max(known, place + 1)
            # 2. the value
            if column < 0:
                at = value_end(data, at)
                if at < 0:
                    plain = False
                    break
            else:
                if stamp[column] == row:
                    plain = False
                    break
                stamp[column] = row
                seen += 1
                kind = kinds[column]
                byte = data[at]
                if kind == NESTED:
                    start = at
                    at = value_end(data, at)
                    if at < 0 or later_count == len(later):
                        plain = False
                        break
                    valid[column, row] = True
                    later[later_count, 0] = column
                    later[later_count, 1] = row
                    later[later_count, 2] = start
                    later[later_count, 3] = at
                    later_count += 1
                elif byte == QUOTE:
                    end, escaped = text_end(data, at + 1)
                    postponed = escaped or kind != STRING
                    if end < 0 or kind < STRING or (postponed and later_count == len(later)):
                        plain = False
                        break
                    ints[column, row] = at + 1
                    lengths[column, row] = end - at - 1
                    valid[column, row] = True
                    if postponed:
                        later[later_count, 0] = column
                        later[later_count, 1] = row
                        later[later_count, 2] = at + 1
                        later[later_count, 3] = end
                        later_count += 1
                    at = end + 1
                elif byte == 45 or 48 <= byte <= 57:
                    start = at
                    at, postponed = store_number(
                        data, at, kind, parameters[column], precisions[column], row, ints[column], floats[column]
                    )
                    if at < 0 or (postponed and later_count == len(later)):
                        plain = False
                        break
                    valid[column, row] = True
                    if postponed:
                        later[later_count, 0] = column
                        later[later_count, 1] = row
                        later[later_count, 2] = start
                        later[later_count, 3] = at
                        later_count += 1
                else:
                    four = word(data, np.uint64(at)) & _WORD4
                    if four == _NULL and required[column] == 0:
                        valid[column, row] = False
                        ints[column, row] = 0
                        lengths[column, row] = 0
                        nulls[column] += 1
                        at += 4
                    elif kind == BOOLEAN and four == _TRUE:
                        ints[column, row] = 1
                        valid[column, row] = True
                        at += 4
                    elif kind == BOOLEAN and byte == 102 and word(data, np.uint64(at + 1)) & _WORD4 == _FALSE:
                        ints[column, row] = 0
                        valid[column, row] = True
                        at += 5
                    else:
                        plain = False
                        break
            place += 1
            if data[at] == 125:
                break
        # 3. the end of the line
        if plain:
            at += 1
            if data[at] != LINE_FEED:
                at = blanks(data, at)
                plain = data[at] == LINE_FEED
        if plain and seen < columns:
            for column in range(columns):
                if stamp[column] != row:
                    if required[column]:
                        plain = False
                        break
                    valid[column, row] = False
                    ints[column, row] = 0
                    lengths[column, row] = 0
                    nulls[column] += 1
        if not plain:
            later_count = later_before
            at = begin
            while data[at] != LINE_FEED:
                at += 1
            slow[slow_count] = row
            slow_count += 1
        at += 1
        row += 1
    return at, row, slow_count, later_count
