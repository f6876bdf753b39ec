"""Attributes, items and calls on symbols: what Python's builtins and methods mean in the language."""

from __future__ import annotations

import dataclasses
import datetime as dt
import math
import types
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from enum import Enum
from typing import Any

from ostinato.patterns.ast import Aggregate, Call, Column, Expr, Literal
from ostinato.patterns.python_operators import (
    as_double,
    as_value,
    compare,
    number_type,
    spread,
    truth,
)
from ostinato.patterns.symbolic import (
    FALSE,
    Constant,
    Context,
    EachEvent,
    EachField,
    EventInHand,
    Generator,
    Items,
    Iterator,
    MatchArgument,
    MatchedEvent,
    MatchedEvents,
    NotLoweredError,
    OnlyEvent,
    Raises,
    Symbol,
    Value,
    either,
)
from ostinato.patterns.types import BIGINT, BOOLEAN, DOUBLE, STRING, Array, DataType, Row, is_numeric

Columns = Mapping[str, DataType] | None


# ---------------------------------------------------------------------------------------------
# attributes and items


def attribute(symbol: Symbol, name: str, columns: Columns) -> Symbol:
    """``symbol.name``."""
    return spread(lambda owner: _attribute(owner, name, columns), symbol)


def _attribute(owner: Symbol, name: str, columns: Columns) -> Symbol:
    known = None if columns is None else columns.get(name)
    if isinstance(owner, EventInHand):
        return Value(Column(name), known)
    if isinstance(owner, MatchedEvent):
        return Value(Aggregate(owner.function, owner.stage, name, owner.offset), known)
    if isinstance(owner, OnlyEvent):
        return Value(Column(name, owner.stage), known)
    if isinstance(owner, EachEvent):
        return EachField(owner.stage, name, known)
    if isinstance(owner, MatchArgument):
        return _of_match(owner, name, columns)
    if isinstance(owner, Constant):
        return _constant_attribute(owner.value, name)
    if isinstance(owner, Value) and (owner.type is None or isinstance(owner.type, Row)):
        inner = owner.type.field(name) if isinstance(owner.type, Row) else None
        return Value(Call("field", (owner.expr, Literal(name, STRING))), inner)
    raise NotLoweredError(f"the attribute `{name}` is read")


def _of_match(match: MatchArgument, name: str, columns: Columns) -> Symbol:
    """An attribute of a whole match."""
    if name == "name":
        return Constant(match.name)
    if name in ("start", "end"):
        return Value(Call("to_millis", (Call(f"match_{name}", ()),)), BIGINT)
    if name == "key":
        keys = [Value(Column(key), None if columns is None else columns.get(key)) for key in match.keys]
        if len(keys) == 1:
            return keys[0]
        return Items("tuple", tuple(keys)) if keys else Constant(None)
    raise NotLoweredError(f"`{name}` of the match is read")


def _constant_attribute(owner: Any, name: str) -> Symbol:
    """Of things whose attributes stay as they are: modules, classes, enumerations, frozen dataclasses, named tuples."""
    params = getattr(type(owner), "__dataclass_params__", None)
    settled = (
        isinstance(owner, (types.ModuleType, type, Enum))
        or (isinstance(owner, tuple) and name in getattr(type(owner), "_fields", ()))
        or (params is not None and params.frozen and name in {field.name for field in dataclasses.fields(owner)})
    )
    if not settled:
        raise NotLoweredError(f"`{name}` of an object that may change is read")
    try:
        return Constant(getattr(owner, name))
    except AttributeError:
        return Raises()


def item(symbol: Symbol, index: Symbol, columns: Columns) -> Symbol:
    """``symbol[index]``."""
    return spread(lambda owner, key: _item(owner, key, columns), symbol, index)


def _item(owner: Symbol, index: Symbol, columns: Columns) -> Symbol:
    if not isinstance(index, Constant):
        raise NotLoweredError("an index is not constant")
    key = index.value
    if isinstance(owner, Constant) and isinstance(owner.value, tuple):
        try:
            return Constant(owner.value[key])
        except (IndexError, TypeError):
            return Raises()
    if isinstance(key, str):
        if isinstance(owner, (EventInHand, MatchedEvent, OnlyEvent, EachEvent)) or (
            isinstance(owner, Value) and (owner.type is None or isinstance(owner.type, Row))
        ):
            return _attribute(owner, key, columns)
        if isinstance(owner, MatchArgument) and key in owner.stages:
            return OnlyEvent(key) if key in owner.single else MatchedEvents(key)
    if isinstance(key, int) and not isinstance(key, bool):
        if isinstance(owner, Items) and owner.kind == "tuple" and key < len(owner.values):
            return owner.values[key]
        if isinstance(owner, MatchedEvents):
            return MatchedEvent(owner.stage, *(("first", key) if key >= 0 else ("last", -key - 1)))
        if isinstance(owner, Value) and isinstance(owner.type, Array) and key >= 0:
            return Value(Call("element", (owner.expr, Literal(key + 1, BIGINT))), owner.type.element)
    raise NotLoweredError(f"the item {key!r} is read")


# ---------------------------------------------------------------------------------------------
# methods


def call_method(owner: Symbol, name: str, args: Sequence[Symbol], columns: Columns) -> Symbol:
    """``owner.name(*args)``.

    Raises:
        NotLoweredError: the language has nothing that means the same.
    """
    if isinstance(owner, Context) and name == "get_events_for_pattern" and len(args) == 1:
        stage = args[0]
        if isinstance(stage, Constant) and isinstance(stage.value, str):
            return MatchedEvents(stage.value)
        raise NotLoweredError("the stage of get_events_for_pattern is not constant")
    if isinstance(owner, (EventInHand, MatchedEvent, OnlyEvent)) and name == "get" and len(args) == 1:
        return item(owner, args[0], columns)
    if isinstance(owner, Constant) and isinstance(owner.value, (types.ModuleType, type)):
        function = _constant_attribute(owner.value, name)
        if isinstance(function, Constant):
            return call_constant(function.value, args)
        return function
    if isinstance(owner, Constant) and all(isinstance(arg, Constant) for arg in args) and isinstance(owner.value, str):
        return Constant(getattr(owner.value, name)(*(arg.value for arg in args)))  # type: ignore[union-attr]
    text_method = _TEXT_METHODS.get(name)
    if text_method is not None:
        return spread(lambda text, *rest: _call_text(text_method, name, text, rest), owner, *args)
    raise NotLoweredError(f"the method `{name}` is called")


def _call_text(
    method: Callable[[Value, Sequence[Symbol]], Value], name: str, owner: Symbol, args: Sequence[Symbol]
) -> Symbol:
    text = as_value(owner)
    if text.type not in (STRING, None):
        raise NotLoweredError(f"the method `{name}` of a {text.type} is called")
    return method(text, args)


def _no_arguments(function: str) -> Callable[[Value, Sequence[Symbol]], Value]:
    def call(text: Value, args: Sequence[Symbol]) -> Value:
        if args:
            raise NotLoweredError(f"`{function}` is called with arguments")
        return Value(Call(function, (text.expr,)), STRING)

    return call


def _strip(function: str) -> Callable[[Value, Sequence[Symbol]], Value]:
    def call(text: Value, args: Sequence[Symbol]) -> Value:
        if len(args) != 1 or not isinstance(args[0], Constant) or args[0].value != " ":
            raise NotLoweredError(
                "`strip()` takes off every kind of white space, the language's TRIM only blanks: strip(' ')"
            )
        return Value(Call(function, (text.expr,)), STRING)

    return call


def _affix(function: str) -> Callable[[Value, Sequence[Symbol]], Value]:
    def call(text: Value, args: Sequence[Symbol]) -> Value:
        if len(args) != 1:
            raise NotLoweredError(f"`{function.replace('_', '')}` is called with a range")
        affix = args[0]
        several = isinstance(affix, Constant) and isinstance(affix.value, tuple)
        affixes = [Constant(each) for each in affix.value] if several else [affix]  # type: ignore[union-attr]
        found: Expr = FALSE
        for each in affixes:
            found = either(found, Call(function, (text.expr, _text(each).expr)))
        return Value(found, BOOLEAN)

    return call


def _replace(text: Value, args: Sequence[Symbol]) -> Value:
    if len(args) != 2:
        raise NotLoweredError("`replace` is called with a count")
    old, new = _text(args[0]), _text(args[1])
    if not isinstance(old.expr, Literal) or old.expr.value == "":
        raise NotLoweredError("`replace` is called with a text that is not constant")
    return Value(Call("replace", (text.expr, old.expr, new.expr)), STRING)


def _find(text: Value, args: Sequence[Symbol]) -> Value:
    if len(args) != 1:
        raise NotLoweredError("`find` is called with a range")
    place = Call("position", (_text(args[0]).expr, text.expr))
    return Value(Call("-", (place, Literal(1, BIGINT))), BIGINT)


def _text(symbol: Symbol) -> Value:
    value = as_value(symbol)
    if value.type not in (STRING, None):
        raise NotLoweredError(f"a {value.type} is given where text is wanted")
    return value


_TEXT_METHODS: dict[str, Callable[[Value, Sequence[Symbol]], Value]] = {
    "lower": _no_arguments("lower"),
    "upper": _no_arguments("upper"),
    "strip": _strip("trim"),
    "lstrip": _strip("ltrim"),
    "rstrip": _strip("rtrim"),
    "startswith": _affix("starts_with"),
    "endswith": _affix("ends_with"),
    "replace": _replace,
    "find": _find,
}


# ---------------------------------------------------------------------------------------------
# builtins


def call_constant(function: Any, args: Sequence[Symbol]) -> Symbol:
    """``function(*args)`` of a builtin.

    Raises:
        NotLoweredError: the language has nothing that means the same.
    """
    name = getattr(function, "__name__", None) or repr(function)
    known = _known(function)
    if known is None:
        raise NotLoweredError(f"`{name}` is called")
    least, most, meaning = known
    if not least <= len(args) <= most:
        raise NotLoweredError(f"`{name}` is called with {len(args)} arguments")
    return spread(meaning, *args)


_CONSTRUCTORS = (Decimal, dt.datetime, dt.date, dt.timedelta, range, frozenset, str, int, float, bool, tuple)


def construct(function: Any, args: Sequence[Symbol], named: Mapping[str, Symbol]) -> Symbol | None:
    """A constant made of constants, such as ``timedelta(minutes=5)``, or a dict of names; None for anything else."""
    if function is dict and not args:
        return Items("dict", tuple(named.values()), tuple(named))
    given = [*args, *named.values()]
    if not any(function is each for each in _CONSTRUCTORS) or not all(isinstance(each, Constant) for each in given):
        return None
    values = [each.value for each in given if isinstance(each, Constant)]
    try:
        return Constant(function(*values[: len(args)], **dict(zip(named, values[len(args) :], strict=True))))
    except Exception:  # noqa: BLE001 # whatever Python raises here it would raise for every event
        return Raises()


def _known(function: Any) -> tuple[int, int, Callable[..., Symbol]] | None:
    for each, least, most, meaning in _BUILTINS:
        if each is function:
            return least, most, meaning
    return None


def _length(of: Symbol) -> Symbol:
    if isinstance(of, MatchedEvents):
        return Value(Aggregate("count", of.stage), BIGINT)
    if isinstance(of, Constant) and isinstance(of.value, (str, tuple, frozenset)):
        return Constant(len(of.value))
    if isinstance(of, Items):
        return Constant(len(of.values)) if of.kind != "set" else _refuse("the length of a set is taken")
    value = as_value(of)
    if value.type == STRING:
        return Value(Call("char_length", (value.expr,)), BIGINT)
    if isinstance(value.type, Array):
        return Value(Call("cardinality", (value.expr,)), BIGINT)
    raise NotLoweredError("the length of a field is taken that is not known to be text or a list")


def _refuse(message: str) -> Symbol:
    raise NotLoweredError(message)


def _absolute(of: Symbol) -> Symbol:
    value = _number(of, "abs")
    return Value(Call("abs", (value.expr,)), value.type)


def _number(of: Symbol, what: str) -> Value:
    value = as_value(of)
    if value.type is not None and not is_numeric(value.type):
        raise NotLoweredError(f"`{what}` of a {value.type} is called")
    return value


def _extreme(function: str, symbol: str) -> Callable[..., Symbol]:
    def call(*args: Symbol) -> Symbol:
        if len(args) == 1:
            return _reduced(function, args[0])
        best = args[0]
        for other in args[1:]:
            compare(symbol, other, best)  # refuses what cannot be put in order
            a, b = as_value(best), as_value(other)
            nested = isinstance(a.expr, Call) and a.expr.function == _EXTREMES[function]
            values = a.expr.args if isinstance(a.expr, Call) and nested else (a.expr,)
            best = Value(
                Call(_EXTREMES[function], (*values, b.expr)), a.type if a.type == b.type else number_type(a, b)
            )
        return best

    return call


_EXTREMES = {"min": "least", "max": "greatest"}


def _reduced(function: str, over: Symbol) -> Symbol:
    """``sum``, ``min`` or ``max`` over what a loop yields."""
    if not isinstance(over, Generator):
        raise NotLoweredError(f"`{function}` of something other than a loop over the events of a stage is called")
    if over.field is not None:
        total = Aggregate(function, over.stage, over.field)
        # the sum of nothing is 0 to Python, NULL to SQL
        expr = Call("coalesce", (total, Literal(0, BIGINT))) if function == "sum" else total
        return Value(expr, over.type)
    if function == "sum":
        return Value(Aggregate("count", over.stage, over.counted), BIGINT)
    raise NotLoweredError(f"`{function}` of constants is called")


def _rounded(of: Symbol) -> Symbol:
    """Python rounds a half to the even neighbour, the language's ROUND away from zero."""
    value = _number(of, "round")
    if value.type == BIGINT:
        return value
    if value.type != DOUBLE:
        raise NotLoweredError("`round` of a field is called that is not known to be a DOUBLE")
    floor = Call("floor", (value.expr,))
    up = Call("+", (floor, Literal(1, BIGINT)))
    rest = Call("-", (value.expr, floor))
    half = Literal(0.5, DOUBLE)
    even = Call("=", (Call("%", (floor, Literal(2, BIGINT))), Literal(0, BIGINT)))
    return Value(
        Call("case", (Call("<", (rest, half)), floor, Call(">", (rest, half)), up, even, floor, up)),
        DOUBLE,
    )


def _as_float(of: Symbol) -> Symbol:
    return Value(as_double(_numeric_value(of, "float")), DOUBLE)


def _as_int(of: Symbol) -> Symbol:
    value = as_value(of)
    if value.type != BIGINT:
        raise NotLoweredError("`int` of a field is called that is not known to be a whole number")
    return value


def _numeric_value(of: Symbol, what: str) -> Value:
    value = as_value(of)
    if value.type not in (BIGINT, DOUBLE):
        raise NotLoweredError(f"`{what}` of a field is called that is not known to be a number")
    return value


def _to_bool(of: Symbol) -> Symbol:
    return Value(truth(of), BOOLEAN)


def _listed(of: Symbol) -> Symbol:
    if isinstance(of, (MatchedEvents, Generator)):
        return of
    raise NotLoweredError("a list is made")


def _iterated(of: Symbol) -> Symbol:
    if isinstance(of, MatchedEvents):
        return Iterator(of.stage)
    raise NotLoweredError("something other than the events of a stage is looped over")


def _double_function(function: str) -> Callable[[Symbol], Symbol]:
    def call(of: Symbol) -> Symbol:
        value = _numeric_value(of, function)
        if function in ("floor", "ceil", "abs"):
            return Value(Call(function, (value.expr,)), value.type)
        return Value(Call(function, (value.expr,)), DOUBLE)

    return call


_BUILTINS: tuple[tuple[Any, int, int, Callable[..., Symbol]], ...] = (
    (len, 1, 1, _length),
    (abs, 1, 1, _absolute),
    (min, 1, 99, _extreme("min", "<")),
    (max, 1, 99, _extreme("max", ">")),
    (sum, 1, 1, lambda over: _reduced("sum", over)),
    (round, 1, 1, _rounded),
    (float, 1, 1, _as_float),
    (int, 1, 1, _as_int),
    (bool, 1, 1, _to_bool),
    (list, 1, 1, _listed),
    (tuple, 1, 1, _listed),
    (iter, 1, 1, _iterated),
    (math.sqrt, 1, 1, _double_function("sqrt")),
    (math.floor, 1, 1, _double_function("floor")),
    (math.ceil, 1, 1, _double_function("ceil")),
    (math.fabs, 1, 1, _double_function("abs")),
)
"""Builtins with a twin in the language: the least and the greatest number of arguments, and what they mean."""
