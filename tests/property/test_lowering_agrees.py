"""A lowered condition and the function it was read from agree on every event for which the function gives an answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ostinato.cep.batch import Vector
from ostinato.cep.event import Event
from ostinato.cep.expressions.scalar import condition_function
from ostinato.cep.expressions.vector import predicate
from ostinato.patterns.lowering import lower
from ostinato.patterns.scope import Scope
from ostinato.patterns.typecheck import type_expr
from ostinato.patterns.typed import Typed
from ostinato.patterns.types import BIGINT, DOUBLE
from tests.lambdas import COLUMNS, ITERATIVE, SIMPLE

SMALL = st.integers(-12, 25)
TEXTS = st.sampled_from(
    ["", "a", "b", "FAILED", "failed", "ann", " a ", "abc", "A", "B", "aXb", "\U0001f600", "\uffff"]
)
NUMBERS = st.one_of(SMALL.map(float), st.floats(-20, 20), st.sampled_from([0.5, 1.5, 2.5, -0.5, -1.5, -0.0]))
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "user": TEXTS,
    "status": TEXTS,
    "n": SMALL,
    "m": SMALL,
    "x": NUMBERS,
    "y": NUMBERS,
    "ok": st.booleans(),
    "ts": st.integers(0, 3_000_000_000_000) | st.integers(0, 2_000),
    "day": SMALL,
    "amount": st.integers(0, 2_000),
    "tags": st.lists(TEXTS, max_size=3),
    "geo": st.fixed_dictionaries(
        {"lat": st.none() | NUMBERS, "place": st.none() | st.fixed_dictionaries({"city": st.none() | TEXTS})}
    ),
}
ROWS = st.fixed_dictionaries({name: st.none() | values for name, values in VALUES.items()})


def columns_of(rows: Sequence[dict[str, Any]]) -> dict[str, Vector]:
    return {name: Vector.of(type_, [row[name] for row in rows]) for name, type_ in COLUMNS.items()}


@dataclass
class PartialMatch:
    """A context with the events of one stage."""

    events: list[Event]
    timestamp: int = 0

    def get_events_for_pattern(self, stage: str) -> list[Event]:
        return self.events if stage == "b" else []


def typed(function: Callable[..., Any], *, iterative: bool) -> Typed:
    lowered = lower(function, columns=COLUMNS, iterative=iterative)
    assert lowered.why_not is None
    return type_expr(lowered.expr, Scope(COLUMNS, ("b", "c"), "c"))


def answer(function: Callable[..., Any], *arguments: Any) -> bool | None:
    """What the function says, None where it raises."""
    try:
        return bool(function(*arguments))
    except Exception:  # noqa: BLE001 # whatever it raises, it gives no answer
        return None


WITHOUT_DATES = [case for case in SIMPLE if "timestamp" not in case[1]]
"""A time cannot be compared with a `datetime` in Python at all; the language's meaning is the only one."""


@pytest.mark.parametrize("case", WITHOUT_DATES, ids=[expected for _, expected in WITHOUT_DATES])
@settings(max_examples=15, deadline=None)
@given(rows=st.lists(ROWS, min_size=12, max_size=12))
def test_simple_conditions(case: tuple[Callable[..., Any], str], rows: list[dict[str, Any]]) -> None:
    function, _ = case
    columns = columns_of(rows)
    found = predicate(typed(function, iterative=False), columns, len(rows)).tolist()
    for index, row in enumerate(rows):
        expected = answer(function, Event(columns, index))
        if expected is not None:
            assert found[index] == expected, row


@pytest.mark.parametrize("case", ITERATIVE, ids=[expected for _, expected in ITERATIVE])
@settings(max_examples=25, deadline=None)
@given(rows=st.lists(ROWS, min_size=1, max_size=4))
def test_conditions_on_the_partial_match(case: tuple[Callable[..., Any], str], rows: list[dict[str, Any]]) -> None:
    function, _ = case
    columns = columns_of(rows)
    events = [Event(columns, index) for index in range(len(rows))]
    context = PartialMatch(events[:-1])
    expected = answer(function, events[-1], context)
    if expected is not None:
        assert condition_function(typed(function, iterative=True))(events[-1], context) == expected


# ---------------------------------------------------------------------------------------------
# functions nobody thought of

ATOMS = {
    BIGINT: st.sampled_from(["e.n", "e.m", "3", "0", "-2", "len(e.user)", "(e.n if e.ok else e.m)", "e['n']"]),
    DOUBLE: st.sampled_from(["e.x", "e.y", "1.5", "-0.5", "abs(e.x)"]),
}


@st.composite
def number(draw: st.DrawFn, depth: int) -> str:
    kind = draw(st.sampled_from([BIGINT, DOUBLE]))
    if depth == 0:
        return draw(ATOMS[kind])
    left, right = draw(number(depth - 1)), draw(number(depth - 1))
    shape = draw(
        st.sampled_from(["({} + {})", "({} - {})", "({} * {})", "({} / {})", "({} % {})", "min({}, {})", "-{}"])
    )
    return shape.format(left, right)


@st.composite
def truth(draw: st.DrawFn, depth: int) -> str:
    if depth == 0:
        operator = draw(st.sampled_from(["==", "!=", "<", "<=", ">", ">="]))
        return draw(
            st.sampled_from(
                [
                    "e.ok",
                    "e.n is None",
                    "e.user",
                    "e.n",
                    "e.user == e.status",
                    "e.user != 'a'",
                    "e.status in ('a', 'b')",
                    "e.n not in (1, 2, None)",
                    "'a' in e.user",
                    "e.status.startswith('F')",
                    "e.ok == False",
                ]
            )
            | st.tuples(number(1), number(1)).map(lambda sides: f"{sides[0]} {operator} {sides[1]}")
        )
    shape = draw(
        st.sampled_from(["({} and {})", "({} or {})", "(not {})", "({} if {} else {})", "({} == {})", "bool({})"])
    )
    return shape.format(*(draw(truth(depth - 1)) for _ in range(shape.count("{}"))))


@settings(max_examples=150, deadline=None)
@given(source=truth(2) | truth(3), rows=st.lists(ROWS, min_size=8, max_size=8))
def test_random_conditions(source: str, rows: list[dict[str, Any]]) -> None:
    function = eval(f"lambda e: {source}")  # made above
    lowered = lower(function, columns=COLUMNS)
    if lowered.why_not is not None:
        return
    columns = columns_of(rows)
    found = predicate(type_expr(lowered.expr, Scope(COLUMNS)), columns, len(rows)).tolist()
    for index, row in enumerate(rows):
        expected = answer(function, Event(columns, index))
        if expected is not None:
            assert found[index] == expected, (lowered.expr, row)
