"""Event time: lateness row by row, splits, idleness, the far-future guard, and clocks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ostinato.cep.batch import MAX_TIME, MIN_TIME
from ostinato.cep.runtime.time import TimePolicy, WatermarkGenerator

DAY_MS = 86_400_000
NOW = 1_700_000_000_000


def times(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def marked(mask: np.ndarray | None) -> list[int]:
    return [] if mask is None else np.flatnonzero(mask).tolist()


def by_definition(policy: TimePolicy, rows: list[tuple[int, int]]) -> tuple[list[str], int]:
    """What becomes of each row, one at a time and straight from the definition."""
    highest: dict[int, int] = {}
    watermark = MIN_TIME
    fates = []
    for split, time in rows:
        before = highest.get(split)
        highest.setdefault(split, MIN_TIME)
        # The split's first row takes part in the minimum from when it comes.
        floor = max(NOW, before or MIN_TIME) if policy.max_ahead_ms is None else before
        reach = DAY_MS if policy.max_ahead_ms is None else policy.max_ahead_ms
        if before is not None and before != MIN_TIME and floor is not None and time > floor + reach:
            fates.append("ahead")
            continue
        bound = max(watermark, min(highest.values()) - policy.delay_ms - 1)
        fates.append("late" if time <= bound else "on time")
        highest[split] = max(highest[split], time)
        watermark = max(watermark, min(highest.values()) - policy.delay_ms - 1)
    return fates, watermark


@given(
    rows=st.lists(st.tuples(st.integers(0, 2), st.integers(0, 60)), max_size=40),
    cuts=st.lists(st.booleans(), min_size=40, max_size=40),
    delay=st.integers(0, 20),
    reach=st.sampled_from([None, 5, 30]),
)
def test_any_cut_gives_the_fate_of_the_definition(
    rows: list[tuple[int, int]], cuts: list[bool], delay: int, reach: int | None
) -> None:
    policy = TimePolicy(delay_ms=delay, max_ahead_ms=reach, idle_ms=0)
    generator = WatermarkGenerator(policy)
    fates: list[str] = []
    start = 0
    for index in range(len(rows)):
        last = index + 1 == len(rows)
        if last or cuts[index] or rows[index + 1][0] != rows[index][0]:
            cut = rows[start : index + 1]
            admission = generator.admit(cut[0][0], times(*(time for _, time in cut)), NOW)
            late, ahead = marked(admission.late), marked(admission.ahead)
            fates += ["late" if i in late else "ahead" if i in ahead else "on time" for i in range(len(cut))]
            start = index + 1
    assert (fates, generator.watermark) == by_definition(policy, rows)


def test_a_row_of_the_largest_time_less_the_delay_is_not_late() -> None:
    generator = WatermarkGenerator(TimePolicy(delay_ms=10))
    admission = generator.admit(0, times(100, 90, 89), NOW)
    assert marked(admission.late) == [2]
    assert generator.watermark == 89


def test_the_slowest_split_decides() -> None:
    generator = WatermarkGenerator(TimePolicy())
    generator.add_split(0, NOW)
    generator.add_split(1, NOW)
    generator.admit(0, times(100), NOW)
    assert generator.watermark == MIN_TIME
    generator.admit(1, times(50), NOW)
    assert generator.watermark == 49
    generator.finish_split(1)
    assert generator.watermark == 99


def test_a_silent_split_stops_holding_the_others_up() -> None:
    generator = WatermarkGenerator(TimePolicy(idle_ms=1000), NOW)
    generator.add_split(0, NOW)
    generator.add_split(1, NOW)
    generator.admit(0, times(100), NOW + 900)
    generator.tick(NOW + 999)
    assert generator.watermark == MIN_TIME
    generator.tick(NOW + 1000)
    assert generator.watermark == 99
    late = generator.admit(1, times(99, 100), NOW + 1500).late
    assert marked(late) == [0]


def test_when_all_are_silent_the_foremost_decides() -> None:
    generator = WatermarkGenerator(TimePolicy(idle_ms=1000), NOW)
    generator.admit(0, times(100), NOW)
    generator.admit(1, times(50), NOW)
    generator.tick(NOW + 2000)
    assert generator.watermark == 99


def test_one_row_from_the_far_future_moves_nothing() -> None:
    generator = WatermarkGenerator(TimePolicy())
    admission = generator.admit(0, times(NOW, NOW + 30 * DAY_MS, NOW + 1), NOW)
    assert marked(admission.ahead) == [1]
    assert admission.late is None
    assert generator.watermark == NOW


def test_a_gap_in_recorded_events_is_no_far_future() -> None:
    generator = WatermarkGenerator(TimePolicy())
    assert generator.admit(0, times(0, 40 * DAY_MS, 80 * DAY_MS), NOW).ahead is None


def test_a_declared_reach_counts_from_the_largest_time_so_far() -> None:
    generator = WatermarkGenerator(TimePolicy(max_ahead_ms=10))
    assert marked(generator.admit(0, times(100, 111, 110, 120, 131), NOW).ahead) == [1, 4]


def test_live_rows_are_measured_by_the_clock() -> None:
    generator = WatermarkGenerator(TimePolicy(max_ahead_ms=1000, live=True))
    assert marked(generator.admit(0, times(NOW + 1001, NOW + 1000), NOW).ahead) == [0]


def test_a_time_that_no_calendar_holds_is_refused_even_first() -> None:
    generator = WatermarkGenerator(TimePolicy())
    assert marked(generator.admit(0, times(2**63 - 1, NOW), NOW).ahead) == [0]
    assert generator.watermark == NOW - 1


def test_many_far_future_rows_in_one_batch() -> None:
    generator = WatermarkGenerator(TimePolicy(max_ahead_ms=10))
    values = [value for i in range(50) for value in (i, 1000 + i)]
    assert marked(generator.admit(0, times(*values), NOW).ahead) == list(range(1, 100, 2))


def test_processing_time_is_the_clock_and_never_goes_back() -> None:
    generator = WatermarkGenerator(TimePolicy(mode="processing"))
    first = generator.admit(0, times(1, 2), NOW)
    assert first.time.tolist() == [NOW, NOW]
    generator.tick(NOW + 5)
    assert generator.watermark == NOW + 4
    assert generator.admit(0, times(3), NOW - 100).time.tolist() == [NOW + 5]


def test_ingestion_time_stands_still_without_rows() -> None:
    generator = WatermarkGenerator(TimePolicy(mode="ingestion", idle_ms=0))
    generator.admit(0, times(1), NOW)
    generator.tick(NOW + 1000)
    assert generator.watermark == NOW - 1


@pytest.mark.parametrize("mode", ["event", "processing", "ingestion"])
def test_the_state_goes_on_elsewhere(mode: str) -> None:
    policy = TimePolicy(mode=mode, delay_ms=3)
    one, other = WatermarkGenerator(policy), WatermarkGenerator(policy)
    one.add_split(1, NOW)
    one.admit(0, times(10, 20), NOW)
    other.load(one.state())
    for generator in (one, other):
        generator.admit(1, times(15), NOW + 1)
    assert one.state() == other.state()


def test_the_end_makes_every_timer_due() -> None:
    generator = WatermarkGenerator(TimePolicy())
    generator.finish()
    assert generator.watermark == MAX_TIME
