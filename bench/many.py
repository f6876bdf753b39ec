"""What more patterns on one stream cost: how fast the live worker computes a backlog.

The worker is stopped (SIGSTOP) while the backlog is sent, so that no part of it is done before the clock runs, and the
other core is not busy with anything else while it does.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from figures import Spread, spread
from ingestion import BATCH, LOGINS, batches
from inputs import note
from measure import BenchError, load
from served import Served, server
from wire import ask, put_load

COUNTS = (1, 10, 100, 1_000)
EVENTS = {False: 1_000_000, True: 200_000}
FEW = 1_000
"""From so many patterns on a fifth of the events does."""
_CONNECTIONS = 4
_PATIENCE_SECONDS = 300.0


@dataclass(frozen=True)
class Many:
    """So many patterns.

    Attributes:
        patterns, events: how many.
        rate: events/s that the worker has computed.
        ratio: `rate` by that of one pattern in the same turn.
        matches: that were found.
        apply_s: seconds that it took to have the patterns run.
        load: at the end.
    """

    patterns: int
    events: int
    rate: Spread
    ratio: Spread
    matches: int
    apply_s: float
    load: float


def program(count: int) -> str:
    """Patterns as P6 has them: at least k failures within m minutes; no two are the same."""
    made = [LOGINS]
    for number in range(count):
        least, minutes = 3 + number % 10, 1 + number // 10
        made.append(f"""
pattern at_least_{least}_within_{minutes} on logins
  match  fail{{{least},}} ok
  define fail as status = 'FAILED',
         ok   as status = 'SUCCESS'
  within {minutes} min
  after match skip past last
  emit   user, {least} as k, {minutes} as m, count(fail) as failures
  into   alerts
""")
    return "".join(made)


async def many(
    folder: Path, repeats: int, *, quick: bool, counts: Sequence[int] = COUNTS, events: int | None = None
) -> list[Many]:
    """The counts of patterns taking turns, each in a server of its own."""
    rates: dict[int, list[float]] = {count: [] for count in counts}
    matches: dict[int, int] = {}
    applied: dict[int, float] = {}
    sent = {count: (events or EVENTS[quick]) // (5 if count >= FEW else 1) for count in counts}
    bodies = batches(BATCH, max(sent.values()) // BATCH)
    for _ in range(repeats):
        for count in counts:
            note(f"{count:,} patterns ...")
            with server(folder) as served:
                began = time.perf_counter()
                await served.apply(program(count))
                applied[count] = time.perf_counter() - began
                await _computed(served, bodies[:10])  # loads the kernels
                before = await _matches(served)
                seconds = await _computed(served, bodies[: sent[count] // BATCH])
                rates[count].append(sent[count] / seconds)
                matches[count] = await _matches(served) - before
    basis = rates[counts[0]]
    return [
        Many(
            count,
            sent[count],
            spread(own),
            spread([mine / theirs for mine, theirs in zip(own, basis, strict=True)]),
            matches[count],
            applied[count],
            load(),
        )
        for count, own in rates.items()
    ]


async def _computed(served: Served, bodies: Sequence[bytes]) -> float:
    """Seconds in which the live worker computes these."""
    (worker,) = served.children()
    requests = [
        served.target.request("POST", "/v1/streams/logins/events", body, "application/x-ndjson") for body in bodies
    ]
    os.kill(worker, signal.SIGSTOP)
    try:
        await put_load(served.target, requests, _CONNECTIONS, expected=b'"accepted":%d' % BATCH)
        # one more, by itself: its receipt says where the journal ends
        body = b'{"user":"last","ts":0,"status":"OTHER","ip":""}\n'
        receipt = await ask(served.target, "POST", "/v1/streams/logins/events", body, "application/x-ndjson")
    finally:
        os.kill(worker, signal.SIGCONT)
    began = time.perf_counter()
    return await served.reached(int(json.loads(receipt)["next"]), _PATIENCE_SECONDS) - began


async def _matches(served: Served) -> int:
    found = json.loads(await ask(served.target, "GET", "/v1/server"))["match_seq"]
    if found is None:
        raise BenchError("the server does not say how many matches there are")
    return int(found)
