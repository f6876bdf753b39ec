"""The calendar, against Python's datetime."""

from __future__ import annotations

import datetime

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ostinato.cep.expressions import dates

EPOCH = datetime.date(1970, 1, 1)


@given(st.dates())
def test_parts_of_a_day(date: datetime.date) -> None:
    days = (date - EPOCH).days
    assert (dates.year(days), dates.month(days), dates.day(days)) == (date.year, date.month, date.day)
    assert dates.day_of_year(days) == date.timetuple().tm_yday
    assert dates.day_of_week(days) == date.isoweekday()
    assert dates.first_of_year(date.year) == (date.replace(month=1, day=1) - EPOCH).days


def test_a_column_of_days() -> None:
    days = np.arange(-800_000, 800_000, 37)
    wanted = [dates.year(int(day)) for day in days]
    assert dates.year(days).tolist() == wanted


def time(text: str) -> int:
    return int(datetime.datetime.fromisoformat(text + "+00:00").timestamp() * 1000)


def test_whole_months_and_years() -> None:
    assert dates.months_between(time("2024-01-31T12:00"), time("2024-02-29T12:00")) == 0
    assert dates.months_between(time("2024-01-15T12:00"), time("2024-02-15T11:59")) == 0
    assert dates.months_between(time("2024-01-15T12:00"), time("2024-02-15T12:00")) == 1
    assert dates.months_between(time("2024-02-15T12:00"), time("2024-01-15T12:00")) == -1
    assert dates.months_between(time("2024-02-15T12:00"), time("2024-01-15T12:01")) == 0
    assert dates.years_between(time("2000-02-29T00:00"), time("2024-02-28T00:00")) == 23
    assert dates.years_between(time("2024-02-29T00:00"), time("2000-03-01T00:00")) == -23
