"""The proleptic Gregorian calendar in UTC, in arithmetic that works on one number as on an array: a kernel module.

Days count from 1970-01-01, times are epoch milliseconds. The conversions are Howard Hinnant's
(chrono-Compatible Low-Level Date Algorithms): years begin on 1 March, so that the leap day is the last.
"""

from __future__ import annotations

from typing import Any

DAY_MS = 86_400_000
HOUR_MS = 3_600_000
MINUTE_MS = 60_000
ERA_DAYS = 146_097
"""Days of the 400 years after which the calendar repeats."""


def _day_of_march_year(days: Any) -> Any:
    shifted = days + 719_468
    day_of_era = shifted % ERA_DAYS
    year_of_era = (day_of_era - day_of_era // 1460 + day_of_era // 36_524 - day_of_era // 146_096) // 365
    return day_of_era - (365 * year_of_era + year_of_era // 4 - year_of_era // 100)


def _march_year(days: Any) -> Any:
    shifted = days + 719_468
    day_of_era = shifted % ERA_DAYS
    year_of_era = (day_of_era - day_of_era // 1460 + day_of_era // 36_524 - day_of_era // 146_096) // 365
    return year_of_era + (shifted // ERA_DAYS) * 400


def month(days: Any) -> Any:
    from_march = (5 * _day_of_march_year(days) + 2) // 153
    return (from_march + 2) % 12 + 1


def year(days: Any) -> Any:
    # January and February belong to the year that began the March before.
    return _march_year(days) + (_day_of_march_year(days) >= 306)


def day(days: Any) -> Any:
    day_of_year = _day_of_march_year(days)
    return day_of_year - (153 * ((5 * day_of_year + 2) // 153) + 2) // 5 + 1


def first_of_year(number: Any) -> Any:
    """The day number of 1 January."""
    before = number - 1
    return 365 * before + before // 4 - before // 100 + before // 400 - 719_162


def day_of_year(days: Any) -> Any:
    return days - first_of_year(year(days)) + 1


def day_of_week(days: Any) -> Any:
    """1 is Monday, 7 Sunday (ISO 8601)."""
    return (days + 3) % 7 + 1


def months_between(start: Any, end: Any) -> Any:
    """Whole months from one time to another, negative if the other is earlier."""
    first, last = start // DAY_MS, end // DAY_MS
    months = (year(last) - year(first)) * 12 + (month(last) - month(first))
    rest = ((day(last) - day(first)) * DAY_MS) + (end % DAY_MS - start % DAY_MS)
    return months - ((months > 0) & (rest < 0)) * 1 + ((months < 0) & (rest > 0)) * 1


def years_between(start: Any, end: Any) -> Any:
    """Whole years from one time to another, negative if the other is earlier."""
    months = months_between(start, end)
    return (abs(months) // 12) * ((months > 0) * 2 - 1)
