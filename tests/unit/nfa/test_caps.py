"""At most so many partial matches for a key: fail, or let go of the oldest, and say so."""

from __future__ import annotations

from typing import Any

import pytest

from ostinato.cep.batch import MAX_TIME
from ostinato.cep.nfa.operator import MatchError, MatchOperator
from ostinato.patterns.parser import parse_program
from ostinato.patterns.typecheck import check_program
from tests.support import batch_of, rows_of

STREAM = "stream s (k string key, ts timestamp(ms) time, t string, x bigint)\n"


def operator(cap: str) -> MatchOperator:
    text = f"""{STREAM}
        pattern p on s match a -> b define a as t = 'A', b as t = 'B' and x >= a.x {cap}
        emit k, a.ts as since into out"""
    return MatchOperator(list(check_program(parse_program(text)).patterns))


def events(text: str, key: str = "k") -> list[dict[str, Any]]:
    return [{"k": key, "ts": index, "t": letter, "x": index} for index, letter in enumerate(text)]


def run(matcher: MatchOperator, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    matcher.process(batch_of(matcher.compiled.patterns[0].stream, rows))
    return [row for batch in matcher.advance(MAX_TIME) for row in rows_of(batch)]


def test_no_cap_in_sight() -> None:
    matcher = operator("")
    assert [row["since"] for row in run(matcher, events("A" * 500 + "B"))] == list(range(500))
    assert matcher.stats["p"].dropped == 0


def test_the_oldest_are_dropped_and_counted() -> None:
    matcher = operator("cap 3 partial matches drop oldest")
    assert [row["since"] for row in run(matcher, events("AAAAAB"))] == [2, 3, 4]
    assert matcher.stats["p"].dropped == 2


def test_failing_names_pattern_and_remedy() -> None:
    matcher = operator("cap 3 partial matches fail")
    with pytest.raises(MatchError, match=r"pattern `p`: a key has more than 3 partial matches.*drop oldest"):
        run(matcher, events("AAAAA"))


def test_the_cap_is_that_of_a_key() -> None:
    matcher = operator("cap 3 partial matches fail")
    rows = sorted(events("AAAB", "k") + events("AAAB", "l"), key=lambda event: event["ts"])
    assert len(run(matcher, rows)) == 6
