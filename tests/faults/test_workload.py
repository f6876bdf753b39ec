"""The undisturbed run gives what a matcher gives that enumerates by definition; so it may serve as a measure."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.faults.checker import check
from tests.faults.driver import Job
from tests.faults.workload import KEYS, Event, Shape, events_of, lay_out
from tests.property.naive import Naive

Rows = Sequence[Mapping[str, Any]]


def kind(*names: str) -> dict[str, Any]:
    conditions = [
        {"op": "eq", "args": [{"op": "field", "name": "kind"}, {"op": "const", "value": name}]} for name in names
    ]
    return conditions[0] if len(conditions) == 1 else {"op": "or", "args": conditions}


def greater(stage: str, name: str) -> dict[str, Any]:
    last = {"op": "agg", "fn": "last", "stage": stage, "field": name}
    return {"op": "gt", "args": [{"op": "field", "name": name}, last]}


PATTERNS: Mapping[str, Mapping[str, Any]] = {
    "bursts": {
        "stages": [
            {"name": "fail", "where": kind("fail"), "quantifier": {"min": 3, "max": 3, "inner": "relaxed"}},
            {"name": "ok", "contiguity": "relaxed", "where": kind("ok")},
        ],
        "within_ms": 20_000,
        "skip": {"strategy": "skip_past_last"},
    },
    "pairs": {
        "stages": [
            {"name": "a", "where": kind("login")},
            {"name": "b", "contiguity": "any", "where": kind("buy")},
        ],
        "within_ms": 6_000,
        "skip": {"strategy": "no_skip"},
    },
    "silences": {
        "stages": [
            {"name": "a", "where": kind("login")},
            {"name": "b", "contiguity": "not_follow", "where": kind("buy", "ok")},
        ],
        "within_ms": 4_000,
        "skip": {"strategy": "no_skip"},
    },
    "quiet": {
        "stages": [
            {"name": "x", "quantifier": {"min": 2, "max": 2, "inner": "strict"}},
            {
                "name": "y",
                "contiguity": "strict",
                "where": {"op": "or", "args": [greater("x", "part"), greater("x", "seq")]},
            },
        ],
        "within_ms": 60_000,
        "skip": {"strategy": "skip_past_last"},
    },
}


def answers(name: str, events: Sequence[Event], key: str) -> list[str]:
    """Who takes part in the matches, by (part, seq)."""
    found = []
    by_key: dict[str, list[Event]] = defaultdict(list)
    for event in events:
        by_key[event[key]].append({**event, "i": len(by_key[event[key]])})
    for own in by_key.values():
        naive = Naive(PATTERNS[name], own, True, 1_000_000)
        for match in naive.matches():
            taken = [own[i] for each in naive.answer(match).values() for i in each]
            found.append(json.dumps([[event["part"], event["seq"]] for event in taken]))
    return sorted(found)


def taken(name: str, row: Mapping[str, Any]) -> str:
    last = [[row["part"], row["seq"]]]
    before: list[list[int]] = []
    if name == "bursts":
        before = [list(pair) for pair in zip(row["fail_parts"], row["fail_seqs"], strict=True)]
    elif name == "pairs":
        before = [[row["first_part"], row["first_seq"]]]
    elif name == "quiet":
        before = [list(pair) for pair in zip(row["x_parts"], row["x_seqs"], strict=True)]
    return json.dumps(before + last)


def test_the_undisturbed_run_gives_what_the_definitions_say(tmp_path: Path) -> None:
    shape = Shape(events=3_000)
    folder = tmp_path / "job"
    lay_out(folder, shape)
    job = Job(folder)
    try:
        assert job.start().wait() == 0
    finally:
        job.close()
    written: dict[str, Rows] = {
        name: [json.loads(line) for line in (folder / "out" / f"{name}.jsonl").read_text().splitlines()]
        for name in KEYS
    }
    assert all(len(rows) > 20 for rows in written.values())
    events = sorted(events_of(shape), key=lambda event: event["ts"])
    for name in ("bursts", "pairs", "silences"):
        assert sorted(taken(name, row) for row in written[name]) == answers(name, events, "user")
    # streams that patterns read are in the order of time, and at equal times of content
    silences = sorted(
        written["silences"], key=lambda row: (row["match_time"], row["city"], row["who"], row["part"], row["seq"])
    )
    timed = [{**row, "ts": n} for n, row in enumerate(silences)]
    # the minute is never over between three of one city, which the next line makes sure of
    assert max(gaps(silences)) < 60
    assert sorted(taken("quiet", row) for row in written["quiet"]) == answers("quiet", timed, "city")


def gaps(rows: Rows) -> list[float]:
    """Seconds from a row to the second one behind it of its city."""
    from datetime import datetime

    times: dict[str, list[float]] = defaultdict(list)
    for row in rows:
        times[row["city"]].append(datetime.fromisoformat(row["match_time"]).timestamp())
    return [late - early for own in times.values() for early, late in zip(own, own[2:], strict=False)]


@pytest.mark.parametrize("workers", [1, 3])
def test_the_checker_finds_no_fault_in_undisturbed_runs(tmp_path: Path, workers: int, reference: Any) -> None:
    shape = Shape(events=3_000)
    folder = tmp_path / "job"
    lay_out(folder, shape)
    job = Job(folder, "-p", str(workers))
    try:
        assert job.start().wait() == 0
    finally:
        job.close()
    written = {path.stem: path.read_bytes() for path in (folder / "out").glob("*.jsonl")}
    assert not check(reference(shape), written, KEYS)
    missing = {**written, "pairs": written["pairs"].split(b"\n", 1)[1]}
    assert check(reference(shape), missing, KEYS).counts["lost"] == 1
