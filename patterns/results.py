"""The function behind ``@cep.pattern`` as columns to emit.

``return {"user": match.key, "failures": len(match["fail"])}`` says the same as ``emit user, count(fail) as failures``,
and as that it is computed for all matches of a batch at once, with a schema that further patterns and tables can rely
on. A function that does more than this is called for each match instead.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ostinato.patterns.ast import Aggregate, Call, Column, Expr, Output, Pattern
from ostinato.patterns.lowering import run
from ostinato.patterns.python_operators import as_value
from ostinato.patterns.symbolic import Choice, Items, MatchArgument, NotLoweredError, Symbol, Value, choice
from ostinato.patterns.types import DATE, INTERVAL, NULL, TIMESTAMP, Array, DataType, Row


def lower_result(
    function: Callable[..., Any],
    pattern: Pattern,
    columns: Mapping[str, DataType] | None,
    keys: tuple[str, ...],
    stages: frozenset[str],
    single: frozenset[str],
) -> tuple[Output, ...] | str:
    """The columns that the function makes of a match of `pattern`, or why they cannot be told.

    Args:
        columns: those of the stream.
        keys: the key columns among them.
        stages: all stages; `single` are those whose events the match gives as one event.
    """
    if columns is None:
        return "the stream is only known by its name"
    try:
        row = _merged(run(function, [MatchArgument(pattern.name, keys, stages, single)], columns))
        if not isinstance(row, Items) or row.kind != "dict" or not row.values:
            raise NotLoweredError("it returns something other than one dict")
        return tuple(_output(name, as_value(value)) for name, value in zip(row.keys, row.values, strict=True))
    except NotLoweredError as reason:
        return str(reason)
    except RecursionError:
        return "the function is nested too deeply"


def _merged(symbol: Symbol) -> Symbol:
    """One of two dicts with the same keys as the dict of their choices."""
    if isinstance(symbol, Choice):
        then, other = _merged(symbol.then), _merged(symbol.other)
        if isinstance(then, Items) and isinstance(other, Items) and then.keys == other.keys and then.keys:
            pairs = zip(then.values, other.values, strict=True)
            return Items("dict", tuple(choice(symbol.condition, *pair) for pair in pairs), then.keys)
    return symbol


def _output(name: Any, value: Value) -> Output:
    if not isinstance(name, str) or not name:
        raise NotLoweredError(f"{name!r} is no name of a column")
    return Output(name, _as_python_sees_it(value, name))


def _as_python_sees_it(value: Value, name: str) -> Expr:
    """Times are whole milliseconds to Python; what it would see otherwise than SQL does is left to it."""
    if value.type in (TIMESTAMP, INTERVAL):
        return Call("to_millis", (value.expr,))
    if value.type == NULL or _holds_time(value.type):
        raise NotLoweredError(f"`{name}` is a {value.type}")
    if value.type is None and isinstance(value.expr, Column | Aggregate):
        raise NotLoweredError(f"`{name}` is of a column that the stream does not have")
    return value.expr


def _holds_time(type_: DataType | None) -> bool:
    if isinstance(type_, Array):
        return type_.element in (TIMESTAMP, INTERVAL) or _holds_time(type_.element)
    if isinstance(type_, Row):
        return any(field in (TIMESTAMP, INTERVAL) or _holds_time(field) for _, field in type_.fields)
    return type_ == DATE
