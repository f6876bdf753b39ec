"""Kernels that read and write times: see timestamps.py.

A format is a table of steps (operation, argument), gone through for each text. Times are milliseconds since 1970 of
the proleptic Gregorian calendar; without an offset in the text they are local, `local` then says so.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Bytes: TypeAlias = npt.NDArray[np.uint8]
Ints: TypeAlias = npt.NDArray[np.int64]
Flags: TypeAlias = npt.NDArray[np.bool_]

ALLOCATES = False

LITERAL = 0  # [byte]
SPACE = 1
YEAR = 2
YEAR2 = 3
MONTH = 4
DAY = 5
HOUR = 6
HOUR12 = 7
HALF = 8
MINUTE = 9
SECOND = 10
FRACTION = 11
MONTH_NAME = 12
DAY_NAME = 13
OFFSET = 14
DAY_OF_YEAR = 15
EPOCH = 16
ISO = 17
ZONE_NAME = 18

DAY_MS = 86_400_000
HOUR_MS = 3_600_000
MINUTE_MS = 60_000
YEARS_BACK = 8
"""How far a date without a year is looked for: February 29 is at most that long ago."""

# three letters of each month and day, as numbers base 256
_MONTHS = np.array([int.from_bytes(m, "big") for m in b"jan feb mar apr may jun jul aug sep oct nov dec".split()])
_DAYS = np.array([int.from_bytes(d, "big") for d in b"mon tue wed thu fri sat sun".split()])
_MONTH_DAYS = np.array([31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31])


def days_of(year: int, month: int, day: int) -> int:
    """Days from 1970-01-01 to a date (Howard Hinnant's algorithm)."""
    if month <= 2:
        year -= 1
    era = year // 400
    of_era = year - era * 400
    of_year = (153 * (month + (-3 if month > 2 else 9)) + 2) // 5 + day - 1
    return era * 146097 + of_era * 365 + of_era // 4 - of_era // 100 + of_year - 719468


def date_of(days: int) -> Any:
    """(year, month, day) of a number of days since 1970-01-01."""
    days += 719468
    era = days // 146097
    of_era = days - era * 146097
    year = (of_era - of_era // 1460 + of_era // 36524 - of_era // 146096) // 365
    of_year = of_era - (365 * year + year // 4 - year // 100)
    shifted = (5 * of_year + 2) // 153
    month = shifted + 3 if shifted < 10 else shifted - 9
    return year + era * 400 + (1 if month <= 2 else 0), month, of_year - (153 * shifted + 2) // 5 + 1


def month_length(year: int, month: int) -> int:
    leap = month == 2 and year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
    return int(_MONTH_DAYS[month - 1]) + (1 if leap else 0)


def digits_at(data: Bytes, at: int, end: int, least: int, most: int) -> Any:
    """The value of `least` to `most` digits and where they end; -1 where there are too few."""
    value: Any = 0
    limit = min(end, at + most)
    begin = at
    while at < limit and 48 <= data[at] <= 57:
        value = value * 10 + np.int64(data[at]) - 48
        at += 1
    return value, (at if at - begin >= least else -1)


def fraction_at(data: Bytes, at: int, end: int) -> Any:
    """Digits behind a point in milliseconds, rounded down, and where they end; -1 where there are none."""
    value: Any = 0
    begin = at
    while at < end and 48 <= data[at] <= 57:
        if at - begin < 3:
            value = value * 10 + np.int64(data[at]) - 48
        at += 1
    for _ in range(at - begin, 3):
        value *= 10
    return value, (at if at > begin else -1)


def offset_at(data: Bytes, at: int, end: int) -> Any:
    """``Z``, ``+01:00``, ``+0100`` or ``+01`` in milliseconds, and where it ends; -1 where there is none."""
    if at >= end:
        return 0, -1
    if data[at] == 90 or data[at] == 122:
        return 0, at + 1
    if data[at] != 43 and data[at] != 45:
        return 0, -1
    sign = -1 if data[at] == 45 else 1
    hours, at = digits_at(data, at + 1, end, 2, 2)
    if at < 0:
        return 0, -1
    minutes = 0
    if at < end and data[at] == 58:
        minutes, at = digits_at(data, at + 1, end, 2, 2)
    elif at < end and 48 <= data[at] <= 57:
        minutes, at = digits_at(data, at, end, 2, 2)
    if hours > 23 or minutes > 59:
        return 0, -1
    return sign * (hours * HOUR_MS + minutes * MINUTE_MS), at


def name_at(data: Bytes, at: int, end: int, names: Ints) -> Any:
    """The number from 0 of a name (short or in full, any case), and where it ends; -1 where it is none."""
    if at + 3 > end:
        return 0, -1
    three: Any = 0
    for i in range(3):
        three = three * 256 + (np.int64(data[at + i]) | 0x20)
    for index in range(len(names)):
        if names[index] == three:
            at += 3
            while at < end and 97 <= (data[at] | 0x20) <= 122:
                at += 1
            return index, at
    return 0, -1


def parse_one(
    data: Bytes, at: int, end: int, steps: npt.NDArray[np.int64], has_year: bool, this_year: int, latest: int
) -> Any:
    """(milliseconds, whether they are local, whether the text has the format)."""
    year, month, day, of_year = this_year, 1, 1, -1
    hour, minute, second, fraction, half = 0, 0, 0, 0, -1
    offset, local = 0, True
    epoch, sign = -1, 1
    wrong = np.int64(0)
    for step in range(len(steps)):
        operation = steps[step, 0]
        if operation == LITERAL:
            if at >= end or data[at] != steps[step, 1]:
                return wrong, False, False
            at += 1
        elif operation == SPACE:
            if at >= end or not (data[at] == 32 or data[at] == 9):
                return wrong, False, False
            while at < end and (data[at] == 32 or data[at] == 9):
                at += 1
        elif operation == YEAR:
            year, at = digits_at(data, at, end, 4, 4)
        elif operation == YEAR2:
            year, at = digits_at(data, at, end, 2, 2)
            year += 2000 if year < 69 else 1900
        elif operation == MONTH:
            month, at = digits_at(data, at, end, 1, 2)
        elif operation == DAY:
            if at < end and data[at] == 32:
                at += 1
            day, at = digits_at(data, at, end, 1, 2)
        elif operation == HOUR:
            hour, at = digits_at(data, at, end, 1, 2)
        elif operation == HOUR12:
            hour, at = digits_at(data, at, end, 1, 2)
            if hour < 1 or hour > 12:
                return wrong, False, False
            half = max(half, 0)
        elif operation == HALF:
            if at + 2 > end or (data[at + 1] | 0x20) != 109:
                return wrong, False, False
            letter = data[at] | 0x20
            if letter != 97 and letter != 112:
                return wrong, False, False
            half = 2 if letter == 112 else 1
            at += 2
        elif operation == MINUTE:
            minute, at = digits_at(data, at, end, 1, 2)
        elif operation == SECOND:
            second, at = digits_at(data, at, end, 1, 2)
        elif operation == FRACTION:
            fraction, at = fraction_at(data, at, end)
        elif operation == MONTH_NAME:
            month, at = name_at(data, at, end, _MONTHS)
            month += 1
        elif operation == DAY_NAME:
            _, at = name_at(data, at, end, _DAYS)
        elif operation == OFFSET:
            offset, at = offset_at(data, at, end)
            local = False
        elif operation == ZONE_NAME:
            # only the names of UTC say when it was
            if at + 3 > end or not (
                (data[at] == 85 and data[at + 1] == 84 and data[at + 2] == 67)
                or (data[at] == 71 and data[at + 1] == 77 and data[at + 2] == 84)
            ):
                return wrong, False, False
            at += 3
            local = False
        elif operation == DAY_OF_YEAR:
            of_year, at = digits_at(data, at, end, 1, 3)
            if of_year < 1 or of_year > 366:
                return wrong, False, False
        elif operation == EPOCH:
            if at < end and data[at] == 45:
                sign = -1
                at += 1
            epoch, at = digits_at(data, at, end, 1, 12)
            local = False
        elif operation == ISO:
            year, at = digits_at(data, at, end, 4, 4)
            if at < 0 or at >= end or data[at] != 45:
                return wrong, False, False
            month, at = digits_at(data, at + 1, end, 2, 2)
            if at < 0 or at >= end or data[at] != 45:
                return wrong, False, False
            day, at = digits_at(data, at + 1, end, 2, 2)
            if at >= 0 and at < end:
                if data[at] != 84 and data[at] != 32 and data[at] != 116:
                    return wrong, False, False
                hour, at = digits_at(data, at + 1, end, 2, 2)
                if at < 0 or at >= end or data[at] != 58:
                    return wrong, False, False
                minute, at = digits_at(data, at + 1, end, 2, 2)
                if at >= 0 and at < end and data[at] == 58:
                    second, at = digits_at(data, at + 1, end, 2, 2)
                    if at >= 0 and at < end and (data[at] == 46 or data[at] == 44):
                        fraction, at = fraction_at(data, at + 1, end)
                if at >= 0 and at < end:
                    if data[at] == 32:
                        at += 1
                    offset, at = offset_at(data, at, end)
                    local = False
        if at < 0:
            return wrong, False, False
    if at != end:
        return wrong, False, False
    if epoch >= 0:
        return sign * (epoch * 1000 + fraction), False, True
    if half >= 1:
        hour = hour % 12 + (12 if half == 2 else 0)
    elif half == 0:
        hour %= 12
    if month < 1 or month > 12 or day < 1 or hour > 23 or minute > 59 or second > 60 or year < 1:
        return wrong, False, False
    of_day = hour * HOUR_MS + minute * MINUTE_MS + second * 1000 + fraction - offset
    for back in range(1 if has_year else YEARS_BACK):
        if of_year > 0:
            if of_year == 366 and month_length(year - back, 2) == 28:
                continue
            days = days_of(year - back, 1, 1) + of_year - 1
        else:
            if day > month_length(year - back, month):
                continue
            days = days_of(year - back, month, day)
        value = np.int64(days * DAY_MS + of_day)
        if value <= latest:
            return value, local, True
    return wrong, False, False


def parse_texts(
    data: Bytes,
    start: Ints,
    length: npt.NDArray[np.int32],
    steps: npt.NDArray[np.int64],
    has_year: bool,
    this_year: int,
    latest: int,
    out: Ints,
    local: Flags,
    ok: Flags,
) -> None:
    """Read each text by the steps of a format."""
    for i in range(len(start)):
        out[i], local[i], ok[i] = parse_one(data, start[i], start[i] + length[i], steps, has_year, this_year, latest)


def put(target: Bytes, at: int, value: int, width: int) -> None:
    """Write a number with leading zeros."""
    for i in range(width):
        target[at + width - 1 - i] = 48 + value % 10
        value //= 10


def format_times(values: Ints, target: Bytes) -> None:
    """Write each time as ``2023-11-14T22:13:20.123Z``, 24 bytes; years from 0 to 9999."""
    last_day = np.int64(-(2**62))
    year, month, day = 1970, 1, 1
    for i in range(len(values)):
        days = values[i] // DAY_MS
        if days != last_day:
            year, month, day = date_of(days)
            last_day = days
        rest = values[i] - days * DAY_MS
        at = i * 24
        put(target, at, year, 4)
        target[at + 4] = 45
        put(target, at + 5, month, 2)
        target[at + 7] = 45
        put(target, at + 8, day, 2)
        target[at + 10] = 84
        put(target, at + 11, rest // HOUR_MS, 2)
        target[at + 13] = 58
        put(target, at + 14, rest // MINUTE_MS % 60, 2)
        target[at + 16] = 58
        put(target, at + 17, rest // 1000 % 60, 2)
        target[at + 19] = 46
        put(target, at + 20, rest % 1000, 3)
        target[at + 23] = 90


def format_dates(values: Ints, target: Bytes) -> None:
    """Write each date as ``2023-11-14``, 10 bytes."""
    for i in range(len(values)):
        year, month, day = date_of(values[i])
        at = i * 10
        put(target, at, year, 4)
        target[at + 4] = 45
        put(target, at + 5, month, 2)
        target[at + 7] = 45
        put(target, at + 8, day, 2)
