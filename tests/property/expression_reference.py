"""The meaning of typed expressions, spelled out on Python's own unbounded and exact values, one row at a time.

Nothing here is taken from the engine: decimals are fractions, times datetimes, BIGINT is Python's int with a check of
its range at the end.
"""

from __future__ import annotations

import datetime
import math
import re
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from typing import Any

from ostinato.patterns.typed import Apply, Constant, Current, Matched, Typed
from ostinato.patterns.types import BIGINT, BOOLEAN, DATE, DOUBLE, STRING, TIMESTAMP, DataType, Decimal

Row = Mapping[str, Any]
DAY = 86_400_000


def value_of(expr: Typed, row: Row, matched: Mapping[str, Sequence[Row]] | None = None) -> Any:
    """The physical value of an expression for a row of physical values, None being NULL."""
    if isinstance(expr, Constant):
        return expr.value
    if isinstance(expr, Current):
        return row[expr.name]
    if isinstance(expr, Matched):
        return _aggregate(expr, list((matched or {}).get(expr.stage, ())))
    assert isinstance(expr, Apply)
    args = [value_of(arg, row, matched) for arg in expr.args]
    return _apply(expr, args)


def _aggregate(expr: Matched, rows: list[Row]) -> Any:
    if expr.name is None:
        return len(rows)
    if expr.function in ("first", "last"):
        ordered = rows if expr.function == "first" else rows[::-1]
        return ordered[expr.offset][expr.name] if expr.offset < len(ordered) else None
    values = [row[expr.name] for row in rows if row[expr.name] is not None]
    if expr.function == "count":
        return len(values)
    if not values:
        return None
    if expr.function in ("min", "max"):
        best = values[0]
        for value in values:
            if before(value, best) if expr.function == "min" else before(best, value):
                best = value
        return best
    total: Any = 0
    for value in values:
        total = total + value
    if expr.function == "sum":
        return total if isinstance(total, float) else in_range(total)
    scale = 2 if expr.name in ("m", "n") else 0
    return total / len(values) if isinstance(total, float) else float(Fraction(total, len(values) * 10**scale))


def in_range(value: int) -> int | None:
    return value if -(2**63) <= value < 2**63 else None


def before(left: Any, right: Any) -> bool:
    if isinstance(left, str):
        return bool(left.encode("utf-16-be", "surrogatepass") < right.encode("utf-16-be", "surrogatepass"))
    return bool(left < right)


def _apply(expr: Apply, args: list[Any]) -> Any:
    name = expr.function
    if name in _WITH_NULLS:
        return _WITH_NULLS[name](*args)
    if None in args:
        return None
    types = [arg.type for arg in expr.args]
    if name == "cast":
        return _cast(args[0], types[0], expr.type)
    if isinstance(expr.type, Decimal) or (types and isinstance(types[0], Decimal)):
        found = _decimal(name, args, types, expr.type)
        if found is not NotImplemented:
            return found
    if types and types[0] == DOUBLE and name in _DOUBLES:
        return _DOUBLES[name](*args)
    return _PLAIN[name](*args)


def _and(*args: Any) -> Any:
    return False if False in args else None if None in args else True


def _or(*args: Any) -> Any:
    return True if True in args else None if None in args else False


def _case(*args: Any) -> Any:
    pairs = zip(args[:-1:2], args[1:-1:2], strict=True)
    return next((value for condition, value in pairs if condition), args[-1])


_WITH_NULLS: dict[str, Callable[..., Any]] = {
    "and": _and,
    "or": _or,
    "case": _case,
    "is_null": lambda x: x is None,
    "is_not_null": lambda x: x is not None,
    "is_true": lambda x: x is True,
    "is_not_true": lambda x: x is not True,
    "is_false": lambda x: x is False,
    "is_not_false": lambda x: x is not False,
    "coalesce": lambda *args: next((arg for arg in args if arg is not None), None),
    "is_distinct_from": lambda x, y: (x is None) != (y is None) or (x is not None and x != y),
    "is_not_distinct_from": lambda x, y: (x is None) == (y is None) and (x is None or x == y),
    "in": lambda x, *rest: None if x is None else _or(*(None if y is None else x == y for y in rest)),
}


def half_away(value: Fraction) -> int:
    whole = math.floor(abs(value) + Fraction(1, 2))
    return whole if value >= 0 else -whole


def truncated(x: int, y: int) -> int:
    return math.trunc(Fraction(x, y))


def _unscaled(value: Fraction, type_: DataType) -> int | None:
    assert isinstance(type_, Decimal)
    return in_range(half_away(value * 10**type_.scale))


def _decimal(name: str, args: list[Any], types: list[DataType], type_: DataType) -> Any:
    exact = [
        Fraction(arg, 10 ** (source.scale if isinstance(source, Decimal) else 0)) if source != STRING else arg
        for arg, source in zip(args, types, strict=True)
    ]
    if name == "+":
        return _unscaled(exact[0] + exact[1], type_)
    if name == "-":
        return _unscaled(exact[0] - exact[1], type_)
    if name == "*":
        return _unscaled(exact[0] * exact[1], type_)
    if name == "/":
        return None if exact[1] == 0 else float(exact[0]) / float(exact[1])
    if name == "%":
        return None if exact[1] == 0 else _unscaled(exact[0] - exact[1] * math.trunc(exact[0] / exact[1]), type_)
    if name == "neg":
        return _unscaled(-exact[0], type_)
    if name == "abs":
        return _unscaled(abs(exact[0]), type_)
    if name == "floor":
        return _unscaled(Fraction(math.floor(exact[0])), type_)
    if name == "round":
        digits = args[1] if len(args) > 1 else 0
        unit = Fraction(10) ** -digits
        return _unscaled(half_away(exact[0] / unit) * unit, type_)
    return NotImplemented


def _limited(value: int | None, type_: DataType) -> int | None:
    assert isinstance(type_, Decimal)
    return value if value is not None and abs(value) < 10**type_.precision else None


def _cast(value: Any, source: DataType, target: DataType) -> Any:
    if source == target:
        return value
    if isinstance(target, Decimal):
        if source == DOUBLE:
            scaled = value * 10**target.scale
            if not math.isfinite(scaled):
                return None
            return _limited(half_away(Fraction(scaled)), target)
        scale = source.scale if isinstance(source, Decimal) else 0
        return _limited(half_away(Fraction(value, 10**scale) * 10**target.scale), target)
    if target == DOUBLE:
        return float(Fraction(value, 10**source.scale)) if isinstance(source, Decimal) else float(value)
    if target == BIGINT:
        if source == STRING:
            text = value.strip()
            return in_range(int(text)) if re.fullmatch("[+-]?[0-9]+", text) else None
        if source == DOUBLE:
            return in_range(math.trunc(value)) if math.isfinite(value) else None
        return math.trunc(Fraction(value, 10**source.scale)) if isinstance(source, Decimal) else int(value)
    if target == STRING:
        assert source == BIGINT
        return str(value)
    if (source, target) == (TIMESTAMP, DATE):
        return value // DAY
    if (source, target) == (DATE, TIMESTAMP):
        return in_range(value * DAY)
    assert (source, target) == (BIGINT, BOOLEAN), (source, target)
    return value != 0


def _date(days: int) -> datetime.date:
    """A date of the same place in the 400 years after which the calendar repeats."""
    return datetime.date(2000, 1, 1) + datetime.timedelta(days=(days - 10_957) % 146_097)


def _year(days: int) -> int:
    return _date(days).year + (days - 10_957) // 146_097 * 400


def _months(start: int, end: int) -> int:
    if end < start:
        return -_months_forward(end, start, backward=True)
    return _months_forward(start, end, backward=False)


def _months_forward(start: int, end: int, *, backward: bool) -> int:
    first, last = _date(start // DAY), _date(end // DAY)
    months = (_year(end // DAY) - _year(start // DAY)) * 12 + last.month - first.month
    short = (last.day, end % DAY) < (first.day, start % DAY)
    return months - 1 if months > 0 and short else months


def _substring(text: str, start: int, length: int | None = None) -> str | None:
    if length is not None and length < 0:
        return None
    begin = start - 1 if start > 0 else 0 if start == 0 else len(text) + start
    if begin < 0:
        return ""
    characters = list(text)[begin:]
    return "".join(characters if length is None else characters[:length])


def _like(text: str, pattern: str) -> bool:
    if not pattern:
        return not text
    if pattern[0] == "%":
        return any(_like(text[at:], pattern[1:]) for at in range(len(text) + 1))
    return bool(text) and pattern[0] in ("_", text[0]) and _like(text[1:], pattern[1:])


def _divide(x: int, y: int) -> int | None:
    return None if y == 0 else in_range(truncated(x, y))


_DOUBLES: dict[str, Callable[..., Any]] = {
    "+": lambda x, y: x + y,
    "-": lambda x, y: x - y,
    "*": lambda x, y: x * y,
    "/": lambda x, y: None if y == 0 else x / y,
    "%": lambda x, y: None if y == 0 else math.fmod(x, y) if math.isfinite(x) and not math.isnan(y) else math.nan,
    "neg": lambda x: -x,
    "abs": abs,
    "sign": lambda x: x if math.isnan(x) else float((x > 0) - (x < 0)),
    "floor": lambda x: float(math.floor(x)) if math.isfinite(x) else x,
    "ceil": lambda x: float(math.ceil(x)) if math.isfinite(x) else x,
    "round": lambda x: x if not math.isfinite(x) or abs(x) > 2**60 else float(half_away(Fraction(x))),
    "sqrt": lambda x: None if x < 0 else math.sqrt(x),
}

_PLAIN: dict[str, Callable[..., Any]] = {
    "+": lambda x, y: in_range(x + y),
    "-": lambda x, y: in_range(x - y),
    "*": lambda x, y: in_range(x * y),
    "/": _divide,
    "%": lambda x, y: None if y == 0 else x - y * truncated(x, y),
    "neg": lambda x: in_range(-x),
    "abs": lambda x: in_range(abs(x)),
    "sign": lambda x: (x > 0) - (x < 0),
    "floor": lambda x: x,
    "round": lambda x, n=0: in_range(half_away(Fraction(x) / Fraction(10) ** -n) * 10**-n) if n < 0 else x,
    "=": lambda x, y: x == y,
    "<>": lambda x, y: x != y,
    "<": before,
    ">": lambda x, y: before(y, x),
    "<=": lambda x, y: x == y or before(x, y),
    ">=": lambda x, y: x == y or before(y, x),
    "not": lambda x: not x,
    "greatest": lambda *args: _best(args, lambda x, y: before(y, x)),
    "least": lambda *args: _best(args, before),
    "lower": str.lower,
    "upper": str.upper,
    "trim": lambda text: re.sub("^ +| +$", "", text),
    "concat": lambda *args: "".join(args),
    "||": lambda x, y: x + y,
    "substring": _substring,
    "replace": lambda text, old, new: new.join(text.split(old)) if old else text,
    "char_length": len,
    "position": lambda needle, text: 1 + text.find(needle),
    "starts_with": lambda text, start: text[: len(start)] == start,
    "ends_with": lambda text, end: end == "" or text[-len(end) :] == end,
    "like": _like,
    "regexp": lambda text, pattern: re.search(pattern, text) is not None,
    "extract_year": lambda time: _year(time // DAY),
    "extract_month": lambda time: _date(time // DAY).month,
    "extract_day": lambda time: _date(time // DAY).day,
    "extract_doy": lambda time: _date(time // DAY).timetuple().tm_yday,
    "extract_dow": lambda time: _date(time // DAY).isoweekday(),
    "extract_hour": lambda time: time % DAY // 3_600_000,
    "extract_minute": lambda time: time % 3_600_000 // 60_000,
    "extract_second": lambda time: time % 60_000 // 1000,
    "extract_millisecond": lambda time: time % 1000,
    "extract_epoch": lambda time: time // 1000,
    "timestampdiff_minute": lambda start, end: _span(start, end, 60_000),
    "timestampdiff_day": lambda start, end: _span(start, end, DAY),
    "timestampdiff_month": _months,
    "timestampdiff_year": lambda start, end: math.trunc(Fraction(_months(start, end), 12)),
    "to_millis": lambda time: time,
    "to_date": lambda time: time // DAY,
}


def _span(start: int, end: int, unit: int) -> int | None:
    return None if in_range(end - start) is None else truncated(end - start, unit)


def _best(values: Sequence[Any], better: Callable[[Any, Any], bool]) -> Any:
    best = values[0]
    for value in values[1:]:
        if better(value, best):
            best = value
    return best
