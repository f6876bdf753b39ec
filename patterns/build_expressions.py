"""From the rules of the grammar to expressions of the syntax tree."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeGuard, TypeVar

from ostinato.patterns import ast
from ostinato.patterns.errors import Problem, Span, did_you_mean
from ostinato.patterns.functions import AGGREGATES, ALIASES, DIFFERENCE_UNITS, EXTRACT_PARTS, canonical_name
from ostinato.patterns.lexer import Token
from ostinato.patterns.literals import (
    BIGINT_MAX,
    natural_decimal,
    parse_date,
    parse_decimal,
    parse_duration,
    parse_interval,
    parse_timestamp,
)
from ostinato.patterns.types import (
    BIGINT,
    BOOLEAN,
    DATE,
    DOUBLE,
    INTERVAL,
    MAX_DECIMAL_PRECISION,
    NULL,
    STRING,
    TIMESTAMP,
    DataType,
    Decimal,
)

_OPERATORS = {"==": "=", "!=": "<>"}
_FOREVER = 2**31
Value = TypeVar("Value")


def span_of(part: Any) -> Span | None:
    """The place of a token, a node, or a list of them."""
    if isinstance(part, list):
        return cover(part) if part else None
    return getattr(part, "span", None)


def cover(parts: list[Any]) -> Span | None:
    """The place from the first to the last of the parts."""
    first = next((span for part in parts if (span := span_of(part)) is not None), None)
    last = next((span for part in reversed(parts) if (span := span_of(part)) is not None), None)
    return first.to(last) if first is not None else None


class ExpressionBuilder:
    """Builds expressions; what is wrong with one is noted in `problems`, and a stand-in is built.

    Whether ``a.b`` is a column of stage `a` or a field of a row `a`, and whether a bare name is a parameter, cannot be
    seen here: the former is settled when types are checked, the latter when the whole file is known.
    """

    def __init__(self) -> None:
        self.problems: list[Problem] = []
        self._parenthesised: set[int] = set()
        self._kept: list[Any] = []

    def reduce(self, action: str, values: list[Any]) -> Any:
        method: Callable[[list[Any]], Any] = getattr(self, action)
        return method(values)

    def problem(self, message: str, where: Any, hint: str | None = None) -> None:
        self.problems.append(Problem(message, where if isinstance(where, Span) else span_of(where), hint))

    # ------------------------------------------------------------------------------------ names

    def name(self, parts: list[Any]) -> Token:
        token: Token = parts[0]
        return token

    callable = name

    def path(self, parts: list[Any]) -> list[Token]:
        return parts[::2]

    def in_operand(self, parts: list[Any]) -> list[Token]:
        first = parts[0]
        return first if isinstance(first, list) else [first]

    def reference(self, parts: list[Any]) -> ast.Expr:
        name: Token = parts[0]
        return ast.Column(name.value, span=name.span)

    def dollar(self, parts: list[Any]) -> ast.Expr:
        return ast.Param(parts[0].value, parts[0].span)

    def member(self, parts: list[Any]) -> ast.Expr:
        base, _, name = parts
        span = cover(parts)
        if isinstance(base, ast.Column) and base.stage is None and id(base) not in self._parenthesised:
            return ast.Column(name.value, base.name, span)
        return ast.Call("field", (base, ast.Literal(name.value, STRING, name.span)), span)

    def element(self, parts: list[Any]) -> ast.Expr:
        return ast.Call("element", (parts[0], parts[2]), cover(parts))

    def parenthesised(self, parts: list[Any]) -> ast.Expr:
        span = cover(parts)
        assert span is not None
        expr: ast.Expr = replace(parts[1], span=span)
        self._parenthesised.add(id(expr))
        self._kept.append(expr)  # its id must stay its own while anyone may ask for it
        return expr

    # -------------------------------------------------------------------------------- operators

    def binary(self, parts: list[Any]) -> ast.Expr:
        left, operator, right = parts
        name = operator.text.lower()
        return ast.Call(_OPERATORS.get(name, name), (left, right), cover(parts))

    def logical_not(self, parts: list[Any]) -> ast.Expr:
        return ast.Call("not", (parts[1],), cover(parts))

    def sign(self, parts: list[Any]) -> ast.Expr:
        operator: Token = parts[0]
        operand: ast.Expr = parts[1]
        span = cover(parts)
        if operator.text == "+":
            return operand
        if self._is_plain_number(operand):
            return ast.Literal(-operand.value, operand.type, span)
        return ast.Call("neg", (operand,), span)

    def _is_plain_number(self, expr: ast.Expr) -> TypeGuard[ast.Literal]:
        """A number or duration as it stands in the text, without sign or parentheses."""
        return (
            isinstance(expr, ast.Literal)
            and expr.type in (BIGINT, DOUBLE, INTERVAL)
            and id(expr) not in self._parenthesised
            and expr.value is not None
            and str(expr.value)[:1] != "-"
        )

    def _negatable(self, call: ast.Expr, parts: list[Any]) -> ast.Expr:
        """``x NOT BETWEEN …`` and its kind are the negation of the rest."""
        if isinstance(parts[1], Token) and parts[1].type == "NOT":
            return ast.Call("not", (call,), call.span)
        return call

    def between(self, parts: list[Any]) -> ast.Expr:
        operands = tuple(part for part in parts if not isinstance(part, Token))
        return self._negatable(ast.Call("between", operands, cover(parts)), parts)

    def in_list(self, parts: list[Any]) -> ast.Expr:
        operands = tuple(part for part in parts if not isinstance(part, Token))
        return self._negatable(ast.Call("in", operands, cover(parts)), parts)

    def in_bare(self, parts: list[Any]) -> ast.Expr:
        """``'a' IN x``: only POSITION has that; `call` takes it apart."""
        operand = parts[-1]
        span = cover(operand)
        value: ast.Expr
        if operand[0].type == "STRING":
            value = ast.Literal(operand[0].value, STRING, span)
        else:
            value = self.reference(operand[:1])
            for name in operand[1:]:
                value = self.member([value, None, name])
        return ast.Call("in_bare", (parts[0], value), cover(parts))

    def like(self, parts: list[Any]) -> ast.Expr:
        operands = tuple(part for part in parts if not isinstance(part, Token))
        return self._negatable(ast.Call("like", operands, cover(parts)), parts)

    def regexp(self, parts: list[Any]) -> ast.Expr:
        operands = tuple(part for part in parts if not isinstance(part, Token))
        return self._negatable(ast.Call("regexp", operands, cover(parts)), parts)

    def is_test(self, parts: list[Any]) -> ast.Expr:
        test = parts[-1].text.lower()
        negated = "not_" if parts[2].type == "NOT" else ""
        test = "null" if test == "unknown" else test
        return ast.Call(f"is_{negated}{test}", (parts[0],), cover(parts))

    def is_distinct(self, parts: list[Any]) -> ast.Expr:
        negated = "not_" if parts[2].type == "NOT" else ""
        return ast.Call(f"is_{negated}distinct_from", (parts[0], parts[-1]), cover(parts))

    # ------------------------------------------------------------------------------------ calls

    def call(self, parts: list[Any]) -> ast.Expr:
        name: Token = parts[0]
        args = [part for part in parts[1:] if not isinstance(part, Token)]
        span = cover(parts)
        written = name.value.lower()
        if written in AGGREGATES:
            return self._aggregate(written, args, name, span)
        if written == "position" and len(args) == 1 and _is_call(args[0], "in_bare", "in", size=2):
            args = list(args[0].args)
        if written == "timestampdiff" and len(args) == 3:
            unit = self._unit(args[0], DIFFERENCE_UNITS)
            return ast.Call(f"timestampdiff_{unit}", tuple(args[1:]), span)
        return ast.Call(canonical_name(written), tuple(args), span)

    def call_star(self, parts: list[Any]) -> ast.Expr:
        name: Token = parts[0]
        self.problem(f"`{name.text}(*)` does not say of which stage", parts, f"write `{name.text}(stage)`")
        return ast.Literal(None, NULL, cover(parts))

    def call_from(self, parts: list[Any]) -> ast.Expr:
        name: Token = parts[0]
        span = cover(parts)
        written = ALIASES.get(name.value.lower(), name.value.lower())
        args = [part for part in parts[1:] if not isinstance(part, Token)]
        end = parts[2].type if isinstance(parts[2], Token) else None
        if written == "substring" and end is None:
            return ast.Call("substring", tuple(args), span)
        if written == "extract" and end is None and len(args) == 2:
            return ast.Call(f"extract_{self._unit(args[0], EXTRACT_PARTS)}", (args[1],), span)
        if written == "trim" and len(args) == 2:
            function = {"LEADING": "ltrim", "TRAILING": "rtrim"}.get(end or "", "trim")
            return ast.Call(function, (args[1], args[0]), span)
        self.problem(f"`{name.text}` does not take its arguments with `from`", span, "separate them with `,`")
        return ast.Literal(None, NULL, span)

    def _unit(self, arg: ast.Expr, known: tuple[str, ...]) -> str:
        unit = arg.name.lower() if isinstance(arg, ast.Column) and arg.stage is None else None
        if unit is not None and unit.endswith("s") and unit[:-1] in known:
            unit = unit[:-1]
        if unit in known:
            return unit
        hint = did_you_mean(unit, known) if unit else None
        listed = ", ".join(name.upper() for name in known)
        self.problem(f"here stands a unit of time: {listed}", arg.span, hint)
        return known[0]

    def _aggregate(self, function: str, args: list[ast.Expr], name: Token, span: Span | None) -> ast.Expr:
        nothing = ast.Literal(None, NULL, span)
        target = args[0] if args else None
        fields: list[ast.Expr] = []
        while _is_call(target, "field", size=2):
            assert isinstance(target, ast.Call)
            fields.append(target.args[1])
            target = target.args[0]
        if not isinstance(target, ast.Column) or (fields and function not in ("first", "last")):
            example = "count(b)" if function == "count" else f"{function}(b.price)"
            self.problem(f"`{name.text}` takes a column of a stage", span, f"such as `{example}`")
            return nothing
        offset = self._offset(function, args[1:], name)
        stage, operand = (target.name, None) if target.stage is None else (target.stage, target.name)
        result: ast.Expr = ast.Aggregate(function, stage, operand, offset, span)
        for each in reversed(fields):
            result = ast.Call("field", (result, each), span)
        return result

    def _offset(self, function: str, args: list[ast.Expr], name: Token) -> int:
        if not args:
            return 0
        if function not in ("first", "last") or len(args) > 1:
            self.problem(f"`{name.text}` has too many arguments", args[-1].span)
            return 0
        offset = args[0]
        if not (isinstance(offset, ast.Literal) and type(offset.value) is int and 0 <= offset.value < _FOREVER):
            self.problem(
                f"the second argument of `{name.text}` is a number: 0, 1, 2 …",
                offset.span,
                "it counts events from the first on" if function == "first" else "it counts events back from the last",
            )
            return 0
        return offset.value

    def case(self, parts: list[Any]) -> ast.Expr:
        branches = [part for part in parts if isinstance(part, _Branch)]
        subject = parts[1] if not isinstance(parts[1], (Token, _Branch)) else None
        args: list[ast.Expr] = []
        for branch in branches:
            if branch.condition is None:
                args.append(branch.value)
            elif subject is not None:
                span = branch.condition.span
                args += (ast.Call("=", (subject, branch.condition), span), branch.value)
            else:
                args += (branch.condition, branch.value)
        return ast.Call("case", tuple(args), cover(parts))

    def when(self, parts: list[Any]) -> _Branch:
        return _Branch(parts[1], parts[3])

    def otherwise(self, parts: list[Any]) -> _Branch:
        return _Branch(None, parts[1])

    def cast(self, parts: list[Any]) -> ast.Expr:
        _, _, operand, _, (type_, type_span), _ = parts
        return ast.Call("cast", (operand, ast.Literal(None, type_, type_span)), cover(parts))

    # --------------------------------------------------------------------------------- literals

    def literal(self, parts: list[Any]) -> ast.Expr:
        token = parts[0]
        if isinstance(token, ast.Literal):
            return token
        value: Any
        type_: DataType
        match token.type:
            case "INTEGER":
                value, type_ = int(token.value), BIGINT
                if value > BIGINT_MAX + 1:
                    self.problem(f"{value} is too large for BIGINT", token, "write it as a DOUBLE, such as 1e20")
                    value = 0
            case "NUMBER":
                value, type_ = float(token.value), DOUBLE
            case "DURATION":
                value, type_ = self.duration(token), INTERVAL
            case "STRING":
                value, type_ = token.value, STRING
            case "NULL":
                value, type_ = None, NULL
            case _:
                value, type_ = token.type == "TRUE", BOOLEAN
        return ast.Literal(value, type_, token.span)

    def duration(self, token: Token) -> int:
        return self._read(parse_duration, token.value, 0, token)

    def typed_literal(self, parts: list[Any]) -> ast.Literal:
        kind, text = parts
        span = cover(parts)
        match kind.type:
            case "TIMESTAMP":
                return ast.Literal(self._read(parse_timestamp, text.value, 0, text), TIMESTAMP, span)
            case "DATE":
                return ast.Literal(self._read(parse_date, text.value, 0, text), DATE, span)
            case "DOUBLE":
                return ast.Literal(self._read(float, text.value, 0.0, text), DOUBLE, span)
        value = self._read(parse_decimal, text.value, parse_decimal("0"), text)
        return ast.Literal(value, natural_decimal(value), span)

    def decimal_literal(self, parts: list[Any]) -> ast.Literal:
        text = parts[-1]
        value = self._read(parse_decimal, text.value, parse_decimal("0"), text)
        type_ = self.decimal_type(int(parts[2].value), int(parts[4].value), cover(parts[:-1]))
        natural = natural_decimal(value)
        if natural.scale > type_.scale or natural.precision - natural.scale > type_.precision - type_.scale:
            self.problem(f"'{text.value}' does not fit {type_}", text)
            value = parse_decimal("0")
        return ast.Literal(value, type_, cover(parts))

    def decimal_type(self, precision: int, scale: int, where: Span | None) -> Decimal:
        if 1 <= precision <= MAX_DECIMAL_PRECISION and 0 <= scale <= precision:
            return Decimal(precision, scale)
        self.problem(
            f"there is no DECIMAL({precision}, {scale})",
            where,
            f"it has 1 to {MAX_DECIMAL_PRECISION} digits, 0 to all of them behind the point",
        )
        return Decimal(MAX_DECIMAL_PRECISION, min(scale, MAX_DECIMAL_PRECISION))

    def interval_literal(self, parts: list[Any]) -> ast.Literal:
        text, first = parts[1], parts[2].value
        last = parts[4].value if len(parts) > 4 else None
        ms = self._read(lambda value: parse_interval(value, first, last), text.value, 0, text)
        return ast.Literal(ms, INTERVAL, cover(parts))

    def _read(self, reader: Callable[[str], Value], text: str, otherwise: Value, where: Token) -> Value:
        try:
            return reader(text)
        except ValueError as error:
            self.problem(str(error), where)
            return otherwise


class _Branch:
    """A branch of CASE; the ELSE has no condition."""

    def __init__(self, condition: ast.Expr | None, value: ast.Expr) -> None:
        self.condition = condition
        self.value = value
        self.span = value.span


def _is_call(expr: object, *functions: str, size: int) -> bool:
    return isinstance(expr, ast.Call) and expr.function in functions and len(expr.args) == size
