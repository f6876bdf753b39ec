"""Implicit conversions: the common type of operands, and operands turned into it.

Constants give way to columns: ``amount > 9.95`` with `amount` a DECIMAL compares exact numbers, although 9.95 alone is
a DOUBLE.
"""

from __future__ import annotations

import decimal
from collections.abc import Sequence
from typing import Any

from ostinato.patterns.ast import Literal
from ostinato.patterns.literals import natural_decimal, unscaled
from ostinato.patterns.typed import Apply, Constant, Typed
from ostinato.patterns.types import (
    BIGINT,
    BOOLEAN,
    DATE,
    DOUBLE,
    INTERVAL,
    MAX_DECIMAL_PRECISION,
    NULL,
    STRING,
    TIMESTAMP,
    Array,
    DataType,
    Decimal,
    Row,
    Scalar,
    common_type,
    is_numeric,
)

DAY_MS = 86_400_000

UNKNOWN = Scalar("?")
"""The type of an expression that is wrong: it fits everywhere, so that one mistake is reported once."""


def constant(literal: Literal) -> Constant:
    """A literal in the physical form of its type."""
    value: Any = literal.value
    if value is not None and isinstance(literal.type, Decimal):
        value = unscaled(decimal.Decimal(value), literal.type.scale)
    elif value is not None and literal.type == DOUBLE:
        value = float(value)
    return Constant(literal.type, value)


def join(left: DataType, right: DataType) -> DataType | None:
    """`common_type`, with dates counting as the midnight they begin with where a time is expected."""
    if UNKNOWN in (left, right):
        return UNKNOWN
    if {left, right} == {DATE, TIMESTAMP}:
        return TIMESTAMP
    return common_type(left, right)


def unify(operands: Sequence[Typed], *, comparing: bool = False) -> tuple[tuple[Typed, ...], DataType] | None:
    """The operands in their common type, and that type; None if they have none.

    Constants take the type of the others where it holds them exactly; whole numbers take that of a decimal column. With
    `comparing`, a DOUBLE such as 2.0 may also become a BIGINT (in arithmetic it may not: x / 2.0 is no division of
    whole numbers).
    """
    type_: DataType = NULL
    for operand in operands:
        if not isinstance(operand, Constant):
            joined = join(type_, operand.type)
            if joined is None:
                return None
            type_ = joined
    for operand in operands:
        if isinstance(operand, Constant):
            joined = _join_constant(type_, operand, comparing=comparing)
            if joined is None:
                return None
            type_ = joined
    return tuple(convert(operand, type_) for operand in operands), type_


def _join_constant(type_: DataType, value: Constant, *, comparing: bool) -> DataType | None:
    if isinstance(type_, Decimal):
        exact = exact_constant(value)
        return join(type_, exact.type if exact is not None else value.type)
    if comparing and type_ == BIGINT and value.type == DOUBLE and value.value is not None and _is_whole(value.value):
        return BIGINT
    return join(type_, value.type)


def exact_constant(value: Constant) -> Constant | None:
    """A number as a DECIMAL with just the digits it was written with, or None where it has too many.

    >>> exact_constant(Constant(DOUBLE, 9.95))
    Constant(type=Decimal(precision=3, scale=2), value=995)
    """
    if value.value is None or not is_numeric(value.type):
        return None
    exact = _number(value)
    if exact is None:
        return None
    natural = natural_decimal(exact)
    whole = unscaled(exact, natural.scale)
    return Constant(natural, whole) if natural.precision <= MAX_DECIMAL_PRECISION and whole is not None else None


def _is_whole(value: float) -> bool:
    return abs(value) < 2**53 and value == int(value)


def convert(expr: Typed, type_: DataType) -> Typed:
    """The expression in another type; constants are converted here and now."""
    if expr.type == type_ or UNKNOWN in (expr.type, type_):
        return expr
    if isinstance(expr, Constant):
        converted = _convert_constant(expr, type_)
        if converted is not None:
            return converted
    return Apply(type_, "cast", (expr,))


def _convert_constant(expr: Constant, type_: DataType) -> Constant | None:
    """The constant in another type, or None where that is not known to be exact."""
    if expr.value is None:
        return Constant(type_, None)
    if is_numeric(expr.type) and is_numeric(type_):
        exact = _number(expr)
        if type_ == DOUBLE:
            return Constant(DOUBLE, float(exact) if exact is not None else expr.value)
        if exact is None:
            return None
        scale = type_.scale if isinstance(type_, Decimal) else 0
        whole = unscaled(exact, scale)
        if whole is None or (isinstance(type_, Decimal) and abs(whole) >= 10**type_.precision):
            return None
        return Constant(type_, whole)
    if expr.type == DATE and type_ == TIMESTAMP:
        return Constant(TIMESTAMP, expr.value * DAY_MS)
    return None


def _number(expr: Constant) -> decimal.Decimal | None:
    if expr.type == DOUBLE:
        exact = decimal.Decimal(repr(expr.value))
        return exact if exact.is_finite() else None
    scale = expr.type.scale if isinstance(expr.type, Decimal) else 0
    return decimal.Decimal(expr.value).scaleb(-scale)


_CASTS: dict[DataType, frozenset[DataType]] = {
    BIGINT: frozenset({DOUBLE, STRING, BOOLEAN}),
    DOUBLE: frozenset({BIGINT, STRING, BOOLEAN}),
    BOOLEAN: frozenset({BIGINT, DOUBLE, STRING}),
    STRING: frozenset({BIGINT, DOUBLE, BOOLEAN, TIMESTAMP, DATE}),
    TIMESTAMP: frozenset({DATE, STRING}),
    DATE: frozenset({TIMESTAMP, STRING}),
    INTERVAL: frozenset({STRING}),
}


def can_cast(source: DataType, target: DataType) -> bool:
    """Is there a CAST from one type to the other?"""
    if source in (target, NULL) or UNKNOWN in (source, target):
        return True
    if isinstance(source, Decimal):
        return isinstance(target, Decimal) or target in (BIGINT, DOUBLE, STRING)
    if isinstance(target, Decimal):
        return source in (BIGINT, DOUBLE, STRING)
    if isinstance(source, Array) and isinstance(target, Array):
        return can_cast(source.element, target.element)
    return target in _CASTS.get(source, ())


def clash_hint(left: DataType, right: DataType) -> str | None:
    """What to do about two types that do not go together."""
    types = {left, right}
    if STRING in types and any(is_numeric(type_) for type_ in types):
        return "a text is written in single quotes; `cast(… as bigint)` or `cast(… as string)` converts"
    if TIMESTAMP in types and STRING in types:
        return "a time is written timestamp '2026-01-02 03:04:05.678'"
    if DATE in types and STRING in types:
        return "a date is written date '2026-01-02'"
    if TIMESTAMP in types and any(is_numeric(type_) for type_ in types):
        return "`to_millis(…)` gives the milliseconds of a time, `to_timestamp(…)` the time of milliseconds"
    if INTERVAL in types and any(is_numeric(type_) for type_ in types):
        return "a duration has a unit, such as `5 min`; `to_millis(…)` gives its milliseconds"
    if BOOLEAN in types and STRING in types:
        return "truth is written true or false, without quotes"
    if any(isinstance(type_, (Array, Row)) for type_ in types):
        return "take an element, `tags[1]`, or a field, `geo.lat`, of it"
    return None
