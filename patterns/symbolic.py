"""What a Python name or value stands for while `lowering.py` reads a function, and the logic of two truth values.

Python's ``==`` and truth know no third value, SQL's do. Conditions are therefore kept in an *exact* form while they are
put together: ``IS [NOT] DISTINCT FROM`` for ``==`` and ``!=``, ``IS TRUE`` around whatever else may be NULL. At the end
`relaxed` turns them into plain SQL wherever NULL and FALSE come to the same, which is everywhere but below a NOT.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from ostinato.patterns.ast import Aggregate, Call, Expr, Literal
from ostinato.patterns.types import BOOLEAN, DataType


class NotLoweredError(Exception):
    """The function, or a part of it, has to be left to Python; the message says why."""


# ---------------------------------------------------------------------------------------------
# symbolic values


@dataclass(frozen=True, slots=True)
class Value:
    """An expression of the language, with its type where that is known."""

    expr: Expr
    type: DataType | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Constant:
    """A Python object known now: a literal, something captured, a global, a builtin."""

    value: Any

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Constant) and _identity(self.value) == _identity(other.value)

    def __hash__(self) -> int:
        return hash(_identity(self.value))


def _identity(value: Any) -> tuple[Any, ...]:
    """What makes two constants the same; 1, 1.0 and True are three."""
    if value is None or type(value) in (bool, int, float, str):
        return type(value), value
    return type(value), id(value)


@dataclass(frozen=True, slots=True)
class EventInHand:
    """The function's first argument."""


@dataclass(frozen=True, slots=True)
class Context:
    """The function's second argument."""


@dataclass(frozen=True, slots=True)
class MatchArgument:
    """The argument of a result function: a whole match of the pattern `name`, with its key columns, its stages, and
    those of them that are given as one event."""

    name: str
    keys: tuple[str, ...]
    stages: frozenset[str]
    single: frozenset[str]


@dataclass(frozen=True, slots=True)
class OnlyEvent:
    """The event of a stage that takes one at most, or None."""

    stage: str


@dataclass(frozen=True, slots=True)
class MatchedEvents:
    """The list of events matched for a stage."""

    stage: str


@dataclass(frozen=True, slots=True)
class MatchedEvent:
    """One of them: `function` is first or last, `offset` counts from there."""

    stage: str
    function: str
    offset: int


@dataclass(frozen=True, slots=True)
class EachEvent:
    """The loop's event in ``... for x in ctx.get_events_for_pattern(stage)``."""

    stage: str


@dataclass(frozen=True, slots=True)
class EachField:
    """A field of it."""

    stage: str
    field: str
    type: DataType | None = None


@dataclass(frozen=True, slots=True)
class EachIsNotNone:
    """The only filter of such a loop that the language can express."""

    stage: str
    field: str
    negated: bool = False


@dataclass(frozen=True, slots=True)
class Iterator:
    """``iter(...)`` of the events of a stage."""

    stage: str


@dataclass(frozen=True, slots=True)
class Generator:
    """What a loop over the events of a stage yields: a field of each, or 1 for each (`field` None); or, with a field in
    `counted`, 1 for each whose field is not None."""

    stage: str
    field: str | None
    counted: str | None = None
    type: DataType | None = None


@dataclass(frozen=True, slots=True)
class Method:
    """A method about to be called."""

    owner: Symbol
    name: str


@dataclass(frozen=True, slots=True)
class Function:
    """A function made on the way, and what it captured."""

    code: Any
    captured: tuple[Symbol, ...] = ()


@dataclass(frozen=True, slots=True)
class Items:
    """A tuple, list or set put together from values; or, with `keys`, a dict."""

    kind: str
    values: tuple[Symbol, ...]
    keys: tuple[Any, ...] = ()


@dataclass(frozen=True, slots=True)
class Known:
    """A value whose truth is known here, because a branch was taken on it."""

    value: Symbol
    truth: bool


@dataclass(frozen=True, slots=True)
class Choice:
    """One of two values, by a condition."""

    condition: Expr
    then: Symbol
    other: Symbol


@dataclass(frozen=True, slots=True)
class Empty:
    """The empty slot beside a callable on the stack."""


@dataclass(frozen=True, slots=True)
class Raises:
    """Python raises here, so that any value will do."""


Symbol: TypeAlias = (
    Value
    | Constant
    | EventInHand
    | Context
    | MatchArgument
    | OnlyEvent
    | MatchedEvents
    | MatchedEvent
    | EachEvent
    | EachField
    | EachIsNotNone
    | Iterator
    | Generator
    | Method
    | Function
    | Items
    | Known
    | Choice
    | Empty
    | Raises
)


def choice(condition: Expr, then: Symbol, other: Symbol) -> Symbol:
    """``then if condition else other``, with neighbouring choices that lead to the same merged."""
    if condition == TRUE or then == other or isinstance(other, Raises):
        return then
    if condition == FALSE or isinstance(then, Raises):
        return other
    if isinstance(other, Choice):
        if other.then == then:
            return choice(either(condition, other.condition), then, other.other)
        if other.other == then:
            return choice(either(condition, negation(other.condition)), then, other.then)
    if isinstance(then, Choice):
        if then.other == other:
            return choice(both(condition, then.condition), then.then, other)
        if then.then == other:
            return choice(both(condition, negation(then.condition)), then.other, other)
    return Choice(condition, then, other)


# ---------------------------------------------------------------------------------------------
# exact truth

TRUE: Expr = Literal(True, BOOLEAN)
FALSE: Expr = Literal(False, BOOLEAN)
_OPPOSITES = {
    "is_null": "is_not_null",
    "is_distinct_from": "is_not_distinct_from",
    "is_true": "is_not_true",
}
_OPPOSITES |= {after: before for before, after in _OPPOSITES.items()}


def negation(condition: Expr) -> Expr:
    """NOT, exactly."""
    if isinstance(condition, Literal):
        return FALSE if condition.value else TRUE
    assert isinstance(condition, Call)
    if condition.function == "not":
        return condition.args[0]
    opposite = _OPPOSITES.get(condition.function)
    return Call(opposite, condition.args) if opposite else Call("not", (condition,))


def both(left: Expr, right: Expr) -> Expr:
    """AND; several of them lean to the left, as they do when they are parsed.

    >>> from ostinato.patterns.ast import Column
    >>> a, b = (Call("is_null", (Column(name),)) for name in "ab")
    >>> both(a, TRUE) == a, both(a, both(b, a)) == both(both(a, b), a)
    (True, True)
    """
    return _joined("and", TRUE, FALSE, left, right)


def either(left: Expr, right: Expr) -> Expr:
    """OR, in the same way."""
    return _joined("or", FALSE, TRUE, left, right)


def _joined(operator: str, neutral: Expr, absorbing: Expr, left: Expr, right: Expr) -> Expr:
    if left in (neutral, right):
        return right
    if right == neutral:
        return left
    if absorbing in (left, right):
        return absorbing
    if isinstance(right, Call) and right.function == operator:
        return _joined(
            operator, neutral, absorbing, _joined(operator, neutral, absorbing, left, right.args[0]), right.args[1]
        )
    return Call(operator, (left, right))


def decided(condition: Expr, then: Expr, other: Expr) -> Expr:
    """``then if condition else other`` of three conditions, as AND and OR where that is shorter."""
    if then == other or condition == TRUE:
        return then
    if condition == FALSE:
        return other
    if then in (TRUE, condition):
        return either(condition, other)
    if other in (FALSE, condition):
        return both(condition, then)
    if then == FALSE:
        return both(negation(condition), other)
    if other == TRUE:
        return either(negation(condition), then)
    return Call("case", (condition, then, other))


def never_null(expr: Expr) -> bool:
    """Can it be told from the expression that it is not NULL?"""
    if isinstance(expr, Literal):
        return expr.value is not None
    return isinstance(expr, Aggregate) and expr.function == "count"


def relaxed(condition: Expr) -> Expr:
    """The exact condition as plain SQL that is TRUE for the same events; for others it may be FALSE or NULL."""
    if not isinstance(condition, Call):
        return condition
    function, args = condition.function, condition.args
    if function in ("and", "or"):
        return Call(function, tuple(relaxed(arg) for arg in args))
    if function == "is_true":
        return relaxed(args[0])
    if function == "is_not_distinct_from" and any(never_null(arg) for arg in args):
        return Call("=", args)
    if function == "is_distinct_from" and all(never_null(arg) for arg in args):
        return Call("<>", args)
    if function == "case":
        return Call("case", _relaxed_case(args))
    return condition


def _relaxed_case(args: Sequence[Expr]) -> tuple[Expr, ...]:
    *pairs, last = args
    return (*(relaxed(arg) for arg in pairs), relaxed(last))
