"""Python conditions become the expressions that one would have written."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from ostinato.patterns.ast import Expr, PythonCall
from ostinato.patterns.lowering import lower, why_not
from ostinato.patterns.parser import parse_expression
from ostinato.patterns.types import BOOLEAN
from tests.lambdas import COLUMNS, ITERATIVE, SIMPLE, THAWED


def text(expression: str) -> Expr:
    return parse_expression(expression)


def source_line(case: Any) -> str | None:
    return str(case) if isinstance(case, str) else None


@pytest.mark.parametrize(("function", "expected"), SIMPLE, ids=source_line)
def test_simple_conditions(function: Callable[..., Any], expected: str) -> None:
    lowered = lower(function, columns=COLUMNS)
    assert lowered.why_not is None
    assert lowered.expr == text(expected)


@pytest.mark.parametrize(("function", "expected"), ITERATIVE, ids=source_line)
def test_conditions_on_the_partial_match(function: Callable[..., Any], expected: str) -> None:
    lowered = lower(function, columns=COLUMNS, iterative=True)
    assert lowered.why_not is None
    assert lowered.expr == text(expected)


def looping(event: Any) -> bool:
    for tag in event.tags:  # noqa: SIM110
        if tag == "a":
            return True
    return False


def catching(event: Any) -> bool:
    try:
        return bool(event.n > 3)
    except TypeError:
        return True


def not_yet(event: Any) -> bool:
    return bool(event.n > UNKNOWN)  # type: ignore[name-defined]  # noqa: F821


LEFT: list[tuple[Callable[..., Any], str]] = [
    (lambda e: e.status < e.user, "put in order"),
    (lambda e: e.status < "\U0001f600", "put in order"),
    (lambda e: e.status == 3, "STRING and BIGINT"),
    (lambda e: e.ok > e.ok, "truth values"),
    (lambda e: e.ok + 1 > 1, "BOOLEAN"),
    (lambda e: e.amount > 9.99, "does not round"),
    (lambda e: e.amount + 1 > 2, "decimals"),
    (lambda e: e.x // 2 > 1, "`//`"),
    (lambda e: e.x**0.5 > 1, "`**`"),
    (lambda e: e.status.strip() == "a", "white space"),
    (lambda e: e.status.title() == "A", "`title`"),
    (lambda e: "%s" % e.n == "1", "%"),  # noqa: UP031
    (lambda e: f"{e.n}" == "1", "beyond expressions"),
    (lambda e: e.tags[-1] == "a", "item -1"),
    (lambda e: "a" in e.tags, "not known to be text|used as a value|beyond"),
    (lambda e: any(tag == "a" for tag in e.tags), "looped over"),
    (lambda e: e.n > THAWED.high, "may change"),
    (lambda e: e.day > 3, "DATE"),
    (lambda e: open(e.status), "`open`"),  # noqa: PTH123, SIM115
    (lambda e: sorted([e.n, e.m], reverse=True)[0] > 3, "sorted|named arguments"),
    (lambda e: e.status in {str(i) for i in range(2000)}, "beyond expressions|looped over|exceptions|loop"),
    (lambda e: e.n == 10**30, "no constant"),
    (lambda e: e == 1, "the event itself"),
    (looping, "loop"),
    (catching, "exceptions"),
    (not_yet, "UNKNOWN"),
    (len, "not a plain function"),
]


@pytest.mark.parametrize(("function", "reason"), LEFT, ids=source_line)
def test_what_is_left_to_python(function: Callable[..., Any], reason: str) -> None:
    lowered = lower(function, columns=COLUMNS)
    assert lowered.expr == PythonCall(function, False, BOOLEAN)
    assert why_not(function, columns=COLUMNS) == lowered.why_not
    assert lowered.why_not is not None
    assert any(part in lowered.why_not for part in reason.split("|"))


def test_lambdas_on_one_line_are_told_apart() -> None:
    first, second = lambda e: e.n > 1, lambda e: e.n > 2
    assert [lower(f).expr for f in (first, second)] == [text("n > 1"), text("n > 2")]


def test_functions_without_source() -> None:
    made = eval("lambda e: e.n > 1 and e.m in (1, 2)")
    assert lower(made).expr == text("n > 1 and m in (1, 2)")


def test_without_a_schema_types_are_not_guessed() -> None:
    assert lower(lambda e: e.n > 3 and e.status == "x").expr == text("n > 3 and status = 'x'")
    assert "unknown type" in str(lower(lambda e: e.n).why_not)
    assert "not known to be text" in str(lower(lambda e: len(e.n) > 3).why_not)
    assert "not known to be text" in str(lower(lambda e: "a" in e.n).why_not)
    assert lower(lambda e: e.geo.lat > 3).expr == text("(geo).lat > 3")


def test_constants_are_those_of_the_time_of_lowering() -> None:
    limit = 1

    def above(event: Any) -> bool:
        return bool(event.n > limit)

    before = lower(above).expr
    limit = 2
    assert (before, lower(above).expr) == (text("n > 1"), text("n > 2"))


def test_the_time_between_two_events() -> None:
    lowered = lower(
        lambda e, ctx: e.ts - ctx.get_events_for_pattern("b")[-1].ts < 5_000, columns=COLUMNS, iterative=True
    )
    assert lowered.expr == text("to_millis(ts - last(b.ts)) < 5000")
    lowered = lower(
        lambda e, ctx: e.ts - ctx.get_events_for_pattern("b")[-1].ts < timedelta(seconds=5),
        columns=COLUMNS,
        iterative=True,
    )
    assert lowered.expr == text("ts - last(b.ts) < 5 s")


def test_very_branchy_functions_are_left_to_python() -> None:
    source = "lambda e: " + " + ".join(f"(e.n if e.m > {i} else e.x)" for i in range(30)) + " > 1"
    reason = lower(eval(source), columns=COLUMNS).why_not
    assert reason is not None
    assert "branches too often" in reason or "very long" in reason
