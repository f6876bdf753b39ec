"""The view of one event that Python code gets."""

from __future__ import annotations

import decimal

import pytest

from ostinato.cep.batch import Vector
from ostinato.cep.event import Event, physical
from ostinato.patterns.types import BIGINT, DOUBLE, STRING, TIMESTAMP, Array, Decimal, Row

PLACE = Row((("lat", DOUBLE), ("fee", Decimal(6, 2))))
COLUMNS = {
    "user": Vector.of(STRING, ["ann", None, "ann"]),
    "ts": Vector.of(TIMESTAMP, [1000, 2000, 1000]),
    "cost": Vector.of(Decimal(6, 2), [1999, None, 1999]),
    "place": Vector.of(PLACE, [{"lat": 1.5, "fee": 250}, None, {"lat": 1.5, "fee": 250}]),
    "items": Vector.of(Array(BIGINT), [[1, 2], [], [1, 2]]),
}


def test_values_by_attribute_and_by_item() -> None:
    event = Event(COLUMNS, 0)
    assert event.user == event["user"] == "ann"
    assert event.ts == 1000
    assert event.cost == decimal.Decimal("19.99")
    assert event.place.lat == event["place"]["lat"] == 1.5
    assert event.place.fee == decimal.Decimal("2.50")
    assert event["items"] == [1, 2]
    assert physical(event, "cost") == 1999


def test_nulls_are_none() -> None:
    event = Event(COLUMNS, 1)
    assert event.user is None
    assert event.get("cost", "default") is None
    assert event.get("nothing", "default") == "default"


def test_an_event_is_a_mapping_that_compares_by_value() -> None:
    event = Event(COLUMNS, 0)
    assert dict(event)["user"] == "ann"
    assert list(event) == list(COLUMNS)
    assert event == Event(COLUMNS, 2)
    assert event != Event(COLUMNS, 1)
    assert "user='ann'" in repr(event)
    with pytest.raises(TypeError):
        event["user"] = "bob"


def test_a_wrong_name_is_told_the_right_ones() -> None:
    with pytest.raises(AttributeError, match="no column `usr`; it has user, ts"):
        Event(COLUMNS, 0).usr  # noqa: B018
    with pytest.raises(AttributeError, match="no field `alt`; it has lat, fee"):
        Event(COLUMNS, 0).place.alt  # noqa: B018
