"""The queue of timers: by time, in memory and in a database where there are many."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from ostinato.state import rocks, timers
from ostinato.state.timers import Due, TimerQueue


def test_soonest_first_then_by_key_and_namespace() -> None:
    queue = TimerQueue(0)
    due = [Due(5, b"b", "", 1), Due(5, b"a", "y", 2), Due(5, b"a", "", 2), Due(-3, b"z", "", 0)]
    for each in due:
        queue.add(each)
    assert queue.peek() == -3
    assert list(queue.due(5)) == sorted(due)
    assert queue.peek() is None


def test_those_added_meanwhile_come_too() -> None:
    queue = TimerQueue(0)
    queue.add(Due(1, b"a", "", 0))
    seen = []
    for due in queue.due(3):
        seen.append(due.time)
        queue.add(Due(due.time + 1, b"a", "", 0))
    assert seen == [1, 2, 3]
    assert queue.peek() == 4


@pytest.mark.parametrize("seed", range(3))
def test_many_go_to_the_database_and_come_back_in_order(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timers, "_SPILL_ABOVE", 50)
    monkeypatch.setattr(timers, "_REFILL", 20)
    rng = random.Random(seed)
    with rocks.open(tmp_path / "db", 1 << 20, 1 << 20) as database:
        queues = [TimerQueue(domain, database) for domain in (0, 1)]
        held: list[list[Due]] = [[], []]
        now = 0
        for _ in range(200):
            for _ in range(rng.randrange(12)):
                domain = rng.randrange(2)
                key = b"key\xff\x00%d" % rng.randrange(9)
                due = Due(now + rng.randrange(1, 80), key, rng.choice(["", "ö"]), rng.randrange(3))
                queues[domain].add(due)
                held[domain].append(due)
            now += rng.randrange(5)
            for queue, own in zip(queues, held, strict=True):
                ready = sorted(each for each in own if each.time <= now)
                # twice the same is one in the database, and may be two in memory
                assert sorted(set(queue.due(now))) == sorted(set(ready))
                own[:] = [each for each in own if each.time > now]
        assert any(True for _ in database.scan(b"t")) or now > 0


def test_times_come_in_order_out_of_the_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timers, "_SPILL_ABOVE", 10)
    monkeypatch.setattr(timers, "_REFILL", 7)
    rng = random.Random(1)
    with rocks.open(tmp_path / "db", 1 << 20, 1 << 20) as database:
        queue = TimerQueue(0, database)
        due = [
            Due(time, b"k%d" % rng.randrange(1000), "", 0) for time in [rng.randrange(-500, 500) for _ in range(500)]
        ]
        for each in due:
            queue.add(each)
        assert len(list(database.scan(b"t"))) > 400
        found = [each.time for each in queue.due(10**6)]
        assert found == sorted(found)
        assert len(set(due)) <= len(found) <= len(due)
