"""The baseline: what one would write by hand in CPython for each workload.

    python bench/plain.py p1 login.jsonl [--dump OUT]

The loops do, step for step, what those of the published comparison do (docs/performance.md), so that ratios to
them can be compared. orjson decodes, a heap puts the events back in order behind a bound of two seconds, a
dictionary holds what is pending for each key. Prints ``{"events": n, "matches": m}``. Nothing here is general:
p4 counts by arithmetic and p6 merges its hundred patterns by hand.
"""

from __future__ import annotations

import argparse
import json
from collections import deque
from collections.abc import Callable
from heapq import heappop, heappush
from pathlib import Path
from typing import Any

import orjson

DELAY_MS = 2_000

Row = tuple[Any, ...]
Result = tuple[int, int, list[Row]]
"""Number of events, number of matches, and the matches where they are not only counted."""


def replay_logins(path: Path, handle: Callable[[int, str, bool], None]) -> int:
    """Call ``handle(ts, user, failed)`` for every login in order of time; the number of events."""
    loads = orjson.loads
    heap: list[tuple[int, int, str, bool]] = []
    number = latest = 0
    with path.open("rb") as lines:
        for line in lines:
            event = loads(line)
            number += 1
            ts = event["ts"]
            if ts > latest:
                latest = ts
            heappush(heap, (ts, number, event["user"], event["status"] == "FAILED"))
            watermark = latest - DELAY_MS
            while heap[0][0] < watermark:
                due = heappop(heap)
                handle(due[0], due[2], due[3])
    while heap:
        due = heappop(heap)
        handle(due[0], due[2], due[3])
    return number


def replay_payments(path: Path, handle: Callable[[int, str, float], None]) -> int:
    """Call ``handle(ts, account, amount)`` for every payment in order of time; the number of events."""
    loads = orjson.loads
    heap: list[tuple[int, int, str, float]] = []
    number = latest = 0
    with path.open("rb") as lines:
        for line in lines:
            event = loads(line)
            number += 1
            ts = event["ts"]
            if ts > latest:
                latest = ts
            heappush(heap, (ts, number, event["account"], event["amount"]))
            watermark = latest - DELAY_MS
            while heap[0][0] < watermark:
                due = heappop(heap)
                handle(due[0], due[2], due[3])
    while heap:
        due = heappop(heap)
        handle(due[0], due[2], due[3])
    return number


def replay_ticks(path: Path, handle: Callable[[int, str, float, int], None]) -> int:
    """Call ``handle(ts, symbol, price, volume)`` for every trade in order of time; the number of events."""
    loads = orjson.loads
    heap: list[tuple[int, int, str, float, int]] = []
    number = latest = 0
    with path.open("rb") as lines:
        for line in lines:
            event = loads(line)
            number += 1
            ts = event["ts"]
            if ts > latest:
                latest = ts
            heappush(heap, (ts, number, event["symbol"], event["price"], event["volume"]))
            watermark = latest - DELAY_MS
            while heap[0][0] < watermark:
                due = heappop(heap)
                handle(due[0], due[2], due[3], due[4])
    while heap:
        due = heappop(heap)
        handle(due[0], due[2], due[3], due[4])
    return number


def p1_login(path: Path) -> Result:
    """Three or more failures strictly in a row, then a success, within 5 minutes; skip past the last event."""
    matches: list[Row] = []
    failures: dict[str, list[int]] = {}
    within_ms = 300_000

    def handle(ts: int, user: str, failed: bool) -> None:
        times = failures.get(user)
        if failed:
            if times is None:
                failures[user] = [ts]
            else:
                times.append(ts)
        elif times:
            too_early = ts - within_ms
            first = 0
            while first < len(times) and times[first] <= too_early:
                first += 1
            count = len(times) - first
            if count >= 3:
                matches.append((user, count, times[first], ts))
            times.clear()

    return replay_logins(path, handle), len(matches), matches


def p2_fraud(path: Path) -> Result:
    """A payment under 1, the next one over 500, within a minute; no skip."""
    matches: list[Row] = []
    tiny: dict[str, tuple[int, float] | None] = {}

    def handle(ts: int, account: str, amount: float) -> None:
        before = tiny.get(account)
        if before is not None and amount > 500 and ts - before[0] < 60_000:
            matches.append((account, before[0], ts, before[1], amount))
        tiny[account] = (ts, amount) if amount < 1 else None

    return replay_payments(path, handle), len(matches), matches


def p3_trend(path: Path) -> Result:
    """A large trade, then greedily every trade above the last one taken, then one 1 % under the first; within
    60 s; skip past the last event. A finished match waits while one that started earlier is still open."""
    matches: list[Row] = []
    open_: dict[str, list[list[Any]]] = {}
    sequence = 0
    start, first_price, last_price, rises, finished, end, started = range(7)

    def emit(symbol: str, runs: list[list[Any]]) -> None:
        while runs and runs[0][finished]:
            run = runs[0]
            matches.append((symbol, run[start], run[rises], run[end]))
            runs[:] = [other for other in runs if other[started] > run[finished]]

    def handle(ts: int, symbol: str, price: float, volume: int) -> None:
        nonlocal sequence
        runs = open_.get(symbol)
        if runs is None:
            runs = open_[symbol] = []
        sequence += 1
        runs[:] = [run for run in runs if run[finished] or ts - run[start] < 60_000]
        emit(symbol, runs)
        for run in runs:
            if run[finished]:
                continue
            if run[rises] and price < run[first_price] * 0.99:
                run[finished] = sequence
                run[end] = ts
            elif price > run[last_price]:
                run[last_price] = price
                run[rises] += 1
        if volume > 900:
            runs.append([ts, price, price, 0, 0, 0, sequence])
        emit(symbol, runs)

    events = replay_ticks(path, handle)
    for symbol, runs in open_.items():
        runs[:] = [run for run in runs if run[finished]]
        emit(symbol, runs)
    return events, len(matches), matches


def p4_any(path: Path) -> Result:
    """Any two trades over 500 before one over 990, within 30 s: counted, k before it make k (k - 1) / 2 pairs."""
    recent: dict[str, deque[int]] = {}
    total = 0

    def handle(ts: int, symbol: str, _: float, volume: int) -> None:
        nonlocal total
        if volume <= 500:
            return
        times = recent.get(symbol)
        if times is None:
            times = recent[symbol] = deque()
        too_early = ts - 30_000
        while times and times[0] <= too_early:
            times.popleft()
        if volume > 990:
            before = len(times)
            total += before * (before - 1) // 2
        times.append(ts)

    return replay_ticks(path, handle), total, []


def p6_many(path: Path) -> Result:
    """p1 with at least k = 3 ... 12 failures within m = 1 ... 10 minutes, all hundred at once: counted."""
    failures: dict[str, list[int]] = {}
    spans_ms = [minutes * 60_000 for minutes in range(1, 11)]
    total = 0

    def handle(ts: int, user: str, failed: bool) -> None:
        nonlocal total
        times = failures.get(user)
        if failed:
            if times is None:
                failures[user] = [ts]
            else:
                times.append(ts)
        elif times:
            if len(times) >= 3:
                for span_ms in spans_ms:
                    too_early = ts - span_ms
                    count = 0
                    for time in reversed(times):
                        if time <= too_early:
                            break
                        count += 1
                    if count >= 3:
                        total += min(count, 12) - 2
            times.clear()

    return replay_logins(path, handle), total, []


LOOPS: dict[str, Callable[[Path], Result]] = {
    "p1": p1_login,
    "p2": p2_fraud,
    "p3": p3_trend,
    "p4": p4_any,
    "p6": p6_many,
}


def main() -> None:
    parser = argparse.ArgumentParser(description="Run the hand-written loop of one workload over a file.")
    parser.add_argument("workload", choices=sorted(LOOPS))
    parser.add_argument("file", type=Path)
    parser.add_argument("--dump", type=Path, help="write the matches, sorted, one on a line")
    chosen = parser.parse_args()
    events, matches, rows = LOOPS[chosen.workload](chosen.file)
    if chosen.dump:
        chosen.dump.write_text("".join(" ".join(map(str, row)) + "\n" for row in sorted(rows, key=str)))
    print(json.dumps({"events": events, "matches": matches}))


if __name__ == "__main__":
    main()
