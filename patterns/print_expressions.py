"""Expressions and types as canonical text."""

from __future__ import annotations

import math
from collections.abc import Callable

from ostinato.patterns import ast
from ostinato.patterns.errors import PatternError, Problem
from ostinato.patterns.lexer import quote_name
from ostinato.patterns.literals import (
    format_date,
    format_decimal,
    format_duration,
    format_text,
    format_timestamp,
    natural_decimal,
)
from ostinato.patterns.types import (
    BIGINT,
    BOOLEAN,
    DATE,
    DOUBLE,
    INTERVAL,
    NULL,
    STRING,
    TIMESTAMP,
    Array,
    DataType,
    Decimal,
    Row,
)

# How tightly a form binds; the operand of one is put in parentheses if it binds less tightly.
_OR, _AND, _NOT, _PREDICATE, _SUM, _PRODUCT, _SIGN, _POSTFIX, _PRIMARY = range(9)

_BINARY = {
    "or": _OR,
    "and": _AND,
    **dict.fromkeys(("=", "<>", "<", "<=", ">", ">="), _PREDICATE),
    **dict.fromkeys(("+", "-", "||"), _SUM),
    **dict.fromkeys(("*", "/", "%"), _PRODUCT),
}
_NEGATABLE = frozenset({"between", "in", "like", "regexp"})
_TESTS = {
    f"is_{negated}{test}": f"is {negated.replace('_', ' ')}{test}"
    for negated in ("", "not_")
    for test in ("null", "true", "false")
}


class ExpressionPrinter:
    """Prints expressions.

    Args:
        params: parameters that a bare name is taken for; others are written ``$name``.
        show_python: name Python functions instead of refusing to print them (for people to read).
    """

    def __init__(self, params: frozenset[str] = frozenset(), *, show_python: bool = False) -> None:
        self._params = params
        self._show_python = show_python

    def text(self, expr: ast.Expr, at_least: int = _OR) -> str:
        """The expression, in parentheses if it binds less tightly than `at_least`."""
        text, level = self._form(expr)
        return f"({text})" if level < at_least else text

    def chain(self, expr: ast.Expr) -> list[str]:
        """The parts of an AND or OR at the top, each but the first with its operator, for breaking into lines."""
        if not (isinstance(expr, ast.Call) and expr.function in ("and", "or") and len(expr.args) == 2):
            return [self.text(expr)]
        level = _BINARY[expr.function]
        parts = [f"{expr.function} {self.text(expr.args[1], level + 1)}"]
        left = expr.args[0]
        while isinstance(left, ast.Call) and left.function == expr.function and len(left.args) == 2:
            parts.append(f"{expr.function} {self.text(left.args[1], level + 1)}")
            left = left.args[0]
        parts.append(self.text(left, level))
        return parts[::-1]

    def _form(self, expr: ast.Expr) -> tuple[str, int]:
        if isinstance(expr, ast.Literal):
            return print_literal(expr), _SIGN if _is_negative(expr) else _PRIMARY
        if isinstance(expr, ast.Column):
            if expr.stage is None:
                return quote_name(expr.name), _PRIMARY
            return f"{quote_name(expr.stage)}.{quote_name(expr.name, after_dot=True)}", _POSTFIX
        if isinstance(expr, ast.Param):
            if expr.name in self._params:
                return quote_name(expr.name), _PRIMARY
            return f"${quote_name(expr.name, after_dot=True)}", _PRIMARY
        if isinstance(expr, ast.Aggregate):
            return _aggregate(expr), _PRIMARY
        if isinstance(expr, ast.PythonCall):
            return self._python(expr), _PRIMARY
        return self._call(expr)

    def _python(self, expr: ast.PythonCall) -> str:
        name = getattr(expr.function, "__name__", "function")
        if self._show_python:
            return f"python({name})"
        raise PatternError(
            Problem(
                f"the Python function `{name}` cannot be written in the language",
                expr.span,
                "write the condition as an expression",
            )
        )

    def _call(self, expr: ast.Call) -> tuple[str, int]:
        function, args = expr.function, expr.args
        level = _BINARY.get(function)
        if level is not None and len(args) == 2:
            return f"{self.text(args[0], level)} {function} {self.text(args[1], level + 1)}", level
        form = _FORMS.get(function)
        if form is not None:
            printed = form(self, args)
            if printed is not None:
                return printed
        for prefix, head in (("extract_", "extract"), ("timestampdiff_", "timestampdiff")):
            if function.startswith(prefix):
                return self._unit_call(head, function.removeprefix(prefix), args), _PRIMARY
        return f"{function}({self._listed(args)})", _PRIMARY

    def _listed(self, args: tuple[ast.Expr, ...]) -> str:
        return ", ".join(self.text(arg) for arg in args)

    def _unit_call(self, head: str, unit: str, args: tuple[ast.Expr, ...]) -> str:
        if head == "extract" and len(args) == 1:
            return f"extract({unit} from {self.text(args[0])})"
        return f"{head}({unit}, {self._listed(args)})"

    def _not(self, args: tuple[ast.Expr, ...]) -> tuple[str, int] | None:
        operand = args[0]
        if isinstance(operand, ast.Call) and operand.function in _NEGATABLE:
            printed = self._predicate(operand, " not")
            if printed is not None:
                return printed, _PREDICATE
        return f"not {self.text(operand, _NOT)}", _NOT

    def _predicate(self, expr: ast.Call, negated: str = "") -> str | None:
        """``x [not] between a and b`` and its kind; None if the number of arguments is not theirs."""
        subject, rest = self.text(expr.args[0], _PREDICATE), expr.args[1:]
        if expr.function == "in" and rest:
            return f"{subject}{negated} in ({self._listed(rest)})"
        operands = [self.text(arg, _SUM) for arg in rest]
        if expr.function == "between" and len(rest) == 2:
            return f"{subject}{negated} between {operands[0]} and {operands[1]}"
        if expr.function == "like" and len(rest) in (1, 2):
            escape = f" escape {operands[1]}" if len(rest) == 2 else ""
            return f"{subject}{negated} like {operands[0]}{escape}"
        if expr.function == "regexp" and len(rest) == 1:
            return f"{subject}{negated} rlike {operands[0]}"
        return None

    def _negative(self, args: tuple[ast.Expr, ...]) -> tuple[str, int] | None:
        text = self.text(args[0], _SIGN)
        # `-5` is a number of its own, and `--` begins a comment.
        bare = isinstance(args[0], ast.Literal) and args[0].type in (BIGINT, DOUBLE, INTERVAL)
        return (f"-({text})" if bare or text.startswith("-") else f"-{text}"), _SIGN

    def _field(self, args: tuple[ast.Expr, ...]) -> tuple[str, int] | None:
        base, name = args
        assert isinstance(name, ast.Literal)
        text = self.text(base, _POSTFIX)
        # `a.b` is a column of stage a, and 5.x no number.
        if isinstance(base, (ast.Literal, ast.Param)) or (isinstance(base, ast.Column) and base.stage is None):
            text = f"({text})" if not text.startswith("(") else text
        return f"{text}.{quote_name(name.value, after_dot=True)}", _POSTFIX

    def _element(self, args: tuple[ast.Expr, ...]) -> tuple[str, int] | None:
        return f"{self.text(args[0], _POSTFIX)}[{self.text(args[1])}]", _POSTFIX

    def _case(self, args: tuple[ast.Expr, ...]) -> tuple[str, int] | None:
        parts = ["case"]
        parts += (
            f"when {self.text(when)} then {self.text(then)}" for when, then in zip(args[::2], args[1::2], strict=False)
        )
        if len(args) % 2:
            parts.append(f"else {self.text(args[-1])}")
        return " ".join([*parts, "end"]), _PRIMARY

    def _cast(self, args: tuple[ast.Expr, ...]) -> tuple[str, int] | None:
        assert isinstance(args[1], ast.Literal)
        return f"cast({self.text(args[0])} as {print_type(args[1].type)})", _PRIMARY


_Form = Callable[[ExpressionPrinter, tuple[ast.Expr, ...]], tuple[str, int] | None]


def _predicate_form(function: str) -> _Form:
    def form(printer: ExpressionPrinter, args: tuple[ast.Expr, ...]) -> tuple[str, int] | None:
        text = printer._predicate(ast.Call(function, args))
        return (text, _PREDICATE) if text is not None else None

    return form


def _test_form(words: str) -> _Form:
    return lambda printer, args: (f"{printer.text(args[0], _PREDICATE)} {words}", _PREDICATE)


def _distinct_form(words: str) -> _Form:
    return lambda printer, args: (
        f"{printer.text(args[0], _PREDICATE)} {words} {printer.text(args[1], _SUM)}",
        _PREDICATE,
    )


_FORMS: dict[str, _Form] = {
    "not": ExpressionPrinter._not,
    "neg": ExpressionPrinter._negative,
    "field": ExpressionPrinter._field,
    "element": ExpressionPrinter._element,
    "case": ExpressionPrinter._case,
    "cast": ExpressionPrinter._cast,
    "is_distinct_from": _distinct_form("is distinct from"),
    "is_not_distinct_from": _distinct_form("is not distinct from"),
    **{function: _predicate_form(function) for function in _NEGATABLE},
    **{function: _test_form(words) for function, words in _TESTS.items()},
}


def _aggregate(expr: ast.Aggregate) -> str:
    operand = f".{quote_name(expr.operand, after_dot=True)}" if expr.operand is not None else ""
    offset = f", {expr.offset}" if expr.offset else ""
    return f"{expr.function}({quote_name(expr.stage)}{operand}{offset})"


def _is_negative(expr: ast.Literal) -> bool:
    return (
        expr.type in (BIGINT, DOUBLE, INTERVAL)
        and expr.value is not None
        and not (isinstance(expr.value, float) and not math.isfinite(expr.value))
        and math.copysign(1, expr.value) < 0
    )


def print_literal(expr: ast.Literal) -> str:
    """A constant. PatternError for a time that the language cannot write (before year 1, after 9999)."""
    value, type_ = expr.value, expr.type
    if value is None:
        return "null" if type_ == NULL else f"cast(null as {print_type(type_)})"
    if type_ == BOOLEAN:
        return "true" if value else "false"
    if type_ == STRING:
        return format_text(value)
    if type_ == DOUBLE:
        return repr(float(value)) if math.isfinite(value) else f"double '{float(value)}'"
    if type_ == INTERVAL:
        return f"-{format_duration(-value)}" if value < 0 else format_duration(value)
    if isinstance(type_, Decimal):
        head = "decimal" if natural_decimal(value) == type_ else print_type(type_)
        return f"{head} '{format_decimal(value)}'"
    try:
        if type_ == TIMESTAMP:
            return f"timestamp '{format_timestamp(value)}'"
        if type_ == DATE:
            return f"date '{format_date(value)}'"
    except ValueError as error:
        raise PatternError(Problem(str(error), expr.span)) from None
    return str(value)


_TYPE_NAMES = {TIMESTAMP: "timestamp"}


def print_type(type_: DataType) -> str:
    """A type as it is written in a declaration."""
    if isinstance(type_, Array):
        return f"array<{print_type(type_.element)}>"
    if isinstance(type_, Row):
        fields = ", ".join(f"{quote_name(name)} {print_type(field)}" for name, field in type_.fields)
        return f"row<{fields}>"
    if isinstance(type_, Decimal):
        return f"decimal({type_.precision}, {type_.scale})"
    return _TYPE_NAMES.get(type_, type_.name.lower())
