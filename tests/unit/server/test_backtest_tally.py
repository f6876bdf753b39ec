"""Rows of two sides compared as multisets, and matches over time."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ostinato.patterns.errors import PatternError
from ostinato.server.backtest.planning import plan_sides
from ostinato.server.backtest.tally import Tally
from ostinato.server.backtest.timeline import Timeline
from ostinato.server.catalog.definitions import Body, Definitions
from ostinato.server.failures import RefusedError
from ostinato.server.live.generation import Generation, Member
from ostinato.server.matches import Rows


def rows(values: list[tuple[int, int]], kind: str = "match", pattern: str = "p") -> Rows:
    return Rows(
        "out",
        kind,  # type: ignore[arg-type]
        ((pattern, 1),),
        np.zeros(len(values), np.uint16),
        np.array([time for time, _ in values], np.int64),
        0,
        0,
        [b'{"v":%d}' % value for _, value in values],
    )


_VALUES = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), max_size=12)


@given(st.lists(st.tuples(_VALUES, _VALUES), max_size=5))
@settings(max_examples=60, deadline=None)
def test_the_difference_is_that_of_multisets(steps: list[tuple[list[tuple[int, int]], list[tuple[int, int]]]]) -> None:
    tally = Tally(("p",), frozenset({"p"}), Timeline(1))
    here, live = Counter[tuple[int, int]](), Counter[tuple[int, int]]()
    for mine, others in steps:
        tally.sides[0].append(rows(mine))
        tally.sides[1].append(rows(others))
        tally.settle()
        here.update(mine)
        live.update(others)
    (found,) = tally.finish()
    assert (found.matches, found.live) == (here.total(), live.total())
    assert found.common == (here & live).total()
    assert found.only_here == (here - live).total()
    assert found.only_live == (live - here).total()
    assert {(e["time"], e["row"]["v"]) for e in found.examples_here} <= set(here - live)
    assert bool(found.examples_here) == bool(here - live)
    assert bool(found.examples_live) == bool(live - here)
    assert {bucket.at_ms: bucket.matches for bucket in found.buckets if bucket.matches} == Counter(
        time for time, _ in here.elements()
    )


def test_matches_and_timeouts_are_told_apart_and_others_are_passed_over() -> None:
    tally = Tally(("p",), frozenset({"p"}), Timeline(1_000))
    tally.sides[0].append(rows([(5, 1)]))
    tally.sides[1].append(rows([(5, 1)], "timeout"))
    tally.sides[0].append(rows([(5, 1)], pattern="feeds"))
    tally.sides[0].append(Rows("late", "late", (), np.zeros(0, np.uint16), np.zeros(2, np.int64), 0, 0, [b"{}"] * 2))
    (found,) = tally.finish()
    assert (found.matches, found.timeouts, found.live, found.common) == (1, 0, 0, 0)
    assert (found.only_here, found.only_live, tally.late) == (1, 1, 2)
    assert found.examples_here == [{"kind": "match", "time": 5, "row": {"v": 1}}]


def test_a_difference_that_is_too_large_is_said_and_not_held() -> None:
    tally = Tally(("p",), frozenset({"p"}), Timeline(1_000), most=100)
    for n in range(5):
        tally.sides[0].append(rows([(n, value) for value in range(50)]))
        tally.settle()
    (found,) = tally.finish()
    assert (found.matches, found.live) == (250, 0)
    assert found.common is found.only_here is found.only_live is None
    assert "more than 100 rows" in tally.notes[0]


def test_without_a_live_version_nothing_is_compared() -> None:
    tally = Tally(("p",), frozenset(), Timeline(1_000))
    tally.sides[0].append(rows([(5, 1)]))
    (found,) = tally.finish()
    assert (found.matches, found.live, found.common, found.buckets[0].live) == (1, None, None, None)


def test_buckets_are_a_sixtieth_of_the_span_and_a_second_at_least() -> None:
    short = Timeline()
    short.count("p", np.array([0, 999, 1_000, 59_999]))
    short.finish()
    assert (short.bucket_ms, short.of("p")) == (1_000, {0: 2, 1_000: 1, 59_000: 1})
    long = Timeline()
    times = np.arange(0, 86_400_000, 500, dtype=np.int64)
    for part in np.array_split(times, 50):
        long.count("p", part)
    long.finish()
    assert 86_400_000 / 61 < long.bucket_ms < 86_400_000 / 30
    assert sum(long.of("p").values()) == len(times)
    given_span = Timeline(span_ms=6_000_000)
    given_span.count("p", np.array([5]))
    given_span.finish()
    assert given_span.bucket_ms == 100_000


def test_too_many_buckets_are_merged_and_that_is_said() -> None:
    fine = Timeline(1)
    fine.count("p", np.arange(10_000, dtype=np.int64))
    assert fine.is_coarser
    assert sum(fine.of("p").values()) == 10_000
    before = Timeline(1_000)
    before.count("p", np.array([-1]))
    assert before.of("p") == {-1_000: 1}


STREAM = "stream e (k string key, ts timestamp(ms) time, v int)"
RISE = "pattern rise on e match a define a as v > $least emit a.v as v into rises"
LIVE = Body(
    Definitions(),
    Generation(
        7,
        (STREAM,),
        {"least": "param least = 3"},
        (
            Member("rise", 4, "live", RISE),
            Member("other", 1, "live", "pattern other on e match a define a as v > 9"),
            Member("rise", 3, "draining", RISE),
        ),
    ),
)


def test_what_feeds_a_pattern_runs_with_it() -> None:
    sides = plan_sides("pattern twice on rises match a b emit a.v as v", {}, LIVE, compare=True)
    assert [member.name for member in sides.here.members] == ["rise", "twice"]
    assert (sides.live, sides.patterns, list(sides.sources)) == (None, ("twice",), ["e"])


def test_the_live_version_keeps_its_parameters() -> None:
    text = RISE.replace("$least", "least")
    sides = plan_sides(text, {"least": "5"}, LIVE, compare=True)
    assert sides.live is not None
    assert [(member.name, member.version) for member in sides.live.members] == [("rise", 4)]
    assert [(member.name, member.version) for member in sides.here.members] == [("rise", 5)]
    assert sides.here.params["least"] != sides.live.params["least"]
    assert plan_sides(text, {}, LIVE, compare=False).live is None


def test_what_is_wrong_is_said_with_its_place() -> None:
    with pytest.raises(PatternError, match="<backtest>:1:"):
        plan_sides("pattern p on nothing match a", {}, LIVE, compare=True)
    for params in ({"most": "1"}, {"least": "much"}):
        with pytest.raises(RefusedError):
            plan_sides("pattern p on e match a", params, LIVE, compare=True)
