"""Parameters: declared, set from outside, put in their places."""

from __future__ import annotations

import datetime as dt
import decimal
from typing import Any

import pytest

from ostinato.patterns import PatternError, ast, check_program, parse_program
from ostinato.patterns.typed import Apply, Constant
from ostinato.patterns.types import BIGINT, BOOLEAN, DATE, DOUBLE, INTERVAL, STRING, TIMESTAMP, DataType, Decimal

TEXT = """
stream s (n bigint, price decimal(10, 2), ts timestamp(ms) time)
param times = 3
param most = 5
param limit = decimal '9.50'
param name = 'x'
param wait = 5 min
param strict = true
param since = timestamp '2026-01-01'
param day = date '2026-01-01'
param factor = 1.5

pattern p on s
  match  a{times} b{1,most} relaxed greedy c{times,}
  define a as price > limit
"""


def checked(**values: Any) -> ast.Pattern:
    return check_program(parse_program(TEXT), values).patterns[0].pattern


def quantifiers(pattern: ast.Pattern) -> list[ast.Quantifier]:
    return [stage.quantifier for stage in ast.stages_of(pattern.items)]


def test_declared_values() -> None:
    first, second, third = quantifiers(checked())
    assert (first.min, first.max) == (3, 3)
    assert (second.min, second.max) == (1, 5)
    assert (third.min, third.max) == (3, None)


def test_values_from_outside() -> None:
    assert quantifiers(checked(times="4"))[0] == ast.Quantifier(4, 4)
    assert quantifiers(checked(times=4))[0] == ast.Quantifier(4, 4)


def test_once_after_all_has_nothing_between_repetitions() -> None:
    assert quantifiers(checked(most=1))[1] == ast.Quantifier(1, 1)


def test_a_value_can_make_a_pattern_impossible() -> None:
    with pytest.raises(PatternError, match="comes 0 times"):
        checked(times=0)
    with pytest.raises(PatternError, match="at most -1 is less"):
        checked(most=-1)


def test_in_conditions() -> None:
    program = check_program(parse_program(TEXT), {"limit": "10.255"})
    condition = program.patterns[0].conditions["a"]
    assert isinstance(condition, Apply)
    assert condition.args[1] == Constant(Decimal(11, 3), 10255)
    assert program.params["limit"].value == decimal.Decimal("10.255")


@pytest.mark.parametrize(
    ("name", "value", "expected", "type_"),
    [
        ("times", " 7 ", 7, BIGINT),
        ("limit", "-1.250", decimal.Decimal("-1.250"), Decimal(4, 3)),
        ("limit", 2, decimal.Decimal(2), Decimal(1, 0)),
        ("limit", 2.5, decimal.Decimal("2.5"), Decimal(2, 1)),
        ("name", "", "", STRING),
        ("name", "5", "5", STRING),
        ("wait", "1 h 30 min", 5_400_000, INTERVAL),
        ("wait", dt.timedelta(seconds=1.5), 1500, INTERVAL),
        ("strict", "FALSE", False, BOOLEAN),
        ("since", "2026-01-02T00:00:00Z", 1_767_312_000_000, TIMESTAMP),
        ("since", dt.datetime(2026, 1, 2, tzinfo=dt.UTC), 1_767_312_000_000, TIMESTAMP),
        ("day", dt.date(1970, 1, 3), 2, DATE),
        ("day", "1970-01-03", 2, DATE),
        ("factor", 2, 2.0, DOUBLE),
        ("factor", "1e3", 1000.0, DOUBLE),
    ],
)
def test_kinds_of_values(name: str, value: Any, expected: Any, type_: DataType) -> None:
    assert check_program(parse_program(TEXT), {name: value}).params[name] == ast.Literal(expected, type_)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("times", "2.5", "parameter `times` is BIGINT: '2.5' is no whole number"),
        ("times", True, "parameter `times` is BIGINT: True is no such value"),
        ("times", 2.5, "parameter `times` is BIGINT: 2.5 is no such value"),
        ("times", 2**63, "is too large"),
        ("limit", "1" * 20, "has more than 18 digits"),
        ("limit", decimal.Decimal("NaN"), "no such value"),
        ("wait", "5", "`5` is not a duration"),
        ("strict", "yes", "no such value"),
        ("since", "yesterday", "is not a time"),
        ("day", "2026-02-30", "is not a date"),
        ("factor", "much", "is no number"),
        ("tims", 1, "there is no parameter `tims`"),
    ],
)
def test_values_that_do_not_fit(name: str, value: Any, message: str) -> None:
    with pytest.raises(PatternError) as caught:
        check_program(parse_program(TEXT), {name: value})
    assert message in str(caught.value)


def test_all_wrong_values_are_reported() -> None:
    with pytest.raises(PatternError) as caught:
        checked(times="x", wait="y", tims=1)
    assert len(caught.value.problems) == 3
    assert "did you mean `times`?" in str(caught.value)


def test_how_often_is_a_whole_number() -> None:
    text = "stream s (ts timestamp(ms) time) param k = 1.5 pattern p on s match a{k} b{missing}"
    with pytest.raises(PatternError) as caught:
        check_program(parse_program(text))
    assert [problem.message for problem in caught.value.problems] == [
        "how often is a whole number, but `k` is DOUBLE",
        "there is no parameter `missing`",
    ]


def test_a_parameter_has_a_value() -> None:
    with pytest.raises(PatternError, match="needs a value that is not null"):
        parse_program("param k = null")
