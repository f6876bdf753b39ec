"""Parameters: values from outside, put in their places."""

from __future__ import annotations

import datetime as dt
import decimal
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from ostinato.patterns import ast
from ostinato.patterns.errors import PatternError, Problem, did_you_mean
from ostinato.patterns.literals import (
    BIGINT_MAX,
    BIGINT_MIN,
    natural_decimal,
    parse_date,
    parse_decimal,
    parse_duration,
    parse_timestamp,
    to_millis,
)
from ostinato.patterns.rewrite import map_pattern
from ostinato.patterns.types import (
    BIGINT,
    BOOLEAN,
    DATE,
    DOUBLE,
    INTERVAL,
    MAX_DECIMAL_PRECISION,
    STRING,
    TIMESTAMP,
    DataType,
    Decimal,
)


def resolve_params(declared: Mapping[str, ast.Literal], given: Mapping[str, Any]) -> dict[str, ast.Literal]:
    """The values of the parameters: declared ones, replaced by what is given.

    Args:
        declared: names and values of a file.
        given: values as text (``--param attempts=5``) or as Python objects.

    Raises:
        PatternError: a parameter that is not declared, or a value of another type.
    """
    values = dict(declared)
    problems = []
    for name, value in given.items():
        if name not in declared:
            known = ", ".join(declared) or "none"
            hint = did_you_mean(name, declared) or f"parameters of the file: {known}"
            problems.append(Problem(f"there is no parameter `{name}`", hint=hint))
            continue
        type_ = declared[name].type
        try:
            values[name] = literal_of(value, type_)
        except ValueError as error:
            kind = "DECIMAL" if isinstance(type_, Decimal) else str(type_)
            problems.append(Problem(f"parameter `{name}` is {kind}: {error}", hint=f"such as {_EXAMPLES[kind]}"))
    if problems:
        raise PatternError(problems, filename="parameters")
    return values


_EXAMPLES = {
    "BIGINT": "5",
    "DOUBLE": "1.5",
    "DECIMAL": "1.50",
    "BOOLEAN": "true",
    "STRING": "text",
    "INTERVAL": "5 min",
    "TIMESTAMP(3)": "2026-01-02 03:04:05.678",
    "DATE": "2026-01-02",
}


def literal_of(value: Any, type_: DataType) -> ast.Literal:
    """A value from outside as a literal of the type; ValueError where it is none.

    >>> literal_of("5", BIGINT).value, literal_of("5 min", INTERVAL).value
    (5, 300000)
    """
    converted = _from_text(value, type_) if isinstance(value, str) else _from_python(value, type_)
    if converted is None:
        raise ValueError(f"{value!r} is no such value")
    if isinstance(type_, Decimal):
        type_ = natural_decimal(converted)
        if type_.precision > MAX_DECIMAL_PRECISION:
            raise ValueError(f"{value!r} has more than {MAX_DECIMAL_PRECISION} digits")
    elif type_ == BIGINT and not BIGINT_MIN <= converted <= BIGINT_MAX:
        raise ValueError(f"{value!r} is too large")
    return ast.Literal(converted, type_)


def _from_text(text: str, type_: DataType) -> Any:
    if type_ == STRING:
        return text
    stripped = text.strip()
    if isinstance(type_, Decimal):
        return parse_decimal(stripped)
    if type_ == BIGINT:
        try:
            return int(stripped)
        except ValueError:
            raise ValueError(f"'{text}' is no whole number") from None
    if type_ == DOUBLE:
        try:
            return float(stripped)
        except ValueError:
            raise ValueError(f"'{text}' is no number") from None
    if type_ == BOOLEAN:
        return {"true": True, "false": False}.get(stripped.lower())
    readers: dict[DataType, Callable[[str], int]] = {
        INTERVAL: parse_duration,
        TIMESTAMP: parse_timestamp,
        DATE: parse_date,
    }
    return readers[type_](stripped)


def _from_python(value: Any, type_: DataType) -> Any:
    if isinstance(value, bool):
        return value if type_ == BOOLEAN else None
    if isinstance(type_, Decimal):
        exact = decimal.Decimal(repr(value)) if isinstance(value, (int, float)) else value
        return exact if isinstance(exact, decimal.Decimal) and exact.is_finite() else None
    if type_ in (BIGINT, TIMESTAMP, INTERVAL) and isinstance(value, int):
        return value
    if type_ == DOUBLE and isinstance(value, (int, float)):
        return float(value)
    if type_ == INTERVAL and isinstance(value, dt.timedelta):
        return value // dt.timedelta(milliseconds=1)
    if type_ == TIMESTAMP and isinstance(value, dt.datetime):
        return to_millis(value)
    if type_ == DATE and isinstance(value, dt.date) and not isinstance(value, dt.datetime):
        return value.toordinal() - dt.date(1970, 1, 1).toordinal()
    return None


def substitute(pattern: ast.Pattern, params: Mapping[str, ast.Literal], problems: list[Problem]) -> ast.Pattern:
    """The pattern with the parameters' values in it; what cannot be is noted in `problems`."""

    def value(expr: ast.Expr) -> ast.Expr:
        if not isinstance(expr, ast.Param) or expr.name not in params:
            return expr  # an unknown one is found when types are checked
        return replace(params[expr.name], span=expr.span)

    def bound(given: ast.IntOrParam) -> int:
        if not isinstance(given, ast.Param):
            return given
        literal = params.get(given.name)
        if literal is None:
            hint = did_you_mean(given.name, params) or "declare it: `param … = …`"
            problems.append(Problem(f"there is no parameter `{given.name}`", given.span, hint))
            return 1
        if literal.type != BIGINT:
            kind = literal.type
            problems.append(Problem(f"how often is a whole number, but `{given.name}` is {kind}", given.span))
            return 1
        number: int = literal.value
        return number

    def quantifier(given: ast.Quantifier) -> ast.Quantifier:
        if not isinstance(given.min, ast.Param) and not isinstance(given.max, ast.Param):
            return given
        low = bound(given.min)
        high = low if given.max == given.min else bound(given.max) if given.max is not None else None
        if (low, high) == (1, 1):
            # Once, after all: then there is nothing between repetitions, and nothing to be greedy for.
            return ast.Quantifier(1, 1, given.optional, span=given.span)
        return replace(given, min=low, max=high)

    return map_pattern(pattern, value, quantifier)
