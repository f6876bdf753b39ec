"""The stored tables are those of the grammar, and the grammar is one that can be read without guessing."""

from __future__ import annotations

import json
import logging
import subprocess
import sys

import pytest

from ostinato.patterns import tables
from ostinato.patterns.lexer import BESIDE, RESERVED


def test_the_stored_tables_are_those_of_the_grammar() -> None:
    stored = json.loads(tables.STORED.read_bytes())
    assert stored["grammar"] == tables.grammar_text(), "run: python -m ostinato.patterns.tables"


def test_the_grammar_has_no_conflicts(caplog: pytest.LogCaptureFixture) -> None:
    """lark settles a shift/reduce conflict silently unless it is asked to tell."""
    from lark import Lark, logger

    logger.addHandler(caplog.handler)
    logger.setLevel(logging.DEBUG)
    try:
        Lark(tables.grammar_text(), parser="lalr", lexer="basic", start=list(tables.STARTS), debug=True)
    finally:
        logger.removeHandler(caplog.handler)
        logger.setLevel(logging.CRITICAL)
    assert [record.message for record in caplog.records if "Shift/Reduce" in record.message] == []


def test_tables_that_do_not_fit_are_worked_out_anew(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    from pathlib import Path

    empty = Path(str(tmp_path)) / "tables.json"
    empty.write_text("{", encoding="utf-8")
    monkeypatch.setattr(tables, "STORED", empty)
    built = tables.load_tables.__wrapped__()
    assert set(built.literals) == set(tables.load_tables().literals)
    assert len(built.states) == len(tables.load_tables().states)


def test_reserved_words_are_words_of_the_grammar() -> None:
    assert set(tables.load_tables().literals) >= RESERVED | BESIDE


def test_reading_and_checking_need_none_of_the_heavy_libraries() -> None:
    script = (
        "import sys; from ostinato.patterns import check_program, format_source, parse_program\n"
        "text = 'stream s (ts timestamp(ms) time) pattern p on s match a b'\n"
        "check_program(parse_program(text)); format_source(text)\n"
        "print([m for m in ('lark', 'numpy', 'numba', 'pyarrow') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
