"""How fast events get in: in batches, in compressed batches, one by one; each beside bare servers in the same turn.

The stream of logins has `processing time`, so that the same batches can be sent again and again, and P1 runs over it:
the live worker computes beside the server, on the same cores, as it does in life.
"""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from figures import Spread, percentile, spread
from inputs import note
from served import Served, bare, server
from streams import login
from wire import Load, put_load

BATCH = 1_000
BATCHES = 100
"""Different ones, sent round and round."""
USERS = 5_000
SECONDS = {False: 5.0, True: 2.0}
WARM_SECONDS = 1.0
OWN, STORE, ANSWER = "Ostinato", "bare, an fsync per request", "bare, nothing stored"

LOGINS = """\
stream logins (
  user   string key,
  ts     bigint,
  status string,
  ip     string
) processing time
"""
P1 = """
pattern suspicious_login on logins
  match  fail{3,} ok
  define fail as status = 'FAILED',
         ok   as status = 'SUCCESS'
  within 5 min
  after match skip past last
  emit   user, count(fail) as failures
  into   alerts
"""


@dataclass(frozen=True)
class Workload:
    """What is sent: so many events a request, over so many connections."""

    title: str
    events: int
    connections: int
    zipped: bool = False


WORKLOADS = (
    Workload("batches of 1,000", BATCH, 4),
    Workload("batches of 1,000, gzip", BATCH, 4, zipped=True),
    Workload("single events", 1, 50),
)


@dataclass(frozen=True)
class Row:
    """What one server did with one workload.

    Attributes:
        workload, way: which.
        events_per_s, requests_per_s: that were acknowledged.
        of_answer, of_store: `events_per_s` by those of the bare servers in the same turn.
        p50_ms, p99_ms: from a request to its acknowledgement.
        cpu_us: microseconds of all processes of the server for an event.
    """

    workload: str
    way: str
    events_per_s: Spread
    requests_per_s: Spread
    of_answer: Spread
    of_store: Spread
    p50_ms: Spread
    p99_ms: Spread
    cpu_us: Spread


@dataclass(frozen=True)
class _Turn:
    events_per_s: float
    requests_per_s: float
    p50_ms: float
    p99_ms: float
    cpu_us: float


def batches(events: int, count: int) -> list[bytes]:
    """Bodies of so many events each."""
    lines = [f"{line}\n".encode() for line in login(events * count, USERS)]
    return [b"".join(lines[at : at + events]) for at in range(0, len(lines), events)]


async def ingestion(
    folder: Path, repeats: int, *, quick: bool, seconds: float | None = None, different: int = BATCHES
) -> list[Row]:
    """All workloads, the servers taking turns. `different`: batches."""
    rows: list[Row] = []
    with ExitStack() as stack:
        servers = {
            ANSWER: stack.enter_context(bare(folder, "answer")),
            STORE: stack.enter_context(bare(folder, "store")),
            OWN: stack.enter_context(server(folder)),
        }
        await servers[OWN].apply(LOGINS + P1)
        for workload in WORKLOADS:
            note(f"{workload.title} ...")
            bodies = batches(workload.events, different)
            if workload.zipped:
                bodies = [gzip.compress(body, 6) for body in bodies]
            turns: dict[str, list[_Turn]] = {way: [] for way in servers}
            for _ in range(repeats):
                for way, served in servers.items():
                    turns[way].append(await _turn(served, workload, bodies, seconds or SECONDS[quick]))
            rows += _rows(workload, turns)
    return rows


async def _turn(served: Served, workload: Workload, bodies: Sequence[bytes], seconds: float) -> _Turn:
    more = ("Content-Encoding: gzip",) if workload.zipped else ()
    requests = [
        served.target.request(
            "POST",
            "/v1/streams/logins/events",
            body,
            "application/x-ndjson",
            *more,
        )
        for body in bodies
    ]

    async def load(long: float) -> Load:
        expected = b'"accepted":%d' % workload.events
        return await put_load(served.target, requests, workload.connections, seconds=long, expected=expected)

    await load(min(WARM_SECONDS, seconds))
    before = served.cpu_seconds()
    found = await load(seconds)
    cpu_s = served.cpu_seconds() - before
    delays = sorted(found.delays)
    return _Turn(
        found.per_second * workload.events,
        found.per_second,
        percentile(delays, 0.5) * 1000,
        percentile(delays, 0.99) * 1000,
        cpu_s * 1e6 / (len(delays) * workload.events),
    )


def _rows(workload: Workload, turns: dict[str, list[_Turn]]) -> list[Row]:
    rates = {way: [turn.events_per_s for turn in own] for way, own in turns.items()}

    def ratio(way: str, basis: str) -> Spread:
        return spread([mine / theirs for mine, theirs in zip(rates[way], rates[basis], strict=True)])

    return [
        Row(
            workload.title,
            way,
            spread(rates[way]),
            spread([turn.requests_per_s for turn in own]),
            ratio(way, ANSWER),
            ratio(way, STORE),
            spread([turn.p50_ms for turn in own]),
            spread([turn.p99_ms for turn in own]),
            spread([turn.cpu_us for turn in own]),
        )
        for way, own in turns.items()
    ]
