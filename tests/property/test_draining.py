"""A pattern that drains from some event on gives the matches that began before it, as the naive matcher finds them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from ostinato.cep.batch import Batch
from ostinato.cep.nfa.header import structure_of
from ostinato.cep.nfa.operator import MatchOperator
from ostinato.patterns.typecheck import CheckedPattern
from ostinato.state.operator import HandedOver
from tests.property.naive import Naive, TooMuchError, UndeterminedError
from tests.property.naive_strategies import events, supported_patterns
from tests.property.test_naive import (
    LIMIT,
    Events,
    answer_of,
    batch_of,
    checked,
    end_of_time,
    sorted_answers,
)

cases = given(
    pattern=supported_patterns(),
    rows=events(),
    places=st.lists(st.integers(0, 14), min_size=1, max_size=3).map(sorted),
    flush=st.one_of(st.just(True), st.just(True), st.booleans(), st.integers(0, 30)),
)
slowly = settings(
    max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much]
)


def expected(pattern: Mapping[str, Any], rows: Events, flush: bool | int, place: int) -> Naive:
    naive = Naive(pattern, rows, flush, LIMIT, place)
    try:
        naive.matches()
    except (UndeterminedError, TooMuchError):
        assume(False)
    return Naive(pattern, rows, flush, LIMIT, place)


def run(pattern: CheckedPattern, rows: Sequence[Mapping[str, Any]], places: Sequence[int], end: int) -> list[Batch]:
    """What comes out where the pattern drains from the first of the places on, and is handed over at each."""
    operator = MatchOperator([pattern])
    out: list[Batch] = []
    for begin, stop in pairwise([0, *places, len(rows)]):
        if begin or begin == places[0]:
            state = operator.snapshot(None)
            before = operator
            operator = MatchOperator([pattern], draining={"p"})
            assert structure_of(operator.compiled, 0) == structure_of(before.compiled, 0)
            operator.restore(HandedOver(state, range(128)))
        operator.process(batch_of(rows[begin:stop]))
        out += operator.advance(rows[stop]["ts"] - 1 if stop < len(rows) else end)
    return out


def in_order(rows: Events, places: Sequence[int]) -> tuple[list[Mapping[str, Any]], list[int]]:
    """The events by time; the places that part events of different times."""
    by_time = sorted(rows, key=lambda row: row["ts"])
    kept = [
        place
        for place in places
        if place == 0 or (place < len(rows) and by_time[place - 1]["ts"] < by_time[place]["ts"])
    ]
    assume(kept)
    return by_time, kept


@cases
@slowly
def test_what_began_before_goes_on_to_its_end(
    pattern: Mapping[str, Any], rows: Events, places: list[int], flush: bool | int
) -> None:
    compiled = checked(pattern)
    by_time, kept = in_order(rows, places)
    naive = expected(pattern, by_time, flush, kept[0])
    batches = run(compiled, by_time, kept, end_of_time(rows, flush))
    found = [answer_of(batch.row(index)) for batch in batches for index in range(len(batch))]
    assert sorted_answers(found) == sorted_answers([naive.answer(match) for match in naive.matches()])


@cases
@slowly
def test_counted_matches_that_began_before(
    pattern: Mapping[str, Any], rows: Events, places: list[int], flush: bool | int
) -> None:
    assume(pattern["stages"][-1].get("contiguity") != "not_follow")  # such matches are completed by no event
    compiled = checked(pattern, count=True)
    by_time, kept = in_order(rows, places)
    naive = expected(pattern, by_time, flush, kept[0])
    counted: Counter[int] = Counter()
    for batch in run(compiled, by_time, kept, end_of_time(rows, flush)):
        for time, count in zip(batch.time.tolist(), batch.columns["matches"].to_list(), strict=True):
            counted[time] += count
    if pattern["skip"]["strategy"] == "no_skip":
        assert counted == Counter(naive.events[match.moment[0]]["ts"] for match in naive.matches())
    else:
        assert sum(counted.values()) == len(naive.matches())
