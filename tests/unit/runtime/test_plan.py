"""Laying out a job: what is shared, what is chained, what changes workers."""

from __future__ import annotations

import pytest

from ostinato.cep.runtime.plan import Plan, plan
from ostinato.patterns.errors import PatternError
from ostinato.patterns.parser import parse_program
from ostinato.patterns.typecheck import check_program

STREAM = "stream s (k string key, ts timestamp(ms) time, x bigint)\n"


def plan_of(text: str) -> Plan:
    return plan(check_program(parse_program(STREAM + text)))


def test_patterns_of_one_stream_share_a_matcher() -> None:
    made = plan_of("pattern a on s match x emit k pattern b on s match y emit k")
    (matching,) = made.matchings
    assert [checked.pattern.name for checked in matching.patterns] == ["a", "b"]
    assert made.delivered == ("a", "b")
    assert made.stages == 1


def test_a_stream_that_keeps_its_key_stays_where_it_is() -> None:
    made = plan_of("pattern b on a match x y emit k pattern a on s match x emit k")
    assert [matching.stream.name for matching in made.matchings] == ["s", "a"]
    assert not made.matchings[1].rekeyed
    assert made.delivered == ("b",)
    assert made.stages == 1


@pytest.mark.parametrize("emit", ["x.x as n", "upper(k) as k"])
def test_a_stream_with_another_key_is_exchanged(emit: str) -> None:
    made = plan_of(f"pattern a on s match x emit {emit} pattern b on a match x y")
    assert made.matchings[1].rekeyed
    assert made.matchings[1].stage == 1
    assert made.stages == 2


def test_a_stream_of_two_patterns_is_brought_into_one_order() -> None:
    text = "pattern a on s match x emit k into m pattern b on s match x y emit k into m pattern c on m match x y"
    made = plan_of(text)
    assert made.matchings[1].merged


def test_timeouts_are_a_stream_too() -> None:
    made = plan_of("pattern a on s match x y within 1 s emit k timeouts into t")
    assert set(made.delivered) == {"a", "t"}
    assert set(made.streams) >= {"s", "a", "t"}


def test_nothing_to_run() -> None:
    with pytest.raises(PatternError, match="no pattern"):
        plan_of("")
