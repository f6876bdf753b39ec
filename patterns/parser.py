"""Reading the language: texts to syntax trees.

A file with a mistake is cut into its declarations, and each is read by itself, so that a mistake in one does not hide
those in the others. Everything that is wrong is raised together as one `PatternError`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from ostinato.patterns import ast
from ostinato.patterns.build_program import ProgramBuilder
from ostinato.patterns.diagnosis import explain, find_repair, misspelt, respelt
from ostinato.patterns.errors import PatternError, Problem, Span
from ostinato.patterns.lalr import Stuck, read
from ostinato.patterns.lexer import MAX_PROBLEMS, Token, classify, lex
from ostinato.patterns.rewrite import bind_params, depth_problem, expressions_of, map_expr, name_params
from ostinato.patterns.tables import load_tables
from ostinato.patterns.types import DataType

_MAX_REPAIRS = 8
"""Misspelt keywords mended in one declaration before reading gives up on it."""

_MAX_DEPTH = 100
"""Brackets within brackets; far more than anyone writes, and few enough for recursive passes."""


def parse_program(text: str, filename: str = "<pattern>") -> ast.Program:
    """Read a whole ``.cep`` file.

    Raises PatternError with everything that is wrong with its syntax.
    """
    lexed = lex(text)
    problems = list(lexed.problems)
    raw = lexed.tokens
    if problems and not raw:
        _raise(problems, text, filename)
    builder = ProgramBuilder()
    program = Stuck(0, frozenset()) if _too_deep(raw) else read(load_tables(), "program", classify(raw), builder)
    if isinstance(program, Stuck):
        for start, end in declaration_bounds(raw):
            if len(problems) >= MAX_PROBLEMS:
                break
            _read("program", raw[start:end], _end_of(raw, end), problems)
        if not problems:
            problems.append(explain(classify(raw), program, _end_of(raw, len(raw))))
    else:
        problems += builder.problems
        problems += _deep_expressions(expr for pattern in program.patterns for expr in expressions_of(pattern))
    _raise(problems, text, filename)
    assert isinstance(program, ast.Program)
    return bind_params(program)


def parse_expression(text: str, params: Iterable[str] = (), filename: str = "<expression>") -> ast.Expr:
    """Read one expression; bare names among `params` are parameters."""
    expr: ast.Expr = _parse("expr", text, filename)
    _raise(_deep_expressions([expr]), text, filename)
    return map_expr(expr, name_params(frozenset(params)))


def parse_match(text: str, filename: str = "<pattern>") -> tuple[ast.Element, ...]:
    """Read a sequence of stages, what stands behind ``match``: ``fail{3,} ok``."""
    items: tuple[ast.Element, ...] = _parse("alternatives", text, filename)
    return items


def parse_skip(text: str, filename: str = "<pattern>") -> ast.Skip:
    """Read what stands behind ``after match``; the word ``skip`` may be left out: ``past last``."""
    words = text.strip()
    if words.lower() == "no":
        words = "no skip"
    elif not words.lower().startswith(("skip", "no")):
        words = f"skip {words}"
    skip: ast.Skip = _parse("skip", words, filename)
    return skip


def parse_type(text: str, filename: str = "<type>") -> DataType:
    """Read a type: ``decimal(10, 2)``, ``array<string>``."""
    type_: DataType = _parse("type", text, filename)[0]
    return type_


def _parse(start: str, text: str, filename: str) -> Any:
    lexed = lex(text)
    problems = list(lexed.problems)
    if problems and not lexed.tokens:
        _raise(problems, text, filename)
    result = _read(start, lexed.tokens, _end_of(lexed.tokens, len(lexed.tokens)), problems)
    _raise(problems, text, filename)
    return result


def _deep_expressions(expressions: Iterable[ast.Expr]) -> list[Problem]:
    return [problem for expr in expressions if (problem := depth_problem(expr)) is not None]


def _raise(problems: list[Problem], text: str, filename: str) -> None:
    if problems:
        order = sorted(problems, key=lambda p: (p.span.line, p.span.column) if p.span is not None else (0, 0))
        raise PatternError(list(dict.fromkeys(order)), source=text, filename=filename)


def _read(start: str, raw: Sequence[Token], end: Span, problems: list[Problem]) -> Any | None:
    """The value of the tokens, or None with a problem noted. Misspelt keywords are noted, mended and read past."""
    tables = load_tables()
    raw = list(raw)
    if deep := _too_deep(raw):
        problems.append(Problem("brackets are nested too deeply here", deep.span, "name parts of it, or simplify it"))
        return None
    mended = False
    for _ in range(_MAX_REPAIRS + 1):
        builder = ProgramBuilder()
        tokens = classify(raw)
        result = read(tables, start, tokens, builder)
        if not isinstance(result, Stuck):
            problems += builder.problems
            return None if mended else result
        repair = find_repair(tables, start, raw, result)
        if repair is None:
            break
        mended = True
        problems.append(misspelt(raw[repair.index], repair))
        raw[repair.index] = respelt(raw[repair.index], repair.word)
    else:
        return None
    problems += builder.problems
    problems.append(explain(tokens, result, end))
    return None


def _too_deep(tokens: Sequence[Token]) -> Token | None:
    depth = 0
    for token in tokens:
        if token.text in ("(", "[", "{") or token.word in ("case", "cast"):
            depth += 1
            if depth > _MAX_DEPTH:
                return token
        elif token.text in (")", "]", "}") or token.word == "end":
            depth = max(0, depth - 1)
    return None


def _end_of(tokens: Sequence[Token], index: int) -> Span:
    """The place right behind the token before `index`."""
    if index == 0:
        return Span(1, 1, 1, 2)
    last = tokens[index - 1].span
    return Span(last.end_line, last.end_column, last.end_line, last.end_column + 1)


_STARTS = {"stream": "(", "pattern": "on", "param": "=", "output": "to"}
"""What stands behind the name that stands behind the word that begins a declaration."""


def declaration_bounds(raw: Sequence[Token]) -> list[tuple[int, int]]:
    """Where the declarations of a file begin and end.

    A declaration begins with its word if that is the first of a line and what follows looks like it, so that a
    bracket left open does not swallow the next one.
    """
    starts = [0]
    for index, token in enumerate(raw):
        if index == 0 or token.word not in _STARTS or token.span.line == raw[index - 1].span.end_line:
            continue
        name, follows = (raw[i].text.lower() if i < len(raw) else "" for i in (index + 1, index + 2))
        if follows == _STARTS[token.word] or (token.span.column == 1 and name[:1].isalpha()):
            starts.append(index)
    bounds = list(zip(starts, [*starts[1:], len(raw)], strict=True))
    return [(start, end) for start, end in bounds if start < end]
