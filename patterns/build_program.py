"""From the rules of the grammar to declarations: streams, parameters, outputs, and the whole file."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from ostinato.patterns import ast
from ostinato.patterns.build_expressions import cover
from ostinato.patterns.build_patterns import PatternBuilder
from ostinato.patterns.errors import Span, did_you_mean
from ostinato.patterns.lexer import Token
from ostinato.patterns.types import (
    BIGINT,
    BOOLEAN,
    DATE,
    DOUBLE,
    INTERVAL,
    STRING,
    TIMESTAMP,
    Array,
    DataType,
    Decimal,
    Row,
)

TIME_FORMATS = ("s", "ms", "us", "ns", "iso")
"""Ways to write a time that have a name; any other is a strptime format."""

TYPE_NAMES: dict[str, DataType] = {
    "boolean": BOOLEAN,
    "bool": BOOLEAN,
    "tinyint": BIGINT,
    "smallint": BIGINT,
    "int": BIGINT,
    "integer": BIGINT,
    "bigint": BIGINT,
    "long": BIGINT,
    "float": DOUBLE,
    "real": DOUBLE,
    "double": DOUBLE,
    "decimal": Decimal(10, 0),
    "numeric": Decimal(10, 0),
    "string": STRING,
    "text": STRING,
    "char": STRING,
    "varchar": STRING,
    "timestamp": TIMESTAMP,
    "date": DATE,
    "interval": INTERVAL,
}
"""Types by their names, in lower case, without arguments."""


@dataclass(slots=True)
class _Mark:
    """Something said of a column or of a stream's time."""

    kind: str
    span: Span | None
    value: Any = None


class _WrittenType(tuple[DataType, Span | None]):
    """A type and its place, with the format of a time: ``timestamp(ms)``."""

    time_format: str | None = None


class ProgramBuilder(PatternBuilder):
    """Builds whole files."""

    def program(self, parts: list[Any]) -> ast.Program:
        return ast.Program(tuple(parts))

    # ----------------------------------------------------------------------------------- types

    def plain_type(self, parts: list[Any]) -> _WrittenType:
        name: Token = parts[0]
        type_ = TYPE_NAMES.get(name.value.lower())
        if type_ is None:
            known = [*TYPE_NAMES, "array", "row"]
            hint = did_you_mean(name.value, known) or "types are string, bigint, double, decimal, boolean, timestamp, …"
            self.problem(f"there is no type `{name.value}`", name, hint)
            type_ = STRING
        return _WrittenType((type_, name.span))

    def type_with_arguments(self, parts: list[Any]) -> _WrittenType:
        name: Token = parts[0]
        args: list[Token] = parts[2:-1:2]
        span = cover(parts)
        word = name.value.lower()
        if word in ("decimal", "numeric") and len(args) <= 2 and all(arg.type == "INTEGER" for arg in args):
            scale = int(args[1].value) if len(args) == 2 else 0
            return _WrittenType((self.decimal_type(int(args[0].value), scale, span), span))
        if word in ("varchar", "char") and len(args) == 1 and args[0].type == "INTEGER":
            return _WrittenType((STRING, span))
        if word == "timestamp" and len(args) == 1:
            written = _WrittenType((TIMESTAMP, span))
            if args[0].text != "3":
                written.time_format = self._time_format(args[0])
            return written
        self.problem(f"type `{name.value}` takes no such arguments", span)
        return self.plain_type(parts[:1])

    def _time_format(self, token: Token) -> str | None:
        if token.type == "STRING":
            return token.value
        if token.value.lower() in TIME_FORMATS:
            return token.value.lower()
        self.problem(
            f"`{token.text}` is no way to write a time",
            token,
            did_you_mean(token.value, TIME_FORMATS) or f"it is one of {', '.join(TIME_FORMATS)} or '%Y-%m-%d …'",
        )
        return None

    def array_type(self, parts: list[Any]) -> _WrittenType:
        name, _, (element, _), _ = parts
        if name.value.lower() != "array":
            self.problem(f"`{name.value}` takes no type in `<…>`", name, "lists are written `array<type>`")
        return _WrittenType((Array(element), cover(parts)))

    def row_type(self, parts: list[Any]) -> _WrittenType:
        name = parts[0]
        if name.value.lower() != "row":
            self.problem(f"`{name.value}` takes no fields", name, "they belong to `row<name type, …>`")
        fields = [part for part in parts if isinstance(part, tuple)]
        names = [field.value for field, _ in fields]
        for index, (field, _) in enumerate(fields):
            if field.value in names[:index]:
                self.problem(f"a row with two fields `{field.value}`", field)
        return _WrittenType((Row(tuple((field.value, type_) for field, type_ in fields)), cover(parts)))

    def row_field(self, parts: list[Any]) -> tuple[Token, DataType]:
        return parts[0], parts[1][0]

    # --------------------------------------------------------------------------------- streams

    def key(self, parts: list[Any]) -> _Mark:
        return _Mark("key", parts[0].span)

    def origin(self, parts: list[Any]) -> _Mark:
        return _Mark("from", cover(parts), tuple(token.value for token in parts[1]))

    def metadata(self, parts: list[Any]) -> _Mark:
        return _Mark("from", cover(parts), parts[2].value)

    def time(self, parts: list[Any]) -> _Mark:
        return _Mark("time", parts[0].span)

    def time_option(self, parts: list[Any]) -> _Mark:
        word = parts[0].text.lower()
        span = cover(parts)
        if word == "format":
            return _Mark("format", span, self._time_format(parts[1]))
        if word == "zone":
            return _Mark("zone", span, parts[1].value)
        return _Mark(
            {"delay": "delay_ms", "idle": "idle_ms", "max": "max_ahead_ms"}[word], span, self.duration(parts[-1])
        )

    def column(self, parts: list[Any]) -> tuple[ast.FieldDecl, ast.TimeDecl | None]:
        name, (type_, _), *marks = parts
        by_kind = self._by_kind(marks, f"column `{name.value}`")
        origin = by_kind.get("from")
        path, metadata = (None, origin) if isinstance(origin, str) else (origin, None)
        declared = ast.FieldDecl(name.value, type_, "key" in by_kind, path, metadata, cover(parts))
        time_format = parts[1].time_format
        if time_format is not None:
            if "format" in by_kind:
                self.problem(f"the format of `{name.value}` is given twice", declared.span, "keep one")
            by_kind.setdefault("format", time_format)
        about_time = {kind: value for kind, value in by_kind.items() if kind not in ("key", "from", "time")}
        if "time" not in by_kind:
            if about_time:
                self.problem(
                    f"`{name.value}` is not the time column, so nothing is said of its "
                    + ("format" if "format" in about_time else "time"),
                    declared.span,
                    "mark the time column with `time`; other times are read as they come",
                )
            return declared, None
        time = ast.TimeDecl(column=name.value)
        return declared, replace(time, **{kind: value for kind, value in about_time.items() if value is not None})

    def _by_kind(self, marks: list[_Mark], what: str) -> dict[str, Any]:
        by_kind: dict[str, Any] = {}
        for mark in marks:
            if mark.kind in by_kind:
                self.problem(f"`{mark.kind.partition('_')[0]}` is said twice of {what}", mark.span, "keep one")
            by_kind[mark.kind] = mark.value
        return by_kind

    def source(self, parts: list[Any]) -> _Mark:
        return _Mark("source", cover(parts), parts[1])

    def clock(self, parts: list[Any]) -> _Mark:
        options = self._by_kind(parts[2:], "the time")
        for mark in parts[2:]:
            if mark.kind in ("format", "zone"):
                self.problem(f"`{mark.kind}` belongs to a time column", mark.span, "leave it out here")
        options = {kind: value for kind, value in options.items() if kind not in ("format", "zone")}
        return _Mark("clock", cover(parts), ast.TimeDecl(mode=parts[0].text.lower(), **options))

    def stream(self, parts: list[Any]) -> ast.Stream:
        name: Token = parts[1]
        columns = [part for part in parts if isinstance(part, tuple)]
        by_kind = self._by_kind([part for part in parts if isinstance(part, _Mark)], f"stream `{name.value}`")
        times = [time for _, time in columns if time is not None]
        if len(times) > 1 or (times and "clock" in by_kind):
            self.problem(f"stream `{name.value}` has more than one time", cover(parts[:2]), "keep one")
        clock: ast.TimeDecl = times[0] if times else by_kind.get("clock", ast.TimeDecl())
        declared = tuple(column for column, _ in columns)
        return ast.Stream(name.value, declared, clock, by_kind.get("source"), cover(parts[:2]))

    # ------------------------------------------------------------------------------- connectors

    def connector(self, parts: list[Any]) -> ast.Connector:
        def word(token: Token) -> str:
            return token.word or token.value

        target = format_ = None
        options: tuple[tuple[str, Any], ...] = ()
        for index, part in enumerate(parts[1:], 1):
            if isinstance(part, tuple):
                options = part
            elif part.type == "STRING":
                target = part.value
            elif parts[index - 1].type == "FORMAT" and index > 1:
                format_ = word(part)
        return ast.Connector(word(parts[0]), target, format_, options)

    def options(self, parts: list[Any]) -> tuple[tuple[str, Any], ...]:
        options = [part for part in parts if isinstance(part, tuple)]
        names = [name.value for name, _ in options]
        for index, (name, _) in enumerate(options):
            if name.value in names[:index]:
                self.problem(f"option `{name.value}` is given twice", name, "keep one")
        return tuple((name.value, value) for name, value in options)

    def option_name(self, parts: list[Any]) -> list[Token]:
        first = parts[0]
        return first if isinstance(first, list) else [first]

    def option(self, parts: list[Any]) -> tuple[Token, Any]:
        path: list[Token] = parts[0]
        value: ast.Literal = parts[2]
        first = path[0]
        span = cover(path)
        assert span is not None
        name = Token("NAME", first.text, ".".join(token.value for token in path), first.start, span)
        if value.type not in (BIGINT, DOUBLE, BOOLEAN, STRING):
            self.problem("an option is a text, a number, true or false", value.span)
            return name, None
        return name, value.value

    def output(self, parts: list[Any]) -> ast.OutputDecl:
        return ast.OutputDecl(parts[1].value, parts[3], cover(parts[:2]))

    # ------------------------------------------------------------------------------- parameters

    def param(self, parts: list[Any]) -> ast.ParamDecl:
        _, name, _, value = parts
        if value.value is None:
            self.problem(f"parameter `{name.value}` needs a value that is not null", value.span)
        return ast.ParamDecl(name.value, value, cover(parts))

    def value(self, parts: list[Any]) -> ast.Literal:
        if len(parts) == 1:
            literal: ast.Literal = parts[0]
            return literal
        literal = parts[1]
        if literal.type in (BIGINT, DOUBLE, INTERVAL) and literal.value is not None:
            return ast.Literal(-literal.value, literal.type, cover(parts))
        if isinstance(literal.type, Decimal):
            return ast.Literal(-literal.value, literal.type, cover(parts))
        self.problem("there is no negative of this", cover(parts))
        return literal
