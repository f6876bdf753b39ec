"""Expressions evaluated one event at a time, for conditions on the partial match that the machine cannot decide."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from ostinato.cep.event import Event, physical
from ostinato.cep.expressions import text
from ostinato.cep.expressions.arithmetic import MAX_BIGINT, MIN_BIGINT
from ostinato.cep.expressions.core import scale_of, to_core
from ostinato.cep.expressions.operations import from_python, function_of
from ostinato.patterns.typed import Apply, Constant, Current, Matched, Opaque, Typed
from ostinato.patterns.types import DataType


class Context(Protocol):
    """The partial match that a condition is asked about."""

    @property
    def timestamp(self) -> int:
        """The time of the event in hand, in epoch milliseconds."""
        ...

    def get_events_for_pattern(self, stage: str) -> list[Event]:
        """The events matched so far for a stage, in match order."""
        ...


Evaluator = Callable[[Event, Context], Any]


def condition_function(expr: Typed) -> Callable[[Event, Context], bool]:
    """What decides the condition: True only if it is TRUE. A Python function's exceptions pass through."""
    evaluator = value_function(expr)
    return lambda event, context: evaluator(event, context) is True


def value_function(expr: Typed) -> Evaluator:
    """What computes the expression's physical value, None being NULL."""
    return _evaluator(to_core(expr))


def _evaluator(expr: Typed) -> Evaluator:
    if isinstance(expr, Constant):
        value = expr.value
        return lambda _event, _context: value
    if isinstance(expr, Current):
        name = expr.name
        return lambda event, _context: physical(event, name)
    if isinstance(expr, Matched):
        return _matched(expr)
    if isinstance(expr, Opaque):
        return _opaque(expr)
    if expr.function in ("AND", "OR"):
        return _connective(expr)
    if expr.function == "CASE":
        return _case(expr)
    function = function_of(expr)
    args = [_evaluator(arg) for arg in expr.args]
    return lambda event, context: function(*[arg(event, context) for arg in args])


def _opaque(expr: Opaque) -> Evaluator:
    function, type_ = expr.function, expr.type
    if expr.iterative:
        return lambda event, context: from_python(function(event, context), type_)
    return lambda event, _context: from_python(function(event), type_)


def _connective(expr: Apply) -> Evaluator:
    """AND and OR look at their right side only where it matters: a Python function may rely on the left one."""
    function = function_of(expr)
    left, right = (_evaluator(arg) for arg in expr.args)
    decided = expr.function == "OR"

    def run(event: Event, context: Context) -> Any:
        first = left(event, context)
        return first if first is decided else function(first, right(event, context))

    return run


def _case(expr: Apply) -> Evaluator:
    args = [_evaluator(arg) for arg in expr.args]
    otherwise = args.pop()
    branches = list(zip(args[::2], args[1::2], strict=True))

    def run(event: Event, context: Context) -> Any:
        for condition, value in branches:
            if condition(event, context) is True:
                return value(event, context)
        return otherwise(event, context)

    return run


def _matched(expr: Matched) -> Evaluator:
    stage, name, function, offset = expr.stage, expr.name, expr.function, expr.offset
    if name is None:
        return lambda _event, context: len(context.get_events_for_pattern(stage))
    column = name

    def run(_event: Event, context: Context) -> Any:
        events = context.get_events_for_pattern(stage)
        if function in ("first", "last"):
            at = offset if function == "first" else len(events) - 1 - offset
            return physical(events[at], column) if 0 <= at < len(events) else None
        values = [value for value in (physical(each, column) for each in events) if value is not None]
        return aggregate(function, values, events[0]._columns[column].type if values else expr.type)

    return run


def aggregate(function: str, values: Sequence[Any], type_: DataType) -> Any:
    """``count sum avg min max`` of physical values of a column of the type, None left out before.

    >>> from ostinato.patterns.types import BIGINT
    >>> aggregate("avg", [1, 2], BIGINT), aggregate("sum", [2**63 - 1, 1], BIGINT), aggregate("min", [], BIGINT)
    (1.5, None, None)
    """
    if function == "count":
        return len(values)
    if not values:
        return None
    if function in ("min", "max"):
        return _extreme(function, values)
    total = values[0]
    for value in values[1:]:
        total += value
    if function == "avg":
        scale = scale_of(type_)
        mean = float(total) / float(len(values))
        return mean / float(10**scale) if scale else mean
    if isinstance(total, int) and not MIN_BIGINT <= total <= MAX_BIGINT:
        return None
    return total


def _extreme(function: str, values: Sequence[Any]) -> Any:
    """The first of the least (greatest) values; one that is not comparable (NaN) replaces none and stays."""
    best = values[0]
    for value in values[1:]:
        x, y = (text.order(value), text.order(best)) if isinstance(value, str) else (value, best)
        if x < y if function == "min" else x > y:
            best = value
    return best
