"""Types of expressions: from the syntax tree to the typed form that evaluators know.

Sugar goes, implicit conversions become explicit, names get their meaning. What is wrong is noted, and checking goes on
with a stand-in that fits everywhere.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from ostinato.patterns import ast
from ostinato.patterns.arithmetic_check import arithmetic
from ostinato.patterns.conversions import UNKNOWN, can_cast, clash_hint, constant, convert, unify
from ostinato.patterns.errors import PatternError, Problem, Span, did_you_mean
from ostinato.patterns.functions import AGGREGATES, COLLECTING, FUNCTIONS, Function, Kind, Result, known_names
from ostinato.patterns.literals import BIGINT_MAX, BIGINT_MIN
from ostinato.patterns.scope import Scope
from ostinato.patterns.typed import Apply, Constant, Current, Matched, Opaque, Typed
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
    Scalar,
    is_numeric,
)

_WRONG = Constant(UNKNOWN, None)
_COMPARISONS = frozenset({"=", "<>", "<", "<=", ">", ">=", "is_distinct_from", "is_not_distinct_from"})
_LOGIC = frozenset({"and", "or", "not", "is_true", "is_not_true", "is_false", "is_not_false"})


def type_expr(expr: ast.Expr, scope: Scope) -> Typed:
    """The typed form of an expression. Raises PatternError with everything that is wrong with it."""
    checker = ExpressionChecker(scope)
    typed = checker.check(expr)
    if checker.problems:
        raise PatternError(checker.problems)
    return typed


def type_condition(expr: ast.Expr, scope: Scope, problems: list[Problem]) -> Typed | None:
    """The typed form of a condition; None, with what is wrong noted in `problems`, if it is none."""
    checker = ExpressionChecker(scope)
    typed = checker.boolean(expr, "a condition")
    problems += checker.problems
    return typed if not checker.problems else None


class ExpressionChecker:
    """Checks expressions of one scope; what is wrong gathers in `problems`."""

    def __init__(self, scope: Scope) -> None:
        self.scope = scope
        self.problems: list[Problem] = []

    def wrong(self, message: str, span: Span | None, hint: str | None = None) -> Typed:
        self.problems.append(Problem(message, span, hint))
        return _WRONG

    def check(self, expr: ast.Expr) -> Typed:
        """The typed form of any expression."""
        if isinstance(expr, ast.Literal):
            return self._literal(expr)
        if isinstance(expr, ast.Column):
            return self._column(expr)
        if isinstance(expr, ast.Param):
            return self._param(expr)
        if isinstance(expr, ast.Aggregate):
            return self._aggregate(expr)
        if isinstance(expr, ast.PythonCall):
            if expr.type is None:
                return self.wrong("this Python function does not say what type it gives", expr.span)
            return Opaque(expr.type, expr.function, expr.iterative)
        return self._call(expr)

    def boolean(self, expr: ast.Expr, what: str) -> Typed:
        """The typed form of an expression that must be true or false."""
        if isinstance(expr, ast.PythonCall) and expr.type is None:
            return Opaque(BOOLEAN, expr.function, expr.iterative)
        typed = self.check(expr)
        if typed.type in (BOOLEAN, UNKNOWN):
            return typed
        if typed.type == NULL:
            return Constant(BOOLEAN, None)
        hint = "compare it with something: `… = …`"
        return self.wrong(f"{what} is true or false, but this is {_a(typed.type)}", expr.span, hint)

    # ------------------------------------------------------------------------------------ leaves

    def _literal(self, expr: ast.Literal) -> Typed:
        if expr.type == BIGINT and expr.value is not None and not BIGINT_MIN <= expr.value <= BIGINT_MAX:
            return self.wrong(f"{expr.value} is too large for BIGINT", expr.span, "write it as a DOUBLE, such as 1e20")
        return constant(expr)

    def _param(self, expr: ast.Param) -> Typed:
        value = self.scope.params.get(expr.name)
        if value is None:
            known = did_you_mean(expr.name, self.scope.params)
            return self.wrong(f"there is no parameter `{expr.name}`", expr.span, known or "declare it: `param … = …`")
        return constant(value)

    def _column(self, expr: ast.Column) -> Typed:
        scope = self.scope
        if expr.stage is None:
            return self._bare_column(expr.name, expr.span)
        if expr.stage in scope.stages:
            type_ = scope.columns.get(expr.name)
            if type_ is None:
                return self._unknown_column(expr.name, expr.span)
            if expr.stage == scope.current_stage:
                return Current(type_, expr.name)
            if scope.output and expr.stage in scope.negated:
                return self._negated(expr.stage, expr.span)
            return Matched(type_, "last", expr.stage, expr.name)
        if expr.stage in scope.columns:
            return self._field(self._bare_column(expr.stage, expr.span), expr.name, expr.span)
        rows = [name for name, type_ in scope.columns.items() if isinstance(type_, Row)]
        hint = did_you_mean(expr.stage, [*scope.stages, *rows])
        if not scope.stages:
            return self.wrong(f"there is no column `{expr.stage}`", expr.span, hint or _listed("column", scope.columns))
        return self.wrong(f"there is no stage `{expr.stage}`", expr.span, hint or _listed("stage", scope.stages))

    def _bare_column(self, name: str, span: Span | None) -> Typed:
        scope = self.scope
        type_ = scope.columns.get(name)
        if type_ is None:
            return self._unknown_column(name, span)
        if scope.output and name not in scope.keys:
            stage = next((stage for stage in scope.stages if stage not in scope.negated), "a")
            return self.wrong(
                f"of which event should `{name}` be emitted? Only the key is the same in all of them",
                span,
                f"name the stage, such as `{stage}.{name}` (its last event) or `first({stage}.{name})`",
            )
        return Current(type_, name)

    def _unknown_column(self, name: str, span: Span | None) -> Typed:
        scope = self.scope
        if name in scope.stages:
            return self.wrong(f"`{name}` is a stage; of its columns, which?", span, f"such as `{name}.column`")
        hint = did_you_mean(name, [*scope.columns, *scope.params])
        if name.lower() in AGGREGATES and scope.stages:
            hint = f"of a stage's events: `{name.lower()}({scope.stages[0]}…)`"
        if hint is None:
            hint = f"{_listed('column', scope.columns)}; a text is written in single quotes"
        return self.wrong(f"there is no column `{name}`", span, hint)

    def _negated(self, stage: str, span: Span | None) -> Typed:
        return self.wrong(f"`{stage}` must not happen, so a match has no event of it", span)

    def _aggregate(self, expr: ast.Aggregate) -> Typed:
        scope = self.scope
        function, operand = expr.function, expr.operand
        if not scope.stages:
            return self.wrong(
                f"`{function}` is over the events of a stage, and here is none", expr.span, "use it in a pattern"
            )
        if expr.stage not in scope.stages:
            stage = next(iter(scope.stages))
            if operand is None and expr.stage in scope.columns:
                return self.wrong(
                    f"`{function}` of which stage's events?", expr.span, f"such as `{function}({stage}.{expr.stage})`"
                )
            hint = did_you_mean(expr.stage, scope.stages) or _listed("stage", scope.stages)
            return self.wrong(f"there is no stage `{expr.stage}`", expr.span, hint)
        if scope.output and expr.stage in scope.negated:
            return self._negated(expr.stage, expr.span)
        if operand is None:
            if function == "count":
                return Matched(BIGINT, "count", expr.stage)
            example = next(iter(scope.columns), "column")
            return self.wrong(
                f"`{function}` of which column?", expr.span, f"such as `{function}({expr.stage}.{example})`"
            )
        type_ = scope.columns.get(operand)
        if type_ is None:
            return self._unknown_column(operand, expr.span)
        if function in COLLECTING and not scope.output:
            return self.wrong(
                f"`{function}` grows with the match, so it is for `emit` only", expr.span, "count, sum, first … do not"
            )
        result = _aggregate_type(function, type_)
        if result is None:
            return self.wrong(f"there is no `{function}` of {_a(type_)}", expr.span)
        return Matched(result, function, expr.stage, operand, expr.offset)

    # ------------------------------------------------------------------------------------- calls

    def _call(self, expr: ast.Call) -> Typed:
        function = expr.function
        if function in _LOGIC:
            args = tuple(self.boolean(arg, f"what `{_word(function)}` takes") for arg in expr.args)
            return Apply(BOOLEAN, function, args)
        if function == "case":
            return self._case(expr)
        if function in ("match_start", "match_end") and not expr.args:
            return self._match_time(function, expr.span)
        if function == "cast":
            return self._cast(expr)
        if function == "field":
            assert isinstance(expr.args[1], ast.Literal)
            return self._field(self.check(expr.args[0]), expr.args[1].value, expr.span)
        args = tuple(self.check(arg) for arg in expr.args)
        if any(arg.type == UNKNOWN for arg in args):
            return _WRONG
        if function in ("is_null", "is_not_null"):
            return Apply(BOOLEAN, function, args)
        if function in _COMPARISONS:
            return self._comparison(function, args, expr)
        if function == "between":
            return self._between(args, expr)
        if function == "in":
            unified = self._unified(args, expr, "compared")
            return Apply(BOOLEAN, "in", unified) if unified is not None else _WRONG
        if function in ("+", "-", "*", "/", "%", "neg") and len(args) in (1, 2):
            return arithmetic(self, function, args, expr)
        if function == "||":
            return self._concatenation(args, expr)
        if function == "element":
            return self._element(args, expr)
        if function == "in_bare":
            return self.wrong("`in` takes a list in parentheses", expr.span, "write `in (…, …)`, or `=`")
        if function not in FUNCTIONS:
            hint = did_you_mean(function, known_names())
            return self.wrong(f"there is no function `{function}`", expr.span, hint)
        return self._function(FUNCTIONS[function], args, expr)

    def _comparison(self, function: str, args: tuple[Typed, ...], expr: ast.Call) -> Typed:
        unified = self._unified(args, expr, "compared")
        return Apply(BOOLEAN, function, unified) if unified is not None else _WRONG

    def _unified(self, args: Sequence[Typed], expr: ast.Call, verb: str) -> tuple[Typed, ...] | None:
        """Operands in one type that can be compared; None, with the problem noted, if there is none."""
        unified = unify(args, comparing=True)
        if unified is None:
            left, right = _clash(args)
            self.wrong(f"{left} cannot be {verb} with {right}", expr.span, clash_hint(left, right))
            return None
        operands, type_ = unified
        if isinstance(type_, (Array, Row)):
            self.wrong(f"{type_} cannot be {verb}", expr.span, clash_hint(type_, type_))
            return None
        return operands

    def _between(self, args: tuple[Typed, ...], expr: ast.Call) -> Typed:
        unified = self._unified(args, expr, "compared")
        if unified is None:
            return _WRONG
        value, low, high = unified
        return Apply(BOOLEAN, "and", (Apply(BOOLEAN, ">=", (value, low)), Apply(BOOLEAN, "<=", (value, high))))

    def _concatenation(self, args: tuple[Typed, ...], expr: ast.Call) -> Typed:
        for arg, part in zip(args, expr.args, strict=True):
            if arg.type not in (STRING, NULL):
                return self.wrong(
                    f"`||` joins texts, but this is {_a(arg.type)}", part.span, "write `cast(… as string)`"
                )
        return Apply(STRING, "||", tuple(convert(arg, STRING) for arg in args))

    def _case(self, expr: ast.Call) -> Typed:
        conditions = [self.boolean(arg, "a condition") for arg in expr.args[:-1:2]]
        pairs = len(expr.args) // 2
        values: list[Typed] = [self.check(expr.args[2 * index + 1]) for index in range(pairs)]
        values.append(self.check(expr.args[-1]) if len(expr.args) % 2 else Constant(NULL, None))
        if any(value.type == UNKNOWN for value in values):
            return _WRONG
        unified = unify(values)
        if unified is None:
            left, right = _clash(values)
            return self.wrong(f"the branches of `case` give {left} and {right}", expr.span, clash_hint(left, right))
        operands, type_ = unified
        args: list[Typed] = []
        for condition, value in zip(conditions, operands, strict=False):
            args += (condition, value)
        return Apply(type_, "case", (*args, operands[-1]))

    def _match_time(self, function: str, span: Span | None) -> Typed:
        if not self.scope.output:
            return self.wrong(
                f"`{function}` is known only of a complete match", span, "use it in `emit`; in a condition, first(a.ts)"
            )
        return Matched(TIMESTAMP, function.removeprefix("match_"), "")

    def _cast(self, expr: ast.Call) -> Typed:
        operand, target = self.check(expr.args[0]), expr.args[1]
        assert isinstance(target, ast.Literal)
        if not can_cast(operand.type, target.type):
            return self.wrong(
                f"{_a(operand.type)} cannot be cast to {target.type}", expr.span, clash_hint(operand.type, target.type)
            )
        return convert(operand, target.type)

    def _field(self, base: Typed, name: str, span: Span | None) -> Typed:
        if base.type == UNKNOWN:
            return _WRONG
        if not isinstance(base.type, Row):
            return self.wrong(f"{_a(base.type)} has no fields, so no `{name}`", span)
        type_ = base.type.field(name)
        if type_ is None:
            names = [field for field, _ in base.type.fields]
            hint = did_you_mean(name, names) or _listed("field", names)
            return self.wrong(f"there is no field `{name}` in {base.type}", span, hint)
        return Apply(type_, "field", (base, Constant(STRING, name)))

    def _element(self, args: tuple[Typed, ...], expr: ast.Call) -> Typed:
        array, index = args
        if not isinstance(array.type, Array):
            return self.wrong(f"{_a(array.type)} has no elements", expr.span, "`x[1]` is the first element of an array")
        if index.type not in (BIGINT, NULL):
            return self.wrong(f"elements are counted, but this is {_a(index.type)}", expr.args[1].span)
        if isinstance(index, Constant) and index.value is not None and index.value < 1:
            return self.wrong("the first element is [1]", expr.args[1].span, "elements count from 1, as in SQL")
        return Apply(array.type.element, "element", (array, convert(index, BIGINT)))

    # --------------------------------------------------------------------------------- functions

    def _function(self, function: Function, args: tuple[Typed, ...], expr: ast.Call) -> Typed:
        if not self._arity(function, len(args), expr):
            return _WRONG
        converted = list(args)
        alike: list[int] = []
        for index, arg in enumerate(args):
            kind = function.parameter(index)
            if kind in (Kind.ALIKE, Kind.ORDERED):
                alike.append(index)
                continue
            fitted = _fit(arg, kind)
            if fitted is None:
                wanted = kind.value if isinstance(kind, Kind) else _a(kind)
                hint = clash_hint(arg.type, kind) if not isinstance(kind, Kind) else None
                span = expr.args[index].span or expr.span
                return self.wrong(f"`{_word(function.name)}` takes {wanted} here, not {_a(arg.type)}", span, hint)
            converted[index] = fitted
        common: DataType = NULL
        if alike:
            unified = unify([converted[index] for index in alike])
            if unified is None:
                left, right = _clash([converted[index] for index in alike])
                word = _word(function.name)
                return self.wrong(
                    f"the arguments of `{word}` are {left} and {right}", expr.span, clash_hint(left, right)
                )
            operands, common = unified
            if function.parameter(alike[0]) is Kind.ORDERED and isinstance(common, (Array, Row)):
                return self.wrong(f"{common} cannot be compared", expr.span)
            for index, operand in zip(alike, operands, strict=True):
                converted[index] = operand
        return self._applied(function, tuple(converted), common, expr)

    def _applied(self, function: Function, args: tuple[Typed, ...], common: DataType, expr: ast.Call) -> Typed:
        name = function.name
        if name in ("regexp", "regexp_extract"):
            args = self._regular_expression(name, args, expr)
        if name == "like" and len(args) == 3 and isinstance(args[2], Constant) and len(args[2].value or "x") != 1:
            return self.wrong("an escape is one character", expr.args[2].span, "such as `escape '\\'`")
        if name == "if":
            return Apply(common, "case", args)
        if name == "nullif":
            same = Apply(BOOLEAN, "=", args)
            return Apply(common, "case", (same, Constant(common, None), args[0]))
        result = function.result
        if result is Result.FIRST:
            type_ = args[0].type if args[0].type != NULL else DOUBLE
            return Apply(type_, name, (convert(args[0], type_), *args[1:]))
        return Apply(common if isinstance(result, Result) else result, name, args)

    def _regular_expression(self, name: str, args: tuple[Typed, ...], expr: ast.Call) -> tuple[Typed, ...]:
        """The arguments, a missing group of `regexp_extract` added, after a look at a constant expression."""
        if name == "regexp_extract" and len(args) == 2:
            args = (*args, Constant(BIGINT, 0))
        if not isinstance(args[1], Constant) or args[1].value is None:
            return args
        try:
            groups = re.compile(args[1].value).groups
        except (re.error, RecursionError, OverflowError) as error:
            self.wrong(f"this regular expression is wrong: {error}", expr.args[1].span)
            return args
        group = args[2] if len(args) > 2 else None
        if isinstance(group, Constant) and group.value is not None and not 0 <= group.value <= groups:
            self.wrong(
                f"this regular expression has no group {group.value}", expr.span, f"it has {groups}; 0 is all of it"
            )
        return args

    def _arity(self, function: Function, count: int, expr: ast.Call) -> bool:
        fewest, most = function.fewest, function.most
        if fewest <= count and (most is None or count <= most):
            return True
        wanted = str(fewest) if most == fewest else f"{fewest} or more" if most is None else f"{fewest} to {most}"
        noun = "argument" if wanted == "1" else "arguments"
        self.wrong(f"`{_word(function.name)}` takes {wanted} {noun}, not {count}", expr.span)
        return False


def _fit(arg: Typed, kind: DataType | Kind) -> Typed | None:
    """The argument as a parameter of that kind takes it, or None."""
    type_ = arg.type
    if kind is Kind.NUMBER:
        return arg if is_numeric(type_) or type_ == NULL else None
    if kind is Kind.TIME:
        return convert(arg, TIMESTAMP) if type_ == NULL else arg if type_ in (TIMESTAMP, DATE) else None
    if kind is Kind.SPAN:
        return convert(arg, TIMESTAMP) if type_ == NULL else arg if type_ in (TIMESTAMP, INTERVAL) else None
    if kind is Kind.ARRAY:
        return arg if isinstance(type_, Array) else None
    assert isinstance(kind, (Scalar, Decimal, Array, Row))
    if type_ in (kind, NULL):
        return convert(arg, kind)
    if kind == DOUBLE and is_numeric(type_):
        return convert(arg, DOUBLE)
    if kind == TIMESTAMP and type_ == DATE:
        return convert(arg, TIMESTAMP)
    return None


def _aggregate_type(function: str, type_: DataType) -> DataType | None:
    if function == "count":
        return BIGINT
    if function in ("first", "last"):
        return type_
    if function in COLLECTING:
        return Array(type_)
    if function in ("min", "max"):
        return None if isinstance(type_, (Array, Row)) else type_
    if not is_numeric(type_):
        return None
    if function == "avg":
        return DOUBLE
    return Decimal(18, type_.scale) if isinstance(type_, Decimal) else type_


def _clash(args: Sequence[Typed]) -> tuple[DataType, DataType]:
    """Two types among those of the arguments that have no type in common."""
    for index, left in enumerate(args):
        for right in args[index + 1 :]:
            if unify((left, right), comparing=True) is None:
                return left.type, right.type
    return args[0].type, args[-1].type


def _a(type_: DataType) -> str:
    article = "an" if str(type_)[0] in "AEIOU" else "a"
    return f"{article} {type_}"


def _word(function: str) -> str:
    """A canonical name as users know it."""
    if function.startswith("extract_"):
        return "extract"
    if function.startswith("timestampdiff_"):
        return "timestampdiff"
    return function.replace("is_not_", "is not ").replace("is_", "is ") if function.startswith("is_") else function


def _listed(kind: str, names: Iterable[str]) -> str:
    known = list(names)
    shown = ", ".join(known[:8]) + (" …" if len(known) > 8 else "")
    return f"the {kind}s are {shown}" if known else f"there are no {kind}s"
