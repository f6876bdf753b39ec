"""Types of ``+ - * / %`` and of the sign, for numbers and for times."""

from __future__ import annotations

from typing import Protocol

from ostinato.patterns import ast
from ostinato.patterns.conversions import clash_hint, convert, exact_constant, unify
from ostinato.patterns.errors import Span
from ostinato.patterns.typed import Apply, Constant, Typed
from ostinato.patterns.types import (
    BIGINT,
    DATE,
    DOUBLE,
    INTERVAL,
    MAX_DECIMAL_PRECISION,
    NULL,
    STRING,
    TIMESTAMP,
    DataType,
    Decimal,
    is_numeric,
)


class Complaints(Protocol):
    """Where to say what is wrong."""

    def wrong(self, message: str, span: Span | None, hint: str | None = None) -> Typed: ...


def arithmetic(complaints: Complaints, function: str, args: tuple[Typed, ...], expr: ast.Call) -> Typed:
    """The typed form of an arithmetic operator."""
    if len(args) == 1:
        return _sign(complaints, args[0], expr)
    left, right = args
    if NULL in (left.type, right.type):
        left, right = _typed_null(left, right.type, function), _typed_null(right, left.type, function)
    if is_numeric(left.type) and is_numeric(right.type):
        return _numbers(function, left, right)
    typed = _times(function, left, right)
    if typed is not None:
        return typed
    hint = clash_hint(left.type, right.type)
    if function == "+" and STRING in (left.type, right.type):
        hint = "texts are joined with `||`"
    verb = {"+": "added to", "-": "taken from", "*": "multiplied by", "/": "divided by", "%": "divided by"}[function]
    first, second = (right.type, left.type) if function == "-" else (left.type, right.type)
    return complaints.wrong(f"{first} cannot be {verb} {second}", expr.span, hint)


def _sign(complaints: Complaints, arg: Typed, expr: ast.Call) -> Typed:
    if arg.type == NULL:
        return arg
    if not is_numeric(arg.type) and arg.type != INTERVAL:
        return complaints.wrong(f"there is no negative of {arg.type}", expr.span)
    if isinstance(arg, Constant) and arg.value is not None and arg.value != -(2**63):
        return Constant(arg.type, -arg.value)
    return Apply(arg.type, "neg", (arg,))


def _typed_null(operand: Typed, other: DataType, function: str) -> Typed:
    """NULL takes the type that goes with the other operand."""
    if operand.type != NULL:
        return operand
    if other == NULL or (other == INTERVAL and function in ("*", "/")):
        return convert(operand, BIGINT)
    return convert(operand, INTERVAL if other in (TIMESTAMP, DATE) else other)


def _numbers(function: str, left: Typed, right: Typed) -> Typed:
    if function == "/":
        if left.type == BIGINT and right.type == BIGINT:
            return Apply(BIGINT, "/", (left, right))
        return Apply(DOUBLE, "/", (convert(left, DOUBLE), convert(right, DOUBLE)))
    unified = unify((left, right))
    assert unified is not None
    operands, type_ = unified
    if not isinstance(type_, Decimal):
        return Apply(type_, function, operands)
    if function == "*":
        return _product(left, right)
    if function == "%":
        return Apply(type_, "%", operands)
    return Apply(Decimal(min(type_.precision + 1, MAX_DECIMAL_PRECISION), type_.scale), function, operands)


def _product(left: Typed, right: Typed) -> Typed:
    """Of decimals: as exact as both together, as long as the digits suffice."""
    left, right = _exact(left), _exact(right)
    scale = left.type.scale + right.type.scale  # type: ignore[union-attr]
    if scale > MAX_DECIMAL_PRECISION:
        return Apply(DOUBLE, "*", (convert(left, DOUBLE), convert(right, DOUBLE)))
    precision = min(left.type.precision + right.type.precision, MAX_DECIMAL_PRECISION)  # type: ignore[union-attr]
    return Apply(Decimal(precision, scale), "*", (left, right))


def _exact(operand: Typed) -> Typed:
    """A factor as a decimal: a column of whole numbers, or a constant with the digits it was written with."""
    if isinstance(operand.type, Decimal):
        return operand
    exact = exact_constant(operand) if isinstance(operand, Constant) else None
    if exact is not None:
        return exact
    return convert(operand, Decimal(MAX_DECIMAL_PRECISION, 0))


def _times(function: str, left: Typed, right: Typed) -> Typed | None:
    """Sums and differences of times, multiples of spans; None if there is no such thing."""
    if function == "-" and {left.type, right.type} <= {TIMESTAMP, DATE}:
        return Apply(INTERVAL, "-", (convert(left, TIMESTAMP), convert(right, TIMESTAMP)))
    if function in ("+", "-") and left.type in (TIMESTAMP, DATE) and right.type == INTERVAL:
        return Apply(TIMESTAMP, function, (convert(left, TIMESTAMP), right))
    if function == "+" and left.type == INTERVAL and right.type in (TIMESTAMP, DATE):
        return Apply(TIMESTAMP, "+", (convert(right, TIMESTAMP), left))
    if function in ("+", "-") and left.type == INTERVAL and right.type == INTERVAL:
        return Apply(INTERVAL, function, (left, right))
    if function in ("*", "/") and left.type == INTERVAL and right.type == BIGINT:
        return Apply(INTERVAL, function, (left, right))
    if function == "*" and left.type == BIGINT and right.type == INTERVAL:
        return Apply(INTERVAL, "*", (right, left))
    return None
