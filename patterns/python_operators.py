"""Python's operators on symbols: what expression of the language means the same.

The promise: wherever Python gives an answer, the expression gives the same one. Where Python would raise (a missing
field in an order comparison, a division by zero) SQL's NULL comes out, and a condition is then not fulfilled. Whole
numbers are 64 bits wide, and are turned into doubles where they meet one.
"""

from __future__ import annotations

import datetime as dt
import operator
from collections.abc import Callable, Iterable
from decimal import Decimal as PythonDecimal
from typing import Any

from ostinato.patterns.ast import Aggregate, Call, Expr, Literal
from ostinato.patterns.constants import literal_of
from ostinato.patterns.symbolic import (
    FALSE,
    TRUE,
    Choice,
    Constant,
    EachField,
    EachIsNotNone,
    EventInHand,
    Items,
    Known,
    MatchedEvent,
    MatchedEvents,
    NotLoweredError,
    OnlyEvent,
    Raises,
    Symbol,
    Value,
    both,
    choice,
    decided,
    either,
    negation,
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
    is_numeric,
)

_MOST_MEMBERS = 1_000
"""A longer list behind ``in`` is left to Python, whose set is then faster than a chain of comparisons."""

_FIRST_SURROGATE = "\ud800"
"""Below it, code points (Python's order of text) and UTF-16 units (the language's order) are the same."""

_PYTHON: dict[str, Callable[[Any, Any], Any]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
    "//": operator.floordiv,
    "%": operator.mod,
    "**": operator.pow,
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_PLAIN = (bool, int, float, str, PythonDecimal, dt.date, dt.timedelta, type(None))
"""Constants that cannot change, so that what is computed of them now is right for ever."""


def spread(function: Callable[..., Symbol], *operands: Symbol) -> Symbol:
    """The function of the operands; of a choice, the choice of the functions of both."""
    for index, operand in enumerate(operands):
        if isinstance(operand, Known):
            return spread(function, *operands[:index], operand.value, *operands[index + 1 :])
        if isinstance(operand, Raises):
            return operand
        if isinstance(operand, Choice):
            sides = (
                spread(function, *operands[:index], side, *operands[index + 1 :])
                for side in (operand.then, operand.other)
            )
            return choice(operand.condition, *sides)
    return function(*operands)


def as_value(symbol: Symbol) -> Value:
    """The symbol as an expression.

    Raises:
        NotLoweredError: it is not a value of the language.
    """
    if isinstance(symbol, Value):
        return symbol
    if isinstance(symbol, Constant):
        literal = literal_of(symbol.value)
        if literal is None:
            raise NotLoweredError(f"the language has no constant for {_shown(symbol.value)}")
        return Value(literal, literal.type)
    if isinstance(symbol, Known):
        return as_value(symbol.value)
    if isinstance(symbol, Choice):
        then, other = as_value(symbol.then), as_value(symbol.other)
        if BOOLEAN == then.type == other.type:
            return Value(decided(symbol.condition, truth(then), truth(other)), BOOLEAN)
        return Value(Call("case", (symbol.condition, then.expr, other.expr)), _joined_type(then, other))
    raise NotLoweredError(f"{_described(symbol)} is used as a value")


def _joined_type(then: Value, other: Value) -> DataType | None:
    if then.type == other.type or other.type == NULL:
        return then.type
    if then.type == NULL:
        return other.type
    if then.type is None or other.type is None:
        return None
    if {then.type, other.type} == {BIGINT, DOUBLE}:
        return DOUBLE
    raise NotLoweredError(f"a conditional gives {then.type} in one case and {other.type} in the other")


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _described(symbol: Symbol) -> str:
    if isinstance(symbol, EventInHand):
        return "the event itself"
    if isinstance(symbol, MatchedEvents):
        return f"the list of events of `{symbol.stage}`"
    if isinstance(symbol, (MatchedEvent, OnlyEvent)):
        return f"an event of `{symbol.stage}` itself"
    if isinstance(symbol, Items):
        return f"a {symbol.kind}"
    return f"a {type(symbol).__name__.lower()}"


# ---------------------------------------------------------------------------------------------
# truth


def truth(symbol: Symbol) -> Expr:
    """Is it true to Python? The condition in exact form.

    Raises:
        NotLoweredError: that depends on a type that is not known.
    """
    match symbol:
        case Known():
            return TRUE if symbol.truth else FALSE
        case Choice():
            return decided(symbol.condition, truth(symbol.then), truth(symbol.other))
        case Constant():
            return TRUE if symbol.value else FALSE
        case MatchedEvents() | OnlyEvent():
            return Call("is_distinct_from", (Aggregate("count", symbol.stage), Literal(0, BIGINT)))
        case EventInHand() | MatchedEvent():
            return TRUE
        case Items():
            return TRUE if symbol.values else FALSE
        case Value():
            return _truth_of_value(symbol)
        case Raises():
            raise NotLoweredError("it raises for every event")
    raise NotLoweredError(f"the truth of {_described(symbol)} is used")


def _truth_of_value(value: Value) -> Expr:
    expr, type_ = value.expr, value.type
    if type_ == BOOLEAN:
        nullable = not isinstance(expr, (Call, Literal)) or _function(expr) in ("field", "element", "case")
        return Call("is_true", (expr,)) if nullable else expr
    if type_ is None:
        raise NotLoweredError(
            "the truth of a field of unknown type is used; compare it, or give the stream's declaration"
        )
    if type_ in (BIGINT, DOUBLE, TIMESTAMP, INTERVAL) or isinstance(type_, Decimal):
        return Call("is_true", (Call("<>", (_plain_number(value).expr, Literal(0, BIGINT))),))
    if type_ == STRING:
        return Call("is_true", (Call("<>", (expr, Literal("", STRING))),))
    if isinstance(type_, Array):
        return Call("is_true", (Call(">", (Call("cardinality", (expr,)), Literal(0, BIGINT))),))
    raise NotLoweredError(f"the truth of a {type_} is used")


def _function(expr: Expr) -> str | None:
    return expr.function if isinstance(expr, Call) else None


def logical_not(symbol: Symbol) -> Symbol:
    return Value(negation(truth(symbol)), BOOLEAN)


# ---------------------------------------------------------------------------------------------
# comparison


def compare(symbol: str, left: Symbol, right: Symbol) -> Symbol:
    """``left <symbol> right``."""
    return spread(lambda a, b: _compare(symbol, a, b), left, right)


def _compare(symbol: str, left: Symbol, right: Symbol) -> Symbol:
    if isinstance(left, Constant) and isinstance(right, Constant):
        return _computed(symbol, left.value, right.value)
    for one, two in ((left, right), (right, left)):
        if isinstance(one, Constant) and one.value is None:
            if symbol not in ("==", "!="):
                return Raises()
            return is_none(two, symbol == "!=")
    a, b = _alike(as_value(left), as_value(right), f"`{symbol}`")
    if symbol in ("==", "!="):
        a, b = _unsigned(a, b), _unsigned(b, a)
        name = "is_not_distinct_from" if symbol == "==" else "is_distinct_from"
        return Value(Call(name, (a.expr, b.expr)), BOOLEAN)
    _check_order(a, b)
    return Value(Call(symbol, (a.expr, b.expr)), BOOLEAN)


def _unsigned(side: Value, other: Value) -> Value:
    """A remainder that is compared with zero needs no care for its sign."""
    if isinstance(other.expr, Literal) and other.expr.value == 0 and _function(side.expr) == "case":
        assert isinstance(side.expr, Call)
        plain = side.expr.args[-1]
        if _function(plain) == "%" and side.expr.args[1] == Call("+", (plain, plain.args[1])):  # type: ignore[union-attr]
            return Value(plain, side.type)
    return side


def _check_order(left: Value, right: Value) -> None:
    if STRING in (left.type, right.type):
        constants = [side.expr.value for side in (left, right) if isinstance(side.expr, Literal)]
        if not any(max(text, default="") < _FIRST_SURROGATE for text in constants):
            raise NotLoweredError(
                "two texts are put in order, which Python does by code point and the language by UTF-16 unit"
            )
    if BOOLEAN in (left.type, right.type):
        raise NotLoweredError("truth values are put in order")


def _alike(left: Value, right: Value, what: str) -> tuple[Value, Value]:
    """Both sides in a form that SQL compares or computes with as Python does.

    Raises:
        NotLoweredError: their kinds are different, so that Python's answer does not depend on their values.
    """
    times = (TIMESTAMP, INTERVAL, DATE)
    if left.type in times and left.type == right.type:
        return left, right
    left, right = _plain_number(left), _plain_number(right)
    one, two = left.type, right.type
    if one is None or two is None:
        if isinstance(one or two, (Array, Row)):
            raise NotLoweredError(f"a {one or two} stands beside {what}")
        return left, right
    if one in times or two in times or isinstance(one, (Array, Row)) or isinstance(two, (Array, Row)):
        raise NotLoweredError(f"{one} and {two} stand beside {what}")
    if one != two and not (is_numeric(one) and is_numeric(two)):
        raise NotLoweredError(f"{one} and {two} stand beside {what}")
    if DOUBLE in (one, two) and (isinstance(one, Decimal) or isinstance(two, Decimal)):
        raise NotLoweredError(f"{one} and {two} stand beside {what}: Python does not round there, the language does")
    return left, right


def _plain_number(value: Value) -> Value:
    """A time as Python sees it in an event: whole milliseconds."""
    if value.type in (TIMESTAMP, INTERVAL) and not isinstance(value.expr, Literal):
        return Value(Call("to_millis", (value.expr,)), BIGINT)
    return value


def _computed(symbol: str, left: Any, right: Any) -> Symbol:
    if not isinstance(left, _PLAIN) or not isinstance(right, _PLAIN):
        raise NotLoweredError(f"{_shown(left)} {symbol} {_shown(right)} is computed for every event")
    try:
        return Constant(_PYTHON[symbol](left, right))
    except Exception:  # noqa: BLE001 # whatever Python raises here it would raise for every event
        return Raises()


def is_none(symbol: Symbol, negated: bool) -> Symbol:
    """``symbol is None``, or ``is not None``."""

    def test(operand: Symbol) -> Symbol:
        if isinstance(operand, Constant):
            return Constant((operand.value is None) is not negated)
        if isinstance(operand, Value):
            return Value(Call("is_not_null" if negated else "is_null", (operand.expr,)), BOOLEAN)
        if isinstance(operand, OnlyEvent):
            present = truth(operand)
            return Value(present if negated else negation(present), BOOLEAN)
        if isinstance(operand, EachField):
            return EachIsNotNone(operand.stage, operand.field, not negated)
        return Constant(negated)

    return spread(test, symbol)


def same(left: Symbol, right: Symbol, negated: bool) -> Symbol:
    """``left is right``."""
    for one, two in ((left, right), (right, left)):
        if isinstance(one, Constant) and one.value is None:
            return is_none(two, negated)
    raise NotLoweredError("`is` is used with something other than None")


def contains(member: Symbol, container: Symbol, negated: bool) -> Symbol:
    """``member in container``."""

    def test(item: Symbol, box: Symbol) -> Symbol:
        if isinstance(box, Items) and box.kind != "dict":
            tests = (truth(compare("==", item, each)) for each in box.values)
            found = FALSE
            for each in tests:
                found = either(found, each)
            return Value(found, BOOLEAN)
        if isinstance(box, Constant) and not isinstance(box.value, str):
            return Value(_in_constant(item, box.value), BOOLEAN)
        return _in_text(item, box)

    found = spread(test, member, container)
    return logical_not(found) if negated else found


def _in_constant(item: Symbol, box: Any) -> Expr:
    if not isinstance(box, (tuple, list, set, frozenset, dict, range)):
        raise NotLoweredError(f"`in` is used with {_shown(box)}")
    if len(box) > _MOST_MEMBERS:
        raise NotLoweredError(f"`in` is used with {len(box)} members")
    members: Iterable[Any] = box
    if isinstance(box, (set, frozenset)):
        members = sorted(box, key=lambda member: (str(type(member)), str(member)))
    if isinstance(item, Constant):
        return TRUE if item.value in box else FALSE
    found = FALSE
    literals: list[Expr] = []
    value = as_value(item)
    for member in members:
        if member is None:
            found = Call("is_null", (value.expr,))
            continue
        value, other = _alike(value, as_value(Constant(member)), "`in`")
        literals.append(other.expr)
    kinds = {literal.type for literal in literals if isinstance(literal, Literal)}
    if len(kinds) > 1 and not kinds <= {BIGINT, DOUBLE}:
        raise NotLoweredError("`in` is used with members of several types")
    if literals:
        found = either(found, Call("is_true", (Call("in", (value.expr, *literals)),)))
    return found


def _in_text(item: Symbol, box: Symbol) -> Symbol:
    text, part = as_value(box), as_value(item)
    if text.type != STRING or part.type not in (STRING, None):
        raise NotLoweredError("`in` is used with a field that is not known to be text")
    if isinstance(part.expr, Literal) and part.expr.value == "":
        return Constant(True)
    return Value(Call(">", (Call("position", (part.expr, text.expr)), Literal(0, BIGINT))), BOOLEAN)


# ---------------------------------------------------------------------------------------------
# arithmetic


def arithmetic(symbol: str, left: Symbol, right: Symbol) -> Symbol:
    """``left <symbol> right`` for ``+ - * / // % ** & |``; an assignment such as ``+=`` means the same."""
    symbol = symbol.removesuffix("=")
    return spread(lambda a, b: _arithmetic(symbol, a, b), left, right)


def _arithmetic(symbol: str, left: Symbol, right: Symbol) -> Symbol:
    if isinstance(left, Constant) and isinstance(right, Constant):
        texts = sum(isinstance(side.value, str) for side in (left, right))
        if symbol not in _PYTHON or texts == 1 or (texts == 2 and symbol != "+"):
            raise NotLoweredError(f"{_shown(left.value)} {symbol} {_shown(right.value)} is computed for every event")
        return _computed(symbol, left.value, right.value)
    a, b = as_value(left), as_value(right)
    if symbol in ("&", "|") and BOOLEAN == a.type == b.type:
        join = both if symbol == "&" else either
        return Value(join(truth(a), truth(b)), BOOLEAN)
    if TIMESTAMP == a.type == b.type and symbol == "-":
        return Value(Call("-", (a.expr, b.expr)), INTERVAL)
    if symbol == "+" and STRING in (a.type, b.type):
        if not {a.type, b.type} <= {STRING, None}:
            raise NotLoweredError("text is added to something else")
        return Value(Call("||", (a.expr, b.expr)), STRING)
    a, b = _alike(_plain_number(a), _plain_number(b), f"`{symbol}`")
    for side in (a, b):
        if side.type is not None and not is_numeric(side.type):
            raise NotLoweredError(f"{side.type} is computed with")
    return _numeric(symbol, a, b)


def _numeric(symbol: str, a: Value, b: Value) -> Symbol:
    exact = isinstance(a.type, Decimal) or isinstance(b.type, Decimal)
    if symbol in ("+", "-", "*"):
        if exact:
            raise NotLoweredError("decimals are computed with, which Python does with other digits")
        return Value(Call(symbol, (a.expr, b.expr)), number_type(a, b))
    if exact:
        raise NotLoweredError("decimals are divided, which Python does with other digits")
    if symbol == "/":
        return Value(Call("/", (as_double(a) if b.type != DOUBLE else a.expr, b.expr)), DOUBLE)
    if symbol == "%":
        return _remainder(a, b)
    if symbol == "//" and BIGINT == a.type == b.type:
        whole = Call("-", (a.expr, as_value(_remainder(a, b)).expr))
        return Value(Call("/", (whole, b.expr)), BIGINT)
    if symbol == "**" and a.type == BIGINT and isinstance(b.expr, Literal) and b.expr.value in (2, 3):
        square = Call("*", (a.expr, a.expr))
        return Value(square if b.expr.value == 2 else Call("*", (square, a.expr)), BIGINT)
    raise NotLoweredError(f"`{symbol}` is used with {a.type or 'an unknown type'} and {b.type or 'an unknown type'}")


def number_type(a: Value, b: Value) -> DataType | None:
    if DOUBLE in (a.type, b.type):
        return DOUBLE
    return BIGINT if BIGINT == a.type == b.type else None


def as_double(value: Value) -> Expr:
    if value.type == DOUBLE:
        return value.expr
    if isinstance(value.expr, Literal):
        return Literal(float(value.expr.value), DOUBLE)
    return Call("cast", (value.expr, Literal(None, DOUBLE)))


def _remainder(a: Value, b: Value) -> Symbol:
    """Python's remainder has the divisor's sign, SQL's the dividend's."""
    if isinstance(a.expr, Literal) and a.type == STRING:
        raise NotLoweredError("text is formatted with `%`")
    plain = Call("%", (a.expr, b.expr))
    zero = Literal(0, BIGINT)
    turned = Call("+", (plain, b.expr))
    if isinstance(b.expr, Literal) and b.expr.value > 0:
        wrong = Call("<", (plain, zero))
    else:
        signs = [Call("<", (side, zero)) for side in (plain, b.expr)]
        wrong = Call("and", (Call("<>", (plain, zero)), Call("<>", tuple(signs))))
    return Value(Call("case", (wrong, turned, plain)), number_type(a, b))


def negative(symbol: Symbol) -> Symbol:
    """``-symbol``."""

    def change(operand: Symbol) -> Symbol:
        if isinstance(operand, Constant):
            return _computed("-", 0, operand.value) if operand.value != 0 else operand
        value = _plain_number(as_value(operand))
        if value.type is not None and not is_numeric(value.type):
            raise NotLoweredError(f"{value.type} is negated")
        return Value(Call("neg", (value.expr,)), value.type)

    return spread(change, symbol)
