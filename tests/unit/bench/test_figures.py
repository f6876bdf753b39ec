"""The benchmarks' own arithmetic."""

from __future__ import annotations

import runpy
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

BENCH = Path(__file__).parents[3] / "bench"
figures = runpy.run_path(str(BENCH / "figures.py"), run_name="figures")
Taken, spread, rows_of, delays_of = (figures[name] for name in ("Taken", "spread", "rows_of", "delays_of"))


def taken(events: int, seconds: float, cpu: float, whole: float, matches: int | None = None) -> Any:
    return Taken(events, seconds, cpu, events + 10, whole, matches)


def test_median_with_what_it_lies_between() -> None:
    assert spread([5.0, 1.0, 2.0]).said(".1f") == "2.0 (1.0..5.0)"
    assert spread([1234.0]).said() == "1,234"


def test_rates_are_of_the_events_that_were_watched() -> None:
    assert taken(100, 4.0, 2.0, 11.0).rates == (25.0, 50.0, 10.0)


def test_ratios_are_of_one_turn() -> None:
    """The second turn has had half the machine: both were slow, and neither ratio is another for it."""
    rows = {
        row.way: row
        for row in rows_of(
            {
                "loop": [taken(100, 1.0, 1.0, 2.0), taken(100, 2.0, 1.0, 4.0), taken(100, 1.0, 1.0, 2.0)],
                "job": [taken(200, 1.0, 0.5, 2.0, 7), taken(200, 2.0, 0.5, 4.0, 7), taken(200, 0.8, 0.5, 2.0, 7)],
            },
            "loop",
        )
    }
    assert (rows["loop"].ratio.least, rows["loop"].ratio.most) == (1.0, 1.0)
    assert (rows["job"].ratio.least, rows["job"].ratio.median, rows["job"].ratio.most) == (2.0, 2.0, 2.5)
    assert rows["job"].cpu_ratio.median == 4.0
    assert rows["job"].rate.median == 200.0
    assert rows["job"].whole_rate.median == 105.0
    assert (rows["job"].events, rows["job"].matches, rows["loop"].matches) == (210, 7, None)


def test_other_matches_in_one_of_the_runs_are_an_error() -> None:
    with pytest.raises(ValueError, match=r"matches differ.*\[7, 8\]"):
        rows_of({"loop": [taken(1, 1, 1, 1)] * 2, "job": [taken(1, 1, 1, 1, 7), taken(1, 1, 1, 1, 8)]}, "loop")


@pytest.mark.parametrize(
    ("count", "p50", "p90", "p99"),
    [(1, 1, 1, 1), (2, 1, 2, 2), (100, 50, 90, 99), (101, 51, 91, 100), (1000, 500, 900, 990)],
)
def test_percentiles(count: int, p50: float, p90: float, p99: float) -> None:
    found = delays_of([float(value) for value in range(count, 0, -1)])
    assert (found.count, found.p50, found.p90, found.p99, found.most) == (count, p50, p90, p99, count)


def test_nothing_measured_is_an_error() -> None:
    with pytest.raises(ValueError, match="nothing was measured"):
        delays_of([])


def test_a_steady_rate_is_kept_however_late_one_looks() -> None:
    due = figures["due"]
    sent = 0
    for elapsed in (0.0, 0.001, 0.0015, 0.5, 0.5, 1.0):
        sent += due(10_000, elapsed, sent)
        assert sent == int(10_000 * elapsed)
    assert due(10_000, 0.9, sent) == 0


@pytest.fixture
def cluster() -> Iterator[dict[str, Any]]:
    """`bench/cluster.py`, whose neighbours it imports."""
    sys.path.insert(0, str(BENCH))
    before = set(sys.modules)
    try:
        yield runpy.run_path(str(BENCH / "cluster.py"))
    finally:
        sys.path.remove(str(BENCH))
        for name in ("inputs", "measure", "streams"):
            if name not in before:
                sys.modules.pop(name, None)


def test_owners_are_known_only_between_rebalances(cluster: dict[str, Any]) -> None:
    from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment

    def member(name: str, *numbers: int) -> dict[str, Any]:
        dealt = ConsumerProtocolMemberAssignment(0, [("logins", list(numbers))] if numbers else [], b"")
        return {"member_id": name, "member_assignment": dealt.encode()}

    group = {"state": "Stable", "members": [member("a", 0, 2), member("b", 1), member("c")]}
    assert cluster["owners_of"](group) == {("logins", 0): "a", ("logins", 2): "a", ("logins", 1): "b"}
    assert cluster["owners_of"]({**group, "state": "PreparingRebalance"}) == {}


def test_offsets_of_other_topics_and_of_none_do_not_count(cluster: dict[str, Any]) -> None:
    held = cluster["Held"]
    found = {("logins", 0): held(5, ""), ("logins", 1): held(-1, ""), ("letters", 0): held(9, "")}
    assert cluster["total"](found, ["logins"]) == 5


def test_a_key_is_the_user_and_goes_where_kafkas_clients_send_it(cluster: dict[str, Any]) -> None:
    assert cluster["key_of"](b'{"user":"u17","ts":1}') == b"u17"
    # from the tests of Kafka's own client: murmur2 of "21" is -973932308, of "foobar" -790332482
    assert cluster["partition_of"](b"21", 1000) == (-973932308 & 0x7FFFFFFF) % 1000
    assert cluster["partition_of"](b"foobar", 1000) == (-790332482 & 0x7FFFFFFF) % 1000
