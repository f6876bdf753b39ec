"""Syntax trees as canonical text: ``parse(print(tree)) == tree`` for everything the language can say."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ostinato.patterns import ast
from ostinato.patterns.ast import Contiguity, SkipMode
from ostinato.patterns.lexer import quote_name
from ostinato.patterns.literals import format_duration, format_text
from ostinato.patterns.print_expressions import ExpressionPrinter, print_literal, print_type
from ostinato.patterns.rewrite import stream_columns
from ostinato.patterns.types import TIMESTAMP

__all__ = ["print_expression", "print_match", "print_pattern", "print_program", "print_type"]

_WIDTH = 100
"""Lines longer than this are broken where they can be."""

_TIME_FORMATS = frozenset({"s", "ms", "us", "ns", "iso"})
_LINKS = {
    Contiguity.STRICT: "",
    Contiguity.RELAXED: "-> ",
    Contiguity.ANY: "->> ",
    Contiguity.NOT_NEXT: "!",
    Contiguity.NOT_FOLLOW: "!-> ",
}
_INNER = {Contiguity.RELAXED: " relaxed", Contiguity.ANY: " combinations"}
_SKIPS = {
    SkipMode.NO_SKIP: "no skip",
    SkipMode.TO_NEXT: "skip to next",
    SkipMode.PAST_LAST: "skip past last",
    SkipMode.TO_FIRST: "skip to first",
    SkipMode.TO_LAST: "skip to last",
}


def print_program(program: ast.Program) -> str:
    """A whole file, ending with a line end."""
    declared = frozenset(param.name for param in program.params)
    blocks: list[str] = []
    previous: ast.Declaration | None = None
    for declaration in program.declarations:
        if isinstance(declaration, ast.Pattern):
            text = print_pattern(declaration, declared - stream_columns(program, declaration.on))
        else:
            text = _declaration(declaration)
        close = isinstance(declaration, (ast.ParamDecl, ast.OutputDecl)) and type(previous) is type(declaration)
        blocks.append(text if close or previous is None else f"\n{text}")
        previous = declaration
    return "".join(f"{block}\n" for block in blocks)


def print_expression(expr: ast.Expr, params: frozenset[str] = frozenset(), *, show_python: bool = False) -> str:
    """An expression; parameters that are not among `params` are written ``$name``.

    Raises:
        PatternError: it has a Python function in it, and `show_python` is not set.
    """
    return ExpressionPrinter(params, show_python=show_python).text(expr)


def print_match(
    items: tuple[ast.Element, ...], params: frozenset[str] = frozenset(), *, show_python: bool = False
) -> str:
    """A sequence of stages as it stands behind ``match``, without conditions."""
    return " ".join(_elements(items, ExpressionPrinter(params, show_python=show_python)))


def print_pattern(pattern: ast.Pattern, params: frozenset[str] = frozenset(), *, show_python: bool = False) -> str:
    """A pattern's declaration."""
    expressions = ExpressionPrinter(params, show_python=show_python)
    lines = [f"pattern {quote_name(pattern.name)} on {quote_name(pattern.on)}"]
    lines += _filled("  match  ", list(_elements(pattern.items, expressions)))
    lines += _definitions(pattern, expressions)
    if pattern.within_ms is not None:
        lines.append(f"  within {format_duration(pattern.within_ms)}")
    if pattern.skip != ast.NO_SKIP:
        lines.append(f"  after match {_skip(pattern.skip)}")
    if pattern.count:
        lines.append("  count matches")
    if pattern.emit:
        lines += _emitted(pattern, expressions)
    if pattern.into is not None:
        lines.append(f"  into   {quote_name(pattern.into)}")
    if pattern.timeouts_into is not None:
        lines.append(f"  timeouts into {quote_name(pattern.timeouts_into)}")
    if pattern.cap != ast.DEFAULT_CAP:
        lines.append(f"  cap {pattern.cap.runs} partial matches per key {pattern.cap.policy.value}")
    return "\n".join(lines)


def _filled(head: str, words: list[str]) -> list[str]:
    """The words behind the head, on as many lines as they need."""
    lines = [head + words[0]] if words else [head.rstrip()]
    for word in words[1:]:
        if len(lines[-1]) + 1 + len(word) > _WIDTH:
            lines.append(" " * len(head) + word)
        else:
            lines[-1] += f" {word}"
    return lines


def _elements(items: tuple[ast.Element, ...], expressions: ExpressionPrinter) -> Iterator[str]:
    """Each element with what links it to the one before."""
    for item in items:
        link = _LINKS[item.contiguity] if item.contiguity is not None else ""
        yield link + _element(item, expressions)


def _element(item: ast.Element, expressions: ExpressionPrinter) -> str:
    if isinstance(item, ast.Stage):
        return quote_name(item.name) + _suffixes(item)
    if isinstance(item, ast.Alternation):
        branches = (" ".join(_elements(branch, expressions)) for branch in item.branches)
        return f"( {' | '.join(branches)} )"
    inside = " ".join(_elements(item.items, expressions))
    until = f" until ({expressions.text(item.until)})" if item.until is not None else ""
    suffixes = _suffixes(item) + until
    if suffixes and len(item.items) == 1 and isinstance(item.items[0], ast.Alternation):
        return inside + suffixes
    return f"( {inside} ){suffixes}"


def _suffixes(item: ast.Stage | ast.Group) -> str:
    quantifier = item.quantifier
    text = _repeat(quantifier) + _INNER.get(quantifier.inner, "")
    if quantifier.greedy:
        text += " greedy"
    if quantifier.gap_ms is not None:
        required = "required " if quantifier.gap_required_only else ""
        text += f" [{required}every {format_duration(quantifier.gap_ms)}]"
    if item.within_ms is not None:
        text += f" [within {format_duration(item.within_ms)}]"
    return text


def _repeat(quantifier: ast.Quantifier) -> str:
    low, high, optional = quantifier.min, quantifier.max, quantifier.optional
    if (low, high) == (1, 1):
        return "?" if optional else ""
    if (low, high) == (1, None):
        return "*" if optional else "+"
    first = _bound(low)
    bounds = first if low == high else f"{first}," if high is None else f"{first},{_bound(high)}"
    return "{" + bounds + "}" + ("?" if optional else "")


def _bound(bound: ast.IntOrParam) -> str:
    return quote_name(bound.name) if isinstance(bound, ast.Param) else str(bound)


def _definitions(pattern: ast.Pattern, expressions: ExpressionPrinter) -> list[str]:
    stages = [s for s in ast.stages_of(pattern.items) if s.condition is not None or s.until is not None]
    names = [quote_name(stage.name) for stage in stages]
    width = max(map(len, names), default=0)
    lines: list[str] = []
    for index, (stage, name) in enumerate(zip(stages, names, strict=True)):
        head = ("  define " if index == 0 else " " * 9) + name.ljust(width)
        parts = ["as " + expressions.text(stage.condition)] if stage.condition is not None else []
        if stage.until is not None:
            parts.append("until " + expressions.text(stage.until))
        comma = "," if index < len(stages) - 1 else ""
        line = f"{head} {' '.join(parts)}{comma}"
        if len(line) <= _WIDTH:
            lines.append(line)
            continue
        broken: list[str] = []
        for word, expr in (("as", stage.condition), ("until", stage.until)):
            if expr is not None:
                first, *rest = expressions.chain(expr)
                broken += [f"{word} {first}", *(f"  {part}" for part in rest)]
        indent = " " * (len(head) + 1)
        lines += [f"{head} {broken[0]}", *(indent + part for part in broken[1:])]
        lines[-1] += comma
    return lines


def _emitted(pattern: ast.Pattern, expressions: ExpressionPrinter) -> list[str]:
    columns = []
    for output in pattern.emit:
        plain = isinstance(output.value, (ast.Column, ast.Param)) and output.value.name == output.name
        alias = "" if plain else f" as {quote_name(output.name)}"
        columns.append(expressions.text(output.value) + alias)
    line = "  emit   " + ", ".join(columns)
    if len(line) <= _WIDTH:
        return [line]
    return [
        ("  emit   " if index == 0 else " " * 9) + column + ("," if index < len(columns) - 1 else "")
        for index, column in enumerate(columns)
    ]


def _skip(skip: ast.Skip) -> str:
    text = _SKIPS[skip.mode]
    if skip.stage is not None:
        text += f" {quote_name(skip.stage)}"
    return f"{text} or fail" if skip.throw_on_miss else text


def _declaration(declaration: ast.Stream | ast.ParamDecl | ast.OutputDecl) -> str:
    if isinstance(declaration, ast.ParamDecl):
        return f"param {quote_name(declaration.name)} = {print_literal(declaration.value)}"
    if isinstance(declaration, ast.OutputDecl):
        return f"output {quote_name(declaration.stream)} to {_connector(declaration.sink)}"
    return _stream(declaration)


def _stream(stream: ast.Stream) -> str:
    names = [quote_name(column.name) for column in stream.columns]
    width = max(map(len, names), default=0)
    columns = [
        f"  {name.ljust(width)} {_column(column, stream.time)}"
        for name, column in zip(names, stream.columns, strict=True)
    ]
    tail = ")"
    if stream.time.column is None and stream.time != ast.TimeDecl():
        tail += f" {stream.time.mode} time{_time_options(stream.time)}"
    if stream.source is not None:
        tail += f" from {_connector(stream.source)}"
    return "\n".join([f"stream {quote_name(stream.name)} (", ",\n".join(columns), tail])


def _column(column: ast.FieldDecl, time: ast.TimeDecl) -> str:
    text = print_type(column.type)
    is_time = column.name == time.column
    if is_time and column.type == TIMESTAMP:
        text += f"({_time_format(time.format)})"
    if column.source is not None:
        text += f" from {_path(column.source)}"
    if column.metadata is not None:
        text += f" from metadata {format_text(column.metadata)}"
    if column.key:
        text += " key"
    if is_time:
        text += " time"
        if column.type != TIMESTAMP and time.format != "ms":
            text += f" format {_time_format(time.format)}"
        text += _time_options(time)
    return text


def _time_format(name: str) -> str:
    return name if name in _TIME_FORMATS else format_text(name)


def _time_options(time: ast.TimeDecl) -> str:
    text = f" zone {format_text(time.zone)}" if time.zone is not None else ""
    if time.delay_ms:
        text += f" delay {format_duration(time.delay_ms)}"
    if time.idle_ms is not None:
        text += f" idle {format_duration(time.idle_ms)}"
    if time.max_ahead_ms is not None:
        text += f" max ahead {format_duration(time.max_ahead_ms)}"
    return text


def _path(names: tuple[str, ...]) -> str:
    return ".".join(quote_name(name, after_dot=index > 0) for index, name in enumerate(names))


def _kind(name: str) -> str:
    """The kind of a connector or its format: without quotes it is told by its small letters."""
    quoted = quote_name(name, before_text=True)
    return quoted if name == name.lower() or quoted != name else f"`{name}`"


def _connector(connector: ast.Connector) -> str:
    text = _kind(connector.kind)
    if connector.target is not None:
        text += f" {format_text(connector.target)}"
    if connector.format is not None:
        text += f" format {_kind(connector.format)}"
    if connector.options:
        options = ", ".join(f"{_option_name(name)} = {_option(value)}" for name, value in connector.options)
        text += f" ({options})"
    return text


_OPTION_WORDS = frozenset(
    {
        "pattern",
        "match",
        "output",
        "stream",
        "param",
        "define",
        "emit",
        "into",
        "within",
        "until",
        "null",
        "case",
        "cast",
        "in",
        "between",
        "like",
        "regexp",
    }
)
"""Words of the language that are names of options all the same."""


def _option_name(name: str) -> str:
    return name if name in _OPTION_WORDS else _path(tuple(name.split(".")))


def _option(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return format_text(value) if isinstance(value, str) else repr(value)
