"""What is printed reads back as the same tree, and formatting changes nothing but looks."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from ostinato.patterns import (
    ast,
    format_source,
    parse_expression,
    parse_match,
    parse_program,
    parse_type,
    print_expression,
    print_match,
    print_program,
    print_type,
)
from ostinato.patterns.lexer import lex
from ostinato.patterns.rewrite import map_stages
from ostinato.patterns.types import DataType
from tests import strategies


@settings(max_examples=500, deadline=None)
@given(strategies.expressions)
def test_expression(expr: ast.Expr) -> None:
    text = print_expression(expr)
    assert parse_expression(text) == expr, text
    assert "\n" not in text


@settings(max_examples=300, deadline=None)
@given(strategies.types)
def test_type(type_: DataType) -> None:
    assert parse_type(print_type(type_)) == type_


@settings(max_examples=300, deadline=None)
@given(strategies.sequences())
def test_sequence_of_stages(items: tuple[ast.Element, ...]) -> None:
    bare = map_stages(items, lambda stage: replace(stage, condition=None, until=None))
    text = print_match(bare)
    assert parse_match(text) == bare, text


@settings(max_examples=150, deadline=None)
@given(strategies.programs())
def test_program(program: ast.Program) -> None:
    program = _without_captured_names(program)
    text = print_program(program)
    assert parse_program(text) == program, text


@settings(max_examples=60, deadline=None, phases=[Phase.generate])
@given(strategies.programs(), st.randoms(use_true_random=False))
def test_formatting_keeps_meaning_and_comments(program: ast.Program, random: object) -> None:
    program = _without_captured_names(program)
    text = _with_noise(print_program(program), random)
    formatted = format_source(text)
    assert parse_program(formatted) == program
    assert sorted(c.text for c in lex(formatted).comments) == sorted(c.text for c in lex(text).comments)
    assert format_source(formatted) == formatted


def _without_captured_names(program: ast.Program) -> ast.Program:
    """Rename parameters that a bare column of a pattern has the name of: that column could not be written."""
    columns = {node.name for node in ast.walk(program) if isinstance(node, ast.Column)}
    return ast.Program(
        tuple(
            replace(d, name=d.name + "_p") if isinstance(d, ast.ParamDecl) and d.name in columns else d
            for d in program.declarations
        )
    )


def _with_noise(text: str, random: object) -> str:
    """The text with comments and line ends strewn between its words."""
    choose = random.choice  # type: ignore[attr-defined]
    parts: list[str] = []
    end = 0
    for number, token in enumerate(lex(text).tokens):
        parts.append(text[end : token.start])
        kind = choose(range(12))
        if kind == 0:
            parts.append(f" -- note {number}\n")
        elif kind == 1:
            parts.append(f"\n  -- line {number}\n")
        elif kind == 2:
            parts.append(f" /* block\n {number} */ ")
        elif kind == 3:
            parts.append("\n\n")
        parts.append(token.text)
        end = token.start + len(token.text)
    return "".join([*parts, text[end:]])
