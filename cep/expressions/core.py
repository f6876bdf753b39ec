"""Typed expressions in the few functions that the evaluators know: the pass before every evaluation.

The functions of the language become the machine's operations, by the names of its opcodes (``ADD``, ``LT_F``), with
scales of decimals, units of time and conversions spelled out as operations of their own:

    amount * 2 < 9.5     with amount DECIMAL(6, 2), both sides DECIMAL(8, 2)
    LT(MULTIPLY(amount, 2), 950)

Left by their own names are what the machine has no operation for: functions of text, arrays and rows. Besides there
are ``CASE``, ``IN`` (of constants), ``DISTANCE``, ``RETYPE`` (the same cell under another type), ``to_text``,
``from_text`` and ``convert``.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, reduce

from ostinato.cep.expressions.dates import DAY_MS, HOUR_MS, MINUTE_MS
from ostinato.cep.expressions.operations import fold, is_core
from ostinato.patterns.typed import Apply, Constant, Typed
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
    common_type,
)

Arguments = tuple[Typed, ...]
Rule = Callable[[DataType, Arguments], Typed]


@lru_cache(maxsize=4096)
def to_core(expr: Typed) -> Typed:
    """The expression in core functions; the type of the whole stays. ValueError for a function nobody knows.

    An expression in core functions already stays what it is.
    """
    if not isinstance(expr, Apply) or is_core(expr.function):
        return expr
    rule = _RULES.get(expr.function)
    if rule is None:
        raise ValueError(f"there is no function `{expr.function}`")
    args = tuple(to_core(arg) for arg in expr.args)
    return folded(retype(rule(expr.type, args), expr.type))


def folded(expr: Typed) -> Typed:
    """The expression with what depends on nothing computed."""
    if not isinstance(expr, Apply):
        return expr
    expr = Apply(expr.type, expr.function, tuple(folded(arg) for arg in expr.args))
    return fold(expr) if all(isinstance(arg, Constant) for arg in expr.args) else expr


def retype(expr: Typed, type_: DataType) -> Typed:
    """The same cells under another type."""
    if expr.type == type_:
        return expr
    if isinstance(expr, Constant):
        return Constant(type_, expr.value)
    if isinstance(expr, Apply):
        return Apply(type_, expr.function, expr.args)
    return Apply(type_, "RETYPE", (expr,))


def whole(value: int) -> Constant:
    return Constant(BIGINT, value)


def scale_of(type_: DataType) -> int:
    return type_.scale if isinstance(type_, Decimal) else 0


def cast(expr: Typed, target: DataType) -> Typed:
    """A value converted: NULL where the target has no such value."""
    source = expr.type
    if source == target:
        return expr
    if source == NULL:
        return Constant(target, None)
    if target == STRING:
        return Apply(STRING, "to_text", (expr,))
    if source == STRING:
        return Apply(target, "from_text", (expr,))
    if isinstance(source, (Array, Row)):
        return Apply(target, "convert", (expr,))
    if target == DOUBLE:
        return double(expr)
    if source == BOOLEAN:
        return cast(Apply(BIGINT, "FROM_BOOLEAN", (expr,)), target)
    if target == BOOLEAN:
        if source == DOUBLE:
            return Apply(BOOLEAN, "NE_F", (expr, Constant(DOUBLE, 0.0)))
        return Apply(BOOLEAN, "TO_BOOLEAN", (expr,))
    if isinstance(target, Decimal):
        if source == DOUBLE:
            unlimited: Typed = Apply(target, "UNSCALE", (expr, whole(target.scale)))
        else:
            unlimited = at_scale(expr, target.scale)
        return Apply(target, "LIMIT", (unlimited, whole(10**target.precision)))
    if source == DOUBLE:
        return Apply(target, "TRUNCATE", (expr,))
    if isinstance(source, Decimal):
        return retype(Apply(BIGINT, "DIVIDE", (expr, whole(10**source.scale))), target)
    if target == DATE and source == TIMESTAMP:
        return days(expr)
    if target == TIMESTAMP and source == DATE:
        return retype(milliseconds(expr), TIMESTAMP)
    return retype(expr, target)


def double(expr: Typed) -> Typed:
    if expr.type == DOUBLE:
        return expr
    if expr.type in (NULL, STRING):
        return cast(expr, DOUBLE)
    if isinstance(expr, Constant):
        if expr.value is None:
            return Constant(DOUBLE, None)
        return Constant(DOUBLE, float(expr.value) / float(10 ** scale_of(expr.type)))
    converted = Apply(DOUBLE, "TO_DOUBLE", (expr,))
    scale = scale_of(expr.type)
    return Apply(DOUBLE, "DIVIDE_F", (converted, Constant(DOUBLE, float(10**scale)))) if scale else converted


def at_scale(expr: Typed, scale: int) -> Typed:
    """A whole or decimal number's unscaled value at another scale."""
    digits = scale - scale_of(expr.type)
    if expr.type == NULL:
        return Constant(BIGINT, None)
    if digits == 0:
        return expr
    return Apply(Decimal(18, scale), "RESCALE", (expr, whole(digits)))


def days(expr: Typed) -> Typed:
    if expr.type == DATE:
        return expr
    return Apply(DATE, "FLOOR_DIVIDE", (expr, whole(DAY_MS)))


def milliseconds(expr: Typed) -> Typed:
    if expr.type == DATE:
        return Apply(BIGINT, "MULTIPLY", (expr, whole(DAY_MS)))
    return expr


def _arithmetic(name: str) -> Rule:
    def rule(type_: DataType, args: Arguments) -> Typed:
        left, right = args
        if type_ == DOUBLE:
            return Apply(DOUBLE, f"{name}_F", (double(left), double(right)))
        if isinstance(type_, Decimal):
            return Apply(type_, name, (at_scale(left, type_.scale), at_scale(right, type_.scale)))
        if type_ == DATE:
            # A date moves by the whole days of the interval.
            return Apply(DATE, name, tuple(arg if arg.type == DATE else days(arg) for arg in args))
        return Apply(type_, name, (milliseconds(left), milliseconds(right)))

    return rule


def _multiply(type_: DataType, args: Arguments) -> Typed:
    left, right = args
    if type_ == DOUBLE:
        return Apply(DOUBLE, "MULTIPLY_F", (double(left), double(right)))
    product = Apply(Decimal(18, scale_of(left.type) + scale_of(right.type)), "MULTIPLY", args)
    return at_scale(product, scale_of(type_))


def _divide(type_: DataType, args: Arguments) -> Typed:
    left, right = args
    if type_ == DOUBLE:
        return Apply(DOUBLE, "DIVIDE_F", (double(left), double(right)))
    if isinstance(type_, Decimal):
        return cast(Apply(DOUBLE, "DIVIDE_F", (double(left), double(right))), type_)
    return Apply(type_, "DIVIDE", args)


def _unary(name: str) -> Rule:
    def rule(type_: DataType, args: Arguments) -> Typed:
        if type_ == DOUBLE:
            return Apply(DOUBLE, f"{name}_F", (double(args[0]),))
        return at_scale(Apply(args[0].type, name, args), scale_of(type_))

    return rule


def _sign(type_: DataType, args: Arguments) -> Typed:
    if type_ == DOUBLE:
        return Apply(DOUBLE, "SIGN_F", (double(args[0]),))
    return at_scale(Apply(BIGINT, "SIGN", args), scale_of(type_))


def _whole_part(name: str) -> Rule:
    def rule(type_: DataType, args: Arguments) -> Typed:
        source = args[0].type
        if source == DOUBLE:
            return cast(Apply(DOUBLE, f"{name}_F", args), type_)
        if isinstance(source, Decimal):
            return cast(Apply(source, f"{name}_DECIMAL", (args[0], whole(source.scale))), type_)
        return cast(args[0], type_)

    return rule


def _round(type_: DataType, args: Arguments) -> Typed:
    source = args[0].type
    digits = args[1] if len(args) == 2 else whole(0)
    if source == DOUBLE:
        return cast(Apply(DOUBLE, "ROUND_F", (args[0], digits)), type_)
    packed: Typed
    if isinstance(digits, Constant):
        packed = whole(max(-64, min(64, digits.value)) * 32 + scale_of(source)) if digits.value is not None else digits
    else:
        clamped = Apply(BIGINT, "LEAST", (Apply(BIGINT, "GREATEST", (digits, whole(-64))), whole(64)))
        packed = Apply(BIGINT, "ADD", (Apply(BIGINT, "MULTIPLY", (clamped, whole(32))), whole(scale_of(source))))
    return cast(Apply(source, "ROUND_DECIMAL", (args[0], packed)), type_)


def _of_doubles(name: str) -> Rule:
    return lambda _, args: Apply(DOUBLE, name, tuple(double(arg) for arg in args))


def _alike(args: Arguments) -> Arguments:
    """The arguments in their common type (a checked expression's are, save for a bare NULL)."""
    type_: DataType = NULL
    for arg in args:
        joined = common_type(type_, arg.type)
        assert joined is not None, f"{type_} and {arg.type} have no common type"
        type_ = joined
    return tuple(cast(arg, type_) for arg in args)


def _compare(name: str, *, swapped: bool = False) -> Rule:
    def rule(_: DataType, args: Arguments) -> Typed:
        left, right = _alike(args)
        operands = (right, left) if swapped else (left, right)
        if left.type == DOUBLE:
            return Apply(BOOLEAN, f"{name}_F", operands)
        if left.type == STRING and name in ("LT", "LE"):
            return Apply(BOOLEAN, f"text_{name.lower()}", operands)
        return Apply(BOOLEAN, name, operands)

    return rule


def _negated(rule: Rule) -> Rule:
    return lambda type_, args: Apply(BOOLEAN, "NOT", (rule(type_, args),))


def _plain(name: str) -> Rule:
    return lambda type_, args: Apply(type_, name, args)


def _chain(name: str, *, by_type: bool = False) -> Rule:
    """A function of two, for as many as there are, from the left."""

    def rule(type_: DataType, args: Arguments) -> Typed:
        args = tuple(cast(arg, type_) for arg in args)
        used = name
        if by_type:
            used = f"{name}_F" if type_ == DOUBLE else (f"text_{name.lower()}" if type_ == STRING else name)
        return reduce(lambda left, right: Apply(type_, used, (left, right)), args)

    return rule


def _case(type_: DataType, args: Arguments) -> Typed:
    values = {*range(1, len(args), 2), len(args) - 1}
    return Apply(type_, "CASE", tuple(cast(arg, type_) if at in values else arg for at, arg in enumerate(args)))


def _in(_: DataType, args: Arguments) -> Typed:
    args = _alike(args)
    if all(isinstance(arg, Constant) for arg in args[1:]):
        return Apply(BOOLEAN, "IN", args)
    equal = _compare("EQ")
    return reduce(
        lambda left, right: Apply(BOOLEAN, "OR", (left, right)),
        [equal(BOOLEAN, (args[0], arg)) for arg in args[1:]],
    )


def _of_day(name: str) -> Rule:
    return lambda _, args: Apply(BIGINT, name, (days(args[0]),))


def _of_time(unit_ms: int, modulus: int | None) -> Rule:
    def rule(_: DataType, args: Arguments) -> Typed:
        units: Typed = milliseconds(args[0])
        if unit_ms > 1:
            units = Apply(BIGINT, "FLOOR_DIVIDE", (units, whole(unit_ms)))
        return Apply(BIGINT, "FLOOR_MODULO", (units, whole(modulus))) if modulus else units

    return rule


def _difference(unit_ms: int) -> Rule:
    def rule(_: DataType, args: Arguments) -> Typed:
        span = Apply(INTERVAL, "SUBTRACT", (milliseconds(args[1]), milliseconds(args[0])))
        return Apply(BIGINT, "DIVIDE", (span, whole(unit_ms)))

    return rule


def _calendar_difference(name: str) -> Rule:
    return lambda _, args: Apply(BIGINT, name, (milliseconds(args[0]), milliseconds(args[1])))


_RULES: dict[str, Rule] = {
    "+": _arithmetic("ADD"),
    "-": _arithmetic("SUBTRACT"),
    "*": _multiply,
    "/": _divide,
    "%": _arithmetic("MODULO"),
    "mod": _arithmetic("MODULO"),
    "neg": _unary("NEGATE"),
    "abs": _unary("ABSOLUTE"),
    "sign": _sign,
    "floor": _whole_part("FLOOR"),
    "ceil": _whole_part("CEIL"),
    "round": _round,
    "power": _of_doubles("POWER"),
    "sqrt": _of_doubles("SQRT"),
    "exp": _of_doubles("EXP"),
    "ln": _of_doubles("LN"),
    "distance_km": _of_doubles("DISTANCE"),
    "=": _compare("EQ"),
    "<>": _compare("NE"),
    "<": _compare("LT"),
    "<=": _compare("LE"),
    ">": _compare("LT", swapped=True),
    ">=": _compare("LE", swapped=True),
    "is_distinct_from": _compare("DISTINCT"),
    "is_not_distinct_from": _negated(_compare("DISTINCT")),
    "and": _chain("AND"),
    "or": _chain("OR"),
    "not": _plain("NOT"),
    "is_null": _plain("IS_NULL"),
    "is_not_null": _negated(_plain("IS_NULL")),
    "is_true": _plain("IS_TRUE"),
    "is_not_true": _negated(_plain("IS_TRUE")),
    "is_false": _plain("IS_FALSE"),
    "is_not_false": _negated(_plain("IS_FALSE")),
    "in": _in,
    "case": _case,
    "coalesce": _chain("COALESCE"),
    "greatest": _chain("GREATEST", by_type=True),
    "least": _chain("LEAST", by_type=True),
    "cast": lambda type_, args: cast(args[0], type_),
    "extract_year": _of_day("YEAR"),
    "extract_month": _of_day("MONTH"),
    "extract_day": _of_day("DAY"),
    "extract_dow": _of_day("DAY_OF_WEEK"),
    "extract_doy": _of_day("DAY_OF_YEAR"),
    "extract_hour": _of_time(HOUR_MS, 24),
    "extract_minute": _of_time(MINUTE_MS, 60),
    "extract_second": _of_time(1000, 60),
    "extract_millisecond": _of_time(1, 1000),
    "extract_epoch": _of_time(1000, None),
    "timestampdiff_second": _difference(1000),
    "timestampdiff_minute": _difference(MINUTE_MS),
    "timestampdiff_hour": _difference(HOUR_MS),
    "timestampdiff_day": _difference(DAY_MS),
    "timestampdiff_month": _calendar_difference("MONTHS_BETWEEN"),
    "timestampdiff_year": _calendar_difference("YEARS_BETWEEN"),
    "to_millis": lambda _, args: milliseconds(args[0]),
    "to_timestamp": lambda _, args: args[0],
    "to_date": lambda _, args: days(args[0]),
    "||": _plain("concat"),
}
_BY_OWN_NAME = (
    "like regexp regexp_extract lower upper trim ltrim rtrim substring concat char_length position replace"
    " starts_with ends_with element field cardinality"
)
_RULES.update({name: _plain(name) for name in _BY_OWN_NAME.split()})
