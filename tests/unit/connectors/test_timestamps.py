"""Reading and writing times."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ostinato.cep.batch import Strings
from ostinato.cep.connectors.base import ConnectorError
from ostinato.cep.connectors.timestamps import TimeParser, format_dates, format_times, parse_dates

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
NOW = int(datetime(2024, 1, 10, tzinfo=UTC).timestamp() * 1000)
times = st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30))


def ms(text: str) -> int:
    return (datetime.fromisoformat(text) - EPOCH) // timedelta(milliseconds=1)


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("2023-11-14T22:13:20.123Z", "2023-11-14T22:13:20.123+00:00"),
        ("2023-11-14 22:13:20", "2023-11-14T22:13:20+00:00"),
        ("2023-11-14T22:13", "2023-11-14T22:13:00+00:00"),
        ("2023-11-14", "2023-11-14T00:00:00+00:00"),
        ("2023-11-14T22:13:20,123456789+01:00", "2023-11-14T22:13:20.123+01:00"),
        ("2023-11-14T22:13:20.1-0530", "2023-11-14T22:13:20.100-05:30"),
        ("2023-11-14T22:13:20 +01", "2023-11-14T22:13:20+01:00"),
        ("2016-12-31T23:59:60Z", "2017-01-01T00:00:00+00:00"),
        ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00+00:00"),
    ],
)
def test_iso_8601(text: str, same: str) -> None:
    assert TimeParser("iso").parse_one(text) == ms(same)


@pytest.mark.parametrize(
    "text",
    ["", "now", "2023-13-01", "2023-02-29", "2023-11-14T24:00:00", "2023-11-14T22:13:20.", "2023-11-14T22:13:20X",
     "2023-11-14T22", "23-11-14", "2023-11-14T22:13:20+1", "2023-11-14T22:13:61", "0000-01-01"],
)  # fmt: skip
def test_what_is_not_iso_8601(text: str) -> None:
    assert TimeParser("iso").parse_one(text) is None


@given(times)
@settings(max_examples=100, deadline=None)
def test_times_read_back_as_they_were_written(moment: datetime) -> None:
    value = (moment.replace(tzinfo=UTC) - EPOCH) // timedelta(milliseconds=1)
    text = format_times(np.array([value])).to_list()[0]
    assert text == moment.strftime("%Y").rjust(4, "0") + moment.strftime("-%m-%dT%H:%M:%S.") + (
        f"{moment.microsecond // 1000:03d}Z"
    )
    assert TimeParser("iso").parse_one(text) == value
    day = value // 86_400_000
    assert parse_dates(format_dates(np.array([day])))[0].tolist() == [day]


@given(times, st.sampled_from(["%Y-%m-%d %H:%M:%S.%f", "%d/%b/%Y:%H:%M:%S", "%a %d %B %Y %I:%M:%S %p", "%Y%j %H%M%S"]))
@settings(max_examples=100, deadline=None)
def test_formats_read_as_strptime_does(moment: datetime, form: str) -> None:
    year = f"{moment.year:04d}"
    text = moment.strftime(form.replace("%Y", year))
    expected = datetime.strptime(text, form).replace(tzinfo=UTC)
    assert TimeParser(form).parse_one(text) == (expected - EPOCH) // timedelta(milliseconds=1)


@pytest.mark.parametrize(
    ("form", "text", "same"),
    [
        ("%d/%b/%Y:%H:%M:%S %z", "10/Oct/2000:13:55:36 -0700", "2000-10-10T13:55:36-07:00"),
        ("%a, %d %b %Y %T %Z", "Tue, 14 Nov 2023 22:13:20 GMT", "2023-11-14T22:13:20+00:00"),
        ("%m/%d/%y %I:%M %p", "11/14/23 12:05 AM", "2023-11-14T00:05:00+00:00"),
        ("%s.%f", "1700000000.25", "2023-11-14T22:13:20.250+00:00"),
        ("%%%F", "%2023-11-14", "2023-11-14T00:00:00+00:00"),
    ],
)
def test_directives(form: str, text: str, same: str) -> None:
    assert TimeParser(form).parse_one(text) == ms(same)


@given(st.datetimes(datetime(1980, 1, 1), datetime(2035, 1, 1)), st.sampled_from(["Europe/Berlin", "Asia/Kolkata"]))
@settings(max_examples=100, deadline=None)
def test_local_times_are_those_of_the_zone(moment: datetime, zone: str) -> None:
    moment = moment.replace(microsecond=0, fold=0)
    expected = int(moment.replace(tzinfo=ZoneInfo(zone)).timestamp() * 1000)
    assert TimeParser("iso", zone).parse_one(moment.isoformat()) == expected


def test_a_column_across_a_change_of_clocks() -> None:
    texts = ["2023-10-29T00:30:00", "2023-10-29T02:30:00", "2023-10-29T03:30:00", "2023-03-26T02:30:00", "1990-07-01"]
    values, ok = TimeParser("iso", "Europe/Berlin").parse(Strings.of([*texts, "2023-10-29T00:30:00Z", "x"]))
    zone = ZoneInfo("Europe/Berlin")
    expected = [int(datetime.fromisoformat(text).replace(tzinfo=zone).timestamp() * 1000) for text in texts]
    assert values.tolist() == [*expected, ms("2023-10-29T00:30:00+00:00"), 0]
    assert ok.tolist() == [True] * 6 + [False]


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("Jan  9 10:00:00", "2024-01-09T10:00:00+00:00"),
        ("Jan 10 23:00:00", "2024-01-10T23:00:00+00:00"),
        ("Jan 12 10:00:00", "2023-01-12T10:00:00+00:00"),
        ("Dec 31 23:59:59", "2023-12-31T23:59:59+00:00"),
        ("Feb 29 00:00:00", "2020-02-29T00:00:00+00:00"),
    ],
)
def test_a_time_without_a_year_is_the_latest_that_is_not_to_come(text: str, same: str) -> None:
    assert TimeParser("%b %d %H:%M:%S", now_ms=NOW).parse_one(text) == ms(same)


def test_the_year_can_be_given() -> None:
    parser = TimeParser("%b %d %H:%M:%S", year=2015, now_ms=NOW)
    assert parser.parse_one("Dec 10 06:55:46") == ms("2015-12-10T06:55:46+00:00")
    assert parser.parse_one("Feb 29 00:00:00") is None


@pytest.mark.parametrize(
    ("form", "zone", "message"),
    [
        ("%Q", None, "%Q, which is not known"),
        ("epoch", None, "'epoch' is not a time format; use s, ms, us, ns, iso"),
        ("iso", "Europe/Bonn", "there is no time zone 'Europe/Bonn'"),
    ],
)
def test_what_is_declared_wrongly(form: str, zone: str | None, message: str) -> None:
    with pytest.raises(ConnectorError, match=message):
        TimeParser(form, zone)
