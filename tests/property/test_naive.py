"""The naive matcher gives Flink's recorded answers, and the engine gives those of the naive matcher."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from ostinato.cep.batch import MAX_TIME, Batch, Vector
from ostinato.cep.nfa.operator import MatchOperator
from ostinato.patterns.ast import FieldDecl, Stream, TimeDecl
from ostinato.patterns.errors import MalformedPatternError
from ostinato.patterns.typecheck import CheckedPattern, check_pattern
from ostinato.patterns.types import BIGINT, STRING, TIMESTAMP
from tests.conformance.translate import build
from tests.property.naive import Naive, TooMuchError, UndeterminedError, supports
from tests.property.naive_strategies import events, supported_patterns, text_of

CASES = Path(__file__).parents[1] / "conformance"
LIMIT = 5_000
STREAM = Stream(
    "events",
    (FieldDecl("i", BIGINT), FieldDecl("ts", TIMESTAMP), FieldDecl("t", STRING), FieldDecl("x", BIGINT)),
    TimeDecl("ts"),
)
Events = Sequence[Mapping[str, Any]]


def recorded() -> Iterator[Mapping[str, Any]]:
    with gzip.open(CASES / "random_dev.jsonl.gz") as random, (CASES / "flink_suite.jsonl").open("rb") as suite:
        for line in chain(random, suite):
            case = json.loads(line)
            if "error" not in case and supports(case["pattern"]):
                yield case


def sorted_answers(answers: list[dict[str, list[int]]]) -> list[str]:
    return sorted(json.dumps(answer, sort_keys=True) for answer in answers)


@pytest.mark.timeout(300)
def test_naive_matcher_gives_the_recorded_answers() -> None:
    """The same matches, and in order of their first events; where Flink's own answer hangs on the layout of a heap
    the naive matcher may say so."""
    compared = 0
    for case in recorded():
        naive = Naive(case["pattern"], case["events"], case.get("flush", True), LIMIT)
        try:
            matches = naive.matches()
        except (UndeterminedError, TooMuchError):
            continue
        if case["ties"]["matches"] == "set":
            continue
        answers = [naive.answer(match) for match in matches]
        assert sorted_answers(answers) == sorted_answers(case["matches"]), case["name"]
        position = {event["i"]: index for index, event in enumerate(naive.events)}
        firsts = [min(position[i] for taken in match.values() for i in taken) for match in case["matches"]]
        assert [match.first for match in matches] == firsts, case["name"]
        compared += 1
    assert compared > 1_650


def checked(pattern: Mapping[str, Any], *, count: bool = False) -> CheckedPattern:
    """The pattern through the public builder; discards the example where Flink would refuse it."""
    try:
        return check_pattern(build(pattern, text_of).to_ast("p", STREAM, count=count), STREAM)
    except MalformedPatternError:
        assume(False)
        raise


def run(pattern: CheckedPattern, rows: Events, cuts: Sequence[int], end: int) -> list[dict[str, Any]]:
    """What the engine gives for the events, handed over in pieces, each followed by as much time as is safe."""
    operator = MatchOperator([pattern])
    out: list[dict[str, Any]] = []
    bounds = [0, *(cut for cut in cuts if cut < len(rows)), len(rows)]
    for begin, stop in pairwise(bounds):
        operator.process(batch_of(rows[begin:stop]))
        still_to_come = [row["ts"] for row in rows[stop:]]
        batches = operator.advance(min(still_to_come) - 1 if still_to_come else end)
        for batch in batches:
            out += [batch.row(index) | {"time": int(batch.time[index])} for index in range(len(batch))]
    return out


def batch_of(rows: Events) -> Batch:
    columns = {column.name: Vector.of(column.type, [row[column.name] for row in rows]) for column in STREAM.columns}
    return Batch(STREAM.name, np.array([row["ts"] for row in rows], np.int64), columns)


def answer_of(row: Mapping[str, Any]) -> dict[str, list[int]]:
    return {stage: [event["i"] for event in taken] for stage, taken in row.items() if isinstance(taken, list) and taken}


cases = given(
    pattern=supported_patterns(),
    rows=events(),
    cuts=st.lists(st.integers(0, 14), max_size=3).map(sorted),
    flush=st.one_of(st.just(True), st.just(True), st.booleans(), st.integers(0, 30)),
)
slowly = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])


def expected(pattern: Mapping[str, Any], rows: Events, flush: bool | int) -> tuple[Naive, list[dict[str, list[int]]]]:
    naive = Naive(pattern, rows, flush, LIMIT)
    try:
        return naive, [naive.answer(match) for match in naive.matches()]
    except (UndeterminedError, TooMuchError):
        assume(False)
        raise


def end_of_time(rows: Events, flush: bool | int) -> int:
    last = max(row["ts"] for row in rows)
    return MAX_TIME if flush is True else last if flush is False else max(last, flush)


@cases
@slowly
def test_engine_gives_the_matches_of_the_naive_matcher(
    pattern: Mapping[str, Any], rows: Events, cuts: list[int], flush: bool | int
) -> None:
    compiled = checked(pattern)
    naive, answers = expected(pattern, rows, flush)
    found = [answer_of(row) for row in run(compiled, rows, cuts, end_of_time(rows, flush))]
    assert sorted_answers(found) == sorted_answers(answers)
    position = {event["i"]: index for index, event in enumerate(naive.events)}
    firsts = [
        [min(position[i] for taken in answer.values() for i in taken) for answer in each] for each in (found, answers)
    ]
    assert firsts[0] == firsts[1]


@cases
@slowly
def test_counting_gives_the_number_of_the_naive_matches(
    pattern: Mapping[str, Any], rows: Events, cuts: list[int], flush: bool | int
) -> None:
    assume(pattern["stages"][-1].get("contiguity") != "not_follow")  # such matches are completed by no event
    compiled = checked(pattern, count=True)
    naive, answers = expected(pattern, rows, flush)
    counted: Counter[int] = Counter()
    for row in run(compiled, rows, cuts, end_of_time(rows, flush)):
        assert row["matches"] > 0
        counted[row["time"]] += row["matches"]
    if pattern["skip"]["strategy"] == "no_skip":
        assert counted == Counter(naive.events[match.moment[0]]["ts"] for match in naive.matches())
    else:  # a match may be held back, and is counted when it comes out
        assert sum(counted.values()) == len(answers)
