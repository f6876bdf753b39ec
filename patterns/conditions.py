"""What may stand where a condition is wanted, and how it becomes an expression."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from ostinato.patterns.ast import Aggregate, Call, Column, Expr, Literal, Param, PythonCall
from ostinato.patterns.errors import PatternError, Problem
from ostinato.patterns.expressions import Expression
from ostinato.patterns.types import BOOLEAN, DataType


class SimpleCondition:
    """A condition as a class, as in Flink: override `filter`, which is given the event."""

    def filter(self, event: Any) -> bool:
        raise NotImplementedError


class IterativeCondition:
    """A condition on the partial match: `filter` is also given the context, whose
    ``get_events_for_pattern(stage)`` lists the events matched so far."""

    def filter(self, event: Any, ctx: Any) -> bool:
        raise NotImplementedError


Condition: TypeAlias = Expression | Expr | str | bool | Callable[..., Any] | SimpleCondition | IterativeCondition
"""An expression, text in the language, or a function of the event, or of the event and the context."""


def to_condition(condition: Condition, columns: Mapping[str, DataType] | None = None) -> Expr:
    """The expression of a condition; functions are lowered where they can be.

    `columns` are the columns of the stream, where they are known; the meaning of some Python depends on them.

    Raises:
        PatternError: the text is not an expression, or the function takes neither one nor two arguments.
    """
    if isinstance(condition, Expression):
        return condition.expr
    if isinstance(condition, (Literal, Column, Param, Call, Aggregate, PythonCall)):
        return condition
    if isinstance(condition, bool):
        return Literal(condition, BOOLEAN)
    if isinstance(condition, str):
        from ostinato.patterns.parser import parse_expression

        return parse_expression(condition)
    if isinstance(condition, (SimpleCondition, IterativeCondition)):
        condition = condition.filter
    if callable(condition):
        from ostinato.patterns.lowering import lower

        return lower(condition, columns=columns, iterative=takes_context(condition)).expr
    raise PatternError(
        Problem(
            f"{condition!r} is not a condition",
            hint="give an expression, text in the language, or a function of the event (and the context)",
        )
    )


def takes_context(function: Callable[..., Any]) -> bool:
    """Is it a function of the event and the context, and not of the event alone?

    Raises:
        PatternError: it can be called with neither.
    """
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return False  # a builtin that tells nothing of itself; taken as a function of the event
    for iterative, arguments in ((False, ("event",)), (True, ("event", "ctx"))):
        try:
            signature.bind(*arguments)
        except TypeError:
            continue
        return iterative
    raise PatternError(
        Problem(
            f"the condition {getattr(function, '__name__', function)!s}{signature} cannot be called",
            hint="a condition takes the event, or the event and the context",
        )
    )
