"""What docs/language.md shows is so: its programs pass the checks, print and run, its results are the results."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ostinato.cep.api import matches, run
from ostinato.cep.expressions.vector import evaluate
from ostinato.patterns import (
    Scope,
    ast,
    check_program,
    format_source,
    parse_expression,
    parse_match,
    parse_program,
    print_expression,
    print_program,
    type_expr,
)
from ostinato.patterns.conversions import convert
from ostinato.patterns.functions import ALIASES, FUNCTIONS
from ostinato.patterns.lexer import RESERVED
from ostinato.patterns.types import DATE, DOUBLE, NULL, STRING, TIMESTAMP, Array, DataType, Row

TEXT = (Path(__file__).parents[3] / "docs" / "language.md").read_text("utf-8")
BLOCKS = [(m.group(1), m.group(2)) for m in re.finditer(r"^```([\w-]+)\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)]
PROGRAMS = [text for kind, text in BLOCKS if kind == "cep"]
LINES = [(kind, line) for kind, text in BLOCKS for line in text.splitlines() if kind in ("cep-expr", "cep-match")]
EXPRESSIONS = [line.rpartition(" -- ") for kind, line in LINES if kind == "cep-expr"]
MATCHES = [[part.strip() for part in line.rsplit(" | ", 2)] for kind, line in LINES if kind == "cep-match"]
STANDARD = {stream.name: stream for stream in parse_program(PROGRAMS[-1]).streams}


def whole(program: ast.Program) -> ast.Program:
    """The program with the standard streams that it reads and does not declare."""
    known = {stream.name for stream in program.streams} | {p.into or p.name for p in program.patterns}
    missing = dict.fromkeys(p.on for p in program.patterns if p.on not in known)
    return ast.Program((*(STANDARD[name] for name in missing), *program.declarations))


def test_every_block_is_looked_at() -> None:
    assert {kind for kind, _ in BLOCKS} == {"cep", "cep-expr", "cep-match"}
    assert len(PROGRAMS) > 15
    assert len(EXPRESSIONS) > 70
    assert len(MATCHES) > 25


@pytest.mark.parametrize("text", PROGRAMS)
def test_programs_pass_the_checks_and_print(text: str) -> None:
    program = parse_program(text)
    check_program(whole(program))
    assert parse_program(print_program(program)) == program
    formatted = format_source(text)
    assert parse_program(formatted) == program
    assert format_source(formatted) == formatted


def sample(type_: DataType, row: int) -> Any:
    """A value of a type, as JSON."""
    if isinstance(type_, Array):
        return [sample(type_.element, row)]
    if isinstance(type_, Row):
        return {name: sample(field, row) for name, field in type_.fields}
    if type_ == STRING:
        return ["FAILED", "SUCCESS", "x"][row % 3]
    if type_ == DATE:
        return "2026-01-02"
    if type_ == DOUBLE:
        return [120.5, 80.0, 1.0][row % 3]
    return row * 300 if str(type_) != "BOOLEAN" else row % 2 == 0


def events_of(stream: ast.Stream) -> Iterator[dict[str, Any]]:
    """A few events of a stream, all of one key."""
    times = {"ms": 1_700_000_000_000, "s": 1_700_000_000, "iso": "2026-01-02T03:04:05Z"}
    for row in range(6):
        event: dict[str, Any] = {}
        for column in stream.columns:
            value = sample(column.type, 0 if column.key else row)
            if column.name == stream.time.column:
                start = times.get(stream.time.format, "02.01.2026 03:04:05")
                value = start + row if isinstance(start, int) else start
            elif column.type == TIMESTAMP:
                value = 1_700_000_000_000
            place = event
            *path, last = column.source or (column.name,)
            for name in path:
                place = place.setdefault(name, {})
            place[last] = value
        yield event


@pytest.mark.parametrize("text", [text for text in PROGRAMS if "pattern " in text])
def test_programs_run(text: str) -> None:
    program = whole(parse_program(text))
    emitted = {p.into or p.name for p in program.patterns}
    sources = {p.on: check_program(program).streams[p.on] for p in program.patterns if p.on not in emitted}
    rows = run(print_program(program), {name: list(events_of(stream)) for name, stream in sources.items()})
    assert set(rows) <= emitted | {p.timeouts_into for p in program.patterns}


@pytest.mark.parametrize(("text", "_", "result"), EXPRESSIONS, ids=[text.strip() for text, _, _ in EXPRESSIONS])
def test_expressions_give_what_is_said(text: str, _: str, result: str) -> None:
    expr = parse_expression(text)
    assert parse_expression(print_expression(expr)) == expr
    typed, expected = type_expr(expr, Scope({})), type_expr(parse_expression(result), Scope({}))
    if expected.type != NULL:
        assert str(typed.type).partition("(")[0] == str(expected.type).partition("(")[0]
        expected = convert(expected, typed.type)
    assert evaluate(typed, {}, 1).to_list() == [
        None if expected.type == NULL else evaluate(expected, {}, 1).to_list()[0]
    ]


@pytest.mark.parametrize(("sequence", "letters", "expected"), MATCHES, ids=[each[0] for each in MATCHES])
def test_matches_are_what_is_said(sequence: str, letters: str, expected: str) -> None:
    sequence, _, clause = sequence.partition(" after match ")
    stages = [stage.name for stage in ast.stages_of(parse_match(sequence))]
    program = "\n".join(
        [
            "stream events (place bigint, ts timestamp(ms) time, letter string)",
            f"pattern p on events match {sequence}",
            "define " + ", ".join(f"{stage} as letter = '{stage}'" for stage in stages),
            f"within 1 h {f'after match {clause}' if clause else ''}",
        ]
    )
    events = [{"place": place, "ts": 1000 * place, "letter": letter} for place, letter in enumerate(letters.split(), 1)]
    found = []
    for row in matches(program, events):
        taken = sorted((e["place"], e["letter"]) for stage in stages for e in row[stage])
        found.append(" ".join(f"{letter}{place}" for place, letter in taken))
    assert ("; ".join(found) or "nothing") == expected


def test_every_function_is_named() -> None:
    units = ("extract_", "timestampdiff_")
    names = [name for name in [*FUNCTIONS, *ALIASES] if name != "%" and not name.startswith(units)]
    assert [name for name in names if not re.search(rf"\b{name}\b", TEXT)] == []


def test_the_reserved_words_are_all_named() -> None:
    listed = re.search(r"Reserved are: `([^`]*)`", TEXT)
    assert listed is not None
    assert set(listed.group(1).split()) == RESERVED
