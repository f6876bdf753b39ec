"""Whole columns: what the property tests do not draw, memos, Python functions, and edges."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ostinato.cep.batch import Strings, Vector
from ostinato.cep.event import Event
from ostinato.cep.expressions import evaluate, predicate
from ostinato.patterns.typed import Apply, Constant, Current, Matched, Opaque, Typed
from ostinato.patterns.types import (
    BIGINT,
    BOOLEAN,
    DATE,
    DOUBLE,
    NULL,
    STRING,
    TIMESTAMP,
    Array,
    DataType,
    Decimal,
    Row,
)

POINT = Row((("lat", DOUBLE), ("lon", DOUBLE)))


def value(type_: DataType, function: str, *args: Any) -> Any:
    """A function of one row: arguments are ``(type, value)``. Constants and columns must give the same."""
    columns = {str(at): Vector.of(kind, [held, None]) for at, (kind, held) in enumerate(args)}
    of_columns = evaluate(
        Apply(type_, function, tuple(Current(kind, str(at)) for at, (kind, _) in enumerate(args))), columns, 2
    )
    found = of_columns.to_list()[0]
    assert of_columns.type == type_
    if any(isinstance(kind, (Array, Row)) for kind, _ in args):
        return found  # there are no constants of these types
    of_constants = evaluate(Apply(type_, function, tuple(Constant(*arg) for arg in args)), {}, 1)
    constant = of_constants.to_list()[0]
    same = found == constant or found == pytest.approx(constant, nan_ok=True)
    assert same, (found, constant)
    assert of_constants.type == type_
    return found


def text(held: str | None) -> tuple[DataType, Any]:
    return STRING, held


def number(held: float | None) -> tuple[DataType, Any]:
    return DOUBLE, held


@pytest.mark.parametrize(
    ("function", "args", "wanted"),
    [
        ("power", (2.0, 0.5), math.sqrt(2)),
        ("power", (-8.0, 1 / 3), None),
        ("power", (0.0, -1.0), None),
        ("power", (10.0, 400.0), math.inf),
        ("exp", (1.0,), math.e),
        ("ln", (math.e,), 1.0),
        ("ln", (-1.0,), None),
        ("ln", (0.0,), -math.inf),
        ("distance_km", (48.8566, 2.3522, 40.7128, -74.0060), 5837.2),
    ],
)
def test_functions_of_doubles(function: str, args: tuple[float, ...], wanted: float | None) -> None:
    found = value(DOUBLE, function, *(number(arg) for arg in args))
    assert found is None if wanted is None else found == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize(
    ("x", "digits", "wanted"), [(2.345, 2, 2.35), (-2.5, 0, -3.0), (1250.0, -2, 1300.0), (math.nan, 1, math.nan)]
)
def test_round_to_digits(x: float, digits: int, wanted: float) -> None:
    assert value(DOUBLE, "round", number(x), (BIGINT, digits)) == pytest.approx(wanted, nan_ok=True)


@pytest.mark.parametrize(
    ("string", "type_", "wanted"),
    [
        ("12", BIGINT, 12),
        (" +7 ", BIGINT, 7),
        ("1.5", BIGINT, None),
        ("9223372036854775808", BIGINT, None),
        ("1_000", BIGINT, None),
        ("1.5e3", DOUBLE, 1500.0),
        ("1.", DOUBLE, 1.0),
        ("-Infinity", DOUBLE, -math.inf),
        ("0x10", DOUBLE, None),
        ("", DOUBLE, None),
        ("1.005", Decimal(6, 2), 101),
        ("-1.005", Decimal(6, 2), -101),
        ("12345.00", Decimal(6, 2), None),
        ("1e900", Decimal(6, 2), None),
        ("Yes", BOOLEAN, True),
        ("0", BOOLEAN, False),
        ("maybe", BOOLEAN, None),
        ("2024-02-29", DATE, 19782),
        ("2023-02-29", DATE, None),
        ("1970-01-01 00:00:01.5", TIMESTAMP, 1500),
        ("1970-01-01T01:00:00+01:00", TIMESTAMP, 0),
        ("soon", TIMESTAMP, None),
    ],
)
def test_reading_texts(string: str, type_: DataType, wanted: Any) -> None:
    assert value(type_, "cast", text(string)) == wanted


@pytest.mark.parametrize(
    ("type_", "held", "wanted"),
    [
        (BIGINT, -5, "-5"),
        (DOUBLE, 1.5, "1.5"),
        (BOOLEAN, True, "TRUE"),
        (Decimal(6, 2), -105, "-1.05"),
        (DATE, 19782, "2024-02-29"),
        (TIMESTAMP, 1500, "1970-01-01 00:00:01.500"),
        (Array(BIGINT), [1, None], "[1, NULL]"),
        (POINT, {"lat": 1.0, "lon": None}, "(1.0, NULL)"),
    ],
)
def test_writing_texts(type_: DataType, held: Any, wanted: str) -> None:
    assert value(STRING, "cast", (type_, held)) == wanted


@pytest.mark.parametrize(
    ("function", "args", "wanted"),
    [
        ("like", ("50%", "50!%", "!"), True),
        ("like", ("505", "50!%", "!"), False),
        ("like", ("a\nb", "a%b"), True),
        ("regexp", ("xaay", "a+y$"), True),
        ("regexp", ("x", "("), None),
        ("starts_with", ("Straße", "Straß"), True),
        ("ends_with", ("Straße", "ße"), True),
    ],
)
def test_questions_about_texts(function: str, args: tuple[str, ...], wanted: bool | None) -> None:
    assert value(BOOLEAN, function, *(text(arg) for arg in args)) is wanted


def test_parts_of_texts() -> None:
    assert value(STRING, "regexp_extract", text("id=42;"), text(r"id=(\d+)"), (BIGINT, 1)) == "42"
    assert value(STRING, "regexp_extract", text("id=42;"), text(r"id=(\d+)")) == "id=42"
    assert value(STRING, "regexp_extract", text("id=42;"), text(r"id=(\d+)"), (BIGINT, 2)) is None
    assert value(STRING, "trim", text("xxaxx"), text("x")) == "a"
    assert value(STRING, "ltrim", text("  a ")) == "a "
    assert value(STRING, "rtrim", text("  a ")) == "  a"
    assert value(BIGINT, "char_length", text("ä😀")) == 2


def test_arrays_and_rows() -> None:
    array = (Array(BIGINT), [5, 6])
    assert value(BIGINT, "element", array, (BIGINT, 2)) == 6
    assert value(BIGINT, "element", array, (BIGINT, 0)) is None
    assert value(BIGINT, "element", array, (BIGINT, 3)) is None
    assert value(BIGINT, "cardinality", array) == 2
    assert value(DOUBLE, "field", (POINT, {"lat": 1.5, "lon": 2.5}), text("lon")) == 2.5
    assert value(Array(DOUBLE), "cast", array) == [5.0, 6.0]
    assert value(BOOLEAN, "=", array, (Array(BIGINT), [5, 6])) is True


def test_null_literals() -> None:
    nothing = Constant(NULL, None)
    columns = {"x": Vector.of(BIGINT, [1, 2])}
    assert evaluate(Apply(BOOLEAN, "=", (Current(BIGINT, "x"), nothing)), columns, 2).to_list() == [None, None]
    assert evaluate(Apply(BIGINT, "coalesce", (nothing, Current(BIGINT, "x"))), columns, 2).to_list() == [1, 2]


def test_values_are_computed_once_per_batch() -> None:
    calls = []

    def lookup(event: Event) -> int:
        calls.append(event.x)
        return int(event.x) * 2

    shared = Opaque(BIGINT, lookup)
    columns = {"x": Vector.of(BIGINT, [1, 2, 3])}
    memo: dict[Typed, Vector] = {}
    for limit in (1, 2, 3):
        expr = Apply(BOOLEAN, ">", (shared, Constant(BIGINT, limit * 2)))
        assert predicate(expr, columns, 3, memo).tolist() == [x > limit for x in (1, 2, 3)]
    assert calls == [1, 2, 3]


def test_a_python_function_may_fail() -> None:
    columns = {"x": Vector.of(BIGINT, [None])}
    with pytest.raises(TypeError):
        predicate(Opaque(BOOLEAN, lambda event: event.x > 1), columns, 1)


def test_a_column_of_true_and_null_is_a_predicate() -> None:
    columns = {"x": Vector.of(BOOLEAN, [True, None, False])}
    assert predicate(Current(BOOLEAN, "x"), columns, 3).tolist() == [True, False, False]


def test_what_depends_on_a_match_is_refused() -> None:
    with pytest.raises(ValueError, match="partial match"):
        evaluate(Matched(BIGINT, "count", "a"), {}, 0)


def test_no_rows() -> None:
    columns = {"s": Vector.of(STRING, []), "x": Vector.of(DOUBLE, [])}
    upper = Apply(STRING, "upper", (Current(STRING, "s"),))
    assert len(evaluate(upper, columns, 0)) == 0
    assert len(predicate(Apply(BOOLEAN, "<", (Current(DOUBLE, "x"), Constant(DOUBLE, 1.0))), columns, 0)) == 0
    assert len(predicate(Apply(BOOLEAN, "=", (upper, Constant(STRING, "A"))), columns, 0)) == 0


@given(st.lists(st.text("ab", max_size=20)), st.text("ab", max_size=20))
def test_equal_texts_up_to_the_ends_of_the_buffer(texts: list[str], wanted: str) -> None:
    texts = [*texts, wanted, wanted[:-1], wanted + "a"]
    columns = {"s": Vector(STRING, Strings.of(texts))}
    expr = Apply(BOOLEAN, "=", (Current(STRING, "s"), Constant(STRING, wanted)))
    assert predicate(expr, columns, len(texts)).tolist() == [each == wanted for each in texts]


@pytest.mark.parametrize(("type_", "zero"), [(BIGINT, 0), (DOUBLE, 0.0), (Decimal(6, 2), 0)])
def test_division_by_a_constant_zero(type_: DataType, zero: float) -> None:
    columns = {"x": Vector.of(type_, [zero, None, zero])}
    for function in ("%", "/"):
        result = DOUBLE if function == "/" and isinstance(type_, Decimal) else type_
        expr = Apply(result, function, (Current(type_, "x"), Constant(type_, zero)))
        assert evaluate(expr, columns, 3).to_list() == [None, None, None]


def test_many_texts_in_a_list() -> None:
    wanted = [f"t{n}" for n in range(50)]
    columns = {"s": Vector.of(STRING, ["t7", "x", None])}
    args: tuple[Typed, ...] = (Current(STRING, "s"), *(Constant(STRING, each) for each in wanted))
    assert evaluate(Apply(BOOLEAN, "in", args), columns, 3).to_list() == [True, False, None]
    nullable = (*args, Constant(STRING, None))
    assert evaluate(Apply(BOOLEAN, "in", nullable), columns, 3).to_list() == [True, None, None]


def test_products_near_the_border_are_exact() -> None:
    left = [3_037_000_500, 3_037_000_499, -(2**62), 2**62]
    right = [3_037_000_500, 3_037_000_499, 2, 2]
    columns = {"x": Vector.of(BIGINT, left), "y": Vector.of(BIGINT, right)}
    product = Apply(BIGINT, "*", (Current(BIGINT, "x"), Current(BIGINT, "y")))
    found = evaluate(product, columns, 4)
    assert found.to_list() == [None, 9_223_372_030_926_249_001, -(2**63), None]
    assert found.array[0] == 0
    assert found.array.dtype == np.int64
