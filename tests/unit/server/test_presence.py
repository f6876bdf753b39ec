"""What a job says of itself."""

from __future__ import annotations

import pytest

from ostinato.cep.runtime.checkpoints import CheckpointInfo, CheckpointStatistics
from ostinato.cep.runtime.commands import JobState, JobStatus
from ostinato.cep.runtime.occupation import OUTPUT, SOURCES, Occupation, OperatorTimes
from ostinato.cep.runtime.statistics import Statistics
from ostinato.server.console import age, as_json, size, summary, table
from ostinato.server.presence import Rate, describe, whole_process

TIMES = {
    SOURCES: OperatorTimes(1.0, 6.0, 3.0),
    "logins": OperatorTimes(4.0, 3.0, 3.0),
    OUTPUT: OperatorTimes(3.0, 7.0, 0.0),
}


def status(restarts: int = 0) -> JobStatus:
    numbers = Statistics(events=1000, seconds=2.0, resumed=400, measure=lambda: Occupation(TIMES))
    last = CheckpointInfo(7, False, "/d", 0, 0.012, 2048, 4096)
    checkpoints = CheckpointStatistics(completed=3, failed=1, last=last, age_seconds=4.0, bytes_written=9000)
    return JobStatus(JobState.RUNNING, numbers, checkpoints, restarts)


def test_operators_of_a_process_take_turns() -> None:
    assert whole_process(TIMES) == OperatorTimes(5.0, 2.0, 3.0)
    assert whole_process({}) == OperatorTimes(0.0, 0.0, 0.0)


def test_describe() -> None:
    said = describe(status(), 12.6)
    assert (said["state"], said["events"], said["events_per_second"]) == ("RUNNING", 1000, 13)
    assert said["time"] == {
        "busy": 0.5,
        "idle": 0.2,
        "backpressured": 0.3,
        "busy_seconds": 5.0,
        "idle_seconds": 2.0,
        "backpressured_seconds": 3.0,
    }
    assert said["operators"]["logins"]["busy_seconds"] == 4.0
    assert said["checkpoints"]["last"]["id"] == 7
    assert said["checkpoints"]["age_seconds"] == 4.0


def test_workers_count_alike() -> None:
    busy, lazy = {"a": OperatorTimes(10.0, 0.0, 0.0)}, {"a": OperatorTimes(0.0, 10.0, 0.0)}
    numbers = Statistics(measure=lambda: Occupation({"a": busy["a"] + lazy["a"]}, [busy, lazy]))
    assert describe(JobStatus(JobState.RUNNING, numbers), 0)["time"]["busy"] == 0.5


def test_the_summary_speaks_of_checkpoints() -> None:
    said = summary(status(restarts=1), None, None)
    assert "300 events/s" in said, "what an earlier run has read does not count"
    assert said.endswith("3 checkpoints (the last 12 ms, 2.0 KiB), 1 failed, 1 restart")
    assert '"age_seconds": 4.0' in as_json(status(), None, None, "")


def test_the_rate_is_that_of_the_last_seconds() -> None:
    now = [100.0]
    rate = Rate(lambda: now[0])
    assert rate.per_second(5_000) == 0
    rate.note(5_000)  # resumed: read by an earlier run
    for _ in range(30):
        now[0] += 1
        rate.note(5_000 + int(now[0] - 100) * 10)
    assert rate.per_second(5_300) == pytest.approx(10)
    for _ in range(30):
        now[0] += 1
        rate.note(5_300)
    assert rate.per_second(5_300) == 0
    rate.note(4_000)
    now[0] += 2
    assert rate.per_second(4_100) == 50


def test_words() -> None:
    assert [size(n) for n in (0, 1023, 1536, 5 << 20, 200 << 20, 3 << 40)] == [
        "0 B",
        "1023 B",
        "1.5 KiB",
        "5.0 MiB",
        "200 MiB",
        "3072 GiB",
    ]
    assert [age(s) for s in (4, 119, 600, 7200)] == ["4 s", "119 s", "10 min", "2 h"]
    assert table([("a", "n"), ("long", "5")], left=1) == "a     n\nlong  5"
