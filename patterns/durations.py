"""Spans of time as they are written: ``"5 min"``, a `datetime.timedelta`, milliseconds, `Duration.of_minutes(5)`."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TypeAlias

from ostinato.patterns.errors import PatternError, Problem
from ostinato.patterns.literals import parse_duration


@dataclass(frozen=True, slots=True)
class Duration:
    """A span of time with the constructors of PyFlink's `Duration` and `Time`.

    >>> Duration.of_minutes(5).milliseconds
    300000
    """

    milliseconds: int

    @staticmethod
    def of_millis(value: int) -> Duration:
        return Duration(value)

    @staticmethod
    def of_seconds(value: int) -> Duration:
        return Duration(value * 1_000)

    @staticmethod
    def of_minutes(value: int) -> Duration:
        return Duration(value * 60_000)

    @staticmethod
    def of_hours(value: int) -> Duration:
        return Duration(value * 3_600_000)

    @staticmethod
    def of_days(value: int) -> Duration:
        return Duration(value * 86_400_000)


class Time:
    """PyFlink's older name for the same: ``Time.minutes(5)``."""

    milliseconds = staticmethod(Duration.of_millis)
    seconds = staticmethod(Duration.of_seconds)
    minutes = staticmethod(Duration.of_minutes)
    hours = staticmethod(Duration.of_hours)
    days = staticmethod(Duration.of_days)


DurationLike: TypeAlias = Duration | timedelta | int | str


def duration_ms(value: DurationLike) -> int:
    """The span in whole milliseconds.

    >>> duration_ms("1 h 30 min"), duration_ms(timedelta(seconds=2)), duration_ms(250)
    (5400000, 2000, 250)

    Raises:
        PatternError: it is not a duration, or is negative.
    """
    if isinstance(value, Duration):
        span = value.milliseconds
    elif isinstance(value, timedelta):
        span = value // timedelta(milliseconds=1)
    elif isinstance(value, str):
        span = _parse(value)
    elif isinstance(value, int) and not isinstance(value, bool):
        span = value
    else:
        raise PatternError(
            Problem(f"{value!r} is not a duration", hint='write "5 min", a timedelta or whole milliseconds')
        )
    if span < 0:
        raise PatternError(Problem(f"the duration {value!r} is negative"))
    return span


def _parse(text: str) -> int:
    try:
        return parse_duration(text)
    except ValueError as error:
        raise PatternError(
            Problem(str(error), hint='write a number and a unit, such as "5 min" or "1 h 30 min"')
        ) from None
