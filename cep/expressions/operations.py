"""The core functions on single Python values: what conditions run row by row and constants are folded with."""

from __future__ import annotations

import decimal
import math
from collections.abc import Callable
from typing import Any

from ostinato.cep.expressions import arithmetic, dates, text
from ostinato.patterns.typed import Apply, Constant, Typed
from ostinato.patterns.types import BIGINT, BOOLEAN, DOUBLE, STRING, Array, DataType, Decimal, Row

Function = Callable[..., Any]


def _checked(function: Callable[..., tuple[Any, bool]]) -> Function:
    def run(*args: Any) -> Any:
        value, null = function(*args)
        return None if null else value

    return run


def _limited(value: int, limit: int) -> int | None:
    return value if -limit < value < limit else None


def _element(values: list[Any], index: int) -> Any:
    return values[index - 1] if 1 <= index <= len(values) else None


STRICT: dict[str, Function] = {
    "EQ": lambda x, y: x == y,
    "NE": lambda x, y: x != y,
    "LT": lambda x, y: x < y,
    "LE": lambda x, y: x <= y,
    "NOT": lambda x: not x,
    "GREATEST": max,
    "LEAST": min,
    "ADD": _checked(arithmetic.add),
    "SUBTRACT": _checked(arithmetic.subtract),
    "MULTIPLY": _checked(arithmetic.multiply),
    "DIVIDE": _checked(arithmetic.divide),
    "MODULO": _checked(arithmetic.modulo),
    "NEGATE": _checked(arithmetic.negate),
    "ABSOLUTE": _checked(arithmetic.absolute),
    "SIGN": arithmetic.sign,
    "RESCALE": _checked(arithmetic.rescale),
    "FLOOR_DECIMAL": _checked(arithmetic.floor_decimal),
    "CEIL_DECIMAL": _checked(arithmetic.ceil_decimal),
    "LIMIT": _limited,
    "TRUNCATE": _checked(arithmetic.whole_number),
    "UNSCALE": _checked(arithmetic.unscaled),
    "FLOOR_DIVIDE": lambda x, y: x // y,
    "FLOOR_MODULO": lambda x, y: x % y,
    "MONTHS_BETWEEN": dates.months_between,
    "YEARS_BETWEEN": dates.years_between,
    "YEAR": dates.year,
    "MONTH": dates.month,
    "DAY": dates.day,
    "DAY_OF_WEEK": dates.day_of_week,
    "DAY_OF_YEAR": dates.day_of_year,
    "ROUND_DECIMAL": _checked(lambda x, y: arithmetic.round_decimal(x, y // 32, y % 32)),
    "TO_BOOLEAN": bool,
    "FROM_BOOLEAN": int,
    "ADD_F": lambda x, y: x + y,
    "SUBTRACT_F": lambda x, y: x - y,
    "MULTIPLY_F": lambda x, y: x * y,
    "DIVIDE_F": _checked(arithmetic.divide_double),
    "MODULO_F": _checked(arithmetic.modulo_double),
    "GREATEST_F": lambda x, y: y if y > x else x,
    "LEAST_F": lambda x, y: y if y < x else x,
    "POWER": _checked(arithmetic.power),
    "NEGATE_F": lambda x: -x,
    "ABSOLUTE_F": abs,
    "SIGN_F": arithmetic.sign_double,
    "FLOOR_F": lambda x: float(math.floor(x)) if math.isfinite(x) else x,
    "CEIL_F": lambda x: float(math.ceil(x)) if math.isfinite(x) else x,
    "SQRT": _checked(arithmetic.square_root),
    "EXP": arithmetic.exponential,
    "LN": _checked(arithmetic.logarithm),
    "ROUND_F": arithmetic.round_double,
    "TO_DOUBLE": float,
    "DISTANCE": arithmetic.distance_km,
    "RETYPE": lambda x: x,
    "element": _element,
    "field": lambda row, name: row.get(name),
    "cardinality": len,
    **text.FUNCTIONS,
}
"""Functions that are NULL where an argument is, on values that are not; None is NULL."""
STRICT.update({f"{name}_F": STRICT[name] for name in ("EQ", "NE", "LT", "LE")})


def _in(value: Any, *others: Any) -> bool | None:
    if value is None:
        return None
    if any(other is not None and value == other for other in others):
        return True
    return None if None in others else False


def _and(x: bool | None, y: bool | None) -> bool | None:
    if x is False or y is False:
        return False
    return None if x is None or y is None else True


def _or(x: bool | None, y: bool | None) -> bool | None:
    if x is True or y is True:
        return True
    return None if x is None or y is None else False


def _distinct(x: Any, y: Any) -> bool:
    return x is not y if x is None or y is None else bool(x != y)


def _case(*args: Any) -> Any:
    for at in range(0, len(args) - 1, 2):
        if args[at] is True:
            return args[at + 1]
    return args[-1]


WITH_NULLS: dict[str, Function] = {
    "AND": _and,
    "OR": _or,
    "IS_NULL": lambda x: x is None,
    "IS_TRUE": lambda x: x is True,
    "IS_FALSE": lambda x: x is False,
    "DISTINCT": _distinct,
    "DISTINCT_F": _distinct,
    "COALESCE": lambda x, y: y if x is None else x,
    "CASE": _case,
    "IN": _in,
}
"""Functions that deal with NULL themselves."""


_CONVERSIONS = ("to_text", "from_text", "convert")


def is_core(name: str) -> bool:
    """Is it a core function that has not the name of one of the language too?"""
    return name.isupper() or name.startswith("text_") or name in _CONVERSIONS


def function_of(expr: Apply) -> Function:
    """What computes a core function from the physical values of its arguments, None being NULL."""
    name = expr.function
    if name in WITH_NULLS:
        return WITH_NULLS[name]
    if name in _CONVERSIONS:
        source, target = expr.args[0].type, expr.type
        return _strict(lambda value: convert(value, source, target))
    return _strict(STRICT[name])


def _strict(function: Function) -> Function:
    def run(*args: Any) -> Any:
        return None if None in args else function(*args)

    return run


def convert(value: Any, source: DataType, target: DataType) -> Any:
    """CAST of one physical value between any two types."""
    if value is None or source == target:
        return value
    if target == STRING:
        return text.to_text(value, source)
    if source == STRING:
        return text.from_text(value, target)
    if isinstance(source, Array) and isinstance(target, Array):
        return [convert(item, source.element, target.element) for item in value]
    if isinstance(source, Row) and isinstance(target, Row):
        pairs = zip(source.fields, target.fields, strict=True)
        return {name: convert(value.get(old), before, after) for (old, before), (name, after) in pairs}
    from ostinato.cep.expressions.core import cast

    return fold(cast(Constant(source, value), target)).value


def fold(expr: Typed) -> Constant:
    """The value of a core expression of constants alone."""
    if isinstance(expr, Constant):
        return expr
    assert isinstance(expr, Apply), f"{expr} is no constant"
    return Constant(expr.type, function_of(expr)(*(fold(arg).value for arg in expr.args)))


def from_python(value: Any, type_: DataType) -> Any:
    """The physical value for what a Python function returned."""
    if value is None:
        return None
    if type_ == BOOLEAN:
        return bool(value)
    if isinstance(type_, Decimal):
        scaled = decimal.Decimal(str(value)).scaleb(type_.scale).to_integral_value(decimal.ROUND_HALF_UP)
        return _limited(int(scaled), 10**type_.precision)
    if type_ == DOUBLE:
        return float(value)
    if type_ == STRING:
        return str(value)
    if isinstance(type_, Array):
        return [from_python(item, type_.element) for item in value]
    if isinstance(type_, Row):
        return {name: from_python(value[name], field) for name, field in type_.fields}
    if type_ == BIGINT and isinstance(value, float) and not math.isfinite(value):
        return None
    return int(value)
