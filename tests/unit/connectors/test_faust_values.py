"""What Faust may hand over as a value."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from types import MappingProxyType
from typing import Any

import msgspec
import pytest

from ostinato import cep
from ostinato.cep.connectors.base import ConnectorError
from ostinato.cep.connectors.faust import matches, state_table
from ostinato.cep.connectors.faust.events import ValueReader

PAYMENT = cep.stream("payments", {"card": str, "at": datetime, "amount": Decimal, "note": str}, key="card", time="at")


@dataclass
class Plain:
    card: str
    at: datetime
    amount: Decimal
    note: str | None = None


class Struct(msgspec.Struct):
    card: str
    at: datetime
    amount: Decimal
    note: str | None = None


def record() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Faust's own
        import faust

        class Record(faust.Record):
            card: str
            at: datetime
            amount: Decimal
            note: str | None = None

    return Record


AT = datetime(2026, 1, 2, 3, 4, 5, 678_000, tzinfo=UTC)
TEXT = '{"card": "c", "at": "2026-01-02T03:04:05.678Z", "amount": "12.50", "note": "n"}'


@pytest.mark.parametrize(
    "value",
    [
        {"card": "c", "at": AT, "amount": Decimal("12.50"), "note": "n"},
        MappingProxyType({"card": "c", "at": AT, "amount": Decimal("12.50"), "note": "n"}),
        {"card": "c", "at": "2026-01-02T03:04:05.678Z", "amount": 12.5, "note": "n"},
        Plain("c", AT, Decimal("12.50"), "n"),
        Struct("c", AT, Decimal("12.50"), "n"),
        TEXT,
        TEXT.encode(),
        bytearray(TEXT.encode()),
        TEXT.replace(", ", ",\n  "),
    ],
)
def test_kinds_of_values(value: Any) -> None:
    read = ValueReader(PAYMENT.__stream__, None).read([value])
    assert read.bad == []
    assert read.batch.row(0) == {"card": "c", "at": int(AT.timestamp() * 1000), "amount": 12_500_000, "note": "n"}


def test_records_of_faust() -> None:
    made = record()(card="c", at=AT, amount=Decimal("12.50"), note=None)
    read = ValueReader(PAYMENT.__stream__, None).read([made])
    assert read.bad == []
    assert read.batch.row(0) == {"card": "c", "at": int(AT.timestamp() * 1000), "amount": 12_500_000, "note": None}


def test_what_is_no_event() -> None:
    values = [None, 5, "", b" \t", "[1]", {"card": object()}, {1: 2, "card": "c"}, TEXT, b"\xff", '{"card": "a\nb"}']
    read = ValueReader(PAYMENT.__stream__, None).read(values)
    assert list(read.places) == [7]
    assert [place for place, _ in read.bad] == [0, 1, 2, 3, 4, 5, 6, 8, 9]
    reasons = dict(read.bad)
    assert reasons[0] == "the value is null"
    assert reasons[1] == "a int is no event: a dict, Record, Struct, dataclass or JSON is"
    assert reasons[3] == "the value is empty"
    assert reasons[4] == "not a JSON object"
    assert reasons[8] == "not UTF-8 from byte 1 on"


def test_nothing_of_nothing() -> None:
    read = ValueReader(PAYMENT.__stream__, None).read([])
    assert (len(read.batch), list(read.places), list(read.bad)) == (0, [], [])


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"stream_publish_on_commit": True}, "stream_publish_on_commit would send matches when their state is written"),
        ({"producer_acks": 0}, "producer_acks=0 leaves it open whether state was written"),
        ({"producer_threaded": True}, "producer_threaded does not tell when state was written"),
    ],
)
def test_settings_that_break_the_promise_are_refused(settings: dict[str, Any], said: str) -> None:
    """Of a real app, which need not be started for that."""
    import faust

    app = faust.App("refused", broker="kafka://127.0.0.1:1", **settings)
    text = "stream s (k string key, t timestamp(ms) time) pattern p on s match a{2} within 1 min"
    with pytest.raises(ConnectorError, match=said):
        matches(app.stream(app.topic("s")), text)


def test_one_session_for_a_stream() -> None:
    """An agent that is started again goes on with what it had."""
    import faust

    app = faust.App("sessions", broker="kafka://127.0.0.1:1")
    text = "stream s (k string key, t timestamp(ms) time) pattern p on s match a{2} within 1 min"
    stream = app.stream(app.topic("s"))
    assert matches(stream, text).counts is matches(stream, text).counts
    assert matches(app.stream(app.topic("s")), text).counts is not matches(stream, text).counts
    table = state_table(app, "p", partitions=3)
    assert state_table(app, "p") is table
    assert table.partitions == 3
