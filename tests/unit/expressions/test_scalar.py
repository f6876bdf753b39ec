"""Conditions decided one event at a time."""

from __future__ import annotations

from typing import Any

import pytest

from ostinato.cep.batch import Vector
from ostinato.cep.event import Event
from ostinato.cep.expressions import Context, condition_function, value_function
from ostinato.patterns.typed import Apply, Constant, Current, Matched, Opaque, Typed
from ostinato.patterns.types import BIGINT, BOOLEAN, STRING, Decimal

COLUMNS = {
    "x": Vector.of(BIGINT, [3, 1, 2, None]),
    "s": Vector.of(STRING, ["b", "a", "\U0001f600", "\uffff"]),
    "m": Vector.of(Decimal(6, 2), [150, 250, None, 0]),
}


class Taken:
    timestamp = 17

    def __init__(self, **rows: list[int]) -> None:
        self.rows = rows

    def get_events_for_pattern(self, stage: str) -> list[Event]:
        return [Event(COLUMNS, row) for row in self.rows.get(stage, [])]


def test_python_functions_see_the_event_and_the_partial_match() -> None:
    def rising(event: Event, context: Context) -> Any:
        before = context.get_events_for_pattern("a")
        return context.timestamp == 17 and all(event.x > each.x for each in before)

    decide = condition_function(Opaque(BOOLEAN, rising, iterative=True))
    assert decide(Event(COLUMNS, 0), Taken(a=[1, 2]))
    assert not decide(Event(COLUMNS, 1), Taken(a=[2]))


def test_only_true_counts() -> None:
    for result, wanted in ((True, True), (1, True), (None, False), (0, False)):
        assert (
            condition_function(Opaque(BOOLEAN, lambda event, result=result: result))(Event(COLUMNS, 0), Taken())
            is wanted
        )


def test_the_right_side_is_not_asked_where_the_left_decides() -> None:
    safe: Typed = Apply(BOOLEAN, "is_not_null", (Current(BIGINT, "x"),))
    fails = Opaque(BOOLEAN, lambda event: event.x > 1)
    decide = condition_function(Apply(BOOLEAN, "and", (safe, fails)))
    assert decide(Event(COLUMNS, 0), Taken())
    assert not decide(Event(COLUMNS, 3), Taken())
    with pytest.raises(TypeError):
        condition_function(fails)(Event(COLUMNS, 3), Taken())


def test_texts_of_matched_events() -> None:
    least = value_function(Matched(STRING, "min", "a", "s"))
    greatest = value_function(Matched(STRING, "max", "a", "s"))
    # As in Java, a character beyond the first 65536 comes before U+FFFF: its first half is a smaller number.
    assert least(Event(COLUMNS, 0), Taken(a=[0, 1, 2, 3])) == "a"
    assert greatest(Event(COLUMNS, 0), Taken(a=[0, 1, 2, 3])) == "\uffff"
    prefix = Apply(BOOLEAN, "starts_with", (Matched(STRING, "last", "a", "s"), Constant(STRING, "b")))
    assert condition_function(prefix)(Event(COLUMNS, 1), Taken(a=[0]))
    assert not condition_function(prefix)(Event(COLUMNS, 1), Taken())


def test_decimals_are_exact_inside_and_decimals_outside() -> None:
    total = value_function(Matched(Decimal(18, 2), "sum", "a", "m"))
    assert total(Event(COLUMNS, 0), Taken(a=[0, 1, 2])) == 400
    half = condition_function(Opaque(BOOLEAN, lambda event: str(event.m) == "1.50"))
    assert half(Event(COLUMNS, 0), Taken())
