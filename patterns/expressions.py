"""Conditions and values written in Python: ``(col("price") > last("b", "price")) & F.starts_with(col("sym"), "A")``.

Operators build the same syntax tree that the text of a ``.cep`` file does. ``&``, ``|`` and ``~`` are AND, OR and NOT,
since Python's own ``and``, ``or`` and ``not`` cannot be given a meaning; mind that they bind tighter than comparisons.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ostinato.patterns.ast import Aggregate, Call, Column, Expr, Literal, Param, PythonCall
from ostinato.patterns.constants import literal_of
from ostinato.patterns.errors import PatternError, Problem
from ostinato.patterns.types import BIGINT, STRING

_NODES = (Literal, Column, Param, Call, Aggregate, PythonCall)


class Expression:
    """An expression under construction; `expr` is the syntax tree so far."""

    __slots__ = ("expr",)
    __hash__ = None  # type: ignore[assignment]  # == builds a comparison

    def __init__(self, expr: Expr) -> None:
        self.expr = expr

    # -- comparison --------------------------------------------------------------------------------

    def __eq__(self, other: object) -> Expression:  # type: ignore[override]
        return self.is_null() if other is None else _call("=", self, other)

    def __ne__(self, other: object) -> Expression:  # type: ignore[override]
        return self.is_not_null() if other is None else _call("<>", self, other)

    def __lt__(self, other: Any) -> Expression:
        return _call("<", self, other)

    def __le__(self, other: Any) -> Expression:
        return _call("<=", self, other)

    def __gt__(self, other: Any) -> Expression:
        return _call(">", self, other)

    def __ge__(self, other: Any) -> Expression:
        return _call(">=", self, other)

    def is_null(self) -> Expression:
        return _call("is_null", self)

    def is_not_null(self) -> Expression:
        return _call("is_not_null", self)

    def between(self, low: Any, high: Any) -> Expression:
        return _call("between", self, low, high)

    def in_(self, *values: Any) -> Expression:
        return _call("in", self, *values)

    def like(self, pattern: str) -> Expression:
        return _call("like", self, pattern)

    # -- logic -------------------------------------------------------------------------------------

    def __and__(self, other: Any) -> Expression:
        return _call("and", self, other)

    def __rand__(self, other: Any) -> Expression:
        return _call("and", other, self)

    def __or__(self, other: Any) -> Expression:
        return _call("or", self, other)

    def __ror__(self, other: Any) -> Expression:
        return _call("or", other, self)

    def __invert__(self) -> Expression:
        return _call("not", self)

    def __bool__(self) -> bool:
        raise TypeError("an expression has no truth yet: write & | ~ for and, or, not, and a <= x for a chain")

    # -- arithmetic --------------------------------------------------------------------------------

    def __add__(self, other: Any) -> Expression:
        return _call("+", self, other)

    def __radd__(self, other: Any) -> Expression:
        return _call("+", other, self)

    def __sub__(self, other: Any) -> Expression:
        return _call("-", self, other)

    def __rsub__(self, other: Any) -> Expression:
        return _call("-", other, self)

    def __mul__(self, other: Any) -> Expression:
        return _call("*", self, other)

    def __rmul__(self, other: Any) -> Expression:
        return _call("*", other, self)

    def __truediv__(self, other: Any) -> Expression:
        return _call("/", self, other)

    def __rtruediv__(self, other: Any) -> Expression:
        return _call("/", other, self)

    def __mod__(self, other: Any) -> Expression:
        return _call("%", self, other)

    def __rmod__(self, other: Any) -> Expression:
        return _call("%", other, self)

    def __neg__(self) -> Expression:
        return _call("neg", self)

    # -- access ------------------------------------------------------------------------------------

    def field(self, name: str) -> Expression:
        """A field of a ROW."""
        return Expression(Call("field", (self.expr, Literal(name, STRING))))

    def __getitem__(self, index: int) -> Expression:
        """An element of an ARRAY, counted from 1 as in SQL."""
        return Expression(Call("element", (self.expr, Literal(index, BIGINT))))

    def __repr__(self) -> str:
        return f"Expression({self.expr!r})"


def to_expr(value: Any) -> Expr:
    """The syntax tree of an expression, a node or a Python constant.

    Raises:
        PatternError: the language has no constant of that kind.
    """
    if isinstance(value, Expression):
        return value.expr
    if isinstance(value, _NODES):
        return value
    literal = literal_of(value)
    if literal is None:
        raise PatternError(
            Problem(f"{value!r} is no constant of the language", hint="write a number, text, truth value, date or None")
        )
    return literal


def _call(function: str, *args: Any) -> Expression:
    return Expression(Call(function, tuple(to_expr(arg) for arg in args)))


def col(name: str) -> Expression:
    """A column of the event in hand; ``stage.field`` is that of the last event matched for a stage."""
    stage, dot, field = name.partition(".")
    return Expression(Column(field, stage) if dot else Column(name))


def lit(value: Any) -> Expression:
    """A constant."""
    return Expression(to_expr(value))


def param(name: str) -> Expression:
    """A `param`, set from outside."""
    return Expression(Param(name))


def _aggregate(function: str, stage: str, field: str | None, offset: int = 0) -> Expression:
    if field is None and "." in stage:
        stage, _, field = stage.partition(".")
    if field is None and function != "count":
        raise PatternError(Problem(f'{function} needs a field: write {function}("{stage}", "field")'))
    return Expression(Aggregate(function, stage, field, offset))


def count(stage: str, field: str | None = None) -> Expression:
    """How many events are matched for the stage (whose field is not null)."""
    return _aggregate("count", stage, field)


def sum_(stage: str, field: str | None = None) -> Expression:
    """The sum of a field over the events matched for the stage."""
    return _aggregate("sum", stage, field)


def avg(stage: str, field: str | None = None) -> Expression:
    """The mean of a field over the events matched for the stage."""
    return _aggregate("avg", stage, field)


def min_(stage: str, field: str | None = None) -> Expression:
    """The least value of a field over the events matched for the stage."""
    return _aggregate("min", stage, field)


def max_(stage: str, field: str | None = None) -> Expression:
    """The greatest value of a field over the events matched for the stage."""
    return _aggregate("max", stage, field)


def first(stage: str, field: str | None = None, offset: int = 0) -> Expression:
    """A field of the first event matched for the stage, or of the one `offset` after it."""
    return _aggregate("first", stage, field, offset)


def last(stage: str, field: str | None = None, offset: int = 0) -> Expression:
    """A field of the last event matched for the stage, or of the one `offset` before it."""
    return _aggregate("last", stage, field, offset)


class Functions:
    """Every function of the language as an attribute: ``F.lower(col("name"))``."""

    def __getattr__(self, name: str) -> Callable[..., Expression]:
        if name.startswith("__"):
            raise AttributeError(name)
        return lambda *args: _call(name.rstrip("_").lower(), *args)


F = Functions()
